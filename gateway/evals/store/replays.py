"""Replays in the store: their answers and scores, written together, each at most once; and read back for the report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, or_, select

from gateway.evals.scorers.registry import Registered
from gateway.evals.store.engine import insert
from gateway.evals.store.rows import Judged, score_rows
from gateway.evals.store.store import Store
from gateway.evals.store.tables import scores
from gateway.evals.store.tables_replay import replay_answers, replays

SUBJECT = "dataset item"
UNSETTLED = ("error", "timeout", "budget")  # of a score: another asking may do better
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
class Key:
    item: int
    target: str
    repeat: int


@dataclass(frozen=True, slots=True)
class Answer:
    """A row of `replay_answers`, in the order of its columns after replay. outcome: ok; refused (a 4xx that stays);
    failed (429, 5xx, no connection); timeout."""

    item: int
    target: str
    repeat: int
    answer_id: str
    cluster: str
    outcome: str
    status: int | None
    error: str | None
    upstream: str | None
    model: str | None
    finish_reason: str | None
    input_tokens: int | None
    output_tokens: int | None
    cached_input_tokens: int | None
    reasoning_tokens: int | None
    cost_usd: float | None
    seconds: float
    asked: float
    exchange_id: str | None
    text: str
    response: bytes

    @property
    def key(self) -> Key:
        return Key(self.item, self.target, self.repeat)


@dataclass(frozen=True, slots=True)
class Known:
    """What is there of one answer. settled: (scorer, version, config_hash) of the scores that need no second asking."""

    answer_id: str
    ok: bool
    settled: frozenset[tuple[str, str, str]]


@dataclass(frozen=True, slots=True)
class Scored:
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


class Replays(Store):
    """The store as a replay sees it. Raises StoreDown or Refused; then nothing of that call is stored."""

    async def begin(self, replay: Replay) -> Replay:
        """Keeps it, unless there is one of this name: then that one."""

        def beginning(connection: Connection) -> Replay:
            values = {name: getattr(replay, name) for name in Replay.__dataclass_fields__}
            connection.execute(insert(connection.dialect, replays).on_conflict_do_nothing(), values)
            row = connection.execute(select(replays).where(replays.c.name == replay.name)).mappings().one()
            return Replay(**{str(k): v for k, v in row.items()})

        return await self._transaction(beginning)

    async def known(self, replay: str, first: int, last: int) -> dict[Key, Known]:
        """What is stored of the items first to last."""
        return await self._transaction(lambda connection: known(connection, replay, first, last))

    async def answer(self, answer_id: str) -> Answer:
        return await self._transaction(lambda connection: _answers(connection, [answer_id])[0])

    async def keep(
        self, replay: str, written: Sequence[tuple[Answer, Judged | None]], scorers: Mapping[str, Registered]
    ) -> None:
        """Answers with what was said of them. An answer that is there stays; a failure gives way to what came later."""
        now = self._clock()
        await self._transaction(lambda connection: write(connection, replay, written, scorers, now))


def write(
    connection: Connection,
    replay: str,
    written: Sequence[tuple[Answer, Judged | None]],
    scorers: Mapping[str, Registered],
    now: float,
) -> None:
    answers = insert(connection.dialect, replay_answers)
    names = [c.name for c in replay_answers.columns if c.name != "replay"]
    keep_good = answers.on_conflict_do_update(
        index_elements=["replay", "item", "target", "repeat"],
        set_={name: answers.excluded[name] for name in names},
        where=replay_answers.c.outcome != "ok",
    )
    rows = [{"replay": replay, **{n: _clean(getattr(a, n)) for n in names}} for a, _ in written]
    if rows:
        connection.execute(keep_good, rows)
    judged = [row for _, j in written if j is not None for row in _score_rows(j, scorers, now)]
    if judged:
        said = insert(connection.dialect, scores)
        again = said.on_conflict_do_update(
            index_elements=["score_id"],
            set_={c.name: said.excluded[c.name] for c in scores.columns if c.name != "score_id"},
            where=or_(*(scores.c.status == each for each in UNSETTLED)),  # an IN cannot be sent with many rows
        )
        connection.execute(again, judged)


def _score_rows(judged: Judged, scorers: Mapping[str, Registered], now: float) -> Iterator[dict[str, Any]]:
    names = [c.name for c in scores.columns]
    for row in score_rows(judged, scorers, now):
        yield {**dict(zip(names, row, strict=True)), "subject": SUBJECT}


def _clean(value: Any) -> Any:
    return value.replace("\0", "\ufffd") if isinstance(value, str) else value


def known(connection: Connection, replay: str, first: int, last: int) -> dict[Key, Known]:
    a = replay_answers.c
    these = (a.replay == replay, a.item.between(first, last))
    query = select(a.item, a.target, a.repeat, a.answer_id, a.outcome).where(*these)
    answers = connection.execute(query).all()
    said = (
        select(scores.c.exchange_id, scores.c.scorer, scores.c.version, scores.c.config_hash)
        .join(replay_answers, a.answer_id == scores.c.exchange_id)
        .where(*these, scores.c.status.not_in(UNSETTLED))
    )
    settled: dict[str, set[tuple[str, str, str]]] = {}
    for answer_id, *which in connection.execute(said):
        settled.setdefault(answer_id, set()).add((which[0], which[1], which[2]))
    return {
        Key(item, target, repeat): Known(answer_id, outcome == "ok", frozenset(settled.get(answer_id, ())))
        for item, target, repeat, answer_id, outcome in answers
    }


def _answers(connection: Connection, ids: Sequence[str]) -> list[Answer]:
    query = select(replay_answers).where(replay_answers.c.answer_id.in_(ids))
    return [_answer(row) for row in connection.execute(query).mappings()]


def _answer(row: Mapping[str, Any]) -> Answer:
    return Answer(**{name: row[name] for name in Answer.__dataclass_fields__})


def replay_named(connection: Connection, name: str) -> Replay | None:
    row = connection.execute(select(replays).where(replays.c.name == name)).mappings().first()
    return None if row is None else Replay(**{str(k): v for k, v in row.items()})


def outcomes(connection: Connection, replay: str) -> Iterator[Answer]:
    """Every answer in order of item, target and repeat, without what it says."""
    a = replay_answers.c
    columns = [c for c in replay_answers.columns if c.name not in ("text", "response")]
    query = select(*columns).where(a.replay == replay).order_by(a.item, a.target, a.repeat)
    for row in connection.execution_options(yield_per=_MANY).execute(query).mappings():
        yield _answer({**row, "text": "", "response": b""})


def scored(connection: Connection, replay: str) -> Iterator[Scored]:
    """Every score of the replay's good answers, in the same order."""
    a, s = replay_answers.c, scores.c
    columns = (a.item, a.target, a.repeat, s.scorer, s.version, s.config_hash, s.status, s.value, s.cost_usd)
    query = (
        select(*columns)
        .join(replay_answers, a.answer_id == s.exchange_id)
        .where(a.replay == replay, a.outcome == "ok", s.subject == SUBJECT)
        .order_by(a.item, a.target, a.repeat, s.scorer)
    )
    for row in connection.execution_options(yield_per=_MANY).execute(query):
        yield Scored(*row)


def texts(connection: Connection, replay: str, items: Sequence[int]) -> dict[Key, str]:
    """What was answered to a few items."""
    a = replay_answers.c
    query = select(a.item, a.target, a.repeat, a.text).where(a.replay == replay, a.item.in_(items))
    return {Key(*row[:3]): row[3] for row in connection.execute(query)}
