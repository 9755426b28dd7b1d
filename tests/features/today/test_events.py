"""Deploys, changed configs and steps of ramps are noted once, by any number of observers."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core.ramp import RampEvent, RampRecord
from gateway.features.task import TaskWorker
from gateway.features.today.events import EventKeeper
from gateway.store.events import KEPT_S, add_events, config_event, events_since
from gateway.store.query import reading
from gateway.store.ramp_events import add_ramp_events
from gateway.store.store import Store

NOW = 1_764_001_800.0


def heartbeat(version: str, digest: str = "aa11bb22", started: float = NOW - 100, at: float = NOW) -> dict[str, Any]:
    return {"at": at, "started": started, "version": version, "config": {"digest": digest, "ok": True}}


class Gateways:
    """The heartbeats as a corridor has them."""

    def __init__(self, **states: Any) -> None:
        self.states = states
        self.state = self

    async def gateways(self) -> dict[str, Any]:
        return self.states


def step(state: str, before: str, at: float) -> RampEvent:
    record = RampRecord("swap", "p", 2, state, 0 if state == "ramp" else -1, False, at, at, "controller", "why")  # type: ignore[arg-type]
    return RampEvent(f"{state}-{at}", record, (before, -1), {})  # type: ignore[arg-type]


@pytest.fixture
async def opened(store):
    """The store, open for writing."""
    async with Store(store.url) as found:
        yield found


def texts(store) -> list[str]:
    with reading(store.url) as connection:
        return [each.text for each in events_since(connection, 0.0, 100)]


async def test_a_new_version_and_a_new_config_are_noted_once(store, opened):
    gateways = Gateways(one=heartbeat("0.4.0"))
    clock = [NOW]
    keepers = [EventKeeper(TaskWorker(opened, name, lambda: clock[0]), gateways) for name in ("a", "b")]  # type: ignore[arg-type]
    for keeper in (*keepers, *keepers):
        await keeper.look()
    assert texts(store) == ["gateway 0.4.0", "config aa11bb"]
    gateways.states["two"] = heartbeat("0.5.0", "cc33dd44", started=NOW - 1)
    await keepers[0].look()
    noted = ["gateway 0.4.0", "gateway 0.5.0", "config aa11bb"]
    assert texts(store) == noted, "the gateways have different configs for a moment"
    gateways.states["one"] = heartbeat("0.5.0", "cc33dd44")
    clock[0] += 5
    await keepers[0].look()
    await keepers[0].look()
    assert texts(store)[-1] == "config cc33dd"
    gateways.states["gone"] = heartbeat("0.3.0", "ee", started=NOW + 9, at=NOW - 600)
    await keepers[0].look()
    assert len(texts(store)) == 4, "a process that was killed says nothing any more"


async def test_steps_of_ramps_are_lines(store, opened):
    shadow = step("shadow", "stopped", NOW - 50)
    first, back = step("ramp", "shadow", NOW - 40), step("rolled_back", "ramp", NOW - 10)
    await opened.run(lambda connection: add_ramp_events(connection, [shadow, first, back]))
    keeper = EventKeeper(TaskWorker(opened, "a", lambda: NOW), Gateways())  # type: ignore[arg-type]
    await keeper.look()
    await keeper.look()
    assert texts(store) == ["swap: advanced to step 1", "swap: rolled back"]


async def test_old_events_are_forgotten(store, opened):
    old, new = config_event("aa", NOW - KEPT_S - 60), config_event("bb", NOW - 60)
    await opened.run(lambda connection: add_events(connection, [old, new, new]))
    await EventKeeper(TaskWorker(opened, "a", lambda: NOW), Gateways()).look()  # type: ignore[arg-type]
    assert texts(store) == ["config bb"]
