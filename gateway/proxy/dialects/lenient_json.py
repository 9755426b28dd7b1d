"""JSON as providers write it, and requests that have to be translated. Pure.

orjson parses strict JSON. What it refuses is parsed by Python's own parser, because clients accept it too: half a
surrogate pair, NaN, bytes that are not UTF-8.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import orjson

from gateway.core.errors import BadRequest
from gateway.proxy.request.call import Call

Fields = dict[str, Any]
"""The members of a request's JSON object, by name."""


def loads(data: bytes) -> Any:
    """Raises ValueError."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        pass
    try:
        return json.loads(data.decode("utf-8-sig", "replace"))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def dumps(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        return json.dumps(value).encode()


def arguments_of(function: Fields) -> Fields | None:
    """The arguments of the call of a function; None if they are not a JSON object."""
    try:
        given = orjson.loads(function.get("arguments") or "{}")
    except (orjson.JSONDecodeError, TypeError):
        return None
    return given if isinstance(given, dict) else None


def translated(call: Call, translate: Callable[[Fields], Fields]) -> tuple[Fields, bytes]:
    """The translated members, and their JSON. Raises BadRequest for a body that cannot be parsed or translated."""
    try:
        fields = translate(_members(call))
        return fields, dumps(fields)
    except RecursionError:
        raise BadRequest("the request is nested too deeply to be translated for its upstream") from None
    except (AttributeError, LookupError, TypeError, ValueError):
        text = "the request cannot be translated for its upstream: a value in it is of another type than its API takes"
        raise BadRequest(text) from None


def _members(call: Call) -> Fields:
    """Parsed from the body, because call.fields omit large members."""
    try:
        fields = orjson.loads(call.body_with({}) if call.changes else call.body)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"the request body is not valid JSON: {error}") from None
    if not isinstance(fields, dict):
        raise BadRequest("the request body must be a JSON object")
    return fields
