"""The limits that a vendor sets for an upstream, shared by all gateways: an attempt first takes the amounts that it
needs.

They are leased like the limits of callers (lease.py), under the scope `upstream NAME`, and tightened by the remainders
in the vendor's own headers (vendor_state.py). An attempt that finds too little waits in the upstream's queue
(routing/concurrency_limiter.py), which asks here again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from gateway.core.limits import Limit, LimitScope
from gateway.proxy.limits.book import Account, LeaseBook
from gateway.proxy.limits.charge import Charge
from gateway.proxy.limits.lease import Lease
from gateway.proxy.limits.limiter import CallReservation, Exchanges, Limiter, Needs
from gateway.proxy.limits.vendor_state import VendorState
from gateway.proxy.types import Headers

_AGAIN_S = 0.25
"""The longest time between two looks at limits for which attempts wait."""
_SHORTEST_S = 0.01


@dataclass(slots=True)
class UpstreamGrant:
    """An attempt's share of an upstream's limits."""

    limits: UpstreamLimits
    reservation: CallReservation
    tokens: int
    counted: bool = False
    """Whether the vendor has counted the attempt: its response has begun, or it has ended."""

    def learn(self, headers: Headers) -> None:
        """Reads the remainders that the attempt's response reports."""
        self._count()
        self.limits.vendor.learn(headers, self.limits.clock(), time.time())

    def settle(self, tokens: int | None) -> None:
        self._count()
        charge = None if tokens is None else Charge(tokens, 0, 0, 0, 0.0, False)
        self.limits.limiter.settle(self.reservation, charge)

    def _count(self) -> None:
        if not self.counted:
            self.counted = True
            self.limits.vendor.ended((1, self.tokens))


class UpstreamLimits:
    """The limits of one upstream, as one worker sees them."""

    def __init__(
        self,
        name: str,
        limits: tuple[Limit, ...],
        book: LeaseBook,
        exchanges: Exchanges,
        limiter: Limiter,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """limits: as configured; (): only the vendor's headers count."""
        self.vendor = VendorState()
        self.limiter = limiter
        self.clock = book.clock
        self._scope = LimitScope("upstream", name, limits)
        self._book = book
        self._exchanges = exchanges
        self._sleep = sleep
        self._most_tokens = min((int(each.amount) for each in limits if each.measure == "tokens"), default=0)

    @property
    def in_tokens(self) -> bool:
        return bool(self._most_tokens) or "tokens" in self.vendor.levels

    @property
    def open(self) -> bool:
        if self._vendor_wait_s(1):
            return False
        return all(lease.free > 0 or not lease.seen or lease.left > 0 for lease in self._account().leases)

    def take(self, tokens: int) -> UpstreamGrant | None:
        tokens = self._at_most(tokens)
        if self._vendor_wait_s(tokens):
            return None
        account, needs = self._account(), _needs(tokens)
        taken = self.limiter.take(account, needs, None, self._book.now())
        if taken is None and self._book.down:
            for lease in self._lacking(account, needs):
                lease.borrow(self._book.workers)
            taken = self.limiter.take(account, needs, None, self._book.now())
        if taken is None:
            return None
        self.vendor.take((1, tokens))
        return UpstreamGrant(self, taken, tokens)

    async def refresh(self, tokens: int) -> None:
        tokens = self._at_most(tokens)
        vendor_s = self._vendor_wait_s(tokens)
        if vendor_s > 0:
            await self._sleep(max(_SHORTEST_S, min(vendor_s, _AGAIN_S)))
            return
        account, needs, now = self._account(), _needs(tokens), self._book.now()
        lacking = self._lacking(account, needs)
        if not lacking:
            return
        if self._book.down or any(lease.short(needs[lease.measure], now, _AGAIN_S) for lease in lacking):
            await self._sleep(_AGAIN_S)  # it was just refused: asking at once again would only occupy the server
            return
        for lease in lacking:
            lease.wait(needs[lease.measure], now)
            self._book.ask(lease)
        await self._exchanges.next_exchange(_AGAIN_S)

    def _at_most(self, tokens: int) -> int:
        """An attempt that is estimated at more than the whole limit gets all of it: the vendor decides."""
        return min(tokens, self._most_tokens) if self._most_tokens else tokens

    def _account(self) -> Account:
        return self._book.account(f"upstream {self._scope.id}", (self._scope,))

    def _lacking(self, account: Account, needs: Needs) -> list[Lease]:
        return [lease for lease in account.leases if lease.free < needs[lease.measure]]

    def _vendor_wait_s(self, tokens: int) -> float:
        return self.vendor.wait_s((1, tokens), max(1, self._book.workers), self.clock())


def _needs(tokens: int) -> Needs:
    return (1, tokens, 0, 1)
