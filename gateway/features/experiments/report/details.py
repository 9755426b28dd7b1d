"""The parts of a report that do not affect the verdict: arms, latency, strata, examples, withheld pairs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from gateway.core.horizon import likelihood_scale
from gateway.core.json_values import parse_object
from gateway.core.plan import CONTROL, REPEAT, StoredPlan
from gateway.core.request_format import last_user_text, stated_reference
from gateway.features.experiments.rows.queries import (
    ArmCounts,
    RecordedAnswer,
    answers_of_pair,
    arm_counts,
    differences_by_stratum,
    durations,
    farthest_pairs,
    pair_distances,
    score_explanations,
    score_values,
    widest_differences,
)
from gateway.reports.model import Arm, ArmLatency, Estimate, ExamplePair, StratumDifference
from gateway.statistics.empirical_bernstein import EmpiricalBernstein
from gateway.statistics.hybrid import GuardedMean
from gateway.store.plan_evidence import lost_by_arm
from gateway.store.query import Reading
from gateway.verdict.findings import Finding
from gateway.verdict.metrics import SEGMENT
from gateway.verdict.plan_gates import FALLBACK
from gateway.verdict.report.presentation import IN_SEGMENT
from gateway.verdict.sequences.latency import quantile
from gateway.verdict.states import SequenceStates

EXAMPLES = 8
READ = 4000  # characters shown of each text of an example
REASON = 300  # characters shown of why a pair is worth reading
GROUPED = 40  # regressions that are grouped by what went wrong
POINTS = 100  # points of a latency curve


def arms_of(connection: Reading, plan: StoredPlan) -> tuple[Arm, ...]:
    paired, fails = plan.plan.mode != "split", plan.plan.empty == "failed"
    counts = arm_counts(connection, plan.hash, paired and plan.plan.only_shadows, empty_fails=fails)
    lost = lost_by_arm(connection, plan.hash) if paired else {}
    names = [arm for arm in plan.plan.arms if arm in counts or arm in lost]
    return tuple(_arm(plan, arm, counts.get(arm), lost.get(arm, (0, 0))[1]) for arm in names)


def _arm(plan: StoredPlan, arm: str, c: ArmCounts | None, lost: int) -> Arm:
    target = str(plan.plan.target(arm))
    if c is None:
        return Arm(arm, target, lost, 0, 0, None, None, None)
    cost = Estimate(1000 * c.cost / c.priced) if c.priced else None
    return Arm(arm, target, c.n + lost, c.n - c.whole, c.served, cost, c.input_tokens, c.output_tokens)


def latency_of(connection: Reading, plan: StoredPlan) -> tuple[ArmLatency, ...]:
    """The latency of each arm's complete answers, for total_s and first_token_s.

    Only arms that took the candidate's path are comparable with it: in shadow mode all but the control, whose answers
    were served; otherwise all but its repeat, which was not served.
    """
    if plan.plan.likelihood or plan.plan.guarded:
        return ()  # a prefill produces no answer
    shadow = plan.plan.mode == "shadow"
    unlike = CONTROL if shadow else REPEAT
    found: list[ArmLatency] = []
    for measure in ("total_s", "first_token_s"):
        by_arm = durations(connection, plan.hash, measure, shadow, empty_fails=plan.plan.empty == "failed")
        for arm in plan.plan.arms:
            values = by_arm.get(arm)
            if values:
                found.append(_latency(arm, measure, values, plan.plan.alpha, arm != unlike))
    return tuple(found)


def _latency(arm: str, measure: str, values: Sequence[float], alpha: float, comparable: bool) -> ArmLatency:
    n = len(values)
    steps = sorted({max(0, -(-n * (i + 1) // POINTS) - 1) for i in range(POINTS)})
    return ArmLatency(
        arm=arm,
        measure="total_s" if measure == "total_s" else "first_token_s",
        n=n,
        p50=quantile(values, 0.5, alpha),
        p95=quantile(values, 0.95, alpha),
        curve=tuple((values[i], (i + 1) / n) for i in steps),
        comparable=comparable,
    )


def strata_of(connection: Reading, plan: StoredPlan, found: Finding) -> tuple[StratumDifference, ...]:
    """The primary metric's difference within each stratum of the plan; each interval is valid for its stratum alone."""
    primary = found.primary
    name = found.names.get(primary.metric) if primary else None
    if name is None or primary is None or (primary.unit and not plan.plan.likelihood):
        return ()
    found_strata = []
    for label, differences in sorted(differences_by_stratum(connection, plan.plan.strata, name.values).items()):
        sequence = _within_stratum(plan)
        for difference in differences:
            sequence.add(difference)
        found_strata.append(StratumDifference(label, sequence.n, Estimate(sequence.mean, *sequence.interval())))
    return tuple(found_strata)


def _within_stratum(plan: StoredPlan) -> EmpiricalBernstein | GuardedMean:
    if plan.plan.likelihood:
        return GuardedMean(plan.plan.alpha, 200.0, likelihood_scale(plan.plan.margin or FALLBACK)[1])
    return EmpiricalBernstein(plan.plan.alpha, -1.0, 1.0)


@dataclass(frozen=True, slots=True)
class Examples:
    """Pairs worth reading."""

    pairs: tuple[ExamplePair, ...] = ()
    regressions: tuple[tuple[str, int], ...] = ()
    """(what went wrong, count) among the GROUPED widest losses on the primary metric, the most frequent first."""


def examples_of(connection: Reading, found: Finding, most: int = EXAMPLES) -> Examples:
    """Chooses at most `most` pairs: regressions first, grouped by what went wrong, the largest group first.

    Then improvements on the primary metric, then pairs whose answers are far apart.
    """
    if found.primary is None or found.stored_plan.plan.likelihood:
        return Examples()
    metric, name = found.primary.metric, found.names.get(found.primary.metric)
    widest = widest_differences(connection, name.values, GROUPED, max(1, most // 4)) if name else []
    wanted = {pair: _why(difference, metric) for pair, difference in widest}
    far = farthest_pairs(connection, found.stored_plan.hash, found.candidate, most)
    for pair, distance in far:
        wanted.setdefault(pair, f"the answers are far apart: a distance of {distance:.3g}")
    worse = {pair for pair, difference in widest if difference < 0}
    made = [_example(connection, pair, found.candidate, why, metric, pair in worse) for pair, why in wanted.items()]
    examples = [each for each in made if each is not None]
    sizes = Counter(each.group for each in examples if each.regression)
    regressions = sorted((e for e in examples if e.regression), key=lambda e: (-sizes[e.group], e.group))
    others = [e for e in examples if not e.regression]
    least = most - min(len(others), max(1, most // 4))
    shown = _spread(regressions, max(least, most - len(others)))
    return Examples(tuple([*shown, *others][:most]), tuple(sizes.most_common()))


_OF_SEGMENT = 2  # examples of one segment
_SEGMENTS = 3  # that have examples


def segment_examples(connection: Reading, found: Finding, look: SequenceStates) -> tuple[ExamplePair, ...]:
    """The widest losses of the segments that are not shown to hold."""
    if found.segments is None or found.primary is None:
        return ()
    metric, made = found.primary.metric, []
    for each in [s for s in found.segments.segments if s.state in ("worse", "undecided")][:_SEGMENTS]:
        name = look.segment_names.get((found.candidate, f"{SEGMENT}{each.name}"))
        for pair, difference in widest_differences(connection, name.values, _OF_SEGMENT, 0) if name else []:
            example = _example(connection, pair, found.candidate, _why(difference, metric), metric, True)
            made += [] if example is None else [replace(example, group=f"{IN_SEGMENT}{each.name}")]
    return tuple(made)


def _spread(regressions: Sequence[ExamplePair], most: int) -> list[ExamplePair]:
    """Chooses at most `most` of them, from every group if possible; groups stay together."""
    chosen: list[ExamplePair] = []
    groups = list(dict.fromkeys(each.group for each in regressions))
    by_group = [[each for each in regressions if each.group == group] for group in groups]
    for turn in range(max(map(len, by_group), default=0)):
        chosen += [group[turn] for group in by_group if turn < len(group)]
    kept = {id(each) for each in chosen[:most]}
    return [each for each in regressions if id(each) in kept]


def _why(difference: float, metric: str) -> str:
    return f"the candidate is {'better' if difference > 0 else 'worse'} by {abs(difference):.3g} on {metric}"


def _example(connection: Reading, pair: str, arm: str, why: str, metric: str, regression: bool) -> ExamplePair | None:
    answers = answers_of_pair(connection, pair)
    a, b = answers.get(CONTROL), answers.get(arm)
    if a is None or b is None:
        return None
    request = parse_object(a.request) or {}
    scores = score_values(connection, [a.id, b.id])
    ours, theirs = scores.get(a.id, {}), scores.get(b.id, {})
    reason = score_explanations(connection, [b.id], metric).get(b.id, "") if b.outcome == "ok" else ""
    return ExamplePair(
        exchange=a.id,
        beside=b.id,
        why=f"{why}: {reason}"[:REASON] if reason and regression else why,
        question=last_user_text(request)[:READ],
        control=_answer(a)[:READ],
        candidate=_answer(b)[:READ],
        scores=tuple((s, ours.get(s), theirs.get(s)) for s in sorted({*ours, *theirs})),
        distance=pair_distances(connection, [b.id]).get(b.id),
        reference=(a.reference or stated_reference(request) or "")[:READ],
        regression=regression,
        group=what_went_wrong(b, ours, theirs, bool(reason)) if regression else "",
    )


def what_went_wrong(
    answer: RecordedAnswer, ours: Mapping[str, float | None], theirs: Mapping[str, float | None], judged: bool
) -> str:
    """A regression's group. ours, theirs: scorer → measured value. judged: the scorer gave a reason."""

    def only_theirs(scorer: str) -> bool:
        return (theirs.get(scorer) or 0.0) >= 0.5 > (ours.get(scorer) or 0.0)

    if answer.outcome != "ok":
        return f"failed ({answer.outcome})"
    if answer.refusal or only_theirs("refusal"):
        return "refusal"
    if answer.finish_reason == "length" or only_theirs("truncation"):
        return "cut off"
    if any(theirs.get(scorer) == 0.0 and ours.get(scorer) for scorer in ("valid_json", "json_schema")):
        return "invalid JSON"
    return "judged worse" if judged else "another answer"


def _answer(answer: RecordedAnswer) -> str:
    if answer.outcome != "ok":
        return f"[{answer.outcome}] {answer.text}".strip()
    return answer.text or (answer.tool_calls if answer.tool_calls != "[]" else "")
