"""What was served in each arm of a split, and how many units were assigned. Reads only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, case, func, select

from gateway.core.chunked import chunked
from gateway.core.plan import Plan
from gateway.evals.store.tables import exchanges, scores, tallies
from gateway.evals.store.tables_experiments import plans

_CHUNK = 500


@dataclass(frozen=True, slots=True)
class ServedAnswer:
    """One recorded answer of an arm. unit: what keeps its arm. cell: the stratum within which pi is constant; weight:
    calls it stands for. before: what is known of it that the arm cannot have touched: the size of its prompt."""

    id: str
    arm: str
    unit: str
    cell: tuple[str, str, str, str]  # arm, alias, target, stratum
    outcome: str
    status: int
    total_s: float
    first_token_s: float | None
    output_tokens: int | None
    cost_usd: float | None
    pi: float
    prompt_bytes: int


def served(connection: Connection, plan: str, arms: Sequence[str]) -> list[ServedAnswer]:
    """Of the arms, in order of arrival; without those whose client left, which say nothing of the target."""
    e = exchanges.c
    query = select(
        e.id, e.arm, e.cluster, e.alias, e.upstream, e.model, e.stratum, e.outcome, e.status, e.total_s,
        e.first_token_s, e.output_tokens, e.cost_usd, e.pi, func.length(e.request),
    ).where(e.plan == plan, e.role == "served", e.arm.in_(arms), e.outcome != "client_gone")  # fmt: skip
    return [
        ServedAnswer(
            row[0], row[1], row[2] or row[0], (row[1], row[3], f"{row[4]}/{row[5]}", row[6]), row[7], row[8], row[9],
            row[10], row[11], row[12], row[13], int(row[14] or 0),
        )
        for row in connection.execute(query.order_by(e.received, e.id))
    ]  # fmt: skip


def scored(connection: Connection, ids: Sequence[str]) -> dict[str, dict[str, tuple[str, float | None, str]]]:
    """scorer → exchange → (status, value on [0, 1], identity)."""
    s = scores.c
    found: dict[str, dict[str, tuple[str, float | None, str]]] = {}
    for chunk in chunked(ids, _CHUNK):
        query = select(s.scorer, s.exchange_id, s.status, s.value01, s.version, s.config_hash).where(
            s.exchange_id.in_(chunk),
            s.subject == "exchange",
            s.direction != "neutral",
            s.kind.in_(("code", "model", "llm")),
        )
        for row in connection.execute(query.order_by(s.created)):
            found.setdefault(row[0], {})[row[1]] = (row[2], row[3], f"{row[4]} {row[5]}")
    return found


def before(connection: Connection, since: float, clusters: Sequence[str]) -> dict[str, tuple[float, float]]:
    """unit → its mean duration and its share of failures before `since`, where it was seen then."""
    e = exchanges.c
    found: dict[str, tuple[float, float]] = {}
    for chunk in chunked(clusters, _CHUNK):
        whole = func.avg(case((e.outcome == "ok", 1.0), else_=0.0))
        query = (
            select(e.cluster, func.avg(e.total_s), whole)
            .where(e.cluster.in_(chunk), e.received < since, e.role == "served")
            .group_by(e.cluster)
        )
        for row in connection.execute(query):
            found[row[0]] = (float(row[1]), 1.0 - float(row[2]))
    return found


def populations(connection: Connection) -> dict[tuple[str, str, str, str], int]:
    """N_h by arm, alias, target and stratum, over all gateway processes."""
    t = tallies.c
    query = select(t.arm, t.alias, t.target, t.stratum, func.sum(t.n)).where(t.ledger == "seen")
    grouped = query.group_by(t.arm, t.alias, t.target, t.stratum)
    return {(row[0], row[1], row[2], row[3]): int(row[4]) for row in connection.execute(grouped)}


def only_plan(connection: Connection, plan: Plan) -> bool:
    """Whether the Tallies of this model speak of this plan alone."""
    names = select(func.count()).select_from(plans).where(plans.c.experiment == plan.name)
    return int(connection.execute(names).scalar_one()) <= 1


def assigned(connection: Connection, key: str, plan: Plan) -> Mapping[str, int]:
    """arm → units. Single requests: from the Tallies, so before any loss. Other units: those with a recorded call that
    every rule would have recorded, since a rule that looks at the answer may prefer an arm."""
    if plan.unit == "request" and only_plan(connection, plan):
        counts: dict[str, int] = {}
        for (arm, alias, _, stratum), n in populations(connection).items():
            if alias == plan.model and arm in plan.arms and not stratum.startswith("shadow:"):
                counts[arm] = counts.get(arm, 0) + n
        return counts
    e = exchanges.c
    ours = (e.plan == key, e.role == "served")
    floor = connection.execute(select(func.min(e.pi)).where(*ours)).scalar()
    query = select(e.arm, func.count(func.coalesce(e.cluster, e.id).distinct())).where(*ours, e.u < (floor or 0.0))
    return {row[0]: int(row[1]) for row in connection.execute(query.group_by(e.arm)) if row[0] is not None}
