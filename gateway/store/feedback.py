"""Feedback of people, which becomes a score once its exchange is stored.

Feedback may arrive before its exchange, which is scored first, or have none: the exchange was not recorded, or belongs
to another caller. Feedback with a value or a label becomes a score with the exchange's own π. Feedback on a run becomes
a score of the call that stands for the run (runs.place_of). Where several consumers write to PostgreSQL, `lock` keeps
transactions with exchanges apart from those with feedback, from the query for the other to the commit: otherwise
neither would see the rows that the other is about to store.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import Connection, RowMapping, and_, bindparam, delete, or_, select, text, update

from gateway.core.chunked import chunked
from gateway.core.exchange import OF_RUN, Feedback, cluster_digest, only_word_id
from gateway.core.plan import FEEDBACK
from gateway.store import runs
from gateway.store.engine import replacing
from gateway.store.rows import ScoredExchange, feedback_row
from gateway.store.tables import exchanges, feedback, scores

_NAMES = [column.name for column in feedback.columns]
_OF_EXCHANGE = [exchanges.c[name] for name in ("id", "experiment", "plan", "arm", "pi", "stratum")]
_CHUNK = 500
_SWEPT = 500
_WAITING = select(feedback.c.feedback_id).where(
    feedback.c.resolved.is_(None), feedback.c.exchange_id.in_(bindparam("ids", expanding=True))
)

_KEY = 0x6774_6662
_ALONE = text(f"SELECT pg_advisory_xact_lock({_KEY})")
_WITH_OTHERS = text(f"SELECT pg_advisory_xact_lock_shared({_KEY})")
_ANY = select(feedback.c.feedback_id).where(feedback.c.resolved.is_(None)).limit(1)


@dataclass(frozen=True, slots=True)
class JoinedFeedback:
    """The outcome of the search for the exchange of one feedback."""

    feedback_id: str
    at: float
    """Time at which it was given, in Unix seconds."""
    exchange: str | None = None
    """The id of the caller's exchange; None if it is not stored."""
    foreign: bool = False
    """The exchange belongs to another caller."""

    def to_json(self) -> str:
        return orjson.dumps({"at": self.at, "exchange": self.exchange, "foreign": self.foreign}).decode()


def lock(connection: Connection, *, writes: bool) -> None:
    """Lets transactions with feedback wait for those with new exchanges, and these for those, to the commit.

    Call it after the exchanges are written, and before `join_waiting` and `write_feedback`. writes: the transaction has
    feedback; those that have exchanges alone do not wait for each other. A transaction on SQLite is alone in any case.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(_ALONE if writes else _WITH_OTHERS)


def write_feedback(connection: Connection, given: Sequence[Feedback], now: float) -> list[JoinedFeedback]:
    """Keeps the newest feedback of each feedback_id; feedback on another caller's exchange is dropped."""
    for each in given:
        connection.execute(_newer_feedback(connection), [dict(zip(_NAMES, feedback_row(each), strict=True))])
    joined = join(connection, {each.feedback_id for each in given}, now)
    return [_met(connection, each, joined.get(each.feedback_id)) for each in given]


def _met(connection: Connection, given: Feedback, exchange: str | None) -> JoinedFeedback:
    if exchange is not None:
        return JoinedFeedback(given.feedback_id, given.at, exchange)
    e = exchanges.c
    named = or_(e.id == given.id, e.upstream_id == given.id)
    if given.id.startswith(OF_RUN):
        name = given.id.removeprefix(OF_RUN)
        named = e.run.in_((name, cluster_digest(name)))
    foreign = connection.execute(select(e.id).where(named, e.role == "served").limit(1)).first() is not None
    if foreign:
        connection.execute(delete(feedback).where(feedback.c.feedback_id == given.feedback_id))
    return JoinedFeedback(given.feedback_id, given.at, None, foreign)


def join_waiting(connection: Connection, new: Sequence[ScoredExchange], now: float) -> None:
    """Joins feedback that arrived before these exchanges, which are stored now."""
    if connection.execute(_ANY).first() is None:  # usually nothing waits, and the query by id is expensive
        return
    served = [j for j in new if j.exchange.role == "served"]
    ids = [i for j in served for i in (j.exchange.id, j.exchange.upstream_id or j.completion.upstream_id) if i]
    ids += {f"{OF_RUN}{j.exchange.run}" for j in served if j.exchange.run is not None}
    waiting: set[str] = set()
    for chunk in chunked(ids, _CHUNK):
        waiting.update(connection.execute(_WAITING, {"ids": chunk}).scalars())
    join(connection, waiting, now)


def sweep(connection: Connection, since: float, now: float) -> None:
    """Joins feedback and exchange that two consumers of a version without `lock` wrote at the same time, each without
    seeing the other's."""
    unmet = select(feedback.c.feedback_id).where(feedback.c.resolved.is_(None), feedback.c.at > since)
    join(connection, set(connection.execute(unmet.order_by(feedback.c.at.desc()).limit(_SWEPT)).scalars()), now)


def join(connection: Connection, feedback_ids: Iterable[str], now: float) -> dict[str, str]:
    """Joins feedback to its exchanges. Returns feedback_id → the exchange's id, for those that have one."""
    met: dict[str, str] = {}
    for feedback_id in sorted(feedback_ids):
        given = connection.execute(select(feedback).where(feedback.c.feedback_id == feedback_id)).mappings().one()
        exchange = _exchange(connection, given)
        if exchange is None:
            continue
        met[feedback_id] = exchange["id"]
        if given["resolved"] not in (None, exchange["id"]):
            _unscore(connection, feedback_id, given["resolved"])
        _score(connection, _resolved(connection, given, exchange["id"]), exchange, now)
    return met


def is_of_run(given: Mapping[str, Any] | RowMapping) -> bool:
    """Whether feedback names a run."""
    return str(given["exchange_id"]).startswith(OF_RUN)


def _resolved(connection: Connection, given: RowMapping, exchange_id: str) -> RowMapping:
    """The feedback, now of this exchange. One that named it by the upstream's id gets the same id as one by the
    gateway's."""
    word = given["feedback_id"]
    if (
        not is_of_run(given)
        and word == only_word_id(given["caller"], given["exchange_id"], given["name"])
        and given["exchange_id"] != exchange_id
    ):
        word = only_word_id(given["caller"], exchange_id, given["name"])
        connection.execute(_newer_feedback(connection), [{**given, "feedback_id": word, "exchange_id": exchange_id}])
        connection.execute(delete(feedback).where(feedback.c.feedback_id == given["feedback_id"]))
    mine = feedback.c.feedback_id == word
    connection.execute(update(feedback).where(mine).values(resolved=exchange_id))
    return connection.execute(select(feedback).where(mine)).mappings().one()


def _exchange(connection: Connection, given: RowMapping) -> RowMapping | None:
    """The served exchange of this caller: by the gateway's id, or by the upstream's, of which the newest counts. Of a
    run, the call that stands for it."""
    e = exchanges.c
    own = and_(e.caller == given["caller"], e.role == "served")
    found = select(*_OF_EXCHANGE).where(own).order_by(e.received.desc()).limit(1)
    if is_of_run(given):
        place = runs.place_of(connection, given["caller"], given["exchange_id"].removeprefix(OF_RUN))
        return None if place is None else connection.execute(found.where(e.id == place)).mappings().first()
    by_id = connection.execute(found.where(e.id == given["exchange_id"])).mappings().first()
    return by_id or connection.execute(found.where(e.upstream_id == given["exchange_id"])).mappings().first()


def _score(connection: Connection, given: RowMapping, exchange: RowMapping, now: float) -> None:
    if given["value"] is None and given["label"] is None:
        _unscore(connection, given["feedback_id"], exchange["id"])
        return
    _save_scores(connection, [_score_values(given, exchange, now)])


def write_resolved(connection: Connection, given: Sequence[Feedback], now: float) -> None:
    """Writes feedback with a value whose id is that of an exchange of its caller, in a few statements. It replaces
    feedback that was given at the same time; feedback that names no such exchange is dropped."""
    e = exchanges.c
    by_id: dict[str, RowMapping] = {}
    for chunk in chunked(list({each.id for each in given}), _CHUNK):
        query = select(*_OF_EXCHANGE, e.caller).where(e.id.in_(chunk), e.role == "served")
        by_id |= {row["id"]: row for row in connection.execute(query).mappings()}
    met = [each for each in given if each.id in by_id and by_id[each.id]["caller"] == each.caller]
    if not met:
        return
    rows = [dict(zip(_NAMES, feedback_row(each), strict=True)) | {"resolved": each.id} for each in met]
    connection.execute(_newer_feedback(connection), rows)
    _save_scores(connection, [_score_values(row, by_id[row["resolved"]], now) for row in rows])


def _newer_feedback(connection: Connection) -> Any:
    names = [name for name in _NAMES if name != "resolved"]
    return replacing(connection.dialect, feedback, names, lambda given: feedback.c.at <= given.at)


def _score_values(given: Mapping[str, Any] | RowMapping, exchange: RowMapping, now: float) -> dict[str, Any]:
    value = given["value"]
    return {
        **{name: exchange[name] for name in ("experiment", "plan", "arm", "pi", "stratum")},
        "score_id": f"{FEEDBACK}{given['feedback_id']}",
        "exchange_id": exchange["id"],
        "subject": "run" if is_of_run(given) else "exchange",
        "scorer": FEEDBACK + given["name"],
        "version": "1",
        "config_hash": "",
        "repeat": 0,
        "kind": "feedback",
        "direction": "maximise",
        "data_type": given["data_type"],
        "status": "not_applicable" if value is None else "scored",
        "value": value,
        "value01": value if value is not None and 0 <= value <= 1 else None,
        "label": given["label"],
        "explanation": given["comment"],
        "seconds": 0.0,
        "answered": given["at"],
        "created": now,
    }


def _save_scores(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    connection.execute(replacing(connection.dialect, scores, rows[0]), rows)


def _unscore(connection: Connection, feedback_id: str, exchange_id: str) -> None:
    mine = (scores.c.exchange_id == exchange_id, scores.c.score_id == f"{FEEDBACK}{feedback_id}")
    connection.execute(delete(scores).where(*mine))
