"""Tokens of a whole plain answer, mostly without parsing it. Pure."""

from __future__ import annotations

import re

from gateway.core.completion import usage_of
from gateway.core.exchange import Usage
from gateway.proxy.dialects import lenient_json
from gateway.proxy.dialects.event_reader import message_of

_PARSED_BYTES = 4096  # below, parsing is faster than searching for the usage
_VALIDATED_BYTES = 16384  # below, parsing costs a few microseconds
_ERROR = re.compile(rb'"error"(?!\s*:\s*null)')
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
    if len(body) > _PARSED_BYTES:
        at = body.rfind(b'"usage"')
        if at < 0 and body.find(b"\\u00") < 0:
            return None
        found = _LAST.match(body, at) if at >= 0 else None
    try:
        if found is not None:
            return usage_of(lenient_json.loads(found[1]))
        whole = lenient_json.loads(body)
    except ValueError:
        return None
    return usage_of(whole.get("usage")) if isinstance(whole, dict) else None


def read_answer(body: bytes, *, lists: bool = False) -> Usage | None:
    """The tokens that it states. Raises ValueError when a 200's body is no answer: not one JSON object (or list), cut
    short, or an error.

    A large body is parsed only in doubt: when its brackets do not add up, or something in it is named "error".
    """
    if len(body) > _VALIDATED_BYTES and not _doubtful(body, lists=lists):
        return tail_usage(body)
    try:
        whole = lenient_json.loads(body)
    except ValueError as error:
        raise ValueError(f"its body is not JSON: {error}" if body else "its body is empty") from None
    if not isinstance(whole, dict):
        if not (lists and isinstance(whole, list)):
            raise ValueError("its body is not a JSON object")
        return None
    if not whole.get("choices") and (whole.get("error") or whole.get("object") == "error"):
        raise ValueError(f"its body is an error: {message_of(whole.get('error') or whole)[:200]}")
    return usage_of(whole.get("usage"))


def _doubtful(body: bytes, *, lists: bool) -> bool:
    bare = body.strip()
    ends = bare[:1] + bare[-1:]
    if ends != b"{}" and not (lists and ends == b"[]"):
        return True
    if bare.count(b"{") != bare.count(b"}") or bare.count(b"[") != bare.count(b"]"):
        return True
    return bare.find(b'"error"') >= 0 and _ERROR.search(bare) is not None
