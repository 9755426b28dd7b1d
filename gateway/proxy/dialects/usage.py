"""Tokens of a whole plain answer, mostly without parsing it. Pure."""

from __future__ import annotations

import re

from gateway.core.completion import usage_of
from gateway.core.exchange import Usage
from gateway.proxy.dialects import lenient

_SMALL = 4096  # parsing less than this is faster than not parsing it
_S = rb"[ \t\n\r]*+"
_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_WORD = rb"[^\"\[\]{},: \t\n\r]++"
_FLAT = rb"[\[{](?:[^\"\[\]{}]++|" + _STRING + rb")*+[\]}]"
_TWICE = rb"[\[{](?:[^\"\[\]{}]++|" + _STRING + rb"|" + _FLAT + rb")*+[\]}]"
_LAST = re.compile(
    rb'(?<!\\)"usage"' + _S + b":" + _S
    + rb"(\{(?:[^\"\[\]{}]++|" + _STRING + b"|" + _FLAT + rb")*+\})"
    + rb"(?:" + _S + b"," + _S + rb'"[^"\\]*+"' + _S + b":" + _S
    + rb"(?:" + _STRING + b"|" + _WORD + b"|" + _TWICE + rb"))*+" + _S + rb"\}" + _S + rb"\Z",
    re.S,
)  # fmt: skip
"""The member `usage`, then only further members of the same object, then the object's end and the body's: so that
object is the top level, and this the last `usage` in it. The lookbehind: an escaped quote begins no name."""


def tail_usage(body: bytes) -> Usage | None:
    """The tokens that a JSON answer states in its top-level `usage`; None when it states none.

    body: a valid JSON object, else the result may be either. Looks at the end, where nearly everybody puts it.
    """
    found = None
    if len(body) > _SMALL:
        at = body.rfind(b'"usage"')
        if at < 0 and body.find(b"\\u00") < 0:
            return None
        found = _LAST.match(body, at) if at >= 0 else None
    try:
        if found is not None:
            return usage_of(lenient.loads(found[1]))
        whole = lenient.loads(body)
    except ValueError:
        return None
    return usage_of(whole.get("usage")) if isinstance(whole, dict) else None
