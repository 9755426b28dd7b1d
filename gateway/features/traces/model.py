"""A trace's description of one call to a model, and the exchange that is made of it. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import orjson

from gateway.core.exchange import (
    IMPORTED,
    IMPORTED_VERSION,
    Exchange,
    Outcome,
    Target,
    Usage,
    cluster_digest,
    new_id,
    user_digest,
)
from gateway.core.randomization import draw

STRATUM = "imported"
_LONGEST_NAME = 200
_UNPRINTABLE = re.compile(r"[^\x21-\x7e]+")
_INLINE = re.compile(rb"(data:[\w.+/-]{1,100};base64,)([A-Za-z0-9+/=]+)")
_LATEST = float(1 << 37)  # Unix seconds that an id can hold


class InvalidTrace(ValueError):
    """A file, a row or a span that cannot be read; the message says what was expected, and what to do."""


@dataclass(frozen=True, slots=True)
class TracedCall:
    """One call as its trace describes it, in the same form for every program."""

    trace: str
    span: str
    began: float
    """Unix seconds."""
    seconds: float
    model: str
    """The model that the program named."""
    provider: str
    request: Mapping[str, Any]
    """The body of a request to Chat Completions."""
    response: Mapping[str, Any]
    """The body of its answer; of a call that failed, `{"error": …}`."""
    answered_by: str = ""
    """The model that answered, by its provider's name; "": as named."""
    status: int = 200
    outcome: Outcome = "ok"
    usage: Usage | None = None
    first_token_s: float | None = None
    stream: bool = False
    caller: str = ""
    """The service or the key that called; "" if unknown."""
    user: str = ""
    """The end user; "" if unknown."""
    conversation: str = ""
    """The conversation or session that calls belong to; "": their trace."""
    pi: float | None = None
    """The probability with which the trace was kept, where it says so."""


@dataclass(frozen=True, slots=True)
class SpanRecord:
    """A span of a trace: a call, or anything else that happened."""

    place: str
    """Location for messages: "spans.json: line 3: span 00f067aa0ba902b7"."""
    trace: str
    span: str
    parent: str = ""
    """The span that it is part of; "": none."""
    call: TracedCall | None = None
    left_out: str = ""
    """Reason why a call cannot be imported; "" if it can, or if the span is not a call."""


SpanKey = tuple[str, str]
"""A trace and a span of it."""


def spans_around(
    parents: Mapping[SpanKey, str], spans: Iterable[SpanKey], known: Collection[SpanKey] = ()
) -> set[SpanKey]:
    """The spans around any of these. Each is visited once, however long the chains are that share it.

    known: spans at which a chain is left, since those around them are known.
    """
    found: set[SpanKey] = set()
    for span in spans:
        key = span
        while parent := parents.get(key):
            key = key[0], parent
            if key == span or key in found or key in known:
                break
            found.add(key)
    return found


def spans_within(parents: Mapping[SpanKey, str], spans: Collection[SpanKey]) -> set[SpanKey]:
    """The spans below any of these. Each is visited once."""
    below: dict[SpanKey, list[SpanKey]] = {}
    for (trace, span), parent in parents.items():
        below.setdefault((trace, parent), []).append((trace, span))
    found: set[SpanKey] = set()
    waiting = list(spans)
    while waiting:
        new = [key for key in below.pop(waiting.pop(), ()) if key not in found]
        found.update(new)
        waiting += new
    return found


@dataclass(slots=True)
class Nesting:
    """The calls that describe another one: a framework's span around the span of the client that it uses. Only the
    innermost with content counts. Spans may come in any order."""

    _parents: dict[SpanKey, str] = field(default_factory=dict)
    _calls: set[SpanKey] = field(default_factory=set)

    def add(self, record: SpanRecord) -> None:
        key = record.trace, record.span
        if record.parent:
            self._parents[key] = record.parent
        if record.call is not None:
            self._calls.add(key)

    def around_calls(self) -> set[SpanKey]:
        """The spans that have a call below them."""
        return spans_around(self._parents, self._calls)

    def within_calls(self) -> set[SpanKey]:
        """The spans that have a call around them."""
        return spans_within(self._parents, self._calls)

    def wrappers(self) -> set[SpanKey]:
        """The calls that have another one below them."""
        return self._calls & self.around_calls()


def without_content(records: Iterable[SpanRecord], nesting: Nesting) -> list[SpanRecord]:
    """The calls that cannot be imported. Clients make spans of their own without content, within or around those of an
    instrumentation that have it: these are not missing."""
    near = nesting.around_calls() | nesting.within_calls()
    return [record for record in records if record.left_out and (record.trace, record.span) not in near]


def exchange_id(began: float, trace: str, span: str) -> str:
    """The id of a call: the same each time that it is read, and in the order of time among all others."""
    digest = sha256(f"{trace}\0{span}".encode("utf-8", "surrogatepass")).digest()
    return new_id(int(began * 1000) * 1_000_000, digest[:10])


def check_time(call: TracedCall, place: str) -> None:
    """Raises InvalidTrace for a time that no id can hold."""
    if not 0 < call.began < _LATEST:
        raise InvalidTrace(
            f"{place}: its start, {call.began!r} in Unix seconds, is not a time; expected one after 1970"
        )


def exchange_of(call: TracedCall) -> Exchange:
    """The record of a call whose time is checked."""
    id = exchange_id(call.began, call.trace, call.span)
    group = call.conversation or call.trace
    alias = _name(call.model, "unknown")
    return Exchange(
        id=id,
        received=call.began,
        caller=_name(call.caller, "imported"),
        api="chat",
        alias=alias,
        target=Target(_name(call.provider, "unknown"), _name(call.answered_by, alias)),
        stream=call.stream,
        request=_body(call.request),
        response=_body(call.response),
        status=call.status,
        outcome=call.outcome,
        total_s=max(0.0, call.seconds),
        unit=id,
        u=draw("imported", id),
        pi=call.pi,
        stratum=STRATUM,
        incarnation="",
        seq=0,
        v=IMPORTED_VERSION,
        role=IMPORTED,
        cluster=cluster_digest(group),
        usage=call.usage,
        first_token_s=call.first_token_s,
        user_digest=user_digest(call.user) if call.user else None,
        run=call.trace,
        run_source="trace",
        model_returned=_name(call.answered_by, "") or None,
    )


def _name(text: str, otherwise: str) -> str:
    """A name without blanks and unprintable characters."""
    return _UNPRINTABLE.sub("-", text.strip())[:_LONGEST_NAME] or otherwise


def _body(content: Mapping[str, Any]) -> bytes:
    """JSON, with the payload of images and files replaced by its digest, as the gateway records them."""
    body = orjson.dumps(content, option=orjson.OPT_NON_STR_KEYS)
    return _INLINE.sub(_placeholder, body) if b";base64," in body else body


def _placeholder(match: re.Match[bytes]) -> bytes:
    payload = match[2]
    size = len(payload) * 3 // 4
    return b"%bsha256=%b;bytes=%d" % (match[1], sha256(payload).hexdigest().encode(), size)
