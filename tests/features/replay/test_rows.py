"""A replay's answers and scores: each at most once, a failure gives way, and the log is read in its order."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from gateway.core.exchange import Feedback
from gateway.core.score import Score, ScoreResult
from gateway.features.replay.rows import (
    LoggedCall,
    LogSelection,
    Replay,
    ReplayAnswer,
    ReplayKey,
    ReplayStore,
    logged,
    outcomes,
    scored,
    texts,
)
from gateway.store.query import reading
from gateway.store.rows import ScoredExchange

GOOD = ReplayAnswer(
    item=1, target="one", repeat=1, answer_id="a-1", cluster="c", outcome="ok", seconds=0.5, asked=3.0, status=200,
    text="hel\0lo", response=b"{}", cost_usd=0.25,
)  # fmt: skip
BAD = replace(GOOD, outcome="failed", status=503, error="HTTP 503", text="", response=b"", cost_usd=None)


@pytest.fixture
def judged(exchange, stated_scorer):
    """GOOD, as the scorer `stated` sees it: of this value, or of this status."""

    def make(value: float | None, status: Any = "scored") -> ScoredExchange:
        score = None if value is None else Score(value)
        result = ScoreResult("stated", "1", "c1", status, score, None, 0.1, 1.0)
        return ScoredExchange(exchange(id=GOOD.answer_id), None, [result])  # type: ignore[arg-type]

    return make


def kept(url: str, *batches: list[tuple[ReplayAnswer, ScoredExchange | None]], scorers: Any) -> None:
    async def write() -> None:
        async with ReplayStore(url, lambda: 7.0) as store:
            await store.begin(Replay("r", "d", "h", "c", "{}", 1.0))
            await store.begin(Replay("r", "d", "h", "c", "{}", 2.0))
            for batch in batches:
                await store.keep("r", batch, scorers)

    asyncio.run(write())


def test_a_failure_gives_way_and_an_answer_stays(store_url: str) -> None:
    kept(store_url, [(BAD, None)], [(GOOD, None)], [(BAD, None)], [(replace(GOOD, text="later"), None)], scorers={})
    with reading(store_url) as connection:
        [row] = outcomes(connection, "r")
        assert (row.outcome, row.error, row.text) == ("ok", None, ""), "outcomes come without the texts"
        assert texts(connection, "r", [1, 2]) == {ReplayKey(1, "one", 1): "hel\ufffdlo"}
        assert connection.exec_driver_sql("select created from replays").all() == [(1.0,)]


def test_scores_come_with_their_answer_and_an_error_gives_way(store_url: str, judged, stated_scorer) -> None:
    scorers = {"stated": stated_scorer()}
    kept(store_url, [(GOOD, judged(None, "timeout"))], [(GOOD, judged(0.75))], [(GOOD, judged(0.1))], scorers=scorers)
    with reading(store_url) as connection:
        [row] = scored(connection, "r")
        assert (row.item, row.target, row.scorer, row.status, row.value) == (1, "one", "stated", "scored", 0.75)
        assert connection.exec_driver_sql("select subject from scores").all() == [("dataset item",)]


async def test_stored_answers_name_their_settled_scores(store_url: str, judged, stated_scorer) -> None:
    async with ReplayStore(store_url) as store:
        await store.keep(
            "r",
            [(GOOD, judged(None, "error")), (replace(BAD, item=2, answer_id="a-2"), None)],
            {"stated": stated_scorer()},
        )
        found = await store.known("r", 1, 2)
        assert found[ReplayKey(1, "one", 1)].settled == frozenset()
        assert (found[ReplayKey(1, "one", 1)].ok, found[ReplayKey(2, "one", 1)].ok) == (True, False)
        await store.keep("r", [(GOOD, judged(None, "not_applicable"))], {"stated": stated_scorer()})
        assert (await store.known("r", 1, 1))[ReplayKey(1, "one", 1)].settled == {("stated", "1", "c1")}
        assert await store.known("other", 1, 2) == {}
        assert (await store.answer("a-1")).response == b"{}"
        assert (await store.spent("r"), await store.spent("other")) == (0.25, 0.0)


def test_the_newest_complete_calls_come_in_order_of_arrival(store, exchange) -> None:
    calls = [exchange(received=float(i), request=b'{"i":%d}' % i, cluster=f"c{i}") for i in range(6)]
    shadow = exchange(received=9.0, role="shadow", pair=calls[0].id)
    others = [exchange(received=9.0, outcome="cut"), exchange(received=9.0, alias="other"),
              exchange(received=9.0, truncated=True), shadow]  # fmt: skip
    corrections = [Feedback(calls[4].id, f"f{at}", "web", at, "answer", correction=text)
            for at, text in ((2.0, "better"), (1.0, "worse"), (3.0, None))]  # fmt: skip
    store.write(*calls, *others, *corrections)
    with reading(store.url) as connection:
        found = logged(connection, LogSelection("chat", 2.0, 3))
        assert [each.request for each in found] == [b'{"i":3}', b'{"i":4}', b'{"i":5}']
        assert found[1] == LoggedCall("chat", b'{"i":4}', "c4", "better")
        assert found[0].correction is None
        assert len(logged(connection, LogSelection("chat", 2.0, 100))) == 4
        assert logged(connection, LogSelection("gone", None, 100)) == []
