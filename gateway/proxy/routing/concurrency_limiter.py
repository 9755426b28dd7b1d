"""The limiter of one upstream: attempts in flight, the allowance of its vendor, and the queue of those that wait.
No I/O."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from gateway.core.errors import Overloaded
from gateway.proxy.routing.fair_queue import NO_SHARES, FairQueue, Flow, FlowShares, Waiter, owner_of
from gateway.proxy.types import Headers

NOBODY = Flow()
_FIRST_S, _STEADY = 1.0, 0.9  # the time an attempt is expected to take at first, and how slowly that changes


class VendorWait(NamedTuple):
    """A model that its vendor has closed for a while."""

    header: str
    """The header that closed it, with its value."""
    seconds: float
    """Seconds until it is asked again."""


class Grant(Protocol):
    """An attempt's share of an allowance."""

    def learn(self, headers: Headers) -> None:
        """Reads the remainders that the attempt's response reports."""

    def settle(self, tokens: int | None) -> None:
        """Ends the attempt. tokens: what it has used; None if it was not sent."""


class Allowance(Protocol):
    """The limits that a vendor sets for all gateways together."""

    @property
    def in_tokens(self) -> bool:
        """Whether tokens count."""

    def open(self, model: str) -> bool:
        """Whether an attempt would probably be admitted now."""

    def closed(self, tokens: int, model: str) -> VendorWait | None:
        """The vendor's closure of this model to such an attempt; None if it is open."""

    def take(self, tokens: int, model: str) -> Grant | None:
        """Takes what one attempt needs. None if less than that is left now."""

    async def refresh(self, tokens: int, model: str) -> None:
        """Waits until there may be enough for such an attempt."""


@dataclass(slots=True)
class Admission:
    """An attempt in flight at an upstream with shares or an allowance."""

    flow: Flow
    tokens: int
    began: float
    step: float
    """Charge to its flow when it began."""
    grant: Grant | None = None


class ConcurrencyLimiter:
    """Limits the attempts in flight at an upstream. Further ones wait in a queue that serves its keys in turn."""

    __slots__ = (
        "_active",
        "_clock",
        "_limit",
        "_queue",
        "_refreshing",
        "_shared",
        "_start",
        "_turns",
        "_wait_s",
        "allowance",
        "in_flight",
        "limited",
        "managed",
        "waiting",
    )

    def __init__(
        self,
        limit: int | None,
        queue: int,
        wait_s: float,
        shares: FlowShares = NO_SHARES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """limit: attempts in flight; None: no limit. queue: attempts that may wait. wait_s: how long each may wait.
        shares: of a full upstream; with some, the time counts that attempts take, and otherwise their number."""
        self.in_flight = 0
        self.waiting = 0
        self.allowance: Allowance | None = None
        self.limited = limit is not None
        """Whether an attempt may have to wait."""
        self._shared = shares is not NO_SHARES
        self.managed = self._shared
        """Whether each attempt gets an Admission, which `release` needs back."""
        self._limit = limit
        self._queue = queue
        self._wait_s = wait_s
        self._clock = clock
        self._turns = FairQueue(shares, limit or 1, queue)
        self._turns.step = _FIRST_S
        self._start: Callable[[Coroutine[Any, Any, None]], object] | None = None
        self._refreshing = False
        self._active: Counter[tuple[int, str]] = Counter()  # attempts in flight, where there is an allowance

    def use(self, allowance: Allowance, start: Callable[[Coroutine[Any, Any, None]], object]) -> None:
        """Makes attempts wait for an allowance, too. start: runs a coroutine in the background."""
        self.allowance, self._start = allowance, start
        self.limited = self.managed = True

    def demand(self) -> Counter[tuple[int, str]]:
        """Attempts in flight and waiting, by the rank of their class and the owner of their weight."""
        self._active = +self._active  # without those that have none any more
        return self._active + self._turns.waiting()

    def rescale(self, factors: Mapping[str, float]) -> None:
        """Takes the factors of owners' weights: parts of their calls that are here and not at other workers."""
        self._turns.factors = {owner_of(name): factor for name, factor in factors.items()}

    @property
    def free(self) -> bool:
        return not self.managed and (self._limit is None or (self.in_flight < self._limit and not self.waiting))

    def can_admit(self, models: Sequence[str]) -> bool:
        """Whether one more attempt at each of these models could start at once, with none waiting before them."""
        if self.allowance is not None and (self.waiting or not all(map(self.allowance.open, models))):
            return False
        return self._limit is None or (self.in_flight + len(models) <= self._limit and not self.waiting)

    async def acquire(self, flow: Flow = NOBODY, tokens: int = 0, model: str = "") -> Admission:
        """Waits for the flow's turn. tokens: what the attempt may use, where that counts. model: that it asks; "": none
        that the vendor's headers are about.

        Raises Overloaded if the queue is full, if the wait takes too long, or if the attempt gives way to a key that
        has fewer waiting.
        """
        if self._is_first(model) and (admission := self._admit(flow, tokens, model, None)) is not None:
            return admission
        if self.waiting >= self._queue:
            self._make_room(flow)
        waiter = Waiter(flow, asyncio.get_running_loop().create_future(), tokens, model)
        self._turns.push(waiter)
        self.waiting += 1
        self._refresh()
        try:
            async with asyncio.timeout(self._wait_s):
                admitted: Admission | None = await waiter.turn
        except TimeoutError:
            self._give_up(waiter)
            raise Overloaded(self._too_long(), retry_after_s=1) from None
        except asyncio.CancelledError:
            self._give_up(waiter)
            raise
        if admitted is None:
            raise self._full()
        return admitted

    def release(self, admission: Admission | None = None, tokens: int | None = None) -> None:
        """Ends an attempt; those whose turn it is start. tokens: what it has used; None if it was not sent."""
        self.in_flight -= 1
        if admission is not None and self.managed:
            if admission.grant is not None:
                admission.grant.settle(tokens)
                self._active[self._turns.owner(admission.flow)] -= 1
            difference = 0.0
            if self._shared:
                held_s = self._clock() - admission.began
                difference = held_s - admission.step
                self._turns.step = _STEADY * self._turns.step + (1 - _STEADY) * held_s
            self._turns.ended(admission.flow, difference)
        self._start_waiting()

    def closed(self, tokens: int, model: str) -> VendorWait | None:
        """The vendor's closure of this model to such an attempt; None if that is not what it waits for."""
        return None if self.allowance is None or self._at_limit else self.allowance.closed(tokens, model)

    def _admit(self, flow: Flow, tokens: int, model: str, waiter: Waiter | None) -> Admission | None:
        """Admits an attempt. None if there is no slot for it now."""
        if self._at_limit:
            return None
        grant: Grant | None = None
        if self.allowance is not None and (grant := self.allowance.take(tokens, model)) is None:
            return None
        if grant is not None:
            self._active[self._turns.owner(flow)] += 1
        self.in_flight += 1
        step = self._turns.began(flow, waiter) if self.managed or waiter is not None else 0.0
        return Admission(flow, tokens, self._clock(), step, grant)

    def _is_first(self, model: str) -> bool:
        """Whether no attempt waits that comes before one at this model: all wait for models that the vendor closed."""
        if not self.waiting:
            return True
        return self.allowance is not None and model not in self._turns.models and self._next() is None

    def _next(self) -> Waiter | None:
        """The attempt whose turn it is; None if all wait for models that the vendor closed."""
        closed: set[str] = set()
        while (waiter := self._turns.first_open(closed)) is not None and self.closed(waiter.tokens, waiter.model):
            closed.add(waiter.model)
        return waiter

    def _start_waiting(self) -> None:
        while self.waiting:
            waiter = self._next() or self._turns.first()
            if waiter.turn.done():  # cancelled in this moment
                self._turns.remove(waiter)
                self.waiting -= 1
                continue
            admission = self._admit(waiter.flow, waiter.tokens, waiter.model, waiter)
            if admission is None:
                self._refresh()
                return
            self.waiting -= 1
            waiter.turn.set_result(admission)

    def _refresh(self) -> None:
        if self.allowance is None or self._start is None or self._refreshing or not self.waiting:
            return
        if self._limit is None or self.in_flight < self._limit:
            self._refreshing = True
            self._start(self._refreshed(self.allowance))

    async def _refreshed(self, allowance: Allowance) -> None:
        try:
            while self.waiting and (self._limit is None or self.in_flight < self._limit):
                waiter = self._next() or self._turns.first()
                await allowance.refresh(waiter.tokens, waiter.model)
                self._start_waiting()
        finally:
            self._refreshing = False

    def _make_room(self, flow: Flow) -> None:
        """Refuses the newest attempt of the key with the most waiting: another key's, or else this one."""
        given_way = self._turns.pop_for(flow)
        if given_way is None:
            raise self._full()
        self.waiting -= 1
        if not given_way.turn.done():
            given_way.turn.set_result(None)

    @property
    def _at_limit(self) -> bool:
        return self._limit is not None and self.in_flight >= self._limit

    def _too_long(self) -> str:
        if self.allowance is not None and not self._at_limit:
            return f"the upstream's limits are used up: no part of them came free within {self._wait_s:g} s"
        return f"the upstream is full: still {self._limit} in flight within {self._wait_s:g} s"

    def _full(self) -> Overloaded:
        if self.allowance is not None and not self._at_limit:
            return Overloaded(f"the upstream's limits are used up, and {self._queue} calls wait", retry_after_s=1)
        return Overloaded(f"the upstream is full: {self._limit} in flight, {self._queue} waiting", retry_after_s=1)

    def _give_up(self, waiter: Waiter) -> None:
        turn = waiter.turn
        if turn.done() and not turn.cancelled():
            if (admitted := turn.result()) is not None:
                self.release(admitted)  # it was admitted in the same moment
        elif self._turns.remove(waiter):
            self.waiting -= 1
