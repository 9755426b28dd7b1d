"""One worker's lease on one limit in one window, as arithmetic on whole numbers. Pure: no clock, no I/O.

    total = spent + held + free

`free` is available to the next calls, `held` is reserved by calls in flight, `spent` is the cost of ended calls.
Reserving moves from free to held; settling moves from held to spent, and the difference back to free: limiter.py does
both in place, for all leases of a call. Neither changes the total, and the server has deducted the total from the limit
before any of it is used. Only a call that cost more than it reserved makes `free` negative; the next report adds that
to the total. That is the estimation error.

In an outage a worker may also use its `share`: a part of the remainder that the server has promised to no other worker.
Of the budgets of end users it may use nothing else then (`promised_only`).
"""

from __future__ import annotations

from gateway.core.limits import MEASURES, Limit, LimitScope
from gateway.core.run_ceilings import NEAR_END, RUN_LIFE_S
from gateway.stream.leases import LeaseGrant, LeaseReport

AHEAD_S = 1.0
"""Seconds of spending that a lease holds, up to twice that."""
IDLE_S = 2.0
"""Idle seconds after which a lease returns its free amount."""
SHARE_IDLE_S = 30.0
"""Idle seconds after which a lease gives up its share, too."""
_RATE_OVER_S = 0.25  # shortest time over which a rate is measured
_KEEP_MS = {"minute": 900_000, "hour": 900_000}
_KEEP_LONGER_MS = 86_400_000
_KEEP_USER_MS = 60_000  # users are many
_LABEL = 60  # characters of the name of a run, which there are many of, too


def units(limit: Limit) -> int:
    """The amount of a limit in whole numbers: calls, tokens, 1e-9 GPU-seconds, or 1e-9 USD, which is exact for list
    prices."""
    return _whole(limit, limit.amount)


def _whole(limit: Limit, amount: float) -> int:
    return round(amount * limit.scale)


class Lease:
    """The part of one limit that one worker holds in one window. All times are seconds on the stream server's clock."""

    def __init__(
        self, scope: LimitScope, limit: Limit, name: str, starts: float, ends: float, resumes: int = 0
    ) -> None:
        """resumes: not 0 where an earlier lease of this worker may have been forgotten: the server knows what it had
        spent. Each such lease of a worker has a number of its own."""
        self.scope, self.limit, self.name = scope, limit, name
        self.measure = MEASURES.index(limit.measure)
        self.amount = units(limit)
        self.near = float("-inf")
        """Amount that is left when the end of a run is near; below any amount for other limits."""
        self.starts, self.ends = starts, ends
        self._carried = _whole(limit, limit.carried)
        self.of_user = scope.kind == "user"
        self.of_run = scope.kind == "run"
        self.is_many = self.of_user or self.of_run
        """Whether there are many like it, which are forgotten when they are idle."""
        self.began: float | None = None
        """The first call of a run; None until the server answers."""
        self.added = 0
        """The amount that a person has added to the ceiling of a run."""
        self._set_amount(self.amount)
        self.noted_end: tuple[str, int, float | None] | None = None
        """The end of the run that is noted, with the ceiling that it was of: `added` and `began`."""
        self.resumes = resumes
        """The number of the lease until the server has answered; then 0."""
        self.slot: int | None = None
        """The place at which kept_leases.py keeps the amount used; None if it is not kept."""
        self.accounts: list[tuple[str, ...]] = []
        """Names of the accounts of an end user that draw on it."""
        self.free = self.held = self.spent = 0
        self.share = 0
        """The amount that may be used in an outage, promised by the server."""
        self.left = self.amount - self.carried(starts)
        """The amount that no worker holds, as last reported; until `seen`, the whole limit."""
        self.spent_by_all = 0
        self.seen = False
        self.dry = False
        """The server has just granted less than calls wait for."""
        self.borrowed = False
        """Whether this outage's part is in `free` already."""
        self.need = 0
        """The amount that calls wait for."""
        self.step = 1
        """The amount that one call takes."""
        self.most: int | None = None
        """The amount beyond which this worker leaves it to others; None: as much as it gets."""
        self.low = 0
        """The amount below which the worker asks for more, before its next regular exchange."""
        self.asked = False
        self.busy = False
        """A call has reserved or settled since the last report."""
        self.rate = 0.0
        self.used_at = self.checked_at = self.reported_at = float("-inf")
        self._committed = 0
        self._share_sent = 0
        self._share_asked = False  # by the last report
        self._promised = False  # the server has answered a report that asked for one: `share` is what it promised
        self._called_back = False
        self._spent_sent = self._spent_known = 0  # of `spent`: in the last report, and in the last that was answered
        self._added = 0  # borrowed since the last report
        self._wanted = self._needed = 0

    @property
    def total(self) -> int:
        return self.spent + self.held + max(self.free, 0)

    @property
    def remaining(self) -> int:
        """The amount that a call of this worker may still hope for."""
        return max(0, self.left + self.free)

    @property
    def keeps_share(self) -> bool:
        """Whether the lease keeps a share: limits of a minute, or of calls in flight, change too fast for one."""
        return self.limit.on_outage != "closed" and self.limit.window not in (None, "minute")

    @property
    def promised_only(self) -> bool:
        """Whether only the promised share may be used in an outage: of budgets of end users, unless they are `split`.
        An end user may call any worker, and the parts of all workers together are more than the remainder."""
        return self.of_user and self.keeps_share and self.limit.on_outage != "split"

    @property
    def spent_so_far(self) -> int:
        """Amount spent by ended calls: of all workers as far as they had reported, and of this worker since."""
        return max(0, self.spent_by_all + self.spent - self._spent_known)

    def used_up(self, need: int) -> bool:
        """Whether less than this is left even if no other worker holds anything: in this window that does not
        change."""
        return self.seen and self.spent_so_far + self.held + need > self.amount

    def change(self, limit: Limit) -> None:
        """The limit has another amount, or behaves differently in an outage."""
        self.limit, self._carried = limit, _whole(limit, limit.carried)
        self._set_amount(units(limit) + self.added)

    def _set_amount(self, amount: int) -> None:
        self.amount = amount
        if self.of_run:
            self.near = (1 - NEAR_END) * amount

    def carried(self, now: float) -> int:
        """The part of the amount that was used elsewhere; 0 once it no longer counts."""
        return self._carried if now < self.limit.carried_until else 0

    def forgettable(self, now: float, idle_s: float) -> bool:
        """Whether nothing would be lost: it holds nothing, and the server has all its spending."""
        holds = self.free or self.held or self.share or self.need or self.busy or self.asked
        return not holds and self.spent == self._spent_known and now - self.used_at >= idle_s and self.seen

    def shift(self, seconds: float) -> None:
        """The clock was corrected."""
        self.used_at += seconds
        self.checked_at += seconds
        self.reported_at += seconds

    @property
    def rests(self) -> bool:
        """Whether there is nothing to report until it is used again. End users are many: a share of theirs is reported
        once it is given up."""
        return not (self.busy or self.need or self.free or self.held or (self.share and not self.is_many))

    def share_is_due(self, now: float) -> bool:
        """Whether it holds a share that it no longer keeps."""
        return self.share > 0 and (now >= self.ends or now - self.used_at >= SHARE_IDLE_S)

    def call_back(self) -> bool:
        """Whether it gives up a share with its next report, because a call elsewhere needs it."""
        self._called_back = self._called_back or self.share > 0
        return self._called_back

    def wait(self, amount: int, now: float) -> None:
        """Notes that a call of this amount waits: for more, or for another of its limits. The amount is not returned
        meanwhile."""
        self.need += amount
        self.used_at = now
        self.step = max(self.step, amount)

    def short(self, amount: int, now: float, within_s: float) -> bool:
        """The server reported within `within_s` that less than this is left."""
        return now - self.checked_at < within_s and self.free + self.left < amount

    def target(self, now: float) -> int:
        """The amount that should be free: the next seconds' spending, one call at least, and a few more calls at
        once."""
        idle = now - self.used_at >= IDLE_S and not self.busy
        if idle or now >= self.ends or (self.most is not None and self.held >= self.most):
            return 0
        return max(int(self.rate * AHEAD_S), self.step, self.held // 4)

    def report(self, now: float, *, leaving: bool = False, keep: bool = False) -> LeaseReport:
        """The report to the server. Returned amounts are not used from here on.

        keep: in an outage, nothing is returned, because the server may not receive the report.
        """
        committed = self.spent + self.held
        elapsed_s = max(now - self.reported_at, _RATE_OVER_S)
        self.rate = (self.rate + max(0, committed - self._committed) / elapsed_s) / 2
        self._committed, self.reported_at = committed, now
        if self.busy:
            self.used_at = now
        wanted = 0 if leaving else self.target(now)
        self.free = max(0, self.free)
        awaited, self.need = self.need, 0
        need = max(0, awaited - self.free)
        self.borrowed = self.borrowed and keep
        if not keep and self.free > max(2 * wanted, awaited):
            self.free = max(wanted, awaited)
        self.step = max(1, self.step * 7 // 8)
        idle = now >= self.ends or (now - self.used_at >= SHARE_IDLE_S and not keep)
        self._share_asked = self.keeps_share and not (idle or leaving or (self._called_back and not keep))
        self._called_back = self._called_back and keep
        if not self._share_asked:
            self._promised, self.share = False, 0
        self._share_sent, self._added, self.busy = self.share, 0, False
        self._spent_sent = self.spent
        self._wanted, self._needed = max(0, wanted + need - self.free), need
        return LeaseReport(
            name=self.name,
            spent=self.spent,
            total=self.total,
            share=self.share if self._share_asked else -1,
            want=self._wanted,
            need=need,
            amount=self.amount - self.added,
            starts_ms=round(self.starts * 1000),
            ends_ms=0 if self.limit.window is None else round(self._ends(now) * 1000),
            keep_ms=_KEEP_USER_MS if self.is_many else _KEEP_MS.get(self.limit.window or "", _KEEP_LONGER_MS),
            leaving=leaving,
            carried=self.carried(now),
            resumes=self.resumes,
            label=self.scope.name[:_LABEL] if self.of_run and self.began is None else "",
        )

    def _ends(self, now: float) -> float:
        """The end of its window: of a run, a day after the latest report."""
        return now + RUN_LIFE_S if self.of_run else self.ends

    def accept(self, grant: LeaseGrant, now: float) -> None:
        """Accepts the server's reply to the last report. The server has set aside the grant and the new share, or the
        old share, whichever is more; amounts borrowed in the meantime are part of that, or are returned."""
        covered = max(grant.granted + grant.share, self._share_sent) - self._added
        granted = max(0, min(grant.granted, covered))
        excess = max(0, -covered, -grant.left)
        self.free += granted - min(excess, max(0, self.free + granted))
        self.share = max(0, min(grant.share, covered - granted))
        self._added = 0
        if self.resumes:
            self.spent += grant.before
            self._spent_sent += grant.before
            self._committed += grant.before
            self.resumes = 0
        self._promised, self._spent_known = self._share_asked, self._spent_sent
        self.dry = grant.granted < self._needed
        self.left, self.spent_by_all = grant.left, grant.spent
        if self.of_run:
            self.began = grant.began_ms / 1000
            self._set_amount(self.amount - self.added + grant.added)
            self.added = grant.added
        self.seen, self.borrowed, self.asked, self.checked_at = True, False, False, now
        self.low = 0 if self._wanted and not grant.granted else (self.target(now) + 3) // 4

    def borrow(self, workers: int) -> None:
        """Frees an amount in an outage, once: the promised share, or this worker's part of the last known remainder.

        In an unknown window that is a part of the whole limit. A share that was given up, and requested again without
        an answer, is not promised. Budgets of end users lend the promised share or nothing.
        """
        if self.borrowed:
            return
        promised = self.share if self._promised and self.seen else None
        unpromised = 0 if self.promised_only else max(0, self.left) // max(1, workers)
        extra = unpromised if promised is None else promised
        self.free += extra
        self.left -= extra
        self._added += extra
        self.share, self.borrowed = 0, True
