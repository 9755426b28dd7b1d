"""The access log: a line a call, cheap, and without a word of what was said."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

from gateway.exchange import Usage
from gateway.proxy.access import MOST_WAITING, AccessLog, Line, as_words, pieces

LINE = Line(
    1_700_000_000.25, "0192-id", "web", "chat", "chat", "local", "smollm2", True, 200, "ok", "", 2,
    Usage(12, 34), 0.081, 0.512, 0.0004, "",
)  # fmt: skip


def written(json_: bool, *lines: Line) -> str:
    out: list[bytes] = []
    log = AccessLog(json_, out.append)
    for line in lines:
        log.note(line)
    log.flush()
    return b"".join(out).decode()


def test_a_line_of_json_says_who_where_how_long_and_how_much() -> None:
    assert json.loads(written(True, LINE)) == {
        "time": "2023-11-14T22:13:20.250Z", "level": "INFO", "logger": "gateway.access", "id": "0192-id", "key": "web",
        "api": "chat", "alias": "chat", "upstream": "local", "model": "smollm2", "stream": True, "status": 200,
        "outcome": "ok", "error": None, "attempts": 2, "input_tokens": 12, "output_tokens": 34, "first_token_s": 0.081,
        "total_s": 0.512, "overhead_s": 0.0004,
    }  # fmt: skip


def test_a_line_of_words_is_for_people() -> None:
    assert written(False, LINE) == (
        "22:13:20.250 200 chat → local/smollm2 0.51 s, first 0.08 s, 12 + 34 tokens, 2 attempts [0192-id]\n"
    )
    refused = LINE._replace(
        alias="", upstream="", status=401, outcome="upstream_error", error="invalid_api_key", usage=None
    )
    assert b"401 chat 0.51 s" in as_words(refused)
    assert b"invalid_api_key" in as_words(refused)


def test_lines_of_several_workers_do_not_mix_in_a_pipe() -> None:
    lines = [b"x" * n + b"\n" for n in (3000, 1000, 200, 5000, 10)]
    found = pieces(lines)
    assert b"".join(found) == b"".join(lines)
    assert all(piece.endswith(b"\n") and (len(piece) <= 4096 or piece.count(b"\n") == 1) for piece in found)


def test_when_nobody_reads_lines_are_left_out_and_counted() -> None:
    out: list[bytes] = []
    log = AccessLog(True, out.append)
    for _ in range(MOST_WAITING + 3):
        log.note(LINE)
    log.flush()
    lines = b"".join(out).splitlines()
    assert len(lines) == MOST_WAITING + 1
    assert json.loads(lines[-1]) == {"access_lines_left_out": 3}


async def test_a_reader_that_stands_still_holds_no_call_up() -> None:
    standing = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stuck(piece: bytes) -> None:
        asyncio.run_coroutine_threadsafe(standing.wait(), loop).result(10)

    log = AccessLog(True, stuck)
    log.note(LINE)
    flushing = loop.create_task(asyncio.to_thread(log.flush))
    for _ in range(100):
        log.note(LINE)
        await asyncio.sleep(0)
    assert not flushing.done()
    standing.set()
    await flushing


def test_what_a_call_pays_for_it_is_small() -> None:
    """Relative, so that a busy machine does not decide: less than a tenth of what writing the line at once costs."""
    n = 2000

    def cost(note: Any) -> float:
        best = 1e9
        for _ in range(5):
            began = time.process_time()
            for _ in range(n):
                note()
            best = min(best, time.process_time() - began)
        return best

    log = AccessLog(True, lambda piece: None)
    noted = cost(lambda: log.note(LINE))
    log.flush()
    assert noted < 0.1 * cost(lambda: written(True, LINE))
