"""Whether the values of one sequence depend on each other: by user, key, conversation and quarter of an hour. Pure.

Of sequences whose values are means of conversations, the origins name no conversation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.features.experiments.metrics import PairOrigin
from gateway.reports.model import Independence
from gateway.statistics.dependence import BlockDispersion, Dispersion, UnitDispersion
from gateway.statistics.stored_state import State


@dataclass(slots=True)
class IndependenceCheck:
    """The sums of one sequence by group. None: its rule does not ask for them."""

    users: UnitDispersion | None = None
    keys: UnitDispersion | None = None
    conversations: UnitDispersion | None = None
    blocks: BlockDispersion | None = None

    @classmethod
    def of(cls, by_units: bool, by_blocks: bool) -> IndependenceCheck:
        """Empty sums, of what a rule asks for."""
        users, keys, conversations = (UnitDispersion() if by_units else None for _ in range(3))
        return cls(users, keys, conversations, BlockDispersion() if by_blocks else None)

    def add(self, value: float, origin: PairOrigin, mean: float) -> None:
        """The next value. mean: of all values before it."""
        if self.users is not None:
            self.users.add(value, None if origin.user is None else f"{origin.caller}\0{origin.user}", mean)
        if self.keys is not None:
            self.keys.add(value, origin.caller, mean)
        if self.conversations is not None:
            self.conversations.add(value, origin.conversation, mean)
        if self.blocks is not None and origin.at is not None:
            self.blocks.add(value, origin.at, mean)

    def alarms(self) -> list[tuple[str, Dispersion, float]]:
        """(what groups the values, their sums, how much of a floor they need) of every alarm.

        A failure that lasts is one event, so a quarter of an hour without one says as much as one pair does. The floor
        is in units of the largest deviation of one value.
        """
        units = (("user", self.users), ("key", self.keys), ("conversation", self.conversations))
        kinds = (*units, ("block", self.blocks))
        return [
            (name, kind.sums, kind.sums.largest if name == "block" else 1.0)
            for name, kind in kinds
            if kind is not None and kind.sums.alarm
        ]

    def finding(self, declared: bool) -> Independence:
        """Return what is known of the dependence. declared: the plan says that its calls are independent."""
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
        return {name: kind.state() for name, kind in kinds if kind is not None}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> IndependenceCheck:
        """Raises ValueError or KeyError if a field is missing or unknown."""
        names = ("users", "keys", "conversations")
        users, keys, conversations = (UnitDispersion.from_state(state[n]) if n in state else None for n in names)
        return cls(
            users, keys, conversations, BlockDispersion.from_state(state["blocks"]) if "blocks" in state else None
        )
