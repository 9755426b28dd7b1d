"""What two engines say about one served answer, in numbers: the metrics of `mode: likelihood` on a pair. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.core.likelihood import TOKENIZERS_DIFFER, AnswerLikelihood, agreement


@dataclass(frozen=True, slots=True)
class LikelihoodPair:
    """Of one served answer. a: under the control. b: under the candidate, or the control once more."""

    a: float  # nats per token
    b: float
    agreement: float  # share of places at which both have the same most likely token
    tokens: int


@dataclass(frozen=True, slots=True)
class NotComparable:
    """reason: a key of REFUSALS. of_b: the second engine is its cause; False: the first one is, or both are."""

    reason: str
    of_b: bool


def likelihood_pair(a: AnswerLikelihood | None, b: AnswerLikelihood | None) -> LikelihoodPair | NotComparable:
    """The two engines' likelihoods of the same answer, or why they cannot be compared."""
    if a is None or b is None:
        return NotComparable("not_recorded", a is not None)
    for each, of_b in ((a, False), (b, True)):
        if each.refused or not each.tokens:
            return NotComparable(each.refused or "not_recorded", of_b)
    if (a.ids, a.tokens) != (b.ids, b.tokens):
        return NotComparable(TOKENIZERS_DIFFER, True)
    return LikelihoodPair(a.nats_per_token, b.nats_per_token, agreement(a, b), a.tokens)
