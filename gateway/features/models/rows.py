"""SQL of models: the origins of answers by hour, the calls of sessions, since when a target is used, rounds of probes,
and watches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import orjson
from sqlalchemy import ColumnElement, Connection, delete, func, or_, select

from gateway.features.models.origins import OriginKind, Series, ValueCounts
from gateway.features.models.probes.model import ProbeRound, round_from_json
from gateway.features.models.watch.cells import TrafficCell
from gateway.features.models.watch.hourly_calls import HourOfTarget, TargetKey, WatchedCall
from gateway.features.models.watch.series import score_series
from gateway.store.engine import insert
from gateway.store.query import Reading
from gateway.store.run_chunks import whole_request
from gateway.store.tables import exchanges, model_hours, model_watches, probe_rounds, scores, usage, watch_hours

HOUR_S = 3600
MOST_WATCHED = 2_000
"""Calls of a target and hour that its watch reads: more would hardly make the hour's mean more exact."""
OPENING = 800
"""Characters of an answer that tell whether it is a refusal."""
MOST_SESSION_CALLS = 50_000
KEPT_PROBES_S = 400 * 86_400.0
_KINDS: tuple[OriginKind, ...] = ("model", "fingerprint")


def hour_counts(connection: Reading, hour: int) -> dict[Series, ValueCounts]:
    """Counts the served answers that arrived within an hour."""
    e = exchanges.c
    cell = (e.alias, e.upstream, e.model, e.model_returned, e.fingerprint)
    query = select(*cell, func.count(), func.sum(1.0 / e.pi)).where(e.role == "served", e.outcome == "ok")
    query = query.where(e.received >= hour * HOUR_S, e.received < (hour + 1) * HOUR_S, e.pi > 0).group_by(*cell)
    counts: dict[Series, ValueCounts] = {}
    for alias, upstream, model, returned, fingerprint, calls, weight in connection.execute(query):
        for kind, value in zip(_KINDS, (returned, fingerprint), strict=True):
            series = Series(alias, upstream, model, kind)
            counts.setdefault(series, ValueCounts()).add(value, calls, float(weight))
    return {series: of_series.bounded() for series, of_series in counts.items()}


def store_counts(connection: Connection, hour: int, counts: Mapping[Series, ValueCounts], oldest: int) -> None:
    """Stores an hour, unless it is stored already, and deletes those before `oldest`."""
    rows = [[*series, of_series.weight, of_series.values] for series, of_series in sorted(counts.items())]
    statement = insert(connection.dialect, model_hours).values(hour=hour, counts=orjson.dumps(rows).decode())
    connection.execute(statement.on_conflict_do_nothing())
    connection.execute(delete(model_hours).where(model_hours.c.hour < oldest))


def stored_counts(connection: Reading, since: int) -> dict[int, dict[Series, ValueCounts]]:
    query = select(model_hours.c.hour, model_hours.c.counts).where(model_hours.c.hour >= since)
    return {int(hour): _counts(text) for hour, text in connection.execute(query)}


def _counts(text: str) -> dict[Series, ValueCounts]:
    rows = orjson.loads(text)
    return {
        Series(*names): ValueCounts(weight, {value: (n, w) for value, (n, w) in values.items()})
        for *names, weight, values in rows
    }


def counted_hours(connection: Reading, since: int, until: int) -> int:
    """The number of stored hours from one to another, which is not included."""
    hour = model_hours.c.hour
    return int(connection.execute(select(func.count()).where(hour >= since, hour < until)).scalar() or 0)


def newest_stored_hour(connection: Reading) -> int | None:
    return connection.execute(select(func.max(model_hours.c.hour))).scalar()


def received_bounds(connection: Reading) -> tuple[float, float] | None:
    """The arrivals of the oldest and the newest stored call, in Unix seconds."""
    oldest, newest = (connection.execute(select(of(exchanges.c.received))).scalar() for of in (func.min, func.max))
    return None if oldest is None or newest is None else (oldest, newest)


def first_days(connection: Reading) -> dict[tuple[str, str, str], str]:
    """The first day with usage of clients, by alias, upstream and model."""
    u = usage.c
    cell = (u.alias, u.upstream, u.model)
    query = select(*cell, func.min(u.day)).where(u.experiment == "", u.scorer == "").group_by(*cell)
    return {(alias, upstream, model): day for alias, upstream, model, day in connection.execute(query)}


@dataclass(frozen=True, slots=True)
class SessionCall:
    """A served call of a run or a conversation."""

    session: str
    alias: str
    upstream: str
    model: str
    received: float
    input_tokens: int
    cached_tokens: int
    weight: float
    """1/π."""
    is_run: bool = False
    """Whether `session` is the id of a run; False: of a conversation or a user."""


def session_calls(connection: Reading, since: float) -> list[SessionCall]:
    """The newest calls of sessions since a time, whose usage is known; in order within each session."""
    e = exchanges.c
    session = func.coalesce(e.run_id, e.cluster)
    columns = (
        session,
        e.alias,
        e.upstream,
        e.model,
        e.received,
        e.input_tokens,
        e.cached_input_tokens,
        1.0 / e.pi,
        e.run_id,
    )
    query = select(*columns).where(e.received >= since, e.role == "served", session.is_not(None), e.pi > 0)
    query = query.where(e.input_tokens.is_not(None)).order_by(e.received.desc()).limit(MOST_SESSION_CALLS)
    calls = [
        SessionCall(session, alias, upstream, model, received, tokens, cached or 0, weight, run_id is not None)
        for session, alias, upstream, model, received, tokens, cached, weight, run_id in connection.execute(query)
    ]
    return sorted(calls, key=lambda call: (call.session, call.received))


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """A request as it went to the upstream, where all content is recorded."""

    alias: str
    caller: str
    session: str | None
    body: bytes


def newest_requests(connection: Reading, since: float, alias: str, most: int) -> Iterator[RecordedRequest]:
    """The newest served requests of an alias, oldest first."""
    e = exchanges.c
    columns = (e.alias, e.caller, func.coalesce(e.run_id, e.cluster), whole_request())
    query = select(*columns).where(e.received >= since, e.role == "served", e.alias == alias, e.bytes > 0)
    rows = connection.execute(query.order_by(e.received.desc()).limit(most)).all()
    return (RecordedRequest(name, caller, session, bytes(body)) for name, caller, session, body in reversed(rows))


def store_probe_round(connection: Connection, of: ProbeRound) -> None:
    """Stores a round, and deletes old ones."""
    row = {"target": of.target, "asked": of.asked, "result": of.result, "usd": of.usd, "round": of.to_json()}
    connection.execute(insert(connection.dialect, probe_rounds).values(row).on_conflict_do_nothing())
    connection.execute(delete(probe_rounds).where(probe_rounds.c.asked < of.asked - KEPT_PROBES_S))


def probe_rounds_of(connection: Reading, target: str) -> list[ProbeRound]:
    """The rounds of a target, oldest first; without gaps."""
    r = probe_rounds.c
    query = select(r.round).where(r.target == target, r.result != "gap").order_by(r.asked)
    return [round_from_json(text) for text in connection.execute(query).scalars()]


def newest_probe_rounds(connection: Reading) -> dict[str, ProbeRound]:
    """The newest round of each target, which may be a gap."""
    r = probe_rounds.c
    newest = select(r.target, func.max(r.asked).label("asked")).group_by(r.target).subquery()
    query = select(r.round).join(newest, (r.target == newest.c.target) & (r.asked == newest.c.asked))
    rounds = [round_from_json(text) for text in connection.execute(query).scalars()]
    return {of.target: of for of in sorted(rounds, key=lambda of: of.target)}


def spent_on_probes(connection: Reading, since: float) -> float:
    """Dollars of all rounds since a time."""
    total = select(func.sum(probe_rounds.c.usd)).where(probe_rounds.c.asked >= since)
    return float(connection.execute(total).scalar() or 0.0)


def watched_calls(connection: Reading, hour: int) -> Iterator[WatchedCall]:
    """The served calls that arrived within an hour, with their scores: of each target about MOST_WATCHED at most, drawn
    with equal probability."""
    e = exchanges.c
    shares = _watched_shares(connection, hour)
    drawn = [
        or_(e.alias != target.alias, e.upstream != target.upstream, e.model != target.model, e.u < share * e.pi)
        for target, share in shares.items()
    ]
    by_id = _hour_scores(connection, hour, drawn)
    text = (func.substr(e.text, 1, OPENING), func.length(e.text), e.refusal != "", e.tool_calls)
    tokens = (e.input_tokens, e.cached_input_tokens, e.output_tokens)
    unit = func.coalesce(e.user_digest, e.run_id, e.cluster, e.id)
    names = (e.alias, e.upstream, e.model, e.caller, e.user_digest, unit, e.api, e.run_id.is_not(None))
    figures = (e.outcome, e.finish_reason, *text, e.first_token_s, e.mean_logprob, 1.0 / e.pi)
    query = select(e.id, *names, *tokens, *figures).where(e.role == "served", e.pi > 0)
    query = query.where(e.received >= hour * HOUR_S, e.received < (hour + 1) * HOUR_S, *drawn)
    for id, alias, upstream, model, *columns in connection.execute(query):
        target = TargetKey(alias, upstream, model)
        share = shares.get(target, 1.0)
        call = WatchedCall(target, *columns)
        call.weight /= share
        call.scores = {name: (value, weight / share) for name, (value, weight) in by_id.get(id, {}).items()}
        yield call


def _watched_shares(connection: Reading, hour: int) -> dict[TargetKey, float]:
    """The share of the calls of an hour that are watched, of targets of which not all are."""
    e = exchanges.c
    cell = (e.alias, e.upstream, e.model)
    query = select(*cell, func.count()).where(e.role == "served", e.pi > 0).group_by(*cell)
    query = query.where(e.received >= hour * HOUR_S, e.received < (hour + 1) * HOUR_S)
    counts = {TargetKey(*names): count for *names, count in connection.execute(query)}
    return {target: MOST_WATCHED / count for target, count in counts.items() if count > MOST_WATCHED}


def _hour_scores(
    connection: Reading, hour: int, drawn: Sequence[ColumnElement[bool]]
) -> dict[str, dict[str, tuple[float, float]]]:
    e, s = exchanges.c, scores.c
    columns = (s.exchange_id, s.scorer, s.version, s.config_hash, s.value01, 1.0 / s.pi)
    query = select(*columns).join(exchanges, s.exchange_id == e.id)
    query = query.where(s.repeat == 0, s.subject == "exchange", s.value01.is_not(None), s.pi > 0, e.role == "served")
    query = query.where(e.received >= hour * HOUR_S, e.received < (hour + 1) * HOUR_S, *drawn)
    found: dict[str, dict[str, tuple[float, float]]] = {}
    for id, scorer, version, config_hash, value, weight in connection.execute(query):
        found.setdefault(id, {})[score_series(scorer, version, config_hash)] = value, weight
    return found


def newest_watched_hour(connection: Reading) -> int | None:
    return connection.execute(select(func.max(model_watches.c.hour))).scalar()


def stored_watches(connection: Reading) -> dict[TargetKey, str]:
    """The states, as JSON."""
    w = model_watches.c
    query = select(w.alias, w.upstream, w.model, w.state).where(w.alias != "")
    return {TargetKey(*names): state for *names, state in connection.execute(query)}


def store_watch(connection: Connection, target: TargetKey, hour: int, state: str) -> None:
    row = {**target._asdict(), "hour": hour, "state": state}
    statement = insert(connection.dialect, model_watches).values(row)
    statement = statement.on_conflict_do_update(index_elements=["alias", "upstream", "model"], set_=row)
    connection.execute(statement)


def forget_watches(connection: Connection, before: int) -> None:
    """Deletes what is known of targets without a call since an hour, and the sums of the hours before it."""
    connection.execute(delete(model_watches).where(model_watches.c.hour < before))
    connection.execute(delete(watch_hours).where(watch_hours.c.hour < before))


def store_watch_hour(connection: Connection, target: TargetKey, hour: HourOfTarget) -> None:
    names = orjson.dumps([[list(cell) for cell in hour.cells], list(hour.series)]).decode()
    arrays = (hour.sums, hour.calls)
    sums = b"".join(np.ascontiguousarray(array, dtype="<f4").tobytes() for array in arrays)
    row = {**target._asdict(), "hour": hour.hour, "names": names, "sums": sums}
    connection.execute(insert(connection.dialect, watch_hours).values(row).on_conflict_do_nothing())


def stored_watch_hours(connection: Reading, target: TargetKey, since: int) -> list[HourOfTarget]:
    w = watch_hours.c
    same = (w.alias == target.alias, w.upstream == target.upstream, w.model == target.model, w.hour >= since)
    rows = connection.execute(select(w.hour, w.names, w.sums).where(*same).order_by(w.hour))
    return [_watch_hour(*row) for row in rows]


def _watch_hour(hour: int, names: str, sums: bytes) -> HourOfTarget:
    cells, series = orjson.loads(names)
    found = np.frombuffer(bytes(sums), dtype="<f4")
    of_cells, calls = found[: -len(cells)].reshape(len(cells), len(series), -1), found[-len(cells) :]
    return HourOfTarget(int(hour), [TrafficCell(*cell) for cell in cells], series, of_cells, calls)


@dataclass(frozen=True, slots=True)
class RecordedCall:
    """A served call whose request may become a probe."""

    id: str
    api: str
    caller: str
    session: str | None
    body: bytes


def recorded_calls(connection: Reading, alias: str, most: int, ids: Sequence[str] = ()) -> list[RecordedCall]:
    """Served calls of an alias with whole requests: the newest, or those with these ids, newest first."""
    e = exchanges.c
    columns = (e.id, e.api, e.caller, func.coalesce(e.run_id, e.cluster), whole_request())
    query = select(*columns).where(e.alias == alias, e.role == "served", e.outcome == "ok", e.truncated.is_(False))
    query = query.where(e.bytes > 0).order_by(e.received.desc(), e.id).limit(most)
    rows = connection.execute(query.where(e.id.in_(ids)) if ids else query)
    return [RecordedCall(id, api, caller, session, bytes(body)) for id, api, caller, session, body in rows]
