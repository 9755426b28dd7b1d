"""The means of conversations: one conversation, or one user of a split, is one value of a sequence. Pure.

Pairs of a conversation depend on each other, so that their mean is one increment. It is complete once the conversation
has been quiet for a while, in the time of the stream, or has its most pairs; later pairs of it do not count, and a
gateway asks for none that it knows to be late (proxy/experiments/shadowed_conversations.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.core.plan import CONVERSATION_PAIRS, CONVERSATION_QUIET_S
from gateway.features.experiments.metrics import PairOrigin, PairValue
from gateway.statistics.stored_state import State

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

        n, variance: of the sequence's values. The floor for what has not been seen is that of calls; a mean over many
        differs by less, as far as the calls of one conversation differ from each other.
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
        """The next pair of a conversation. Returns the conversations that are complete with it."""
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
        return WholeConversation(PairValue(a / n, b / n, difference / n), PairOrigin(at, caller, user))

    def state(self) -> State:
        """A JSON-able dict from which from_state continues bit-identically."""
        rows = [[name, *row] for name, row in self.rows.items()]
        return {"rows": rows, "calls": self.calls, "sums": [self.total, self.squares]}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> ConversationMeans:
        """Raises KeyError if a field is missing."""
        return cls({row[0]: list(row[1:]) for row in state["rows"]}, state["calls"], *state["sums"])
