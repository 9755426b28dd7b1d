"""The stored maps and certificates, and the newest probabilities of the traffic."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson
from sqlalchemy import Connection, Select, func, or_, select

from gateway.config.cascades import ACCEPTED
from gateway.core.exchange import IMPORTED
from gateway.features.decisions.model import CertificateAttempt, StoredTry, attempt_from_json
from gateway.features.labels.correction import StoredLabel
from gateway.features.labels.rows import ScorerVersion, guard_of, judged_by_guard, labels_of_guard, labels_with_scores
from gateway.statistics.domains import Floats
from gateway.statistics.recalibration import MapTry, PlattMap
from gateway.store.engine import insert, replacing
from gateway.store.run_chunks import whole_request
from gateway.store.tables import calibration_maps, decision_certificates, exchanges, guard_decisions, scores

NEWEST = 5_000
"""Judged answers that say how large a zone is."""


def labels_of_version(connection: Connection, version: ScorerVersion) -> Sequence[StoredLabel]:
    """All labels of a scorer's or guard's version."""
    if guard_of(version.scorer) is not None:
        return labels_of_guard(connection, version, 0.0)
    return labels_with_scores(connection, version)


def newest_probabilities(connection: Connection, version: ScorerVersion) -> tuple[Floats, Floats]:
    """(probabilities, calls that each stands for) of the newest judged answers of served traffic."""
    guard = guard_of(version.scorer)
    query = _newest_scores(version) if guard is None else _newest_decisions(version, guard)
    rows = connection.execute(query.limit(NEWEST)).all()
    numbers = np.array([(row.judged, 1.0 / row.pi) for row in rows], dtype=np.float64).reshape(-1, 2)
    return numbers[:, 0], numbers[:, 1]


def _newest_scores(version: ScorerVersion) -> Select[Any]:
    s = scores.c
    same = (s.scorer == version.scorer, s.version == version.version, s.config_hash == version.config_hash)
    query = select(s.value01.label("judged"), s.pi).join(exchanges, exchanges.c.id == s.exchange_id)
    query = query.where(*same, s.repeat == 0, s.value01.is_not(None), exchanges.c.role != IMPORTED)
    return query.order_by(s.created.desc())


def _newest_decisions(version: ScorerVersion, guard: str) -> Select[Any]:
    d = guard_decisions.c
    query = select(judged_by_guard(), d.pi).where(d.guard == guard, d.config_hash == version.config_hash)
    return query.where(d.on_side == version.version, d.result != "failed").order_by(d.received.desc())


def acted_share(connection: Connection, cascades: Sequence[str], since: float) -> float | None:
    """The share of these cascades' calls whose first answer was acted upon; None if they had no calls.

    since: Unix seconds."""
    e = exchanges.c
    weight = func.sum(1.0 / func.coalesce(e.pi, 1.0))
    of_cascades = or_(*(e.route.startswith(f"{name}/", autoescape=True) for name in cascades))
    query = select(e.route, weight).where(e.received >= since, e.role == "served", of_cascades).group_by(e.route)
    calls = {route: float(n) for route, n in connection.execute(query)}
    acted = sum(n for route, n in calls.items() if route.endswith(f"/{ACCEPTED}"))
    return acted / sum(calls.values()) if calls else None


def newest_requests(connection: Connection, alias: str, apis: Sequence[str], most: int) -> list[tuple[str, bytes]]:
    """(API, request) of the newest complete calls of an alias that were answered."""
    e = exchanges.c
    query = select(e.api, whole_request()).where(e.alias == alias, e.api.in_(apis), e.role == "served")
    query = query.where(e.outcome == "ok", e.truncated.is_(False)).order_by(e.received.desc()).limit(most)
    return [(api, bytes(request)) for api, request in connection.execute(query)]


def stored_tries(connection: Connection, version: ScorerVersion) -> list[StoredTry]:
    """The tries of this version, the first one first."""
    m = calibration_maps.c
    query = select(calibration_maps).where(*_these(version)).order_by(m.labels)
    return [
        StoredTry(
            MapTry(row.labels, row.level, PlattMap(row.intercept, row.slope), row.gain, row.accepted), row.horizon
        )
        for row in connection.execute(query)
    ]


def save_tries(connection: Connection, version: ScorerVersion, tries: Sequence[StoredTry]) -> None:
    """Stores tries; one that is stored stays as it is."""
    of = {"scorer": version.scorer, "version": version.version, "config_hash": version.config_hash, "at": time.time()}
    rows: list[dict[str, Any]] = [
        of
        | {
            "labels": stored.tried.labels,
            "intercept": stored.tried.map.intercept,
            "slope": stored.tried.map.slope,
            "level": stored.tried.level,
            "gain": stored.tried.gain,
            "accepted": stored.tried.accepted,
            "horizon": stored.horizon,
        }
        for stored in tries
    ]
    if rows:
        connection.execute(insert(connection.dialect, calibration_maps).on_conflict_do_nothing(), rows)


def newest_attempts(connection: Connection) -> dict[str, CertificateAttempt]:
    """The newest attempt of each certificate, by name."""
    query = select(decision_certificates).order_by(decision_certificates.c.began)
    return {
        row.name: attempt_from_json(orjson.loads(row.attempt), given=row.given, lapsed=row.lapsed, reason=row.reason)
        for row in connection.execute(query)
    }


def save_attempt(connection: Connection, attempt: CertificateAttempt) -> None:
    """Stores an attempt as it is now."""
    row = {
        "name": attempt.promise.name,
        "began": attempt.began,
        "attempt": orjson.dumps(attempt.to_json()).decode(),
        "given": attempt.given,
        "lapsed": attempt.lapsed,
        "reason": attempt.reason,
    }
    connection.execute(replacing(connection.dialect, decision_certificates, row).values(**row))


def _these(version: ScorerVersion) -> tuple[Any, ...]:
    m = calibration_maps.c
    return m.scorer == version.scorer, m.version == version.version, m.config_hash == version.config_hash
