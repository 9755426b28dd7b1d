"""Usage in the store: however tallies arrive, the sums are the newest of each process. On both databases."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from gateway.core.exchange import Tally
from gateway.core.usage import NANO, UsageCell, UsageCount, UsageSums
from gateway.store.usage import UsageRow, merge_ended, read_usage
from gateway.store.where import QueryError
from gateway.store.write import ScoredBatch, write

WEB = UsageCell("2026-11-26", "k1", "web", "search", "acme", "cc-7 prod", "chat", "openai", "gpt-x", "", "", "")
ONE = UsageSums(1, 0, 0, 100, 40, 20, 5, 1_500_000)
FIRST, LAST = date(2026, 11, 1), date(2026, 11, 30)


def times(n: int) -> UsageSums:
    return UsageSums(*(n * each for each in ONE))


def tally(*counts: tuple[UsageCell, UsageSums], incarnation: str = "g1", at: float = 1.0) -> Tally:
    return Tally(incarnation, at, 0, usage=tuple(UsageCount(*count) for count in counts))


Read = Callable[..., list[UsageRow]]


@pytest.fixture
def read(store: Any) -> Read:
    """Reads usage, grouped by columns."""

    def reading(*by: str, since: date = FIRST, until: date = LAST, **filters: str) -> list[UsageRow]:
        found: list[UsageRow] = store.run(lambda c: read_usage(c, by, since, until, **filters))
        return found

    return reading


def total(read: Read) -> UsageSums:
    [row] = read()
    return row.sums


def test_processes_and_cells_add_up(store: Any, read: Read) -> None:
    store.write(tally((WEB, times(3)), (WEB._replace(model="mini"), times(1))))
    store.write(tally((WEB, times(2)), incarnation="g2"))
    assert total(read) == times(6)
    assert [(row.by, row.sums) for row in read("model")] == [({"model": "gpt-x"}, times(5)), ({"model": "mini"}, ONE)]


def test_a_tally_that_arrives_again_or_late_changes_nothing(store: Any, read: Read) -> None:
    older, newer = tally((WEB, times(2))), tally((WEB, times(5)))
    for each in (older, newer, newer, older):
        store.write(each)
    assert total(read) == times(5)


def test_a_reading_of_nothing_is_a_total_of_nothing(read: Read) -> None:
    assert total(read) == UsageSums()
    assert read()[0].usd == 0.0
    assert read("team", "day") == []


def test_days_are_in_the_reading_from_the_first_to_the_last(store: Any, read: Read) -> None:
    days = ("2026-10-31", "2026-11-01", "2026-11-30", "2026-12-01")
    store.write(tally(*((WEB._replace(day=day), ONE) for day in days)))
    assert [row.by["day"] for row in read("day")] == ["2026-11-01", "2026-11-30"]
    assert [row.by for row in read("month", until=date(2026, 12, 31))] == [{"month": "2026-11"}, {"month": "2026-12"}]


def test_a_call_of_two_tags_counts_under_both_and_once_in_the_total(store: Any, read: Read) -> None:
    store.write(tally((WEB, times(2)), (WEB._replace(tags="", key_id="k2"), ONE)))
    assert {row.by["tag"]: row.sums.calls for row in read("tag")} == {"": 1, "cc-7": 2, "prod": 2}
    assert {row.by["tag"]: row.sums.calls for row in read("tag", tag="prod")} == {"prod": 2}
    assert total(read).calls == 3


def test_a_change_of_tags_team_or_person_rewrites_no_past(store: Any, read: Read) -> None:
    store.write(tally((WEB, times(2)), (WEB._replace(tags="cc-8", team="ads"), ONE), (WEB._replace(person="ann"), ONE)))
    found = {(row.by["team"], row.by["tag"]): row.sums.calls for row in read("team", "tag")}
    assert found == {("search", "cc-7"): 3, ("search", "prod"): 3, ("ads", "cc-8"): 1}
    assert {row.by["person"]: row.sums.calls for row in read("person")} == {"": 3, "ann": 1}
    assert [row.sums.calls for row in read(person="ann")] == [1]


def test_a_key_is_shown_with_its_newest_name(store: Any, read: Read) -> None:
    later = WEB._replace(day="2026-11-27", key_name="website")
    store.write(tally((WEB, ONE), (later, ONE)))
    assert [row.by for row in read("key")] == [{"key": "k1", "key_name": "website"}]


def test_experiments_and_scorers_are_told_from_clients(store: Any, read: Read) -> None:
    nobody = WEB._replace(key_id="", key_name="", team="", organization="", tags="")
    shadow, judged = nobody._replace(experiment="swap", arm="new"), nobody._replace(scorer="helpful")
    store.write(tally((WEB, times(3)), (shadow, times(2)), (judged, ONE)))
    assert {row.by["source"]: row.sums.calls for row in read("source")} == {"client": 3, "experiment": 2, "scorer": 1}
    assert [row.by for row in read("experiment", "arm", source="experiment")] == [{"experiment": "swap", "arm": "new"}]
    assert [row.sums.calls for row in read(team="search")] == [3]
    assert [row.sums.calls for row in read("scorer", scorer="")] == [5]


def test_an_unknown_cost_is_not_a_cost_of_zero(store: Any, read: Read) -> None:
    unknown = ONE._replace(unpriced_calls=1, nano_usd=0)
    store.write(tally((WEB, ONE), (WEB._replace(model="own"), unknown)))
    assert {row.by["model"]: row.usd for row in read("model")} == {"gpt-x": 1_500_000 / NANO, "own": None}
    assert read()[0].usd == 1_500_000 / NANO, "with one unpriced call next to it"


def test_an_unknown_dimension_is_named_with_a_hint(read: Read) -> None:
    with pytest.raises(QueryError, match='no dimension "teams"; did you mean "team"'):
        read("teams")
    with pytest.raises(QueryError, match="expected one of day, month"):
        read(colour="red")


@pytest.mark.parametrize("seed", range(2))
def test_in_any_order_of_tallies_the_sums_are_exact(store: Any, read: Read, seed: int) -> None:
    """Several processes, whose tallies have the cells that changed; delivered again, late, in batches, and with the
    newest of each process at last."""
    rng = random.Random(seed)
    cells = [WEB._replace(model=f"m{n}", day=f"2026-11-{day}") for n in range(3) for day in (26, 27)]
    held: dict[str, dict[UsageCell, UsageSums]] = {f"g{n}": {} for n in range(3)}
    sent: list[Tally] = []
    for _ in range(25):
        name = rng.choice([*held])
        changed = rng.sample(cells, rng.randint(1, 3))
        for cell in changed:
            more = UsageSums(*(rng.randint(1, 10**9) for _ in ONE))
            held[name][cell] = held[name].get(cell, UsageSums()).plus(more)
        sent.append(tally(*((cell, held[name][cell]) for cell in changed), incarnation=name))
        store.write(*rng.choices(sent, k=rng.randint(1, 4)))
    for name, its in held.items():
        store.write(tally(*its.items(), incarnation=name))
        store.write(rng.choice(sent))
    expected = UsageSums()
    for its in held.values():
        for sums in its.values():
            expected = expected.plus(sums)
    assert total(read) == expected


HOUR_MS = 3_600_000
NOW_MS = 1_795_600_000_000


def at(store: Any, ms: int, *tallies: Tally) -> None:
    """Writes tallies that were appended at this time."""
    entries = [(f"{ms}-{n}", each) for n, each in enumerate(tallies)]
    store.run(lambda c: write(c, ScoredBatch({}, tallies=entries), 1.0))


def stopped(*counts: tuple[UsageCell, UsageSums], incarnation: str) -> Tally:
    return replace(tally(*counts, incarnation=incarnation), final=True)


def merge(store: Any, ms: int = NOW_MS) -> int:
    found: int = store.run(lambda c: merge_ended(c, {0: f"{ms}-0"}))
    return found


def test_processes_that_ended_become_one(store: Any, read: Read) -> None:
    for n in range(3):
        at(store, NOW_MS - 2 * HOUR_MS + n, stopped((WEB, times(2)), incarnation=f"g{n}"))
    at(store, NOW_MS - 2 * HOUR_MS, tally((WEB, ONE), incarnation="running"))
    at(store, NOW_MS - 10, stopped((WEB, ONE), incarnation="just stopped"))
    before = total(read)
    assert merge(store) == 3
    assert total(read) == before == times(8)
    assert store.sql("SELECT incarnation, calls FROM usage ORDER BY incarnation") == [
        ("", 6), ("just stopped", 1), ("running", 1),
    ]  # fmt: skip
    assert merge(store) == 0


def test_usage_that_is_merged_later_is_added(store: Any, read: Read) -> None:
    other = WEB._replace(model="mini")
    for hours, name in ((9, "g1"), (5, "g2")):
        at(store, NOW_MS - hours * HOUR_MS, stopped((WEB, ONE), (other, times(2)), incarnation=name))
        assert merge(store, NOW_MS - (hours - 3) * HOUR_MS) == 1
    assert {row.by["model"]: row.sums for row in read("model")} == {"gpt-x": times(2), "mini": times(4)}


def test_a_tally_that_arrives_again_after_the_merge_changes_nothing(store: Any, read: Read) -> None:
    older, last = tally((WEB, ONE), incarnation="g1"), stopped((WEB, times(3)), incarnation="g1")
    at(store, NOW_MS - 2 * HOUR_MS, older, last)
    merge(store)
    at(store, NOW_MS, older, last)
    assert total(read) == times(3)


def test_a_process_that_fell_silent_may_come_back(store: Any, read: Read) -> None:
    at(store, NOW_MS - 48 * HOUR_MS, tally((WEB, ONE), incarnation="g1"))
    store.run(lambda c: c.exec_driver_sql("UPDATE ledgers SET state = 'dead'"))
    assert merge(store) == 0
    at(store, NOW_MS, tally((WEB, times(4)), incarnation="g1"))
    assert total(read) == times(4)
    store.run(lambda c: c.exec_driver_sql("UPDATE ledgers SET state = 'dead'"))
    assert merge(store, NOW_MS + 33 * 24 * HOUR_MS) == 1
    assert total(read) == times(4)
