"""Reads the evidence on one plan of an experiment."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import cached_property

import orjson
from sqlalchemy import Connection, case, func, null, or_, select

from gateway.core.plan import StoredPlan
from gateway.core.plan_evidence import PairCounts, RequestChecks, ScorerFacts, SegmentRow
from gateway.core.segments import segments_from_json
from gateway.core.sequence import SequenceName
from gateway.core.served_answer import SplitEvidence
from gateway.store.query import Reading
from gateway.store.run_chunks import request_size, whole_request
from gateway.store.sequences import increments_of, newest_identities, of_sequence, state_texts, withheld_of
from gateway.store.served_answers import split_evidence
from gateway.store.tables import exchanges, increments, pair_scores, pairs, scores


class StoredEvidence:
    """The evidence on a plan at one moment, as verdict/evidence.py asks for it.

    Each part is read when it is first asked for, and once. Not for several threads at a time.
    """

    def __init__(self, connection: Reading, plan: StoredPlan, now: float | None = None) -> None:
        """now: Unix seconds, which decide what feedback counts; None: the present."""
        self.plan = plan
        self.now = time.time() if now is None else now
        self._connection = connection

    @cached_property
    def states(self) -> Mapping[SequenceName, str]:
        return state_texts(self._connection, self.plan.hash)

    @cached_property
    def newest(self) -> Mapping[tuple[str, str], str]:
        return newest_identities(self._connection, self.plan.hash)

    @cached_property
    def pairs(self) -> PairCounts:
        return pair_counts(self._connection, self.plan.hash)

    @cached_property
    def withheld(self) -> Mapping[tuple[SequenceName, str, str], int]:
        return withheld_of(self._connection, self.plan.hash)

    @cached_property
    def lost_by_arm(self) -> Mapping[str, tuple[int, int]]:
        return lost_by_arm(self._connection, self.plan.hash)

    @cached_property
    def paid_calls(self) -> Mapping[str, int]:
        return paid_calls(self._connection, self.plan.hash)

    @cached_property
    def request_checks(self) -> RequestChecks:
        return request_checks(self._connection, self.plan.hash)

    def values(self, name: SequenceName) -> tuple[Sequence[float], Sequence[float]]:
        """The values of a sequence's pairs, of the control and of the arm, in order."""
        read = increments_of(self._connection, name)
        return [increment.a for increment in read], [increment.b for increment in read]

    def split(self, candidate: str) -> SplitEvidence:
        return split_evidence(self._connection, self.plan, candidate)

    def scorer(self, metric: str, identity: str | None) -> ScorerFacts | None:
        return scorer_facts(self._connection, self.plan.hash, metric, identity)

    def segment_rows(self, name: SequenceName, most: int) -> Sequence[SegmentRow]:
        return segment_rows(self._connection, name, most)


def pair_counts(connection: Connection, plan: str) -> PairCounts:
    p = pairs.c
    query = select(p.state, p.reason, func.count(), func.min(p.received), func.max(p.received))
    n = {"joined": 0, "lost": 0, "open": 0}
    refused: dict[str, int] = {}
    times: list[float] = []
    for state, reason, count, first, last in connection.execute(
        query.where(p.plan == plan).group_by(p.state, p.reason)
    ):
        if state == "not_asked":
            refused[reason or "unknown"] = refused.get(reason or "unknown", 0) + count
        else:
            n[state] += count
        if state in ("joined", "lost"):
            times += [first, last]
    return PairCounts(**n, not_asked=refused, first=min(times, default=None), last=max(times, default=None))


def lost_by_arm(connection: Connection, plan: str) -> dict[str, tuple[int, int]]:
    """arm → (asked, lost). The control's: shadows whose served exchange never came."""
    found: dict[str, list[int]] = {}
    query = select(pairs.c.arms).where(pairs.c.plan == plan, pairs.c.arms.is_not(None))
    for text in connection.execute(query).scalars():
        for arm, outcome in orjson.loads(text).items():
            counts = found.setdefault(arm, [0, 0])
            counts[0] += 1
            counts[1] += outcome["state"] == "lost"
    served = select(pairs.c.id).where(pairs.c.id == exchanges.c.pair).exists()
    orphans = select(func.count(exchanges.c.pair.distinct())).where(
        exchanges.c.plan == plan, exchanges.c.pair.is_not(None), ~served
    )
    settled = select(func.count()).where(pairs.c.plan == plan, pairs.c.place.is_not(None))
    lost = int(connection.execute(orphans).scalar_one())
    found["control"] = [int(connection.execute(settled).scalar_one()) + lost, lost]
    return {arm: (counts[0], counts[1]) for arm, counts in found.items()}


def paid_calls(connection: Connection, plan: str) -> dict[str, int]:
    """arm → recorded requests to it; one that a route left with the control was not sent, unless a cascade asked."""
    e = exchanges.c
    query = select(e.arm, func.count()).where(e.plan == plan, e.pair.is_not(None), e.arm.is_not(None))
    rows = connection.execute(query.where(or_(e.tied.is_not(True), e.attempts != "[]")).group_by(e.arm))
    return {row[0]: int(row[1]) for row in rows}


def request_checks(connection: Connection, plan: str) -> RequestChecks:
    """Counts of requests that were compared by digest. A record without one, of an older gateway or of a large request,
    is in no count.
    """
    arm, served = exchanges.alias(), exchanges.alias()
    a, b = arm.c.request_digest, served.c.request_digest
    found = case((a == b, "same"), (func.substr(a, 1, 3) == func.substr(b, 1, 3), "different"), else_="translated")
    query = (
        select(found, func.count(), func.min(served.c.id))
        .select_from(arm.join(served, served.c.id == arm.c.pair))
        .where(arm.c.plan == plan, a.is_not(None), b.is_not(None))
        .group_by(found)
    )
    counts = {row[0]: (int(row[1]), row[2]) for row in connection.execute(query)}
    n = {name: count for name, (count, _) in counts.items()}
    return RequestChecks(**n, example=counts["different"][1] if "different" in counts else None)


_LOOKED_AT = 100  # scores that tell whether a scorer says yes or no


def scorer_facts(connection: Connection, plan: str, scorer: str, identity: str | None) -> ScorerFacts | None:
    """Facts about a scorer; None if it has no score in the plan. identity: "version config_hash"; None: any version."""
    version, _, config_hash = (identity or "").rpartition(" ")
    for table, best in ((scores, scores.c.value01), (pair_scores, null())):
        t = table.c
        where = [t.scorer == scorer, t.plan == plan, t.status == "scored"]
        where += [] if identity is None else [t.version == version, t.config_hash == config_hash]
        query = select(t.kind, t.direction, t.value, best).where(*where).limit(_LOOKED_AT)
        rows = [tuple(row) for row in connection.execute(query)]
        if rows:
            kind, direction, value, value01 = rows[0]
            unit = value is not None and value01 is not None and abs(value + value01 - 1) < 1e-9
            return ScorerFacts(kind, direction == "minimise" and unit, all(row[3] in (0.0, 1.0) for row in rows))
    return None


LARGE_REQUEST = 65_536  # bytes; larger ones are not read for their properties


def segment_rows(connection: Connection, name: SequenceName, most: int) -> list[SegmentRow]:
    """The newest pairs of one sequence."""
    e, size = exchanges.c, request_size()
    sent = func.coalesce(e.client_bytes, size)  # older records: of the control's body, so alike for both arms
    language = (
        select(func.max(scores.c.explanation))
        .where(scores.c.exchange_id == e.id, scores.c.scorer == "language", scores.c.status == "scored")
        .scalar_subquery()
    )
    request = case((size <= LARGE_REQUEST, whole_request()))
    more = (increments.c.place, increments.c.cluster, e.segments)
    query = (
        select(increments.c.difference, e.caller, e.alias, e.api, e.stream, sent, request, language, e.tags, *more)
        .join(exchanges, e.id == increments.c.pair)
        .where(*of_sequence(increments, name))
        .order_by(increments.c.place.desc())
        .limit(most)
    )
    rows = connection.execute(query)
    return [
        SegmentRow(*row[:7], expected_language(row[7]), row[8] or "", row[9], row[10], _declared_values(row[11]))
        for row in rows
    ]


def _declared_values(text: str | None) -> Mapping[str, str]:
    segments = segments_from_json(text)
    return {} if segments is None else segments.values


def expected_language(explanation: str | None) -> str | None:
    """ "in fr, expected en" → "en". The language of an answer is the result of its arm, not a property of the
    request."""
    return (explanation or "").partition(", expected ")[2] or None
