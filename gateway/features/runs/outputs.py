"""The form of what `gateway samples --run` prints with `--json`."""

from __future__ import annotations

from gateway.core.completion import ToolCall
from gateway.features.calls.outputs import opened_schema, required, row_schema, score_schema
from gateway.features.runs.rows import CALL_COLUMNS
from gateway.reports.output_schema import DIALECT, Schema
from gateway.store.tables import exchanges

_TEXT: Schema = {"type": "string"}
_MAYBE: Schema = {"type": ["string", "null"]}
_WHOLE: Schema = {"type": "integer"}
_MOMENT: Schema = {"type": "number", "description": "Unix seconds."}


def run_schema() -> Schema:
    """A run with the sums over its calls, its scores, and its calls in order of arrival."""
    calls = row_schema((exchanges.c[name] for name in CALL_COLUMNS.split()), **_of_call())
    found = {
        "run_id": _TEXT,
        "calls_n": _WHOLE,
        "failed": {"type": "integer", "description": "Calls that failed."},
        "tokens": {"type": ["integer", "null"]},
        "cost_usd": {"type": ["number", "null"]},
        "began": _MOMENT,
        "ended": _MOMENT,
        "caller": _TEXT,
        "alias": _TEXT,
        "run": _MAYBE,
        "run_source": _MAYBE,
        "arm": _MAYBE,
        "scores": score_schema(),
        "calls": {"type": "array", "items": calls},
    }
    return {"$schema": DIALECT, "title": "A run", "type": "object", "properties": found, "required": required(found),
            "additionalProperties": False}  # fmt: skip


def _of_call() -> dict[str, Schema]:
    """Members of a call that the store has in another form."""
    tool = opened_schema(ToolCall)
    nth: Schema = {"type": "integer", "description": "1: the run makes this call of a tool for the first time."}
    tool = {**tool, "properties": {**tool["properties"], "time": nth}, "required": [*tool["required"], "time"]}
    return {
        "tool_calls": {"type": "array", "items": tool},
        "scores": score_schema(),
        "failed": {"type": "boolean"},
    }
