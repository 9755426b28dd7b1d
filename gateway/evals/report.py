"""`gateway report`: what an experiment's arms look like so far, for people and for programs. It gives no verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gateway.evals.means import weighted_mean
from gateway.evals.plain import plain
from gateway.evals.scorers import Bounds
from gateway.evals.scorers.registry import Registered, build
from gateway.evals.statistics.weights import Estimate
from gateway.evals.store import arms
from gateway.evals.store.arms import Pairs
from gateway.evals.store.reading import Reading, reading
from gateway.evals.where import Where
from gateway.programs import CannotRun

NO_VERDICT = "No verdict: that needs answers judged in pairs and an A/A control."
_NO_BOUNDS: Bounds = (None, None)
_MEASURES: Mapping[str, tuple[str, Bounds]] = {
    "failure": ("failed calls", (0.0, 1.0)),
    "first_token_s": ("first token, s", (0.0, None)),
    "total_s": ("total, s", (0.0, None)),
    "input_tokens": ("input tokens", (0.0, None)),
    "output_tokens": ("output tokens", (0.0, None)),
}


class NoExperiment(CannotRun):
    """Nothing of this experiment is in the store."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A weighted mean in one arm. low, high: 95 %, valid at any time; None: no bound yet. direction: for scores."""

    name: str
    n: int
    not_applicable: int
    effective_n: float
    nonresponse: float | None
    mean: float | None
    low: float | None
    high: float | None
    direction: str | None = None


@dataclass(frozen=True, slots=True)
class Arm:
    arm: str
    role: str
    models: tuple[str, ...]
    n: int
    scores: tuple[Metric, ...]
    measures: tuple[Metric, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """weights: realised (from the gateways' Tallies), or nominal where several plans ran under this name."""

    experiment: str
    plan: str
    weights: str
    arms: tuple[Arm, ...]
    pairs: Pairs
    sentence: str = NO_VERDICT


def report(connection: Reading, experiment: str, scorers: Mapping[str, Registered]) -> Report:
    """Of the plan that ran last. scorers: whose bounds are known. Raises NoExperiment."""
    plan = arms.latest_plan(connection, experiment)
    if plan is None:
        known = ", ".join(arms.experiments(connection)) or "none"
        raise NoExperiment(f'no exchange of experiment "{experiment}" is in the store; there are: {known}')
    measured, scored = arms.measures(connection, plan), arms.score_sums(connection, plan)
    found = []
    for arm, parts in sorted(arms.counts(connection, plan).items(), key=lambda each: each[0] != "control"):
        scores = [
            _metric(key.scorer, weighted_mean(sums, _bounds(scorers, key.scorer)), key.direction)
            for (of, key), sums in sorted(scored.items(), key=lambda each: each[0][1].scorer)
            if of == arm
        ]
        measures = [
            _metric(name, weighted_mean(measured[arm, name], bounds)) for name, (_, bounds) in _MEASURES.items()
        ]
        models = tuple(sorted({model for _, model, _ in parts}))
        n = sum(n for _, _, n in parts)
        found.append(Arm(arm, parts[0][0], models, n, tuple(scores), tuple(measures)))
    weights = "realised" if plan.only else "nominal"
    return Report(experiment, plan.plan, weights, tuple(found), arms.pairs(connection, plan))


def _bounds(scorers: Mapping[str, Registered], name: str) -> Bounds:
    return scorers[name].scorer.bounds if name in scorers else _NO_BOUNDS


def _metric(name: str, e: Estimate, direction: str | None = None) -> Metric:
    low, high = (value if e.mean is not None and math.isfinite(value) else None for value in (e.low, e.high))
    return Metric(name, e.n, e.not_applicable, e.effective_n, e.nonresponse, e.mean, low, high, direction)


def read(asked: Where, experiment: str) -> Report:
    """From the store, as it is now. Raises NoExperiment, NoStore and ConfigError."""
    with reading(asked.store) as connection:
        return report(connection, experiment, build(asked.scorers))


def to_dict(made: Report) -> dict[str, Any]:
    return asdict(made)


def page(made: Report) -> RenderableType:
    pairs = made.pairs
    return Group(
        Text(plain(f"Experiment {made.experiment}, plan {made.plan}"), "bold"),
        *(
            Text(plain(f"{arm.arm} ({arm.role}): {', '.join(arm.models)}, {arm.n} exchanges"))
            for arm in made.arms
        ),
        Text(
            f"{pairs.joined} pairs; {pairs.served_alone} served without a shadow (not drawn, not asked, or not here "
            f"yet); {pairs.shadow_alone} shadows without their served exchange"
        ),
        Text(),
        _table(made),
        Text(f"\nMeans are over all traffic ({made.weights} weights); intervals are 95 % and valid at any time."),
        Text(made.sentence, "bold"),
    )  # fmt: skip


def _table(made: Report) -> Table:
    drawn = Table(box=None, pad_edge=False, header_style="bold")
    drawn.add_column("metric")
    for arm in made.arms:
        drawn.add_column(plain(arm.arm), justify="right")
        for name in ("n", "eff. n", "no answer"):
            drawn.add_column(name, justify="right", style="dim")
    rows: dict[str, dict[str, Metric]] = {}
    for arm in made.arms:
        for metric in (*arm.scores, *arm.measures):
            rows.setdefault(metric.name, {})[arm.arm] = metric
    for name, by_arm in rows.items():
        title = _MEASURES[name][0] if name in _MEASURES else name
        cells = [cell for arm in made.arms for cell in _cells(by_arm.get(arm.arm))]
        drawn.add_row(*(Text(plain(cell)) for cell in (title, *cells)))
    return drawn


def _cells(metric: Metric | None) -> tuple[str, str, str, str]:
    if metric is None:
        return "–", "", "", ""
    silent = "–" if metric.nonresponse is None else f"{metric.nonresponse:.1%}"
    if metric.mean is None:
        return "–", str(metric.n), f"{metric.effective_n:.0f}", silent
    low = "…" if metric.low is None else f"{metric.low:.4g}"
    high = "…" if metric.high is None else f"{metric.high:.4g}"
    return f"{metric.mean:.4g} [{low}, {high}]", str(metric.n), f"{metric.effective_n:.0f}", silent
