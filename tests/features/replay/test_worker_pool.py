"""Workers that come and go: the store looks as if all had been done in one process. What is passed is pickled."""

from __future__ import annotations

import pickle
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gateway.config.scorers import ScorerConfig
from gateway.core.prices import Prices
from gateway.features.replay.asking import RequestPacing, RetryingRequester
from gateway.features.replay.remote_worker import NoReply, RemoteWorker, WorkerSetup
from gateway.features.replay.run import LocalScoring, ReplayStopped
from gateway.features.replay.worker_pool import PooledClient, PooledScoring, WorkerLost, WorkerPool
from gateway.scoring.http_client import DeadlinePassed, GatewayClient, HttpConnections, Unreachable

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
    """Starts workers with these lives, in order; then such as live for ever. spawn.all: those that there were."""
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
