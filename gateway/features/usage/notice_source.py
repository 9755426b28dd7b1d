"""Notices of budgets: 50, 80 and 100 % of a limit per day, week or month, soft or not.

One message for each limit, window and threshold; if several are passed between two looks, the highest alone. One that
was passed before the caller came here, by what an import carried, is not announced.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType

from gateway.config.derive import directory_of
from gateway.core.chunked import chunked
from gateway.core.limits import Limit, LimitScope, counter_name, window_end
from gateway.core.notice import SEVERITIES, Notice
from gateway.features.task import TaskContext
from gateway.features.usage.rows import limited_call_scopes, limited_scopes, soft_scopes, spent_floors
from gateway.store.query import Reading
from gateway.stream.leases import LeaseServer

THRESHOLDS = (1.0, 0.8, 0.5)
_AT_ONCE = 500
_CAUSES: Mapping[float, str] = MappingProxyType({1.0: "budget.all", 0.8: "budget.most", 0.5: "budget.half"})


class BudgetNotices:
    """Notices on budgets: the amounts that all gateways have reported as spent, from the stream server."""

    everywhere = False

    def __init__(self, context: TaskContext) -> None:
        self._store, self._static = context.store, directory_of(context.config)
        self._counters = LeaseServer(context.corridor.client, context.corridor.state.prefix, "notices")

    async def look(self, now: float) -> Sequence[Notice]:
        """Raises StreamDown."""
        scopes = await self._store.look(lambda connection: self._limited(connection, now))
        found: list[Notice] = []
        for some in chunked([(scope, limit) for scope in scopes for limit in scope.limits], _AT_ONCE):
            names = [counter_name(scope, limit, now) for scope, limit in some]
            spent = await self._counters.spent(names)
            used = [spent[name][0] for name in names]
            found += notices_of(zip(some, names, used, strict=True), now)
        return found + await self._store.look(lambda connection: self._soft(connection, now))

    def _limited(self, connection: Reading, now: float) -> list[LimitScope]:
        whole = limited_scopes(connection, self._static, now)
        return whole + limited_call_scopes(connection, self._static, now)

    def _soft(self, connection: Reading, now: float) -> list[Notice]:
        """Notices of soft limits, which no gateway counts: from the usage in the store."""
        scopes = soft_scopes(connection, self._static, now)
        spent = {floor.name: floor.amount for floor in spent_floors(connection, scopes, now)} if scopes else {}
        limits = [(scope, limit) for scope in scopes for limit in scope.limits]
        named = ((each, counter_name(*each, now)) for each in limits)
        return list(notices_of(((each, name, spent.get(name, 0)) for each, name in named), now, soft=True))


def notices_of(
    used: Iterable[tuple[tuple[LimitScope, Limit], str, int]], now: float, *, soft: bool = False
) -> Iterator[Notice]:
    """used: limits with the names of their counters, and what is spent of them."""
    for (scope, limit), name, units in used:
        brought = limit.carried if now < limit.carried_until else 0.0
        spent = units / limit.scale + brought
        passed = next((t for t in THRESHOLDS if spent >= t * limit.amount), None)
        if passed is not None and brought < passed * limit.amount:
            yield _notice(scope, limit, ("soft " if soft else "") + name, (spent, passed), now)


def _notice(scope: LimitScope, limit: Limit, name: str, used: tuple[float, float], now: float) -> Notice:
    """name: of the counter, after "soft " for a soft limit. used: what is spent, and the threshold that it passed."""
    spent, passed = used
    soft = name.startswith("soft ")
    title = f"{scope} has used {passed:.0%} of its {'soft ' if soft else ''}{limit.name}"
    until = window_end(limit.window or "day", limit.zone, now)
    text = f"{limit.text(spent)} of {limit.text(limit.amount)}."
    text += " Further calls are refused until the window ends." if passed >= 1 and not soft else ""
    data = {
        "scope": str(scope), "limit": limit.name, "amount": limit.amount, "spent": spent, "threshold": passed,
        "window_ends": until, "soft": soft,
    }  # fmt: skip
    id = f"budget:{name}:{passed:.0%}"
    return Notice(id, "budget", title, text, now, "/console/keys", SEVERITIES[_CAUSES[passed]], data)
