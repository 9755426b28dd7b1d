"""One worker: its setup, its state, and that it shows no key."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from gateway import __version__
from gateway.config.scorers import ScorerConfig
from gateway.features.replay.remote_worker import GatewayKey, NoReply, RemoteWorker, WorkerSetup, sent_away
from gateway.scoring.registry import build

KEY = "sk-of-the-gateway"


New = Callable[[], RemoteWorker]


@pytest.fixture
async def worker() -> AsyncIterator[New]:
    made: list[RemoteWorker] = []

    def new() -> RemoteWorker:
        made.append(RemoteWorker())
        return made[-1]

    yield new
    for each in made:
        await each.aclose()


def authorization(served: Any) -> list[str | None]:
    return [dict(each.headers).get("authorization") for each in served.calls]


async def asked(worker: RemoteWorker, model: str = "one") -> Any:
    body = {"model": model, "messages": [{"role": "user", "content": "question 1"}]}
    return await worker.ask("/chat/completions", body, 5.0, {})


async def test_a_key_is_sent_only_where_the_environment_has_none(
    worker: New, served: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GATEWAY_REPLAY_KEY", raising=False)
    without = worker()
    assert not (await without.start(WorkerSetup(served.base_url, {}))).has_key
    await without.use_key(GatewayKey(KEY))
    assert (await asked(without)).status == 200
    monkeypatch.setenv("GATEWAY_REPLAY_KEY", "sk-of-the-node")
    having = worker()
    assert (await having.start(WorkerSetup(served.base_url, {}))).has_key
    assert (await asked(having)).status == 200
    assert authorization(served) == [f"Bearer {KEY}", "Bearer sk-of-the-node"]


def test_a_key_on_its_way_is_not_shown() -> None:
    assert KEY not in f"{GatewayKey(KEY)!r} {GatewayKey(KEY)}"


async def test_it_says_what_it_is_and_what_it_reaches(worker: New, served: Any) -> None:
    state = await worker().start(WorkerSetup(served.base_url, {"exact": ScorerConfig()}))
    here = build({"exact": ScorerConfig()})["exact"]
    assert (state.version, state.reachable) == (__version__, True)
    assert state.scorers == {"exact": (here.scorer.version, here.config_hash)}
    alone = worker()
    state = await alone.start(WorkerSetup("http://127.0.0.1:9/v1", {"gone": ScorerConfig(use="not_installed:Here")}))
    assert (state.reachable, state.scorers) == (False, {}), "what cannot be built there is computed here"
    lost = await asked(alone)
    assert isinstance(lost, NoReply)
    assert "cannot be reached" in lost.message


def test_no_scorer_that_calls_a_model_is_sent_away() -> None:
    """Its budget is one for the whole replay, and its section may hold a key."""
    sections = {"exact": ScorerConfig(), "judge": ScorerConfig.model_validate({"model": "m", "criterion": "Right?"})}
    assert sent_away(sections, build(sections)).keys() == {"exact"}
