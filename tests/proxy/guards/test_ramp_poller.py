"""A worker's view of the ramps of its guards, on a real stream server: restarts, reloads, a server that is away."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import yaml
from fixtures.metric_samples import sample_sum
from prometheus_client import CollectorRegistry

from gateway.config.config import Config
from gateway.config.loading import parse
from gateway.core.guard_ramp import design_of, guard_ramp_begun, ramp_name
from gateway.core.guards import GuardRamp
from gateway.core.ramp import RampChange, RampRecord, advanced, rolled_back
from gateway.observability.proxy_metrics import ProxyMetrics
from gateway.proxy.guards.ramp_poller import GuardRampPoller
from gateway.proxy.routing.assignment import KnownSecret
from gateway.stream import Corridor

SECRET = b"s" * 32
DOWN = "redis://127.0.0.1:1/0"


def config(**guard: Any) -> Config:
    base = {
        "open": True,
        "upstreams": {"local": {"kind": "vllm", "base_url": "http://127.0.0.1:1/v1"}},
        "models": {"chat": {"targets": [{"upstream": "local", "model": "m"}]}},
        "guards": {"injection": {"on": "request", "scorer": "prompt_injection", **guard}},
    }
    return parse(yaml.safe_dump(base))


class Worker:
    """One process's poller, and what it has put in force."""

    def __init__(self, corridor: Corridor, of: Config) -> None:
        self.config, self.corridor = of, corridor
        self.registry = CollectorRegistry()
        self.applied: dict[str, GuardRamp] = {}
        self.poller = GuardRampPoller(
            corridor.state,
            corridor.ramps,
            lambda: self.config,
            self.applied,
            KnownSecret(),
            ProxyMetrics(self.registry),
        )

    async def sees(self) -> tuple[str, float] | None:
        """(action, share) of the guard; None if the config's action holds."""
        await self.poller.look()
        found = self.applied.get("injection")
        return None if found is None else (found.action, found.share)

    @property
    def stale(self) -> float | None:
        return sample_sum(self.registry, "gateway_ramp_stale", experiment="guard injection")


class Server:
    """The records of a stream server."""

    def __init__(self, corridor: Corridor, of: Config) -> None:
        self.corridor, self.config, self.at = corridor, of, 1000.0

    async def begins(self) -> None:
        guard = self.config.guards["injection"]
        await self.put(guard_ramp_begun("injection", guard.ramp_design(self.config.scorers), self.change, None))

    @property
    def change(self) -> RampChange:
        self.at += 1.0
        return RampChange(self.at, "ada", "as agreed")

    async def steps(self) -> RampRecord:
        record = await self.record()
        design = design_of(record)
        assert design is not None
        await self.put(advanced(record, design.ramp, self.change))
        return record

    async def rolls_back(self) -> None:
        await self.put(rolled_back(await self.record(), self.change, 0.0))

    async def record(self) -> RampRecord:
        return (await self.corridor.ramps.records())[ramp_name("injection")]

    async def put(self, after: RampRecord) -> None:
        known = (await self.corridor.ramps.records()).get(after.experiment)
        assert await self.corridor.ramps.change(known, after, b"{}")


@pytest.fixture
async def corridor(stream_url: str, stream_name: str) -> AsyncIterator[Corridor]:
    """A stream server that holds the secret of draws."""
    opened = Corridor(stream_url, stream_name)
    await opened.state.set_draw_secret(SECRET)
    yield opened
    await opened.aclose()


@pytest.fixture
async def away() -> AsyncIterator[Corridor]:
    """A stream server that does not answer."""
    opened = Corridor(DOWN, "away")
    yield opened
    await opened.aclose()


async def test_a_worker_follows_the_steps(corridor: Corridor) -> None:
    worker, server = Worker(corridor, config()), Server(corridor, config())
    assert await worker.sees() is None, "no ramp has begun"
    await server.begins()
    assert await worker.sees() == ("flag", 1.0)
    for share in (0.05, 0.25, 1.0):
        await server.steps()
        assert await worker.sees() == ("block", share)
    await server.steps()
    assert await worker.sees() == ("block", 1.0)
    await server.rolls_back()
    assert await worker.sees() is None


async def test_a_restarted_worker_acts_on_the_same_units(corridor: Corridor) -> None:
    first, server = Worker(corridor, config()), Server(corridor, config())
    await server.begins()
    for _ in range(2):
        await server.steps()
    again = Worker(corridor, config())
    assert await first.sees() == await again.sees() == ("block", 0.25)
    units = [str(i) for i in range(200)]
    one, two = (worker.applied["injection"] for worker in (first, again))
    assert [one.action_of(u) for u in units] == [two.action_of(u) for u in units]
    assert {one.action_of(u) for u in units} == {"block", "flag"}


async def test_the_last_step_stays_while_the_server_is_away(corridor: Corridor, away: Corridor) -> None:
    worker, server = Worker(corridor, config()), Server(corridor, config())
    await server.begins()
    await server.steps()
    assert await worker.sees() == ("block", 0.05)
    assert (worker.stale, worker.poller.trouble) == (0.0, "")
    worker.poller.ramps, worker.poller.shared = away.ramps, away.state
    assert await worker.sees() == ("block", 0.05)
    assert worker.stale == 1.0
    assert worker.poller.trouble
    worker.poller.ramps, worker.poller.shared = corridor.ramps, corridor.state
    await server.rolls_back()
    assert await worker.sees() is None
    assert (worker.stale, worker.poller.trouble) == (0.0, "")


async def test_a_worker_that_never_read_a_ramp_has_the_config(away: Corridor) -> None:
    worker = Worker(away, config())
    assert await worker.sees() is None
    assert worker.poller.trouble


async def test_without_the_secret_no_unit_is_acted_on(stream_url: str, stream_name: str) -> None:
    corridor = Corridor(stream_url, stream_name)
    worker, server = Worker(corridor, config()), Server(corridor, config())
    await server.begins()
    await server.steps()
    assert await worker.sees() == ("block", 0.05)
    assert {worker.applied["injection"].action_of(str(i)) for i in range(500)} == {"flag"}
    await corridor.state.set_draw_secret(SECRET)
    await worker.sees()
    assert {worker.applied["injection"].action_of(str(i)) for i in range(500)} == {"flag", "block"}
    await corridor.aclose()


@pytest.mark.parametrize(
    "changed",
    [{"threshold": 0.9}, {"scorer": "secrets"}, {"action": "flag"}, {"action": "block"}, {"models": ["chat"]}],
)
async def test_a_reload_with_another_guard_ends_its_ramp(corridor: Corridor, changed: dict[str, Any]) -> None:
    worker, server = Worker(corridor, config()), Server(corridor, config())
    await server.begins()
    await server.steps()
    assert await worker.sees() == ("block", 0.05)
    worker.config = config(**changed)
    assert await worker.sees() is None, "its evidence is about other hits"
    worker.config = config(text="Refused by {guard}, call {id}.", deadline_ms=50)
    assert await worker.sees() == ("block", 0.05), "what is known of its hits holds"


async def test_a_ramp_keeps_the_if_late_of_its_start(corridor: Corridor) -> None:
    """Ramps were begun when an unset `if_late` meant `pass`."""
    worker, before, now = Worker(corridor, config()), config(if_late="pass"), config()
    server = Server(corridor, before)
    await server.begins()
    await server.steps()
    assert await worker.sees() == ("block", 0.05)
    assert worker.applied["injection"].passes_late
    worker.config = config(if_late="block")
    assert await worker.sees() is None, "which is another guard"
    worker.config = now
    await server.rolls_back()
    again = guard_ramp_begun("injection", now.guards["injection"].ramp_design({}), server.change, await server.record())
    await server.put(again)
    assert await worker.sees() is not None
    assert not worker.applied["injection"].passes_late, "started again"


async def test_a_server_that_lost_changes_only_takes_units_away(corridor: Corridor) -> None:
    worker, server = Worker(corridor, config()), Server(corridor, config())
    await server.begins()
    await server.steps()
    old = await server.steps()
    assert await worker.sees() == ("block", 0.25)
    await server.put(old)
    assert await worker.sees() == ("block", 0.25), "an older version does not count"
    assert worker.stale == 1.0
    await server.rolls_back()
    assert await worker.sees() is None, "a rollback does, whatever its version"
