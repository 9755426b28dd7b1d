"""Bands of intervals on dashboards for one gateway.yaml: the space between both ends of a mean, filled.

Grafana's `fillBelowTo` takes the literal name of one series (grafana/grafana#85757). A config knows the names that the
series of an alias's scores can have, so that each gets an override of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from gateway.config.config import Config
from gateway.config.derive import asked_refs, refs_of_model, target_of
from gateway.config.metric_labels import OTHER, MetricLabels
from gateway.config.scorers import scores_runs

MOST_BANDS = 60
"""Series of one panel that have a band, those with objectives for scores first: nobody tells more apart."""
BY_ALIAS = "gateway_eval_alias_score_"
FILL_PERCENT = 12
_LABEL = re.compile(r"\{\{\s*(\w+)\s*\}\}")


def legend_of(template: str, labels: Mapping[str, str]) -> str:
    """The name that Grafana gives a series: a label that it lacks is empty."""
    return _LABEL.sub(lambda label: labels.get(label[1], ""), template)


def draw_bands(panel: dict[str, Any], config: Config) -> None:
    """Fills the space between the queries "low …" and "high …" of a panel of scores by alias."""
    drawn = {target["legendFormat"] for target in panel["targets"] if BY_ALIAS in target["expr"]}
    for high in sorted(legend for legend in drawn if legend.startswith("high ")):
        low = f"low {high.removeprefix('high ')}"
        if low in drawn:
            panel["fieldConfig"]["overrides"] += [
                _band(legend_of(low, labels), legend_of(high, labels)) for labels in islice(_series(config), MOST_BANDS)
            ]


def _band(low: str, high: str) -> dict[str, Any]:
    filled = {"custom.fillBelowTo": low, "custom.fillOpacity": FILL_PERCENT}
    return {
        "matcher": {"id": "byName", "options": high},
        "properties": [{"id": name, "value": value} for name, value in filled.items()],
    }


def _series(config: Config) -> Iterator[dict[str, str]]:
    """The labels of each series of an alias's scores."""
    labels = MetricLabels.of(config)
    scorers = [name for name, section in config.scorers.items() if not scores_runs(name, section)]
    models = sorted(config.models.items(), key=lambda item: not item[1].score_objectives)
    for alias, model in models:
        if alias not in labels.scored_aliases:
            continue
        compared = [e for e in config.experiments.values() if e.model == alias]
        refs = [*refs_of_model(config, model)]
        refs += [ref for e in compared for ref in asked_refs(config, (e.control, *e.arms.values()))]
        places = dict.fromkeys((target.upstream, target.label) for target in map(target_of, refs))
        for arm in ("", "control", "candidate", OTHER) if compared else ("",):
            for upstream, name in places:
                for scorer in scorers:
                    yield {"alias": alias, "upstream": upstream, "model": name, "scorer": scorer, "arm": arm}
