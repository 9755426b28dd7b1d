"""The candidates of a plan that get no more requests, with the reason, as stored among the plan's sequences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

import orjson

from gateway.core.sequence import SequenceChanges, SequenceName

Reason = Literal["beaten", "inferior", "guardrail"]


@dataclass(frozen=True, slots=True)
class DroppedCandidate:
    """A candidate that cannot be the best."""

    arm: str
    reason: Reason
    """beaten: another candidate is better. inferior: it is worse than the control by more than the margin. guardrail:
    it breaks one."""
    by: str
    """The candidate that is better; "": none."""
    says: str
    """The reason with its numbers, in a sentence."""
    pairs: int
    """Pairs behind it."""
    at: float
    """Unix seconds."""


def dropped_in(texts: Mapping[SequenceName, str], plan: str) -> dict[str, DroppedCandidate]:
    """The dropped candidates, by arm. texts: the stored states of a plan's sequences."""
    stored = orjson.loads(texts.get(_name(plan), "{}"))
    return {arm: DroppedCandidate(arm=arm, **fields) for arm, fields in sorted(stored.items())}


def changes_of(plan: str, dropped: Mapping[str, DroppedCandidate]) -> SequenceChanges:
    """Exactly these as the dropped candidates."""
    rows = {arm: asdict(candidate) for arm, candidate in sorted(dropped.items())}
    state = {arm: {name: value for name, value in row.items() if name != "arm"} for arm, row in rows.items()}
    return SequenceChanges({_name(plan): (len(dropped), state)}, [], {}, [])


def _name(plan: str) -> SequenceName:
    return SequenceName(plan, "", "dropped", "-")
