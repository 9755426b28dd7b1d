"""A request taken apart, and put together again, where a dialect must translate it. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from gateway.core.errors import BadRequest
from gateway.proxy.dialects import lenient
from gateway.proxy.request.call import Call

Fields = dict[str, Any]


def translated(call: Call, translate: Callable[[Fields], Fields]) -> tuple[Fields, bytes]:
    """The translated members, and the body that says them. Raises BadRequest for what cannot be read or said again."""
    try:
        fields = translate(_members(call))
        return fields, lenient.dumps(fields)
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
