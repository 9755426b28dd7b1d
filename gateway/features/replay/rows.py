"""Replays: their answers and scores, written together and each at most once, and read back for the report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy import Connection, RowMapping, and_, case, func, or_, select

from gateway.core.exchange import IMPORTED
from gateway.core.score import ConfiguredScorer
from gateway.store.engine import insert, replacing
from gateway.store.rows import ScoredExchange, score_rows
from gateway.store.run_chunks import whole_request
from gateway.store.store import Store
from gateway.store.tables import exchanges, feedback, replay_answers, replays, scores

SUBJECT = "dataset item"
UNSETTLED = ("error", "timeout", "budget")  # statuses of scores that a second attempt may improve
_MANY = 10_000


@dataclass(frozen=True, slots=True)
class Replay:
    """A row of `replays`. design: JSON."""

    name: str
    dataset: str
    dataset_hash: str
    config_hash: str
    design: str
    created: float


@dataclass(frozen=True, slots=True)
class ReplayKey:
    item: int
    target: str
    repeat: int


@dataclass(frozen=True, slots=True)
class ReplayAnswer:
    """A row of `replay_answers`. outcome: ok; refused (4xx that a retry does not help);
    failed (429, 5xx, no connection); timeout.

    A field is None if the answer does not contain it, or if there is no answer.
    """

    item: int
    target: str
    repeat: int
    answer_id: str
    cluster: str
    outcome: str
    seconds: float
    asked: float
    status: int | None = None
    error: str | None = None
    upstream: str | None = None
    model: str | None = None
    finish_reason: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_input_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost_usd: float | None = None
    exchange_id: str | None = None
    text: str = ""
    response: bytes = b""

    @property
    def key(self) -> ReplayKey:
        return ReplayKey(self.item, self.target, self.repeat)


@dataclass(frozen=True, slots=True)
class KnownAnswer:
    """The stored state of one answer. settled: (scorer, version, config_hash) of the scores that are final."""

    answer_id: str
    ok: bool
    settled: frozenset[tuple[str, str, str]]

    def lacks(self, scorers: Mapping[str, ConfiguredScorer]) -> list[str]:
        """The names of the scorers without a final score of this answer."""
        identities = {name: (name, r.scorer.version, r.config_hash) for name, r in scorers.items()}
        return [name for name, identity in identities.items() if identity not in self.settled]


@dataclass(frozen=True, slots=True)
class ReplayScore:
    """A score of one answer. value: None unless status is "scored"."""

    item: int
    target: str
    repeat: int
    scorer: str
    version: str
    config_hash: str
    status: str
    value: float | None
    cost_usd: float | None
    explanation: str | None = None
    """The exception of a score that failed."""


@dataclass(frozen=True, slots=True)
class LogSelection:
    """The newest `limit` logged calls of an alias. since: Unix seconds; None: from the beginning."""

    alias: str
    since: float | None
    limit: int
    runs: bool = False
    """The calls of the newest `limit` runs, each whole and in order, with the run as their cluster."""
    imported: bool = False
    """Imported calls alone, instead of served ones."""


@dataclass(frozen=True, slots=True)
class LoggedCall:
    api: str
    request: bytes
    cluster: str | None
    """Calls of one cluster depend on each other; None if it depends on no other."""
    correction: str | None
    """The answer that its caller would have preferred, from feedback."""
    reference: str | None = None
    """The right answer, from a header of the call."""
    id: str = field(default="", compare=False)
    tool_calls: str | None = None
    """The calls of its answer, as a JSON list; only of a turn of a run."""


class ReplayStore(Store):
    """The store as a replay sees it. Raises StoreDown or WriteRejected; then nothing of that call is stored."""

    async def begin(self, replay: Replay) -> None:
        """Stores the replay, unless it exists: its name contains the hash of its design."""

        def beginning(connection: Connection) -> None:
            connection.execute(insert(connection.dialect, replays).on_conflict_do_nothing(), asdict(replay))

        await self.run(beginning)

    async def known(self, replay: str, first: int, last: int) -> dict[ReplayKey, KnownAnswer]:
        """The stored answers of the items first to last."""
        return await self.run(lambda connection: known(connection, replay, first, last))

    async def spent(self, replay: str) -> float:
        """USD, of the answers that have a price, without those that were recorded before the replay."""
        a = replay_answers.c
        began = func.coalesce(select(replays.c.created).where(replays.c.name == replay).scalar_subquery(), 0.0)
        total = select(func.coalesce(func.sum(a.cost_usd), 0.0)).where(a.replay == replay, a.asked >= began)
        return await self.run(lambda connection: float(connection.execute(total).scalar_one()))

    async def answer(self, answer_id: str) -> ReplayAnswer:
        return await self.run(lambda connection: _answers(connection, [answer_id])[0])

    async def keep(
        self,
        replay: str,
        written: Sequence[tuple[ReplayAnswer, ScoredExchange | None]],
        scorers: Mapping[str, ConfiguredScorer],
    ) -> None:
        """Stores answers with their scores. A stored answer stays; a stored failure is replaced."""
        now = self._clock()
        await self.run(lambda connection: write(connection, replay, written, scorers, now))


def write(
    connection: Connection,
    replay: str,
    written: Sequence[tuple[ReplayAnswer, ScoredExchange | None]],
    scorers: Mapping[str, ConfiguredScorer],
    now: float,
) -> None:
    names = [c.name for c in replay_answers.columns if c.name != "replay"]
    rows = [{"replay": replay, **{n: _clean(getattr(a, n)) for n in names}} for a, _ in written]
    if rows:
        not_good = replay_answers.c.outcome != "ok"
        connection.execute(replacing(connection.dialect, replay_answers, names, lambda _: not_good), rows)
    built = (score_rows(j, scorers, now) for _, j in written if j is not None)
    judged = [{**row, "subject": SUBJECT} for opinions in built for row in opinions]
    if judged:
        unsettled = or_(*(scores.c.status == each for each in UNSETTLED))  # executemany has no expanding IN
        again = replacing(connection.dialect, scores, scores.columns.keys(), lambda _: unsettled)
        connection.execute(again, judged)


def _clean(value: Any) -> Any:
    return value.replace("\0", "\ufffd") if isinstance(value, str) else value


def known(connection: Connection, replay: str, first: int, last: int) -> dict[ReplayKey, KnownAnswer]:
    a = replay_answers.c
    these = (a.replay == replay, a.item.between(first, last))
    query = select(a.item, a.target, a.repeat, a.answer_id, a.outcome).where(*these)
    answers = connection.execute(query).all()
    final = (
        select(scores.c.exchange_id, scores.c.scorer, scores.c.version, scores.c.config_hash)
        .join(replay_answers, a.answer_id == scores.c.exchange_id)
        .where(*these, scores.c.status.not_in(UNSETTLED))
    )
    settled: dict[str, set[tuple[str, str, str]]] = {}
    for answer_id, *which in connection.execute(final):
        settled.setdefault(answer_id, set()).add((which[0], which[1], which[2]))
    return {
        ReplayKey(item, target, repeat): KnownAnswer(answer_id, outcome == "ok", frozenset(settled.get(answer_id, ())))
        for item, target, repeat, answer_id, outcome in answers
    }


def _answers(connection: Connection, ids: Sequence[str]) -> list[ReplayAnswer]:
    query = select(replay_answers).where(replay_answers.c.answer_id.in_(ids))
    return [ReplayAnswer(**_named(row)) for row in connection.execute(query).mappings()]


def _named(row: RowMapping) -> dict[str, Any]:
    """An answer's columns that a query asked for."""
    return {str(name): value for name, value in row.items() if name != "replay"}


def outcomes(connection: Connection, replay: str) -> Iterator[ReplayAnswer]:
    """Every answer in order of item, target and repeat, without text and response."""
    a = replay_answers.c
    columns = [c for c in replay_answers.columns if c.name not in ("text", "response")]
    query = select(*columns).where(a.replay == replay).order_by(a.item, a.target, a.repeat)
    for row in connection.execution_options(yield_per=_MANY).execute(query).mappings():
        yield ReplayAnswer(**_named(row))


def scored(connection: Connection, replay: str) -> Iterator[ReplayScore]:
    """Every score of the replay's good answers, in the same order."""
    a, s = replay_answers.c, scores.c
    why = case((s.status == "scored", None), else_=s.explanation)
    columns = (a.item, a.target, a.repeat, s.scorer, s.version, s.config_hash, s.status, s.value, s.cost_usd, why)
    query = (
        select(*columns)
        .join(replay_answers, a.answer_id == s.exchange_id)
        .where(a.replay == replay, a.outcome == "ok", s.subject == SUBJECT)
        .order_by(a.item, a.target, a.repeat, s.scorer)
    )
    for row in connection.execution_options(yield_per=_MANY).execute(query):
        yield ReplayScore(*tuple(row))


def texts(connection: Connection, replay: str, items: Sequence[int]) -> dict[ReplayKey, str]:
    """The texts of the answers to a few items."""
    a = replay_answers.c
    query = select(a.item, a.target, a.repeat, a.text).where(a.replay == replay, a.item.in_(items))
    return {ReplayKey(*row[:3]): row[3] for row in connection.execute(query)}


def responses(connection: Connection, replay: str, items: Sequence[int]) -> dict[tuple[int, str], bytes]:
    """The bodies of the first good answers to a few items, by item and target."""
    a = replay_answers.c
    query = select(a.item, a.target, a.response).where(
        a.replay == replay, a.item.in_(items), a.repeat == 1, a.outcome == "ok"
    )
    return {(item, target): bytes(body) for item, target, body in connection.execute(query)}


def alike_answers(connection: Connection, replay: str, control: str, candidate: str) -> tuple[int, int]:
    """(texts of the candidate that equal the control's to the same item and repeat, texts that both gave)."""
    a, b = replay_answers.alias(), replay_answers.alias()
    same = and_(a.c.replay == b.c.replay, a.c.item == b.c.item, a.c.repeat == b.c.repeat)
    query = (
        select(func.sum(case((a.c.text == b.c.text, 1), else_=0)), func.count())
        .select_from(a.join(b, same))
        .where(a.c.replay == replay, a.c.target == control, b.c.target == candidate)
        .where(a.c.outcome == "ok", b.c.outcome == "ok", a.c.text != "", b.c.text != "")
    )
    alike, both = connection.execute(query).one()
    return int(alike or 0), int(both)


def logged(connection: Connection, wanted: LogSelection) -> list[LoggedCall]:
    """Served calls with a complete answer, in order of arrival; of runs, one run after the other."""
    e = exchanges.c
    if wanted.runs:
        return _logged_runs(connection, wanted)
    f, role = feedback.c, IMPORTED if wanted.imported else "served"
    corrections = select(f.correction).where(f.resolved == e.id, f.correction.is_not(None)).order_by(f.at.desc())
    query = (
        select(e.api, whole_request(), e.cluster, corrections.limit(1).scalar_subquery(), e.reference, e.id)
        .where(e.alias == wanted.alias, e.role == role, e.outcome == "ok", e.truncated.is_(False))
        .order_by(e.received.desc(), e.id.desc())
        .limit(wanted.limit)
    )
    if wanted.since is not None:
        query = query.where(e.received >= wanted.since)
    return [LoggedCall(*row) for row in connection.execute(query)][::-1]


def _logged_runs(connection: Connection, wanted: LogSelection) -> list[LoggedCall]:
    e = exchanges.c
    began = func.min(e.received)
    newest = select(e.run_id).where(e.alias == wanted.alias, e.run_id.is_not(None)).group_by(e.run_id)
    if wanted.since is not None:
        newest = newest.having(began >= wanted.since)
    chosen = list(connection.execute(newest.order_by(began.desc(), e.run_id).limit(wanted.limit)).scalars())[::-1]
    found: list[LoggedCall] = []
    for run_id in chosen:
        query = select(e.api, whole_request(), e.run_id, e.reference, e.id, e.tool_calls).where(
            e.run_id == run_id, e.alias == wanted.alias, e.outcome == "ok", e.truncated.is_(False)
        )
        rows = connection.execute(query.order_by(e.received, e.id))
        found += [LoggedCall(row[0], bytes(row[1]), row[2], None, *row[3:]) for row in rows]
    return found
