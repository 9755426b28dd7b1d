"""The report of an experiment whose plan is not in the store: the arms' weighted means, and no verdict."""

from __future__ import annotations

import time
from collections.abc import Mapping

from gateway.core.plan import CONTROL
from gateway.core.score import Bounds
from gateway.features.experiments.rows import queries
from gateway.features.experiments.rows.queries import LatestPlan
from gateway.reports.model import Arm, Comparison, Estimate, Report
from gateway.statistics.weighted_mean import WeightedEstimate, weighted_mean
from gateway.store.query import Reading

NO_PLAN = "its plan is not in the store, so nothing can be decided"
_UNBOUNDED: Bounds = (0.0, None)
_MEASURES: Mapping[str, tuple[str, str, Bounds]] = {
    "failure": ("error_rate", "", (0.0, 1.0)),
    "first_token_s": ("first_token_s", "s", _UNBOUNDED),
    "total_s": ("total_s", "s", _UNBOUNDED),
    "output_tokens": ("output_tokens", "tokens", _UNBOUNDED),
}


def without_plan(connection: Reading, plan: LatestPlan) -> Report:
    """The weighted means of both arms, each with an interval valid at any time, and no claim about a difference."""
    counted = queries.target_counts(connection, plan)
    candidate = next((arm for arm in counted if arm != CONTROL), "candidate")
    means: dict[tuple[str, str], WeightedEstimate] = {}
    for (arm, name), sums in queries.measure_sums(connection, plan).items():
        if name in _MEASURES:
            means[arm, name] = weighted_mean(sums, _MEASURES[name][2])
    for (arm, key), sums in queries.scorer_sums(connection, plan).items():
        means[arm, key.scorer] = weighted_mean(sums, (None, None))
    names = sorted({name for _, name in means})
    return Report(
        experiment=plan.experiment,
        plan=plan.plan,
        candidate=candidate,
        verdict="hold",
        direction="unclear",
        margin="unclear",
        sentence=f"Experiment {plan.experiment}: no verdict; {NO_PLAN}. Hold.",
        reasons=(NO_PLAN,),
        primary=None,
        guardrails=(),
        metrics=tuple(_comparison(name, means.get((CONTROL, name)), means.get((candidate, name))) for name in names),
        gates=(),
        arms=tuple(_arm(arm, parts) for arm, parts in counted.items()),
        pairs=queries.joined_pair_count(connection, plan),
        withheld=(),
        trails=(),
        wins=None,
        latency=(),
        strata=(),
        examples=(),
        limits=("The arms are shown side by side; whether they differ was not tested.",),
        design=(),
        versions=(),
        first=None,
        last=None,
        created=time.time(),
        command=f"gateway report {plan.experiment}",
    )


def _arm(arm: str, parts: list[tuple[str, str, int]]) -> Arm:
    n = sum(n for _, _, n in parts)
    served = sum(n for role, _, n in parts if role == "served")
    return Arm(arm, ", ".join(sorted({target for _, target, _ in parts})), n, 0, served, None, None, None)


def _comparison(name: str, a: WeightedEstimate | None, b: WeightedEstimate | None) -> Comparison:
    title, unit, _ = _MEASURES.get(name, (name, "", _UNBOUNDED))
    n = min(a.n if a else 0, b.n if b else 0)
    effective = min(a.effective_n if a else 0.0, b.effective_n if b else 0.0)
    return Comparison(
        metric=title,
        unit=unit,
        role="other",
        a=_estimate(a),
        b=_estimate(b),
        difference=Estimate(None),
        noise=None,
        pairs=n,
        effective_n=effective,
        margin=None,
        direction_found="unclear",
        margin_found="unclear",
        method="weighted means",
    )


def _estimate(e: WeightedEstimate | None) -> Estimate:
    if e is None or e.mean is None:
        return Estimate(None)
    low, high = (None if abs(v) == float("inf") else v for v in (e.low, e.high))
    return Estimate(e.mean, low, high)
