"""Leases of one worker: those that a caller's calls draw on, their windows, and the rules in an outage.

Outlives configs, so that no reload loses the amounts spent. Synchronous and without I/O: exchange.py talks to the
stream server. Time is the stream server's: a monotonic clock plus an offset that each exchange measures, so a pod whose
wall clock is wrong, or is set, counts in the same windows as all others.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from gateway.core.call_scopes import CallScopes
from gateway.core.limits import Limit, LimitScope, Window, counter_name, window_end, window_name, window_start
from gateway.core.run_ceilings import RUN_LIFE_S, OnEnd, RunBudget, RunCeiling, run_scope
from gateway.proxy.limits.kept_leases import KeptLeases
from gateway.proxy.limits.lease import Lease, units
from gateway.proxy.request.call import RunId
from gateway.stream.leases import Demands

NEXT_WINDOW_S = 3.0
"""Time before the end of its window at which a lease in use is renewed."""
REFRESH_S = 60.0
"""Interval after which the server is asked again for the remainder of a limit: an idle worker would otherwise show,
until its window ends, the amounts that others held when it was last in use."""
_REFRESH_EVERY_S, _REFRESHED = 5.0, 250  # seconds between refreshes, and leases in each: 50 a second
_KEPT_ACCOUNTS = 20_000
_PURGE_S = 60.0
USER_IDLE_S = 60.0
"""Idle seconds after which the lease of an end user is forgotten; the stream server knows the amount spent."""
_USERS_AT_ONCE = 2_000
_STEP_S = 0.5  # a larger step of the clock is a correction, not noise
_FOREVER = float("inf")
_UNLIMITED = 1 << 200
_QUICK_S = 0.1  # a slower exchange does not tell the time well


LeasePairs = tuple[tuple[Lease, int], ...]


class HourlyNames:
    """The names that are distinguished in this hour, by owner."""

    def __init__(self) -> None:
        self._hour = 0
        self._names: dict[str, set[int]] = {}

    def knows(self, owner: str, name: int, most: int, now: float) -> bool:
        """Whether a name is among the first `most` of its owner in the hour of `now`."""
        hour = int(now // 3600)
        if hour != self._hour:
            self._hour, self._names = hour, {}
        names = self._names.setdefault(owner, set())
        if name not in names:
            if len(names) >= most:
                return False
            names.add(name)
        return True


@dataclass(frozen=True, slots=True)
class RunAccount:
    """The run of an account, and its ceilings."""

    key: str
    """exchange.run_key of the run whose ceiling counts."""
    ceiling: RunCeiling
    parts: tuple[tuple[str, RunCeiling], ...] = ()
    """Ceilings of its calls to this model, or with its tags."""
    tier: bool = False
    """Whether its calls go to the cheaper tier, since the dollars before it are used up."""
    budget: RunBudget | None = None
    """The ceiling that the call itself asked for."""
    label: str = ""
    """Name for people: the key and the client's id."""

    @property
    def name(self) -> str:
        """The name among the accounts of its caller: `known_run` looks up the plain one."""
        return self.key if self.budget is None and not self.tier else f"{self.key} {self.tier} {self.budget}"

    def ends_otherwise(self) -> bool:
        """Whether minutes or loops may end it, which no lease counts."""
        return any(ceiling.minutes is not None or ceiling.loops is not None for ceiling in self.ceilings)

    def on_end(self, lease: Lease) -> OnEnd:
        """The rule at the end of this ceiling of the run."""
        _, _, part = lease.scope.id.partition("/")
        if part == "tier":
            return "stop"
        return dict(self.parts).get(part, self.ceiling).on_end(lease.limit.measure)

    @property
    def ceilings(self) -> tuple[RunCeiling, ...]:
        return (self.ceiling, *(ceiling for _, ceiling in self.parts))

    def scopes(self) -> Iterator[LimitScope]:
        """The scopes that its calls draw on."""
        beyond = self.ceiling.tier() if self.tier else None
        ceiling = self.ceiling if beyond is None else self.ceiling.without_usd()
        if ceiling.limits():
            yield run_scope(self.key, ceiling, label=self.label)
        if beyond is not None:
            yield run_scope(self.key, beyond, "tier", self.label)
        for part, bound in self.parts:
            if bound.limits():
                yield run_scope(self.key, bound, part, self.label)


class SharedPlaces(Protocol):
    """An upstream whose places are shared by what each worker wants of them."""

    def wanted(self) -> str:
        """Demand of this worker, for the others; "": none."""

    def heard(self, demands: Demands | None) -> None:
        """Takes what the workers want. None if that is unknown."""


class Account:
    """The leases that the calls of one caller draw on, in the windows that are open."""

    def __init__(self, scopes: tuple[LimitScope, ...], run: RunAccount | None = None) -> None:
        self.scopes = scopes
        limits = [limit for scope in scopes for limit in scope.limits]
        self.closed = any(limit.on_outage == "closed" for limit in limits)
        self.in_tokens = any(limit.measure == "tokens" for limit in limits)
        self.in_usd = any(limit.measure == "usd" for limit in limits)
        self.in_gpu = any(limit.measure == "gpu_seconds" for limit in limits)
        self.most_tokens = min((units(limit) for limit in limits if limit.measure == "tokens"), default=_UNLIMITED)
        """The smallest limit of tokens, in whatever window."""
        self.most_nano_usd = min((units(limit) for limit in limits if limit.measure == "usd"), default=_UNLIMITED)
        self.most_nano_gpu = min(
            (units(limit) for limit in limits if limit.measure == "gpu_seconds"), default=_UNLIMITED
        )
        self.leases: list[Lease] = []
        self.pairs: LeasePairs = ()
        """The leases with their measures, for the hot path."""
        self.rate_leases: tuple[Lease | None, Lease | None] = (None, None)
        """The smallest limits of requests and tokens per minute, for the x-ratelimit headers."""
        self.rolls_at = 0.0
        """The end of the first of its windows."""
        self.source: CallScopes | None = None
        """Origin of the scopes, for calls whose limits depend on the call."""
        self.run = run
        """The run that it is of; None if it is of no run, or of one without a ceiling."""
        self.checks_run = run is not None and run.ends_otherwise()
        """Whether minutes or loops may end the run, which no lease counts."""


WAIT_S = 0.05
"""The longest that a call waits for the stream server."""


class LeaseBook:
    """The leases of one worker process."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        workers: int = 1,
        wait_s: float = WAIT_S,
        kept: KeptLeases | None = None,
    ) -> None:
        """clock: monotonic seconds. wall: Unix seconds; used until the first exchange. workers: of this gateway, until
        the stream server says how many there are in all. wait_s: the longest that a call waits for the server.
        kept: keeps what runs use in case the process is killed."""
        self.clock = clock
        self.kept = kept or KeptLeases()
        self.wait_s = wait_s
        self.offset_s = wall() - clock()
        """Offset of the stream server's clock from `clock`."""
        self.workers = workers
        self.down = False
        """The last exchange failed."""
        self.late = False
        """Whether the exchange in flight takes too long for calls to wait for it."""
        self.leases: dict[str, Lease] = {}
        self.active: set[Lease] = set()
        """Leases that have changed, or hold something: those that are reported."""
        self.urgent: set[Lease] = set()
        """Leases that need more before the next regular exchange."""
        self.on_urgent: Callable[[], None] = lambda: None
        self.shared: Mapping[str, SharedPlaces] = {}
        """The upstreams whose places all gateways share."""
        self.stopped: dict[str, float] = {}
        """Runs that a person has stopped, and until when that counts."""
        self.ended: dict[str, str] = {}
        """Ends of runs that the stream server does not know yet, as `LeaseServer.note_end` takes them, by counter."""
        self.accounts: dict[str, Account] = {}
        self.call_accounts: dict[tuple[str, ...], Account] = {}
        """Accounts of calls whose limits depend on the call, by key, model, end user and tags."""
        self._users, self._runs = HourlyNames(), HourlyNames()
        self._user_leases: deque[str] = deque()  # in the order in which they are looked at
        self._user_leases_made = 0
        self._purged_at = self._refreshed_at = float("-inf")
        self._measured = False
        self._windows: dict[tuple[Window, str], tuple[str, float, float]] = {}

    def now(self) -> float:
        """Unix seconds on the stream server's clock."""
        return self.clock() + self.offset_s

    def account(self, key: str, scopes: tuple[LimitScope, ...]) -> Account:
        """The account of a key, in the windows that are open now. scopes: another object than before means that
        limits have changed."""
        account = self.accounts.get(key)
        if account is not None and account.scopes == scopes:
            account.scopes = scopes
        else:
            if len(self.accounts) >= _KEPT_ACCOUNTS:
                self.accounts.pop(next(iter(self.accounts)))
            account = self.accounts[key] = Account(scopes)
        self.roll(account)
        return account

    def call_account(self, name: tuple[str, ...], of: CallScopes | None, make: Callable[[], Account]) -> Account:
        """The account of calls with this name, in the windows that are open now. of: where its limits come from."""
        account = self.call_accounts.get(name)
        if account is None or account.source is not of:
            if len(self.call_accounts) >= _KEPT_ACCOUNTS:
                self.call_accounts.pop(next(iter(self.call_accounts)))
            account = self.call_accounts[name] = make()
            account.source = of
        if self.roll(account):
            for lease in account.leases:
                if lease.is_many and name not in lease.accounts:
                    lease.accounts.append(name)
        return account

    def note_stopped(self, runs: Iterable[str]) -> None:
        """Notes runs that a person has stopped, for a day."""
        now = self.now()
        for run in [run for run, until in self.stopped.items() if until < now]:
            del self.stopped[run]
        self.stopped.update(dict.fromkeys(runs, now + RUN_LIFE_S))

    def note_end(self, lease: Lease, end: str) -> None:
        """Notes for people that a run has ended; once, until somebody adds to the ceiling."""
        noted = (end, lease.added, lease.began)
        if lease.seen and lease.noted_end != noted:
            lease.noted_end, self.ended[lease.name] = noted, end

    def known_run(self, run: RunId | None, of: CallScopes, caller: str, now: float) -> Account | None:
        """The account of a run that this worker has had before, if a call's run alone decides about its scopes."""
        if run is None or run.budget is not None or not of.only_of_runs:
            return None
        try:
            account = self.call_accounts[caller, run.counted or run.key, "", ""]  # .get() would be a call more
        except KeyError:
            return None
        return account if account.source is of and now < account.rolls_at else None

    def knows_user(self, digest: str, most: int) -> bool:
        """Whether an end user is counted individually: the first `most` of an hour are."""
        return self._users.knows("", int(digest, 16), most, self.now())

    def knows_run(self, caller: str, run: str, most: int) -> bool:
        """Whether a run has a ceiling of its own: the first `most` of a caller in an hour have."""
        return self._runs.knows(caller, hash(run), most, self.now())

    def roll(self, account: Account) -> bool:
        """Moves an account on to the windows that are open now. False if they were."""
        now = self.now()
        if now < account.rolls_at:
            return False
        self._open(account, now)
        return True

    def _open(self, account: Account, now: float) -> None:
        account.leases = [self.lease(scope, limit, now) for scope in account.scopes for limit in scope.limits]
        account.pairs = tuple((lease, lease.measure) for lease in account.leases)
        account.rolls_at = min((lease.ends for lease in account.leases), default=_FOREVER)
        by_measure: dict[int, Lease] = {}
        for lease in account.leases:
            known = by_measure.get(lease.measure)
            if lease.limit.window == "minute" and (known is None or lease.amount < known.amount):
                by_measure[lease.measure] = lease
        account.rate_leases = (by_measure.get(0), by_measure.get(1))

    def lease(self, scope: LimitScope, limit: Limit, at: float) -> Lease:
        """The lease on a limit in the window that holds `at`."""
        window, starts, ends = self._window(limit, at)
        name = counter_name(scope, limit, at, window)
        lease = self.leases.get(name)
        if lease is None:
            lease = self.leases[name] = Lease(scope, limit, name, starts, ends, self._resumes(scope))
            if lease.is_many:
                self._user_leases.append(name)
            if lease.of_run:
                self.kept.keep(lease, at)
        elif lease.limit != limit:
            lease.change(limit)
        return lease

    def _resumes(self, scope: LimitScope) -> int:
        """The number of a lease that may not be the first of its name: those of end users and runs are forgotten."""
        if scope.kind not in ("user", "run"):
            return 0
        self._user_leases_made += 1
        return self._user_leases_made

    def call_back(self, names: Iterable[str]) -> None:
        """Gives up the shares of these limits of end users: calls elsewhere need what they hold back."""
        for name in names:
            lease = self.leases.get(name)
            if lease is not None and lease.call_back():
                self.unreported(lease)

    def _window(self, limit: Limit, at: float) -> tuple[str | None, float, float]:
        """Name, beginning and end of the window that holds `at`: the calendar is asked once for each."""
        if limit.window is None or limit.window == "run":
            return None, 0.0, _FOREVER
        key = (limit.window, limit.zone)
        known = self._windows.get(key)
        if known is None or not known[1] <= at < known[2]:
            starts, ends = window_start(*key, at).timestamp(), window_end(*key, at)
            known = self._windows[key] = (window_name(*key, at), starts, ends)
        return known

    def ask(self, lease: Lease) -> None:
        """Requests more of a lease: it is needed soon, or a call waits for it."""
        lease.asked = True
        self.active.add(lease)
        if not self.down:
            self.urgent.add(lease)
            self.on_urgent()

    def due(self, now: float, idle_every_s: float) -> list[Lease]:
        """The leases to report now: those that changed, and at longer intervals those that only hold something, and
        those whose remainder has not been reported for long."""
        self._refresh(now)
        found = []
        for lease in list(self.active):
            if lease.ends - NEXT_WINDOW_S <= now < lease.ends and lease.target(now):
                self._renew(lease)
            if lease.busy or lease.need or lease.free or now - lease.reported_at >= idle_every_s:
                found.append(lease)
        self._purge(now)
        self._forget_users(now)
        return found

    def _forget_users(self, now: float) -> None:
        """Forgets the leases of end users who have not called for a minute, a few at a time: they are many."""
        for _ in range(min(_USERS_AT_ONCE, len(self._user_leases))):
            name = self._user_leases.popleft()
            lease = self.leases.get(name)
            if lease is None:
                continue
            if lease in self.active or not lease.forgettable(now, USER_IDLE_S):
                self._user_leases.append(name)
                if lease.share_is_due(now):
                    self.active.add(lease)
                continue
            del self.leases[name]
            self.kept.release(lease)
            for account in lease.accounts:
                self.call_accounts.pop(account, None)

    def _refresh(self, now: float) -> None:
        """Whether the remainder of a lease is refreshed: limits of a minute, and of calls in flight, change too fast
        for it, and no alert covers them."""
        if now - self._refreshed_at < _REFRESH_EVERY_S:
            return
        self._refreshed_at = now
        old = (
            lease
            for lease in self.leases.values()
            if lease.seen
            and not lease.is_many
            and now - lease.checked_at >= REFRESH_S
            and lease.starts <= now < lease.ends
            and lease.limit.window not in (None, "minute")
        )
        self.active.update(islice(old, _REFRESHED))

    def _renew(self, lease: Lease) -> None:
        """Begins the lease of the next window, so that its first call need not wait."""
        following = self.lease(lease.scope, lease.limit, lease.ends + 1e-3)
        if not following.seen:
            following.rate, following.step, following.used_at = lease.rate, lease.step, lease.used_at
            following.busy = True
            self.active.add(following)

    def reported(self, lease: Lease) -> None:
        """Notes that its report was accepted: it is left alone until it is used again, if it holds nothing."""
        self.kept.note(lease, self.now())
        if lease.rests:
            self.active.discard(lease)

    def _purge(self, now: float) -> None:
        """Forgets the leases of past windows, which hold nothing and have been reported."""
        if now - self._purged_at < _PURGE_S:
            return
        self._purged_at = now
        for lease in [each for each in self.leases.values() if now >= each.ends and each not in self.active]:
            if lease.held == 0 and not lease.share:
                del self.leases[lease.name]

    def report_all(self) -> None:
        """The server has lost earlier reports: everything is reported again."""
        for lease in self.leases.values():
            self.unreported(lease)

    def unreported(self, lease: Lease) -> None:
        """Notes that its last report may not have arrived."""
        lease.reported_at = float("-inf")
        self.active.add(lease)

    def measured(self, sent: float, received: float, server_s: float) -> None:
        """Takes the offset from one exchange. sent, received: readings of `clock`."""
        if self._measured and received - sent > _QUICK_S:  # too slow to tell more than these bounds
            offset_s = min(max(self.offset_s, server_s - received), server_s - sent)
        else:
            offset_s = server_s - (sent + received) / 2
        self._measured = True
        step_s, self.offset_s = offset_s - self.offset_s, offset_s
        if abs(step_s) > _STEP_S:
            for lease in self.leases.values():
                lease.shift(step_s)
            for account in self.accounts.values():
                account.rolls_at = 0.0
