"""What the scorers said of the arms of pairs: rows of the store as the words of experiments/measures.py."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, select

from gateway.evals.experiments.metrics import ArmObservation, JoinedPair, Key, StoredScore
from gateway.evals.store.experiments.pairs import SettledPair
from gateway.evals.store.tables import exchanges, scores
from gateway.evals.store.tables_experiments import pair_scores

_CHUNK = 500
_LOST = ArmObservation("lost")


def evidence(connection: Connection, found: Sequence[SettledPair]) -> list[JoinedPair]:
    """The same pairs, in order, with all that is known of each arm."""
    ids = [i for pair in found for i in (pair.id, *pair.arms.values()) if i is not None]
    seen = _seen(connection, ids, _beside(connection, [pair.id for pair in found]))
    return [
        JoinedPair(
            pair.id,
            seen.get(pair.id, _LOST),
            {arm: _LOST if i is None else seen.get(i, _LOST) for arm, i in pair.arms.items()},
            pair.cluster,
        )
        for pair in found
    ]


def _seen(
    connection: Connection, ids: Sequence[str], beside: dict[str, dict[Key, StoredScore]]
) -> dict[str, ArmObservation]:
    opinions = _scores(connection, ids)
    e = exchanges.c
    columns = (e.id, e.status, e.outcome, e.total_s, e.first_token_s, e.output_tokens, e.cost_usd)
    found: dict[str, ArmObservation] = {}
    for chunk in _chunks(ids):
        for row in connection.execute(select(*columns).where(e.id.in_(chunk))):
            whole = row.outcome == "ok" and row.status < 400
            found[row.id] = ArmObservation(
                "ok" if whole else "failed", row.id, row.outcome, row.total_s, row.first_token_s, row.output_tokens,
                row.cost_usd, opinions.get(row.id, {}), beside.get(row.id, {}),
            )  # fmt: skip
    return found


def _scores(connection: Connection, ids: Sequence[str]) -> dict[str, dict[Key, StoredScore]]:
    s = scores.c
    columns = (s.exchange_id, s.scorer, s.version, s.config_hash, s.status, s.value01, s.value, s.direction)
    found: dict[str, dict[Key, StoredScore]] = {}
    for chunk in _chunks(ids):
        these = s.exchange_id.in_(chunk), s.subject == "exchange", s.kind.in_(("code", "model", "llm"))
        for row in connection.execute(select(*columns).where(*these)):
            found.setdefault(row.exchange_id, {})[_key(row)] = StoredScore(
                row.status, row.value01, row.value, row.direction
            )
    return found


def _beside(connection: Connection, ids: Sequence[str]) -> dict[str, dict[Key, StoredScore]]:
    """By the exchange of the arm."""
    p = pair_scores.c
    columns = (p.exchange_id, p.scorer, p.version, p.config_hash, p.status, p.value, p.direction)
    found: dict[str, dict[Key, StoredScore]] = {}
    for chunk in _chunks(ids):
        for row in connection.execute(select(*columns).where(p.pair.in_(chunk))):
            found.setdefault(row.exchange_id, {})[_key(row)] = StoredScore(
                row.status, row.value, row.value, row.direction
            )
    return found


def _key(row: Any) -> Key:
    return row.scorer, f"{row.version} {row.config_hash}"


def _chunks(ids: Sequence[str]) -> Iterable[Sequence[str]]:
    return (ids[at : at + _CHUNK] for at in range(0, len(ids), _CHUNK))
