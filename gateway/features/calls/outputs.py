"""The schemas of the output of `gateway samples` and `gateway erase` with `--json`: of calls, the store's columns.

Members that may be null are not required: `gateway samples --json` leaves them out if they are, without --all.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any, TypedDict

from gateway.core import exchange as records
from gateway.core.completion import ToolCall
from gateway.core.exchange import Attempt
from gateway.core.field_docs import field_docs
from gateway.reports.output_schema import DIALECT, Schema, schema_of
from gateway.store.query import LISTED, SHOWN
from gateway.store.tables import feedback, scores

_TYPES = {str: "string", bytes: "string", int: "integer", float: "number", bool: "boolean"}
_OPENED = {"attempts": Attempt, "tool_calls": ToolCall}
"""Columns of JSON that are printed as lists."""


class ErasureOutput(TypedDict):
    """Records that were erased, or would be."""

    erased: bool
    """Whether records were erased; False: a dry run."""
    counts: dict[str, int]
    """Records found, by kind; kinds without a record are left out."""
    audit: str | None
    """The id of the audit's line; None: a dry run."""
    arrived: int
    """Calls that were stored meanwhile, and are left for another run."""


def listed_schema() -> Schema:
    """A call in a list: without its texts, with its scores."""
    return {"$schema": DIALECT, "title": "A recorded call", **row_schema(LISTED, scores=score_schema())}


def whole_schema() -> Schema:
    """A call with its texts, scores, feedback and the ids of its shadows."""
    texts: Schema = {"type": "array", "items": {"type": "string"}}
    opinions: Schema = {"type": "array", "items": row_schema(feedback.columns)}
    row = row_schema(SHOWN, scores=score_schema(), feedback=opinions, shadows=texts)
    return {"$schema": DIALECT, "title": "A recorded call", **row}


def score_schema() -> Schema:
    """The scores of a call."""
    return {"type": "array", "items": row_schema(scores.columns, detail={})}


def row_schema(columns: Iterable[Any], **members: Schema) -> Schema:
    """The schema of a row of the store. members: those that replace a column, and additional ones."""
    said = field_docs(inspect.getsource(records), comments=True)["Exchange"]
    found = {str(each.name): _column(each, said.get(each.name)) for each in columns} | members
    return {"type": "object", "properties": found, "required": required(found), "additionalProperties": False}


def required(members: Mapping[str, Schema]) -> list[str]:
    """The members that cannot be null."""
    return [name for name, schema in members.items() if schema and "null" not in schema.get("type", ())]


def _column(column: Any, about: str | None) -> Schema:
    if column.name in _OPENED:
        return {"type": "array", "items": opened_schema(_OPENED[column.name])}
    kind = _TYPES[column.type.python_type]
    return {"type": [kind, "null"] if column.nullable else kind, **({"description": about} if about else {})}


def opened_schema(kind: type) -> Schema:
    """The schema of a dataclass that is stored as JSON, without references."""
    made = schema_of(kind)
    del made["$schema"]
    defined = made.pop("$defs", {})

    def resolved(part: Any) -> Any:
        if isinstance(part, dict) and "$ref" in part:
            return resolved(defined[part["$ref"].rpartition("/")[2]])
        if isinstance(part, dict):
            return {name: resolved(each) for name, each in part.items()}
        return [resolved(each) for each in part] if isinstance(part, list) else part

    found: Schema = resolved(made)
    return found
