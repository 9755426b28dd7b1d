"""The limits that a vendor sets for an upstream, shared by all gateways: an attempt first takes the amounts that it
needs.

They are leased like the limits of callers (lease.py), under the scope `upstream NAME`, and tightened by the remainders
in the vendor's own headers, which hold for one model each (vendor_state.py). While more calls want a place than there
are, each worker keeps to its part of the places (fleet_share.py). An attempt that finds too little waits in the
upstream's queue (routing/concurrency_limiter.py), which asks here again.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from gateway.core.limits import Limit, LimitScope
from gateway.proxy.limits.book import Account, LeaseBook
from gateway.proxy.limits.charge import Charge
from gateway.proxy.limits.fleet_share import Demand, FleetShare
from gateway.proxy.limits.lease import Lease
from gateway.proxy.limits.limiter import CallReservation, Exchanges, Limiter, Needs
from gateway.proxy.limits.patience import Patience
from gateway.proxy.limits.vendor_state import VendorState
from gateway.proxy.routing.concurrency_limiter import VendorWait
from gateway.proxy.types import Headers
from gateway.stream.leases import Demands

_AGAIN_S = 0.25
"""The longest time between two looks at limits for which attempts wait."""
_SHORTEST_S = 0.01
_MOST_MODELS = 1000
"""Models of one upstream whose remainders are known: behind a pattern, clients choose their names."""


@dataclass(slots=True)
class UpstreamGrant:
    """An attempt's share of an upstream's limits."""

    limits: UpstreamLimits
    reservation: CallReservation
    tokens: int
    vendor: VendorState
    """State of the model that the attempt asks."""
    probe: bool = False
    """Whether the vendor's last report would have made it wait: it asks for a new one."""
    counted: bool = False
    """Whether the vendor has counted the attempt: its response has begun, or it has ended."""

    def learn(self, headers: Headers) -> None:
        """Reads the remainders that the attempt's response reports."""
        self._count()
        self.vendor.learn(headers, self.limits.clock(), time.time(), probed=self.probe)
        self.probe = False

    def settle(self, tokens: int | None) -> None:
        self._count()
        if self.probe:
            self.vendor.release_probe()
        charge = None if tokens is None else Charge(tokens, 0, 0, 0, 0.0, False)
        self.limits.limiter.settle(self.reservation, charge)

    def _count(self) -> None:
        if not self.counted:
            self.counted = True
            self.vendor.ended((1, self.tokens))


class UpstreamLimits:
    """The limits of one upstream, as one worker sees them."""

    def __init__(
        self,
        name: str,
        limits: tuple[Limit, ...],
        book: LeaseBook,
        exchanges: Exchanges,
        limiter: Limiter,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """limits: as configured; (): only the vendor's headers count. clock: monotonic seconds."""
        self.limiter = limiter
        self.clock = clock
        self._vendor: dict[str, VendorState] = {}  # by model
        self._scope = LimitScope("upstream", name, limits)
        self._book = book
        self._exchanges = exchanges
        self._sleep = sleep
        self._places = next((int(each.amount) for each in limits if each.window is None), None)
        self._share: FleetShare | None = None
        self._demand: Callable[[], Demand] = dict
        self._rescale: Callable[[Mapping[str, float]], None] = lambda _: None
        self._most_tokens = min((int(each.amount) for each in limits if each.measure == "tokens"), default=0)

    def share(
        self,
        weights: Mapping[str, float],
        demand: Callable[[], Demand],
        rescale: Callable[[Mapping[str, float]], None],
    ) -> None:
        """Makes all workers share the places by weight. demand: the calls that this one has in flight and waiting.
        rescale: takes the factors of owners' weights at this worker."""
        if self._places is not None:
            self._share, self._demand, self._rescale = FleetShare(self._places, weights), demand, rescale

    def wanted(self) -> str:
        demand = self._demand()
        return json.dumps([[*of, n] for of, n in demand.items()]) if demand else ""

    def heard(self, demands: Demands | None) -> None:
        if self._share is None:
            return
        if demands is None:
            self._share.forget()
        else:
            read = {worker: _demand_of(wanted) for worker, wanted in demands.wanted.items()}
            self._share.heard(demands.worker, read, demands.now_s)
        for lease in self._account().leases:
            if lease.limit.window is None:
                lease.most = self._share.most
        self._rescale(self._share.scale)

    @property
    def _has_its_part(self) -> bool:
        if self._share is None or self._share.most is None:
            return False
        return any(lease.most is not None and lease.held >= lease.most for lease in self._account().leases)

    @property
    def in_tokens(self) -> bool:
        return bool(self._most_tokens) or any("tokens" in vendor.levels for vendor in self._vendor.values())

    def open(self, model: str) -> bool:
        if self._vendor_wait_s(1, model) or self._has_its_part:
            return False
        return all(lease.free > 0 or not lease.seen or lease.left > 0 for lease in self._account().leases)

    def closed(self, tokens: int, model: str) -> VendorWait | None:
        vendor = self._vendor.get(model)
        if vendor is None:
            return None
        needs, now = (1, self._at_most(tokens)), self.clock()
        short, wait_s = vendor.short(needs, self._sharing, now), vendor.wait_s(needs, self._sharing, now)
        return VendorWait(str(short[0]), wait_s) if short is not None and wait_s else None

    def take(self, tokens: int, model: str) -> UpstreamGrant | None:
        tokens = self._at_most(tokens)
        if self._vendor_wait_s(tokens, model) or self._has_its_part:
            return None
        account, needs = self._account(), _needs(tokens)
        taken = self.limiter.take(account, needs, None, self._book.now())
        if taken is None and self._book.down:
            for lease in self._lacking(account, needs):
                lease.borrow(self._book.workers)
            taken = self.limiter.take(account, needs, None, self._book.now())
        if taken is None:
            return None
        vendor, now = self._vendor_of(model), self.clock()
        probe = vendor.short((1, tokens), self._sharing, now) is not None
        if probe:
            vendor.begin_probe(now)
        vendor.take((1, tokens))
        return UpstreamGrant(self, taken, tokens, vendor, probe)

    async def refresh(self, tokens: int, model: str) -> None:
        tokens = self._at_most(tokens)
        vendor_s = self._vendor_wait_s(tokens, model)
        if vendor_s > 0:
            await self._sleep(max(_SHORTEST_S, min(vendor_s, _AGAIN_S)))
            return
        if self._has_its_part:
            await self._sleep(_AGAIN_S)
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
        await self._exchanges.next_exchange(Patience(_AGAIN_S))

    def _at_most(self, tokens: int) -> int:
        """An attempt that is estimated at more than the whole limit gets all of it: the vendor decides."""
        return min(tokens, self._most_tokens) if self._most_tokens else tokens

    def _account(self) -> Account:
        return self._book.account(f"upstream {self._scope.id}", (self._scope,))

    def _lacking(self, account: Account, needs: Needs) -> list[Lease]:
        return [lease for lease in account.leases if lease.free < needs[lease.measure]]

    @property
    def _sharing(self) -> int:
        """Workers that share what a vendor reports."""
        return max(1, self._book.workers)

    def _vendor_wait_s(self, tokens: int, model: str) -> float:
        vendor = self._vendor.get(model)
        return 0.0 if vendor is None else vendor.wait_s((1, tokens), self._sharing, self.clock())

    def _vendor_of(self, model: str) -> VendorState:
        vendor = self._vendor.get(model)
        if vendor is None:
            if len(self._vendor) >= _MOST_MODELS:
                self._forget()
            vendor = self._vendor[model] = VendorState()
        return vendor

    def _forget(self) -> None:
        """Forgets the models of which nothing is known, or else the one known for longest: its next call asks."""
        now = self.clock()
        for model in [name for name, vendor in self._vendor.items() if vendor.idle(now)] or [next(iter(self._vendor))]:
            del self._vendor[model]


def _demand_of(wanted: str) -> Demand:
    return {(rank, owner): n for rank, owner, n in json.loads(wanted)}


def _needs(tokens: int) -> Needs:
    return (1, tokens, 0, 1, 0)
