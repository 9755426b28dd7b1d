"""Turns of conversations, and the implicit feedback that a later turn is on an earlier answer.

A turn is one exchange, reduced to digests of its caller, its question and its answer. It replies to the answer whose
digest it repeats; two turns that reply to the same answer are attempts at the same question. Turns may be stored in any
order: each new one looks for the answer it replies to, and for the replies that wait for its answer. Consumers add
turns one after the other, from here to the end of their transaction, so that each sees the turns that the previous one
stored.

A user's reaction is kept as feedback `implicit:NAME`, a name that no client can send, and so becomes a score of the
earlier exchange. Digests know no more than the record whose texts they are made of, and are deleted with it, or after a
day, or once the consumers have read what arrived within a day of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from itertools import pairwise
from typing import Any

from sqlalchemy import Connection, RowMapping, and_, bindparam, delete, or_, select, text, update

from gateway.core.chunked import chunked
from gateway.core.exchange import Feedback, only_word_id
from gateway.store import feedback
from gateway.store.engine import insert
from gateway.store.rows import Sign, Turn
from gateway.store.tables import feedback as feedback_table
from gateway.store.tables import scores, turns

PREFIX = "implicit:"
REACTION = f"{PREFIX}reaction"
"""Score of an answer: 1 if the user went on without a sign that it was bad, else 0."""
WINDOW_S = 86_400.0
"""Seconds after an answer in which a message counts as a reaction to it."""
_GOOD: frozenset[Sign] = frozenset({"thanks"})
_CHUNK = 400
_LOCK = text(f"SELECT pg_advisory_xact_lock({0x6774_726E})")  # one transaction at a time adds turns
_SET_PARENT = update(turns).where(turns.c.exchange_id == bindparam("reply")).values(parent=bindparam("answered"))


def add(connection: Connection, new: Sequence[Turn], now: float) -> None:
    """Stores turns, of exchanges that are new, and the feedback that follows from them."""
    if not new:
        return
    if connection.dialect.name == "postgresql":  # a transaction on SQLite is alone in any case
        connection.execute(_LOCK)
    names = turns.columns.keys()
    rows = [dict(zip(names, (*astuple(t)[:7], ",".join(t.signs), t.parent), strict=True)) for t in new]
    connection.execute(insert(connection.dialect, turns).on_conflict_do_nothing(), rows)
    stopped = [_Reaction(t.exchange_id, t.caller, t.received, ("stop",)) for t in new if t.stopped]
    _write(connection, stopped, now)
    _join(connection, _waiting(connection, new), now)
    _attempts(connection, {t.parent for t in new if t.parent is not None}, now)


def sweep(connection: Connection, now: float, behind_s: float = 0.0) -> None:
    """Forgets turns older than a day. Joins replies and answers that two consumers of a version without the lock wrote
    at the same time.

    behind_s: age of the oldest record that is not stored yet: it may be a reply to a turn that is older by a day.
    """
    connection.execute(delete(turns).where(turns.c.received < now - behind_s - WINDOW_S))
    unmet = select(turns).where(turns.c.parent.is_(None), turns.c.reply_to.is_not(None))
    _join(connection, connection.execute(unmet.order_by(turns.c.received.desc()).limit(_CHUNK)).mappings().all(), now)


def forget(connection: Connection, ids: Sequence[str]) -> int:
    """Deletes the turns of these exchanges, and the reactions in their messages to earlier answers. ids: at most a few
    hundred. Returns how many turns there were."""
    parents = select(turns.c.parent).where(turns.c.exchange_id.in_(ids), turns.c.parent.is_not(None))
    reacted = list(connection.execute(parents).scalars())
    attempts = select(turns.c.exchange_id).where(turns.c.parent.in_(reacted))
    reacted += connection.execute(attempts).scalars()
    implicit = feedback_table.c.name.startswith(PREFIX, autoescape=True)
    for chunk in chunked(reacted, _CHUNK):
        connection.execute(delete(feedback_table).where(feedback_table.c.resolved.in_(chunk), implicit))
        scored = scores.c.scorer.startswith(f"feedback:{PREFIX}", autoescape=True)
        connection.execute(delete(scores).where(scores.c.exchange_id.in_(chunk), scored))
    return int(connection.execute(delete(turns).where(turns.c.exchange_id.in_(ids))).rowcount)


@dataclass(frozen=True, slots=True)
class _Reaction:
    exchange_id: str
    """The exchange that the user reacted to."""
    caller: str
    received: float
    """Time of that exchange, and of its feedback, so that the order of reactions does not matter."""
    signs: tuple[Sign, ...]


def _waiting(connection: Connection, new: Sequence[Turn]) -> list[RowMapping]:
    """The new turns that reply to something, and the stored ones that reply to a new turn. Each once."""
    found: dict[str, RowMapping] = {}
    for chunk in chunked(list(new), _CHUNK):
        mine = turns.c.exchange_id.in_([t.exchange_id for t in chunk])
        theirs = turns.c.reply_to.in_([t.answer for t in chunk])
        query = select(turns).where(turns.c.parent.is_(None), turns.c.reply_to.is_not(None), or_(mine, theirs))
        found |= {row["exchange_id"]: row for row in connection.execute(query).mappings()}
    return list(found.values())


def _join(connection: Connection, replies: Sequence[RowMapping], now: float) -> None:
    answered = _answered(connection, {row["reply_to"] for row in replies})
    joined: list[_Reaction] = []
    parents = []
    for reply in replies:
        parent = _parent(reply, answered.get(reply["reply_to"], ()))
        if parent is None:
            continue
        parents.append({"reply": reply["exchange_id"], "answered": parent["exchange_id"]})
        signs: Any = tuple(filter(None, reply["signs"].split(",")))
        joined.append(_Reaction(parent["exchange_id"], parent["caller"], parent["received"], signs))
    if parents:
        connection.execute(_SET_PARENT, parents)
    _write(connection, joined, now)
    _attempts(connection, {each.exchange_id for each in joined}, now)


def _answered(connection: Connection, digests: Iterable[str]) -> dict[str, list[RowMapping]]:
    found: dict[str, list[RowMapping]] = {}
    for chunk in chunked(list(digests), _CHUNK):
        for row in connection.execute(select(turns).where(turns.c.answer.in_(chunk))).mappings():
            found.setdefault(row["answer"], []).append(row)
    return found


def _parent(reply: RowMapping, candidates: Sequence[RowMapping]) -> RowMapping | None:
    """The newest answer before the reply, of the same conversation. Where none is named, several identical answers
    may belong to several users: then there is no parent."""
    before = [
        c
        for c in candidates
        if c["received"] < reply["received"] <= c["received"] + WINDOW_S and c["scope"] == reply["scope"]
    ]
    if not before or (reply["scope"] is None and len(before) > 1):
        return None
    return max(before, key=lambda c: (c["received"], c["exchange_id"]))


def _attempts(connection: Connection, parents: Iterable[str], now: float) -> None:
    """Finds repeated attempts: a user who replies to the same answer again has asked again (the same question) or
    edited (another one)."""
    found: list[_Reaction] = []
    for chunk in chunked(list(parents), _CHUNK):
        query = select(turns).where(turns.c.parent.in_(chunk)).order_by(turns.c.parent, turns.c.received)
        rows = connection.execute(query).mappings().all()
        for first, again in pairwise(rows):
            if first["parent"] == again["parent"] and again["received"] <= first["received"] + WINDOW_S:
                sign: Sign = "repeat" if first["question"] == again["question"] else "edit"
                found.append(_Reaction(first["exchange_id"], first["caller"], first["received"], (sign,)))
    _write(connection, found, now)


def _write(connection: Connection, reactions: Sequence[_Reaction], now: float) -> None:
    """Writes reactions as feedback. The same one again changes nothing; of several to one answer, a bad one counts."""
    given: dict[str, Feedback] = {}
    for word in (word for each in reactions for word in _words(each)):
        known = given.setdefault(word.feedback_id, word)
        if word.value == 0.0 != known.value:
            given[word.feedback_id] = word
    bad = _known_bad(connection, list(given))
    feedback.write_resolved(connection, [w for w in given.values() if w.feedback_id not in bad], now)


def _words(reaction: _Reaction) -> list[Feedback]:
    good = all(sign in _GOOD for sign in reaction.signs)
    values: Mapping[str, float] = {REACTION: float(good)} | {
        f"{PREFIX}{sign}": float(sign in _GOOD) for sign in reaction.signs
    }
    of, caller, at = reaction.exchange_id, reaction.caller, reaction.received
    return [
        Feedback(of, only_word_id(caller, of, name), caller, at, name, value, data_type="boolean")
        for name, value in values.items()
    ]


def _known_bad(connection: Connection, feedback_ids: Sequence[str]) -> set[str]:
    """Exchanges that are stored as a bad reaction already: nothing changes them."""
    found: set[str] = set()
    f = feedback_table.c
    for chunk in chunked(list(feedback_ids), _CHUNK):
        bad = and_(f.feedback_id.in_(chunk), f.value == 0.0)
        found.update(connection.execute(select(f.feedback_id).where(bad)).scalars())
    return found
