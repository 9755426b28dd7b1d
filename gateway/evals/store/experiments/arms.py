"""The sums of one experiment by arm and stratum, for its report. Reads only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, case, func, select

from gateway.core.exchange import Target
from gateway.evals.statistics.weighted_mean import StratumSums
from gateway.evals.store.ledger import OUTSIDE
from gateway.evals.store.tables import exchanges, score_cells, scores, tallies

MEASURES = ("first_token_s", "total_s", "input_tokens", "output_tokens")


@dataclass(frozen=True, slots=True)
class LatestPlan:
    """What ran last under an experiment's name. only: no other plan ever did, so the Tallies speak of this one."""

    experiment: str
    plan: str
    only: bool


@dataclass(frozen=True, slots=True)
class ScorerKey:
    scorer: str
    version: str
    config_hash: str
    direction: str


@dataclass(frozen=True, slots=True)
class PairTotals:
    """joined: shadows whose served exchange is here. alone: served exchanges without a shadow. orphans: the reverse."""

    joined: int
    served_alone: int
    shadow_alone: int


def experiments(connection: Connection) -> list[str]:
    names = select(exchanges.c.experiment).where(exchanges.c.experiment.is_not(None)).distinct()
    return sorted(connection.execute(names).scalars())


def latest_plan(connection: Connection, experiment: str) -> LatestPlan | None:
    newest = (
        select(exchanges.c.plan, func.max(exchanges.c.received))
        .where(exchanges.c.experiment == experiment)
        .group_by(exchanges.c.plan)
        .order_by(func.max(exchanges.c.received).desc())
    )
    rows = connection.execute(newest).all()
    return LatestPlan(experiment, rows[0][0], len(rows) == 1) if rows else None


def counts(connection: Connection, plan: LatestPlan) -> dict[str, list[tuple[str, str, int]]]:
    """By arm: (role, "upstream/model", exchanges)."""
    e = exchanges.c
    query = (
        select(e.arm, e.role, e.upstream, e.model, func.count())
        .where(_of(plan))
        .group_by(e.arm, e.role, e.upstream, e.model)
        .order_by(e.arm)
    )
    by_arm: dict[str, list[tuple[str, str, int]]] = {}
    for arm, role, upstream, model, n in connection.execute(query):
        by_arm.setdefault(arm, []).append((role, str(Target(upstream, model)), n))
    return by_arm


def measures(connection: Connection, plan: LatestPlan) -> dict[tuple[str, str], list[StratumSums]]:
    """By arm and measure. Of answers that came whole: one that failed has no latency to compare."""
    e = exchanges.c
    whole = e.outcome == "ok"
    columns = [func.count().label("n"), func.sum(1.0 / e.pi).label("inverse_pi"), *_failure_sums()]
    for name in MEASURES:
        value = case((whole, e[name]))
        columns += [
            func.count(value).label(f"{name}_n"),
            func.sum(value).label(f"{name}_sum"),
            func.sum(value * value * 1.0).label(f"{name}_squares"),
        ]
    place = (e.arm, e.alias, e.upstream, e.model, e.stratum)
    population = _populations(connection) if plan.only else {}
    found: dict[tuple[str, str], list[StratumSums]] = {}
    for row in connection.execute(select(*place, *columns).where(_of(plan)).group_by(*place)).mappings():
        target = f"{row['upstream']}/{row['model']}"
        seen = population.get((row["arm"], row["alias"], target, row["stratum"]), 0)
        for name in ("failure", *MEASURES):
            n = row[f"{name}_n"]
            sums = StratumSums(
                f"{row['alias']} {target} {row['stratum']}", n, float(row[f"{name}_sum"] or 0.0),
                float(row[f"{name}_squares"] or 0.0), row["n"] - n, 0, float(row["inverse_pi"]), seen,
            )  # fmt: skip
            found.setdefault((row["arm"], name), []).append(sums)
    return found


def _failure_sums() -> list[Any]:
    """1 for a call that failed, 0 for one that did not; a client who left says nothing of the target."""
    failed = case((exchanges.c.outcome == "client_gone", None), (exchanges.c.outcome == "ok", 0), else_=1)
    return [
        func.count(failed).label("failure_n"),
        func.sum(failed).label("failure_sum"),
        func.sum(failed * failed).label("failure_squares"),
    ]


def score_sums(connection: Connection, plan: LatestPlan) -> dict[tuple[str, ScorerKey], list[StratumSums]]:
    """By arm and scorer; of each scorer only the version and config that scored last."""
    e, s = exchanges.c, scores.c
    place = (e.arm, e.alias, e.upstream, e.model, e.stratum, s.scorer, s.version, s.config_hash, s.direction)
    columns = [
        *(func.count(case((s.status == status, 1))).label(status) for status in ("scored", "not_applicable")),
        func.count().label("n"),
        func.sum(s.value).label("total"),
        func.sum(s.value * s.value).label("squares"),
        func.sum(1.0 / s.pi).label("inverse_pi"),
        func.max(s.created).label("last"),
    ]
    query = select(*place, *columns).join(scores, s.exchange_id == e.id).where(_of(plan)).group_by(*place)
    rows = connection.execute(query).mappings().all()
    newest: dict[str, tuple[float, str, str]] = {}
    for row in rows:
        at = (row["last"], row["version"], row["config_hash"])
        newest[row["scorer"]] = max(at, newest.get(row["scorer"], at))
    population = _score_populations(connection) if plan.only else {}
    found: dict[tuple[str, ScorerKey], list[StratumSums]] = {}
    for row in rows:
        if newest[row["scorer"]][1:] == (row["version"], row["config_hash"]):
            key = ScorerKey(row["scorer"], row["version"], row["config_hash"], row["direction"])
            found.setdefault((row["arm"], key), []).append(_sums(row, population))
    return found


def _sums(row: Any, population: dict[tuple[str, ...], int]) -> StratumSums:
    target = f"{row['upstream']}/{row['model']}"
    cell = (row["scorer"], row["version"], row["config_hash"], row["arm"], row["alias"], target, row["stratum"])
    silent = row["n"] - row["scored"] - row["not_applicable"]
    return StratumSums(
        f"{row['alias']} {target} {row['stratum']}", row["scored"], float(row["total"] or 0.0),
        float(row["squares"] or 0.0), row["not_applicable"], silent, float(row["inverse_pi"]), population.get(cell, 0),
    )  # fmt: skip


def pairs(connection: Connection, plan: LatestPlan) -> PairTotals:
    served, shadow = exchanges.alias("served"), exchanges.alias("shadow")

    def count(*where: Any) -> int:
        return int(connection.execute(select(func.count()).where(*where)).scalar_one())

    joined = select(shadow.c.id).where(shadow.c.pair == served.c.id).exists()
    origin = select(served.c.id).where(served.c.id == shadow.c.pair).exists()
    these = (served.c.experiment == plan.experiment, served.c.plan == plan.plan, served.c.role == "served")
    those = (shadow.c.experiment == plan.experiment, shadow.c.plan == plan.plan, shadow.c.role == "shadow")
    return PairTotals(count(*those, origin), count(*these, ~joined), count(*those, ~origin))


def _of(plan: LatestPlan) -> Any:
    return and_(exchanges.c.experiment == plan.experiment, exchanges.c.plan == plan.plan)


def _populations(connection: Connection) -> dict[tuple[str, ...], int]:
    """N_h by arm, alias, target and stratum, over all gateway processes."""
    t = tallies.c
    outside = and_(t.ledger == "unsampled", t.reason.in_(OUTSIDE))
    n = func.sum(case((t.ledger == "seen", t.n), (outside, -t.n), else_=0))
    query = select(t.arm, t.alias, t.target, t.stratum, n).group_by(t.arm, t.alias, t.target, t.stratum)
    return {tuple(row[:4]): int(row[4]) for row in connection.execute(query)}


def _score_populations(connection: Connection) -> dict[tuple[str, ...], int]:
    c = score_cells.c
    query = select(c.scorer, c.version, c.config_hash, c.arm, c.alias, c.model, c.stratum, c.population)
    return {tuple(row[:7]): row[7] for row in connection.execute(query)}
