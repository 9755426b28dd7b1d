"""Learned routes in force: which of a route's two targets gets a call. No I/O.

A call that is unlike those that the route was learned from goes to the control: one of another API, or in a script that
was not among them. A conversation keeps its target in this process.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gateway.config.config import Config
from gateway.config.routes import ConfiguredRoute
from gateway.core.exchange import Target
from gateway.core.learned_route import APIS, UNLIKE, LearnedRoute
from gateway.core.request_features import request_features
from gateway.proxy.request.call import Call

MOST_CONVERSATIONS = 50_000
"""Conversations that are remembered; beyond, the oldest is forgotten, and its next call is decided again."""


@dataclass(frozen=True, slots=True)
class RouteChoice:
    """The decision of a route. There is one object for each leaf, so that a call makes none."""

    route: str
    leaf: str
    """Number of the leaf, or UNLIKE."""
    moved: bool
    target: Target
    label: str
    """Route and leaf, as in records: "small-where-safe/3"."""
    header_line: bytes
    """x-gateway-route, with the line break before it."""


class ServedRoute:
    """One learned route of a config, with the conversations that it has decided."""

    def __init__(self, configured: ConfiguredRoute, most_conversations: int = MOST_CONVERSATIONS) -> None:
        self._most_conversations = most_conversations
        self.learned: LearnedRoute = configured.route
        self.control = configured.route.control.target
        self.moved = configured.route.moved.target
        self._chosen: dict[tuple[str, str], RouteChoice] = {}
        self._unlike = self._choice(UNLIKE, moved=False)
        self._choices: tuple[RouteChoice, ...] = ()
        self.returned: frozenset[int] = frozenset()
        """Leaves that were taken back: their calls go to the control."""
        self.take_back(frozenset())

    def take_back(self, leaves: frozenset[int]) -> None:
        """Sends the calls of these leaves, and of no others, to the control. Conversations are decided again."""
        if self._choices and leaves == self.returned:
            return
        self.returned = leaves
        rows = enumerate(self.learned.leaves)
        self._choices = tuple(self._choice(str(i), moved=of.moved and i not in leaves) for i, of in rows)
        self._chosen.clear()

    def keep(self, before: ServedRoute) -> None:
        """Goes on with the conversations of the same route in the config before."""
        self.take_back(before.returned)
        self._chosen = before._chosen

    def choose(self, call: Call) -> RouteChoice:
        if call.conversation is None:
            return self._decided(call)
        key = (call.caller.name, call.conversation)
        known = self._chosen.get(key)
        if known is None:
            known = self._chosen[key] = self._decided(call)
            if len(self._chosen) > self._most_conversations:
                del self._chosen[next(iter(self._chosen))]
        return known

    def _decided(self, call: Call) -> RouteChoice:
        if call.api not in APIS:
            return self._unlike
        members = call.slices()
        turns = members.get("messages" if call.api == "chat" else "prompt") or b""
        values, script = request_features(len(call.body), call.stream, call.fields, turns)
        return self._choices[self.learned.leaf_of(values)] if self.learned.knows(script) else self._unlike

    def _choice(self, leaf: str, *, moved: bool) -> RouteChoice:
        name = self.learned.name
        line = b"\r\nx-gateway-route: %b/%b" % (name.encode(), leaf.encode())
        return RouteChoice(name, leaf, moved, self.moved if moved else self.control, f"{name}/{leaf}", line)


class ServedRoutes:
    """The learned routes of one config, by name."""

    def __init__(self, config: Config) -> None:
        self.by_name: Mapping[str, ServedRoute] = {name: ServedRoute(each) for name, each in config.routes.items()}

    def of(self, target: Target) -> ServedRoute | None:
        """The route that this target of a plan stands for; None: the config has no such route, or another version."""
        route = self.by_name.get(target.model)
        return route if route is not None and route.learned.target == target else None

    def targets(self) -> Iterable[Target]:
        return (target for each in self.by_name.values() for target in (each.control, each.moved))

    def keep(self, before: ServedRoutes) -> None:
        """Goes on with what the routes that have not changed have decided under the config before."""
        for name, route in self.by_name.items():
            old = before.by_name.get(name)
            if old is not None and old.learned.digest == route.learned.digest:
                route.keep(old)

    def take_back(self, leaves: Mapping[str, frozenset[int]]) -> None:
        """leaves: those taken back, by the digest of their route."""
        for route in self.by_name.values():
            route.take_back(leaves.get(route.learned.digest, frozenset()))
