"""JSON as vendors write it. Fast where it is strict JSON; else as Python's own parser takes it: with one half of a
surrogate pair, NaN, or bytes that are no UTF-8, which clients take too. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import orjson

from gateway.core.errors import BadRequest
from gateway.proxy.request.call import Call

Fields = dict[str, Any]
"""The members of a request's JSON object."""


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


def translated(call: Call, translate: Callable[[Fields], Fields]) -> tuple[Fields, bytes]:
    """The translated members, and the body that says them. Raises BadRequest for what cannot be read or said again."""
    try:
        fields = translate(_members(call))
        return fields, dumps(fields)
    except RecursionError:
        raise BadRequest("the request is nested too deeply to be translated for its upstream") from None


def _members(call: Call) -> Fields:
    """From the body: call.fields leave out what is large, and of a large body only the top level has been read."""
    try:
        asked = orjson.loads(call.body)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"the request body is not valid JSON: {error}") from None
    if not isinstance(asked, dict):
        raise BadRequest("the request body must be a JSON object")
    return asked
