"""What a likelihood experiment finds besides its verdict: the distribution over calls, and those that differ most."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from gateway.core.json_values import parse_object
from gateway.core.likelihood import REFUSALS, AnswerToken, likelihood_from_json, tokens_from_json
from gateway.core.plan import NATS_PER_TOKEN, REPEAT, TOP1_AGREEMENT
from gateway.features.experiments.findings import Finding, SequenceStates
from gateway.features.experiments.rows import sequences as kept
from gateway.features.experiments.rows.queries import likelihoods_of_arm, responses_of_pair, served_requests
from gateway.reports.model import (
    Estimate,
    LikelihoodBin,
    LikelihoodCall,
    LikelihoodFinding,
    TokenLikelihood,
    UnlikelyToken,
)
from gateway.store.query import Reading

WIDEST = 10  # calls
BINS = 16
MOST_CALLS = 2000  # the newest ones, whose settings and lengths are read
MOST_TOKENS = 400  # of a call that is shown
WORST = 5  # tokens of a call
BEFORE = 60  # characters before such a token
LEAST = 0.1  # nats that a token must lose to be one of the worst
_NONE = Estimate(None)


def likelihood_of(connection: Reading, found: Finding, look: SequenceStates) -> LikelihoodFinding | None:
    """None: the experiment compares answers."""
    plan = found.stored_plan
    if not plan.plan.likelihood:
        return None
    sequence = look.sequences.get((found.candidate, NATS_PER_TOKEN))
    noise = look.sequences.get((REPEAT, NATS_PER_TOKEN))
    agreement, own = (look.sequences.get((arm, TOP1_AGREEMENT)) for arm in (found.candidate, REPEAT))
    name = found.names.get(NATS_PER_TOKEN)
    taken = [] if name is None else kept.increments_of(connection, name)
    repeated = [] if name is None else kept.increments_of(connection, replace(name, candidate=REPEAT))
    sampled = settings_of(served_requests(connection, plan.hash, MOST_CALLS))
    divergence = _turned(sequence.estimate()) if sequence else _NONE
    lengths = (likelihood_from_json(each) for each in likelihoods_of_arm(connection, plan.hash, REPEAT, MOST_CALLS))
    widest = sorted(taken, key=lambda each: (-abs(each.difference), each.pair))[:WIDEST]
    return LikelihoodFinding(
        calls=sequence.n if sequence else 0,
        tokens=sum(each.tokens for each in lengths if each is not None),
        control=sequence.arm("a") if sequence else _NONE,
        candidate=sequence.arm("b") if sequence else _NONE,
        divergence=divergence,
        noise=_turned(noise.estimate()) if noise and noise.n else None,
        noise_calls=noise.n if noise else 0,
        agreement=agreement.arm("b") if agreement else _NONE,
        noise_agreement=own.arm("b") if own and own.n else None,
        perplexity_ratio=_exponential(divergence),
        sampled=tuple(sampled.most_common()),
        estimates=what_it_estimates(sampled),
        distribution=distribution([-each.difference for each in taken], [-each.difference for each in repeated]),
        refused=_refused(found),
        widest=tuple(_call(connection, each.pair, found.candidate, -each.difference) for each in widest),
    )


def _turned(e: Estimate) -> Estimate:
    value, low, high = (None if v is None else 0.0 - v for v in (e.value, e.high, e.low))
    return Estimate(value, low, high)


def _exponential(e: Estimate) -> Estimate:
    value, low, high = (None if v is None else math.exp(min(v, 700.0)) for v in (e.value, e.low, e.high))
    return Estimate(value, low, high)


def _refused(found: Finding) -> tuple[tuple[str, int], ...]:
    name = found.names.get(NATS_PER_TOKEN)
    counts: Counter[str] = Counter()
    for (sequence, reason, arm), n in found.withheld.items():
        if sequence == name and reason in REFUSALS:
            counts[f"{REFUSALS[reason]}: {arm}" if arm else REFUSALS[reason]] += n
    return tuple(counts.most_common())


PLAIN = "temperature 1, top_p 1"
_UNSTATED = "temperature not stated"
_SHAPING = ("top_k", "min_p", "repetition_penalty", "frequency_penalty", "presence_penalty", "logit_bias")


def settings_of(requests: Sequence[bytes]) -> Counter[str]:
    """How many requests state which sampling."""
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
    """What the mean difference is, by how the served answers were drawn."""
    total, plain = sum(sampled.values()), sampled.get(PLAIN, 0)
    if total and plain == total:
        return (
            "Every answer was drawn at temperature 1 with top_p 1, so the mean difference estimates the divergence "
            "KL(control ‖ candidate) per token."
        )
    return (
        f"Of {total} answers, {plain} were stated to be drawn at temperature 1 with top_p 1. Over the others the mean "
        "difference is no KL divergence: it is how much more probable the text that the control wrote is under the "
        "control, and may be below 0 for an engine that is as good. A temperature alone changes neither engine's "
        "log-probabilities, which are those before it is applied."
    )


def distribution(differences: Sequence[float], noise: Sequence[float]) -> tuple[LikelihoodBin, ...]:
    """Counts over equal intervals. (): no call was compared. The first and the last bin hold what lies beyond too."""
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


def _call(connection: Reading, pair: str, arm: str, difference: float) -> LikelihoodCall:
    responses = responses_of_pair(connection, pair)
    control, candidate = (tokens_from_json(responses.get(name, b"")) for name in (REPEAT, arm))
    tokens = token_differences(control, candidate)
    return LikelihoodCall(
        pair, difference, tokens[:MOST_TOKENS], max(0, len(tokens) - MOST_TOKENS), worst_tokens(tokens)
    )


def token_differences(control: Sequence[AnswerToken], candidate: Sequence[AnswerToken]) -> tuple[TokenLikelihood, ...]:
    """(): the tokens of one arm are not recorded, or are others."""
    if len(control) != len(candidate):
        return ()
    both = zip(control, candidate, strict=True)
    return tuple(TokenLikelihood(a.text, a.logprob, b.logprob, b.best) for a, b in both)


def worst_tokens(tokens: Sequence[TokenLikelihood]) -> tuple[UnlikelyToken, ...]:
    """Those that lose most under the candidate, the largest loss first, each with the text before it."""
    lost = [i for i, token in enumerate(tokens) if token.difference <= -LEAST]
    chosen = sorted(lost, key=lambda i: (tokens[i].difference, i))[:WORST]
    return tuple(UnlikelyToken(_before(tokens, i), tokens[i]) for i in chosen)


def _before(tokens: Sequence[TokenLikelihood], place: int) -> str:
    return "".join(each.text for each in tokens[max(0, place - BEFORE) : place])[-BEFORE:]
