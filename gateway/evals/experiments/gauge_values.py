"""What is shown to Prometheus of the experiments in a store: of those that run, and for a day of those that ended."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.evals.experiments.details import withheld_of
from gateway.evals.experiments.findings import Finding, SequenceStates, current_plan, finding
from gateway.evals.experiments.report import Comparison
from gateway.evals.experiments.split import SRM
from gateway.evals.store.experiments.plans import StoredPlan, stored_plans
from gateway.evals.store.query import Reading
from gateway.observability.experiment_metrics import ExperimentFigures, MetricFigures

SHOWN_S = 86_400.0
MOST = 50  # experiments: names come from configs, and a store outlives many of them


def figures_of(connection: Reading, now: float) -> tuple[ExperimentFigures, ...]:
    """now: Unix seconds."""
    found: list[ExperimentFigures] = []
    for plan in _shown(stored_plans(connection), now):
        look = SequenceStates(connection, plan)
        found += [_figures(finding(connection, plan, arm), look) for arm, _ in plan.plan.candidates]
    return tuple(found)


def _shown(plans: Iterable[StoredPlan], now: float) -> list[StoredPlan]:
    """Of each experiment the plan that its report speaks of; the latest begun last."""
    by_name: dict[str, list[StoredPlan]] = {}
    for plan in plans:
        by_name.setdefault(plan.plan.name, []).append(plan)
    chosen = [c for c in map(current_plan, by_name.values()) if c is not None]
    shown = [c for c in chosen if c.state == "running" or now - c.since < SHOWN_S]
    return sorted(shown, key=lambda plan: (plan.since, plan.hash))[-MOST:]


def _figures(found: Finding, look: SequenceStates) -> ExperimentFigures:
    return ExperimentFigures(
        experiment=found.stored_plan.plan.name,
        candidate=found.candidate,
        verdict=found.decision.verdict,
        pairs=found.pairs.joined,
        metrics=tuple(_metric(c) for c in found.metrics),
        gates=tuple((gate.name, gate.state) for gate in found.gates),
        withheld=withheld_of(found, look),
        srm_p=next((gate.value for gate in found.gates if gate.name == SRM), None),
    )


def _metric(c: Comparison) -> MetricFigures:
    e = c.difference
    return MetricFigures(c.metric, e.value, e.low, e.high, c.margin, c.log_evalue, c.pairs)
