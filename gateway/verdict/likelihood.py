"""What a likelihood experiment finds about calls and tokens, from served requests and their log-probabilities. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from gateway.core.json_values import parse_object
from gateway.core.likelihood import AnswerToken
from gateway.reports.model import LikelihoodBin, LikelihoodCall, TokenLikelihood, UnlikelyToken

BINS = 16
MOST_TOKENS = 400  # of a call that is shown
WORST = 5  # tokens of a call
BEFORE = 60  # characters before such a token
LEAST = 0.1  # nats that a token must lose to be one of the worst
PLAIN = "temperature 1, top_p 1"
_UNSTATED = "temperature not stated"
_SHAPING = ("top_k", "min_p", "repetition_penalty", "frequency_penalty", "presence_penalty", "logit_bias")


def settings_of(requests: Sequence[bytes]) -> Counter[str]:
    """Counts the requests by the sampling that they state."""
    return Counter(_setting(parse_object(request) or {}) for request in requests)


def _setting(request: Mapping[str, Any]) -> str:
    temperature, top_p = request.get("temperature"), request.get("top_p")
    if not isinstance(temperature, int | float):
        return _UNSTATED
    others = [name for name in _SHAPING if request.get(name)]
    stated = f"temperature {temperature:g}"
    stated += f", top_p {top_p:g}" if isinstance(top_p, int | float) else ", top_p 1"
    return ", ".join([stated, *others])


def what_it_estimates(sampled: Mapping[str, int]) -> str:
    """Says what the mean difference estimates, given how the served answers were drawn."""
    total, plain = sum(sampled.values()), sampled.get(PLAIN, 0)
    if total and plain == total:
        return (
            "Every answer was drawn at temperature 1 with top_p 1, so the mean difference estimates the divergence "
            "KL(control ‖ candidate) per token."
        )
    return (
        f"Of {total} answers, {plain} were stated to be drawn at temperature 1 with top_p 1. For the others the mean "
        "difference is not a KL divergence: it says how much more probable the control's text is under the "
        "control, and may be below 0 for an engine that is as good. A temperature alone changes neither engine's "
        "log-probabilities, which are those before it is applied."
    )


def distribution(differences: Sequence[float], noise: Sequence[float]) -> tuple[LikelihoodBin, ...]:
    """Counts over equal intervals. () if no call was compared. The first and the last bin include the values beyond
    them."""
    if not differences:
        return ()
    ordered = sorted([*differences, *noise])
    low, high = ordered[len(ordered) // 100], ordered[-1 - len(ordered) // 100]
    if high - low < 1e-9:
        low, high = low - 5e-7, high + 5e-7
    width = (high - low) / BINS

    def counts(values: Sequence[float]) -> Counter[int]:
        return Counter(min(max(int((value - low) / width), 0), BINS - 1) for value in values)

    ours, its = counts(differences), counts(noise)
    return tuple(LikelihoodBin(low + i * width, low + (i + 1) * width, ours[i], its[i]) for i in range(BINS))


def compared_call(
    pair: str, difference: float, control: Sequence[AnswerToken], candidate: Sequence[AnswerToken]
) -> LikelihoodCall:
    """One call with its tokens. difference: candidate minus control, in nats per token."""
    tokens = token_differences(control, candidate)
    left_out = max(0, len(tokens) - MOST_TOKENS)
    return LikelihoodCall(pair, difference, tokens[:MOST_TOKENS], left_out, worst_tokens(tokens))


def token_differences(control: Sequence[AnswerToken], candidate: Sequence[AnswerToken]) -> tuple[TokenLikelihood, ...]:
    """Differences by token; () if the tokens of one arm are not recorded, or are others."""
    if len(control) != len(candidate):
        return ()
    both = zip(control, candidate, strict=True)
    return tuple(TokenLikelihood(a.text, a.logprob, b.logprob, b.best) for a, b in both)


def worst_tokens(tokens: Sequence[TokenLikelihood]) -> tuple[UnlikelyToken, ...]:
    """Tokens that lose most under the candidate, the largest loss first, each with the text before it."""
    lost = [i for i, token in enumerate(tokens) if token.difference <= -LEAST]
    chosen = sorted(lost, key=lambda i: (tokens[i].difference, i))[:WORST]
    return tuple(UnlikelyToken(_before(tokens, i), tokens[i]) for i in chosen)


def _before(tokens: Sequence[TokenLikelihood], place: int) -> str:
    return "".join(token.text for token in tokens[max(0, place - BEFORE) : place])[-BEFORE:]
