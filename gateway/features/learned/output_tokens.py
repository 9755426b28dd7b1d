"""Learns how many tokens calls of each kind produce, and publishes it for the reservations of limits.

Empirical quantiles with back-off: a kind with too few calls takes the number of its kinds without the stream, then
without the size, then of its alias. Calls that say `max_tokens` need no estimate and are left out.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from gateway.core.errors import StreamDown
from gateway.core.json_values import parse_object
from gateway.core.output_tokens import (
    FORMAT,
    KINDS,
    OUTPUT_LIMITS,
    QUANTILE,
    SHARED_NAME,
    TOOLS,
    Tables,
    kind_of,
    tables_to_json,
)
from gateway.features.learned.rows.output_tokens import CallOutput, call_outputs
from gateway.store.plans import hold_lease
from gateway.store.store import Store, StoreDown

log = logging.getLogger(__name__)

EVERY_S = 600.0
MIN_CALLS = 50
"""Fewer calls of a kind: it backs off."""
MOST_CALLS = 20_000
WINDOW_S = 7 * 86_400.0
_KEEP_S = 86_400  # gateways drop a table that is not renewed
_LEASE = "output tokens"
_SIZE = 7  # the bits of a kind that hold the bucket of the size

_Group = tuple[Any, ...]  # alias, then up to three more: format, size, kind


class PublishedTexts(Protocol):
    """gateway.stream.shared_state.SharedState."""

    async def remember(self, name: str, value: str, keep_s: int) -> None: ...


def learn(calls: Iterable[CallOutput], min_calls: int = MIN_CALLS) -> Tables:
    """Aliases with fewer than min_calls calls are left out."""
    groups: dict[_Group, list[tuple[float, float]]] = {}
    for call in calls:
        kind = _kind(call)
        if kind is not None:
            for group in _groups(call.alias, kind):
                groups.setdefault(group, []).append((call.tokens, call.weight))
    known = {group: _quantile(values) for group, values in groups.items() if len(values) >= min_calls}
    aliases = sorted(alias for alias, *rest in known if not rest)
    return {
        alias: {kind: next(known[group] for group in _groups(alias, kind) if group in known) for kind in KINDS}
        for alias in aliases
    }


def _kind(call: CallOutput) -> int | None:
    """None: the request cannot be read, or limits its output itself."""
    fields = parse_object(call.request)
    if fields is None or any(isinstance(fields.get(name), int) for name in OUTPUT_LIMITS):
        return None
    return kind_of(len(call.request), fields, call.stream)


def _groups(alias: str, kind: int) -> tuple[_Group, ...]:
    """What a call counts in, and what its kind backs off to, the narrowest first."""
    size, form = kind & _SIZE, kind & (TOOLS | FORMAT)
    return (alias, form, size, kind), (alias, form, size), (alias, form), (alias,)


def _quantile(values: list[tuple[float, float]]) -> int:
    """The smallest value below or at which QUANTILE of the weight lies."""
    values.sort()
    wanted, below = QUANTILE * sum(weight for _, weight in values), 0.0
    for value, weight in values:
        below += weight
        if below >= wanted:
            return max(1, math.ceil(value))
    return max(1, math.ceil(values[-1][0]))


class OutputTokenLearner:
    """Learns from recent calls every ten minutes, in one of the consumers."""

    def __init__(
        self, store: Store, state: PublishedTexts, holder: str, clock: Callable[[], float] = time.time,
        every_s: float = EVERY_S,
    ) -> None:  # fmt: skip
        """holder: this consumer's name. clock: Unix seconds."""
        self._store = store
        self._state = state
        self._holder = holder
        self._clock = clock
        self._every_s = every_s

    async def run(self) -> None:
        """Runs until cancelled."""
        while True:
            try:
                await self.publish()
            except (StoreDown, StreamDown) as error:
                log.warning("reservations are not learned now; tried again in %g s: %s", self._every_s, error)
            await asyncio.sleep(self._every_s)

    async def publish(self) -> Tables | None:
        """None: another consumer does it."""
        now, kept_s = self._clock(), 1.5 * self._every_s
        if not await self._store.run(lambda c: hold_lease(c, _LEASE, self._holder, now, kept_s)):
            return None
        tables = await self._store.look(lambda c: learn(call_outputs(c, now - WINDOW_S, MOST_CALLS)))
        await self._state.remember(SHARED_NAME, tables_to_json(tables), _KEEP_S)
        return tables
