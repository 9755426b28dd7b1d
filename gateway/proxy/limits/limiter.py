"""Limits on the hot path: a call reserves the amounts that it may use, and settles its actual usage.

Both are arithmetic on leases that this worker holds; no call waits for the stream server unless one of its limits is on
its last slice, or is used for the first time in a window. Then it waits for one exchange, at most 50 ms.

Invariants:

1. An amount is deducted from its limit on the stream server before any call uses it.
2. Over all workers, leased + spent <= limit, except for usage beyond reservations.
3. A reservation holds for all limits of a call or for none, and is settled once, by the object itself.
4. A call counts in the windows in which it was reserved, however long it runs.
5. Windows follow the stream server's clock, whose offset each exchange measures.
6. Amounts that a worker held when it died count as spent until the window ends; its calls in flight end with it. Of a
   run, the next process on its data directory gives back what it had not used.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from gateway.config.limits import Budgets
from gateway.core.call_scopes import NOBODY, OTHERS, user_digest
from gateway.core.errors import GatewayError, NotAllowed, QuotaExceeded
from gateway.core.limits import MEASURES, Limit, LimitScope
from gateway.core.run_ceilings import OnEnd
from gateway.observability.proxy_metrics import ProxyMetrics
from gateway.proxy.limits.accounting import FREE_APIS
from gateway.proxy.limits.book import Account, LeaseBook, LeasePairs, RunAccount
from gateway.proxy.limits.charge import BYTES_PER_TOKEN, Charge, input_tokens_of
from gateway.proxy.limits.estimate import NO_ESTIMATE, ModelEstimate, output_of
from gateway.proxy.limits.headers import RATE_LINES
from gateway.proxy.limits.lease import Lease
from gateway.proxy.limits.patience import Patience
from gateway.proxy.limits.refusal import RunEnded, details, plain, refusal, unavailable, used
from gateway.proxy.limits.run_ceilings import (
    check_loops,
    check_minutes,
    check_stopped,
    require_run,
    run_account,
    with_remaining,
)
from gateway.proxy.request.call import DECISION_APIS, Call, Caller, RunId, end_user_of
from gateway.proxy.request.decision_bodies import repeated_bytes
from gateway.proxy.request.output_limit import DEFAULTED

_USD = MEASURES.index("usd")
_FRESH_S = 0.25  # a reply of the server that nothing is left counts for this time
_LARGE_BODY_BYTES = 32 << 10
_FIGURES_S = 0.5
_MINUTES_S = 1.0
_END_OF_RUN_S = 1.0
"""The longest that a call waits, in all, before its run is refused without the stream server's answer."""

Needs = tuple[int, int, int, int, int]
"""Requests, tokens, 1e-9 USD, calls in flight and 1e-9 GPU-seconds, in the order of core.limits.MEASURES. Zero amounts
are not counted."""


class Exchanges(Protocol):
    """The exchange of leases with the stream server."""

    async def next_exchange(self, patience: Patience) -> bool: ...


class Offline:
    """Exchanges of a process without a stream server."""

    async def next_exchange(self, patience: Patience) -> bool:
        return False


@dataclass(slots=True)
class CallReservation:
    """The amounts that one call has reserved of each of its limits."""

    pairs: LeasePairs
    needs: Needs
    estimate: ModelEstimate | None
    """Learns from the call's output; None if the caller has limited it, or there is none."""
    lines: bytes
    """x-ratelimit header lines for the response; b"": none."""
    output: int
    """Output tokens in `needs`, of all answers together."""
    settled: bool = False


class Limiter:
    """The limits of one config."""

    def __init__(
        self,
        book: LeaseBook,
        exchanges: Exchanges,
        estimates: Mapping[str, ModelEstimate],
        budgets: Budgets,
        metrics: ProxyMetrics,
    ) -> None:
        self._book = book
        self._exchanges = exchanges
        self.estimates = estimates
        self.estimates_by_request = estimates if budgets.estimate == "request" else {}
        """The estimates that learn by the kind of a request."""
        self.default_output = budgets.default_max_tokens
        """The limit of answers that name none; None means that they stay without one."""
        self._budgets = budgets
        self._metrics = metrics

    def note_end(self, call: Call, ended: RunEnded, end: OnEnd | None = None) -> None:
        """Notes for people that a run has ended, or goes on with the cheaper tier. end: None: what the ceiling says."""
        if ended.lease is not None:
            how = end or ("ask" if ended.on_end == "ask" else "stop")
            self._book.note_end(ended.lease, f"{how} {ended.by} {ended.amount:g} {call.caller.id}")

    def counts(self, run: RunId) -> bool:
        """Whether a run matters, though its caller has no limits: it asks for a ceiling, or somebody was stopped."""
        return run.budget is not None or bool(self._book.stopped)

    @property
    def degraded(self) -> bool:
        """Leases cannot be renewed, and some limit is in use."""
        return self._book.down and bool(self._book.leases)

    def reserve(self, caller: Caller, call: Call) -> CallReservation | None:
        """Reserves from the amounts that this worker holds. None if they do not suffice, and `wait` has to decide.

        Raises NotAllowed for a model without a known price, if the caller has limits in dollars and the policy says so;
        LimitsUnavailable in an outage, if one of its limits is `closed`.
        """
        book = self._book
        if book.stopped:
            check_stopped(book, call)
        now = book.clock() + book.offset_s
        of = caller.of_call
        if of is not None:
            account = book.known_run(call.run, of, caller.id, now) or self._account(caller, call)
        elif call.run is not None and call.run.budget is not None:
            account = self._account(caller, call)
        else:
            try:
                account = book.accounts[caller.id]  # .get() would be a call more
            except KeyError:
                account = book.account(caller.id, caller.scopes)
            if account.scopes is not caller.scopes or now >= account.rolls_at:
                account = book.account(caller.id, caller.scopes)
        if book.down and account.closed:
            raise self._closed(account)
        if account.run is not None and account.checks_run:
            self._check_run(account, account.run, call)
        estimate = self.estimates[call.alias]
        needs, output, given = self._needs(account, estimate, call)
        return self.take(account, needs, None if given else estimate, now, output)

    def _check_run(self, account: Account, run: RunAccount, call: Call) -> None:
        """Raises QuotaExceeded for a call of a run that has ended by its loops or minutes."""
        try:
            check_minutes(account, run, self._book.now())
            check_loops(account, run, call)
        except RunEnded as refused:
            lease, m = refused.lease, self._metrics
            if refused.by == "minutes" and lease is not None and self._book.now() - lease.checked_at >= _MINUTES_S:
                self._book.ask(lease)  # a person may have added to them
            m.counts.of(m.limit_refused, "run", refused.details["limit"]).n += 1
            raise

    async def reserve_at(
        self, estimate: ModelEstimate, caller: Caller, call: Call, *, tier: bool = False
    ) -> CallReservation:
        """Reserves at another estimate than the model's. tier: of a run whose dollars before the cheaper tier are used
        up. Raises as `reserve` and `wait` do."""
        account = self._account(caller, call, tier=tier)
        if self._book.down and account.closed:
            raise self._closed(account)
        needs, output, given = self._needs(account, estimate, call)
        learns = None if given else estimate
        taken = self.take(account, needs, learns, self._book.now(), output)
        return taken or await self._wait(account, needs, learns, output)

    def nearly_spent(self, caller: Caller, call: Call) -> bool:
        """Whether a limit in dollars is used up to `budgets.tier_down_at`."""
        at, leases = self._budgets.tier_down_at, self._account(caller, call).leases
        return any(lease.measure == _USD and used(lease) >= at * lease.amount for lease in leases)

    def goes_on(self, call: Call) -> bool:
        """Whether the run of a call may use the cheaper tier after its dollars."""
        run = self._account(call.caller, call).run
        return run is not None and run.ceiling.tier() is not None

    def most_output(self, call: Call) -> int:
        """The output tokens that would have been reserved for a call without a reservation."""
        return output_of(call, self.estimates.get(call.alias, NO_ESTIMATE), len(call.body))[0]

    def tokens_of(self, call: Call) -> int:
        """The tokens that would be reserved for a call, input and output."""
        return 0 if call.api in FREE_APIS else input_tokens_of(call.body) + self.most_output(call) + 1

    def with_default(self, caller: Caller, call: Call) -> Call:
        """The call with `budgets.default_max_tokens`, if it names no limit and its key has one of tokens or dollars."""
        account = self._account(caller, call)
        counted = account.in_usd or account.in_tokens or account.in_gpu
        if not counted or call.api not in DEFAULTED or output_of(call, NO_ESTIMATE, 0)[1]:
            return call
        return replace(call, default_output=self.default_output)

    def _account(self, caller: Caller, call: Call, *, tier: bool = False) -> Account:
        """The account that a call draws on. Of an end user, only a digest is kept. tier: of a run whose dollars before
        the cheaper tier are used up. Raises BadRequest for a call that needs a run."""
        of, book = caller.of_call, self._book
        known = None if of is None or tier else book.known_run(call.run, of, caller.id, book.now())
        if known is not None:
            return known
        require_run(call)
        run = None if call.run is None else run_account(book, call, call.run, tier=tier)
        if of is None and run is None:
            return book.account(caller.id, caller.scopes)
        user, tags = "", caller.call_tags if of is not None and (of.tags or of.run_parts) else ()
        if of is not None and of.users:
            named = end_user_of(call)
            user = NOBODY if named is None else user_digest(named)
            if named is not None and not book.knows_user(user, self._budgets.most_users):
                user = OTHERS
        alias = call.alias if of is not None and (of.models or of.run_parts) else ""

        def make() -> Account:
            scopes = caller.scopes if of is None else of.of(alias, user, tags)
            return Account(scopes if run is None else (*scopes, *run.scopes()), run)

        name = (caller.id, alias, user, *tags) if run is None else (caller.id, run.name, alias, user, *tags)
        return book.call_account(name, of, make)

    def _needs(self, account: Account, estimate: ModelEstimate, call: Call) -> tuple[Needs, int, bool]:
        """The amounts that the call may use, its output alone, and whether the caller itself has limited it."""
        if call.api in FREE_APIS:
            return (1, 0, 0, 1, 0), 0, True
        size = len(call.body)
        input_tokens = size // BYTES_PER_TOKEN if size <= _LARGE_BODY_BYTES else input_tokens_of(call.body)
        if call.api in DECISION_APIS:
            input_tokens += repeated_bytes(call.slices()) // BYTES_PER_TOKEN
        output, given = output_of(call, estimate, size)
        tokens = input_tokens + output + 1
        if not given and tokens > account.most_tokens:
            tokens = account.most_tokens  # an estimate alone does not refuse a call for good
            output = max(0, tokens - input_tokens - 1)
        nano_gpu = 0
        if account.in_gpu:
            if estimate.lacks_gpu is not None:
                tokens = self._unpriced(_shown(estimate.lacks_gpu, call), tokens, "GPU-seconds")
            else:
                nano_gpu, output = _nano_gpu(account, estimate, input_tokens, output, given)
        if not account.in_usd:
            return (1, tokens, 0, 1, nano_gpu), output, given
        if estimate.unpriced is not None:
            tokens = self._unpriced(_shown(estimate.unpriced, call), tokens, "dollars")
            return (1, tokens, 0, 1, nano_gpu), output, given
        nano_usd = int(input_tokens * estimate.input_nano + output * estimate.output_nano) + 1
        if not given and nano_usd > account.most_nano_usd:
            nano_usd = account.most_nano_usd
            left = nano_usd - input_tokens * estimate.input_nano
            output = max(0, int(left / estimate.output_nano)) if estimate.output_nano else output
        return (1, tokens, nano_usd, 1, nano_gpu), output, given

    def _unpriced(self, target: str, tokens: int, unit: str) -> int:
        """The tokens that count of a call whose price is unknown."""
        if self._budgets.unknown_price == "refuse":
            section = "`prices`" if unit == "dollars" else "`prices.gpu_seconds`"
            raise NotAllowed(
                f"the price of {target} is unknown, and this key has a limit in {unit}; add the price under {section}, "
                "or set budgets.unknown_price",
                code="unknown_price",
                retry=False,
            )
        return tokens if self._budgets.unknown_price == "count_tokens" else 0

    def take(
        self, account: Account, needs: Needs, estimate: ModelEstimate | None, now: float, output: int = 0
    ) -> CallReservation | None:
        """Takes from all leases, or from none."""
        pairs = account.pairs
        for lease, measure in pairs:
            if lease.free < needs[measure]:
                return None
        for lease, measure in pairs:
            need = needs[measure]
            lease.held += need
            free = lease.free = lease.free - need
            if need > lease.step:
                lease.step = need
            if lease.slot is not None:
                self._book.kept.numbers[lease.slot] += need
            if not lease.busy:
                lease.busy = True
                self._book.active.add(lease)
            if free < lease.low and not lease.asked:
                self._book.ask(lease)
        lines = b""
        for rate in account.rate_leases:
            if rate is not None:
                left = rate.left + rate.free
                values = (rate.amount, left if left > 0 else 0, rate.ends - now)
                lines += (b"\r\n" if lines else b"") + RATE_LINES[rate.measure] % values
        if account.run is not None:
            for lease, _ in pairs:
                if lease.left + lease.free <= lease.near:
                    lines = with_remaining(lines, account, account.run, now)
                    break
            else:
                if account.checks_run:
                    lines = with_remaining(lines, account, account.run, now)
        return CallReservation(pairs, needs, estimate, lines, output)

    async def wait(self, caller: Caller, call: Call) -> CallReservation:
        """Reserves with a grant of the stream server. Raises RateLimited, QuotaExceeded or LimitsUnavailable."""
        account = self._account(caller, call)
        estimate = self.estimates[call.alias]
        needs, output, given = self._needs(account, estimate, call)
        taken = await self._wait(account, needs, None if given else estimate, output)
        if account.run is not None:
            self._check_began(account, account.run, taken)
        return taken

    def _check_began(self, account: Account, run: RunAccount, taken: CallReservation) -> None:
        """Raises QuotaExceeded if the stream server's answer shows that the run's minutes are over."""
        try:
            check_minutes(account, run, self._book.now())
        except QuotaExceeded:
            self.settle(taken, None)
            raise

    @contextlib.asynccontextmanager
    async def passing(self, caller: Caller, target: str | None, *, on_engine: bool = False) -> AsyncIterator[None]:
        """A call outside the models: it counts as a request and as a call in flight.

        target: the one that it is sent to, if that may cost money; None if it costs nothing. on_engine: that runs on
        the user's own machines. Raises as `reserve` and `wait` do.
        """
        if not caller.scopes:
            yield
            return
        account = self._book.account(caller.id, caller.scopes)
        if target is not None and account.in_usd:
            self._unpriced(target, 0, "dollars")
        if target is not None and account.in_gpu and on_engine:
            self._unpriced(target, 0, "GPU-seconds")
        needs = (1, 0, 0, 1, 0)
        if self._book.down and account.closed:
            raise self._closed(account)
        reserved = self.take(account, needs, None, self._book.now()) or await self._wait(account, needs, None)
        charge: Charge | None = Charge(0, 0, 0, 0, 0.0, False)
        try:
            yield
        except GatewayError:  # no upstream was reached
            charge = None
            raise
        finally:
            self.settle(reserved, charge)

    async def _wait(
        self, account: Account, needs: Needs, estimate: ModelEstimate | None, output: int = 0
    ) -> CallReservation:
        book = self._book
        self._refuse_at_once(account, needs)
        if book.down or book.late:
            result = ""
        elif await self._ask(account, needs, book.wait_s):
            result = "granted"
        else:
            book.late, result = True, "late"
        if result != "granted":
            self._borrow(account, needs)
        taken = self.take(account, needs, estimate, book.now(), output)
        unknown = taken is None and account.run is not None and result != "granted" and not book.down
        # A late answer is better than to end a run for good that may go on.
        if unknown and await self._ask(account, needs, _END_OF_RUN_S):
            result, taken = "granted", self.take(account, needs, estimate, book.now(), output)
        if result:
            self._count("refused" if result == "granted" and taken is None else result)
        if taken is None:
            raise self._refused(account, needs, known=result == "granted")
        return taken

    async def _ask(self, account: Account, needs: Needs, within_s: float) -> bool:
        """Whether the stream server has answered in time: everything needed is here, or some of it was refused.

        Usually that takes one exchange; more, if a window ended or other calls took the grant meanwhile.
        """
        book = self._book
        patience = Patience(within_s)
        while True:
            for lease, measure in account.pairs:
                lease.wait(needs[measure], book.now())
                if lease.free < needs[measure]:
                    book.ask(lease)
            if not await self._exchanges.next_exchange(patience):
                return False
            if book.roll(account):
                continue
            lacking = [lease for lease, measure in account.pairs if lease.free < needs[measure]]
            if not lacking or any(lease.dry and lease not in book.urgent for lease in lacking):
                return True

    def _refuse_at_once(self, account: Account, needs: Needs) -> None:
        """Raises the refusal of a need that can never pass, or that the server has just refused: neither is asked
        for."""
        now = self._book.now()
        for lease in account.leases:
            need = needs[lease.measure]
            if need > lease.amount or (not self._book.down and lease.short(need, now, _FRESH_S)):
                raise self._error(account, lease, need)

    def _borrow(self, account: Account, needs: Needs) -> None:
        """Borrows while the server does not answer: limits that are `closed` refuse, others lend this worker's part
        once."""
        for lease in account.leases:
            if lease.free < needs[lease.measure]:
                if lease.limit.on_outage == "closed":
                    raise unavailable(lease)
                lease.borrow(self._book.workers)

    def _refused(self, account: Account, needs: Needs, *, known: bool) -> GatewayError:
        """known: the server has just refused it. In an outage, an empty lease does not say that a budget is used up."""
        lacking = [lease for lease in account.leases if lease.free < needs[lease.measure]]
        lease = lacking[0]
        if not known:
            lease = next((each for each in lacking if each.used_up(needs[each.measure])), None) or lease
            if not (lease.of_run or lease.limit.heals_with_time or lease.used_up(needs[lease.measure])):
                return unavailable(lease)
        return self._error(account, lease, needs[lease.measure])

    def _error(self, account: Account, lease: Lease, need: int) -> GatewayError:
        m = self._metrics
        m.counts.of(m.limit_refused, lease.scope.kind, lease.limit.name).n += 1
        return refusal(account, lease, need, self._book.now(), self._budgets.status)

    def _closed(self, account: Account) -> GatewayError:
        return unavailable(next(lease for lease in account.leases if lease.limit.on_outage == "closed"))

    def _count(self, result: str) -> None:
        self._metrics.counts.of(self._metrics.limit_waits, result).n += 1

    async def figures(self, caller: Caller) -> list[dict[str, Any]]:
        """Lists each limit of a caller: amount, used, remaining, reset. As recent as the leases of the stream
        server."""
        book = self._book
        account = book.account(caller.id, caller.scopes)
        if not book.down:
            for lease in account.leases:
                book.ask(lease)
            await self._exchanges.next_exchange(Patience(_FIGURES_S))
        return [{**details(lease), "remaining": plain(lease, lease.remaining)} for lease in account.leases]

    def snapshot(self) -> list[tuple[LimitScope, Limit, float]]:
        """(scope, limit, used share of it) of every limit that this worker has used in the windows that are open."""
        book = self._book
        now = book.now()
        seen = (lease for lease in book.leases.values() if lease.seen and not lease.is_many)
        open_leases = [lease for lease in seen if lease.starts <= now < lease.ends]
        return [(lease.scope, lease.limit, used(lease) / lease.amount) for lease in open_leases]

    def settle(self, reservation: CallReservation, charge: Charge | None) -> None:
        """Counts the cost of the call, and releases the rest. charge: None: it reached no upstream. A second call
        changes nothing."""
        if reservation.settled:
            return
        reservation.settled = True
        needs = reservation.needs
        cost: Needs = (0, 0, 0, 0, 0)
        if charge is not None:
            tokens = charge.input_tokens + charge.output_tokens if needs[1] else 0
            usd = charge.usd if needs[2] and charge.usd is not None else 0.0
            gpu = int(charge.gpu_seconds * 1e9 + 0.5) if needs[4] else 0
            cost = (1, tokens, int(usd * 1e9 + 0.5), 0, gpu)  # as the usage ledger rounds it
            estimate = reservation.estimate
            if estimate is not None and not charge.estimated:
                estimate.learn(charge.output_tokens)
        for lease, measure in reservation.pairs:
            reserved, spent = needs[measure], cost[measure]
            lease.held -= reserved
            lease.spent += spent
            lease.free += reserved - spent
            if lease.slot is not None:
                self._book.kept.numbers[lease.slot] += spent - reserved
            if not lease.busy:
                lease.busy = True
                self._book.active.add(lease)


def _shown(target: str, call: Call) -> str:
    """The name of a target, or of its model for callers who may not see targets."""
    return target if call.caller.sees_upstreams else f'"{call.alias}"'


def _nano_gpu(
    account: Account, estimate: ModelEstimate, input_tokens: int, output: int, given: bool
) -> tuple[int, int]:
    """1e-9 GPU-seconds that a call may use, and its output: an estimate alone does not refuse a call for good."""
    nano = int(input_tokens * estimate.gpu_input_nano + output * estimate.gpu_output_nano) + 1
    if given or nano <= account.most_nano_gpu:
        return nano, output
    left = account.most_nano_gpu - input_tokens * estimate.gpu_input_nano
    output = max(0, int(left / estimate.gpu_output_nano)) if estimate.gpu_output_nano else output
    return account.most_nano_gpu, output


MOST_SERIES = 300
"""Limits with a series of their own: 30 KB of a scrape. Of the others, the fullest of each name is `scope="other"`."""
OTHER = "other"

LimitUse = tuple[LimitScope, Limit, float]
"""A limit of a scope, and the share of it that is used in the current window."""


class LimitGauges:
    def __init__(self, metrics: ProxyMetrics) -> None:
        self._metrics = metrics
        self._shown: dict[tuple[str, str], float] = {}

    def show(self, used: Iterable[LimitUse]) -> None:
        """used: every limit that is in use; the series of all others are set to 0, since their windows have ended."""
        now = dict.fromkeys(self._shown, 0.0)
        for scope, limit, share in used:
            series = self._series(str(scope), limit.name)
            now[series] = max(now.get(series, 0.0), share)
        self._shown = now
        counts, gauge = self._metrics.counts, self._metrics.limit_used
        for (scope_name, limit_name), share in now.items():
            counts.set(gauge, share, scope_name, limit_name)

    def _series(self, scope: str, limit: str) -> tuple[str, str]:
        series = (scope, limit)
        if series not in self._shown and len(self._shown) >= MOST_SERIES:
            return (OTHER, limit)
        self._shown.setdefault(series, 0.0)
        return series
