"""Counts what the gateway does for one request: a change that makes the hot path longer fails here.

Counted are the calls of functions, Python's and C's, that the gateway's own code makes. In one version of Python the
number is the same in every run, on every machine, under any load, unlike a time; and it moves with the CPU that a
request takes, since most of that is calls. A bound is what was counted with Python 3.11, and 2 % above it for other
versions (which make fewer). Who needs more calls for good reason moves the bound, and says why.
"""

from __future__ import annotations

import asyncio
import importlib.util
import random
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from fixtures.learned_routes import a_route

from gateway.core.learned_route import LearnedRoute, Node, RouteLeaf, RouteTarget
from gateway.core.request_features import FEATURES

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def counted() -> Any:
    """The function `counted` of calls.py, which counts the function calls of a block."""
    return _load("calls").counted


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(HERE))  # it imports its neighbours
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(HERE))
    return module


# kind, sampling rate, calls
BOUNDS = [("plain", 0.0, 190), ("plain", 1.0, 215), ("stream", 0.0, 1716)]


@pytest.mark.parametrize(("kind", "rate", "bound"), BOUNDS, ids=["plain", "plain, recorded", "103 events"])
def test_a_request_takes_no_more_calls_than_it_did(counted: Any, kind: str, rate: float, bound: int) -> None:
    calls = counted(kind, rate, 20)
    assert calls <= bound * 1.02, f"{calls:g} calls for one request; it was {bound}"
    assert calls >= bound * 0.7, f"{calls:g} calls: shorter by a third. Lower the bound, so that it stays so"


def test_the_count_is_the_same_each_time(counted: Any) -> None:
    assert counted("plain", 1.0, 20) == counted("plain", 1.0, 20)


def test_a_native_decision_takes_few_calls_more_than_a_chat(counted: Any) -> None:
    """The body is read once for its format, and its usage has the names of the Responses API."""
    found, plain = counted("decision", 0.0, 20), counted("plain", 0.0, 20)
    assert found - plain <= 8, f"{found - plain:g} calls more"


@pytest.mark.parametrize("questions", [8, 16])
def test_reads_take_fewer_calls_than_as_many_chats(counted: Any, questions: int) -> None:
    """One parse, one record and one settlement: with eight reads, each costs at most 0.6 of a chat."""
    found, plain = _load("calls").emulated(questions), counted("plain", 0.0, 20)
    assert found <= questions * 0.6 * plain, f"{found:g} calls for {questions} reads, {plain:g} for a chat"


DECIDED = 220
"""Calls for a chat that is answered by two decisions."""


def test_a_chat_that_decisions_answer_takes_no_more_calls() -> None:
    found = _load("calls").decided()
    assert found <= DECIDED * 1.02, f"{found:g} calls; it was {DECIDED}"
    assert found >= DECIDED * 0.7, f"{found:g} calls: shorter by a third. Lower the bound, so that it stays so"


def test_decisions_take_at_most_1_2_times_the_calls_of_a_chat(counted: Any) -> None:
    """The schema is read once, and its questions, its answer and its header are written from templates."""
    assert _load("calls").decided() <= 1.2 * counted("plain", 0.0, 20)


def test_limits_at_three_scopes_take_twelve_calls_at_most(counted: Any) -> None:
    without, limited = (counted("plain", 0.0, 20, limits) for limits in (False, True))
    assert 6 <= limited - without <= 12, f"{limited - without:g} calls more"


def test_a_ceiling_of_a_run_takes_few_calls(counted: Any) -> None:
    """A tenth of the calls of a plain request with a run; without a ceiling a run takes none."""
    without, with_ceiling = (counted("plain", 0.0, 20, limits, "task-42") for limits in (False, True))
    assert 6 <= with_ceiling - without <= 22, f"{with_ceiling - without:g} calls more"


@pytest.fixture(scope="module")
def guarded() -> Any:
    """The function `guarded` of calls.py."""
    return _load("calls").guarded


@pytest.mark.parametrize("action", ["observe", "redact", "block"])
def test_a_regex_guard_adds_few_calls_to_an_answer_of_a_kilobyte(guarded: Any, action: str) -> None:
    pattern = {"name": "staff", "regex": "EMP-[0-9]{6}"}
    guard = {"on": "answer", "scorer": "patterns", "action": action, "patterns": [pattern]}
    without, found = (guarded(guards, 1024) for guards in (None, {"staff": guard}))
    assert 10 <= found - without <= 26, f"{found - without:g} calls more; 40 are allowed, and 23 were counted"


def test_a_guard_of_other_keys_adds_few_calls(guarded: Any) -> None:
    guard = {"on": "answer", "scorer": "secrets", "action": "block", "keys": ["bench-key-3"]}
    without, found = (guarded(guards, 1024) for guards in (None, {"secrets": guard}))
    assert found - without <= 4, f"{found - without:g} calls more"


@pytest.fixture(scope="module")
def routed() -> Any:
    """The function `routed` of calls.py."""
    return _load("calls").routed


def _route(kind: str) -> LearnedRoute:
    """A tree, or a hundred boosted trees of depth 6, as large as they may be."""
    targets = {"control": RouteTarget("up", "large"), "moved": RouteTarget("up", "small"), "alias": "fake-model"}
    if kind == "tree":
        return a_route(**targets)
    trees = tuple(_deep(6, random.Random(i)) for i in range(100))
    leaves = tuple(RouteLeaf(i > 3, f"band {i}", 50, 0.05) for i in range(20))
    return a_route(**targets, kind="boosted", trees=trees, leaves=leaves, cuts=tuple(i / 10 for i in range(19)))


def _deep(depth: int, rng: random.Random) -> Node:
    if not depth:
        return (-1, rng.uniform(-0.01, 0.01))
    return (rng.randrange(len(FEATURES)), rng.uniform(0, 10), _deep(depth - 1, rng), _deep(depth - 1, rng))


ROUTED = 33
"""Calls that a route adds to a request, of any size: its features, and the evaluation, which calls nothing."""


@pytest.mark.parametrize("size", [1_000, 570_000], ids=["1 KB", "570 KB"])
def test_a_route_adds_few_calls_to_a_request_of_any_size(routed: Any, size: int) -> None:
    without, *found = (routed(route, size) for route in (None, _route("tree"), _route("boosted")))
    added = [calls - without for calls in found]
    assert max(added) <= ROUTED * 1.02, f"{added} calls more; it was {ROUTED}"
    assert max(added) >= ROUTED * 0.7, f"{added} calls: shorter by a third. Lower the bound, so that it stays so"


def turns_of_first_token(split: bool) -> tuple[int, int, int, list[str]]:
    """(turns of the loop from the client's request to the upstream's, from the first token to the client's socket,
    writes to it, timers that were set). split: the head of the answer has arrived before."""
    hot = _load("hot")
    request, answer = hot.stream()
    end = answer[0].index(b"\r\n\r\n") + 4

    async def drive(running: Any) -> tuple[int, int, int, list[str]]:
        await running.run(1, request, answer)
        running.client.take()
        loop, timers, call_later = asyncio.get_running_loop(), list[str](), asyncio.get_running_loop().call_later
        loop.call_later = lambda delay, run, *given: (timers.append(repr(run)), call_later(delay, run, *given))[1]  # type: ignore[method-assign]
        running.protocol.data_received(request)
        asked = await turns_until(running.upstream)
        running.upstream.take()
        if split:
            running.connection.data_received(answer[0][:end])
            for _ in range(5):
                await asyncio.sleep(0)
        running.connection.data_received(answer[0][end if split else 0 :])
        answered = await turns_until(running.client)
        return asked, answered, len(running.client.written), timers

    async def turns_until(wire: Any) -> int:
        turns = 0
        while not wire.written:
            turns += 1
            await asyncio.sleep(0)
        return turns

    found: tuple[int, int, int, list[str]] = asyncio.run(hot.driven(0.0, drive))
    return found


@pytest.mark.parametrize("split", [False, True], ids=["with its head", "after its head"])
def test_a_first_token_takes_one_turn_of_the_loop_each_way(split: bool) -> None:
    """The request wakes a task, and so does the token; nothing else is waited for, and no timer is set."""
    assert turns_of_first_token(split) == (1, 1, 1, [])
