"""The outcome of one candidate as its metrics measure it, from the store: what a verdict's sentence is made of."""

from __future__ import annotations

from dataclasses import replace

from gateway.core.plan import NATS_PER_TOKEN
from gateway.features.experiments.conditions import progress_of
from gateway.features.experiments.findings import Finding, SequenceStates
from gateway.features.experiments.rows.queries import scorer_facts
from gateway.features.experiments.segments import segments_of
from gateway.reports.model import Comparison, RampHistory
from gateway.store.query import Reading
from gateway.verdict.metrics import BUILT_IN, MEASURES
from gateway.verdict.sentence import Outcome, best_about, loser_of
from gateway.verdict.sequences.difference import turned
from gateway.verdict.sequences.latency import P95


def outcome_of(connection: Reading, found: Finding, look: SequenceStates, ramp: RampHistory | None = None) -> Outcome:
    """ramp: None if there is none, or if the sentence is to be about the pairs alone."""
    plan, kept = found.stored_plan.plan, found.segments.kept if found.segments else None
    moved = kept.metrics[0] if kept else None
    return Outcome(
        control=str(plan.control),
        candidate=str(plan.target(found.candidate)),
        verdict=found.decision.verdict,
        primary=None if found.primary is None else as_measured(connection, found, look, found.primary),
        guardrails=tuple(as_measured(connection, found, look, c) for c in found.guardrails),
        gates=found.gates,
        pairs=pairs_of(found),
        progress=progress_of(found, look),
        ramp=ramp,
        best=best_about(found.best, found.candidate),
        excepted=kept.excepted if kept else (),
        moved=None if moved is None else as_measured(connection, found, look, moved),
        loser=loser_of(found.decision.verdict, found.primary, lambda: segments_of(connection, found)),
    )


def pairs_of(found: Finding) -> int:
    """The settled pairs; in a split, the units behind the primary."""
    if found.stored_plan.plan.mode == "split":
        return found.primary.pairs if found.primary else sum(found.split.units.values()) if found.split else 0
    return found.pairs.joined


def as_measured(connection: Reading, found: Finding, look: SequenceStates, c: Comparison) -> Comparison:
    """The comparison with both arms' means as the metric measures them; its difference keeps + for better."""
    sequence, name = look.sequences.get((found.candidate, c.metric)), found.names.get(c.metric)
    distance = sequence is not None and sequence.test is not None
    if c.metric in (*MEASURES, P95, "error_rate", NATS_PER_TOKEN) or distance:
        return replace(c, better="lower")
    if name is not None and name.identity == BUILT_IN:
        return c
    facts = scorer_facts(connection, found.stored_plan.hash, c.metric, name.identity if name else None)
    if facts is None:
        return c
    measured = replace(c, binary=facts.binary)
    return replace(measured, a=turned(c.a), b=turned(c.b), better="lower") if facts.turned else measured
