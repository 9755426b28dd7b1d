"""A report as JSON, for programs. `report.schema.json`, next to this file, describes every field.

Within a version, fields are only added. To remove a field or change its meaning, increment VERSION.
"""

from __future__ import annotations

import math
from dataclasses import asdict, fields, is_dataclass, replace
from importlib.resources import files
from typing import Any

import orjson

from gateway.core.sanitize import to_json as indented
from gateway.reports.model import Comparison, Estimate, Progress, Report, SegmentReport, TrafficFacts
from gateway.reports.number_format import thinned
from gateway.reports.output_schema import Schema, closed
from gateway.verdict.report.presentation import STATES, sentence_of

VERSION = 1
SCHEMA_ID = "urn:assay-gateway:report:1"
"""The $id of the schema, by which other schemas refer to it."""
MOST_POINTS = 500  # of a trail or a curve: enough to draw it


def to_json(report: Report) -> str:
    """Indented JSON, with control characters escaped so that it is safe on a terminal."""
    return indented(to_dict(report))


def to_dict(report: Report) -> dict[str, Any]:
    said = sentence_of(report)
    fields_ = {
        "version": VERSION,
        **{name: value for name, value in _shallow(report).items() if name != "declared"},
        "primary": None if report.primary is None else comparison(report.primary),
        "guardrails": [comparison(c) for c in report.guardrails],
        "metrics": [comparison(c) for c in report.metrics],
        "trails": [replace(each, points=tuple(thinned(each.points, MOST_POINTS))) for each in report.trails],
        "latency": [replace(each, curve=tuple(thinned(each.curve, MOST_POINTS))) for each in report.latency],
        "gates": {g.name: {"state": STATES[g.state], "says": g.says, "value": g.value} for g in report.gates},
        "withheld": dict(report.withheld),
        "design": dict(report.design),
        "versions": dict(report.versions),
        "headline": {name: getattr(said, name) for name in ("text", "action", "settings")},
    }
    if report.best is None:  # a report of one candidate, or of a family that is not compared, stays as it was
        del fields_["best"]
    if report.traffic is not None:
        fields_["traffic"] = traffic(report.traffic)
    fields_["progress"] = progress(report.progress)
    fields_ |= {} if report.declared is None else {"declared": declared(report.declared)}
    jsonable: dict[str, Any] = _jsonable(fields_)
    return jsonable


def progress(of: Progress | None) -> dict[str, Any] | None:
    """The work that is left, with the next step where there is one."""
    return None if of is None else {name: v for name, v in _shallow(of).items() if name != "next_step" or v is not None}


def traffic(of: TrafficFacts) -> dict[str, Any]:
    """The facts of the traffic, which have no population with rules 1 and 2."""
    members = _shallow(of)
    return members if of.population else {name: v for name, v in members.items() if name not in _OF_POPULATIONS}


_OF_POPULATIONS = ("population", "unit", "units", "prompts", "blocks_min", "drift_p")


def declared(of: SegmentReport) -> dict[str, Any]:
    """Member that only reports of plans with segments have."""
    kept = of.kept
    metrics = [] if kept is None else [comparison(c) for c in kept.metrics]
    return {
        **_shallow(of),
        "segments": [_shallow(each) for each in of.segments],
        "kept": None if kept is None else {**_shallow(kept), "metrics": metrics},
    }


def comparison(c: Comparison) -> dict[str, Any]:
    """The difference and its bounds are members of the object itself, since most programs need only these three."""
    return {
        **{name: value for name, value in _shallow(c).items() if name not in ("counts", "stopped")},
        **_flat("a", c.a),
        **_flat("b", c.b),
        **{"difference": c.difference.value, "low": c.difference.low, "high": c.difference.high},
    }


def _flat(name: str, e: Estimate) -> dict[str, float | None]:
    return {name: e.value, f"{name}_low": e.low, f"{name}_high": e.high}


def schema() -> dict[str, Any]:
    """JSON Schema, draft 2020-12."""
    read: dict[str, Any] = orjson.loads(files(__package__).joinpath("report.schema.json").read_bytes())
    return read


def report_schema() -> Schema:
    """The schema of reports without members that this version does not print."""
    made: Schema = closed(schema())
    return made


def _shallow(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in fields(value)}


def _jsonable(value: Any) -> Any:
    """NaN and infinite numbers become null; lone surrogates, which JSON text cannot hold, become �."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {_jsonable(name): _jsonable(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(each) for each in value]
    return _jsonable(asdict(value)) if is_dataclass(value) and not isinstance(value, type) else value
