"""The arithmetic of leases, against a real stream server: whatever gets lost, no limit is exceeded."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from pathlib import Path
from shutil import copyfile, copytree, rmtree
from typing import Any

import pytest
from fixtures.limit_calls import LimitCalls
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from gateway.config.stream import StreamConfig
from gateway.core.exchange import new_id
from gateway.core.limits import Limit, LimitScope
from gateway.proxy.limits.kept_leases import KeptLeases, settle_killed
from gateway.proxy.limits.lease import IDLE_S, SHARE_IDLE_S, Lease, units
from gateway.proxy.limits.limiter import CallReservation
from gateway.proxy.limits.refusal import details
from gateway.stream.connect import close, connect
from gateway.stream.leases import LeaseGrant, LeaseReport, LeaseServer

NOW = 1_000_000.0
DAY = Limit("tokens", 1000, "day")
SCOPE = LimitScope("team", "search", (DAY,))


def a_lease(limit: Limit = DAY, ends: float = NOW + 86_400) -> Lease:
    return Lease(SCOPE, limit, f"team:search:{limit.name}:x", NOW - 1, ends)


def granted(n: int, left: int = 900, share: int = 0) -> LeaseGrant:
    return LeaseGrant(n, left, share, 0, 0)


@pytest.mark.parametrize(
    ("limit", "n"),
    [
        (Limit("requests", 60, "minute"), 60),
        (Limit("usd", 0.075, "day"), 75_000_000),
        (Limit("usd", 500, "month"), 500 * 10**9),
        (Limit("concurrency", 8), 8),
    ],
)
def test_amounts_are_whole_numbers(limit: Limit, n: int) -> None:
    assert units(limit) == n


def test_reserving_and_settling_do_not_change_the_total() -> None:
    lease = a_lease()
    lease.free = 100
    calls = LimitCalls(lease)
    reservation = calls.reserve(60)
    assert (lease.free, lease.held, lease.spent, lease.total) == (40, 60, 0, 100)
    calls.settle(reservation, 25)
    assert (lease.free, lease.held, lease.spent, lease.total) == (75, 0, 25, 100)


def test_usage_beyond_a_reservation_is_reported() -> None:
    lease = a_lease()
    lease.free = 10
    calls = LimitCalls(lease)
    calls.settle(calls.reserve(10), 35)
    report = lease.report(NOW)
    assert (lease.free, report.spent, report.total) == (0, 35, 35)


def test_a_call_that_waits_is_asked_for_in_full() -> None:
    lease = a_lease()
    lease.free = 10
    lease.wait(40, NOW)
    report = lease.report(NOW)
    assert report.need == 30
    assert report.want >= 30
    assert lease.report(NOW).need == 0, "a caller that still waits says so again"


def test_a_lease_asks_for_the_next_seconds_spending() -> None:
    lease = a_lease()
    lease.accept(granted(20), NOW)
    calls = LimitCalls(lease)
    for second in range(10):
        calls.settle(calls.reserve(20), 20)
        lease.accept(granted(lease.report(NOW + second).want), NOW + second)
    assert lease.target(NOW + 9) == pytest.approx(20, abs=1)
    assert 19 <= lease.free <= 40


def test_amounts_that_a_call_waits_for_are_not_given_back() -> None:
    """The call waits for another limit, and has enough of this one."""
    lease = a_lease()
    lease.free = 500
    lease.wait(300, NOW)
    report = lease.report(NOW + IDLE_S)
    assert (report.need, lease.free) == (0, 300)


@pytest.mark.parametrize(("n", "dry"), [(30, False), (29, True)])
def test_less_than_calls_wait_for_is_a_refusal(n: int, dry: bool) -> None:
    lease = a_lease()
    lease.free = 10
    lease.wait(40, NOW)
    lease.report(NOW)
    lease.accept(granted(n), NOW)
    assert lease.dry is dry


@pytest.mark.parametrize(("free", "granted_now", "asks"), [(0, 20, True), (100, 0, True), (0, 0, False)])
def test_a_lease_asks_again_before_it_is_used_up(free: int, granted_now: int, asks: bool) -> None:
    """A server that had nothing when it was asked is not asked again."""
    lease = a_lease()
    lease.free = free + 20
    LimitCalls(lease).reserve(20)
    lease.report(NOW)
    lease.accept(granted(granted_now), NOW)
    assert (lease.low > 0) is asks


def test_large_calls_find_room_for_the_next_one() -> None:
    """Large calls give most of it back at their end, so the rate of spending does not show their need."""
    lease = a_lease(Limit("tokens", 10**6, "day"))
    lease.free = 4000
    calls = LimitCalls(lease)
    for half_second in range(40):
        calls.settle(calls.reserve(4000), 50)
        report = lease.report(NOW + half_second / 2)
        lease.accept(granted(report.want, left=10**5), NOW + half_second / 2)
        assert lease.free >= 4000 - 50


def test_an_idle_lease_gives_back_what_is_free_and_later_its_share() -> None:
    lease = a_lease()
    lease.wait(10, NOW)
    lease.report(NOW)
    lease.accept(granted(100, share=50), NOW)
    assert (lease.free, lease.share) == (100, 50)
    report = lease.report(NOW + IDLE_S)
    assert (lease.free, report.total, report.share) == (0, 0, 50)
    assert lease.report(NOW + SHARE_IDLE_S).share == -1
    assert lease.share == 0


def test_an_ended_window_keeps_only_calls_in_flight() -> None:
    lease = a_lease(ends=NOW + 5)
    lease.wait(10, NOW)
    lease.report(NOW)
    lease.accept(granted(100, share=50), NOW)
    LimitCalls(lease).reserve(30)
    report = lease.report(NOW + 5)
    assert (report.total, report.share, report.want) == (30, -1, 0)


@pytest.mark.parametrize("limit", [Limit("tokens", 1000, "minute"), Limit("concurrency", 10)], ids=lambda x: x.name)
def test_short_limits_have_no_share(limit: Limit) -> None:
    lease = a_lease(limit)
    lease.wait(10, NOW)
    assert lease.report(NOW).share == -1


def test_an_outage_lends_the_share_once() -> None:
    lease = a_lease()
    lease.wait(10, NOW)
    lease.report(NOW)
    lease.accept(granted(10, share=50), NOW)
    lease.borrow(4)
    lease.borrow(4)
    assert (lease.free, lease.share) == (60, 0)
    report = lease.report(NOW, keep=True)
    assert (report.total, report.share) == (60, 0), "nothing goes back while the server may not hear of it"


def test_a_share_that_was_given_up_is_not_promised() -> None:
    """An idle lease gives its share up; the next call finds the server away. It may use a part of what was left."""
    lease = a_lease()
    lease.wait(10, NOW)
    lease.report(NOW)
    lease.accept(granted(0, left=800, share=50), NOW)
    lease.report(NOW + SHARE_IDLE_S)
    lease.accept(granted(0, left=800), NOW + SHARE_IDLE_S)
    lease.wait(10, NOW + SHARE_IDLE_S + 5)
    assert lease.report(NOW + SHARE_IDLE_S + 5).share == 0, "it asks for one again"
    lease.borrow(4)
    assert lease.free == 200


def test_lent_amounts_are_not_left_as_well() -> None:
    """`used` and `remaining` add up to the amount, in an outage too; `spent` is what ended calls have cost."""
    lease = a_lease()
    lease.wait(10, NOW)
    lease.report(NOW)
    lease.accept(granted(10, left=700, share=300), NOW)  # others hold the rest
    lease.borrow(2)
    calls = LimitCalls(lease)
    calls.settle(calls.reserve(60), 40)
    shown = details(lease)
    assert shown["used"] + lease.remaining == lease.amount
    assert (shown["used"], shown["spent"], shown["reserved"]) == (330, 40, 290)
    lease.report(NOW + 1, keep=True)
    assert details(lease) == shown


@pytest.mark.parametrize(("spent", "used_up"), [(989, False), (990, False), (991, True)])
def test_a_budget_is_used_up_where_nobody_can_give_back(spent: int, used_up: bool) -> None:
    lease = a_lease()
    lease.report(NOW)
    lease.accept(LeaseGrant(0, 0, 0, spent, 0), NOW)
    assert lease.used_up(10) is used_up


@pytest.mark.parametrize(("seen", "part"), [(False, 250), (True, 100)])
def test_without_a_share_an_outage_lends_a_part_of_what_was_left(seen: bool, part: int) -> None:
    lease = a_lease(Limit("tokens", 1000, "minute"))
    if seen:
        lease.report(NOW)
        lease.accept(granted(0, left=400), NOW)
    lease.borrow(4)
    assert lease.free == part


def test_borrowed_amounts_are_covered_or_given_back() -> None:
    lease = a_lease(Limit("tokens", 1000, "minute"))
    lease.wait(5, NOW)
    lease.report(NOW)
    lease.borrow(4)  # 250
    LimitCalls(lease).reserve(5)
    lease.accept(granted(5, left=0), NOW)
    assert (lease.free, lease.held) == (0, 5)


@dataclass
class Worker:
    """One worker: its lease, its connection to the server, its calls in flight."""

    server: LeaseServer
    id: str
    lease: Lease
    calls: LimitCalls
    in_flight: list[tuple[int, CallReservation]] = field(default_factory=list)
    """Tokens, and their reservation."""
    cut_off: bool = False
    """Whether its last exchange failed."""
    asked: bool = False
    """Whether its last report asked for a share."""
    promised: bool = False
    """The server has answered a report that asked for a share, and none has given it up since: what it borrows is
    promised to it. (Without one it borrows a part of what was left when it last knew: that can be more than is left.)
    """
    borrowed: bool = False
    """Whether it has borrowed since its last report that arrived: the server does not know what it may have spent."""
    forgotten: int = 0
    """The amount that a lease had spent which is forgotten, until the server says it."""

    def borrow(self) -> None:
        self.lease.borrow(3)
        self.borrowed = True


AMOUNT = 1000
WORKERS = st.integers(0, 2)
PATIENCE_S = 60.0


class Fleet(RuleBasedStateMachine):
    """Three workers share one limit; exchanges fail, replies get lost, workers die."""

    loop: asyncio.AbstractEventLoop
    client: Any
    scope = SCOPE
    limit_name = "team:search:tokens_per_day:x"

    def __init__(self) -> None:
        super().__init__()
        self.name = f"test-{new_id()}"
        self.now = NOW
        self.excess = 0
        """Amount that calls used beyond their reservations."""
        self.lost = 0
        """Amount that dead workers had spent, or reserved when they died."""
        self.leases_made = 0
        self.workers = [self.worker() for _ in range(3)]

    @property
    def of_user(self) -> bool:
        return self.scope.kind == "user"

    @property
    def of_many(self) -> bool:
        """Whether its leases are forgotten and go on."""
        return self.scope.kind in ("user", "run")

    def lease(self) -> Lease:
        limit = Limit("tokens", AMOUNT, "day")
        self.leases_made += 1
        resumes = self.leases_made if self.of_many else 0
        lease = Lease(self.scope, limit, self.limit_name, 0.0, time.time() + 86_400, resumes)
        lease.reported_at = self.now
        return lease

    def worker(self) -> Worker:
        worker_id, lease = new_id(), self.lease()
        return Worker(LeaseServer(self.client, self.name, worker_id), worker_id, lease, LimitCalls(lease))

    def send(self, worker: Worker, **how: Any) -> Any:
        reply = self.loop.run_until_complete(worker.server.exchange([self.report(worker, **how)]))
        worker.borrowed = False
        return reply

    def report(self, worker: Worker, **how: Any) -> LeaseReport:
        report = worker.lease.report(self.now, keep=worker.cut_off and not how, **how)
        worker.asked = report.share >= 0
        worker.promised = worker.promised and worker.asked
        return report

    def accept(self, worker: Worker, reply: Any) -> None:
        worker.lease.accept(reply.grants[0], self.now)
        worker.promised = worker.asked
        worker.forgotten = 0
        if self.limit_name in reply.called_back:
            worker.lease.call_back()

    @rule(seconds=st.sampled_from([0.01, 0.5, 3.0, 40.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(i=WORKERS, amount=st.integers(1, 300))
    def a_call_begins(self, i: int, amount: int) -> None:
        worker = self.workers[i]
        if worker.lease.free < amount and worker.cut_off and (worker.promised or self.of_user):
            worker.borrow()
        if worker.lease.free < amount and not worker.cut_off:
            worker.lease.wait(amount, self.now)
            self.accept(worker, self.send(worker))
        if worker.lease.free >= amount:
            worker.in_flight.append((amount, worker.calls.reserve(amount)))

    @rule(i=WORKERS, share=st.floats(0, 1.2), late=st.booleans())
    def a_call_ends(self, i: int, share: float, late: bool) -> None:
        worker = self.workers[i]
        if worker.in_flight:
            reserved, reservation = worker.in_flight.pop(0 if late else -1)
            cost = int(reserved * share)
            self.excess += max(0, cost - reserved)
            worker.calls.settle(reservation, cost)

    @rule(i=WORKERS)
    def exchange(self, i: int) -> None:
        worker = self.workers[i]
        self.accept(worker, self.send(worker))
        worker.cut_off = False

    @rule(i=WORKERS, arrives=st.booleans())
    def exchange_fails(self, i: int, arrives: bool) -> None:
        """The request is lost, or only the reply."""
        worker = self.workers[i]
        if arrives:
            self.send(worker)
        else:
            self.report(worker)
        worker.cut_off = True

    @rule(i=WORKERS, amount=st.integers(1, 300))
    def a_call_begins_while_the_reply_is_late(self, i: int, amount: int) -> None:
        worker = self.workers[i]
        reply = self.send(worker)
        if worker.promised or self.of_user:
            worker.borrow()
        if worker.lease.free >= amount:
            worker.in_flight.append((amount, worker.calls.reserve(amount)))
        self.accept(worker, reply)

    @rule(i=WORKERS)
    def an_old_report_arrives_late(self, i: int) -> None:
        worker = self.workers[i]
        self.send(worker)
        old = LeaseServer(self.client, self.name, worker.id)
        assert self.loop.run_until_complete(old.exchange([self.report(worker)])) is None
        worker.cut_off = True

    @rule(i=WORKERS, how=st.sampled_from(["not swept", "swept", "swept after a restart of the server"]))
    def a_worker_dies(self, i: int, how: str) -> None:
        """One that borrowed after its last report, and was swept by a server that has not started since, is an
        exception (docs/teams.md)."""
        worker = self.workers[i]
        if how == "swept" and (worker.borrowed or worker.lease.borrowed):
            return
        self.lost += worker.lease.spent + worker.lease.held + worker.forgotten
        self.workers[i] = self.worker()
        if how != "not swept":
            # A slow machine must not make the living seem dead: a share that is swept while its worker is cut off
            # for longer than DEAD_S may be used twice (docs/teams.md).
            seen = {alive.id: (time.time() + 3600) * 1000 for alive in self.workers}
            workers = f"{{{self.name}:limits}}:workers"
            last = (time.time() - 16) * 1000 if how == "swept" else 1
            self.loop.run_until_complete(self.client.zadd(workers, {**seen, worker.id: last}, xx=True))
            self.loop.run_until_complete(self.workers[i - 1].server.sweep())

    def go_on(self, worker: Worker) -> None:
        worker.lease = self.lease()
        worker.calls, worker.promised, worker.borrowed = LimitCalls(worker.lease), False, False

    @rule(i=WORKERS)
    def an_end_user_is_forgotten(self, i: int) -> None:
        worker = self.workers[i]
        if self.of_many and not worker.in_flight and worker.lease.forgettable(self.now, 60.0):
            worker.forgotten += worker.lease.spent
            self.go_on(worker)

    @precondition(lambda self: not any(w.borrowed or w.lease.borrowed or w.forgotten for w in self.workers))
    @rule()
    def the_server_loses_its_data(self) -> None:
        """Everybody reports everything again before anything is granted; what the dead have spent is reseeded."""
        keys = self.loop.run_until_complete(self.client.keys(f"{{{self.name}:limits}}*"))
        self.loop.run_until_complete(self.client.delete(*keys, "none"))
        for worker in self.workers:
            self.send(worker)
            worker.cut_off = True
        total = self.lost + sum(worker.lease.spent for worker in self.workers)
        server = self.workers[0].server
        name = self.workers[0].lease.name
        self.loop.run_until_complete(server.raise_spent(name, total, int(time.time() + 9999) * 1000))

    @invariant()
    def all_together_stay_within_the_limit(self) -> None:
        held = sum(worker.lease.total + worker.lease.share + worker.forgotten for worker in self.workers)
        assert self.lost + held <= AMOUNT + self.excess

    def teardown(self) -> None:
        for worker in self.workers:
            for _, reservation in worker.in_flight:
                worker.calls.settle(reservation, 0)
            self.send(worker, leaving=True)


class UserFleet(Fleet):
    """Workers with the limit of an end user: they forget it, and borrow in an outage whether or not they know it."""

    scope = LimitScope("user", "team-search/1234", (DAY,))
    limit_name = "u:0123456789abcdef01234567:tokens_per_day:x"


class RunFleet(Fleet):
    """Workers with the ceiling of a run, which keep what they use in case they are killed: the next process gives back
    the rest, to the last unit."""

    scope = LimitScope("run", "run_0123456789abcdef01234567", (DAY,))
    limit_name = "r:0123456789abcdef01234567:tokens_per_run"
    folder: Path

    def __init__(self) -> None:
        self.kept: dict[str, KeptLeases] = {}
        self.settled = True
        """Whether all of the dead were settled."""
        self.overdrawn = 0
        super().__init__()

    def worker(self) -> Worker:
        worker = super().worker()
        self.kept[worker.id] = KeptLeases(self.folder, worker.id, most=2)
        self.go_on(worker)
        return worker

    def go_on(self, worker: Worker) -> None:
        kept = self.kept[worker.id]
        kept.release(worker.lease)
        super().go_on(worker)
        kept.keep(worker.lease, time.time())
        worker.calls = LimitCalls(worker.lease, kept)

    def accept(self, worker: Worker, reply: Any) -> None:
        super().accept(worker, reply)
        self.kept[worker.id].note(worker.lease, time.time())

    @rule(i=WORKERS, times=st.integers(1, 2), late=st.booleans())
    def a_worker_is_killed(self, i: int, times: int, late: bool) -> None:
        """late: its last report arrives when it has been settled."""
        worker = self.workers[i]
        self.lost += worker.lease.spent + worker.lease.held + worker.forgotten
        left = self.folder / worker.id
        (left / "leases").mkdir(parents=True)
        copyfile(self.folder / "leases" / worker.id, left / "leases" / worker.id)
        self.kept.pop(worker.id).close()
        self.workers[i] = self.worker()
        for _ in range(times):
            copytree(left, left.with_suffix(".again"))
            self.loop.run_until_complete(settle_killed(left.with_suffix(".again"), worker.server, again_s=0.0))
            rmtree(left.with_suffix(".again"))
            if late:
                assert self.loop.run_until_complete(worker.server.exchange([worker.lease.report(self.now)])) is None
        rmtree(left)

    @rule(i=WORKERS)
    def a_worker_dies(self, i: int) -> None:  # type: ignore[override]
        self.settled = False
        super().a_worker_dies(i, "not swept")

    def teardown(self) -> None:
        """Exactly the amount that was used counts, and nothing is held back."""
        super().teardown()
        used = self.lost + sum(worker.lease.spent for worker in self.workers)
        counted, held = self.loop.run_until_complete(self.workers[0].server.spent([self.limit_name]))[self.limit_name]
        assert counted == used if self.settled else counted + held >= used
        assert held == 0 or not self.settled
        for kept in self.kept.values():
            kept.close()


@pytest.mark.parametrize("fleet", [Fleet, UserFleet, RunFleet])
@pytest.mark.parametrize("examples", [40, pytest.param(1000, marks=[pytest.mark.long, pytest.mark.timeout(900)])])
def test_whatever_gets_lost_no_limit_is_exceeded(
    stream_url: str, examples: int, fleet: type[Fleet], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    loop, client = asyncio.new_event_loop(), connect(stream_url, StreamConfig())
    # What is lost, the machine decides: a reply that a busy computer delays is none of it.
    client.connection_pool.connection_kwargs["socket_timeout"] = PATIENCE_S
    monkeypatch.setattr("gateway.stream.connect.VERB_TIMEOUT_S", PATIENCE_S)
    machine = type("OnServer", (fleet,), {"loop": loop, "client": client, "folder": tmp_path})
    health = [HealthCheck.too_slow, HealthCheck.data_too_large]
    try:
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=examples, stateful_step_count=40, deadline=None, suppress_health_check=health
            ),
        )
    finally:
        loop.run_until_complete(close(client))
        loop.close()
