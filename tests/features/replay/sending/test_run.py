"""One run of a replay, and its pairwise judges."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from gateway.config.loading import load
from gateway.config.scorers import ScorerConfig
from gateway.fake import FakeAnswer, Received
from gateway.features.gateway_choice import GatewayLocation
from gateway.features.replay.datasets.datasets import scan
from gateway.features.replay.options import ReplayOptions
from gateway.features.replay.replay import replay
from gateway.features.replay.rows import Replay, ReplayStore
from gateway.features.replay.sending.asking import ReplayRequest, RequestPacing
from gateway.features.replay.sending.run import BATCH, LocalScoring, ReplayProgress, ReplayRun, ReplayStopped, against
from gateway.features.targets import ReplayTarget
from gateway.scorers.exact import Exact
from gateway.scoring.gate import ScorerGate
from gateway.scoring.registry import build, build_all

Key = tuple[int, str, int]


def keys(asked: list[ReplayRequest]) -> Counter[Key]:
    return Counter((ask.item.number, ask.target.name, ask.repeat) for ask in asked)


async def test_every_target_is_asked_every_row_repeats_times(desk, scripted) -> None:
    asker = scripted()
    progress = await desk.run(asker, desk.job(repeats=3))
    assert keys(asker.at) == Counter((i, t, r) for i in range(1, 41) for t in ("one", "two") for r in (1, 2, 3))
    assert (progress.total, progress.done, progress.before, progress.failed) == (240, 240, 0, 0)
    assert progress.usd == pytest.approx(0.24)
    assert len(desk.stored()) == 480


async def test_a_second_run_sends_nothing(desk, scripted) -> None:
    await desk.run(scripted())
    asker = scripted()
    progress = await desk.run(asker)
    assert asker.at == []
    assert (progress.before, progress.done) == (80, 0)


async def test_a_cancelled_run_continues_to_the_same_end(desk, scripted, tmp_path) -> None:
    await desk.run(scripted())
    undisturbed = desk.stored()
    desk.store = f"sqlite:///{tmp_path / 'other.db'}"
    asked: list[ReplayRequest] = []
    for after in (7, 11, 30):
        asker, reached = scripted(), asyncio.Event()

        class Watched:
            async def ask(self, ask: ReplayRequest, asker=asker, reached=reached, after=after):
                if len(asker.at) == after:
                    reached.set()
                    await asyncio.Event().wait()
                return await asker.ask(ask)

        running = asyncio.ensure_future(desk.run(Watched()))  # noqa: TID251 - awaited below
        await reached.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        asked += asker.at
    last = scripted()
    await desk.run(last)
    assert desk.stored() == undisturbed
    twice = sum(n - 1 for n in keys(asked + last.at).values())
    assert twice <= 3 * 4, "only requests in flight are sent twice"


async def test_answers_that_wait_to_be_stored_are_bounded(desk, scripted) -> None:
    """A killed replay asks again for its requests in flight and for two batches, however slow its store is."""
    writing, free = asyncio.Event(), asyncio.Event()

    class SlowStore(ReplayStore):
        async def keep(self, *written) -> None:
            writing.set()
            await free.wait()
            await super().keep(*written)

    asker, job = scripted(), replace(desk.job(repeats=5), scorers={})
    async with SlowStore(desk.store, lambda: 5.0) as store:
        await store.begin(Replay(job.name, "d", job.design.dataset, job.design.hash, job.design.json, 1.0))
        run = ReplayRun(job, store, asker, LocalScoring(desk.threads), lambda _: None)
        running = asyncio.ensure_future(run.run())  # noqa: TID251 - awaited below
        await writing.wait()
        for _ in range(5000):  # turns of the loop, in which all that can be asked is asked
            await asyncio.sleep(0)
        assert BATCH <= len(asker.at) <= job.pace.concurrency + 2 * BATCH
        free.set()
        await running
    assert len(asker.at) == 400


async def test_failures_are_retried_and_answers_are_kept(desk, scripted) -> None:
    failing = scripted(fails=lambda ask, n: ask.item.number % 4 == 0)
    progress = await desk.run(failing)
    assert progress.failed == 20
    assert progress.last_error in ("one: HTTP 503: no", "two: HTTP 503: no")
    again = scripted(shares={"one": 0.0, "two": 0.0})
    await desk.run(again)
    assert {ask.item.number % 4 for ask in again.at} == {0}
    assert Counter(row[3] for row in desk.stored()) == {"ok": 160}


async def test_a_later_scorer_scores_the_stored_answers(desk, scripted) -> None:
    await desk.run(scripted())
    before = desk.stored()
    desk.scorers = build({"exact": ScorerConfig(), "f1": ScorerConfig(), "length": ScorerConfig()})
    asker = scripted()
    await desk.run(asker)
    assert asker.at == []
    assert [row for row in desk.stored() if row[5] != "length"] == before
    assert sum(row[5] == "length" for row in desk.stored()) == 80


async def test_a_target_that_keeps_failing_stops_the_run(desk, scripted) -> None:
    asker = scripted(fails=lambda ask, n: ask.target.name == "two" and ask.item.number > 5)
    with pytest.raises(ReplayStopped, match="6 requests to two failed in a row; the last error: HTTP 503: no"):
        await desk.run(asker, desk.job(stop_after=6))
    stored = Counter(row[3] for row in desk.stored() if row[1] == "two")
    assert stored["failed"] >= 6
    await desk.run(scripted())
    assert Counter(row[3] for row in desk.stored()) == {"ok": 160}


async def test_the_budget_includes_the_cost_of_earlier_runs(desk, scripted) -> None:
    asker = scripted(cost_usd=0.5)
    progress = await desk.run(asker, desk.job(budget_usd=5.0))
    assert progress.over_budget
    assert 10 <= progress.done <= 10 + 4, "requests in flight are awaited"
    spent = progress.usd
    more = scripted(cost_usd=0.5)
    progress = await desk.run(more, desk.job(budget_usd=5.0))
    assert (more.at, progress.usd, progress.over_budget) == ([], spent, True)
    progress = await desk.run(more, desk.job(budget_usd=100.0))
    assert not progress.over_budget
    assert progress.before + progress.done == 80


async def test_answers_without_a_price_cost_nothing(desk, scripted) -> None:
    progress = await desk.run(scripted(cost_usd=None), desk.job(budget_usd=0.01))
    assert (progress.done, progress.usd, progress.over_budget) == (80, 0.0, False)


async def test_answers_of_different_designs_do_not_mix(desk, scripted) -> None:
    await desk.run(scripted())
    other = replace(desk.job((ReplayTarget("one", "one", definition="changed"),)), name="other")
    asker = scripted()
    await desk.run(asker, other)
    assert len(asker.at) == 40


async def test_the_watcher_is_called_after_every_answer(desk, scripted, threads) -> None:
    from gateway.features.replay.sending.run import ReplayRun

    seen: list[int] = []

    def watch(progress: ReplayProgress) -> None:
        seen.append(progress.done)

    async with ReplayStore(desk.store) as store:
        await ReplayRun(desk.job(), store, scripted(), LocalScoring(threads), watch).run()
    assert seen == list(range(1, 81))


async def test_a_judges_queue_is_not_its_deadline(desk, scripted) -> None:
    """The judge's turn comes long after the deadline of one answer, and no score is lost."""
    [registered] = build({"exact": ScorerConfig()}).values()
    gate = ScorerGate("exact", 1)
    scorer = Waiting("exact")
    desk.scorers = {"exact": replace(registered, scorer=scorer, gate=gate, waits=True, deadline_s=0.02)}
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        async with gate.turn(60):
            running = tasks.create_task(desk.run(scripted()))
            await asyncio.sleep(0.3)
        await running
    assert desk.rowsof("select status, count(*) from scores group by 1") == [("scored", 80)]


class Waiting(Exact):
    """Light, so that it is called on the event loop, where its turn can be held."""

    heavy = False


OPTIONS = ReplayOptions(("one", "two"), ("preferred",), pace=RequestPacing(attempts=1))


def question_of(asked: Received) -> str:
    return str(asked.json["messages"][-1]["content"])


def answers(asked: Received) -> FakeAnswer | str:
    """Model one gives short answers, model two long ones, and an error for each sixth question, where one fails with
    each tenth.
    """
    model, prompt = asked.json["model"], question_of(asked)
    if model == "judge":  # it prefers the longer answer, in either position
        first, second = prompt.index("Answer 1"), prompt.index("Answer 2")
        long = "long " * 3 in prompt[first:second]
        return orjson.dumps({"reason": "so", "better": "1" if long else "2"}).decode()
    number = int(prompt.removeprefix("question "))
    if number % (6 if model == "two" else 10) == 5:
        return FakeAnswer(b'{"error": {"message": "no"}}', status=400)
    return "long " * 3 if model == "two" else "short"


@pytest.fixture
def place(gateway_yaml, tmp_path: Path, served) -> GatewayLocation:
    """The location of a gateway with a pairwise judge."""
    served.replies(answers)
    judge = {"use": "judge", "model": "judge", "kind": "pairwise"}
    upstream_of = {"one": "one", "two": "two", "judge": "one"}
    models = {name: {"targets": [{"upstream": u, "model": f"m-{name}"}]} for name, u in upstream_of.items()}
    path = gateway_yaml(models=models, scorers={"preferred": judge})
    return GatewayLocation(path, load(path), tmp_path / "data", served.base_url)


async def test_the_preference_of_a_judge_is_compared_with_a_tie(
    place: GatewayLocation, questions: Callable[[int], Path], served
) -> None:
    dataset, quiet = scan(questions(60)), lambda _: None
    found = await replay(dataset, OPTIONS, place, quiet, quiet)
    [report] = found.reports
    assert report.primary is not None
    failed_two = {n for n in range(60) if n % 6 == 5}
    failed_one = {n for n in range(60) if n % 10 == 5}
    both = failed_one & failed_two
    pairs = 60 - len(both)
    lost = len(failed_two - failed_one)
    assert report.primary.pairs == pairs, "of two failures nobody is preferred"
    assert report.primary.b.value == pytest.approx((pairs - lost) / pairs)
    assert report.primary.a.value == 0.5
    assert report.primary.difference.value == pytest.approx((pairs - lost) / pairs - 0.5)
    assert (report.wins.wins, report.wins.losses) == (pairs - lost, lost)
    judged = 60 - len(failed_one | failed_two)
    calls = [r for r in served.calls if r.json["model"] == "judge"]
    assert len(calls) == 2 * judged, "in both orders"
    again = await replay(dataset, OPTIONS, place, quiet, quiet)
    assert again.reports[0].primary == report.primary
    assert sum(r.json["model"] == "judge" for r in served.calls) == 2 * judged, "and never again"


async def test_another_control_is_another_comparison(place, questions, served) -> None:
    """The same answers, the other way round."""
    dataset, quiet = scan(questions(30)), lambda _: None
    forward = await replay(dataset, OPTIONS, place, quiet, quiet)
    back = await replay(dataset, replace(OPTIONS, targets=("two", "one")), place, quiet, quiet)
    one, other = forward.reports[0].primary, back.reports[0].primary
    assert one.difference.value > 0
    assert one.difference.value == pytest.approx(-other.difference.value)


def test_the_identity_names_the_control() -> None:
    pairs = build_all({"d": ScorerConfig(use="edit_distance")}).pairs
    hashes = {against(pairs, control)["d"].config_hash for control in ("one", "two")} | {pairs["d"].config_hash}
    assert len(hashes) == 3
