"""Pairs: opened with the served exchange, settled in the order of its position in the stream.

An arm belongs to its pair if its record arrived before the pair's deadline in stream time. So whether it is late or
lost does not depend on when the pair is examined.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from sqlalchemy import Connection, bindparam, func, or_, select, update

from gateway.core.chunked import chunked
from gateway.core.exchange import Exchange
from gateway.core.plan import CONTROL
from gateway.core.plan_evidence import AFTER_VERDICT
from gateway.store.engine import insert
from gateway.store.ledger import position as padded
from gateway.store.rows import ScoredExchange, exchange_of
from gateway.store.run_chunks import WHOLE_EXCHANGE, request_size
from gateway.store.score_sums import add_costs
from gateway.store.tables import exchanges, pair_scores, pairs, predictions, scores

_CHUNK = 500
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class SettledPair:
    """A pair whose arms have all arrived or missed the deadline.

    arms: arm → the id of its exchange; None if its record did not arrive in time.
    """

    id: str
    cluster: str | None
    arms: Mapping[str, str | None]
    position: str = field(default="", compare=False)
    """Position of the served exchange in the stream."""


@dataclass(frozen=True, slots=True)
class ArmRecord:
    """Values of one exchange that the comparison of arms needs."""

    id: str
    status: int
    outcome: str
    total_s: float
    first_token_s: float | None
    output_tokens: int | None
    cost_usd: float | None
    request_bytes: int | None
    likelihood: str | None = None
    predicted: float | None = None
    """Value that a predictor expected; None if there was none."""
    empty: bool | None = None
    """HTTP 200 and nothing in the answer; None if unknown."""
    truncated: bool = False
    """The record's cap cut the request or the answer."""
    caller: str | None = None
    user_digest: str | None = None
    tied: bool | None = None
    """Whether the record is a copy of the served answer."""
    pi: float = 1.0
    segments: str | None = None
    """JSON of the call's CallSegments; None if it has none."""
    prompt_digest: str | None = None


@dataclass(frozen=True, slots=True)
class UnpairedExchange:
    """A served exchange of a plan that could have become a pair and was not drawn."""

    id: str
    position: str
    pi: float


@dataclass(frozen=True, slots=True)
class ArmScore:
    """A score of one arm's answer, alone or next to the served one."""

    exchange_id: str
    scorer: str
    version: str
    config_hash: str
    status: str
    value01: float | None
    """Value on [0, 1] with 1 best; None if the scorer has no bounds."""
    value: float | None
    direction: str


def open_pairs(connection: Connection, new: Iterable[ScoredExchange]) -> None:
    """Opens a pair for each newly stored served exchange that was drawn for a shadow."""
    drawn = [j for j in new if j.exchange.role == "served" and (j.exchange.asked or j.exchange.not_asked)]
    rows = [_opened(j) for j in drawn if j.exchange.plan is not None and j.exchange.experiment is not None]
    if rows:
        connection.execute(insert(connection.dialect, pairs).on_conflict_do_nothing(), rows)


def _opened(judged: ScoredExchange) -> Row:
    e = judged.exchange
    return {
        "id": e.id,
        "experiment": e.experiment,
        "plan": e.plan,
        "position": judged.position,
        "received": e.received,
        "cluster": e.cluster,
        "asked": orjson.dumps(e.asked).decode(),
        "state": "open" if e.asked else "not_asked",
        "reason": None if e.asked else e.not_asked,
        "place": None,
        "arms": None,
    }


def move_earlier(connection: Connection, known: Iterable[ScoredExchange]) -> None:
    """Gives an exchange that is in the stream twice its earlier position, whichever was read first."""
    for j in known:
        if j.exchange.experiment is None:
            continue
        later = or_(exchanges.c.position.is_(None), exchanges.c.position > j.position)
        connection.execute(update(exchanges).where(exchanges.c.id == j.exchange.id, later).values(position=j.position))
        connection.execute(
            update(pairs)
            .where(pairs.c.id == j.exchange.id, pairs.c.place.is_(None), pairs.c.position > j.position)
            .values(position=j.position)
        )


def settled_pairs(connection: Connection, plan: str, watermark: str, deadline_ms: int, most: int) -> list[SettledPair]:
    """The next pairs of a plan, in order, up to the first that must still be waited for.

    watermark: a stream id; everything before it is stored. deadline_ms: in stream time, from the served answer on.
    """
    mark = padded(watermark)
    waiting = (
        select(pairs.c.id, pairs.c.position, pairs.c.cluster, pairs.c.asked)
        .where(pairs.c.plan == plan, pairs.c.state == "open", pairs.c.position < mark)
        .order_by(pairs.c.position, pairs.c.id)
        .limit(most)
    )
    rows = connection.execute(waiting).all()
    came = _arms_of(connection, [row.id for row in rows])
    found: list[SettledPair] = []
    for row in rows:
        limit = _later(row.position, deadline_ms)
        there = {arm: i for arm, i, at in came.get(row.id, ()) if at is not None and at <= limit}
        asked = orjson.loads(row.asked)
        if limit >= mark and not there.keys() >= set(asked):
            break
        found.append(SettledPair(row.id, row.cluster, {arm: there.get(arm) for arm in asked}, row.position))
    return found


def pairs_joined(connection: Connection, plan: str) -> list[SettledPair]:
    """The pairs of a plan that have been compared, in order."""
    query = select(pairs.c.id, pairs.c.cluster, pairs.c.arms, pairs.c.position)
    rows = connection.execute(query.where(pairs.c.plan == plan, pairs.c.state == "joined").order_by(pairs.c.place))
    found = []
    for row in rows:
        arms = {arm: of["exchange"] for arm, of in orjson.loads(row.arms).items()}
        found.append(SettledPair(row.id, row.cluster, arms, row.position))
    return found


def _arms_of(connection: Connection, ids: Sequence[str]) -> dict[str, list[tuple[str, str, str | None]]]:
    """Reads pair → (arm, exchange, position), latest first, so that in a dict an arm's earliest record stays."""
    e = exchanges.c
    query = select(e.pair, e.arm, e.id, e.position).where(e.pair.in_(ids)).order_by(e.position.desc(), e.id.desc())
    found: dict[str, list[tuple[str, str, str | None]]] = {}
    for row in connection.execute(query):
        found.setdefault(row.pair, []).append((row.arm, row.id, row.position))
    return found


def _later(position: str, ms: int) -> str:
    """The last position `ms` milliseconds later."""
    return f"{int(position.partition('-')[0]) + ms:020d}-{'9' * 20}"


def all_open(connection: Connection, ids: Sequence[str]) -> bool:
    """Tells whether no other consumer has settled one of these in the meantime."""
    n = connection.execute(select(func.count()).where(pairs.c.id.in_(ids), pairs.c.state == "open")).scalar_one()
    return bool(n == len(ids))


def next_index(connection: Connection, plan: str) -> int:
    """The index of the plan's next pair; the first is 1."""
    return int(connection.execute(select(func.max(pairs.c.place)).where(pairs.c.plan == plan)).scalar() or 0) + 1


def assign_indexes(connection: Connection, first: int, found: Sequence[tuple[SettledPair, Mapping[str, str]]]) -> None:
    """Gives the pairs their indexes, in order. found: pairs with arm → ok, failed or lost."""
    rows = []
    for place, (pair, states) in enumerate(found, first):
        arms = {arm: {"exchange": pair.arms[arm], "state": state} for arm, state in states.items()}
        state = "lost" if all(state == "lost" for state in states.values()) else "joined"
        rows.append({"pair": pair.id, "place": place, "state": state, "arms": orjson.dumps(arms).decode()})
    if rows:
        connection.execute(update(pairs).where(pairs.c.id == bindparam("pair")), rows)


def unpaired_exchanges(connection: Connection, plan: str, until: str) -> list[UnpairedExchange]:
    """Pairs between the last settled pair of the plan and the position `until`, in order; single requests only."""
    e = exchanges.c
    settled = select(func.max(pairs.c.position)).where(pairs.c.plan == plan, pairs.c.state.in_(("joined", "lost")))
    after = connection.execute(settled).scalar() or ""
    drawn = select(pairs.c.id).where(pairs.c.id == e.id).exists()
    single = (e.role == "served", e.arm == CONTROL, e.cluster.is_(None), e.outcome == "ok", ~drawn)
    query = select(e.id, e.position, e.pi).where(e.plan == plan, e.position > after, e.position < until, *single)
    return [UnpairedExchange(*row) for row in connection.execute(query.order_by(e.position, e.id))]


def unlike_requests(connection: Connection, plan: str, until: str) -> list[str]:
    """Positions, ascending, of requests that were drawn and not asked because of their kind, independent of the
    load."""
    p = pairs.c
    unlike = p.reason.in_(("has_effects", "not_allowed"))
    query = select(p.position).where(p.plan == plan, p.state == "not_asked", p.position < until, unlike)
    return list(connection.execute(query.order_by(p.position)).scalars())


def leave_out(connection: Connection, ids: Sequence[str]) -> None:
    """Settles pairs that came after the verdict of a plan: they are in no mean."""
    late = {"state": "not_asked", "reason": AFTER_VERDICT}
    connection.execute(update(pairs).where(pairs.c.id.in_(ids), pairs.c.state == "open").values(late))


def arm_records(connection: Connection, ids: Sequence[str]) -> list[ArmRecord]:
    """The exchanges that are stored of these ids, in no particular order."""
    e, p = exchanges.c, predictions.c
    predicted = select(func.max(p.predicted)).where(p.exchange_id == e.id).scalar_subquery()
    plain = (e.id, e.status, e.outcome, e.total_s, e.first_token_s, e.output_tokens, e.cost_usd)
    sums = (request_size(), e.likelihood, predicted, e.empty, e.truncated, e.caller, e.user_digest, e.tied)
    own = (e.pi, e.segments, e.prompt_digest)
    query = select(*plain, *sums, *own)
    found = (connection.execute(query.where(e.id.in_(chunk))) for chunk in chunked(ids, _CHUNK))
    return [ArmRecord(*row) for rows in found for row in rows]


def arm_scores(connection: Connection, ids: Sequence[str]) -> list[ArmScore]:
    """The scorers' scores of these exchanges; people's feedback is not among them."""
    s = scores.c
    query = select(s.exchange_id, s.scorer, s.version, s.config_hash, s.status, s.value01, s.value, s.direction).where(
        s.subject == "exchange", s.kind.in_(("code", "model", "llm"))
    )
    found = (connection.execute(query.where(s.exchange_id.in_(chunk))) for chunk in chunked(ids, _CHUNK))
    return [ArmScore(*row) for rows in found for row in rows]


def scores_beside(connection: Connection, pairs_: Sequence[str]) -> list[ArmScore]:
    """The pair scorers' scores of these pairs."""
    p = pair_scores.c
    query = select(p.exchange_id, p.scorer, p.version, p.config_hash, p.status, p.value, p.value, p.direction)
    found = (connection.execute(query.where(p.pair.in_(chunk))) for chunk in chunked(pairs_, _CHUNK))
    return [ArmScore(*row) for rows in found for row in rows]


def add_pair_scores(connection: Connection, rows: Sequence[Row]) -> None:
    """Stores new scores; existing ones stay: a pair is scored once, and paid for once."""
    if not rows:
        return
    c = pair_scores.c.score_id
    known = set(connection.execute(select(c).where(c.in_([row["score_id"] for row in rows]))).scalars())
    new = [row for row in rows if row["score_id"] not in known]
    if new:
        connection.execute(insert(connection.dialect, pair_scores).on_conflict_do_nothing(), new)
        add_costs(connection, ((row["scorer"], row.get("cost_usd"), row.get("tokens")) for row in new))


def stored_exchanges(connection: Connection, ids: Iterable[str]) -> dict[str, Exchange]:
    """The exchanges as they were recorded, by id."""
    found: dict[str, Exchange] = {}
    for chunk in chunked(ids, _CHUNK):
        query = select(*WHOLE_EXCHANGE).where(exchanges.c.id.in_(chunk))
        found.update({row["id"]: exchange_of(row) for row in connection.execute(query).mappings()})
    return found
