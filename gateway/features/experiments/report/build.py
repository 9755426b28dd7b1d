"""The report of an experiment, built from the store as it is now."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

from gateway import __version__
from gateway.core.errors import CannotRun
from gateway.core.plan import CONTROL, Plan, StoredPlan, current_plan
from gateway.core.plan_evidence import MIN_PAIRS
from gateway.core.prices import Prices
from gateway.core.ramp import RampEvent
from gateway.core.segments import SegmentDesign, segment_name
from gateway.features.experiments.judges import AsPeopleJudge, ComparedScorer, as_people_judge, calibration_cautions
from gateway.features.experiments.report.details import arms_of, examples_of, latency_of, segment_examples, strata_of
from gateway.features.experiments.report.likelihood import likelihood_of
from gateway.features.experiments.rows.queries import cached_bills, most_frequent_score, pairwise_verdicts
from gateway.features.experiments.start.cautions import tried_plans, tried_sentence
from gateway.features.labels.calibration import CalibrationOptions, calibrate
from gateway.features.labels.rows import anything_labelled
from gateway.reports.charts import TrailPoint
from gateway.reports.model import (
    ArmStrength,
    Comparison,
    IntervalTrail,
    RampChangeShown,
    RampHistory,
    Report,
    SegmentReport,
    SimilarityTest,
    Wins,
)
from gateway.reports.number_format import span, when
from gateway.store.harm_stops import harm_of
from gateway.store.plan_evidence import StoredEvidence, scorer_facts
from gateway.store.plans import experiment_names, stored_plans
from gateway.store.query import Reading, reading
from gateway.store.ramp_events import stored_ramp_events
from gateway.store.reader_config import StoreLocation, read_prices
from gateway.store.sequences import trail
from gateway.verdict.cached_cost import cache_caution
from gateway.verdict.findings import Finding, finding
from gateway.verdict.harm import harm_sentence, past_harm_sentence
from gateway.verdict.metrics import BUILT_IN
from gateway.verdict.next_step import progress_with_step
from gateway.verdict.outcome import as_measured, pairs_of, segments_of
from gateway.verdict.preferences import strengths_of, wins_of
from gateway.verdict.report.presentation import response_caution, sharing
from gateway.verdict.sentence import loser_of, with_loss
from gateway.verdict.sequences.difference import METHOD_NAMES, METHODS
from gateway.verdict.split.comparison import METHOD as SPLIT_METHOD
from gateway.verdict.states import SequenceStates
from gateway.verdict.traffic_facts import drift_caution, slope_caution
from gateway.verdict.traffic_facts import sentences as traffic_sentences
from gateway.verdict.withheld import withheld_of

FLAT = 0.95  # share of one value above which a judge hardly tells answers apart
_SHADOW = (
    "Each answer is compared on its own: how a conversation continues after a candidate's answer is unknown.",
    "The candidate is asked after the served answer has ended. Its caches are colder or warmer than they would be if "
    "it served, which changes cost and latency.",
)


_GUARDED = (
    "A guard's refusal is compared with the answer that the caller got; how the caller would have continued is "
    "unknown.",
    "The guard judged whole answers, while it observed. Where one of its rules matched, the control is scored with "
    "marks in place of what matched, since records hold nothing else. Time and cost are not compared: `gateway guards` "
    "has them.",
)
_DROPPED = (
    "A candidate that is dropped was compared on the traffic until then; what it would have done on later traffic is "
    "unknown. Costs on the chart are those of the requests that each candidate got."
)
_LIKELIHOOD = (
    "The candidate wrote nothing: this says whether it finds the control's own answers as likely, not whether its "
    "answers are as good. For a better model it says only that the models differ.",
    "Each call counts once, whatever its length. Calls with tool calls, reasoning, several answers, images or audio "
    "are left out.",
    "Latency and cost are not compared: a prefill produces no answer.",
)


def design_of(plan: StoredPlan) -> tuple[tuple[str, str], ...]:
    """(name, value) rows about the plan as it was frozen."""
    p = plan.plan
    rows = [
        ("mode", p.mode),
        ("model", p.model),
        ("control", str(p.control)),
        *((f"candidate {arm}", str(target)) for arm, target in p.candidates),
        ("primary", f"{p.primary}, margin {p.margin:g}" if p.primary else "none"),
        ("error", f"{p.alpha:g}{_shared(p)}"),
        ("guardrails", ", ".join(f"{g.metric} {g.margin:g}" for g in p.guardrails) or "none"),
    ]
    if p.guarded:
        rows.append(("copied", f"{p.shadow:.3g} of eligible requests; none is sent again"))
    elif p.mode != "split":
        rows += [
            ("shadow", f"{p.shadow:.3g} of eligible requests"),
            ("control asked again", f"{p.repeat_control:.3g} of those"),
        ]
    if p.segments is not None:
        rows += _segments_of(p, p.segments)
    if p.likelihood:
        rows.append(("control scored twice", f"{p.scored_twice:.3g} of those"))
    if p.ramp is not None:
        steps = ", ".join(f"{step:.3g}" for step in p.ramp.steps)
        rows += [("ramp", f"{steps} of units, each for {span(p.ramp.soak_s / 86_400)} and {p.ramp.min_units} units")]
    elif not p.only_shadows:
        rows.append(("split", f"{p.split:.3g} of units"))
    if not p.only_shadows:
        rows.append(("unit", p.unit))
    if p.feedback_window_s is not None:
        without = "counts as 0" if p.feedback_missing == "zero" else "is in no mean"
        rows.append(("feedback", f"within {span(p.feedback_window_s / 86_400)} of an answer; one without {without}"))
    if p.adjust:
        pairs = "the control's score, the lengths of prompt and answer, from earlier pairs"
        units = "the length of a unit's first request as its client sent it, and the unit's past"
        rows.append(("adjusted for", units if p.mode == "split" else pairs))
    if p.after_verdict == "stop":
        rows.append(("stops", "with the best candidate, or when none is left" if p.finds_best else "with its verdict"))
    if p.max_pairs and p.method == "anytime":
        follows = ", or as the variance asks for" if p.auto_horizon else ""
        rows.append(("ends", f"at {p.ends_at} pairs{follows}, if no candidate is the best before"))
    elif p.max_pairs:
        follows = ", then as the variance asks for" if p.auto_horizon and p.rules >= 2 and not p.likelihood else ""
        rows.append(("horizon", f"{p.max_pairs} pairs{', from the margin' if p.auto_horizon else ''}{follows}"))
    if p.rules >= 2:
        rows.append(("hours", f"{p.min_hours:g} of traffic before ship"))
    method = SPLIT_METHOD if p.mode == "split" else f"{p.method}: {METHOD_NAMES[METHODS[p.method]]}"
    return (*rows, ("intervals", method), ("state", f"{plan.state} since {when(plan.since)}"))


def _segments_of(p: Plan, design: SegmentDesign) -> list[tuple[str, str]]:
    rows = [("segments", f"{', '.join(segment_name(*each) for each in design.segments)}; margin {design.margin:g}")]
    more = ", ".join(f"{segment_name(prop, value)} {min(1.0, p.shadow * by):.3g}" for prop, value, by in design.more)
    rows = rows if design.by else []
    rows += [("shadowed more often", more)] if more else []
    return rows + ([("weak spots", f"error {design.weak_spots:g}")] if design.weak_spots else [])


def _shared(p: Plan) -> str:
    """Describes how candidates share the error, for the row of the plan."""
    if len(p.candidates) == 1:
        return ""
    first = "at first, by Holm's procedure" if p.family == "holm" else "each"
    first = "each, and so has each pair of candidates" if p.finds_best else first
    return f", {p.alpha / len(p.candidates):g} {first}"


def limits_of(found: Finding, look: SequenceStates) -> tuple[str, ...]:
    """Sentences on the limits of the numbers."""
    plan = found.stored_plan.plan
    if plan.likelihood:
        return (*_LIKELIHOOD, *_pair_limits(found))
    sentences = list(_GUARDED if plan.guarded else _SHADOW if plan.mode != "split" else ())
    sentences.append("A difference is the average over the pairs so far; it says nothing about other kinds of traffic.")
    sentences += _pair_limits(found)
    sentences += traffic_sentences(found.traffic) if found.traffic else ()
    if plan.mode == "shadow" and not plan.repeat_control and not plan.guarded:
        sentences.append("Latency is not compared: that requires the control on the candidate's path (repeat_control).")
    if not plan.only_shadows:
        sentences.append("A split's means leave out answers whose client left before the end.")
    if len(plan.candidates) > 1:
        even = f"The error of {plan.alpha:g} is split evenly over {len(plan.candidates)} candidates."
        sentences.append(sharing(found.family) or even)
    if found.best is not None:
        sentences.append(_DROPPED)
    if any(s.test is not None for s in look.sequences.values()):
        sentences.append("Finding no difference in distance does not prove that the answers are alike.")
    if plan.method == "stationary":
        sentences.append("The plan states that the mean is constant; if it is not, the intervals may miss it.")
    return tuple(sentences)


def _pair_limits(found: Finding) -> list[str]:
    plan, sentences = found.stored_plan.plan, []
    lost = sum(n for (_, reason, _), n in found.withheld.items() if reason == "lost")
    if lost:
        sentences.append("Pairs with a lost record count in no mean; the gate on losses says whether that may matter.")
    if any(reason == "same_cluster" for _, reason, _ in found.withheld) and plan.rules < 2:
        sentences.append(
            "Only the first compared request of each conversation counts, since later ones depend on it: the "
            "difference is that of first compared requests."
        )
    if plan.mode != "split" and not plan.likelihood:
        sentences.append(
            "An answer that failed or was too late has a score of 0 and a distance of 1. Durations are those of "
            "complete answers, and of abandoned ones until they were abandoned."
        )
    return sentences


Corrected = Callable[[ComparedScorer], AsPeopleJudge | None]
"""The difference as people's labels correct it."""
PricesRead = Callable[[], Prices | None]
"""Reads the prices in force, when a report needs them. None if they are unknown."""


def _no_prices() -> None:
    return None


class ExperimentNotFound(CannotRun):
    """The store has nothing about this experiment, or this candidate."""


def read(asked: StoreLocation, experiment: str, candidate: str | None = None, now: float | None = None) -> Report:
    """The report from the store as it is. now: as finding takes it.

    Raises ExperimentNotFound, StoreUnavailable and ConfigError.
    """
    with reading(asked.store) as connection:
        people = partial(as_people_judge, connection) if anything_labelled(connection) else None
        return report_of(connection, experiment, candidate, people, now, partial(read_prices, asked.config))


def read_all(asked: StoreLocation, experiment: str) -> list[Report]:
    """The reports of all candidates, in the order of the plan. Raises as read does."""
    with reading(asked.store) as connection:
        return reports_of(connection, experiment, partial(read_prices, asked.config))


def reports_of(connection: Reading, experiment: str, prices: PricesRead = _no_prices) -> list[Report]:
    """The reports of all candidates, in the order of the plan. Raises ExperimentNotFound."""
    people = partial(as_people_judge, connection) if anything_labelled(connection) else None
    plan = current_plan(stored_plans(connection, experiment))
    arms = [None] if plan is None else [arm for arm, _ in plan.plan.candidates]
    return [report_of(connection, experiment, arm, people, prices=prices) for arm in arms]


def report_of(
    connection: Reading,
    name: str,
    candidate: str | None = None,
    corrected: Corrected | None = None,
    now: float | None = None,
    prices: PricesRead = _no_prices,
) -> Report:
    """The report of the running plan, or of the newest one. candidate: the arm; None if the one that leads, where
    candidates are compared with each other, else the plan's first.

    Raises ExperimentNotFound.
    """
    plan = current_plan(stored_plans(connection, name))
    if plan is None:
        known = experiment_names(connection)
        if name in known:
            raise ExperimentNotFound(f'the plan of experiment "{name}" is not in the store yet: is a consumer running?')
        others = ", ".join(known) or "none"
        raise ExperimentNotFound(f'no exchange of experiment "{name}" is in the store; known experiments: {others}')
    names = [arm for arm, _ in plan.plan.candidates]
    if candidate is not None and candidate not in names:
        raise ExperimentNotFound(f'experiment "{name}" has no candidate "{candidate}"; it has: {", ".join(names)}')
    found = finding(StoredEvidence(connection, plan, now), candidate or names[0])
    leader = found.best.leader if found.best and candidate is None else None
    found = found if leader in (None, found.candidate) else finding(StoredEvidence(connection, plan, now), leader)
    return _report(connection, plan, found, corrected, prices)


def _report(
    connection: Reading, plan: StoredPlan, found: Finding, corrected: Corrected | None, prices: PricesRead
) -> Report:
    look = SequenceStates(StoredEvidence(connection, plan))
    primary, guardrails, others = (
        [_corrected(as_measured(found, look, each), found, look, corrected) for each in c]
        for c in (((found.primary,) if found.primary else ()), found.guardrails, found.others)
    )
    wins, strengths, first_place = _preferences(connection, plan, look, found)
    by_arm = arms_of(connection, plan)
    examples = examples_of(connection, found)
    tried = tried_plans(connection, plan, found.candidate)
    segments = segments_of(found, look)
    kept = found.segments.kept if found.segments else None
    loser = loser_of(found.decision.verdict, found.primary, lambda: segments, kept.excepted if kept else ())
    return Report(
        experiment=plan.plan.name,
        plan=plan.hash,
        candidate=found.candidate,
        verdict=found.decision.verdict,
        direction=found.primary.direction_found if found.primary else "unclear",
        margin=found.primary.margin_found if found.primary else "unclear",
        sentence=with_loss(found.decision.sentence, loser),
        reasons=found.decision.reasons,
        primary=primary[0] if primary else None,
        guardrails=tuple(guardrails),
        metrics=(*primary, *guardrails, *others),
        gates=found.gates,
        arms=by_arm,
        pairs=pairs_of(found),
        withheld=withheld_of(found, look),
        trails=_trails(connection, found),
        wins=wins,
        latency=latency_of(connection, plan),
        strata=strata_of(connection, plan, found),
        examples=examples.pairs,
        limits=limits_of(found, look),
        design=design_of(plan),
        versions=(
            ("gateway", __version__),
            *((m, n.identity) for m, n in sorted(found.names.items()) if n.identity != "-"),
        ),
        first=found.pairs.first,
        last=found.pairs.last,
        created=time.time(),
        command=f"gateway report {plan.plan.name}",
        likeness=_likeness(look, found.candidate),
        strengths=strengths,
        first_place=first_place,
        progress=progress_with_step(found, look),
        segments=segments,
        family=found.family,
        cautions=(
            *cautions_of(connection, found),
            *cost_cautions(connection, plan, found.candidate, prices),
            *([tried_sentence(tried)] if tried else []),
        ),
        regressions=examples.regressions,
        ramp=ramp_of(connection, plan),
        likelihood=likelihood_of(connection, found, look),
        traffic=found.traffic,
        tried=tried,
        best=found.best,
        declared=declared_of(connection, found, look),
    )


def declared_of(connection: Reading, found: Finding, look: SequenceStates) -> SegmentReport | None:
    """Segments that decide, with examples; None if the plan declares none."""
    if found.stored_plan.plan.segments is None:
        return None
    segments, kept = found.segments, found.segments.kept if found.segments else None
    if kept is not None:
        kept = replace(kept, metrics=tuple(as_measured(found, look, each) for each in kept.metrics))
    return SegmentReport(
        segments.segments if segments else (),
        kept,
        found.weak_spot,
        segment_examples(connection, found, look),
    )


def ramp_of(connection: Reading, plan: StoredPlan) -> RampHistory | None:
    """History of the plan's ramp; None if it has none, or it has not begun."""
    design = plan.plan.ramp
    every = stored_ramp_events(connection, plan.plan.name) if design else []
    ours = [event for event in every if event.record.plan == plan.hash]
    if design is None or not ours:
        return None
    designs = {each.hash: each.plan.ramp for each in stored_plans(connection, plan.plan.name)}

    def shown(event: RampEvent) -> RampChangeShown:
        r, of = event.record, designs.get(event.record.plan)
        return RampChangeShown(r.at, event.kind, r.share(of) if of else 0.0, r.by, r.reason, r.plan)

    last, changes = ours[-1].record, tuple(map(shown, ours))
    overrides = tuple(shown(event) for event in every if event.override)
    share = last.share(design)
    return RampHistory(last.state, last.step + 1, design.steps, share, last.paused, changes, overrides)


def cautions_of(connection: Reading, found: Finding) -> Iterator[str]:
    """Reasons to trust the verdict less: feedback that is given more often on one arm; a difference that moves from day
    to day, or drifts over hours; segments without values; a judge as the primary without labels, without agreement with
    them, or with hardly any spread; a stop for harm."""
    plan, stop = found.stored_plan, harm_of(connection, found.stored_plan.hash)
    if stop is not None and stop.cleared is None:
        running = plan.state == "running"
        yield f"The candidate is {harm_sentence(plan.plan, stop)}." if running else past_harm_sentence(plan.plan, stop)
    yield from (text for each in found.metrics if each.role != "other" and (text := response_caution(each)))
    yield from slope_caution(found.traffic)
    yield from drift_caution(found.traffic)
    yield from _not_compared(found)
    yield from _unknown_segments(found.stored_plan.plan)
    c = found.primary
    name = found.names.get(c.metric) if c else None
    if c is None or name is None or name.identity == BUILT_IN:
        return
    facts = scorer_facts(connection, found.stored_plan.hash, c.metric, name.identity)
    if facts is None or facts.kind != "llm":
        return
    margin = found.stored_plan.plan.margin
    yield from calibration_cautions(c.metric, calibrate(connection, CalibrationOptions(c.metric)), margin)
    flat = most_frequent_score(connection, found.stored_plan.hash, c.metric, name.identity)
    if flat is not None and flat[1] > FLAT:
        yield f"The judge {c.metric} gives {flat[0]:.3g} to {flat[1]:.0%} of the answers: it hardly distinguishes them."


def cost_cautions(connection: Reading, plan: StoredPlan, candidate: str, prices: PricesRead) -> Iterator[str]:
    """Caution on a cost without the served cache. The config is read only if the arms' cached shares differ."""
    bills = cached_bills(connection, plan.hash)
    control, shadowed = bills.get(CONTROL), bills.get(candidate)
    if any(cache_caution(control, shadowed)):
        known, target = prices(), dict(plan.plan.candidates)[candidate]
        price = known.of(target) if known is not None else None
        yield from cache_caution(
            control, shadowed, price, cached_bills(connection, plan.hash, served=True).get(candidate)
        )


def _unknown_segments(plan: Plan) -> Iterator[str]:
    """Caution on a plan of an earlier version that started before any value of its segments was known."""
    if named := ", ".join(plan.segments.unknown if plan.segments else ()):
        yield (
            f"No value of {named} was known when this plan started, so its calls are one segment and nothing is "
            f"decided about their parts: gateway ab start {plan.name} begins a plan that knows them."
        )


def _not_compared(found: Finding) -> Iterator[str]:
    """Reason why candidates that have pairs with the control have none with each other."""
    c, left = found.primary, [row for row in found.best.candidates if row.state != "dropped"] if found.best else []
    if c is not None and c.pairs >= MIN_PAIRS and len(left) > 1 and not any(row.lead_pairs for row in left):
        yield (
            f"{c.metric} compares an answer with the served one, so the candidates cannot be compared with each other "
            "by it, and none can be the best: start it with a scorer of single answers, or `family: holm`."
        )


def _corrected(c: Comparison, found: Finding, look: SequenceStates, corrected: Corrected | None) -> Comparison:
    """The comparison with its difference as people judge, computed from pairs where the comparison is."""
    if corrected is None:
        return c
    plan, key, name = found.stored_plan, (found.candidate, c.metric), found.names.get(c.metric)
    sequence = look.sequences.get(key) if plan.plan.mode != "split" else None
    made = corrected(ComparedScorer(plan, found.candidate, c.metric, name.identity if name else None, sequence))
    return c if made is None else replace(c, corrected=made.difference, corrected_basis=made.basis)


def _trails(connection: Reading, found: Finding) -> tuple[IntervalTrail, ...]:
    """The trails of the primary and the guardrails. Only some points are stored; the last one is as of now."""
    shown = [c for c in found.metrics if c.role != "other" and c.metric in found.names]
    return tuple(IntervalTrail(c.metric, (*_earlier(connection, found, c), *_now(c))) for c in shown)


def _earlier(connection: Reading, found: Finding, c: Comparison) -> list[TrailPoint]:
    return [point for point in trail(connection, found.names[c.metric]) if point[0] < c.pairs]


def _now(c: Comparison) -> tuple[TrailPoint, ...]:
    e = c.difference
    if e.value is None:
        return ()
    return ((c.pairs, e.value, -math.inf if e.low is None else e.low, math.inf if e.high is None else e.high),)


def _likeness(look: SequenceStates, candidate: str) -> tuple[SimilarityTest, ...]:
    return tuple(
        SimilarityTest(metric, s.n, -s.moments.mean, s.test.p_value)
        for (arm, metric), s in sorted(look.sequences.items())
        if arm == candidate and s.test is not None and s.n
    )


def _preferences(
    connection: Reading, plan: StoredPlan, look: SequenceStates, found: Finding
) -> tuple[Wins | None, tuple[ArmStrength, ...], float | None]:
    """The preferences of the pairwise judge: the primary if it is one, else the first."""
    judges = [
        m for m in (plan.plan.primary, *sorted(found.names)) if m is not None and look.prefers(found.candidate, m)
    ]
    if not judges:
        return None, (), None
    stored_verdicts = pairwise_verdicts(connection, plan.hash, judges[0], found.names[judges[0]].identity)
    return wins_of(stored_verdicts, found.candidate), *strengths_of(stored_verdicts)
