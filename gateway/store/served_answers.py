"""Queries about the answers that the arms of a split served: their scores, feedback and units."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields

from sqlalchemy import ColumnElement, Connection, Text, and_, case, func, literal_column, or_, select

from gateway.core.chunked import chunked
from gateway.core.exchange import CLIENT_ENDED, Target
from gateway.core.learned_route import ROUTE
from gateway.core.plan import CONTROL, UNITS_FIRST_RULES, HarmStop, Plan, StoredPlan
from gateway.core.served_answer import AnswerScores, ScoredRow, ServedAnswer, SplitEvidence
from gateway.store.harm_stops import harm_of
from gateway.store.tables import TARGET, exchanges, plans, scores, tallies

_CHUNK = 500


_COLUMNS = [field.name for field in fields(ServedAnswer)][4:]
"""The columns that have the name of a field."""


def served_answers(
    connection: Connection,
    plan: str,
    arms: Sequence[str],
    since: float = 0.0,
    until: float = math.inf,
    *,
    keyed: bool = False,
    empty_fails: bool = False,
    left: bool = False,
) -> list[ServedAnswer]:
    """The answers of these arms that their clients waited for, in order of arrival; left: those that they did not.

    since, until: Unix seconds. keyed: a call without a conversation belongs to the unit of its key. empty_fails: as
    arm_counts takes it.
    """
    e = exchanges.c
    unit = func.coalesce(e.cluster, literal_column("'key '", Text) + e.caller) if keyed else e.cluster
    waited = e.outcome.in_(CLIENT_ENDED) if left else e.outcome.not_in(CLIENT_ENDED)
    query = select(e.id, e.arm, unit, e.alias, TARGET, e.stratum, *(e[name] for name in _COLUMNS)).where(
        e.plan == plan, e.role == "served", e.arm.in_(arms), waited, e.received >= since
    )
    if math.isfinite(until):
        query = query.where(e.received < until)
    return [
        ServedAnswer(
            *(row[0], row[1], row[2] or row[0], (row[1], row[3], row[4], row[5])),
            *(*row[6:15], empty_fails and bool(row[15]), *row[16:]),
        )
        for row in connection.execute(query.order_by(e.received, e.id))
    ]


def is_own(target: Target) -> ColumnElement[bool]:
    """The SQL condition that an arm's own target gave the answer."""
    e = exchanges.c
    if target.upstream != ROUTE:
        return TARGET.in_([str(target)])
    return and_(e.route.startswith(f"{target.model}/", autoescape=True), e.fell_back.is_not(True))


def split_evidence(connection: Connection, plan: StoredPlan, candidate: str) -> SplitEvidence:
    """The answers of the control and of one candidate, from the current content of the store."""
    design, arms, stop = plan.plan, (CONTROL, candidate), _undrawn(connection, plan.hash, plan.plan)
    answers = _drawn(served_answers(connection, plan.hash, arms, empty_fails=design.empty == "failed"), stop)
    left = served_answers(connection, plan.hash, arms, left=True) if design.rules >= 2 else ()
    ids = [answer.id for answer in answers]
    return SplitEvidence(
        answers=answers,
        left=_drawn(left, stop),
        units=assigned_units(connection, plan.hash, design),
        population=seen_populations(connection) if is_only_plan(connection, design) else {},
        history=_known_before(connection, plan, answers),
        scores=answer_scores(connection, ids),
        feedback=feedback_given(connection, ids),
    )


def _undrawn(connection: Connection, key: str, plan: Plan) -> HarmStop | None:
    """The stop for harm in which the control was recorded though no arm was drawn: with its shadows. key: the plan's
    hash."""
    return harm_of(connection, key) if plan.mode == "both" and plan.rules >= UNITS_FIRST_RULES else None


def _drawn(answers: Sequence[ServedAnswer], stop: HarmStop | None) -> Sequence[ServedAnswer]:
    """The answers whose arm was drawn."""
    return answers if stop is None else [each for each in answers if not stop.at <= each.received < stop.until]


def _known_before(
    connection: Connection, plan: StoredPlan, answers: Sequence[ServedAnswer]
) -> Mapping[str, tuple[float, float]]:
    """The past of units before the plan's first answer: `since` is later where a plan was stopped or started again."""
    if not answers or not plan.plan.adjusts_splits:
        return {}
    return unit_history(connection, min(plan.since, answers[0].received), sorted({answer.unit for answer in answers}))


def answer_scores(connection: Connection, ids: Sequence[str]) -> AnswerScores:
    """The scores of these exchanges, and of the runs that they stand for."""
    return AnswerScores(_scores(connection, ids, "exchange"), _scores(connection, ids, "run"))


def _scores(connection: Connection, ids: Sequence[str], subject: str) -> dict[str, dict[str, ScoredRow]]:
    s = scores.c
    found: dict[str, dict[str, ScoredRow]] = {}
    for chunk in chunked(ids, _CHUNK):
        query = select(s.scorer, s.exchange_id, s.status, s.value01, s.version, s.config_hash).where(
            s.exchange_id.in_(chunk),
            s.subject == subject,
            s.direction != "neutral",
            s.kind.in_(("code", "model", "llm")),
        )
        for row in connection.execute(query.order_by(s.created)):
            found.setdefault(row[0], {})[row[1]] = (row[2], row[3], f"{row[4]} {row[5]}")
    return found


def unit_history(connection: Connection, since: float, clusters: Sequence[str]) -> dict[str, tuple[float, float]]:
    """unit → its mean duration and its failure rate before `since`, for units with calls then."""
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


def seen_populations(connection: Connection) -> dict[tuple[str, str, str, str], int]:
    """N_h by arm, alias, target and stratum, over all gateway processes."""
    t = tallies.c
    query = select(t.arm, t.alias, t.target, t.stratum, func.sum(t.n)).where(t.ledger == "seen")
    grouped = query.group_by(t.arm, t.alias, t.target, t.stratum)
    return {(row[0], row[1], row[2], row[3]): int(row[4]) for row in connection.execute(grouped)}


def is_only_plan(connection: Connection, plan: Plan) -> bool:
    """Whether the tallies of this model are about this plan alone."""
    names = select(func.count()).select_from(plans).where(plans.c.experiment == plan.name)
    return int(connection.execute(names).scalar_one()) <= 1


def assigned_units(connection: Connection, key: str, plan: Plan) -> Mapping[str, int]:
    """arm → units. Single requests: from the Tallies, so before any loss. Other units: those with a recorded call that
    every rule would have recorded, since a rule that looks at the answer may prefer an arm. With a stop for harm,
    single requests are counted like other units: tallies do not tell when a call was."""
    stop = _undrawn(connection, key, plan)
    if plan.unit == "request" and stop is None and is_only_plan(connection, plan):
        counts: dict[str, int] = {}
        for (arm, alias, _, stratum), n in seen_populations(connection).items():
            if alias == plan.model and arm in plan.arms and not stratum.startswith("shadow:"):
                counts[arm] = counts.get(arm, 0) + n
        return counts
    e = exchanges.c
    ours = [e.plan == key, e.role == "served"]
    if stop is not None:
        ours.append(or_(e.received < stop.at, e.received >= stop.until))
    floor = connection.execute(select(func.min(e.pi)).where(*ours)).scalar()
    query = select(e.arm, func.count(func.coalesce(e.cluster, e.id).distinct())).where(*ours, e.u < (floor or 0.0))
    return {row[0]: int(row[1]) for row in connection.execute(query.group_by(e.arm)) if row[0] is not None}


def feedback_given(connection: Connection, ids: Sequence[str]) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """Name ("feedback:thumb") → the feedback given on these exchanges. Feedback with only a label has no value and is
    left out."""
    s = scores.c
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for chunk in chunked(ids, _CHUNK):
        query = select(s.scorer, s.exchange_id, s.answered, s.value).where(
            s.exchange_id.in_(chunk), s.subject.in_(("exchange", "run")), s.kind == "feedback", s.value.is_not(None)
        )
        for scorer, exchange, at, value in connection.execute(query):
            found.setdefault(scorer, {}).setdefault(exchange, []).append((at, value))
    return found
