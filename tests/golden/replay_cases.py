"""A replay of questions to two targets, whose answers are scored and compared."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import orjson
from golden.cases import Case, basic

from gateway.core.randomization import draw
from gateway.fake import FakeAnswer, FakeUpstream, Received

SHARES = {"one": 0.8, "two": 0.6}
"""Share of the questions that a target answers rightly, by its name."""
ROWS = 160
_TIMES = {"p50", "p95", "curve", "first", "last", "created", "latency", "command"}


def answer(asked: Received) -> FakeAnswer:
    name, question = asked.json["model"], str(asked.json["messages"][-1]["content"])
    text = question.replace("question", "answer") if draw(name, question) < SHARES[name] else "no idea"
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    body = orjson.dumps({"choices": [choice], "usage": {"prompt_tokens": 10, "completion_tokens": len(text)}})
    return FakeAnswer(body, headers=(("x-gateway-upstream", name), ("x-gateway-model", "m")))


@contextmanager
def running_gateway() -> Iterator[str]:
    """The origin of a double of a gateway, in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    upstream = FakeUpstream()
    try:
        asyncio.run_coroutine_threadsafe(upstream.__aenter__(), loop).result(30)
        upstream.replies(answer)
        yield upstream.origin
    finally:
        asyncio.run_coroutine_threadsafe(upstream.__aexit__(None, None, None), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def untimed(found: Any) -> Any:
    """JSON without what a replay measures with a clock."""
    if isinstance(found, list):
        return [untimed(member) for member in found if not _of_time(member)]
    if isinstance(found, dict):
        return {name: untimed(member) for name, member in found.items() if name not in _TIMES}
    return found


def _of_time(member: Any) -> bool:
    return isinstance(member, dict) and member.get("metric") in ("total_s", "first_token_s")


def replay(case: Case) -> None:
    """A verdict on two targets with three scorers, and one with another margin from the stored answers."""
    world = case.world("replay")
    prices = {"as_of": "2026-09-01", "models": {"one/m": {"input": 2, "output": 8}, "two/m": {"input": 1, "output": 1}}}
    section = basic({}, prices=prices)
    target = {name: {"targets": [{"upstream": "local", "model": name}]} for name in SHARES}
    upstreams = {name: {"kind": "vllm", "base_url": "http://127.0.0.1:1/v1"} for name in (*SHARES, "local")}
    world.configure({**section, "models": {**section["models"], **target}, "upstreams": upstreams})
    rows = "".join(f"question {i},answer {i}\n" for i in range(ROWS))
    (world.folder / "questions.csv").write_text(f"examples,ground_truth\n{rows}")
    words = ("replay", "questions.csv", "--targets", "one,two", "--scorers", "exact,f1,length", "--concurrency", "1")
    with running_gateway() as origin:
        for margin in ("0.1", "0.6"):
            found = world.verb(*words, "--margin", margin, "--gateway", origin, "--data", "data", "--json")
            found.pop("notes", None)
            case.keep(f"margin {margin}", untimed(found))
