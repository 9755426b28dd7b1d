"""Learned routes in force: the choice between a route's two targets for each call. No I/O.

A cascade asks the moved target first, and decides by its answer, which the relay hands to `ServedRoute.decided`.

A call that is unlike those that the route was learned from goes to the control: one of another API, or in a script that
was not among them. A conversation keeps its target in this process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gateway.config.routes import ConfiguredRoute
from gateway.core.answer_features import answer_features
from gateway.core.completion import assemble
from gateway.core.exchange import Target
from gateway.core.learned_route import APIS, UNANSWERED, UNLIKE, LearnedRoute
from gateway.core.request_features import request_features
from gateway.core.segments import TAIL_BYTES, RequestFacts, Segmenter
from gateway.proxy.request.call import Call

if TYPE_CHECKING:
    from gateway.core.certificate import CertificateInForce


def request_facts(call: Call, reads_tail: bool) -> RequestFacts:
    """Returns the facts about a request that distinguish segments. reads_tail: the end of the messages is wanted."""
    tail = b""
    if reads_tail and call.members is not None:
        texts = call.members.get("messages") or call.members.get("prompt") or call.members.get("input")
        tail = b"" if texts is None else bytes(memoryview(texts)[-TAIL_BYTES:])
    return RequestFacts(call.caller.name, call.api, call.stream, len(call.body), call.fields, tail)


MOST_CONVERSATIONS = 50_000
"""Conversations that are remembered; beyond, the oldest is forgotten, and its next call is decided again."""


@dataclass(frozen=True, slots=True)
class RouteChoice:
    """The decision of a route. There is one object for each leaf, so that a call makes none."""

    route: str
    leaf: str
    """Number of the leaf, UNLIKE, or UNANSWERED."""
    moved: bool
    target: Target
    target_name: str
    """Name of the target as in TargetState: cheaper to compare than the target."""
    label: str
    """Route and leaf, as in records: "small-where-safe/3"."""
    header_line: bytes
    """x-gateway-route, with the line break before it."""
    cascade: ServedRoute | None = None
    """The cascade that decides once `target` has answered; None if this is the decision."""
    action: bytes = b""
    """x-gateway-decision-action, with the line break before it; b"" of routes that obey no certificate."""


class ServedRoute:
    """One learned route of a config, with the conversations that it has decided."""

    def __init__(self, configured: ConfiguredRoute, most_conversations: int = MOST_CONVERSATIONS) -> None:
        self._most_conversations = most_conversations
        self.learned: LearnedRoute = configured.route
        self.control = configured.route.control.target
        self.moved = configured.route.moved.target
        self._chosen: dict[tuple[str, str], RouteChoice] = {}
        self._unlike = self._choice(UNLIKE, moved=False)
        self._segmenter = None if self.learned.segments is None else Segmenter(self.learned.segments)
        self._first = replace(self._choice(UNANSWERED, moved=True), cascade=self)
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

    @property
    def claims(self) -> Sequence[str]:
        """The digests of the certificates that it obeys."""
        return ()

    def certify(self, known: Mapping[str, CertificateInForce], now: float) -> None:
        """Takes over the certificates in force, of a route that obeys some."""

    def keep(self, before: ServedRoute) -> None:
        """Continues the conversations of the same route in the previous config."""
        self.take_back(before.returned)
        self._chosen = before._chosen

    def choose(self, call: Call) -> RouteChoice:
        if call.conversation is None:
            return self._decided(call)
        known = self._chosen.get((call.caller.name, call.conversation))
        if known is not None:
            return known
        choice = self._decided(call)
        if choice.cascade is None and not (self.learned.cascade and call.stream):
            self._keep(call, choice)
        return choice

    def decided(self, call: Call, answer: bytes) -> RouteChoice:
        """The decision of a cascade about the first target's complete answer, in the client's API. A conversation that
        is not accepted once stays with the control."""
        values, _ = self._features(call)
        read = assemble(call.api, False, answer)
        choice = self._choices[self.learned.leaf_of([*values, *answer_features(values, read)])]
        if not choice.moved and call.conversation is not None:
            self._keep(call, choice)
        return choice

    def _keep(self, call: Call, choice: RouteChoice) -> None:
        """Remembers the choice for the call's conversation."""
        self._chosen[call.caller.name, str(call.conversation)] = choice
        if len(self._chosen) > self._most_conversations:
            del self._chosen[next(iter(self._chosen))]

    def _decided(self, call: Call) -> RouteChoice:
        if call.api not in APIS:
            return self._unlike
        if self.learned.cascade:
            return self._asked_first(call)
        if self._segmenter is not None:
            values_of = self._segmenter.values(request_facts(call, self._segmenter.reads_tail))
            return self._choices[self.learned.leaf_of_segments(values_of)]
        members = call.slices()
        turns = members.get("messages" if call.api == "chat" else "prompt") or b""
        values, script = request_features(len(call.body), call.stream, call.fields, turns)
        return self._choices[self.learned.leaf_of(values)] if self.learned.knows(script) else self._unlike

    def _asked_first(self, call: Call) -> RouteChoice:
        """The choice of a cascade before anything was asked."""
        if call.stream:
            return self._choices[self.learned.streamed_leaf]
        several = call.fields.get("n") not in (None, 1)
        if (
            several
            or not any(choice.moved for choice in self._choices)
            or not self.learned.knows(self._features(call)[1])
        ):
            return self._unlike
        return self._first

    def _features(self, call: Call) -> tuple[list[float], int]:
        members = call.slices()
        turns = members.get("messages" if call.api == "chat" else "prompt") or b""
        return request_features(len(call.body), call.stream, call.fields, turns)

    def _choice(self, leaf: str, *, moved: bool) -> RouteChoice:
        name = self.learned.name
        line = b"\r\nx-gateway-route: %b/%b" % (name.encode(), leaf.encode())
        target = self.moved if moved else self.control
        return RouteChoice(name, leaf, moved, target, str(target), f"{name}/{leaf}", line)
