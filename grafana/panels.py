"""The shapes of Grafana: panels, rows, variables, a dashboard. Knows no metric."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

SOURCE = {"type": "prometheus", "uid": "${source}"}
TAG = "assay-gateway"
WIDE, HEIGHT, STAT_HEIGHT = 24, 8, 4
ROW_SPACING = 100
"""Grid lines from one row's header to the next: a row that grows moves no other. Grafana closes the gaps."""

Step = tuple[float | None, str]
"""A value and the colour from there on; None: from the beginning."""

PLAIN: tuple[Step, ...] = ((None, "blue"),)
ALARM: tuple[Step, ...] = ((None, "green"), (1e-9, "red"))
MUST_BE_ONE: tuple[Step, ...] = ((None, "red"), (1.0, "green"))


@dataclass(frozen=True)
class Query:
    """One line of PromQL of a panel. legend: "" is Grafana's own. instant: only the newest value."""

    expr: str
    legend: str = ""
    instant: bool = False


@dataclass(frozen=True)
class Panel:
    """One panel.

    unit: Grafana's name. about: what a reader must know to act on it. steps: colours by value. names: texts by value.
    repeat: the variable of which each value gets a panel. between: (legend of the lower line, of the upper): the space
    between is filled.
    """

    title: str
    queries: Sequence[Query]
    about: str
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8
    steps: tuple[Step, ...] = PLAIN
    names: dict[str, tuple[str, str]] = field(default_factory=dict)
    stacked: bool = False
    low: float | None = None
    high: float | None = None
    repeat: str = ""
    between: tuple[str, str] | None = None


@dataclass(frozen=True)
class Row:
    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True)
class Variable:
    """A choice at the top of a dashboard. values: PromQL whose label gives the choices."""

    name: str
    label: str
    values: str
    about: str = ""


@dataclass(frozen=True)
class Dashboard:
    uid: str
    title: str
    about: str
    variables: Sequence[Variable]
    rows: Sequence[Row]


def stat(title: str, expr: str, about: str, unit: str = "short", steps: tuple[Step, ...] = PLAIN, **more: Any) -> Panel:
    """A panel of one number, with its recent course behind it."""
    return Panel(title, [Query(expr)], about, unit, "stat", 4, steps, **more)


def document(dashboard: Dashboard) -> dict[str, Any]:
    """The JSON that Grafana reads."""
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "description": dashboard.about,
        "tags": [TAG],
        "timezone": "browser",
        "editable": True,
        "graphTooltip": 1,
        "schemaVersion": 41,
        "version": 1,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [_source(), *map(_variable, dashboard.variables)]},
        "annotations": {"list": [_alerts(), _verdicts()]},
        "links": [_links()],
        "panels": _placed(dashboard.rows),
    }


def _placed(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Panels from left to right, and on the next line when one is full.

    Nothing in a panel depends on other rows, nor on the panels that follow it in its own, so that a new panel changes
    no line of the others' JSON.
    """
    placed: list[dict[str, Any]] = []
    for number, row in enumerate(rows):
        x, y = 0, number * ROW_SPACING
        at = {"h": 1, "w": WIDE, "x": x, "y": y}
        placed.append({"id": _stable_id(row.title), "type": "row", "title": row.title, "collapsed": False, "panels": [],
                       "gridPos": at})  # fmt: skip
        y += 1
        height = STAT_HEIGHT if all(p.kind == "stat" for p in row.panels) else HEIGHT
        for panel in row.panels:
            if x + panel.width > WIDE:
                x, y = 0, y + height
            at = {"h": height, "w": panel.width, "x": x, "y": y}
            placed.append(_panel(panel, _stable_id(row.title, panel.title), at))
            x += panel.width
    _check_ids(placed)
    return placed


def _stable_id(*titles: str) -> int:
    """A panel's id, from the titles of its row and of itself: links to a panel survive the addition of others."""
    return zlib.crc32("/".join(titles).encode()) & 0x7FFFFFFF  # Grafana reads it as a positive 32-bit number


def _check_ids(placed: Sequence[dict[str, Any]]) -> None:
    titles: dict[int, str] = {}
    for panel in placed:
        if panel["id"] in titles:
            raise SystemExit(
                f'panels "{titles[panel["id"]]}" and "{panel["title"]}" get the same id: rename one, or its row'
            )
        titles[panel["id"]] = panel["title"]


def _panel(panel: Panel, number: int, at: dict[str, int]) -> dict[str, Any]:
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": SOURCE,
        "gridPos": at,
        "fieldConfig": {"defaults": _defaults(panel), "overrides": _overrides(panel)},
        "options": _options(panel.kind),
        "targets": [_target(panel.kind, i, query) for i, query in enumerate(panel.queries)],
        **({"repeat": panel.repeat, "repeatDirection": "h", "maxPerRow": 3} if panel.repeat else {}),
    }


def _target(kind: str, number: int, query: Query) -> dict[str, Any]:
    instant = query.instant or kind in ("table", "bargauge")
    shape = {"table": "table", "heatmap": "heatmap"}.get(kind, "time_series")
    return {
        "refId": chr(ord("A") + number),
        "datasource": SOURCE,
        "expr": query.expr,
        "legendFormat": query.legend or "__auto",
        "editorMode": "code",
        "format": shape,
        "instant": instant,
        "range": not instant,
    }


def _defaults(panel: Panel) -> dict[str, Any]:
    steps = [{"value": value, "color": color} for value, color in panel.steps]
    texts = {
        value: {"text": text, "color": color, "index": i}
        for i, (value, (text, color)) in enumerate(panel.names.items())
    }
    found: dict[str, Any] = {
        "unit": panel.unit,
        "color": {"mode": "palette-classic" if panel.kind == "timeseries" else "thresholds"},
        "thresholds": {"mode": "absolute", "steps": steps},
        "mappings": [{"type": "value", "options": texts}] if texts else [],
    }
    if panel.low is not None:
        found["min"] = panel.low
    if panel.high is not None:
        found["max"] = panel.high
    if panel.kind == "timeseries":
        found["custom"] = {
            "drawStyle": "line",
            "lineWidth": 1,
            "fillOpacity": 20 if panel.stacked else 5,
            "showPoints": "never",
            "spanNulls": False,
            "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
            "thresholdsStyle": {"mode": "off" if panel.steps == PLAIN else "line"},
        }
    return found


def _overrides(panel: Panel) -> list[dict[str, Any]]:
    if panel.between is None:
        return []
    low, high = panel.between
    band = [{"id": "custom.fillBelowTo", "value": low}, {"id": "custom.fillOpacity", "value": 15},
            {"id": "custom.lineWidth", "value": 0}]  # fmt: skip
    return [
        {"matcher": {"id": "byName", "options": high}, "properties": band},
        {"matcher": {"id": "byName", "options": low}, "properties": [{"id": "custom.lineWidth", "value": 0}]},
    ]


def _options(kind: str) -> dict[str, Any]:
    legend = {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []}
    reduced = {"calcs": ["lastNotNull"], "fields": "", "values": False}
    return {
        "timeseries": {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}},
        "stat": {
            "reduceOptions": reduced, "colorMode": "value", "graphMode": "area", "textMode": "auto", "justifyMode": "auto",
            "orientation": "auto", "wideLayout": True,
        },
        "state-timeline": {
            "mergeValues": True, "showValue": "auto", "rowHeight": 0.9, "alignValue": "left", "legend": legend,
            "tooltip": {"mode": "single", "sort": "none"},
        },
        "bargauge": {
            "reduceOptions": reduced, "displayMode": "basic", "orientation": "horizontal", "valueMode": "color",
            "namePlacement": "auto", "showUnfilled": True, "sizing": "auto", "minVizWidth": 8, "minVizHeight": 16,
            "maxVizHeight": 32, "legend": {**legend, "showLegend": False},
        },
        "heatmap": {
            "calculate": False, "cellGap": 1, "color": {"mode": "scheme", "scheme": "Blues", "steps": 64, "exponent": 0.5,
            "fill": "dark-blue", "reverse": False}, "yAxis": {"axisPlacement": "left", "unit": "s"},
            "legend": {"show": True}, "tooltip": {"mode": "single", "yHistogram": False, "showColorScale": False},
            "exemplars": {"color": "orange"}, "showValue": "never",
        },
    }[kind]  # fmt: skip


def _source() -> dict[str, Any]:
    return {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus", "hide": 0}


def _variable(variable: Variable) -> dict[str, Any]:
    return {
        "name": variable.name,
        "label": variable.label,
        "description": variable.about,
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": variable.values, "refId": variable.name},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
        "hide": 0,
    }


def _alerts() -> dict[str, Any]:
    return {
        "name": "Alerts",
        "datasource": SOURCE,
        "enable": True,
        "iconColor": "red",
        "expr": 'ALERTS{alertname=~"Gateway.*", alertstate="firing"}',
        "titleFormat": "{{alertname}}",
        "textFormat": "{{alias}}{{upstream}}{{scorer}}{{experiment}}{{reason}}",
    }


def _verdicts() -> dict[str, Any]:
    """The moment of each verdict, with its sentence."""
    return {
        "name": "Verdicts",
        "datasource": SOURCE,
        "enable": True,
        "iconColor": "blue",
        "expr": "gateway_experiment_sentence",
        "titleFormat": "{{experiment}}",
        "textFormat": "{{sentence}}",
    }


def _links() -> dict[str, Any]:
    """The other dashboards, with the time and the choices made here."""
    return {
        "type": "dashboards", "title": "Assay Gateway", "tags": [TAG], "asDropdown": False, "includeVars": True,
        "keepTime": True, "targetBlank": False, "icon": "external link", "tooltip": "", "url": "",
    }  # fmt: skip
