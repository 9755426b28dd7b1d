"""The conversations of open WebSockets: the latest response of each lane, so that a turn sends only what is new.

Nothing is written to disk. Bounded for each connection and for the whole process; a forgotten response is answered with
`previous_response_not_found`, upon which clients send the conversation again.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

CONNECTION_BYTES = 4 << 20
PROCESS_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class ConversationTurn:
    """A response that a later one may continue, with all that came before it."""

    id: str
    """Name by which the client knows it."""
    items: tuple[bytes, ...]
    """JSON items separated by commas, in pieces that later turns share: the input and the output of each turn."""
    base: bytes | None = None
    """The JSON of the id of a response that the upstream keeps, which comes before the items; None if there is no such
    response.
    """

    @property
    def size(self) -> int:
        return sum(map(len, self.items)) + len(self.id)


@dataclass(eq=False, slots=True)
class _Kept:
    """One entry of a connection."""

    owner: ConnectionHistory
    lane: str | None
    turn: ConversationTurn


@dataclass(slots=True)
class ProcessHistory:
    """The conversations of all connections of one process; the one that was used least recently is forgotten first."""

    most_bytes: int = PROCESS_BYTES
    held: int = 0
    """Bytes of all items."""
    _order: OrderedDict[_Kept, None] = field(default_factory=OrderedDict)

    def add(self, kept: _Kept) -> None:
        self.held += kept.turn.size
        self._order[kept] = None
        while self.held > self.most_bytes:
            oldest = next(iter(self._order))
            oldest.owner.forget(oldest.lane)

    def touch(self, kept: _Kept) -> None:
        self._order.move_to_end(kept)

    def remove(self, kept: _Kept) -> None:
        self.held -= kept.turn.size
        del self._order[kept]


class ConnectionHistory:
    """The latest response of each lane of one connection. A lane is a `stream_id`; None: messages without one."""

    __slots__ = ("_by_lane", "_most_bytes", "_process", "held")

    def __init__(self, process: ProcessHistory, most_bytes: int = CONNECTION_BYTES) -> None:
        self.held = 0
        """Bytes of all items."""
        self._process = process
        self._most_bytes = most_bytes
        self._by_lane: dict[str | None, _Kept] = {}

    def find(self, response_id: str) -> ConversationTurn | None:
        """The turn with this id in any lane: a conversation may continue in another lane than its own."""
        for kept in self._by_lane.values():
            if kept.turn.id == response_id:
                self._process.touch(kept)
                return kept.turn
        return None

    def latest(self, lane: str | None) -> str | None:
        """The id of a lane's latest response; None if it is not kept."""
        kept = self._by_lane.get(lane)
        return None if kept is None else kept.turn.id

    def keep(self, lane: str | None, turn: ConversationTurn) -> None:
        """Replaces the lane's latest response. One that is too large for the connection is not kept."""
        self.forget(lane)
        if turn.size > self._most_bytes:
            return
        while self.held + turn.size > self._most_bytes:
            self.forget(next(iter(self._by_lane)))
        kept = self._by_lane[lane] = _Kept(self, lane, turn)
        self.held += turn.size
        self._process.add(kept)

    def forget(self, lane: str | None) -> None:
        kept = self._by_lane.pop(lane, None)
        if kept is not None:
            self.held -= kept.turn.size
            self._process.remove(kept)

    def clear(self) -> None:
        for lane in list(self._by_lane):
            self.forget(lane)


@dataclass(slots=True)
class OpenSessions:
    """State that the sessions of one process share."""

    history: ProcessHistory = field(default_factory=ProcessHistory)
    number: int = 0
    """Connections that are open."""
