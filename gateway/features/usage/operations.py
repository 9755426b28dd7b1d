"""The admin API's operation on usage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.console.api import (
    AdminAnswer,
    AdminCall,
    AdminOperations,
    Operation,
    QueryParameter,
    Schema,
    object_schema,
)
from gateway.console.errors import InvalidBody
from gateway.features.keys import directory
from gateway.features.usage import summary as usage
from gateway.features.usage.summary import NUMBERS
from gateway.store.usage import DIMENSIONS

BY = QueryParameter(
    "by", {"type": "string", "default": "source,team"}, f"What to sum by, with commas between: {', '.join(DIMENSIONS)}."
)
SINCE = QueryParameter("since", {"type": "string"}, "First day: 2026-11-01, or 7d. Default: this month's first.")
UNTIL = QueryParameter("until", {"type": "string"}, "Last day, included. Default: today. Days are UTC.")
WHERE = QueryParameter("where", {"type": "string"}, "Only usage of this: `team=search`, with commas between several.")
FORMAT = QueryParameter("format", {"enum": ["json", "csv"], "default": "json"}, "The form of the answer.")


async def _usage(call: AdminCall) -> AdminAnswer:
    q = call.query
    form = q.get("format", "json")
    if form not in ("json", "csv"):
        raise InvalidBody(f"format: expected json or csv, got {form[:20]!r}")
    by = dict.fromkeys(name.strip() for name in q.get("by", "source,team").split(",") if name.strip())
    filters = {}
    for each in filter(None, q.get("where", "").split(",")):
        name, separator, value = each.partition("=")
        if not separator:
            raise InvalidBody(f"where: {each[:50]!r} is not a condition; write team=search")
        filters[name.strip()] = value.strip()
    found = await directory.read_usage_report(call.admin, tuple(by), q.get("since"), q.get("until"), filters)
    return AdminAnswer(usage.as_csv(found) if form == "csv" else usage.as_json(found))


def _schemas(models: Mapping[str, Schema]) -> dict[str, Schema]:
    day: Schema = {"type": "string", "format": "date"}
    types: dict[str, Any] = {"usd": ["number", "null"], "gpu_seconds": "number"}
    figures = {name: {"type": types.get(name, "integer")} for name in NUMBERS}
    dimensions = {name: {"type": "string"} for name in (*DIMENSIONS, "key_name")}
    row = {**object_schema(figures), "properties": figures | dimensions}
    report = {
        "since": day,
        "until": day,
        "by": {"type": "array", "items": {"enum": list(DIMENSIONS)}},
        "rows": {"type": "array", "items": row},
        "total": object_schema(figures),
    }
    return {"usage": object_schema(report)}


_USED = "Tokens and costs of all calls, summed. Calls whose cost is unknown are counted as such, never as free."
_QUERY = (BY, SINCE, UNTIL, WHERE, FORMAT)
_READ = Operation(
    "GET", "/admin/v1/usage", _USED, "viewer", _usage, "usage", query=_QUERY, errors=(400,), csv=True, scoped=True
)
OPERATIONS = AdminOperations((_READ,), _schemas)
