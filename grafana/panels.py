"""The shapes of Grafana: panels, rows, variables, a dashboard. Knows no metric."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.cli.dashboards import flow

SOURCE = {"type": "prometheus", "uid": "${source}"}
TAG = "assay-gateway"
CONSOLE = "http://127.0.0.1:9102"
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
    """One line of PromQL of a panel. legend: "" is Grafana's own. instant: only the newest value.

    dashed: a line without a filling, as for the ends of an interval or an objective. unit, steps, names: of this query
    alone; lines of a unit of their own have an axis on the right. exemplars: single calls are dots that lead to the
    trace and to the console.
    """

    expr: str
    legend: str = ""
    instant: bool = False
    dashed: bool = False
    unit: str = ""
    steps: tuple[Step, ...] = ()
    names: dict[str, tuple[str, str]] = field(default_factory=dict)
    exemplars: bool = False


@dataclass(frozen=True)
class Panel:
    """One panel.

    unit: Grafana's name. about: what a reader must know to act on it. steps: colours by value. names: texts by value.
    repeat: the variable of which each value gets a panel. columns: names of a table's columns, by label, or by the
    query's letter for its values. console: the page of the console that has more; with a label of the series in it, a
    click on a value leads there.
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
    columns: dict[str, str] = field(default_factory=dict)
    console: str | None = None


@dataclass(frozen=True)
class Row:
    """opened: its panels are shown, and their queries run, when the dashboard is opened."""

    title: str
    panels: Sequence[Panel]
    opened: bool = False


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
    since: str = "now-1h"
    """Beginning of the time range at first."""


def estimate(name: str, selector: str, by: str, legend: str) -> list[Query]:
    """A metric that is an estimate, with both ends of its interval. by: its labels.

    The ends are lines: a band needs the names of the series, so that `gateway dashboards --config` draws it.
    """
    ends = [Query(f"max by ({by}) ({name}_{end}{selector})", f"{end} {legend}", dashed=True) for end in ("low", "high")]
    return [Query(f"max by ({by}) ({name}{selector})", legend), *ends]


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
        "refresh": "1m",
        "time": {"from": dashboard.since, "to": "now"},
        "templating": {"list": [_source(), *map(_variable, dashboard.variables), _console()]},
        "annotations": {"list": [_alerts(), _verdicts()]},
        "links": [_links(), _console_link()],
        "panels": _placed(dashboard.rows),
    }


def _placed(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Rows one below the other. The panels of a collapsed row are within it: Grafana asks nothing for them.

    Nothing in a panel depends on other rows, nor on the panels that follow it in its own, so that a new panel changes
    no line of the others' JSON.
    """
    placed: list[dict[str, Any]] = []
    for number, row in enumerate(rows):
        y = number * ROW_SPACING
        height = STAT_HEIGHT if all(panel.kind == "stat" for panel in row.panels) else HEIGHT
        panels = [_panel(panel, _stable_id(row.title, panel.title), height) for panel in row.panels]
        flow(panels, y + 1)
        placed.append({"id": _stable_id(row.title), "type": "row", "title": row.title, "collapsed": not row.opened,
                       "panels": [] if row.opened else panels, "gridPos": {"h": 1, "w": WIDE, "x": 0, "y": y}})  # fmt: skip
        placed += panels if row.opened else []
    _check_ids([panel for top in placed for panel in (top, *top.get("panels", ()))])
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


def _panel(panel: Panel, number: int, height: int) -> dict[str, Any]:
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": SOURCE,
        "gridPos": {"h": height, "w": panel.width, "x": 0, "y": 0},
        "fieldConfig": {"defaults": _defaults(panel), "overrides": _overrides(panel)},
        "options": _options(panel.kind),
        "targets": [_target(panel.kind, i, query) for i, query in enumerate(panel.queries)],
        **({"repeat": panel.repeat, "repeatDirection": "h", "maxPerRow": 3} if panel.repeat else {}),
        **({"transformations": _columns(panel.columns)} if panel.columns else {}),
        **({"links": [_to_console(panel.console)]} if _of_panel(panel.console) else {}),
    }


def _columns(names: dict[str, str]) -> list[dict[str, Any]]:
    """Rows of several queries with equal labels become one, with the columns in this order."""
    fields = {name if len(name) > 1 else f"Value #{name}": text for name, text in names.items()}
    order = {"excludeByName": {"Time": True}, "indexByName": {name: i for i, name in enumerate(fields)},
             "renameByName": fields}  # fmt: skip
    return [{"id": "merge", "options": {}}, {"id": "organize", "options": order}]


def _by_series(page: str | None) -> bool:
    return page is not None and "${__" in page


def _of_panel(page: str | None) -> bool:
    return page is not None and not _by_series(page)


def _to_console(page: str | None) -> dict[str, Any]:
    return {"title": "More in the console", "url": f"${{console}}/console{page}", "targetBlank": True}


def _target(kind: str, number: int, query: Query) -> dict[str, Any]:
    instant = query.instant or kind in ("table", "bargauge")
    shape = {"table": "table", "heatmap": "heatmap"}.get(kind, "time_series")
    return {
        "refId": _letter(number),
        "datasource": SOURCE,
        "expr": query.expr,
        "legendFormat": query.legend or "__auto",
        "editorMode": "code",
        "format": shape,
        "instant": instant,
        "range": not instant,
        **({"exemplar": True} if query.exemplars else {}),
    }


def _defaults(panel: Panel) -> dict[str, Any]:
    found: dict[str, Any] = {
        "unit": panel.unit,
        "color": {"mode": "palette-classic" if panel.kind == "timeseries" else "thresholds"},
        "thresholds": _thresholds(panel.steps),
        "mappings": _mappings(panel.names),
        **({"links": [_to_console(panel.console)]} if _by_series(panel.console) else {}),
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


def _thresholds(steps: tuple[Step, ...]) -> dict[str, Any]:
    return {"mode": "absolute", "steps": [{"value": value, "color": color} for value, color in steps]}


def _mappings(names: dict[str, tuple[str, str]]) -> list[dict[str, Any]]:
    texts = {
        value: {"text": text, "color": color, "index": i} for i, (value, (text, color)) in enumerate(names.items())
    }
    return [{"type": "value", "options": texts}] if texts else []


def _overrides(panel: Panel) -> list[dict[str, Any]]:
    """What differs of the lines of single queries, and of the columns of a table."""
    overrides = []
    for number, query in enumerate(panel.queries):
        matcher = "byName" if panel.columns else "byFrameRefID"
        options = panel.columns.get(_letter(number), _letter(number))
        if properties := _properties(query, panel.kind):
            overrides.append({"matcher": {"id": matcher, "options": options}, "properties": properties})
    return overrides


def _properties(query: Query, kind: str) -> list[dict[str, Any]]:
    values: dict[str, Any] = {}
    if query.dashed:
        values |= {"custom.lineStyle": {"fill": "dash", "dash": [6, 6]}, "custom.fillOpacity": 0,
                   "custom.stacking": {"mode": "none", "group": "B"}}  # fmt: skip
    if query.unit:
        values |= {"unit": query.unit} | ({"custom.axisPlacement": "right", "custom.fillOpacity": 0,
                   "custom.stacking": {"mode": "none", "group": "B"}} if kind == "timeseries" else {})  # fmt: skip
    if query.steps:
        values |= {"thresholds": _thresholds(query.steps)}
    if query.names:
        values |= {"mappings": _mappings(query.names)}
        if kind == "table":
            values |= {"custom.cellOptions": {"type": "color-text"}}
    return [{"id": name, "value": value} for name, value in values.items()]


def _letter(number: int) -> str:
    return chr(ord("A") + number)


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
        "table": {"showHeader": True, "cellHeight": "sm", "footer": {"show": False, "reducer": ["sum"], "fields": ""}},
    }[kind]  # fmt: skip


def _source() -> dict[str, Any]:
    return {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus", "hide": 0}


def _console() -> dict[str, Any]:
    """The console's address, at which links to it begin."""
    return {
        "name": "console", "label": "Console", "type": "constant", "query": CONSOLE, "hide": 2, "skipUrlSync": True,
        "current": {"text": CONSOLE, "value": CONSOLE},
    }  # fmt: skip


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


def _console_link() -> dict[str, Any]:
    return {
        "type": "link", "title": "Console", "tags": [], "asDropdown": False, "includeVars": False, "keepTime": False,
        "targetBlank": True, "icon": "external link", "tooltip": "Answers, verdicts, keys", "url": "${console}/console",
    }  # fmt: skip
