"""Runs that are known by their messages alone: agents of several habits, forks, restarts, and other keys."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import pytest

from gateway.core.exchange import new_id
from gateway.fake import FakeUpstream
from gateway.proxy.request.call import Api, Call, Caller
from gateway.proxy.routing import call_histories
from gateway.proxy.routing.call_histories import CallHistories
from gateway.proxy.routing.response_ids import ResponseIds
from gateway.runtime.tasks import Tasks
from gateway.stream import Corridor
from gateway.stream.shared_state import SharedState

WEB = Caller("web")
Messages = list[dict[str, Any]]
Sent = tuple[str, Messages]
"""(the true run, messages of one call)."""


def call_of(messages: Any, caller: Caller = WEB, api: Api = "chat", member: str = "messages", **fields: Any) -> Call:
    body = {"model": "chat", member: messages, **fields}
    return Call(new_id(), 1.0, 1.0, caller, api, b"POST", b"/", "chat", False, orjson.dumps(body), body)


def asks(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def answered(messages: Messages, mark: str) -> Messages:
    """The messages with an answer that calls a tool, and with its result."""
    call = {"id": f"call_{mark}", "type": "function", "function": {"name": "read", "arguments": "{}"}}
    said = {"role": "assistant", "content": None, "tool_calls": [call]}
    return [*messages, said, {"role": "tool", "tool_call_id": call["id"], "content": f"result {mark}"}]


def histories(store: Any, tasks: Tasks, most: int = 10_000) -> CallHistories:
    return CallHistories(store, tasks, ResponseIds(b"s" * 32), most)


async def run_of(known: CallHistories, messages: Any, **fields: Any) -> str | None:
    run = (await known.assign(call_of(messages, **fields))).run
    return None if run is None else run.id


@pytest.fixture
async def alone() -> AsyncIterator[CallHistories]:
    """The histories of a process without a stream server."""
    async with Tasks() as tasks:
        yield histories(None, tasks)


async def test_a_call_that_extends_another_is_of_its_run(alone: CallHistories) -> None:
    first = [asks("fix it")]
    second = answered(first, "1")
    runs = [await run_of(alone, messages) for messages in (first, second, answered(second, "2"), second)]
    assert len(set(runs)) == 1, "the last one is the second call again"
    assert await run_of(alone, first) != runs[0], "a call without a history begins a run"
    assert await run_of(alone, second, caller=Caller("batch")) != runs[0], "another key has another run"


async def test_a_fork_is_a_run_of_its_own(alone: CallHistories) -> None:
    first = [asks("fix it")]
    run = await run_of(alone, first)
    assert await run_of(alone, answered(first, "1")) == run
    fork = await run_of(alone, answered(first, "other"))
    assert fork != run
    assert await run_of(alone, answered(answered(first, "other"), "2")) == fork
    assert await run_of(alone, answered(answered(first, "1"), "2")) == run


async def test_a_question_in_between_stays_in_the_run(alone: CallHistories) -> None:
    """Some agents ask for a title with the same history and one message more, and then go on."""
    first = [asks("fix it")]
    run = await run_of(alone, first)
    second = answered(first, "1")
    assert await run_of(alone, [*second, asks("a title?")]) == run
    assert await run_of(alone, second) == run
    assert await run_of(alone, answered(second, "2")) == run


async def test_runs_that_begin_alike_are_never_joined(alone: CallHistories) -> None:
    first = [asks("hi")]
    one, two = await run_of(alone, first), await run_of(alone, first)
    ours, theirs = await run_of(alone, answered(first, "1")), await run_of(alone, answered(first, "2"))
    assert len({one, two, ours, theirs}) == 4
    assert await run_of(alone, answered(answered(first, "1"), "3")) == ours
    assert await run_of(alone, answered(answered(first, "2"), "3")) == theirs


async def test_a_run_that_begins_like_a_live_one_does_not_get_its_calls(alone: CallHistories) -> None:
    first = [asks("hi")]
    run = await run_of(alone, first)
    assert await run_of(alone, answered(first, "1")) == run
    other = await run_of(alone, first)
    assert await run_of(alone, [*answered(first, "1"), asks("a title?")]) not in (other, None)
    assert await run_of(alone, answered(answered(first, "1"), "2")) == run


async def test_a_chain_whose_first_call_was_not_seen_begins_here(alone: CallHistories) -> None:
    later = answered(answered([asks("fix it")], "1"), "2")
    run = await run_of(alone, later)
    assert run is not None
    assert await run_of(alone, answered(later, "3")) == run


@pytest.mark.parametrize(
    ("messages", "fields"),
    [
        ([], {}),
        (None, {}),
        ({"a": 1}, {}),
        ([asks("hi")], {"api": "embeddings"}),
        ([asks("hi")], {"api": "responses", "member": "input", "previous_response_id": "resp_1"}),
    ],
)
async def test_a_call_without_messages_has_no_run(alone: CallHistories, messages: Any, fields: dict[str, Any]) -> None:
    assert await run_of(alone, messages, **fields) is None


@pytest.fixture
async def shared(stream_url: str, stream_name: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SharedState]:
    """State that processes share. A busy machine is given time."""
    monkeypatch.setattr(call_histories, "_WAIT_S", 60)
    corridor = Corridor(stream_url, stream_name)
    yield corridor.state
    await corridor.aclose()


async def bytes_of(state: SharedState) -> list[int]:
    """The memory of each note on the stream server."""
    client: Any = state._client
    return [int(await client.memory_usage(name)) for name in await client.keys(f"{state.prefix}:history:*")]


async def test_workers_share_a_chain_in_few_bytes(shared: SharedState) -> None:
    """Two workers that take turns know the run, and a chain of any length leaves two small notes."""
    async with Tasks() as tasks:
        workers = itertools.cycle([histories(shared, tasks), histories(shared, tasks)])
        messages, runs = [asks("fix it")], set[str | None]()
        for n in range(30):
            runs.add(await run_of(next(workers), messages))
            messages = answered(messages, str(n))
        async with asyncio.timeout(60):
            while len(tasks):
                await asyncio.sleep(0.002)
    assert len(runs) == 1
    sizes = await bytes_of(shared)
    print(f"{sum(sizes)} bytes for a chain of 30 calls")  # noqa: T201
    assert len(sizes) == 2
    assert sum(sizes) <= 400


@pytest.fixture
async def workers(shared: SharedState) -> AsyncIterator[list[CallHistories]]:
    """The histories of two workers, with a stream server whose first answers come together."""
    async with Tasks() as tasks:
        yield [histories(shared, tasks), histories(shared, tasks)]


async def at_once(workers: list[CallHistories], calls: Sequence[Messages]) -> list[str | None]:
    """The runs of calls that arrive at the same moment, on the workers in turn."""
    return await asyncio.gather(*(run_of(workers[n % 2], messages) for n, messages in enumerate(calls)))


@pytest.mark.parametrize("n", [2, 3])
async def test_one_of_several_forks_at_a_moment_continues_the_run(workers: list[CallHistories], n: int) -> None:
    for round_ in range(5):
        first = [asks(f"task {round_}")]
        run = await run_of(workers[0], first)
        forks = [answered(first, f"{round_}-{k}") for k in range(n)]
        found = await at_once(workers, forks)
        assert len(set(found)) == n
        assert run in found
        assert await at_once(workers, [answered(fork, "2") for fork in forks]) == found, "each goes on by itself"


async def test_runs_that_begin_alike_at_the_same_moment_are_two(workers: list[CallHistories]) -> None:
    first = [asks("fix it")]
    begun = await at_once(workers, [first] * 3)
    continued = await at_once(workers, [answered(first, str(k)) for k in range(3)])
    assert len({*begun, *continued}) == 6, "nothing shows which one a call continues"


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_calls_that_arrive_together_are_never_joined(workers: list[CallHistories], seed: int) -> None:
    """Sessions of one key whose calls arrive eight at a time; of one session, one at a time."""
    sent, named, true = mixed(Habit(branches=0.2), seed, sessions=12), list[str | None](), list[str]()
    while sent:
        batch: dict[str, Messages] = {}
        for run, messages in sent[:8]:
            if run.partition("/")[0] in {each.partition("/")[0] for each in batch}:
                break
            batch[run] = messages
        del sent[: len(batch)]
        true += batch
        named += await at_once(workers, [*batch.values()])
    precision, recall = precision_and_recall(true, named)
    print(precision, recall)  # noqa: T201
    assert precision == 1.0
    assert recall >= 0.7


async def test_without_the_stream_server_a_worker_knows_its_own(alone: CallHistories) -> None:
    async with Tasks() as tasks:
        few = histories(None, tasks, 2)
        runs = [await run_of(few, [asks(f"task {n}")]) for n in range(3)]
        assert await run_of(few, answered([asks("task 0")], "1")) not in runs, "the oldest is forgotten"
        assert await run_of(few, answered([asks("task 2")], "1")) == runs[2]


@dataclass(frozen=True)
class Habit:
    """How an agent treats its history."""

    keeps: float = 1.0
    """Chance that the history is kept as it was before a call; otherwise it is summarized."""
    branches: float = 0.0
    """Chance of a subagent with messages of its own, which is a run of its own."""
    side: float = 0.0
    """Chance of a call in between with the same history and a question."""


def session(name: str, habit: Habit, calls: int, rng: random.Random) -> Iterator[Sent]:
    """The calls of one session, with the runs that a person would say they are."""
    messages, run = [asks(f"task {rng.randrange(40)}")], name
    for n in range(calls):
        yield run, messages
        if rng.random() < habit.side:
            yield run, [*messages, asks("a title?")]
        if rng.random() < habit.branches:
            yield from session(f"{name}/{n}", Habit(), 4, rng)
        if rng.random() < habit.keeps:
            messages = answered(messages, f"{name}-{n}")
        else:
            messages = [asks(f"summary of {name} at {n}")]


def mixed(habit: Habit, seed: int, sessions: int = 30) -> list[Sent]:
    """Sessions of one key at the same time."""
    rng = random.Random(seed)
    open_sessions = [session(f"s{n}", habit, 12, random.Random(seed * 1000 + n)) for n in range(sessions)]
    found: list[Sent] = []
    while open_sessions:
        at = rng.randrange(len(open_sessions))
        sent = next(open_sessions[at], None)
        if sent is None:
            del open_sessions[at]
        else:
            found.append(sent)
    return found


def precision_and_recall(true: Sequence[str], named: Sequence[str | None]) -> tuple[float, float]:
    """Over pairs of calls: how many of those in one run are truly of one, and the reverse."""
    pairs = list(itertools.combinations(range(len(true)), 2))
    together = {(i, j) for i, j in pairs if named[i] == named[j]}
    truly = {(i, j) for i, j in pairs if true[i] == true[j]}
    both = len(together & truly)
    return both / max(1, len(together)), both / max(1, len(truly))


@pytest.mark.parametrize(
    ("habit", "recall"),
    [
        (Habit(), 0.83),
        (Habit(branches=0.2), 0.83),
        (Habit(side=0.2), 0.83),
        (Habit(keeps=0.9), 0.25),
    ],
    ids=["appends", "subagents", "questions", "summarizes"],
)
async def test_calls_are_never_joined_and_seldom_split(alone: CallHistories, habit: Habit, recall: float) -> None:
    """Thirty sessions of one key at once, many of which begin alike."""
    sent = mixed(habit, 7)
    named = [await run_of(alone, messages) for _, messages in sent]
    precision, found = precision_and_recall([run for run, _ in sent], named)
    print(precision, found)  # noqa: T201
    assert precision == 1.0
    assert found >= recall


async def test_a_gateway_takes_runs_from_histories(start: Any, configured: Any, upstream: FakeUpstream) -> None:
    gateway = await start(configured(upstream, runs={"from": ["history"]}))
    first = [asks("fix it")]
    for messages in (first, answered(first, "1"), [asks("something else")]):
        body = {"model": "chat", "messages": messages}
        assert (await gateway.client.post("/chat/completions", json=body)).status_code == 200
    body = {"model": "chat", "messages": first}
    await gateway.client.post("/chat/completions", json=body, headers={"x-gateway-run": "named"})
    found = await gateway.recorded(4)
    assert [e.run_source for e in found] == ["history"] * 3 + ["x-gateway-run"]
    assert [e.run for e in found] == [found[0].id, found[0].id, found[2].id, "named"]
