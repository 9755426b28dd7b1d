"""The form of what `gateway samples --run` and `gateway runs` print with `--json`."""

from __future__ import annotations

from typing import TypedDict

from gateway.core.completion import ToolCall
from gateway.features.calls.outputs import opened_schema, required, row_schema, score_schema
from gateway.features.runs.rows import CALL_COLUMNS
from gateway.reports.output_schema import DIALECT, Schema
from gateway.store.tables import exchanges

_TEXT: Schema = {"type": "string"}
_MAYBE: Schema = {"type": ["string", "null"]}
_WHOLE: Schema = {"type": "integer"}
_MOMENT: Schema = {"type": "number", "description": "Unix seconds."}


class CeilingOutput(TypedDict):
    """One ceiling of a run that had a call in the last day."""

    run_id: str
    run: str
    ceiling: str
    amount: float
    spent: float
    reserved: float
    began: float
    added: float
    ended: str
    on_end: str
    minutes: float
    minutes_added: float
    caller: str
    per_hour: float


def run_schema() -> Schema:
    """A run with the sums over its calls, its scores, and its calls in order of arrival."""
    calls = row_schema((exchanges.c[name] for name in CALL_COLUMNS.split()), **_of_call())
    return _described({**_sums(), "calls": {"type": "array", "items": calls}})


def listed_schema() -> Schema:
    """A run with the sums over its calls, and its scores."""
    return _described({**_sums(), "placed": {"type": "number", "description": "Its place in the list."}})


def _sums() -> dict[str, Schema]:
    return {
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
    }


def _described(found: dict[str, Schema]) -> Schema:
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
