"""Redaction beside the requests: in turns on the event loop, or on a thread when a body is large. It fails closed."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Literal

from gateway.core.exchange import Exchange, Feedback
from gateway.proxy.recording.redaction.redactor import RedactedRecord, Redactor, without_content

log = logging.getLogger(__name__)

LARGE = 256 * 1024  # bytes; reading a larger body takes milliseconds in one piece
_TURN_S = 0.001

Failure = Literal["timeout", "error"]


async def redacted(redactor: Redactor, record: Exchange | Feedback, size: int) -> tuple[RedactedRecord, Failure | None]:
    """What may leave. A failure leaves nothing of the content, and is said."""
    try:
        if size > LARGE:
            return await asyncio.to_thread(_whole, redactor, record), None
        return await _in_turns(redactor, record), None
    except TimeoutError:
        failure: Failure = "timeout"
    except Exception as error:  # whatever it is, nothing unredacted leaves; its words may hold what was to be redacted
        log.error("redaction failed (%s); nothing of the content of %s is kept", type(error).__name__, record.id)
        failure = "error"
    return RedactedRecord(without_content(record)), failure


async def _in_turns(redactor: Redactor, record: Exchange | Feedback) -> RedactedRecord:
    slices = redactor.slices(record)
    turn = time.monotonic()
    ends = turn + redactor.deadline_s
    while True:
        try:
            next(slices)
        except StopIteration as stop:
            done: RedactedRecord = stop.value
            return done
        now = time.monotonic()
        if now > ends:
            raise TimeoutError
        if now - turn > _TURN_S:
            await asyncio.sleep(0)
            turn = time.monotonic()


def _whole(redactor: Redactor, record: Exchange | Feedback) -> RedactedRecord:
    slices = redactor.slices(record)
    ends = time.monotonic() + redactor.deadline_s
    while True:
        try:
            next(slices)
        except StopIteration as stop:
            done: RedactedRecord = stop.value
            return done
        if time.monotonic() > ends:
            raise TimeoutError
