"""The outcome of one candidate as its metrics measure it: what a verdict's sentence is made of."""

from __future__ import annotations

from dataclasses import replace

from gateway.core.horizon import likelihood_scale
from gateway.core.plan import NATS_PER_TOKEN
from gateway.reports.model import Comparison, RampHistory, SegmentDifference
from gateway.verdict.findings import Finding
from gateway.verdict.metrics import BUILT_IN, MEASURES
from gateway.verdict.next_step import progress_with_step
from gateway.verdict.plan_gates import FALLBACK
from gateway.verdict.segments.exploratory import MOST_PAIRS, collected, parts_of, with_intervals
from gateway.verdict.sentence import Outcome, best_about, loser_of
from gateway.verdict.sequences.difference import turned
from gateway.verdict.sequences.latency import P95
from gateway.verdict.states import SequenceStates
from gateway.verdict.traffic_facts import these_units


def outcome_of(found: Finding, look: SequenceStates, ramp: RampHistory | None = None) -> Outcome:
    """ramp: None if there is none, or if the sentence is to be about the pairs alone."""
    plan, kept = found.stored_plan.plan, found.segments.kept if found.segments else None
    moved = kept.metrics[0] if kept else None
    excepted = kept.excepted if kept else ()
    return Outcome(
        control=str(plan.control),
        candidate=str(plan.target(found.candidate)),
        verdict=found.decision.verdict,
        primary=None if found.primary is None else as_measured(found, look, found.primary),
        guardrails=tuple(as_measured(found, look, c) for c in found.guardrails),
        gates=found.gates,
        pairs=pairs_of(found),
        progress=progress_with_step(found, look),
        ramp=ramp,
        best=best_about(found.best, found.candidate),
        excepted=excepted,
        moved=None if moved is None else as_measured(found, look, moved),
        loser=loser_of(found.decision.verdict, found.primary, lambda: segments_of(found, look), excepted),
        these=these_units(found.traffic),
    )


def segments_of(found: Finding, look: SequenceStates) -> tuple[SegmentDifference, ...]:
    """Segments that are shown to be worse, then those shown to be better, then the others."""
    name = found.names.get(found.primary.metric) if found.primary else None
    plan = found.stored_plan.plan
    if name is None or found.primary is None or (found.primary.unit and not plan.likelihood):
        return ()
    rows = look.evidence.segment_rows(name, MOST_PAIRS)
    largest = likelihood_scale(plan.margin or FALLBACK)[1] if plan.likelihood else 1.0
    parts = collected((parts_of(row), row.difference) for row in rows)
    return with_intervals(parts, plan.alpha / len(plan.candidates), largest)


def pairs_of(found: Finding) -> int:
    """The settled pairs; in a split, the units behind the primary."""
    if found.stored_plan.plan.mode == "split":
        return found.primary.pairs if found.primary else sum(found.split.units.values()) if found.split else 0
    return found.pairs.joined


def as_measured(found: Finding, look: SequenceStates, c: Comparison) -> Comparison:
    """The comparison with both arms' means as the metric measures them; its difference keeps + for better."""
    sequence, name = look.sequences.get((found.candidate, c.metric)), found.names.get(c.metric)
    distance = sequence is not None and sequence.test is not None
    if c.metric in (*MEASURES, P95, "error_rate", NATS_PER_TOKEN) or distance:
        return replace(c, better="lower")
    if name is not None and name.identity == BUILT_IN:
        return c
    facts = look.evidence.scorer(c.metric, name.identity if name else None)
    if facts is None:
        return c
    measured = replace(c, binary=facts.binary)
    return replace(measured, a=turned(c.a), b=turned(c.b), better="lower") if facts.turned else measured
