"""Grafana's dashboards for one gateway.yaml: without the panels of features that it does not have, with bands of
intervals, and with links to its console. `make generate` writes the dashboards themselves."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.cli.dashboard_bands import draw_bands
from gateway.config.config import Config
from gateway.config.derive import console_address, directory_of
from gateway.config.scorers import scores_runs

Json = dict[str, Any]
WIDE = 24
"""Columns of Grafana's grid."""
_METRIC = re.compile(r"\b(?:gateway[_:]|gen_ai_)[a-z0-9_]+")


@dataclass(frozen=True, slots=True)
class MetricFeature:
    """A feature of which metrics exist only where the config has it."""

    metrics: tuple[str, ...]
    """Beginnings of their names."""
    configured: Callable[[Config], bool]


def _splits(config: Config) -> bool:
    return any(experiment.splits for experiment in config.experiments.values())


def _limits(config: Config) -> bool:
    """Keys of the admin API may have limits at any time."""
    directory = directory_of(config)
    holders = (directory.keys, directory.people, directory.teams, directory.organizations)
    limited = any(record.limits for records in holders for record in records.values())
    return config.admin is not None or bool(directory.default_limits) or limited


def _tiers(config: Config) -> bool:
    return any("budget" in fallback.on for model in config.models.values() for fallback in model.fallback)


def _feedback_decides(config: Config) -> bool:
    metrics = (name for e in config.experiments.values() for name in (e.primary or "", *e.guardrails))
    return any(name.startswith("feedback:") for name in metrics)


def _best_of_several(config: Config) -> bool:
    return any(experiment.family == "best" for experiment in config.experiments.values())


def _routes(config: Config) -> bool:
    arms = (arm for experiment in config.experiments.values() for arm in experiment.arms.values())
    targets = (target for model in config.models.values() for target in model.targets)
    return any(target.route for target in (*targets, *arms))


_OF_SCORERS = tuple(f"gateway_eval_{name}" for name in ("score", "alias_score", "cost", "tokens", "budget"))
METRIC_FEATURES = (
    MetricFeature(_OF_SCORERS, lambda c: bool(c.scorers)),
    MetricFeature(
        ("gateway:score_objective", "gateway_eval_alias_score_objective"),
        lambda c: any(model.score_objectives for model in c.models.values()),
    ),
    MetricFeature(("gateway_eval_run_score",), lambda c: any(scores_runs(n, s) for n, s in c.scorers.items())),
    MetricFeature(("gateway_eval_predictor", "gateway_eval_drift"), lambda c: c.predictor is not None),
    MetricFeature(("gateway_experiment", "gateway_shadow"), lambda c: bool(c.experiments)),
    MetricFeature(("gateway_experiment_feedback",), _feedback_decides),
    MetricFeature(("gateway_experiment_best", "gateway_shadow_dropped"), _best_of_several),
    MetricFeature(("gateway_experiment_srm", "gateway_split"), _splits),
    MetricFeature(("gateway_ramp",), lambda c: any(e.ramp for e in c.experiments.values())),
    MetricFeature(("gateway_route_",), _routes),
    MetricFeature(("gateway_guard",), lambda c: bool(c.guards)),
    MetricFeature(("gateway_limit",), _limits),
    MetricFeature(("gateway_tier_down",), _tiers),
    MetricFeature(("gateway_tag",), lambda c: bool(c.tags.keys)),
    MetricFeature(("gateway_gpu", "gateway_team_gpu"), lambda c: bool(c.prices and c.prices.gpu_seconds)),
    MetricFeature(
        ("gateway_directory", "gateway_admin", "gateway_key_ended", "gateway_console"), lambda c: c.admin is not None
    ),
    MetricFeature(("gateway_redaction",), lambda c: c.redaction is not None),
    MetricFeature(("gateway_webhook",), lambda c: bool(c.webhooks)),
)


def dashboard_for(dashboard: Json, config: Config) -> Json | None:
    """The part of a dashboard that the config has metrics for; None if there is none."""
    missing = tuple(m for feature in METRIC_FEATURES if not feature.configured(config) for m in feature.metrics)
    made = copy.deepcopy(dashboard)
    made["panels"] = list(_rows(made["panels"], missing))
    if not made["panels"]:
        return None
    notes = made["annotations"]["list"]
    made["annotations"]["list"] = [note for note in notes if not _asks_for(note["expr"], missing)]
    for panel in panels_of(made):
        draw_bands(panel, config)
    used = json.dumps(made["panels"])
    choices = made["templating"]["list"]
    made["templating"]["list"] = [v for v in choices if v["type"] != "query" or f"${v['name']}" in used]
    _set_console(made, console_address(config).rstrip("/"))
    return made


def panels_of(dashboard: Json) -> Iterator[Json]:
    """The panels of a dashboard in their order, those of collapsed rows too."""
    for panel in dashboard["panels"]:
        yield from panel["panels"] if panel["type"] == "row" else (panel,)


def flow(panels: Sequence[Json], top: int) -> None:
    """Places panels of one height from left to right, and on the next line where one is full. top: the first line."""
    x, y = 0, top
    for panel in panels:
        at = panel["gridPos"]
        if x + at["w"] > WIDE:
            x, y = 0, y + at["h"]
        panel["gridPos"] = {**at, "x": x, "y": y}
        x += at["w"]


def _rows(panels: Sequence[Json], missing: tuple[str, ...]) -> Iterator[Json]:
    """The rows that keep panels, each followed by its panels if it is not collapsed."""
    starts = [i for i, panel in enumerate(panels) if panel["type"] == "row"]
    for start, end in zip(starts, [*starts[1:], len(panels)], strict=True):
        row, opened = panels[start], panels[start + 1 : end]
        kept = [panel for panel in (*row["panels"], *opened) if _keep_queries(panel, missing)]
        flow(kept, row["gridPos"]["y"] + 1)
        if kept:
            yield {**row, "panels": kept if row["collapsed"] else []}
            yield from () if row["collapsed"] else kept


def _keep_queries(panel: Json, missing: tuple[str, ...]) -> bool:
    """Removes queries for missing metrics. Returns whether one is left."""
    panel["targets"] = [query for query in panel["targets"] if not _asks_for(query["expr"], missing)]
    return bool(panel["targets"])


def _asks_for(query: str, missing: tuple[str, ...]) -> bool:
    return any(name.startswith(missing) for name in _METRIC.findall(query))


def _set_console(dashboard: Json, address: str) -> None:
    for variable in dashboard["templating"]["list"]:
        if variable["name"] == "console" and address:
            variable.update(query=address, current={"text": address, "value": address})
