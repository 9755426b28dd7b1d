"""The part of a report that only a likelihood experiment has, read from the store.

It has the distribution over calls, and the calls that differ most.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

from gateway.core.likelihood import REFUSALS, likelihood_from_json, tokens_from_json
from gateway.core.plan import NATS_PER_TOKEN, REPEAT, TOP1_AGREEMENT
from gateway.features.experiments.rows.queries import likelihoods_of_arm, responses_of_pair, served_requests
from gateway.reports.model import Estimate, LikelihoodCall, LikelihoodFinding
from gateway.store import sequences as kept
from gateway.store.query import Reading
from gateway.verdict.findings import Finding
from gateway.verdict.likelihood import compared_call, distribution, settings_of, what_it_estimates
from gateway.verdict.states import SequenceStates

WIDEST = 10  # calls
MOST_CALLS = 2000  # the newest ones, whose settings and lengths are read
_NONE = Estimate(None)


def likelihood_of(connection: Reading, found: Finding, look: SequenceStates) -> LikelihoodFinding | None:
    """Reads the findings; None means that the experiment compares answers."""
    plan = found.stored_plan
    if not plan.plan.likelihood:
        return None
    sequence = look.sequences.get((found.candidate, NATS_PER_TOKEN))
    noise = look.sequences.get((REPEAT, NATS_PER_TOKEN))
    agreement, own = (look.sequences.get((arm, TOP1_AGREEMENT)) for arm in (found.candidate, REPEAT))
    name = found.names.get(NATS_PER_TOKEN)
    increments = [] if name is None else kept.increments_of(connection, name)
    repeated = [] if name is None else kept.increments_of(connection, replace(name, candidate=REPEAT))
    sampled = settings_of(served_requests(connection, plan.hash, MOST_CALLS))
    divergence = _turned(sequence.estimate()) if sequence else _NONE
    likelihoods = map(likelihood_from_json, likelihoods_of_arm(connection, plan.hash, REPEAT, MOST_CALLS))
    widest = sorted(increments, key=lambda call: (-abs(call.difference), call.pair))[:WIDEST]
    return LikelihoodFinding(
        calls=sequence.n if sequence else 0,
        tokens=sum(answer.tokens for answer in likelihoods if answer is not None),
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
        distribution=distribution([-call.difference for call in increments], [-call.difference for call in repeated]),
        refused=_refused(found),
        widest=tuple(_read_call(connection, call.pair, found.candidate, -call.difference) for call in widest),
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


def _read_call(connection: Reading, pair: str, arm: str, difference: float) -> LikelihoodCall:
    responses = responses_of_pair(connection, pair)
    control, candidate = (tokens_from_json(responses.get(name, b"")) for name in (REPEAT, arm))
    return compared_call(pair, difference, control, candidate)
