"""The usage of a process: the calls that are added, the series by team, and the cells that tallies report."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from fixtures.metric_samples import sample_sum
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from gateway.core.errors import QueueFull
from gateway.core.exchange import Attempt, Target, Usage
from gateway.core.prices import Price, Prices
from gateway.core.usage import UsageCell, UsageCount, UsageSums
from gateway.observability.proxy_metrics import ProxyMetrics
from gateway.proxy.limits.charge import Charge, charge_of
from gateway.proxy.recording.usage_ledger import (
    MOST_CELLS,
    MOST_TEAMS,
    TeamLabels,
    UsageBooks,
    UsageLedger,
    plain_charge,
)
from gateway.proxy.relay.state import CallContext, HeldBytes
from gateway.proxy.request.call import Call, Caller
from gateway.proxy.types import ClientGone

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


def test_changed_cells_are_due_until_acknowledged() -> None:
    ledger = a_ledger()
    ledger.add(cell("a"), ONE)
    ledger.add(cell("a"), ONE)
    first = ledger.due()
    assert first == (UsageCount(cell("a"), UsageSums(calls=2, input_tokens=20, nano_usd=14)),)
    assert ledger.due() == first, "the first one was not acknowledged"
    ledger.acknowledge(first)
    assert ledger.due() == ()


def test_cells_that_change_during_an_append_stay_due() -> None:
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


def test_a_round_that_ends_between_two_tallies_loses_nothing() -> None:
    """Tallies of an idle process are fifteen periods apart, and a past day is forgotten after its round."""
    ledger = a_ledger(tallies=20)
    for n in range(60):
        ledger.add(cell(f"k{n}", "2024-10-01"), ONE)
    ledger.acknowledge(ledger.due(15))
    again = [key for _ in range(4) for key in keys(ledger.due(15))]
    assert sorted(again) == sorted(f"k{n}" for n in range(60))


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


TARGET = Target("openai", "gpt-x")
CHARGE = Charge(100, 40, 20, 5, 0.0015, False)
SEARCH = Caller("web", id="key_1", team="search", organization="acme", tags=("prod", "cc-7"))


class Books:
    """Books, and what they say."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.metrics = ProxyMetrics(self.registry)
        self.ledger = UsageLedger()
        self.books = UsageBooks(self.ledger, self.metrics, scorer_keys={"judges"})

    def cells(self) -> dict[UsageCell, UsageSums]:
        return {count.cell: count.sums for count in self.ledger.everything()}

    def value(self, name: str, **labels: str) -> float | None:
        self.metrics.counts.flush()
        return sample_sum(self.registry, name, **labels)


@pytest.fixture
def books() -> Books:
    """The books to which calls are counted."""
    return Books()


def test_a_call_counts_for_its_key_team_and_model(books: Books) -> None:
    books.books.add_calls("chat", TARGET, [(SEARCH, "", CHARGE), (SEARCH, "", replace(CHARGE, estimated=True))])
    whose = (books.ledger.day, "key_1", "web", "search", "acme", "cc-7 prod")
    cell = UsageCell(*whose, "chat", "openai", "gpt-x", "", "", "")
    assert books.cells() == {cell: UsageSums(2, 0, 1, 200, 80, 40, 10, 3_000_000)}


def test_a_call_without_a_price_counts_as_unpriced_and_not_as_free(books: Books) -> None:
    books.books.add_calls("chat", TARGET, [(SEARCH, "", replace(CHARGE, usd=None)), (SEARCH, "", CHARGE)])
    [sums] = books.cells().values()
    assert (sums.calls, sums.unpriced_calls, sums.input_tokens, sums.nano_usd) == (2, 1, 200, 1_500_000)
    assert books.value("gateway_team_unpriced_total", team="search") == 1
    assert books.value("gateway_team_cost_usd_total", team="search") == pytest.approx(0.0015)


def test_only_the_scorers_own_key_may_name_a_scorer(books: Books) -> None:
    """A client could otherwise have its calls counted elsewhere."""
    judges = Caller("judges", id="judges")
    books.books.add_calls("judge", TARGET, [(judges, "helpful", CHARGE), (SEARCH, "helpful", CHARGE)])
    assert {cell.key_id: cell.scorer for cell in books.cells()} == {"judges": "helpful", "key_1": ""}
    assert books.value("gateway_team_requests_total", team="search") == 1
    assert books.value("gateway_team_requests_total", team="none") is None, "nobody but the scorer pays"


def test_a_team_that_owns_the_scorers_key_pays_for_it(books: Books) -> None:
    """The team's limits count them, too."""
    judges = Caller("judges", id="judges", team="quality")
    books.books.add_calls("judge", TARGET, [(judges, "helpful", CHARGE)])
    assert [(cell.team, cell.scorer) for cell in books.cells()] == [("quality", "helpful")]
    assert books.value("gateway_team_requests_total", team="quality") == 1


def test_a_shadow_request_counts_for_its_experiment(books: Books) -> None:
    books.books.add_shadow("chat", TARGET, "swap", "candidate", CHARGE)
    cell = UsageCell(books.ledger.day, "", "", "", "", "", "chat", "openai", "gpt-x", "swap", "candidate", "")
    assert books.cells() == {cell: UsageSums(1, 0, 0, 100, 40, 20, 5, 1_500_000)}
    assert books.value("gateway_team_requests_total", team="none") is None


def test_tokens_of_a_team_are_counted_by_type(books: Books) -> None:
    books.books.add_calls("chat", TARGET, [(SEARCH, "", CHARGE), (Caller("open"), "", CHARGE)])
    for kind, n in (("input", 100), ("cached_input", 40), ("output", 20), ("reasoning", 5)):
        assert books.value("gateway_team_tokens_total", team="search", type=kind) == n
        assert books.value("gateway_team_tokens_total", team="none", type=kind) == n


def test_teams_beyond_the_first_share_a_label() -> None:
    labels = TeamLabels()
    labels.learn(f"t{n}" for n in range(MOST_TEAMS))
    assert labels.of("t7") == "t7"
    assert labels.of("one more") == "other"
    assert labels.of(None) == "none"


tokens = st.integers(0, 10**6)
usages: Any = st.builds(Usage, tokens, tokens, st.none() | tokens, st.none() | tokens)
prices = st.none() | st.builds(Price, *[st.floats(0, 100)] * 2, *[st.none() | st.floats(0, 100)] * 2)


@given(usage=usages, price=prices)
def test_a_plain_answer_costs_here_what_it_costs_for_limits(usage: Usage, price: Price | None) -> None:
    """Both agree to the last bit: counters of limits and the ledger must agree."""
    call = Call("id", 0.0, 0.0, SEARCH, "chat", b"POST", b"/chat/completions", "chat", False, b"{}")
    context = CallContext(HeldBytes(False, 0), attempts=[Attempt(TARGET, 200, None, 0.1, usage)], usage=usage)
    known = Prices({} if price is None else {str(TARGET): price})
    assert plain_charge(usage, price) == charge_of(call, context, known, 0)


def test_a_call_outside_the_models_counts_unless_it_is_refused(books: Books) -> None:
    for costs in (True, False):
        with books.books.passing(SEARCH, "openai", costs=costs):
            pass
    with pytest.raises(ClientGone), books.books.passing(SEARCH, "openai", costs=False):
        raise ClientGone
    with pytest.raises(QueueFull), books.books.passing(SEARCH, "openai", costs=True):
        raise QueueFull("the upstream is full")
    [(cell, sums)] = books.cells().items()
    assert (cell.alias, cell.upstream, cell.model, cell.key_id) == ("", "openai", "", "key_1")
    assert sums == UsageSums(calls=3, unpriced_calls=1)
