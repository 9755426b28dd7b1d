"""Workers of a Ray cluster: each worker, their pool, and the connection."""

from __future__ import annotations

import importlib.util
import pickle
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gateway import __version__
from gateway.config.scorers import ScorerConfig
from gateway.core.errors import CannotRun
from gateway.core.prices import Prices
from gateway.features.gateway_choice import ReachedGateway
from gateway.features.replay.options import RayAddress
from gateway.features.replay.sending.asking import RequestPacing, RetryingRequester
from gateway.features.replay.sending.ray_cluster import (
    GatewayKey,
    NoReply,
    PooledClient,
    PooledScoring,
    RemoteWorker,
    WorkerLost,
    WorkerPool,
    WorkerRequest,
    WorkerSetup,
    check_reach,
    ray_workers,
    sent_away,
)
from gateway.features.replay.sending.run import LocalScoring, ReplayStopped
from gateway.scoring.http_client import DeadlinePassed, GatewayClient, HttpConnections, Unreachable
from gateway.scoring.registry import build

QUICK = {"backoff_s": 0.001, "longest_s": 0.01}


@dataclass(eq=False)
class Handle:
    """A worker in this process, which is lost after `lives` calls."""

    worker: RemoteWorker
    lives: float
    calls: list[str] = field(default_factory=list)

    async def call(self, method: str, *arguments: Any) -> Any:
        self.calls.append(method)
        self.lives -= 1
        found = await getattr(self.worker, method)(*pickle.loads(pickle.dumps(arguments)))  # noqa: S301 - our own
        if self.lives < 0:
            raise WorkerLost("it was killed")  # after it has asked: the answer is lost
        return pickle.loads(pickle.dumps(found))  # noqa: S301


@pytest.fixture
async def spawn(served: Any) -> AsyncIterator[Callable[..., Any]]:
    """Starts workers with these lives, in order; then workers that live forever. spawn.all: all workers so far."""
    sections, workers = {"exact": ScorerConfig(), "f1": ScorerConfig()}, []

    def of(*lives: float) -> Any:
        rest = list(lives)

        async def one() -> Handle:
            worker = RemoteWorker()
            workers.append(worker)
            state = await worker.start(WorkerSetup(served.base_url, sections))
            assert (state.reachable, set(state.scorers)) == (True, {"exact", "f1"})
            one.all.append(Handle(worker, rest.pop(0) if rest else float("inf")))  # type: ignore[attr-defined]
            return one.all[-1]  # type: ignore[attr-defined,no-any-return]

        one.all = []  # type: ignore[attr-defined]
        return one

    yield of
    for worker in workers:
        await worker.aclose()


async def stored(desk: Any, client: Any, scoring: Any = None) -> list[tuple[Any, ...]]:
    job = desk.job(**QUICK)
    await desk.run(RetryingRequester(client, job.pace, Prices()), job, scoring)
    return desk.stored()  # type: ignore[no-any-return]


async def test_the_rows_are_those_of_one_process(
    desk: Any, served: Any, spawn: Any, place_store: Any, tmp_path: Path
) -> None:
    """40 rows, two targets, two scorers; three of the workers are lost while they are busy."""
    async with HttpConnections() as connections:
        expected = await stored(desk, GatewayClient(served.base_url, None, connections))
    assert len(served.received) == 80
    served.received.clear()
    desk.store = place_store(tmp_path / "away.db")
    started = spawn(7, 30, 11)
    pool = WorkerPool(started, [await started() for _ in range(2)])
    scoring = PooledScoring(pool, frozenset({"exact"}), LocalScoring(desk.threads))
    assert await stored(desk, PooledClient(pool), scoring) == expected
    assert pool.losses == 3
    assert len(started.all) == 5, "each was replaced"
    assert {method for each in started.all for method in each.calls} == {"ask", "score"}
    in_flight = desk.job().pace.concurrency
    assert 80 <= len(served.received) <= 80 + 3 * in_flight, "only what was in flight is asked again"


async def test_results_come_in_the_order_of_the_scorers(desk: Any, spawn: Any, scripted: Any) -> None:
    started = spawn(float("inf"))
    scoring = PooledScoring(WorkerPool(started, [await started()]), frozenset({"f1"}), LocalScoring(desk.threads))
    seen: list[list[str]] = []

    class Noting:
        async def score(self, request: Any, answer: Any, judged: Any, scorers: Any) -> Any:
            found = await scoring.score(request, answer, judged, scorers)
            seen.append([result.scorer for result in found])
            return found

    await desk.run(scripted(), scoring=Noting())
    assert set(map(tuple, seen)) == {("exact", "f1")}


async def test_a_cluster_that_ends_every_worker_stops_the_replay(desk: Any, spawn: Any) -> None:
    started = spawn(*[0] * 50)
    pool = WorkerPool(started, [await started()], most_losses=3)
    with pytest.raises(ReplayStopped, match="4 workers of the cluster were lost"):
        await stored(desk, PooledClient(pool))


async def test_a_cluster_that_is_gone_stops_the_replay(desk: Any, spawn: Any) -> None:
    started = spawn(5)

    async def gone() -> Any:
        raise WorkerLost("the connection is closed")

    pool = WorkerPool(gone, [await started()], most_losses=3)
    with pytest.raises(ReplayStopped, match=r"no worker of the cluster is left, .*the connection is closed"):
        await stored(desk, PooledClient(pool))
    assert len(desk.stored()) > 0, "what was answered is stored"


async def test_a_request_without_a_reply_raises_as_it_does_here() -> None:
    class Silent:
        late = False

        async def call(self, method: str, *arguments: Any) -> Any:
            return NoReply("http://g/v1 is silent", self.late)

    silent = Silent()
    client = PooledClient(WorkerPool(None, [silent]))  # type: ignore[arg-type]
    with pytest.raises(Unreachable, match="is silent"):
        await client.ask("/chat/completions", {}, deadline_s=1)
    silent.late = True
    with pytest.raises(DeadlinePassed):
        await client.ask("/chat/completions", {}, deadline_s=1)
    assert RequestPacing().attempts > 1, "both are tried again by the requester"


KEY = "sk-of-the-gateway"


New = Callable[[], RemoteWorker]


@pytest.fixture
async def worker() -> AsyncIterator[New]:
    """Makes remote workers, and closes them after the test."""
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


async def test_a_worker_reports_its_version_and_its_reach(worker: New, served: Any) -> None:
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
    """The budget of such a scorer is one for the whole replay, and its section may hold a key."""
    sections = {"exact": ScorerConfig(), "judge": ScorerConfig.model_validate({"model": "m", "criterion": "Right?"})}
    assert sent_away(sections, build(sections)).keys() == {"exact"}


HERE = "http://127.0.0.1:8000/v1"


@pytest.mark.parametrize(
    ("host", "url", "reached"),
    [
        ("127.0.0.1", HERE, True),
        ("localhost", "http://[::1]:8000/v1", True),
        ("head.example", HERE, False),
        ("10.0.0.7", "http://localhost:8000/v1", False),
        ("10.0.0.7", "https://gateway.example/v1", True),
    ],
)
def test_workers_elsewhere_need_a_gateway_that_they_reach(host: str, url: str, reached: bool) -> None:
    if reached:
        check_reach(RayAddress(host), url)
        return
    with pytest.raises(CannotRun, match=r"is on this machine only; .*--gateway"):
        check_reach(RayAddress(host), url)


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="Ray is installed here")
async def test_without_ray_the_error_names_the_extra() -> None:
    wanted = WorkerRequest(RayAddress("127.0.0.1", 9), ReachedGateway(HERE, None), WorkerSetup(HERE, {}), 1)
    where = ray_workers(wanted, {}, lambda _: None)
    with pytest.raises(CannotRun, match=r'pip install "assay-gateway\[ray\]"'):
        async with where:
            pass
