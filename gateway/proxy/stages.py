"""The stages of a call that not every config needs, chosen when the config is read. See App.answer.

A plain call passes through none of them: no span, no pattern of models, no default of `max_tokens`, no cheaper tier and
no guard is configured, so that nothing is asked about them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.proxy.limits.budget_tier import BudgetTier
from gateway.proxy.limits.limiter import Limiter
from gateway.proxy.limits.refusal import RunEnded
from gateway.proxy.relay.state import CallContext
from gateway.proxy.request.call import Call
from gateway.proxy.routing.router import Route, Router
from gateway.proxy.types import ClientConnection

if TYPE_CHECKING:
    from gateway.proxy.guards.stage import Guards
    from gateway.proxy.recording.spans import Spans

BeforeRoute = Callable[[Call, CallContext], Call]
"""Returns the call as it is routed."""
Reserve = Callable[[Call, Route, CallContext], Awaitable[tuple[Call, Route]]]
"""Reserves the amounts of a caller's limits, and returns the call and its route as changed. Raises as Limiter does."""
BeforeRelay = Callable[[Call, Route, ClientConnection, CallContext], Awaitable[tuple[Call, ClientConnection]]]
"""Returns the call as it may be sent, and the client to which the relay answers. Raises CallEnded after an answer."""


@dataclass(frozen=True, slots=True)
class Stages:
    before_route: tuple[BeforeRoute, ...]
    reserve: Reserve
    """Only for callers with limits."""
    before_relay: tuple[BeforeRelay, ...]


def stages_of(
    router: Router, limiter: Limiter, tier: BudgetTier | None, spans: Spans | None, guards: Guards | None
) -> Stages:
    before_route: list[BeforeRoute] = []
    if spans is not None:
        before_route.append(spans.begin)
    if router.has_patterns:
        before_route.append(_as_its_pattern(router))
    before_relay = () if guards is None else (guards.enter,)
    return Stages(tuple(before_route), _reserving(limiter, tier), before_relay)


def _as_its_pattern(router: Router) -> BeforeRoute:
    def matched(call: Call, context: CallContext) -> Call:
        return call if call.alias in router.exact else router.matched(call)

    return matched


def _reserving(limiter: Limiter, tier: BudgetTier | None) -> Reserve:
    async def reserve(call: Call, route: Route, context: CallContext) -> tuple[Call, Route]:
        try:
            context.reservation = limiter.reserve(call.caller, call) or await limiter.wait(call.caller, call)
        except RunEnded as ended:
            limiter.note_end(call, ended)
            raise
        return call, route

    async def reserve_in_tier(call: Call, route: Route, context: CallContext) -> tuple[Call, Route]:
        if tier is None or not route.tier:
            return await reserve(call, route, context)
        try:
            context.reservation, route = await tier.reserve(call, route)
        except RunEnded as ended:
            limiter.note_end(call, ended)
            raise
        return call, route

    async def reserve_with_default(call: Call, route: Route, context: CallContext) -> tuple[Call, Route]:
        return await reserve_in_tier(limiter.with_default(call.caller, call), route, context)

    if limiter.default_output is not None:
        return reserve_with_default
    return reserve if tier is None else reserve_in_tier
