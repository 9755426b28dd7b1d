"""The access log: a line a call, cheap, and without a word of prompts and answers."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from pathlib import Path
from typing import Any

from gateway.core.exchange import Attempt, Target, Usage
from gateway.core.prices import Price, Prices
from gateway.proxy.recording.access_log import (
    AT_ONCE,
    MAX_WAITING,
    AccessLine,
    AccessLog,
    as_json,
    as_words,
    pieces,
)

SMALL, LARGE = Target("local", "smollm2"), Target("openai", "gpt-x")
PRICES = Prices({"smollm2": Price(1.0, 2.0), "gpt-x": Price(10.0, 100.0)})
TRIED = (Attempt(LARGE, 500, "HTTP 500", 0.1, Usage(10, 0)), Attempt(SMALL, 200, None, 0.4, Usage(12, 34, 4)))
LINE = AccessLine(
    1_700_000_000.25, "0192-id", "mine", "web", "192.0.2.7", "chat", 200, "ok", "", "local", 0.512, PRICES, "chat",
    "smollm2", True, "", TRIED, Usage(12, 34, 4), 0.081, 0.0004,
)  # fmt: skip
ROW = re.compile(r"\| `(\w+)` \| (\w+(?: or null)?) \| ")


def documented() -> list[tuple[str, str]]:
    """The members of a JSON line and their types, as docs/operations.md has them."""
    page = (Path(__file__).parents[3] / "docs" / "operations.md").read_text("utf-8")
    table = page.partition("The members of a JSON line, in this order:\n")[2].strip().partition("\n\n")[0]
    return [(found[1], found[2]) for row in table.splitlines()[2:] if (found := ROW.match(row))]


def written(json_: bool, *lines: AccessLine) -> str:
    out: list[bytes] = []
    log = AccessLog(json_, out.append)
    for line in lines:
        log.note(line)
    log.flush()
    return b"".join(out).decode()


def test_a_line_of_json_says_who_where_how_long_and_how_much() -> None:
    assert json.loads(written(True, LINE)) == {
        "time": "2023-11-14T22:13:20.250Z", "level": "INFO", "logger": "gateway.access", "id": "0192-id",
        "client_id": "mine", "key": "web", "client": "192.0.2.7", "api": "chat", "alias": "chat", "upstream": "local",
        "model": "smollm2", "stream": True, "status": 200, "outcome": "ok", "error": None, "failure": None,
        "attempts": 2, "input_tokens": 12, "output_tokens": 34, "cached_input_tokens": 4, "reasoning_tokens": None,
        "cost_usd": 0.00018, "first_token_s": 0.081, "total_s": 0.512, "overhead_s": 0.0004,
    }  # fmt: skip


def test_the_page_documents_every_member_in_its_order() -> None:
    traced = written(True, LINE._replace(trace="ab" * 16))
    assert [*json.loads(traced)] == [name for name, _ in documented()]


def test_the_type_of_each_member_is_the_documented_one() -> None:
    empty = LINE._replace(client_id="", key="", client="", usage=None, first_token_s=None, trace="ab" * 16)
    kinds = {"string": str, "integer": int, "number": float, "boolean": bool}
    for text in (written(True, LINE._replace(trace="ab" * 16)), written(True, empty)):
        for (name, type_), value in zip(documented(), json.loads(text).values(), strict=True):
            kind, _, null = type_.partition(" or ")
            assert isinstance(value, kinds[kind]) or (null == "null" and value is None), name


def test_a_cost_is_unknown_where_a_price_or_the_usage_is() -> None:
    assert json.loads(written(True, LINE._replace(prices=Prices())))["cost_usd"] is None
    assert json.loads(written(True, LINE._replace(usage=None, attempts=())))["cost_usd"] is None


def test_a_line_of_words_is_for_people() -> None:
    assert written(False, LINE) == (
        "22:13:20.250 200 chat → local/smollm2 0.51 s, first 0.08 s, 12 + 34 tokens, $0.00018, 2 attempts, key web "
        "[0192-id]\n"
    )
    refused = LINE._replace(
        alias="", upstream="", status=401, outcome="client_error", error="invalid_api_key", usage=None, attempts=()
    )
    assert b"401 chat 0.51 s" in as_words(refused)
    assert b"invalid_api_key" in as_words(refused)


def test_texts_of_an_upstream_forge_no_line() -> None:
    """An upstream's error code is a text of its choice, or of its client's."""
    forged = LINE._replace(failure="HTTP 400 x\n22:13:20.250 200 chat\x1b[2J\x9b31m")
    assert as_words(forged).count(b"\n") == 1
    assert b"\x1b" not in as_words(forged)
    assert as_json(forged).isascii()
    assert json.loads(as_json(forged))["failure"] == forged.failure


def test_lines_of_several_workers_do_not_mix_in_a_pipe() -> None:
    lines = [b"x" * n + b"\n" for n in (3000, 1000, 200, 5000, 10)]
    found = pieces(lines)
    assert b"".join(found) == b"".join(lines)
    assert all(piece.endswith(b"\n") and (len(piece) <= 4096 or piece.count(b"\n") == 1) for piece in found)


def test_when_nobody_reads_lines_are_left_out_and_counted() -> None:
    out: list[bytes] = []
    log = AccessLog(True, out.append)
    for _ in range(MAX_WAITING + 3):
        log.note(LINE)
    log.flush()
    lines = b"".join(out).splitlines()
    assert len(lines) == MAX_WAITING + 1
    assert json.loads(lines[-1]) == {"access_lines_left_out": 3}


async def test_a_reader_that_stands_still_holds_no_call_up() -> None:
    reading = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stuck(piece: bytes) -> None:
        asyncio.run_coroutine_threadsafe(reading.wait(), loop).result(10)

    log = AccessLog(True, stuck)
    log.note(LINE)
    flushing = loop.create_task(asyncio.to_thread(log.flush))
    for _ in range(100):
        log.note(LINE)
        await asyncio.sleep(0)
    assert not flushing.done()
    reading.set()
    await flushing


def a_round(log: AccessLog, lines: int) -> asyncio.Task[None]:
    """Starts the log's own loop with this number of lines."""
    for n in range(lines):
        log.note(LINE._replace(id=str(n)))
    return asyncio.get_running_loop().create_task(log.run())


def ids(out: list[bytes]) -> list[int]:
    return [int(json.loads(line)["id"]) for line in b"".join(out).splitlines()]


async def test_the_thread_pauses_after_every_few_lines() -> None:
    """Calls would otherwise wait for as long as it takes to write thousands. Lines that come meanwhile are written
    too.
    """
    out: list[bytes] = []
    between: list[int] = []

    def pause(seconds: float) -> None:
        assert threading.current_thread() is not threading.main_thread()
        assert seconds > 0
        between.append(len(ids(out)) - sum(between))
        if len(between) == 2:
            log.note(LINE._replace(id="1000"))

    log = AccessLog(True, out.append, pause, every_s=0)
    running = a_round(log, 1000)
    async with asyncio.timeout(60):
        while len(ids(out)) < 1001:
            await asyncio.sleep(0.001)
    running.cancel()
    assert ids(out) == list(range(1001))
    assert max(between) <= AT_ONCE <= 100


async def test_flush_writes_everything_in_order() -> None:
    """Lines that a waiting thread had taken before are written too, once and in order."""
    out: list[bytes] = []
    rests, stopping = threading.Event(), threading.Event()

    def pause(seconds: float) -> None:
        rests.set()
        assert stopping.wait(5)

    log = AccessLog(True, out.append, pause, every_s=0)
    running = a_round(log, 1000)
    assert await asyncio.to_thread(rests.wait, 5)
    running.cancel()
    assert len(ids(out)) == AT_ONCE
    await asyncio.to_thread(log.flush)
    assert ids(out) == list(range(1000))
    stopping.set()


def test_a_call_pays_a_tenth_of_writing_its_line(steps: Any) -> None:
    log = AccessLog(True, lambda piece: None)
    with steps() as noting:
        for _ in range(100):
            log.note(LINE)
    log.flush()
    with steps() as writing:
        for _ in range(100):
            written(True, LINE)
    assert noting.n <= 0.1 * writing.n
