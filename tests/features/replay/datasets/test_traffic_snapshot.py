"""Logged calls frozen into a file: what can be asked again, in order, for the owner only."""

from __future__ import annotations

import asyncio
import stat
import time
from pathlib import Path

import orjson
import pytest

from gateway.config.privacy import RedactionConfig, placeholders
from gateway.core.completion import completion_of
from gateway.core.errors import CannotRun
from gateway.core.exchange import Feedback, run_key
from gateway.features.replay.datasets.datasets import scan
from gateway.features.replay.datasets.traffic_snapshot import freeze
from gateway.features.replay.rows import LogSelection
from gateway.store.rows import ScoredExchange
from gateway.store.store import Store
from gateway.store.write import ScoredBatch

DATA_URL = "data:image/png;base64,sha256=" + "ab" * 32 + ";bytes=12"


def asking(text: object, **more: object) -> bytes:
    return orjson.dumps({"model": "chat", "stream": True, "messages": [{"role": "user", "content": text}], **more})


@pytest.fixture
def logged(exchange, tmp_path: Path) -> str:
    """Five calls: two that can be asked again, an image, one without content, one of another alias."""
    image = [{"type": "image_url", "image_url": {"url": DATA_URL}}]
    calls = [
        exchange(received=1.0, request=asking("first", temperature=0), cluster="talk"),
        exchange(received=2.0, request=asking("second")),
        exchange(received=3.0, request=asking(image)),
        exchange(received=4.0, request=b"{}"),
        exchange(received=5.0, request=asking("other"), alias="other", reference="its reference"),
        exchange(received=6.0, request=asking("more"), alias="other", reference="its reference"),
        exchange(received=7.0, request=asking("last", metadata={"reference": "in metadata"}), alias="other"),
    ]
    corrections = [
        Feedback(calls[1].id, "f", "web", 9.0, "answer", correction="the right one"),
        Feedback(calls[5].id, "g", "web", 9.0, "answer", correction="a person's"),
    ]
    url = f"sqlite:///{tmp_path / 'log.db'}"

    async def write() -> None:
        async with Store(url) as store:
            await store.write(
                ScoredBatch({}, [ScoredExchange(e, completion_of(e), []) for e in calls], [], corrections)
            )

    asyncio.run(write())
    return url


def test_a_snapshot_has_the_calls_that_can_be_replayed(logged: str, tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    frozen = freeze(logged, LogSelection("chat", None, 100), path)
    assert str(frozen) == (
        "2 recorded questions written; left out: 1 whose questions the store does not hold, "
        "1 with images or files, which the store does not hold"
    )
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    first, second = scan(path).items()
    assert first.request == {"messages": [{"role": "user", "content": "first"}], "temperature": 0}
    assert (first.cluster, first.reference) == ("talk", None)
    assert (second.example(), second.reference) == ("second", "the right one")


def test_the_reference_of_a_call_is_that_of_its_row(logged: str, tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    freeze(logged, LogSelection("other", None, 100), path)
    assert [(item.example(), item.reference) for item in scan(path).items()] == [
        ("other", "its reference"), ("more", "a person's"), ("last", "in metadata"),
    ]  # fmt: skip


def test_an_existing_file_is_not_overwritten(logged: str, tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text("mine")
    with pytest.raises(FileExistsError):
        freeze(logged, LogSelection("chat", None, 100), path)
    assert path.read_text() == "mine"


def test_without_calls_the_error_gives_the_reasons(logged: str, tmp_path: Path) -> None:
    with pytest.raises(CannotRun, match='no call of "gone" to replay'):
        freeze(logged, LogSelection("gone", None, 100), tmp_path / "x.jsonl")
    with pytest.raises(CannotRun, match=r'no call of "chat" since .* \(1 whose questions'):
        freeze(logged, LogSelection("chat", 4.0, 100), tmp_path / "x.jsonl")
    with pytest.raises(CannotRun, match="since"):
        freeze(logged, LogSelection("chat", time.time(), 100), tmp_path / "x.jsonl")
    assert not (tmp_path / "x.jsonl").exists()


def turn(tool: str | None, *texts: str) -> bytes:
    messages = [{"role": "user", "content": text} for text in texts]
    if tool is not None:
        messages.append({"role": "tool", "tool_call_id": "t", "content": tool})
    return orjson.dumps({"model": "chat", "messages": messages})


@pytest.fixture
def agents(exchange, tmp_path: Path) -> str:
    """Three runs of two calls each, one after the other's first call; and a call without a run."""
    calls = [exchange(received=1.0 + n, request=turn(None, f"task {n}"), run=f"r{n}") for n in range(3)]
    results = ("found", "mail [email-1]", "see [email] there")
    calls += [exchange(received=10.0 + n, request=turn(results[n], f"task {n}"), run=f"r{n}") for n in range(3)]
    calls.append(exchange(received=20.0, request=turn(None, "alone")))
    url = f"sqlite:///{tmp_path / 'runs.db'}"

    async def write() -> None:
        async with Store(url) as store:
            await store.write(ScoredBatch({}, [ScoredExchange(e, completion_of(e), []) for e in calls]))

    asyncio.run(write())
    return url


def test_runs_are_frozen_whole_and_in_order(agents: str, tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    frozen = freeze(agents, LogSelection("chat", None, 2, runs=True), path)
    rows = [orjson.loads(line) for line in path.read_bytes().splitlines()]
    assert (frozen.rows, [row["request"]["messages"][0]["content"] for row in rows]) == (
        4, ["task 1", "task 1", "task 2", "task 2"],
    )  # fmt: skip
    assert [row["cluster"] for row in rows] == [run_key("web", name) for name in ("r1", "r1", "r2", "r2")]
    assert rows[1]["request"]["messages"][1]["content"] == "mail [email-1]", "what a tool returned is sent as recorded"
    assert scan(path).rows == 4


def test_a_turn_with_a_redacted_result_is_left_out(agents: str, tmp_path: Path) -> None:
    replaced = placeholders(RedactionConfig())
    frozen = freeze(agents, LogSelection("chat", None, 10, runs=True), tmp_path / "runs.jsonl", replaced)
    assert frozen.rows == 4
    assert frozen.left_out == {"with a redacted result of a tool": 2}


def test_without_runs_there_is_nothing_to_replay(logged: str, tmp_path: Path) -> None:
    with pytest.raises(CannotRun, match='the store has no run of "chat"'):
        freeze(logged, LogSelection("chat", None, 10, runs=True), tmp_path / "runs.jsonl")
