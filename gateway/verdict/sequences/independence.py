"""Dependence between the values of one sequence: checked by user, key, conversation and quarter of an hour. Pure.

Pairs of a conversation depend on each other, so their mean is one value of the sequence, and the origin of such a value
names no conversation. The mean is complete once the conversation has been quiet for a while, in the time of the stream,
or has its most pairs; later pairs of it do not count, and a gateway requests none that it knows to be late
(proxy/experiments/budget.py). In a split, one user takes the place of a conversation.

With rules 3, a verdict about others than the users seen counts units from the first pair on: the first that exists of
conversation, user and key. A kind exists if at least half of the values name theirs; a value that names none is a unit
of its own. Coarser units count from an alarm on. A verdict about these users or keys counts calls, and conversations
and blocks of time from an alarm on: the users are known, and what they do next is not.

The prompt is one more unit, which crosses the others. It counts once prompts come again and there are enough of them;
fewer are these prompts, which the verdict is then about, as it is where a plan declares that its units are all there
are. Where prompts are hardly repeated, they say what calls do. Blocks of time that are longer than a quarter of an hour
count from the first pair on, too: somebody has declared that quality drifts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from zlib import crc32

from gateway.core.plan import CONVERSATION_PAIRS, CONVERSATION_QUIET_S, Population
from gateway.reports.model import Independence
from gateway.statistics.autocorrelation import Autocorrelation
from gateway.statistics.dependence import BLOCK_S, BlockDispersion, CrossedDispersion, Dispersion, UnitDispersion
from gateway.statistics.stored_state import State
from gateway.verdict.metrics import PairOrigin, PairValue

UnitKind = Literal["conversation", "user", "key"]
About = Literal["", "traffic", "others", "these"]
"""The population that a sequence is about. "": that of calls which are independent until an alarm, as with rules 2, or
as a plan declares. traffic: others where calls name users or conversations, else these."""
MOST_NAMES = 200
"""Users, keys and prompts of one sequence that are counted one by one."""
FEWEST_PROMPTS = 10.0
"""Effective prompts from which a verdict is about others like them."""
REPEATED = 1.2
"""Values of one prompt, on average over values, from which prompts count."""


@dataclass(frozen=True, slots=True)
class AppliedSums:
    """Sums by group that widen the interval of a sequence."""

    group: str
    sums: Dispersion | CrossedDispersion
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
    prompts: UnitDispersion | None = None
    drift: Autocorrelation | None = None
    about: About = ""
    whole: int = 0  # values that are whole conversations
    names: dict[str, set[int]] = field(default_factory=dict)
    """kind → digests of the users, keys or prompts seen, MOST_NAMES at most."""

    @classmethod
    def of(cls, by_units: bool, by_blocks: bool, about: About = "", block_s: float = BLOCK_S) -> IndependenceCheck:
        """Empty sums, of what a rule asks for."""
        users, keys, conversations = (UnitDispersion() if by_units else None for _ in range(3))
        check = cls(users, keys, conversations, BlockDispersion(block_s=block_s) if by_blocks else None)
        if by_units and about:
            check.about, check.drift = about, Autocorrelation()
            check.prompts = UnitDispersion() if about != "these" else None
        return check

    def add(self, value: float, origin: PairOrigin, mean: float) -> None:
        """Takes the next value. mean: of all values before it."""
        user = None if origin.user is None else f"{origin.caller}\0{origin.user}"
        if self.about:
            self.whole += origin.whole
            self._name("user", user)
            self._name("key", origin.caller)
            self._name("prompt", origin.prompt)
        if self.prompts is not None:
            self.prompts.add(value, origin.prompt, mean)
        if self.drift is not None and origin.at is not None:
            self.drift.add(value - mean, origin.at, origin.user)
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

    @property
    def counted_prompts(self) -> UnitDispersion | None:
        """The prompts, where they are a unit."""
        return self.prompts if self._prompts_repeat and self._effective_prompts >= FEWEST_PROMPTS else None

    @property
    def these_prompts(self) -> int:
        """The number of prompts that the verdict is about, because they are few; 0 if it is about others like them."""
        few = self._prompts_repeat and self._effective_prompts < FEWEST_PROMPTS
        return len(self.names.get("prompt", ())) if few else 0

    @property
    def _prompts_repeat(self) -> bool:
        return self.prompts is not None and self.prompts.values_of_one >= REPEATED

    @property
    def _effective_prompts(self) -> float:
        return self.prompts.sums.groups if self.prompts is not None else 0.0

    @property
    def counted_blocks(self) -> BlockDispersion | None:
        """Blocks of time that count from the first pair on."""
        longer = self.blocks is not None and self.blocks.block_s > BLOCK_S and self.blocks.sums.n
        return self.blocks if longer else None

    def applied(self) -> list[AppliedSums]:
        """The sums that widen the interval."""
        always = self._always()
        counted = [AppliedSums(group, sums, always=True) for group, sums in always]
        if len(always) > 1:
            crossed = CrossedDispersion(tuple(sums for _, sums in always))
            counted.append(AppliedSums("crossed", crossed, always=True))
        return [*counted, *(each for each in self._alarms() if each.group not in dict(always))]

    def _always(self) -> list[tuple[str, Dispersion]]:
        """(kind of group, sums) of the groups that count from the first pair on."""
        prompts, blocks = self.counted_prompts, self.counted_blocks
        found = [("prompt", prompts.sums)] if prompts is not None else []
        found += [("block", blocks.sums)] if blocks is not None else []
        if self.population != "others":
            return found
        counted = self.counted  # where no unit is named, no variance is known
        return [(self.unit or "user", Dispersion() if counted is None else counted.sums), *found]

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
        kinds = (*units, ("blocks", self.blocks), ("prompts", self.prompts), ("drift", self.drift))
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
        check.prompts = UnitDispersion.from_state(state["prompts"]) if "prompts" in state else None
        check.drift = Autocorrelation.from_state(state["drift"]) if "drift" in state else None
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


def _names(origin: PairOrigin) -> list[str | None]:
    """The stored names of a conversation's origin: without a prompt, as they were before there were prompts."""
    return [origin.caller, origin.user, *([] if origin.prompt is None else [origin.prompt])]


@dataclass(slots=True)
class ConversationMeans:
    """Conversations whose pairs still come. rows: conversation → [pairs, sums of a, b and difference, last, origin],
    the one with the newest pair last. The prompt of a conversation is its first pair's, where there is one.

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
        row = self.rows.pop(conversation, [0, 0.0, 0.0, 0.0, origin.at, *_names(origin)])
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
        n, a, b, difference, at, *of = self.rows.pop(conversation)
        caller, user, prompt = (*of, None)[:3]
        origin = PairOrigin(at, caller, user, whole=True, prompt=prompt)
        return WholeConversation(PairValue(a / n, b / n, difference / n), origin)

    def state(self) -> State:
        """A JSON-able dict from which from_state continues bit-identically."""
        rows = [[name, *row] for name, row in self.rows.items()]
        return {"rows": rows, "calls": self.calls, "sums": [self.total, self.squares]}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> ConversationMeans:
        """Raises KeyError if a field is missing."""
        return cls({row[0]: list(row[1:]) for row in state["rows"]}, state["calls"], *state["sums"])
