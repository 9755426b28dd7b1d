"""`POST /v1/feedback`: a person's feedback on an answer, validated and handed to the recorder.

Whether the exchange belongs to the caller is checked by the evaluation consumer, which has the exchanges. Its verdict
comes back through the stream server; if none comes in time (the consumer is behind or down), the feedback is accepted.
"""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from gateway.core.errors import BadRequest, NotFound, Overloaded, StreamDown, TooLarge
from gateway.core.exchange import OF_RUN, Feedback, only_word_id, word_id
from gateway.proxy.app import Gateway
from gateway.proxy.request.auth import caller_of
from gateway.proxy.request.decompression import Decompression, encoding_of

MAX_BODY = 256 * 1024
_BOUNDS = {"id": 256, "run": 128, "name": 64, "label": 256, "comment": 16_384, "correction": 131_072}  # characters
_MEMBERS = (*_BOUNDS, "value")
_OURS = re.compile(r"([0-9a-f]{8})-([0-9a-f]{4})-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


Recall = Callable[[str], Awaitable[str | None]]
"""Reads a small text by its name, which another program has put into the stream server; None if it is not there."""


async def no_recall(_: str) -> str | None:
    """A Recall without a stream server."""
    return None


_LOOKS, _LOOK_S = 20, 0.05  # for a verdict, and the seconds between two of them
_LATE_S = 900.0  # after its call, within which an exchange reaches the store, if it ever does


def feedback_page(gateway: Callable[[], Gateway], recall: Recall = no_recall) -> Any:
    """200 if the exchange or run is known, 202 if it may still come, 404 if it is not the caller's.

    Feedback with the same id replaces the earlier one.
    """

    async def page(request: Request) -> Response:
        now = gateway()
        caller = caller_of(now.keys, request.scope)
        counts, metric = now.metrics.counts, now.metrics.feedback
        try:
            given = read_feedback(
                await _body(request), caller.name, request.headers.get("idempotency-key"), time.time()
            )
            check_range(given, now.config.feedback.range)
        except (BadRequest, TooLarge):
            counts.of(metric, "refused").n += 1
            raise
        if not now.recorder.feedback(given):
            counts.of(metric, "buffer_full").n += 1
            message = "the recorder's buffer is full, because the stream server does not take records; retry later"
            raise Overloaded(message, code="feedback_buffer_full", retry_after_s=5)
        verdict = await _verdict(recall, given)
        if verdict is not None and (verdict.get("foreign") or _too_late(verdict, given)):
            counts.of(metric, "not_found").n += 1
            raise _not_found(given)
        counts.of(metric, "accepted").n += 1
        exchange = verdict and verdict.get("exchange")
        run = given.id.removeprefix(OF_RUN) if given.id.startswith(OF_RUN) else None
        subject = {"exchange": exchange or given.id} if run is None else {"run": run, "exchange": exchange}
        body = {"id": given.feedback_id, "object": "feedback", **subject, "accepted": True}
        return Response(orjson.dumps(body), 200 if exchange else 202, media_type="application/json")

    return page


def _not_found(given: Feedback) -> NotFound:
    if given.id.startswith(OF_RUN):
        message = f"no recorded run of yours has the id {given.id.removeprefix(OF_RUN)[:100]!r}"
        return NotFound(message, param="run", code="run_not_found")
    message = f"no recorded exchange of yours has the id {given.id[:100]!r}"
    return NotFound(message, param="id", code="exchange_not_found")


async def _verdict(recall: Recall, given: Feedback) -> dict[str, Any] | None:
    """The consumer's verdict on this feedback, not on an earlier one with the same id. None if there is none yet."""
    for _ in range(_LOOKS):
        try:
            found = await recall(f"feedback:{given.feedback_id}")
        except StreamDown:
            return None
        if found is not None:
            verdict: dict[str, Any] = orjson.loads(found)
            if verdict["at"] >= given.at:
                return verdict
        await asyncio.sleep(_LOOK_S)
    return None


def _too_late(verdict: dict[str, Any], given: Feedback) -> bool:
    """Whether an unknown exchange will not come any more. Our ids contain the time of their call."""
    ours = _OURS.fullmatch(given.id)
    called = int(ours[1] + ours[2], 16) / 1000 if ours else given.at
    return verdict.get("exchange") is None and given.at - called > _LATE_S


async def _body(request: Request) -> bytes:
    encoding = encoding_of(request.headers.raw)
    decompression = None if encoding is None else Decompression(encoding, 2 * MAX_BODY)
    body = b""
    async for piece in request.stream():
        for part in (piece,) if decompression is None else decompression.feed(piece):
            body += part
            if len(body) > MAX_BODY:
                raise TooLarge(f"feedback is larger than {MAX_BODY} bytes", retry=False)
    if decompression is not None:
        decompression.end()
    return body


def read_feedback(body: bytes, caller: str, key: str | None, at: float) -> Feedback:
    """key: the idempotency key; None: one feedback for each caller, exchange and name. Raises BadRequest."""
    fields = _fields(body)
    texts = {name: _text(fields, name, bound) for name, bound in _BOUNDS.items()}
    name = texts["name"] or "feedback"
    exchange = _subject(texts["id"], texts["run"])
    if not all(c.isalnum() or c in "_-." for c in name) or not name.isascii():
        raise BadRequest(f"name: expected letters, digits, _ - and ., got {name!r}", param="name")
    value, data_type = _value(fields.get("value"))
    if data_type == "numeric" and value is None and texts["label"] is not None:
        data_type = "categorical"
    if value is None and not any(texts[n] for n in ("label", "comment", "correction")):
        raise _missing("value", "one of value, label, comment and correction at least")
    if key is not None and not 0 < len(key) <= 256:
        raise BadRequest("idempotency-key: expected 1 to 256 characters")
    own = only_word_id(caller, exchange, name) if key is None else word_id(caller, f"key\0{key}")
    return Feedback(
        exchange,
        own,
        caller,
        at,
        name,
        value,
        texts["label"],
        texts["comment"],
        texts["correction"],
        data_type=data_type,
    )


def _subject(exchange: str | None, run: str | None) -> str:
    """Reads the subject of the feedback. Raises BadRequest."""
    if exchange is not None and run is not None:
        raise BadRequest("feedback is on one answer (`id`) or on one run (`run`), not on both", param="run")
    if run is not None:
        return f"{OF_RUN}{run}"
    if exchange is None:
        what = (
            "the answer's x-request-id, or its own id (chatcmpl-…, resp_…, msg_…); or `run`, as x-gateway-run named it"
        )
        raise _missing("id", what)
    return exchange


def check_range(given: Feedback, ranges: Mapping[str, tuple[float, float]]) -> None:
    """Raises BadRequest for a value outside the range of its name."""
    low, high = ranges.get(given.name, (-math.inf, math.inf))
    if given.value is not None and not low <= given.value <= high:
        message = f"value: expected {low:g} to {high:g} for {given.name!r} (feedback.range), got {given.value:g}"
        raise BadRequest(message, param="value")


def _fields(body: bytes) -> dict[str, Any]:
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"the request body is not valid JSON: {error}") from None
    if not isinstance(fields, dict):
        raise BadRequest("the request body must be a JSON object")
    unknown = sorted(set(fields) - set(_MEMBERS))
    if unknown:
        raise BadRequest(f"unknown member {unknown[0][:100]!r}; known: {', '.join(_MEMBERS)}", param=unknown[0][:100])
    return fields


def _text(fields: dict[str, Any], name: str, most: int) -> str | None:
    value = fields.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise BadRequest(f"{name} must be a string", param=name)
    if len(value) > most:
        raise BadRequest(f"{name} has {len(value)} characters; at most {most} are taken", param=name)
    return value


def _value(value: Any) -> tuple[float | None, str]:
    if isinstance(value, bool):
        return float(value), "boolean"
    if value is None:
        return None, "numeric"
    if not isinstance(value, int | float) or not math.isfinite(value) or abs(value) > 1e15:
        raise BadRequest("value must be true, false or a number; a word is a `label`", param="value")
    return float(value), "numeric"


def _missing(name: str, what: str) -> BadRequest:
    return BadRequest(f"missing {name}: {what}", param=name, code="missing_required_parameter")
