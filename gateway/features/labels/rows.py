"""People's labels: the items that may be drawn, the labels, and both next to the scorer's own scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal
from uuid import NAMESPACE_OID, uuid5

import orjson
from sqlalchemy import (
    ColumnElement,
    Connection,
    Double,
    RowMapping,
    Select,
    Table,
    and_,
    case,
    cast,
    delete,
    func,
    literal,
    or_,
    select,
)

from gateway.core.chunked import chunked
from gateway.core.exchange import IMPORTED
from gateway.core.plan import REPEAT
from gateway.store.engine import replacing
from gateway.store.tables import (
    TARGET,
    exchanges,
    guard_decisions,
    labels,
    pair_scores,
    replay_answers,
    score_cells,
    scores,
)

Subject = Literal["exchange", "pair"]
OF_GUARD = "guard "
"""Begins the name under which a guard's decisions are labelled; no scorer's name has a blank."""
_AT_ONCE = 500  # ids of one query
ON_REQUESTS = "request"
"""The version of a guard that judges requests; that of one on answers is `answer`."""


@dataclass(frozen=True, slots=True)
class ScorerVersion:
    """The version of a scorer that scored last. subject: the kind of its subjects."""

    scorer: str
    version: str
    config_hash: str
    subject: Subject
    direction: str


@dataclass(frozen=True, slots=True)
class Label:
    """One person's verdict. value: in [0, 1]; None if skipped. pool to horizon: see correction.SamplingDesign."""

    scorer: str
    subject: Subject
    subject_id: str
    labeller: str
    value: float | None
    label: str | None
    comment: str | None
    version: str
    config_hash: str
    pool: str
    favour: float
    threshold: float | None
    share: float | None
    horizon: float
    at: float

    @property
    def id(self) -> str:
        """One per person and subject: a later label replaces the earlier one."""
        return str(uuid5(NAMESPACE_OID, "\0".join((self.scorer, self.subject, self.subject_id, self.labeller))))


def guard_of(scorer: str) -> str | None:
    """The guard whose decisions are labelled under this name; None if it is a scorer."""
    return scorer.removeprefix(OF_GUARD) if scorer.startswith(OF_GUARD) else None


def version_of(connection: Connection, scorer: str) -> ScorerVersion | None:
    """The running version; None if it has scored no recorded traffic yet. Scores of a replay's answers do not count.

    Of a guard, the config with which it decided last; its version is the side that it judges.
    """
    if (guard := guard_of(scorer)) is not None:
        return _guard_version(connection, guard)
    found: list[tuple[float, ScorerVersion]] = []
    for table, subject in ((scores, "exchange"), (pair_scores, "pair")):
        c = table.c
        replayed = select(replay_answers.c.answer_id).where(replay_answers.c.answer_id == c.exchange_id).exists()
        query = select(c.version, c.config_hash, c.direction, c.created).where(c.scorer == scorer, ~replayed)
        row = connection.execute(query.order_by(c.created.desc()).limit(1)).first()
        if row is not None:
            found.append((row.created, ScorerVersion(scorer, row.version, row.config_hash, subject, row.direction)))  # type: ignore[arg-type]
    return max(found, key=lambda pair: pair[0])[1] if found else None


def _guard_version(connection: Connection, guard: str) -> ScorerVersion | None:
    d = guard_decisions.c
    query = select(d.on_side, d.config_hash).where(d.guard == guard).order_by(d.received.desc()).limit(1)
    row = connection.execute(query).first()
    return ScorerVersion(OF_GUARD + guard, row[0], row[1], "exchange", "maximise") if row is not None else None


def kind_of(connection: Connection, version: ScorerVersion) -> str | None:
    """The kind that the scorer states: code, model or llm. None if this version has scored nothing."""
    table = scores if version.subject == "exchange" else pair_scores
    return connection.execute(select(table.c.kind).where(*_these(table, version)).limit(1)).scalar()


def scorers_seen(connection: Connection) -> list[str]:
    """The names of all scorers with a score in the store."""
    names = {row[0] for table in (scores, pair_scores) for row in connection.execute(select(table.c.scorer).distinct())}
    return sorted(names)


def guards_seen(connection: Connection) -> list[str]:
    """The names of all guards with a decision in the store."""
    return sorted(connection.execute(select(guard_decisions.c.guard).distinct()).scalars())


def scorers_summed(connection: Connection) -> list[str]:
    """The same from the sums of scores, which are few: `scores` is not searched."""
    single = connection.execute(select(score_cells.c.scorer).where(score_cells.c.n_scored > 0).distinct()).scalars()
    pairwise = connection.execute(select(pair_scores.c.scorer).distinct()).scalars()
    return sorted({*single, *pairwise})


def scored_items(
    connection: Connection, of: ScorerVersion, experiment: str = "", *, imported: bool = False
) -> list[dict[str, Any]]:
    """Columns id, judged (in [0, 1], 1 best), created and experiment of the recorded answers that this version scored;
    of imported calls alone, or of all others.

    Left out are answers of replays, and those whose texts retention has deleted before anybody labelled them: neither
    can be shown, so they are outside the population that labels are drawn from. Of a guard, created is when the call
    was stored, and judged is 0 for a hit, 0.25 for a near one and 1 for neither; failed decisions are left out.
    """
    if (guard := guard_of(of.scorer)) is not None:
        return [] if imported else _guarded_calls(connection, of, guard, experiment)
    table: Table = pair_scores if of.subject == "pair" else scores
    c = table.c
    judged = c.value if of.subject == "pair" else c.value01
    in_experiment = func.coalesce(c.experiment, "").label("experiment")
    query = select(c.exchange_id.label("id"), judged.label("judged"), c.created, in_experiment)
    query = query.where(*_these(table, of), judged.is_not(None), _can_be_labelled(c.exchange_id, c.exchange_id, of))
    query = query.where(_is_imported(c.exchange_id) if imported else ~_is_imported(c.exchange_id))
    if of.subject == "pair":
        query = query.where(c.arm != REPEAT, _can_be_labelled(c.pair, c.exchange_id, of))
    else:
        query = query.where(c.repeat == 0)
    return _rows(connection, query.where(c.experiment == experiment) if experiment else query)


def _guarded_calls(connection: Connection, of: ScorerVersion, guard: str, experiment: str) -> list[dict[str, Any]]:
    d, e = guard_decisions.c, exchanges.c
    in_experiment = func.coalesce(e.experiment, "").label("experiment")
    query = (
        select(d.exchange_id.label("id"), judged_by_guard(), e.stored.label("created"), in_experiment)
        .join(exchanges, e.id == d.exchange_id)
        .where(d.guard == guard, d.config_hash == of.config_hash, d.on_side == of.version, d.result != "failed")
        .where(or_(e.bytes > 0, _has_label(d.exchange_id, of)))
    )
    return _rows(connection, query.where(e.experiment == experiment) if experiment else query)


def judged_by_guard() -> ColumnElement[float]:
    result = guard_decisions.c.result
    values = {"hit": literal(0.0), "near": literal(0.25)}
    return case(values, value=result, else_=literal(1.0)).label("judged")


def labels_of_guard(connection: Connection, of: ScorerVersion, since: float) -> list[dict[str, Any]]:
    """Labels of a guard's decisions on calls since then: the columns of `labels`, and judged, created, experiment,
    plan, arm, alias, model, stratum (the decision's result), unit, caller, received, and weight (1 / π of the record).
    since: Unix seconds."""
    subjects = connection.execute(select(labels.c.subject_id).where(*_these(labels, of)).distinct()).scalars().all()
    found: list[dict[str, Any]] = []
    for some in chunked(sorted(subjects), _AT_ONCE):  # by id: decisions of a guard may be a million
        found += _rows(connection, _labels_of_guard(of, since).where(guard_decisions.c.exchange_id.in_(some)))
    return found


def _labels_of_guard(of: ScorerVersion, since: float) -> Select[Any]:
    d, e = guard_decisions.c, exchanges.c
    in_plan = (func.coalesce(e.experiment, "").label("experiment"), e.plan, func.coalesce(e.arm, "").label("arm"))
    of_call = (e.alias, TARGET.label("model"), d.result.label("stratum"), e.unit, e.caller, d.received)
    same_guard = (d.guard == guard_of(of.scorer), d.config_hash == of.config_hash, d.on_side == of.version)
    return (
        select(labels, judged_by_guard(), e.stored.label("created"), *in_plan, *of_call, (1.0 / d.pi).label("weight"))
        .join(guard_decisions, d.exchange_id == labels.c.subject_id)
        .join(exchanges, e.id == d.exchange_id)
        .where(*_these(labels, of), *same_guard, d.result != "failed", d.received >= since)
    )


def _can_be_labelled(exchange_id: Any, subject_id: Any, of: ScorerVersion) -> ColumnElement[bool]:
    """The condition that the exchange is stored with its texts, or that somebody has labelled the subject."""
    stored = select(exchanges.c.id).where(exchanges.c.id == exchange_id)
    return or_(stored.where(exchanges.c.bytes > 0).exists(), and_(stored.exists(), _has_label(subject_id, of)))


def _has_label(subject_id: Any, of: ScorerVersion) -> ColumnElement[bool]:
    return select(labels.c.label_id).where(labels.c.subject_id == subject_id, labels.c.scorer == of.scorer).exists()


def _is_imported(exchange_id: Any) -> ColumnElement[bool]:
    return select(exchanges.c.id).where(exchanges.c.id == exchange_id, exchanges.c.role == IMPORTED).exists()


def save_labels(connection: Connection, given: Sequence[Label]) -> None:
    """Stores labels; a later one of the same person on the same subject replaces the earlier one."""
    rows = [asdict(x) | {"label_id": x.id, "status": "skipped" if x.value is None else "scored"} for x in given]
    if rows:
        connection.execute(replacing(connection.dialect, labels, rows[0]), rows)


def delete_label(connection: Connection, given: Label) -> None:
    connection.execute(delete(labels).where(labels.c.label_id == given.id))


def labels_of(connection: Connection, scorer: str) -> list[Label]:
    """The labels of one scorer, oldest first."""
    query = select(labels).where(labels.c.scorer == scorer).order_by(labels.c.at, labels.c.label_id)
    return [_label(row) for row in connection.execute(query).mappings()]


def count_labels(connection: Connection) -> dict[str, int]:
    """The number of labelled subjects by scorer; those that were skipped do not count."""
    c = labels.c
    query = select(c.scorer, func.count(c.subject_id.distinct())).where(c.value.is_not(None)).group_by(c.scorer)
    return {scorer: n for scorer, n in connection.execute(query)}


def newest_labels(connection: Connection, scorer: str | None) -> list[Label]:
    """The labels of one scorer or of all, newest first."""
    query = select(labels).order_by(labels.c.at.desc(), labels.c.label_id)
    query = query.where(labels.c.scorer == scorer) if scorer is not None else query
    return [_label(row) for row in connection.execute(query).mappings()]


def labels_with_scores(connection: Connection, of: ScorerVersion | None = None) -> list[dict[str, Any]]:
    """Labels with the scorer's scores of the same exchanges: the columns of `labels`, and judged, created, experiment,
    plan, arm, alias, model ("upstream/model"), stratum, pi, sampled (the exchange's own part of pi), and unit (its
    conversation). of: None for all scorers and versions."""
    s, e = scores.c, exchanges.c
    in_plan = (func.coalesce(s.experiment, "").label("experiment"), s.plan, func.coalesce(s.arm, "").label("arm"))
    of_exchange = (e.alias, TARGET.label("model"), s.stratum, s.pi, e.pi.label("sampled"), e.unit)
    query: Select[Any] = (
        select(labels, s.value01.label("judged"), s.created, *in_plan, *of_exchange)
        .join(scores, and_(_labelled(s), s.repeat == 0, s.value01.is_not(None)))
        .join(exchanges, e.id == s.exchange_id)
        .where(labels.c.subject == "exchange", e.role != IMPORTED)
    )
    if of is not None:
        query = query.where(*_these(labels, of))
    return _rows(connection, query)


def labels_with_pair_scores(connection: Connection, of: ScorerVersion) -> list[dict[str, Any]]:
    """Labels of pairs with the scorer's scores. experiment and arm are the pair's; alias, model and stratum are empty:
    a pair counts once."""
    p = pair_scores.c
    empty = (literal("").label(name) for name in ("alias", "model", "stratum"))
    ones = (literal(1.0).label(name) for name in ("pi", "sampled"))
    query = (
        select(labels, p.value.label("judged"), p.created, p.experiment, p.plan, p.arm, *empty, *ones)
        .join(pair_scores, and_(_labelled(p), p.value.is_not(None)))
        .where(*_these(labels, of), labels.c.subject == "pair", p.arm != REPEAT)
    )
    return _rows(connection, query)


def _labelled(score: Any) -> ColumnElement[bool]:
    """The score that a label is about: of its subject, by the scorer's version of that time. score: columns."""
    label = labels.c
    same_version = (getattr(score, name) == label[name] for name in ("scorer", "version", "config_hash"))
    return and_(score.exchange_id == label.subject_id, *same_version)


def scores_by_label(connection: Connection, given: Sequence[Label]) -> dict[str, float]:
    """The scorer's own score of each label's subject, by label id."""
    found: dict[str, float] = {}
    for of in {ScorerVersion(x.scorer, x.version, x.config_hash, x.subject, "") for x in given}:
        rows = labels_with_pair_scores(connection, of) if of.subject == "pair" else labels_with_scores(connection, of)
        found |= {row["label_id"]: row["judged"] for row in rows}
    return found


def anything_labelled(connection: Connection) -> bool:
    return connection.execute(select(labels.c.label_id).limit(1)).first() is not None


def _rows(connection: Connection, query: Select[Any]) -> list[dict[str, Any]]:
    return [row._asdict() for row in connection.execute(query)]


def _these(table: Any, of: ScorerVersion) -> tuple[Any, ...]:
    return table.c.scorer == of.scorer, table.c.version == of.version, table.c.config_hash == of.config_hash


def _label(row: RowMapping) -> Label:
    return Label(**{name: row[name] for name in Label.__dataclass_fields__})


TrafficKey = tuple[str, str, str, str]  # alias, "upstream/model", arm, stratum


@dataclass(frozen=True, slots=True)
class ScoreSelection:
    """A selection of a scorer's scores; None sets no condition."""

    experiment: str | None = None
    plan: str | None = None
    arm: str | None = None


@dataclass(frozen=True, slots=True)
class JudgedSums:
    """Sums over one kind of traffic."""

    scored: int
    responded: int
    asked: int
    """Number of rows, scored or not."""
    total: float
    """Sums of scores in [0, 1], 1 best."""
    squares: float
    good: float
    """Scores that reach the cut."""
    inverse_pi: float
    """Sum of 1 / π over all rows."""
    population: int = 0
    """N_h from the tallies; 0 if none has arrived."""
    weights: tuple[float, float, float] | None = None
    """Sums of v over what scored, of v over what responded, and of v² over what scored, v being 1 / π of the scorer's
    draw; total, squares and good are then sums times v. None if v is 1 for all."""

    @property
    def weight(self) -> float:
        return float(self.scored) if self.weights is None else self.weights[0]

    @property
    def answered(self) -> float:
        return float(self.responded) if self.weights is None else self.weights[1]

    @property
    def weight_squares(self) -> float:
        return float(self.scored) if self.weights is None else self.weights[2]


def judged_sums(
    connection: Connection, of: ScorerVersion, part: ScoreSelection, cut: float
) -> dict[TrafficKey, JudgedSums]:
    """Sums of the selected scores. Only a selection of everything has populations: tallies do not know experiments."""
    if of.subject == "pair":
        return _pair_sums(connection, of, part, cut)
    s, e = scores.c, exchanges.c
    model, arm = TARGET.label("model"), func.coalesce(s.arm, "").label("arm")
    v, responded, scored = e.pi / s.pi, s.status.in_(("scored", "not_applicable")), s.value01.is_not(None)
    counts = (func.count(s.value01), func.count(case((responded, 1))), func.count())
    sums = (func.sum(v * s.value01), func.sum(v * s.value01 * s.value01), func.sum(case((s.value01 >= cut, v))))
    inverse_pi = func.sum(cast(1.0, Double) / s.pi)
    weights = (func.sum(case((scored, v))), func.sum(case((responded, v))), func.sum(case((scored, v * v))))
    query = (
        select(e.alias, model, arm, s.stratum, *counts, *sums, inverse_pi, *weights)
        .join(exchanges, e.id == s.exchange_id)
        .where(*_these(scores, of), s.repeat == 0, e.role != IMPORTED, *_only(scores, part))
        .group_by(e.alias, model, arm, s.stratum)
    )
    found = {tuple(row[:4]): _sums(tuple(row[4:])) for row in connection.execute(query)}
    if part.experiment is not None:
        return found
    populations = _populations(connection, of)
    return {key: replace(cell, population=populations.get(key, 0)) for key, cell in found.items()}


def order_flips(
    connection: Connection, of: ScorerVersion, part: ScoreSelection
) -> list[tuple[float | None, float | None]]:
    """(whether the winner changed, whether the first answer won) of each pair that was scored in both orders."""
    p = pair_scores.c
    query = select(p.detail).where(*_these(pair_scores, of), p.value.is_not(None), *_only(pair_scores, part))
    rows = connection.execute(query).scalars()
    details = [orjson.loads(row) for row in rows if row]
    return [(d.get("flip"), d.get("first_slot")) for d in details if "flip" in d or "first_slot" in d]


def judged_after(connection: Connection, of: ScorerVersion, moment: float) -> int:
    """The number of answers that this version scored since `moment`, in Unix seconds."""
    table = pair_scores if of.subject == "pair" else scores
    scored_since = (table.c.status == "scored", table.c.created > moment, ~_is_imported(table.c.exchange_id))
    return connection.execute(select(func.count()).where(*_these(table, of), *scored_since)).scalar_one()


def _pair_sums(
    connection: Connection, of: ScorerVersion, part: ScoreSelection, cut: float
) -> dict[TrafficKey, JudgedSums]:
    p = pair_scores.c
    responded = func.count(case((p.status.in_(("scored", "not_applicable")), 1)))
    counts = (func.count(p.value), responded, func.count())
    sums = (func.sum(p.value), func.sum(p.value * p.value), func.count(case((p.value >= cut, 1))), func.count())
    query = select(p.arm, *counts, *sums).where(*_these(pair_scores, of), p.arm != REPEAT, *_only(pair_scores, part))
    return {("", "", row[0], ""): _sums(tuple(row[1:])) for row in connection.execute(query.group_by(p.arm))}


def scored_by_both(
    connection: Connection, first: ScorerVersion, second: ScorerVersion, most: int
) -> list[dict[str, Any]]:
    """The newest recorded answers that both versions scored: columns id, first and second (the scores in [0, 1], 1
    best), first_pi and second_pi, pi (of the record), unit, alias, target, pair and arm."""
    a, b, e = scores.alias("first"), scores.alias("second"), exchanges.c
    known = [(table.c.repeat == 0, table.c.value01.is_not(None), table.c.pi.is_not(None)) for table in (a, b)]
    of_scores = (a.c.value01.label("first"), b.c.value01.label("second"), a.c.pi.label("first_pi"))
    of_call = (e.pi, e.unit, e.alias, TARGET.label("target"), e.pair, e.arm)
    query = (
        select(e.id, *of_scores, b.c.pi.label("second_pi"), *of_call)
        .join(b, and_(a.c.exchange_id == b.c.exchange_id, *_these(b, second), *known[1]))
        .join(exchanges, e.id == a.c.exchange_id)
        .where(*_these(a, first), *known[0], e.role != IMPORTED)
        .order_by(e.received.desc())
        .limit(most)
    )
    return _rows(connection, query)


def mean_cost(connection: Connection, of: ScorerVersion) -> tuple[float | None, float | None]:
    """(dollars, seconds) of a score, over all scores of this version; None if unknown."""
    c = scores.c
    query = select(func.avg(c.cost_usd), func.avg(c.seconds)).where(*_these(scores, of), c.value01.is_not(None))
    usd, seconds = connection.execute(query).one()
    return (None if usd is None else float(usd)), (None if seconds is None else float(seconds))


def _only(table: Any, part: ScoreSelection) -> list[Any]:
    wanted = {"experiment": part.experiment, "plan": part.plan, "arm": part.arm}
    return [table.c[name] == value for name, value in wanted.items() if value is not None]


def _sums(row: tuple[Any, ...]) -> JudgedSums:
    """row: what judged_sums selects; without the last three for pairs, which all count once."""
    scored, responded, asked = row[:3]
    total, squares, good, inverse_pi, *more = (float(value or 0.0) for value in row[3:])
    weights = (more[0], more[1], more[2]) if more else None
    return JudgedSums(scored, responded, asked, total, squares, good, inverse_pi, weights=weights)


def _populations(connection: Connection, of: ScorerVersion) -> dict[TrafficKey, int]:
    c = score_cells.c
    query = select(c.alias, c.model, c.arm, c.stratum, c.population).where(*_these(score_cells, of))
    return {(row.alias, row.model, row.arm, row.stratum): row.population for row in connection.execute(query)}
