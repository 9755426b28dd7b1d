"""Dependence between the values of one sequence: checked by user, key, conversation and quarter of an hour. Pure.

Pairs of a conversation depend on each other, so their mean is one value of the sequence, and the origin of such a value
names no conversation. The mean is complete once the conversation has been quiet for a while, in the time of the stream,
or has its most pairs; later pairs of it do not count, and a gateway requests none that it knows to be late
(proxy/experiments/budget.py). In a split, one user takes the place of a conversation.

With rules 3, a verdict about others than the users seen counts units from the first pair on: the first that exists of
conversation, user and key. A kind exists if at least half of the values name theirs; a value that names none is a unit
of its own. Coarser units count from an alarm on. A verdict about these users or keys counts calls, and conversations
and blocks of time from an alarm on: the users are known, and what they do next is not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from zlib import crc32

from gateway.core.plan import CONVERSATION_PAIRS, CONVERSATION_QUIET_S, Population
from gateway.reports.model import Independence
from gateway.statistics.dependence import BlockDispersion, Dispersion, UnitDispersion
from gateway.statistics.stored_state import State
from gateway.verdict.metrics import PairOrigin, PairValue

UnitKind = Literal["conversation", "user", "key"]
About = Literal["", "traffic", "others", "these"]
"""The population that a sequence is about. "": that of calls which are independent until an alarm, as with rules 2, or
as a plan declares. traffic: others where calls name users or conversations, else these."""
MOST_NAMES = 200
"""Users, and keys, that are counted one by one."""


@dataclass(frozen=True, slots=True)
class AppliedSums:
    """Sums by group that widen the interval of a sequence."""

    group: str
    sums: Dispersion
    floor: float = 1.0
    """The floor that they need, in units of the largest deviation of one value. A lasting failure is one event, so a
    quarter of an hour without one is as informative as one pair."""
    always: bool = False
    """Whether they apply from the first pair on, with Student's quantile; else from an alarm on."""


@dataclass(slots=True)
class IndependenceCheck:
    """The sums of one sequence by group. None if its rule does not ask for them."""

    users: UnitDispersion | None = None
    keys: UnitDispersion | None = None
    conversations: UnitDispersion | None = None
    blocks: BlockDispersion | None = None
    about: About = ""
    whole: int = 0  # values that are whole conversations
    names: dict[str, set[int]] = field(default_factory=dict)
    """kind → digests of the users or keys seen, MOST_NAMES at most."""

    @classmethod
    def of(cls, by_units: bool, by_blocks: bool, about: About = "") -> IndependenceCheck:
        """Empty sums, of what a rule asks for."""
        users, keys, conversations = (UnitDispersion() if by_units else None for _ in range(3))
        return cls(users, keys, conversations, BlockDispersion() if by_blocks else None, about if by_units else "")

    def add(self, value: float, origin: PairOrigin, mean: float) -> None:
        """Takes the next value. mean: of all values before it."""
        user = None if origin.user is None else f"{origin.caller}\0{origin.user}"
        if self.about:
            self.whole += origin.whole
            self._name("user", user)
            self._name("key", origin.caller)
        if self.users is not None:
            self.users.add(value, user, mean)
        if self.keys is not None:
            self.keys.add(value, origin.caller, mean)
        if self.conversations is not None:
            self.conversations.add(value, origin.conversation, mean)
        if self.blocks is not None and origin.at is not None:
            self.blocks.add(value, origin.at, mean)

    def _name(self, kind: str, name: str | None) -> None:
        known = self.names.setdefault(kind, set())
        if name is not None and len(known) < MOST_NAMES:
            known.add(crc32(name.encode("utf-8", "surrogatepass")))

    def _units(self) -> dict[UnitKind, UnitDispersion]:
        """The sums by unit, the finest first."""
        kinds: tuple[tuple[UnitKind, UnitDispersion | None], ...] = (
            ("conversation", self.conversations),
            ("user", self.users),
            ("key", self.keys),
        )
        return {kind: sums for kind, sums in kinds if sums is not None}

    @property
    def unit(self) -> UnitKind | None:
        """The first kind of unit that at least half of the values name."""
        for kind, units in self._units().items():
            named = units.named + (self.whole if kind == "conversation" else 0)
            if named and 2 * named >= units.sums.n:
                return kind
        return None

    @property
    def population(self) -> Population | None:
        """The population of its interval; None if it is about calls."""
        if self.about == "traffic":
            return "others" if self.unit in ("conversation", "user") else "these"
        return self.about or None

    @property
    def counted(self) -> UnitDispersion | None:
        """The units that count from the first pair on; None if none do, or none is named."""
        return self._units().get(self.unit) if self.population == "others" and self.unit is not None else None

    def applied(self) -> list[AppliedSums]:
        """The sums that widen the interval."""
        if self.population != "others":
            return self._alarms()
        unit, counted = self.unit, self.counted
        sums = Dispersion() if counted is None else counted.sums  # where no unit is named, no variance is known
        coarser = (each for each in self._alarms() if each.group != unit)
        return [AppliedSums(unit or "user", sums, always=True), *coarser]

    def _alarms(self) -> list[AppliedSums]:
        """The sums of every alarm that counts for the population."""
        units = (("user", self.users), ("key", self.keys), ("conversation", self.conversations))
        known = {"traffic": ("key",), "these": ("user", "key")}
        fixed = known.get(self.about, ()) if self.population == "these" else ()
        return [
            AppliedSums(group, kind.sums, kind.sums.largest if group == "block" else 1.0)
            for group, kind in (*units, ("block", self.blocks))
            if kind is not None and kind.sums.alarm and group not in fixed
        ]

    def finding(self, declared: bool) -> Independence:
        """The finding about the dependence. declared: the plan says that its calls are independent."""
        if self.about:
            return self._finding()
        units = [kind for kind in (self.users, self.keys, self.conversations) if kind is not None]
        if any(kind.sums.alarm for kind in units):
            return "alarm"
        if any(kind.checked for kind in units):
            return "checked"
        return "declared" if declared else "assumed"

    def state(self) -> State:
        """A JSON-able dict from which from_state continues bit-identically."""
        units = (("users", self.users), ("keys", self.keys), ("conversations", self.conversations))
        kinds = (*units, ("blocks", self.blocks))
        names = {kind: sorted(known) for kind, known in sorted(self.names.items())}
        about = {"about": {"population": self.about, "whole": self.whole, "names": names}} if self.about else {}
        return {name: kind.state() for name, kind in kinds if kind is not None} | about

    def _finding(self) -> Independence:
        if any(each.group != "block" and not each.always for each in self.applied()):
            return "alarm"
        if self.population == "others":
            return "units"
        return "declared" if self.about == "these" else "assumed"

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> IndependenceCheck:
        """Raises ValueError or KeyError if a field is missing or unknown."""
        names = ("users", "keys", "conversations")
        users, keys, conversations = (UnitDispersion.from_state(state[n]) if n in state else None for n in names)
        blocks = BlockDispersion.from_state(state["blocks"]) if "blocks" in state else None
        check = cls(users, keys, conversations, blocks)
        if (about := state.get("about")) is not None:
            check.about, check.whole = about["population"], about["whole"]
            check.names = {kind: set(known) for kind, known in about["names"].items()}
        return check


MOST_OPEN = 500  # conversations of one sequence: the one that has waited longest is complete beyond that


@dataclass(frozen=True, slots=True)
class WholeConversation:
    """A conversation that is complete."""

    mean: PairValue
    origin: PairOrigin


@dataclass(slots=True)
class ConversationMeans:
    """Conversations whose pairs still come. rows: conversation → [pairs, sums of a, b and difference, last, origin],
    the one with the newest pair last.

    calls, total, squares: of all pairs so far, complete or not: their number, and sums of differences and of squares.
    """

    rows: dict[str, list[Any]] = field(default_factory=dict)
    calls: int = 0
    total: float = 0.0
    squares: float = 0.0

    @property
    def by_calls(self) -> float | None:
        """The mean difference over calls; None before the first."""
        return self.total / self.calls if self.calls else None

    def is_open(self, conversation: str) -> bool:
        """Whether its pairs still count."""
        return conversation in self.rows

    def count(self, value: PairValue) -> None:
        """Counts one pair in the difference over calls."""
        self.calls += 1
        self.total += value.difference
        self.squares += value.difference**2

    def scale(self, n: int, variance: float) -> float:
        """The deviation of one value of a sequence, in units of that of one call; 1 while nothing has varied.

        n, variance: of the sequence's values. The floor for unseen values is that of calls; a mean over many differs by
        less, as far as the calls of one conversation differ from each other.
        """
        calls = self.squares / self.calls - (self.total / self.calls) ** 2 if self.calls else 0.0
        if calls <= 0 or not n or self.calls <= n:
            return 1.0
        return math.sqrt(min(max(variance / calls, n / self.calls), 1.0))

    def complete(self, at: float | None) -> list[WholeConversation]:
        """Takes out the conversations that are complete before a pair of this time, the oldest first."""
        found: list[WholeConversation] = []
        while self.rows and at is not None:
            oldest = next(iter(self.rows))
            if at - (self.rows[oldest][4] or at) <= CONVERSATION_QUIET_S:
                break
            found.append(self._whole(oldest))
        return found

    def add(self, conversation: str, value: PairValue, origin: PairOrigin) -> list[WholeConversation]:
        """Takes the next pair of a conversation. Returns the conversations that are complete with it."""
        row = self.rows.pop(conversation, [0, 0.0, 0.0, 0.0, origin.at, origin.caller, origin.user])
        self.rows[conversation] = row
        row[0] += 1
        row[1] += value.a
        row[2] += value.b
        row[3] += value.difference
        row[4] = origin.at if row[4] is None else max(row[4], origin.at or row[4])
        self.count(value)
        whole = [self._whole(conversation)] if row[0] >= CONVERSATION_PAIRS else []
        while len(self.rows) > MOST_OPEN:
            whole.append(self._whole(next(iter(self.rows))))
        return whole

    def _whole(self, conversation: str) -> WholeConversation:
        n, a, b, difference, at, caller, user = self.rows.pop(conversation)
        return WholeConversation(PairValue(a / n, b / n, difference / n), PairOrigin(at, caller, user, whole=True))

    def state(self) -> State:
        """A JSON-able dict from which from_state continues bit-identically."""
        rows = [[name, *row] for name, row in self.rows.items()]
        return {"rows": rows, "calls": self.calls, "sums": [self.total, self.squares]}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> ConversationMeans:
        """Raises KeyError if a field is missing."""
        return cls({row[0]: list(row[1:]) for row in state["rows"]}, state["calls"], *state["sums"])
