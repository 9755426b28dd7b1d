"""Runs: the calls of one task, as clients name them, at most 1 000 calls or 24 hours long.

Clients may use one id for longer than that; its further calls are a run of their own. The row of a run has nothing of
its client but a digest: all facts about a run are in its calls, and are deleted with them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, case, delete, func, or_, select, update

from gateway.core.chunked import chunked
from gateway.core.exchange import CLIENT_ENDED, Exchange, cluster_digest, run_key
from gateway.store.engine import insert
from gateway.store.rows import ScoredExchange
from gateway.store.tables import exchanges, runs

MOST_CALLS = 1_000
LONGEST_S = 86_400.0
_CHUNK = 400


@dataclass(slots=True)
class OpenRun:
    """The newest run with one id of a caller."""

    key: str
    part: int
    """Number of earlier runs with the same id."""
    first_at: float
    """Unix seconds, of its first call's arrival."""
    last_at: float
    """End of the last call."""
    calls: int = 0
    added: int = 0
    """Calls of this batch."""

    @property
    def run_id(self) -> str:
        return f"{self.key}.{self.part}" if self.part else self.key

    def takes(self, call: Exchange) -> bool:
        return self.calls + self.added < MOST_CALLS and call.received - self.first_at < LONGEST_S

    def add(self, call: Exchange) -> None:
        self.added += 1
        self.first_at = min(self.first_at, call.received)
        self.last_at = max(self.last_at, call.received + call.total_s)


def assign(connection: Connection, new: Sequence[ScoredExchange]) -> Mapping[str, str]:
    """Counts new calls in their runs. Returns exchange → its run, for those that name one.

    Calls of one batch are taken in the order of their arrival. Calls of a later batch that arrived earlier belong to
    the newest run too.
    """
    named = [(run_key(e.caller, e.run), e) for j in new if (e := j.exchange).run is not None and e.role == "served"]
    if not named:
        return {}
    named.sort(key=lambda each: each[1].received)
    newest = _newest(connection, {key for key, _ in named})
    grown: dict[str, OpenRun] = {}
    found = {}
    for key, call in named:
        run = newest.get(key)
        if run is None or not run.takes(call):
            part = 0 if run is None else run.part + 1
            run = newest[key] = OpenRun(key, part, call.received, call.received)
        run.add(call)
        grown[run.run_id] = run
        found[call.id] = run.run_id
    _save(connection, grown)
    return found


def _newest(connection: Connection, keys: Iterable[str]) -> dict[str, OpenRun]:
    r, later = runs.c, runs.alias()
    newest = select(func.max(later.c.part)).where(later.c.key == r.key).scalar_subquery()
    query = select(r.key, r.part, r.first_at, r.last_at, r.calls).where(r.part == newest)
    found = {}
    for chunk in chunked(sorted(keys), _CHUNK):
        for row in connection.execute(query.where(r.key.in_(chunk))):
            found[row.key] = OpenRun(*row)
    return found


def _save(connection: Connection, grown: Mapping[str, OpenRun]) -> None:
    r, statement = runs.c, insert(connection.dialect, runs)
    given = statement.excluded
    later = {
        "calls": r.calls + given.calls,
        "first_at": case((given.first_at < r.first_at, given.first_at), else_=r.first_at),
        "last_at": case((given.last_at > r.last_at, given.last_at), else_=r.last_at),
    }
    rows = [
        {"run_id": id, "key": o.key, "part": o.part, "first_at": o.first_at, "last_at": o.last_at, "calls": o.added}
        for id, o in sorted(grown.items())  # one order of locks
    ]
    connection.execute(statement.on_conflict_do_update(index_elements=["run_id"], set_=later), rows)


def place_of(connection: Connection, caller: str, name: str) -> str | None:
    """The call that stands for the newest run of this caller with this id: the first one with an arm of an experiment
    whose client waited, or else the first. None if there is no such run."""
    e, keys = exchanges.c, [run_key(caller, name), run_key(caller, cluster_digest(name))]
    newest = select(runs.c.run_id).where(runs.c.key.in_(keys)).order_by(runs.c.part.desc(), runs.c.run_id).limit(1)
    run_id = connection.execute(newest).scalar()
    last = or_(e.arm.is_(None), e.outcome.in_(CLIENT_ENDED))
    ordered = select(e.id).where(e.run_id == run_id).order_by(last, e.received, e.id)
    found: str | None = connection.execute(ordered.limit(1)).scalar()
    return found


def runs_of(connection: Connection, ids: Sequence[str]) -> set[str]:
    """The runs that these exchanges are calls of. ids: at most a few hundred."""
    query = select(exchanges.c.run_id).where(exchanges.c.id.in_(ids), exchanges.c.run_id.is_not(None))
    return set(connection.execute(query.distinct()).scalars())


def forget_empty(connection: Connection, run_ids: Iterable[str]) -> None:
    """Deletes those of these runs that have no call left."""
    left = select(exchanges.c.id).where(exchanges.c.run_id == runs.c.run_id).exists()
    for chunk in chunked(sorted(run_ids), _CHUNK):
        connection.execute(delete(runs).where(runs.c.run_id.in_(chunk), ~left))


def due(connection: Connection, quiet_before: float, since: float, most: int) -> list[tuple[str, float]]:
    """(run, end of its last call) of runs without a call since `quiet_before` that are not scored as they are now.

    since: runs that ended before are left out. Unix seconds. The run that has waited longest comes first.
    """
    r = runs.c
    unscored = r.scored_to < r.last_at
    query = select(r.run_id, r.last_at).where(unscored, r.last_at < quiet_before, r.last_at >= since)
    return [(row[0], row[1]) for row in connection.execute(query.order_by(r.last_at, r.run_id).limit(most))]


def note_scored(connection: Connection, run_id: str, last_at: float, scored_on: str | None) -> None:
    """Notes that a run is scored with the calls that it had when its last one ended at `last_at`.

    scored_on: the exchange that has its scores; None if it has none."""
    values = {"scored_to": last_at, "scored_on": scored_on}
    connection.execute(update(runs).where(runs.c.run_id == run_id).values(values))


def note_sent(connection: Connection, run_id: str, last_at: float) -> None:
    """Notes that the run, in its state at that time, has nothing to score. Its scores stay."""
    connection.execute(update(runs).where(runs.c.run_id == run_id).values({"scored_to": last_at}))
