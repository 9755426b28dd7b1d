"""Reads plain answers, mostly without parsing them: whether they are answers, and the tokens that they report. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from msgspec import Raw, Struct
from msgspec.json import Decoder

from gateway.core.completion import usage_of
from gateway.core.exchange import Usage
from gateway.proxy.dialects import lenient_json
from gateway.proxy.dialects.event_reader import error_message, is_request_error
from gateway.proxy.dialects.types import ErrorSource

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
"""The member `usage`, followed only by members of the same object, its end and the end of the body: so that object is
the top level, and this is its last `usage`. The lookbehind excludes an escaped quote, which does not start a name."""


def tail_usage(body: bytes) -> Usage | None:
    """The tokens that a JSON answer reports in its top-level `usage`; None if it reports none.

    body: a valid JSON object; for other bytes the result is undefined. Searches from the end.
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


_TAIL_BYTES = 256 << 10


class AnswerTail:
    """The last bytes of an answer that passes as it arrives, from which its usage is read: JSON, or events."""

    __slots__ = ("_pieces", "_size")

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0

    def add(self, data: bytes) -> None:
        self._pieces.append(data)
        self._size += len(data)
        if self._size > 2 * _TAIL_BYTES:
            self._pieces = [b"".join(self._pieces)[-_TAIL_BYTES:]]
            self._size = _TAIL_BYTES

    def usage(self) -> Usage | None:
        """The tokens that the answer, or the last event that has any, reports; None if it reports none, or a
        duration."""
        tail = b"".join(self._pieces)
        at = tail.rfind(b'"usage"')
        if at < 0:
            return None
        begin = tail.rfind(b"\ndata:", 0, at) + 1
        if not tail.startswith(b"data:", begin):
            return _tail_usage(tail, at)
        end = tail.find(b"\n", at)
        line = tail[begin : end if end >= 0 else len(tail)].removeprefix(b"data:").strip()
        return _tail_usage(line, line.rfind(b'"usage"'))


def _tail_usage(body: bytes, at: int) -> Usage | None:
    """body: a JSON object, or its end; at: where `"usage"` is last."""
    found = _LAST.match(body, at)
    try:
        usage = lenient_json.loads(body).get("usage") if found is None else lenient_json.loads(found[1])
    except (ValueError, AttributeError):
        return None
    return usage_of(usage)


class _AnswerHead(Struct):
    """The members that are read of an answer; msgspec validates and skips all others in the same pass."""

    error: Raw | None = None
    object: Any = None
    usage: Any = None


_ANSWER = Decoder(_AnswerHead)


def read_answer(
    body: bytes, *, lists: bool = False, read_usage: Callable[[Any], Usage | None] = usage_of
) -> Usage | None:
    """The tokens that the body of a 200 reply reports.

    Raises ValueError if the body is not an answer: not a JSON object (with `lists`: or list), truncated, or an error.
    """
    try:
        answer = _ANSWER.decode(body)
    except (ValueError, RecursionError):
        return _read_odd(body, lists=lists)
    if answer.error is not None or answer.object == "error":
        return _read_odd(body, lists=lists)
    return None if answer.usage is None else read_usage(answer.usage)


def _read_odd(body: bytes, *, lists: bool) -> Usage | None:
    """Reads a body that is a list, has a member `error`, or is not strict JSON: some servers write NaN, or half a
    surrogate pair, and clients accept it. A large body is parsed only if its brackets do not balance or a member is
    named "error"."""
    if len(body) > _VALIDATED_BYTES and not _doubtful(body, lists=lists):
        return tail_usage(body)
    try:
        whole = lenient_json.loads(body)
    except ValueError as error:
        raise ValueError(f"the body is not JSON: {error}" if body else "the body is empty") from None
    if type(whole) is not dict:
        if not (lists and isinstance(whole, list)):
            raise ValueError("the body is not a JSON object")
        return None
    answered = "choices" in whole and whole["choices"]
    if not answered and (whole.get("error") or whole.get("object") == "error"):
        raise ValueError(f"the body is an error: {error_message(whole.get('error') or whole)[:200]}")
    return usage_of(whole["usage"]) if "usage" in whole else None


def failed_response(body: bytes) -> ErrorSource | None:
    """Tells whether the request is at fault for a Response that failed, or only this answer. None for any other body.

    It failed if its status is "failed", or if it has an `error`, whatever its status: some servers give none."""
    try:
        response = lenient_json.loads(body)
    except ValueError:
        return None
    if not isinstance(response, dict) or response.get("object") != "response":
        return None
    if response.get("status") != "failed" and not response.get("error"):
        return None
    return "request" if is_request_error(response.get("error")) else "answer"


def _doubtful(body: bytes, *, lists: bool) -> bool:
    bare = body.strip()
    ends = bare[:1] + bare[-1:]
    if ends != b"{}" and not (lists and ends == b"[]"):
        return True
    if bare.count(b"{") != bare.count(b"}") or bare.count(b"[") != bare.count(b"]"):
        return True
    return bare.find(b'"error"') >= 0 and _ERROR.search(bare) is not None
