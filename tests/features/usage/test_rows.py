"""Lower bounds of limits' usage, from the store. On both databases."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from gateway.core.exchange import Tally
from gateway.core.keys import Directory, KeyRecord, OrganizationRecord, PersonRecord, TeamRecord
from gateway.core.limits import LimitScope, limits_of, window_end
from gateway.core.usage import UsageCell, UsageCount, UsageSums
from gateway.features.usage.rows import SpentFloor, limited_scopes, spent_floors
from gateway.store import directory
from gateway.store.directory import DirectoryRow

NOW = datetime(2026, 11, 26, 9, 30, tzinfo=UTC).timestamp()  # a Thursday
WEB = UsageCell("2026-11-26", "web", "web", "search", "acme", "", "chat", "openai", "gpt-x", "", "", "")
ONE = UsageSums(1, 0, 0, 100, 40, 20, 5, 1_500_000)


def used(*days: str, cell: UsageCell = WEB, incarnation: str = "g1") -> Tally:
    counts = tuple(UsageCount(cell._replace(day=day), ONE) for day in days)
    return Tally(incarnation, 1.0, 0, usage=counts)


Floors = Callable[..., dict[str, int]]


@pytest.fixture
def floors(store: Any) -> Floors:
    """Amounts that have been spent, by name of the limit."""

    def found(*scopes: LimitScope, now: float = NOW) -> dict[str, int]:
        listed: list[SpentFloor] = store.run(lambda c: spent_floors(c, scopes, now))
        return {floor.name: floor.amount for floor in listed}

    return found


def team(**limits: Any) -> LimitScope:
    return LimitScope("team", "search", limits_of(limits))


def test_each_measure_counts_its_own(store: Any, floors: Floors) -> None:
    store.write(used("2026-11-26"), used("2026-11-26", incarnation="g2"))
    scope = team(requests_per_day=10, tokens_per_week=1000, usd_per_month=5)
    assert floors(scope) == {
        "team:search:requests_per_day:2026-11-26": 2,
        "team:search:tokens_per_week:2026-11-23": 240,
        "team:search:usd_per_month:2026-11": 3_000_000,
    }


def test_only_the_days_of_the_window_count(store: Any, floors: Floors) -> None:
    store.write(used("2026-10-31", "2026-11-01", "2026-11-22", "2026-11-23", "2026-11-26"))
    found = floors(team(requests_per_day=9, requests_per_week=9, requests_per_month=9))
    assert found == {
        "team:search:requests_per_day:2026-11-26": 1,
        "team:search:requests_per_week:2026-11-23": 2,
        "team:search:requests_per_month:2026-11": 4,
    }


def test_a_day_that_is_partly_before_the_window_is_left_out(store: Any, floors: Floors) -> None:
    """November begins in Berlin at 23:00 UTC on 31 October; in New York, at 04:00 on 1 November."""
    store.write(used("2026-10-31", "2026-11-01", "2026-11-02"))
    assert floors(team(requests_per_month=9, time_zone="Europe/Berlin")) == {
        "team:search:requests_per_month:2026-11": 2
    }
    new_york = team(requests_per_month=9, time_zone="America/New_York")
    assert floors(new_york) == {"team:search:requests_per_month:2026-11": 1}


def test_keys_people_teams_organizations_count_for_themselves(store: Any, floors: Floors) -> None:
    store.write(used("2026-11-26", cell=WEB._replace(person="ann")))
    store.write(used("2026-11-26", cell=WEB._replace(key_id="batch"), incarnation="g2"))
    elsewhere = WEB._replace(key_id="lab", team="ads", organization="", person="ann")
    store.write(used("2026-11-26", cell=elsewhere, incarnation="g3"))
    limits = limits_of({"requests_per_day": 5})
    scopes = [LimitScope("key", "web", limits), LimitScope("team", "search", limits)]
    scopes += [LimitScope("organization", "acme", limits), LimitScope("team", "idle", limits)]
    scopes += [LimitScope("person", "ann", limits)]
    names = ("key:web", "team:search", "organization:acme", "person:ann")
    assert floors(*scopes) == dict(zip((f"{n}:requests_per_day:2026-11-26" for n in names), (1, 2, 2, 2), strict=True))


def test_experiments_count_for_no_limit_scorers_for_their_key(store: Any, floors: Floors) -> None:
    nobody = WEB._replace(key_id="", key_name="", team="", organization="")
    store.write(used("2026-11-26", cell=nobody._replace(experiment="swap", arm="new")))
    judges = nobody._replace(key_id="judges", key_name="judges", scorer="helpful")
    store.write(used("2026-11-26", cell=judges, incarnation="g2"))
    limits = limits_of({"requests_per_day": 5})
    scopes = [LimitScope("team", "search", limits), LimitScope("key", "judges", limits)]
    assert floors(*scopes) == {"key:judges:requests_per_day:2026-11-26": 1}


def test_a_floor_outlives_its_window(store: Any) -> None:
    store.write(used("2026-11-26"))
    [floor] = store.run(lambda c: spent_floors(c, [team(requests_per_day=5)], NOW))
    assert floor.expires_ms > window_end("day", "UTC", NOW) * 1000


def test_limits_are_those_of_the_file_and_of_the_store(store: Any) -> None:
    limits = {"usd_per_day": 5.0, "requests_per_minute": 3}
    static = Directory(
        organizations={"acme": OrganizationRecord("acme", {})},
        teams={"search": TeamRecord("search", limits)},
        people={"ann": PersonRecord("ann", limits)},
    )
    key = KeyRecord("key_1", "web", (), {"tokens_per_month": 100})
    row = DirectoryRow(key, 1.0, 1.0, 1)

    def save(connection: Any) -> None:
        version = directory.begin_change(connection)
        directory.save_row(connection, replace(row, version=version))

    store.run(save)
    found: list[LimitScope] = store.run(lambda c: limited_scopes(c, static, NOW))
    assert [(scope.kind, scope.id, [limit.name for limit in scope.limits]) for scope in found] == [
        ("team", "search", ["usd_per_day"]),
        ("person", "ann", ["usd_per_day"]),
        ("key", "key_1", ["tokens_per_month"]),
    ]
