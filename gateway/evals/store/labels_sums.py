"""What a scorer said of everything it judged, in sums by kind of traffic: what labels are set against."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import orjson
from sqlalchemy import Connection, Double, case, cast, func, literal, select

from gateway.core.plan import REPEAT
from gateway.evals.store.labels import ScorerVersion
from gateway.evals.store.tables import exchanges, score_cells, scores
from gateway.evals.store.tables_experiments import pair_scores

Key = tuple[str, str, str, str]  # alias, "upstream/model", arm, stratum


@dataclass(frozen=True, slots=True)
class ScoreSelection:
    """Which of a scorer's verdicts. None: all."""

    experiment: str | None = None
    plan: str | None = None
    arm: str | None = None


@dataclass(frozen=True, slots=True)
class JudgedSums:
    """Of one kind of traffic. total, squares: of verdicts in [0, 1], 1 best; good: how many reach the cut. asked: all
    rows, scored or not. inverse_pi: over them. population: N_h from the Tallies; 0: none has come."""

    scored: int
    responded: int
    asked: int
    total: float
    squares: float
    good: int
    inverse_pi: float
    population: int = 0


def sums(connection: Connection, of: ScorerVersion, part: ScoreSelection, cut: float) -> dict[Key, JudgedSums]:
    """Populations come with the whole only: Tallies know no experiments."""
    if of.subject == "pair":
        return _pair_sums(connection, of, part, cut)
    s, e = scores.c, exchanges.c
    model, arm = (e.upstream + literal("/") + e.model).label("model"), func.coalesce(s.arm, "").label("arm")
    query = (
        select(
            e.alias, model, arm, s.stratum,
            func.count(s.value01), func.count(case((s.status.in_(("scored", "not_applicable")), 1))), func.count(),
            func.sum(s.value01), func.sum(s.value01 * s.value01), func.count(case((s.value01 >= cut, 1))),
            func.sum(cast(1.0, Double) / s.pi),
        )
        .join(exchanges, e.id == s.exchange_id)
        .where(s.scorer == of.scorer, s.version == of.version, s.config_hash == of.config_hash, s.repeat == 0)
        .where(*_only(scores, part))
        .group_by(e.alias, model, arm, s.stratum)
    )  # fmt: skip
    found = {tuple(row[:4]): _sums(tuple(row[4:])) for row in connection.execute(query)}
    if part.experiment is not None:
        return found
    populations = _populations(connection, of)
    return {key: replace(cell, population=populations.get(key, 0)) for key, cell in found.items()}


def flips(connection: Connection, of: ScorerVersion, part: ScoreSelection) -> list[tuple[float | None, float | None]]:
    """Of each pair that was judged in both orders: whether the winner changed, whether the first answer won."""
    p = pair_scores.c
    query = select(p.detail).where(p.scorer == of.scorer, p.version == of.version, p.config_hash == of.config_hash)
    rows = connection.execute(query.where(p.value.is_not(None), *_only(pair_scores, part))).scalars()
    details = [orjson.loads(row) for row in rows if row]
    return [(d.get("flip"), d.get("first_slot")) for d in details if "flip" in d or "first_slot" in d]


def judged_after(connection: Connection, of: ScorerVersion, moment: float) -> int:
    """How many answers this version judged since; moment: Unix seconds."""
    table = pair_scores if of.subject == "pair" else scores
    c = table.c
    query = select(func.count()).where(c.scorer == of.scorer, c.version == of.version, c.config_hash == of.config_hash)
    return connection.execute(query.where(c.status == "scored", c.created > moment)).scalar_one()


def _pair_sums(connection: Connection, of: ScorerVersion, part: ScoreSelection, cut: float) -> dict[Key, JudgedSums]:
    p = pair_scores.c
    query = select(
        p.arm, func.count(p.value), func.count(case((p.status.in_(("scored", "not_applicable")), 1))), func.count(),
        func.sum(p.value), func.sum(p.value * p.value), func.count(case((p.value >= cut, 1))), func.count(),
    ).where(p.scorer == of.scorer, p.version == of.version, p.config_hash == of.config_hash)  # fmt: skip
    query = query.where(p.arm != REPEAT, *_only(pair_scores, part)).group_by(p.arm)
    return {("", "", row[0], ""): _sums(tuple(row[1:])) for row in connection.execute(query)}


def _only(table: Any, part: ScoreSelection) -> list[Any]:
    wanted = {"experiment": part.experiment, "plan": part.plan, "arm": part.arm}
    return [table.c[name] == value for name, value in wanted.items() if value is not None]


def _sums(row: tuple[Any, ...]) -> JudgedSums:
    scored, responded, asked, total, squares, good, inverse_pi = row
    return JudgedSums(
        scored, responded, asked, float(total or 0.0), float(squares or 0.0), good, float(inverse_pi or 0.0)
    )


def _populations(connection: Connection, of: ScorerVersion) -> dict[Key, int]:
    c = score_cells.c
    query = select(c.alias, c.model, c.arm, c.stratum, c.population)
    query = query.where(c.scorer == of.scorer, c.version == of.version, c.config_hash == of.config_hash)
    return {(row.alias, row.model, row.arm, row.stratum): row.population for row in connection.execute(query)}
