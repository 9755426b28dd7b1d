"""The watch of guards in a consumer: hours are summed once they are over, and an alarm is told in every place."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from gateway.core.exchange import Tally
from gateway.core.guards import GuardDecision, to_json
from gateway.core.usage import UsageCell, UsageCount, UsageSums
from gateway.features.guards.hourly.hours import HOUR_S, QUARTER_S
from gateway.features.guards.metrics import guard_figures, most_hits
from gateway.features.guards.notice_source import GuardNotices
from gateway.features.guards.rows import SETTLED_S, read_times, stored_hours, watched
from gateway.features.guards.work import GuardWatch, wanted_hours
from gateway.features.status.report import changed_guards
from gateway.features.task import TaskWorker
from gateway.store.events import events_since
from gateway.store.query import reading
from gateway.store.store import Store

START = 1_700_000 * 1000.0 // HOUR_S * HOUR_S


def decided(hit: bool, received: float, **fields: Any) -> dict[str, Any]:
    made = GuardDecision("g", "answer", "observe", "hit" if hit else "pass", False, float(hit), config_hash="c")
    return {"guards": to_json([made]), "received": received, **fields}


class Clock:
    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


async def look(store: Any, now: float, times: int = 1) -> list[Any]:
    async with Store(store.url) as opened:
        watch, found = GuardWatch(TaskWorker(opened, "c1", Clock(now)), ("g", "unused")), []
        for _ in range(times):
            found += await watch.look()
        return found


async def test_hours_are_read_again_until_they_are_settled(store: Any, exchange: Callable[..., Any]) -> None:
    store.scorers.clear()
    store.write(exchange("x", **decided(True, START + 10)), exchange("x", **decided(False, START + HOUR_S + 10)))
    now = START + HOUR_S + 20
    await look(store, now)
    with reading(store.url) as connection:
        assert wanted_hours(connection, "g", now) == [START + HOUR_S, START], "calls may still arrive"
    store.write(exchange("late", **decided(True, START + 30)))
    await look(store, START + HOUR_S + SETTLED_S + 5)
    with reading(store.url) as connection:
        hours = stored_hours(connection, "g", START)
        assert {begin: of[0].weight("hit") for begin, of in hours.items() if of} == {START: 2, START + HOUR_S: 0}
        assert set(read_times(connection, "g", START)) == {START, START + HOUR_S, START + 2 * HOUR_S}
        later = START + HOUR_S + SETTLED_S + 6
        assert wanted_hours(connection, "g", later) == [START + 2 * HOUR_S, START + HOUR_S]
        assert wanted_hours(connection, "g", later + HOUR_S)[-1] == START + HOUR_S, "once more, when it is settled"
        assert wanted_hours(connection, "unused", now) == []


async def test_one_consumer_sums_at_a_time(store: Any, exchange: Callable[..., Any]) -> None:
    store.scorers.clear()
    store.write(exchange("x", **decided(True, START)))
    async with Store(store.url) as opened:
        clock = Clock(START + 60)
        await GuardWatch(TaskWorker(opened, "c1", clock), ("g",)).look()
        store.write(exchange("x", **decided(True, START + 61)))
        await GuardWatch(TaskWorker(opened, "c2", clock), ("g",)).look()
    with reading(store.url) as connection:
        assert stored_hours(connection, "g", START)[START][0].weight("hit") == 1


@pytest.fixture
def changed(file_store: Any, exchange: Callable[..., Any]) -> Any:
    """A guard with a hit in twenty calls for a day and a quarter, and in two after that."""
    file_store.scorers.clear()
    made = []
    for quarter in range(140):
        for i in range(20):
            hit = i < 1 if quarter < 110 else i < 10
            made.append(exchange("x", **decided(hit, START + quarter * QUARTER_S + 40 * i, caller=f"key {i % 3}")))
    file_store.write(*made)
    return file_store


async def test_an_alarm_is_an_event_a_notice_and_a_problem(changed: Any) -> None:
    end = START + 140 * QUARTER_S + 61
    assert await look(changed, START + 100 * QUARTER_S + 61, 2) == []
    [drift] = await look(changed, end, 2)
    assert (drift.guard, drift.what, drift.direction, drift.alarm) == ("g", "hits", "up", True)
    assert START + 110 * QUARTER_S < drift.since <= end
    with reading(changed.url) as connection:
        [event] = events_since(connection, START, 5)
        [problem] = changed_guards(connection, ("g", "unused"))
        [figures] = guard_figures(connection, ("g", "unused"), end)
        assert watched(connection, "g")[1] == ()
    assert (event.kind, event.subject, event.at) == ("guard", "g", drift.since)
    assert event.text.startswith("guard g: the share of hits rose from 5")
    assert problem.startswith("guard g: the share of hits rose from")
    assert figures.drift
    assert (figures.drift_statistic or 0) >= drift.limit
    assert figures.hits is not None
    assert figures.hits[1] < figures.hits[0] < figures.hits[2]
    assert sum(key.hits for key in figures.keys) == 110 + 30 * 10
    assert [team.team for team in figures.teams] == ["none"]


def used(day: str, key: str, team: str, **fields: str) -> UsageCount:
    cell = UsageCell(day, key, key, team, "", "", "chat", "local", "m", "", "", "")
    return UsageCount(cell._replace(**fields), UsageSums(1, 0, 0, 1, 1, 0, 0, 0))


async def test_hits_are_summed_by_the_team_of_each_key(changed: Any) -> None:
    """A key counts for its newest team; shadows of experiments do not count."""
    end = START + 140 * QUARTER_S + 61
    today, before = (datetime.fromtimestamp(end - days * 86_400, UTC).date().isoformat() for days in (0, 1))
    counts = [
        used(before, "key 0", "search"), used(today, "key 0", "data"), used(today, "key 1", "data"),
        used(today, "key 1", "lab", experiment="swap"), used(today, "key 2", ""),
    ]  # fmt: skip
    changed.write(Tally("g1", 1.0, 0, usage=tuple(counts)))
    await look(changed, end, 2)
    with reading(changed.url) as connection:
        [figures] = guard_figures(connection, ("g",), end)
    by_key = {each.key: (each.calls, each.hits) for each in figures.keys}
    expected = tuple(a + b for a, b in zip(by_key["key 0"], by_key["key 1"], strict=True))
    assert {each.team: (each.calls, each.hits) for each in figures.teams} == {"data": expected, "none": by_key["key 2"]}


def test_beyond_twenty_teams_all_are_one() -> None:
    found = most_hits([(f"t{i:02}", 5.0, i / 2) for i in range(25)] * 2)
    assert (len(found), found[0], found[-1]) == (21, ("t24", 10.0, 24.0), ("other", 50.0, 10.0))


async def test_a_notice_has_one_id_for_one_alarm(changed: Any) -> None:
    end = START + 140 * QUARTER_S + 61
    async with Store(changed.url) as opened:
        watch = GuardWatch(TaskWorker(opened, "c1", Clock(end)), ("g",))
        for _ in range(2):
            await watch.look()

        class Context:
            store = opened
            config = type("Config", (), {"guards": {"g": None}})

        source = GuardNotices(Context())  # type: ignore[arg-type]
        first, second = await source.look(end), await source.look(end + 60)
    [notice] = first
    assert [each.id for each in second] == [notice.id]
    assert (notice.subject, notice.severity, notice.path) == ("guard", "warning", "/console/guards/of/g")
    assert notice.title == "guard g has changed"
    assert notice.data["now"] > notice.data["usual"]
