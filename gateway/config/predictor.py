"""The section `predictor` of gateway.yaml: the learned model that selects the exchanges that a judge sees. The consumer
reads it."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from gateway.config.types import Section

FEEDBACK_TARGET, LABELS_TARGET = "feedback:", "labels:"
PI_MIN = 0.05
"""Lower bound of π: no answer may represent more than twenty."""
_TARGET = r"^(feedback:(implicit:)?[A-Za-z0-9_.-]{1,64}|(labels:)?[^\s{}\"\\:]{1,200})$"


class PredictorConfig(Section):
    """A model of gradient-boosted trees that predicts the value of one scorer for each recorded exchange. It gives no
    verdict: its predictions make intervals narrower, and with `adaptive` it decides with which probability the judge
    sees an exchange. Training needs the extra `learn`."""

    target: Annotated[str, Field(pattern=_TARGET)]
    """Value that is predicted: a scorer in `scorers`, `feedback:NAME`, or `labels:SCORER`, people's labels for a
    scorer."""
    adaptive: bool = False
    """The judge sees an exchange with a probability that rises with the error that the model expects of itself there.
    Without it, the judge sees each exchange with the same probability, `share`. The predictions make intervals narrower
    either way."""
    pi_min: Annotated[float, Field(ge=0.05, le=1)] | None = None
    """The smallest probability with which the judge sees an exchange, with `adaptive`. Default: half of `share`, and
    0.05 at least: a new kind of bad answer, in which the model does not expect an error, then makes the mean's interval
    2 % wider where it is 1 % of the answers, and 10 % wider where it is 5 % (share 0.2, other answers with a mean of
    0.8)."""
    share: Annotated[float, Field(gt=0, le=1)] | None = None
    """The share of the recorded exchanges that the judge sees, on average. Where the judge's `budget_usd` or
    `budget_tokens` is too small for it, the share is lower. Default: the scorer's own `share`."""
    retrain_s: Annotated[float, Field(ge=1)] = 3600.0
    """Seconds between two trainings."""
    min_rows: Annotated[int, Field(ge=50)] = 500
    """Number of values of the target from which on a model is trained; until then each exchange is judged with
    probability `share`."""
    max_rows: Annotated[int, Field(ge=50, le=1_000_000)] = 20_000
    """The newest values of the target that a training uses."""

    embedding: bool = False
    """Use the meaning of an answer, too, by its MiniLM vector. Needs the extra `embedding` and MiniLM's weights on
    every consumer, and hundreds of times the processor time of the other features."""

    @model_validator(mode="after")
    def _check_rows_and_share(self) -> Self:
        if self.max_rows < self.min_rows:
            raise ValueError(f"max_rows {self.max_rows} is below min_rows {self.min_rows}: no model would be trained")
        least = PI_MIN if self.pi_min is None else self.pi_min
        if self.share is not None and self.share < least:
            raise ValueError(
                f"share {self.share:g} is below pi_min {least:g}, with which every exchange is judged at least"
            )
        if self.share is not None and self.guided is None:
            raise ValueError(f"share: {self.target} is given by people, so no judge has a share; remove it")
        return self

    def floor(self, share: float) -> float:
        """The smallest probability of a draw. share: in force; that of the section or the scorer's."""
        if not self.adaptive:
            return share
        return max(PI_MIN, share / 2) if self.pi_min is None else self.pi_min

    @property
    def guided(self) -> str | None:
        """The scorer whose sampling the model guides; None if the target is people's feedback."""
        if self.target.startswith(FEEDBACK_TARGET):
            return None
        return self.target.removeprefix(LABELS_TARGET)

    @property
    def key(self) -> str:
        """Name under which predictions are stored: the guided scorer's, or the feedback's."""
        return self.guided or self.target
