"""Reads what has been used of limits, in the windows that are open now, as the gateways count it on the stream
server."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gateway.core.chunked import chunked
from gateway.core.keys import LimitedRecord, record_kind, shown_name
from gateway.core.limits import Limit, LimitScope, counter_name, limits_of, window_end
from gateway.stream import Corridor
from gateway.stream.leases import LeaseServer

NEAR = 0.8
"""Share of a limit from which its scope is near it; the alerts use the same."""
_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class UsedLimit:
    """A limit in the window that is open now. Amounts in requests, tokens, US dollars, or calls in flight."""

    scope: LimitScope
    limit: Limit
    spent: float
    held: float
    """The amount that gateways hold beyond that: spent and not reported yet, reserved by calls in flight, or not
    used."""
    resets_at: float | None
    """Unix seconds; None: of calls in flight."""

    @property
    def left(self) -> float:
        """The amount that is neither spent nor held."""
        return max(0.0, self.limit.amount - self.spent - self.held)

    @property
    def share(self) -> float:
        return self.spent / self.limit.amount

    @property
    def near(self) -> bool:
        return self.share >= NEAR


def scope_of(record: LimitedRecord) -> LimitScope:
    return LimitScope(record_kind(record), record.id, limits_of(record.limits), shown_name(record))


async def used_limits(corridor: Corridor, scopes: Iterable[LimitScope], now: float) -> list[UsedLimit]:
    """The use of every limit of these scopes, the most used first. now: Unix seconds. Raises StreamDown."""
    server = LeaseServer(corridor.client, corridor.state.prefix, "console")
    wanted = [(scope, limit) for scope in scopes for limit in scope.limits]
    found: list[UsedLimit] = []
    for some in chunked(wanted, _AT_ONCE):
        names = [counter_name(scope, limit, now) for scope, limit in some]
        counted = await server.spent(names)
        found += [_one(scope, limit, *counted[name], now) for name, (scope, limit) in zip(names, some, strict=True)]
    return sorted(found, key=lambda each: (-each.share, str(each.scope), each.limit.name))


def amount_text(limit: Limit, amount: float) -> str:
    """An amount of a limit in a table that names the limit."""
    if limit.measure == "usd":
        return f"${amount:,.2f}"
    digits = 1 if limit.measure == "gpu_seconds" else 0
    return f"{amount:,.{digits}f}".replace(",", "\u202f")


def _one(scope: LimitScope, limit: Limit, spent: int, held: int, now: float) -> UsedLimit:
    unit = limit.scale
    if limit.window is None:  # calls in flight are held until they end
        return UsedLimit(scope, limit, float(held), 0.0, None)
    carried = limit.carried if now < limit.carried_until else 0.0
    return UsedLimit(scope, limit, spent / unit + carried, held / unit, window_end(limit.window, limit.zone, now))
