"""Queries about the candidates of a plan that get no more requests."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection

from gateway.store.sequences import save, state_texts
from gateway.verdict.best_of_k.dropped import DroppedCandidate, changes_of, dropped_in


def dropped_of(connection: Connection, plan: str) -> dict[str, DroppedCandidate]:
    """The dropped candidates of a plan, by arm."""
    return dropped_in(state_texts(connection, plan), plan)


def keep_dropped(connection: Connection, plan: str, dropped: Mapping[str, DroppedCandidate], now: float) -> None:
    """Stores exactly these as the dropped candidates."""
    save(connection, changes_of(plan, dropped), now)
