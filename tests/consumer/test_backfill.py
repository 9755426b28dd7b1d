"""`gateway score`: what is scored later ends as if it had been scored when it arrived."""

from __future__ import annotations

import asyncio
import random
from dataclasses import astuple, dataclass, replace

import pytest

from gateway.config.predictor import PredictorConfig
from gateway.consumer.backfill import Backfill
from gateway.consumer.entry_scoring import EntryScorer
from gateway.core.exchange import Target
from gateway.core.score import Score, Spent
from gateway.scoring.gate import ScorerGate
from gateway.scoring.threads import ScoringThreads
from gateway.scoring.types import OverBudget
from gateway.store.query import ExchangeFilter
from gateway.store.store import Store
from gateway.store.where import parse

ALL = ExchangeFilter(0)
COLUMNS = """scorer, version, config_hash, alias, model, arm, stratum, n_scored, n_not_applicable, n_error, n_timeout,
    n_budget, round(total, 9), round(squares, 9), round(inverse_pi, 9), population, unit_sizes, unit_products,
    unit_squares"""


def cells(room, scorer):
    return sorted(room.sql(f"SELECT {COLUMNS} FROM score_cells WHERE scorer = '{scorer}'"))  # noqa: S608


def rows(room, scorer):
    return sorted(room.sql(f"SELECT score_id, status, value, pi FROM scores WHERE scorer = '{scorer}'"))  # noqa: S608


async def backfill(room, scorers, filter=ALL, watch=lambda _: None, concurrency=4, until=None):
    threads = ScoringThreads()
    try:
        async with Store(room.store_url) as store:
            run = Backfill(store, scorers, EntryScorer(scorers, threads), watch, concurrency)
            if until is not None:
                until.append(run)
            return await run.run(filter)
    finally:
        threads.close()


def traffic(exchange, n=120, seed=1):
    """Two strata, two targets, an experiment's arm, conversations, and answers of every kind."""
    rng = random.Random(seed)
    made = []
    for at in range(n):
        rare = rng.random() < 0.3
        text = rng.choice(["1", "0", "0.5", "n/a", "boom"])
        more = {"unit": f"talk{at % 7}"} if at % 3 == 0 else {}
        arm = {"arm": "b", "experiment": "x", "plan": "p"} if at % 5 == 0 else {}
        target = {"target": Target("local", "big")} if at % 4 == 0 else {}
        of = {"stratum": "slow", "pi": 0.8} if rare else {"stratum": "default", "pi": 0.1}
        made.append(exchange(text, **of, **more, **arm, **target))
    return made


async def test_scored_later_gives_the_same_sums_as_scored_online(room, exchange, tally, stated_scorer):
    """The sums are equal for a scorer with a share, and in strata with other sampling rates."""
    sent = traffic(exchange)
    late = {"late": stated_scorer(name="late"), "half": stated_scorer(name="half", config_hash="c2", share=0.5)}
    room.scorers = {"stated": stated_scorer(), **late}
    async with room.consuming():
        await room.send(*sent, tally(sent, seen={"default": 900, "slow": 40}))
        await room.until_read()
    online = {name: (cells(room, name), rows(room, name)) for name in late}
    with_mean = sorted((c for c in room.cells() if c.key.scorer == "late"), key=lambda c: astuple(c.key))

    async with Store(room.store_url) as store:  # the same store, as if these scorers had never run
        await store.run(lambda c: [c.exec_driver_sql(f"DELETE FROM {t} WHERE scorer IN ('late', 'half')")  # noqa: S608
                                   for t in ("scores", "score_cells", "score_buckets", "score_units")])  # fmt: skip
    done = await backfill(room, late)

    assert done.complete
    assert done.done == done.total == 120
    for name in late:
        assert cells(room, name) == online[name][0]
        assert rows(room, name) == online[name][1]
    async with Store(room.store_url) as store:
        await store.close({})
    again = sorted((c for c in room.cells() if c.key.scorer == "late"), key=lambda c: astuple(c.key))
    for before, after in zip(with_mean, again, strict=True):
        assert after.population == before.population
        if after.weight:
            assert after.weighted_sum / after.weight == pytest.approx(after.total / after.n["scored"])


async def test_a_part_first_and_the_rest_later_add_up(room, exchange, tally, stated_scorer):
    sent = traffic(exchange)
    room.scorers = {"stated": stated_scorer(), "late": stated_scorer(name="late")}
    async with room.consuming():
        await room.send(*sent, tally(sent, seen={"default": 900, "slow": 40}))
        await room.until_read()
    online = cells(room, "late"), rows(room, "late")
    async with Store(room.store_url) as store:
        await store.run(lambda c: [c.exec_driver_sql(f"DELETE FROM {t} WHERE scorer = 'late'")  # noqa: S608
                                   for t in ("scores", "score_cells", "score_buckets", "score_units")])  # fmt: skip
    late = {"late": stated_scorer(name="late")}
    first = await backfill(room, late, ExchangeFilter(50))
    assert (first.done, len(rows(room, "late"))) == (50, 50)
    part = {c[3:7]: c[15] for c in cells(room, "late")}
    assert 0 < sum(part.values()) < sum(c[15] for c in online[0])
    second = await backfill(room, late, ExchangeFilter(0, where=parse("stratum=slow")))
    assert second.done < 70
    await backfill(room, late)
    assert (cells(room, "late"), rows(room, "late")) == online
    failed = sum(status == "error" for _, status, _, _ in online[1])
    again = await backfill(room, late)
    assert again.total == failed > 0  # errors are tried again, everything else is settled
    assert (cells(room, "late"), rows(room, "late")) == online


@dataclass(frozen=True)
class Fickle:
    """Fails as its list says: a judge whose service or budget ends."""

    version: str = "1"
    kind: str = "llm"
    direction: str = "maximise"
    bounds: tuple[float, float] = (0.0, 1.0)
    heavy: bool = False
    name: str = "late"
    errors: tuple[Exception | None, ...] = ()
    seen: list[str] = None  # type: ignore[assignment]
    wait: asyncio.Event | None = None

    async def score(self, subject):
        self.seen.append(subject.exchange.id)
        if self.wait is not None:
            await self.wait.wait()
        error = self.errors[len(self.seen) - 1] if len(self.seen) <= len(self.errors) else None
        if error is not None:
            raise error
        return Score(1.0, spent=Spent(0.25, "up/judge", 10))

    def golden(self):
        return ()


def judge(stated_scorer, **fields):
    scorer = Fickle(seen=[], **fields)
    return replace(stated_scorer(name="late"), scorer=scorer, gate=ScorerGate("late", 2), waits=True), scorer


async def kept(room, exchange, tally, n=6):
    sent = [exchange("1") for _ in range(n)]
    async with room.consuming():
        await room.send(*sent, tally(sent, seen={"default": 10 * n}))
        await room.until_read()
    return sent


async def test_errors_are_tried_again_and_replaced(room, exchange, tally, stated_scorer):
    await kept(room, exchange, tally)
    failed = ValueError("no verdict")  # twice, since a scorer that asks others is called once more
    failing, _ = judge(stated_scorer, errors=(failed, failed, None, failed, failed))
    done = await backfill(room, {"late": failing}, concurrency=1)
    assert done.stored == {("late", "scored"): 4, ("late", "error"): 2}
    working, scorer = judge(stated_scorer)
    done = await backfill(room, {"late": working})
    assert (done.total, done.stored, len(scorer.seen)) == (2, {("late", "scored"): 2}, 2)
    assert room.sql("SELECT n_scored, n_error, population, inverse_pi FROM score_cells WHERE scorer='late'") == [
        (6, 0, 60, 6.0)
    ]
    assert room.sql("SELECT usd, tokens FROM score_costs WHERE scorer='late'") == [(1.5, 60)]
    assert (await backfill(room, {"late": working})).total == 0


async def test_a_spent_budget_ends_the_scorer_and_stores_nothing_of_it(room, exchange, tally, stated_scorer):
    await kept(room, exchange, tally)
    over = OverBudget("budget_usd: 5 of today's 5 USD are spent")
    registered, scorer = judge(stated_scorer, errors=(None, None, over, over, over, over))
    done = await backfill(room, {"late": registered}, concurrency=1)
    assert done.set_aside == {"late": "budget_usd: 5 of today's 5 USD are spent"}
    assert not done.complete
    assert (done.stored, len(scorer.seen)) == ({("late", "scored"): 2}, 3)
    assert room.sql("SELECT status, count(*) FROM scores WHERE scorer='late' GROUP BY status") == [("scored", 2)]
    fresh, scorer = judge(stated_scorer)
    assert (await backfill(room, {"late": fresh})).complete
    assert len(scorer.seen) == 4


async def test_stopped_it_stores_what_is_in_progress_and_continues(room, exchange, tally, stated_scorer):
    sent = await kept(room, exchange, tally)
    wait, run = asyncio.Event(), []
    registered, scorer = judge(stated_scorer, wait=wait)
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(backfill(room, {"late": registered}, concurrency=2, until=run))
        while len(scorer.seen) < 2:
            await asyncio.sleep(0.001)
        run[0].stop()
        wait.set()
        done = await running
    assert (done.stopped, done.done, done.stored) == (True, 2, {("late", "scored"): 2})
    assert await backfill(room, {"late": registered})
    assert sorted(scorer.seen) == sorted(e.id for e in sent)  # each judged, hence paid, once
    assert room.sql("SELECT n_scored, population FROM score_cells WHERE scorer='late'") == [(6, 60)]


async def test_a_queue_does_not_count_towards_the_deadline(room, exchange, tally, stated_scorer):
    """The turn of these judgements comes long after the deadline of one answer."""
    await kept(room, exchange, tally)
    registered, scorer = judge(stated_scorer)
    short = replace(registered, deadline_s=0.02)
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        async with short.gate.turn(60), short.gate.turn(60):
            running = tasks.create_task(backfill(room, {"late": short}, concurrency=6))
            await asyncio.sleep(0.5)
            assert not scorer.seen
        done = await running
    assert done.stored == {("late", "scored"): 6}


async def test_a_running_consumer_and_the_backfill_share_the_work(room, exchange, tally, stated_scorer):
    """Old calls by the backfill, new ones by a consumer with the same scorer: every call once."""
    old = traffic(exchange, 40)
    room.scorers = {"stated": stated_scorer()}
    async with room.consuming():
        await room.send(*old, tally(old, seen={"default": 400, "slow": 20}))
        await room.until_read()
    new = traffic(exchange, 40, seed=2)
    late = {"late": stated_scorer(name="late")}
    room.scorers |= late
    async with room.consuming():
        await room.send(*new[:20])
        first = await backfill(room, late)
        await room.send(*new[20:], tally([*old, *new], seen={"default": 900, "slow": 50}))
        await room.until_read()
        await backfill(room, late)
    assert first.done >= 40
    assert room.sql("SELECT count(*), count(DISTINCT score_id) FROM scores WHERE scorer='late'") == [(80, 80)]
    columns = "alias, model, arm, stratum, n_scored, n_not_applicable, n_error, population"
    by_late, by_all = (
        sorted(
            room.sql(f"SELECT {columns} FROM score_cells WHERE scorer='{n}' AND n_scored + n_error > 0")  # noqa: S608
        )
        for n in ("late", "stated")
    )
    assert by_late == by_all


async def test_on_both_databases_the_sums_are_those_of_online_scoring(store, exchange, tally, stated_scorer):
    """`early` ran from the start, `late` on what was stored, in two parts."""
    scorers = {n: stated_scorer(name=n) for n in ("early", "late")}
    sent = [e for e in traffic(exchange, 60) if b'"boom"' not in e.response]
    store.scorers = {"early": scorers["early"]}
    store.write(*sent, tally(sent, seen={"default": 900, "slow": 40}))
    threads = ScoringThreads()
    async with Store(store.url) as opened:
        for most in (20, 0):
            late = {"late": scorers["late"]}
            run = Backfill(opened, late, EntryScorer(late, threads))
            done = await run.run(ExchangeFilter(most))
            assert done.complete
    threads.close()
    columns = COLUMNS.replace("round(total, 9), round(squares, 9), round(inverse_pi, 9)", "total, squares, inverse_pi")
    early, late = (
        sorted(store.sql(f"SELECT {columns} FROM score_cells WHERE scorer = '{n}'"))  # noqa: S608
        for n in ("early", "late")
    )
    assert [row[1:] for row in early] == [tuple(map(near, row[1:])) for row in late]


def near(value):
    return pytest.approx(value) if isinstance(value, float) else value


async def test_two_at_once_give_the_sums_of_one(store, exchange, tally, stated_scorer):
    """Both begin with everything; each result is stored by one of them, and the population is given out once."""
    scorers = {n: stated_scorer(name=n) for n in ("early", "late")}
    sent = [e for e in traffic(exchange, 80) if b'"boom"' not in e.response]
    store.scorers = {"early": scorers["early"]}
    store.write(*sent, tally(sent, seen={"default": 901, "slow": 43}))
    late, threads = {"late": scorers["late"]}, ScoringThreads()
    async with Store(store.url) as one, Store(store.url) as other:
        runs = [Backfill(each, late, EntryScorer(late, threads), concurrency=2) for each in (one, other)]
        await asyncio.gather(*(run.run(ALL) for run in runs))
    threads.close()
    columns = "alias, model, arm, stratum, n_scored, n_not_applicable, n_error, population"
    early, found = (
        sorted(store.sql(f"SELECT {columns} FROM score_cells WHERE scorer = '{n}'"))  # noqa: S608
        for n in ("early", "late")
    )
    assert found == early
    assert store.sql("SELECT count(*) FROM scores WHERE scorer = 'late'") == [(len(sent),)]


async def test_exchanges_that_a_predictor_drew_are_not_scored_later(room, exchange, tally, stated_scorer):
    """An answer that was not drawn then has no probability with which it would be judged now."""
    room.scorers["stated"] = stated_scorer(share=0.5)
    room.predictor = PredictorConfig(target="stated", share=0.3)
    sent = [exchange("1") for _ in range(40)]
    async with room.consuming():
        await room.send(*sent, tally(sent))
        await room.until_read()
    before = rows(room, "stated")
    assert 0 < len(before) < 40
    done = await backfill(room, {"stated": stated_scorer(share=1.0), "other": stated_scorer(name="other")})
    assert rows(room, "stated") == before
    assert len(rows(room, "other")) == done.done == 40
