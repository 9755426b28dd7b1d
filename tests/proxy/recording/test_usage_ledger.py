"""Which sums a tally reports: what has changed, and now and then everything."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.usage import UsageCell, UsageCount, UsageSums
from gateway.proxy.recording.usage_ledger import MOST_CELLS, UsageLedger

DAY_S = 86400.0
ONE = UsageSums(calls=1, input_tokens=10, nano_usd=7)
NOON = 20_000 * DAY_S + DAY_S / 2  # 2024-10-04


class Clock:
    def __init__(self, now: float = NOON) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def cell(key: str, day: str = "2024-10-04") -> UsageCell:
    return UsageCell(day, key, key, "", "", "", "chat", "u", "m", "", "", "")


def keys(counts: Iterable[UsageCount]) -> list[str]:
    return [count.cell.key_id for count in counts]


def a_ledger(clock: Clock | None = None, tallies: int = 1000) -> UsageLedger:
    return UsageLedger(clock or Clock(), again_s=float(tallies), tally_s=1.0)


def test_what_has_changed_is_due_until_it_is_acknowledged() -> None:
    ledger = a_ledger()
    ledger.add(cell("a"), ONE)
    ledger.add(cell("a"), ONE)
    first = ledger.due()
    assert first == (UsageCount(cell("a"), UsageSums(calls=2, input_tokens=20, nano_usd=14)),)
    assert ledger.due() == first, "the first one was not acknowledged"
    ledger.acknowledge(first)
    assert ledger.due() == ()


def test_what_changes_while_a_tally_is_appended_stays_due() -> None:
    ledger = a_ledger()
    ledger.add(cell("a"), ONE)
    ledger.add(cell("b"), ONE)
    sent = ledger.due()
    ledger.add(cell("a"), ONE)
    ledger.acknowledge(sent)
    assert keys(ledger.due()) == ["a"]


def test_a_tally_has_a_bounded_number_of_cells() -> None:
    ledger = a_ledger()
    for n in range(MOST_CELLS + 5):
        ledger.add(cell(f"k{n}"), ONE)
    first = ledger.due()
    assert len(first) == MOST_CELLS
    ledger.acknowledge(first)
    assert keys(ledger.due()) == [f"k{n}" for n in range(MOST_CELLS, MOST_CELLS + 5)]


def test_each_cell_is_reported_again_in_every_round() -> None:
    """The stream server may lose what it has acknowledged."""
    ledger = a_ledger(tallies=10)
    for n in range(25):
        ledger.add(cell(f"k{n}"), ONE)
    ledger.acknowledge(ledger.due())
    for _ in range(9):
        ledger.acknowledge(ledger.due())
    for _ in range(3):
        parts = [keys(ledger.due()) for _ in range(10)]
        assert sorted(key for part in parts for key in part) == sorted(f"k{n}" for n in range(25))
        assert max(map(len, parts)) <= 3, "in even parts"


def test_a_past_day_is_forgotten_once_it_was_reported_again() -> None:
    clock = Clock()
    ledger = a_ledger(clock, tallies=10)
    ledger.add(cell("a"), ONE)
    ledger.acknowledge(ledger.due())
    clock.now += DAY_S
    ledger.add(cell("unreported"), ONE)
    found = [key for _ in range(30) for key in keys(ledger.due())]
    assert "a" in found
    assert keys(ledger.everything()) == ["unreported"], "of a past day as well, but never acknowledged"


def test_a_clock_set_back_counts_for_no_day_that_was_forgotten() -> None:
    clock = Clock()
    ledger = a_ledger(clock, tallies=10)
    ledger.add(cell("a", ledger.day), ONE)
    ledger.acknowledge(ledger.due())
    clock.now += 30 * DAY_S
    for _ in range(30):
        ledger.due()
    assert ledger.day == "2024-11-03"
    clock.now = NOON
    assert ledger.day == "2024-10-05"


STEPS = st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.booleans()), max_size=60)


@given(steps=STEPS, tallies=st.integers(1, 5))
def test_whatever_is_lost_on_the_way_the_newest_sums_arrive(steps: list[tuple[str, bool, bool]], tallies: int) -> None:
    """appended: the stream server acknowledges it. kept: it does not lose it afterwards."""
    ledger = a_ledger(tallies=tallies)
    arrived: dict[UsageCell, UsageSums] = {}
    for key, appended, kept in steps:
        ledger.add(cell(key), ONE)
        due = ledger.due()
        if appended:
            ledger.acknowledge(due)
        if appended and kept:
            arrived |= {count.cell: count.sums for count in due}
    for _ in range(2 * tallies):
        due = ledger.due()
        ledger.acknowledge(due)
        arrived |= {count.cell: count.sums for count in due}
    assert arrived == {count.cell: count.sums for count in ledger.everything()}
