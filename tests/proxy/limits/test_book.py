"""The leases that a caller draws on, the beginnings of windows, and their clock."""

from __future__ import annotations

import pytest

from gateway.core.limits import Limit, LimitScope
from gateway.proxy.limits.book import NEXT_WINDOW_S, LeaseBook
from gateway.proxy.limits.lease import Lease
from gateway.proxy.limits.refusal import used
from gateway.stream.leases import LeaseGrant

MINUTE, DAY, FLIGHT = Limit("requests", 60, "minute"), Limit("tokens", 1000, "day"), Limit("concurrency", 8)
KEY, TEAM = LimitScope("key", "web", (MINUTE, FLIGHT)), LimitScope("team", "search", (DAY,))
START = 1_764_115_200.0  # 2025-11-26T00:00:00Z


class Clock:
    """A monotonic clock that a test sets, and a wall clock that may be wrong."""

    def __init__(self, wall_error_s: float = 0.0) -> None:
        self.seconds = 100.0
        self.wall_error_s = wall_error_s

    def monotonic(self) -> float:
        return self.seconds

    def wall(self) -> float:
        return START + self.seconds - 100.0 + self.wall_error_s


def in_use(lease: Lease, held: int) -> None:
    """Moves an amount of a lease to calls in flight."""
    lease.held += held
    lease.free -= held
    lease.busy = True


def a_book(clock: Clock, workers: int = 1) -> LeaseBook:
    return LeaseBook(clock.monotonic, clock.wall, workers)


def test_a_caller_draws_on_the_leases_of_all_of_its_scopes() -> None:
    book = a_book(Clock())
    account = book.account("web", (KEY, TEAM))
    assert [lease.name for lease in account.leases] == [
        "key:web:requests_per_minute:2025-11-26T00:00",
        "key:web:concurrency",
        "team:search:tokens_per_day:2025-11-26",
    ]
    assert account.rolls_at == START + 60
    other = book.account("app", (TEAM,))
    assert other.leases[0] is account.leases[2], "what a team shares is one lease"


def test_a_window_that_begins_has_a_lease_of_its_own() -> None:
    clock = Clock()
    book = a_book(clock)
    scopes = (KEY, TEAM)
    before = book.account("web", scopes).leases
    clock.seconds += 60
    after = book.account("web", scopes).leases
    assert after[0].name == "key:web:requests_per_minute:2025-11-26T00:01"
    assert after[0] is not before[0]
    assert after[1:] == before[1:]


def test_a_wrong_wall_clock_is_corrected_by_the_first_exchange() -> None:
    clock = Clock(wall_error_s=7200.0)
    book = a_book(clock)
    scopes = (KEY,)
    lease = book.account("web", scopes).leases[0]
    lease.wait(1, book.now())
    assert lease.name.endswith("T02:00")
    book.measured(clock.seconds - 0.2, clock.seconds, START - 0.1)
    assert book.now() == pytest.approx(START)
    assert book.account("web", scopes).leases[0].name.endswith("T00:00")
    assert lease.used_at == pytest.approx(START)


def test_a_lease_in_use_is_renewed_before_its_window_ends() -> None:
    clock = Clock()
    book = a_book(clock)
    lease = book.account("web", (KEY,)).leases[0]
    in_use(lease, 5)
    book.ask(lease)
    clock.seconds += 60 - NEXT_WINDOW_S
    in_use(lease, 5)
    [renewed] = [each for each in book.due(book.now(), 2.0) if each is not lease] or [None]
    following = book.leases["key:web:requests_per_minute:2025-11-26T00:01"]
    assert renewed is None
    assert following in book.due(book.now(), 2.0)
    assert following.report(book.now()).want > 0


def test_a_lease_is_left_alone_once_it_holds_nothing() -> None:
    clock = Clock()
    book = a_book(clock)
    lease = book.account("team", (TEAM,)).leases[0]
    book.ask(lease)
    in_use(lease, 0)
    clock.seconds += 31
    lease.report(book.now())
    lease.accept(LeaseGrant(0, 1000, 0, 0, 0), book.now())
    book.reported(lease)
    assert book.due(book.now(), 2.0) == []


def test_leases_of_past_windows_are_forgotten_when_idle() -> None:
    clock = Clock()
    book = a_book(clock)
    lease = book.account("web", (KEY,)).leases[0]
    lease.held = 1
    for _ in range(3):
        clock.seconds += 61
        book.due(book.now(), 2.0)
        assert lease.name in book.leases
    lease.held = 0
    clock.seconds += 61
    book.due(book.now(), 2.0)
    assert lease.name not in book.leases


def test_a_changed_limit_keeps_the_amount_spent() -> None:
    book = a_book(Clock())
    lease = book.account("web", (TEAM,)).leases[0]
    lease.spent = 7
    more = LimitScope("team", "search", (Limit("tokens", 5000, "day"),))
    assert book.account("web", (more,)).leases == [lease]
    assert (lease.amount, lease.spent) == (5000, 7)


def test_the_smallest_limits_of_a_minute_are_those_of_the_headers() -> None:
    smaller = LimitScope("team", "search", (Limit("requests", 10, "minute"), Limit("tokens", 99, "minute"), DAY))
    requests, tokens = a_book(Clock()).account("web", (KEY, smaller)).rate_leases
    assert requests is not None
    assert tokens is not None
    assert (requests.amount, tokens.amount) == (10, 99)


def test_nothing_is_asked_for_while_the_server_is_unreachable() -> None:
    book = a_book(Clock())
    asked: list[int] = []
    book.on_urgent = lambda: asked.append(1)
    lease = book.account("web", (KEY,)).leases[0]
    book.down = True
    book.ask(lease)
    assert (asked, book.urgent) == ([], set())
    book.down = False
    book.ask(lease)
    assert (asked, book.urgent) == ([1], {lease})


def test_an_idle_worker_asks_again_for_the_remainder() -> None:
    """The remainder would otherwise show, until the window ends, what others only held when it was last in use."""
    clock = Clock()
    book = a_book(clock)
    lease = book.account("team", (TEAM,)).leases[0]
    in_use(lease, 0)
    lease.report(book.now())
    lease.accept(LeaseGrant(0, 0, 0, 850, 0), book.now())
    book.reported(lease)
    clock.seconds += 50
    assert book.due(book.now(), 2.0) == []
    clock.seconds += 20
    assert book.due(book.now(), 2.0) == [lease]
    report = lease.report(book.now())
    assert (report.want, report.need, report.total) == (0, 0, 0), "it asks for nothing else"
    lease.accept(LeaseGrant(0, 150, 0, 850, 0), book.now())
    book.reported(lease)
    assert used(lease) / lease.amount == 0.85
    assert book.due(book.now(), 2.0) == []


def test_a_carried_amount_counts_as_spent_until_its_end() -> None:
    limit = Limit("usd", 10.0, "month", carried=4.0, carried_until=START + 3600)
    lease = Lease(LimitScope("key", "web", (limit,)), limit, "x", START, START + 86_400)
    assert used(lease) == 4_000_000_000, "before the server has said anything"
    assert lease.report(START + 3599).carried == 4_000_000_000
    assert lease.report(START + 3600).carried == 0
    lease.change(Limit("usd", 10.0, "month", carried=5.0, carried_until=START + 3600))
    assert lease.report(START + 1).carried == 5_000_000_000
