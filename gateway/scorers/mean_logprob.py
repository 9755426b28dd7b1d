"""The model's certainty of its own answer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from gateway.core.completion import Completion
from gateway.core.score import Bounds, Direction, Score, Skipped
from gateway.scoring.types import Golden, Rule, Subject

NO_LOGPROBS = Skipped("an upstream that returns logprobs, and a request with logprobs: true")


@dataclass(frozen=True, slots=True)
class MeanLogprob(Rule):
    """The mean natural logarithm of the probabilities of the answer's tokens: 0 is certain, lower is less certain.

    detail: perplexity, exp(−mean). Not comparable between models with different tokenizers.
    """

    direction: ClassVar[Direction] = "neutral"
    bounds: ClassVar[Bounds] = (None, 0.0)

    async def score(self, subject: Subject) -> Score | Skipped:
        mean = subject.completion.mean_logprob
        if mean is None or not math.isfinite(mean):
            return NO_LOGPROBS
        mean = min(mean, 0.0)  # servers round, and a value slightly above 0 means certainty
        return Score(mean, detail={"perplexity": math.exp(min(-mean, 700.0))})

    def golden(self) -> tuple[Golden, ...]:
        return (
            Golden("given", {}, Completion("yes", mean_logprob=-0.5), -0.5),
            Golden("not given", {}, Completion("yes"), None),
            Golden("rounded above 0", {}, Completion("yes", mean_logprob=1e-9), 0.0),
        )
