"""The candidates of a plan that get no more requests, with the reason, stored among the plan's sequences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

import orjson
from sqlalchemy import Connection

from gateway.features.experiments.rows.sequences import SequenceChanges, SequenceName, save, state_texts

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


def dropped_of(connection: Connection, plan: str) -> dict[str, DroppedCandidate]:
    """The dropped candidates of a plan, by arm."""
    return dropped_in(state_texts(connection, plan), plan)


def keep_dropped(connection: Connection, plan: str, dropped: Mapping[str, DroppedCandidate], now: float) -> None:
    """Stores exactly these as the dropped candidates."""
    state = {arm: {n: v for n, v in asdict(each).items() if n != "arm"} for arm, each in sorted(dropped.items())}
    save(connection, SequenceChanges({_name(plan): (len(dropped), state)}, [], {}, []), now)


def _name(plan: str) -> SequenceName:
    return SequenceName(plan, "", "dropped", "-")
