"""The gates of a plan: what must hold before the difference of a candidate may be believed."""

from __future__ import annotations

from collections.abc import Iterator

from gateway.core.likelihood import REFUSALS
from gateway.core.plan import CONTROL, REPEAT, Plan
from gateway.reports.model import Comparison, Estimate, GateResult
from gateway.statistics.moments import Moments
from gateway.verdict.gates.completeness import (
    NoPreference,
    OneSided,
    completeness_gate,
    judge_gate,
    preference_completeness_gate,
    split_completeness_gate,
)
from gateway.verdict.gates.control_repeat import aa_alarm, aa_gate, same_path_gate, with_doubt
from gateway.verdict.gates.likelihood import likelihood_gate
from gateway.verdict.gates.losses import PairLosses, losses_gate
from gateway.verdict.gates.path import PathChecks, path_gate
from gateway.verdict.metrics import BUILT_IN, JUDGED, LOST, MISSING, SAME_PATH, WORST_ONES
from gateway.verdict.sequences.latency import P95
from gateway.verdict.split.answers import split_hours_gate
from gateway.verdict.split.result import SplitResult
from gateway.verdict.states import SequenceStates, at_worst
from gateway.verdict.traffic_facts import calls_gate, hours_gate, units_gate

FALLBACK = 0.02  # tolerance of a gate where the margin is 0 or not a share


def gates_of(
    looked: SequenceStates, candidate: str, primary: Comparison | None, split: SplitResult | None
) -> tuple[GateResult, ...]:
    """The gates of one candidate. primary: as it is compared. split: None if no traffic is split."""
    plan, gates, delta = looked.plan, list[GateResult](), delta_of(looked.plan, primary)
    served = by_split(plan, primary, split)
    if plan.mode != "split" and primary is not None:
        gates += _of_pairs(looked, candidate, primary, delta)
        sequence = looked.sequences.get((candidate, primary.metric))
        of_traffic = [calls_gate(plan, sequence)]
        if not served:
            of_traffic = [hours_gate(plan, sequence), *of_traffic, units_gate(sequence)]
        gates += [gate for gate in of_traffic if gate is not None]
    if split is not None:
        hours = split_hours_gate(plan, split.traffic) if served else None
        gates += [split.gate, *(gate for gate in (split.adjusted, split.left, hours) if gate is not None)]
        gates += _split_completeness(plan, split, candidate, delta) if served else []
    return tuple(gates)


def _of_pairs(looked: SequenceStates, candidate: str, primary: Comparison, delta: float) -> Iterator[GateResult]:
    """The gates on pairs, but those on their time."""
    plan = looked.plan
    sent = not plan.guarded
    if sent:
        yield _aa(looked, candidate, primary, delta)
    yield from _losses(looked, candidate, delta)
    varied = bool(plan.control.variant or any(target.variant for _, target in plan.candidates))
    if (checks := _path_checks(looked)) != PathChecks():
        yield path_gate(checks, varied, sent)
    if plan.likelihood:
        yield _likelihood(looked, candidate, primary)


def by_split(plan: Plan, primary: Comparison | None, split: SplitResult | None) -> bool:
    """Whether the primary is compared between the answers of both arms, not in pairs."""
    return split is not None and (plan.mode == "split" or any(each is primary for each in split.comparisons))


def _likelihood(looked: SequenceStates, candidate: str, primary: Comparison) -> GateResult:
    name, withheld = looked.names.get((candidate, primary.metric)), looked.evidence.withheld
    refused = {(why, arm): n for (sequence, why, arm), n in withheld.items() if sequence == name and why in REFUSALS}
    return likelihood_gate(refused, primary.pairs)


def delta_of(plan: Plan, primary: Comparison | None) -> float:
    """The tolerance of the gates: the primary's margin, or FALLBACK where that is 0 or not a share."""
    return plan.margin or FALLBACK if primary is None or not primary.unit else FALLBACK


def _aa(looked: SequenceStates, candidate: str, primary: Comparison, delta: float) -> GateResult:
    plan, metric = looked.plan, primary.metric
    name = looked.names.get((candidate, metric))
    distance = name is not None and name.identity != BUILT_IN and looked.sequences[candidate, metric].test is not None
    repeated = plan.compare == "repeat" and not looked.prefers(candidate, metric)
    if repeated or (plan.repeat_control and (metric in SAME_PATH or metric == P95 or distance)):
        return same_path_gate(metric)
    noise = looked.sequences.get((REPEAT, metric))
    estimate = None if noise is None else noise.estimate()
    pairs, repeats = noise.n if noise else 0, plan.repeat_control > 0
    if plan.aa == "alarm":
        gate = aa_alarm(metric, estimate, pairs, repeats)
    else:
        gate = aa_gate(metric, estimate, pairs, plan.margin or delta, repeats)
    return with_doubt(gate, primary, noise.moments if noise else Moments()) if repeats else gate


def _path_checks(looked: SequenceStates) -> PathChecks:
    asked, again = looked.evidence.request_checks, looked.rescored
    requests = (asked.same, asked.different, asked.translated, asked.example)
    return PathChecks(*requests, again.get("n", 0), again.get("disagreed", 0), again.get("example"))


def _losses(looked: SequenceStates, candidate: str, delta: float) -> list[GateResult]:
    lost = looked.sequences.get((candidate, LOST))
    by_arm = {arm: n for arm, n in looked.evidence.lost_by_arm.items() if arm in (CONTROL, REPEAT, candidate)}
    records = PairLosses(by_arm, lost.estimate() if lost else Estimate(None))
    gates = [losses_gate("losses", "records lost on their way", records, delta)]
    failed = looked.sequences.get((candidate, JUDGED))
    if failed is not None:
        n = failed.n
        shares = ((CONTROL, failed.arm("a")), (candidate, failed.arm("b")))
        arms = {arm: (n, round((share.value or 0.0) * n)) for arm, share in shares}
        losses = PairLosses(arms, failed.estimate())
        excess = (candidate, WORST_ONES) in looked.sequences
        gates.append(
            judge_gate(losses, at_worst(looked.sequences, candidate), delta)
            if excess
            else losses_gate("judge", "judgements that failed", losses, delta)
        )
    return [*gates, *_completeness(looked, candidate, delta)]


def _completeness(looked: SequenceStates, candidate: str, delta: float) -> list[GateResult]:
    """The gate on completeness; plans with the first rules have no such sequences, and no gate."""
    seen = looked.sequences.get((candidate, MISSING))
    if seen is None or not seen.n:
        return []
    n, worst = seen.n, at_worst(looked.sequences, candidate)
    a, b = (round((mean or 0.0) * n) for mean in (seen.a.mean, seen.b.mean))
    name = looked.plan.primary or ""
    if looked.prefers(candidate, name):
        gate = preference_completeness_gate(name, NoPreference(n, a + b), worst, delta)
    else:
        gate = completeness_gate(name, candidate, OneSided(n, a, b, seen.estimate()), worst, delta)
    return [gate] if gate else []


def _split_completeness(plan: Plan, split: SplitResult, candidate: str, delta: float) -> list[GateResult]:
    if split.missing is None:
        return []
    gate = split_completeness_gate(plan.primary or "", candidate, split.missing, split.at_worst, delta)
    return [gate] if gate else []
