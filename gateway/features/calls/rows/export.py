"""Reads recorded exchanges batch by batch and with every column, for exports of any length, and which answer is better.

Each batch is a transaction of its own, so a long export blocks no writer. ExportSource reads in order of arrival and
leaves out what arrives after its start; FollowSource reads in the order in which the store got them, and never ends.
Preferences between two answers to a request come from corrections, labels, pairwise verdicts and scores, page by page.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, Engine, Integer, and_, func, literal_column, or_, select, text, tuple_
from sqlalchemy.exc import DBAPIError

from gateway.store import engine
from gateway.store.predictions import predictions_of
from gateway.store.query import ExchangeFilter, Found, conditions, rows_of, scores_of
from gateway.store.run_chunks import WHOLE_EXCHANGE
from gateway.store.tables import exchanges, feedback, labels, pair_scores, score_cells, scores

CORRECTION, LABEL, JUDGES = "correction", "label", "judges"
DEFAULT = (CORRECTION, LABEL, JUDGES)


@dataclass(frozen=True, slots=True)
class PreferenceRule:
    """The rule that decides between answers. by: in order: correction, label, judges (every pairwise judge), or the
    names of scorers."""

    by: tuple[str, ...] = DEFAULT
    gap: float = 0.0
    """The smallest difference of the two answers' values; 0: any. A pairwise verdict v gives them 1 - v and v."""


@dataclass(frozen=True, slots=True)
class Preference:
    """A preference between two answers to a request, with the values that decided; None for a correction."""

    served: Found
    chosen: str
    rejected: str
    by: str
    chosen_value: float | None = None
    rejected_value: float | None = None


@dataclass(frozen=True, slots=True)
class _Arms:
    """A page of served exchanges, with their arms and the scores, labels and feedback of each."""

    served: Sequence[Found]
    arms: dict[str, list[Found]] = field(default_factory=dict)  # by served exchange
    values: dict[str, dict[tuple[str, ...], float]] = field(default_factory=dict)  # by exchange and scorer's identity
    verdicts: dict[str, list[tuple[str, float]]] = field(default_factory=dict)  # by arm: pairwise scorer, value
    pair_labels: dict[str, list[float]] = field(default_factory=dict)  # by arm
    own_labels: dict[str, list[float]] = field(default_factory=dict)  # by exchange


def preferences(connection: Connection, served: Sequence[Found], rule: PreferenceRule) -> Iterator[Preference]:
    """Yields at most one preference for each arm of these exchanges, and one for a correction. served: as ExportSource
    gives them."""
    page = _read(connection, [each for each in served if each["role"] == "served"])
    for each in page.served:
        if CORRECTION in rule.by and each["correction"]:
            yield Preference(each, each["correction"], each["text"], CORRECTION)
        for arm in page.arms.get(each["id"], ()):
            found = next((p for by in rule.by for p in _by(by, page, each, arm, rule.gap)), None)
            if found is not None:
                yield found


def _by(by: str, page: _Arms, served: Found, arm: Found, gap: float) -> Iterator[Preference]:
    if by == CORRECTION:
        return
    if by == LABEL:
        for value in page.pair_labels.get(arm["id"], ()):
            yield from _preferred(served, arm, 1 - value, value, LABEL, gap)
        ours, theirs = (page.own_labels.get(each["id"]) for each in (served, arm))
        if ours and theirs:
            yield from _preferred(served, arm, sum(ours) / len(ours), sum(theirs) / len(theirs), LABEL, gap)
        return
    for scorer, value in page.verdicts.get(arm["id"], ()):
        if by in (JUDGES, scorer):
            yield from _preferred(served, arm, 1 - value, value, scorer, gap)
    ours_, theirs_ = (page.values.get(each["id"], {}) for each in (served, arm))
    for identity in sorted(ours_.keys() & theirs_.keys()):
        if identity[0] == by:
            yield from _preferred(served, arm, ours_[identity], theirs_[identity], by, gap)


def _preferred(served: Found, arm: Found, ours: float, theirs: float, by: str, gap: float) -> Iterator[Preference]:
    """Yields the preference for the answer with the higher value; nothing for a tie."""
    if theirs > ours and theirs - ours >= gap:
        yield Preference(served, arm["text"], served["text"], by, theirs, ours)
    elif ours > theirs and ours - theirs >= gap:
        yield Preference(served, served["text"], arm["text"], by, ours, theirs)


def _read(connection: Connection, served: Sequence[Found]) -> _Arms:
    page, ids = _Arms(served), [each["id"] for each in served]
    e, p, x = exchanges.c, pair_scores.c, labels.c
    query = select(e.id, e.pair, e.text, e.tool_calls, e.outcome, e.status).where(e.pair.in_(ids)).order_by(e.id)
    for row in connection.execute(query).mappings():
        if row["outcome"] == "ok" and row["status"] < 400 and row["tool_calls"] == "[]":
            page.arms.setdefault(row["pair"], []).append(dict(row))
    arms = [arm["id"] for each in page.arms.values() for arm in each]
    for exchange_id, found in scores_of(connection, [*ids, *arms]).items():
        for score in found:
            if (value := _turned(score)) is not None:
                identity = (score["scorer"], score["version"], score["config_hash"])
                page.values.setdefault(exchange_id, {})[identity] = value
    judged = select(p.exchange_id, p.scorer, p.value).where(p.exchange_id.in_(arms), p.value.is_not(None))
    for arm, scorer, value in connection.execute(judged.where(p.direction == "maximise").order_by(p.scorer)):
        page.verdicts.setdefault(arm, []).append((scorer, value))
    given = select(x.subject, x.subject_id, x.value).where(x.subject_id.in_([*ids, *arms]), x.value.is_not(None))
    for subject, subject_id, value in connection.execute(given.order_by(x.at)):
        by = page.pair_labels if subject == "pair" else page.own_labels
        by.setdefault(subject_id, []).append(value)
    return page


def _turned(score: Found) -> float | None:
    """The value so that more is better; None for a score without a direction."""
    if score["value01"] is not None:
        return float(score["value01"]) if score["direction"] != "neutral" else None
    if score["value"] is None or score["direction"] == "neutral":
        return None
    return float(score["value"]) * (-1.0 if score["direction"] == "minimise" else 1.0)


T = TypeVar("T")
Place = tuple[float, str]  # received, id


def _page(sized: Iterable[tuple[T, int]], most_bytes: int) -> list[T]:
    """The first of these that together have at most that number of bytes, and at least one."""
    found: list[T] = []
    total = 0
    for each, size in sized:
        total += size
        if found and total > most_bytes:
            break
        found.append(each)
    return found


class ExportSource:
    """The exchanges that match a filter, whose limit is ignored.

    until: Unix seconds. most, most_bytes: of one batch. Raises StoreUnavailable, QueryError.
    """

    def __init__(
        self, url: str, filter: ExchangeFilter, until: float, most: int = 500, most_bytes: int = 8_000_000
    ) -> None:
        self._most, self._most_bytes = most, most_bytes
        self._engine: Engine = engine.reader(url)
        try:
            with self._engine.connect() as connection:
                e = exchanges.c
                self._where = [*conditions(connection, filter), e.received <= until]
                query = select(func.count()).select_from(exchanges).where(*self._where)
                self.count = int(connection.execute(query).scalar_one())
                self.scorers = _scorers(connection, self._where)
                self.comparing = list(connection.execute(select(pair_scores.c.scorer).distinct()).scalars())
                """Scorers of pairs in the store."""
        except BaseException:
            self._engine.dispose()
            raise

    def close(self) -> None:
        self._engine.dispose()

    def batches(self) -> Iterator[list[Found]]:
        """Yields exchanges with `scores`, `predictions`, the caller's `feedback` and newest `correction` or None."""
        after: Place | None = None
        while True:
            with self._engine.connect() as connection:
                places = self._next(connection, after)
                if not places:
                    return
                found = _whole(connection, [place[1] for place in places])
            after = places[-1]
            yield found

    def preferences(self, found: Sequence[Found], rule: PreferenceRule) -> list[Preference]:
        """Preferences between a batch's answers and those of other arms."""
        with self._engine.connect() as connection:
            return list(preferences(connection, found, rule))

    def _next(self, connection: Connection, after: Place | None) -> list[Place]:
        e = exchanges.c
        query = select(e.received, e.id, _SIZE).where(*self._where).order_by(e.received, e.id).limit(self._most)
        if after is not None:
            query = query.where(or_(e.received > after[0], and_(e.received == after[0], e.id > after[1])))
        rows = connection.execute(query)
        return _page([((received, id), size) for received, id, size in rows], self._most_bytes)


@dataclass(frozen=True, slots=True)
class FollowPlace:
    """The last exchange read from the store. row: SQLite's rowid; 0 in PostgreSQL."""

    stored: float
    id: str
    row: int = 0


class FollowSource:
    """The exchanges that match a filter, each once, in the order in which they were stored.

    PostgreSQL shows transactions in the order of their commits, which is not that of the times in their rows. A batch
    therefore ends before the oldest transaction that is still writing, and settle_s before the present: consumers'
    clocks may differ by that much. SQLite has one writer at a time, whose rows get ascending numbers.

    most, most_bytes: of one batch. Every method raises StoreUnavailable; the constructor also QueryError.
    """

    def __init__(
        self,
        url: str,
        filter: ExchangeFilter,
        settle_s: float,
        clock: Callable[[], float] = time.time,
        most: int = 500,
        most_bytes: int = 8_000_000,
    ) -> None:
        self._settle_s, self._clock = settle_s, clock
        self._most, self._most_bytes = most, most_bytes
        self._engine: Engine = engine.reader(url)
        self._scanned = FollowPlace(0.0, "")
        try:
            with self._connect() as connection:
                self._where = conditions(connection, filter)
        except BaseException:
            self._engine.dispose()
            raise

    def close(self) -> None:
        self._engine.dispose()

    @contextmanager
    def _connect(self) -> Iterator[Connection]:
        try:
            with self._engine.connect() as connection:
                yield connection
        except DBAPIError as error:
            raise engine.StoreUnavailable(f"store: {type(error.orig).__name__}: {error.orig}") from error

    def scorers(self) -> list[str]:
        """Every scorer that has scored something."""
        with self._connect() as connection:
            return sorted(connection.execute(select(score_cells.c.scorer).distinct()).scalars())

    def next(self, after: FollowPlace | None) -> tuple[list[Found], FollowPlace | None]:
        """The batch after a place, as ExportSource.batches() gives it, and its last place; ([], the same): none yet."""
        with self._connect() as connection:
            places, searched = self._places(connection, after)
            if not places:
                self._scanned = max(searched, self._scanned, key=_order)
                return [], after
            found = {each["id"]: each for each in _whole(connection, [place.id for place in places])}
        return [found[place.id] for place in places if place.id in found], places[-1]

    def feedback(self, since: float) -> list[Found]:
        """Feedback whose exchange is known, given since then, with its exchange's id as `resolved`."""
        f = feedback.c
        query = select(feedback).where(f.at >= since, f.resolved.is_not(None)).order_by(f.at, f.feedback_id)
        with self._connect() as connection:
            return rows_of(connection, query)

    def _places(self, connection: Connection, after: FollowPlace | None) -> tuple[list[FollowPlace], FollowPlace]:
        """The next places, and the last place examined: rows that do not match the filter are examined once."""
        e, row = exchanges.c, _ROW
        lite = connection.dialect.name == "sqlite"
        begin = max(after or FollowPlace(0.0, ""), self._scanned, key=_order)
        if lite:
            top = connection.execute(select(e.stored, e.id, row).order_by(row.desc()).limit(1)).first()
            searched, reach = begin if top is None else FollowPlace(*top), _beyond(connection, begin)
            order: tuple[ColumnElement[Any], ...] = (row,)
        else:
            until = self._settled(connection)
            searched, order = FollowPlace(until, _LAST), (e.stored, e.id)
            reach = and_(e.stored <= until, tuple_(e.stored, e.id) > (begin.stored, begin.id))
        numbers = row if lite else literal_column("0")
        query = select(e.stored, e.id, numbers, _SIZE).where(*self._where, reach).order_by(*order).limit(self._most)
        rows = connection.execute(query)
        return _page([(FollowPlace(*place), size) for *place, size in rows], self._most_bytes), searched

    def _settled(self, connection: Connection) -> float:
        """A time before which nothing will be stored any more, in PostgreSQL."""
        now = self._clock()  # first: what the question takes must not move the time forward
        oldest = connection.execute(_OLDEST_WRITER).scalar()
        return now - float(oldest or 0.0) - self._settle_s


_SIZE = exchanges.c.bytes + func.coalesce(exchanges.c.request_bytes, 0)
"""Bytes of an exchange with its whole request."""
_ROW: ColumnElement[int] = literal_column("exchanges.rowid", Integer)
_LAST = "\U0010ffff"  # after every id
_OVERLAP = 10_000  # SQLite's rows that are looked at again after the last row was deleted
# xid: only transactions that write. Those of other roles are not shown to everybody; a consumer of another role than
# the reader's is covered by settle_s alone.
_OLDEST_WRITER = text(
    "SELECT extract(epoch FROM clock_timestamp() - min(xact_start)) FROM pg_stat_activity "
    "WHERE datname = current_database() AND backend_type = 'client backend' AND backend_xid IS NOT NULL"
)


def _order(place: FollowPlace) -> tuple[float, int, str]:
    return place.stored, place.row, place.id


def _beyond(connection: Connection, begin: FollowPlace) -> ColumnElement[bool]:
    """SQLite's rows after a place. A deletion of the last row frees its number for the next one: then rows that were
    stored later count too."""
    e, row = exchanges.c, _ROW
    there = connection.execute(select(e.id).where(row == begin.row)).scalar()
    if begin.row == 0 or there == begin.id:
        return row > begin.row
    return or_(row > begin.row, and_(row > begin.row - _OVERLAP, e.stored > begin.stored))


def _scorers(connection: Connection, where: Sequence[ColumnElement[bool]]) -> list[str]:
    of_these = select(scores.c.scorer).join(exchanges, exchanges.c.id == scores.c.exchange_id).where(*where)
    return sorted(connection.execute(of_these.distinct()).scalars())


def _whole(connection: Connection, ids: Sequence[str]) -> list[Found]:
    e, f = exchanges.c, feedback.c
    query = select(*WHOLE_EXCHANGE).where(e.id.in_(ids)).order_by(e.received, e.id)
    found = rows_of(connection, query)
    scored = scores_of(connection, ids)
    given: dict[str, list[Found]] = {}
    for row in rows_of(connection, select(feedback).where(f.resolved.in_(ids)).order_by(f.at)):
        given.setdefault(row["resolved"], []).append(row)
    predicted = predictions_of(connection, ids)
    for row in found:
        id = row["id"]
        row |= {"scores": scored.get(id, []), "predictions": predicted.get(id, []), **_feedback(given.get(id, []))}
    return found


def _feedback(given: list[Found]) -> Found:
    corrections = [each["correction"] for each in given if each["correction"] is not None]
    return {"feedback": given, "correction": corrections[-1] if corrections else None}
