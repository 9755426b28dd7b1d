"""Decisions in gateway.yaml: questions, certificates of thresholds, and the way in which a model name answers."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from gateway.config.guards import GuardName
from gateway.config.types import Day, Name, NonEmpty, Section, Share
from gateway.core.providers import DecisionReading

MOST_OPTIONS, MOST_LEVELS = 255, 10
WrongShare = Annotated[float, Field(gt=0, lt=0.5)]
Confidence = Annotated[float, Field(ge=0.5, lt=1)]


class QuestionConfig(Section):
    """A typed question: exactly one of `predicate`, `choice` and `score` has its text."""

    model: Name
    """The model name in `models` that answers it."""
    predicate: NonEmpty | None = None
    """A statement that is true or false, such as "The customer asks for money back."."""
    choice: NonEmpty | None = None
    """A question with one answer out of `choices`."""
    choices: Annotated[tuple[NonEmpty, ...], Field(max_length=MOST_OPTIONS)] = ()
    """The answers of a `choice`, two at least, all different."""
    score: NonEmpty | None = None
    """A question whose answer is one of `levels`."""
    levels: Annotated[tuple[NonEmpty, ...], Field(max_length=MOST_LEVELS)] = ()
    """The levels of a `score`, the lowest first, two at least, all different."""

    @model_validator(mode="after")
    def _check_kind(self) -> Self:
        kinds = [name for name in ("predicate", "choice", "score") if getattr(self, name) is not None]
        if len(kinds) != 1:
            raise ValueError(f"expected one of predicate, choice and score, got {' and '.join(kinds) or 'none'}")
        for kind, name in (("choice", "choices"), ("score", "levels")):
            options = getattr(self, name)
            if (kind in kinds) != bool(options):
                raise ValueError(f"`{name}` belongs to `{kind}`, and a `{kind}` needs it")
            if options and (len(options) < 2 or len(set(options)) < len(options)):
                raise ValueError(f"{name}: expected two or more, all different, got {list(options)}")
        return self


class CertificateConfig(Section):
    """A promise about acting without a person: where a scorer's calibrated probability is at least a threshold, which
    `gateway decisions certify` finds, at most a share of these cases is wrong."""

    scorer: Name | None = None
    """The scorer whose value in [0, 1] is the probability that an answer is good; people's labels test it. Either this
    or `guard`."""
    guard: GuardName | None = None
    """The guard whose decision that a call may pass is made without a person."""
    wrong: WrongShare | None = None
    """The largest share that may be wrong. Default: `decisions.wrong`."""
    confidence: Confidence | None = None
    """Probability with which the promise is kept. Default: `decisions.confidence`."""
    guarantee: Literal["threshold", "average"] = "threshold"
    """`threshold`: at most `wrong` of the cases at or above the threshold, with this confidence. `average`: cases that
    are automated and wrong are at most `wrong` of *all* traffic, on average over draws of the labels; no single
    threshold is guaranteed."""

    @model_validator(mode="after")
    def _check_subject(self) -> Self:
        if (self.scorer is None) == (self.guard is None):
            raise ValueError("expected one of scorer and guard")
        return self

    @property
    def labelled_as(self) -> str:
        """The name under which people's labels are stored."""
        return self.scorer if self.scorer is not None else f"guard {self.guard}"


class ModelDecisions(Section):
    """The way in which a model name answers decisions."""

    reading: DecisionReading
    """`native`: its upstreams have an API of decisions. All others read a chat engine that shows log-probabilities, by
    one request for each question: `slot` (the next token of a prefilled answer), `words` (the first word of a reply),
    `letters` (A, B, C for options) or `structured` (the value in an answer by a JSON schema). `gateway decisions probe`
    measures which of them are more than noise."""
    probed: Day | None = None
    """The day of that probe, which prints this line. An emulated reading needs it."""
    min_label_mass: Annotated[float, Field(gt=0, lt=1)] = 0.01
    """A read with less probability on all options together gives no answer."""
    both_orders: Share = 0.0
    """Share of its calls whose questions are asked a second time with the options in reverse, for
    `gateway_decision_order_flips_ratio`. Clients get the first answers."""
    allow_one_hot: bool = False
    """Take an answer without log-probabilities as certain; for the reading `structured`. Such probabilities mean
    nothing, and no certificate holds for them."""

    @model_validator(mode="after")
    def _check_one_hot(self) -> Self:
        if self.allow_one_hot and self.reading != "structured":
            raise ValueError(f"allow_one_hot belongs to the reading structured, not to {self.reading}")
        return self


class DecisionsConfig(Section):
    """Typed questions of models, and promises about the probabilities of scorers and guards."""

    questions: dict[Name, QuestionConfig] = Field(default={})
    """Questions by name, by which `gateway decisions probe` finds the reading of their model."""
    certificates: dict[Name, CertificateConfig] = Field(default={})
    """Promises by name."""
    wrong: WrongShare = 0.05
    """The share that may be wrong, for certificates without one of their own."""
    confidence: Confidence = 0.9
    """The confidence of certificates without one of their own."""
    refusal: Literal["omit", "error"] = "omit"
    """The answer of a refused question for clients of System One's format, which has none for it: `omit` (it is listed
    in `x_refused`), or `error` (the whole request ends in HTTP 422, which names the questions)."""

    def wrong_of(self, certificate: CertificateConfig) -> float:
        return self.wrong if certificate.wrong is None else certificate.wrong

    def confidence_of(self, certificate: CertificateConfig) -> float:
        return self.confidence if certificate.confidence is None else certificate.confidence
