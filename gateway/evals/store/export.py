"""Recorded exchanges in order of arrival, batch by batch and with every column: for exports of any length.

Each batch is a transaction of its own, so a long export blocks no writer; exchanges that arrive after its start are
left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqlalchemy import ColumnElement, Connection, Engine, and_, func, or_, select

from gateway.evals.store import engine
from gateway.evals.store.preferences import Preference, PreferenceRule, preferences
from gateway.evals.store.query import ExchangeFilter, Found, conditions, scores_of
from gateway.evals.store.tables import exchanges, feedback, pair_scores, scores

Place = tuple[float, str]  # received, id


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
        """Each exchange with its `scores`, its caller's `feedback`, and the newest `correction` of it, or None."""
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
        """What is known of a batch's answers against those of other arms."""
        with self._engine.connect() as connection:
            return list(preferences(connection, found, rule))

    def _next(self, connection: Connection, after: Place | None) -> list[Place]:
        e = exchanges.c
        query = select(e.received, e.id, e.bytes).where(*self._where).order_by(e.received, e.id).limit(self._most)
        if after is not None:
            query = query.where(or_(e.received > after[0], and_(e.received == after[0], e.id > after[1])))
        places: list[Place] = []
        size = 0
        for received, exchange_id, each in connection.execute(query):
            size += each
            if places and size > self._most_bytes:
                break
            places.append((received, exchange_id))
        return places


def _scorers(connection: Connection, where: Sequence[ColumnElement[bool]]) -> list[str]:
    of_these = select(scores.c.scorer).join(exchanges, exchanges.c.id == scores.c.exchange_id).where(*where)
    return sorted(connection.execute(of_these.distinct()).scalars())


def _whole(connection: Connection, ids: Sequence[str]) -> list[Found]:
    e, f = exchanges.c, feedback.c
    query = select(exchanges).where(e.id.in_(ids)).order_by(e.received, e.id)
    found = [{str(name): value for name, value in row.items()} for row in connection.execute(query).mappings()]
    scored = scores_of(connection, ids)
    given: dict[str, list[Found]] = {}
    for row in connection.execute(select(feedback).where(f.resolved.in_(ids)).order_by(f.at)).mappings():
        given.setdefault(row["resolved"], []).append({str(name): value for name, value in row.items()})
    return [{**x, "scores": scored.get(x["id"], []), **_feedback(given.get(x["id"], []))} for x in found]


def _feedback(given: list[Found]) -> Found:
    corrections = [each["correction"] for each in given if each["correction"] is not None]
    return {"feedback": given, "correction": corrections[-1] if corrections else None}
