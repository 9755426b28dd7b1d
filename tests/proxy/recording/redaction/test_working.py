"""Redaction beside requests: in turns, on a thread for what is large, and closed when it fails."""

from __future__ import annotations

import asyncio
import time

import orjson
import pytest

from gateway.config.privacy import RedactionConfig
from gateway.proxy.recording.redaction import working
from gateway.proxy.recording.redaction.redactor import Redactor


def body(text: str) -> bytes:
    return orjson.dumps({"messages": [{"role": "user", "content": text}]})


async def longest_wait(work) -> tuple[object, float]:
    """What the work gives, and the most time that the loop's thread was at work between two turns."""
    longest, last = 0.0, time.thread_time()
    task = asyncio.get_running_loop().create_task(work)
    while not task.done():
        await asyncio.sleep(0)
        now = time.thread_time()
        longest, last = max(longest, now - last), now
    return task.result(), longest


@pytest.mark.parametrize("size", [1000, 200_000, 900_000])
async def test_others_have_their_turn_meanwhile(size, redactor, exchange):
    text = "so it is said: a@b.example, and more. " * (size // 40)
    record = exchange(body(text))
    (done, failure), waited = await longest_wait(working.redacted(redactor, record, len(record.request)))
    assert failure is None
    assert b"a@b" not in done.record.request
    assert waited < 0.1


async def test_what_takes_too_long_loses_its_content_and_says_so(exchange):
    redactor = Redactor("redacted", RedactionConfig(deadline_s=1e-9))
    for size in (10, working.LARGE + 1):
        done, failure = await working.redacted(redactor, exchange(body("a@b.example " * 10)), size)
        assert failure == "timeout"
        assert (done.record.request, done.record.response) == (b"{}", b"")


async def test_what_fails_loses_its_content_and_the_log_holds_none_of_it(exchange, redactor, caplog, monkeypatch):
    def slices(record):
        yield
        raise ValueError(str(record))

    monkeypatch.setattr(redactor, "slices", slices)
    done, failure = await working.redacted(redactor, exchange(body("a@b.example")), 10)
    assert failure == "error"
    assert (done.record.request, done.record.response) == (b"{}", b"")
    assert "ValueError" in caplog.text
    assert "a@b" not in caplog.text


async def test_json_too_deep_to_be_followed_is_not_kept(redactor, exchange):
    deep = b'{"a":' * 1000 + b'"a@b.example"' + b"}" * 1000
    done, _ = await working.redacted(redactor, exchange(deep), 10)
    assert b"a@b" not in done.record.request
