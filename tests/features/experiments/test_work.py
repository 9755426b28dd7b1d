"""One leased consumer moves experiments forward; killed at any moment, another comes to the same intervals."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, field, replace
from typing import Any

import orjson
import pytest

from gateway.consumer.consumer import ConsumerTiming
from gateway.core.plan import HarmStop, PlanState, StoredPlan
from gateway.core.score import Score
from gateway.scorers.edit_distance import EditDistance
from gateway.scoring.gate import ScorerGate
from gateway.scoring.registry import RegisteredPair, RegisteredScorer
from gateway.store.plan_evidence import StoredEvidence
from gateway.store.query import reading
from gateway.store.sequences import states
from gateway.verdict.findings import finding

# Entries of a dead consumer can be claimed at once.
AT_ONCE = ConsumerTiming(block_ms=20, tick_s=0.0, claim_s=0.0, heartbeat_s=0.01, claim_idle_ms=0, most_deliveries=99)


def outcome(room: Any, plan: Any) -> Any:
    """The result, which must not depend on which consumer did the work, or when."""
    with reading(room.store_url) as connection:
        sequences = {str(name): state for name, state in states(connection, plan.hash).items()}
    return (
        sequences,
        room.sql("SELECT id, place, state, arms FROM pairs ORDER BY place"),
        room.sql("SELECT metric, candidate, n, low, high FROM trails ORDER BY 1, 2, 3"),
    )


def traffic(plan: Any, paired: Any, n: int) -> list[Any]:
    rng = random.Random(2)
    sent = []
    for i in range(n):
        arms: dict[str, str | None] = {"candidate": "failed" if i % 17 == 3 else f"{rng.random():.3f}"}
        arms |= {"repeat": f"{rng.random():.3f}"} if i % 2 else {}
        sent += paired(plan, f"{rng.random():.3f}", arms)
    return sent


@pytest.fixture
def distances() -> dict[str, RegisteredPair]:
    """The scorer of pairs `edit`."""
    return {"edit": RegisteredPair(EditDistance("edit"), 1.0, 10.0, "c1")}


async def test_killed_consumers_come_to_the_same_result(room: Any, plan: Any, paired: Any, distances: Any) -> None:
    """Consumers are cancelled at arbitrary points; the last one finds the same as one that was never disturbed."""
    room.pairs = distances
    sent = traffic(plan, paired, 120)
    await room.begin(plan)
    rng, at = random.Random(3), 0
    for life in range(8):
        async with room.opened(f"life-{life}", AT_ONCE) as (consumer, _), asyncio.TaskGroup() as tasks:
            running = tasks.create_task(consumer.run())
            await room.send(*sent[at : at + 30])
            at += 30
            await room.until_read() if life % 2 else await asyncio.sleep(0)
            for _ in range(rng.randrange(40)):
                await asyncio.sleep(0)
            running.cancel()
    async with room.consuming("last", AT_ONCE):
        await room.send(*sent[at:])
        await room.until_settled(120)
    disturbed = outcome(room, plan)

    calm = replace(room, store_url=room.store_url + ".calm", stream_name=f"{room.stream_name}-calm")
    calm.corridor = type(room.corridor)(room.stream_url, calm.stream_name)
    await calm.begin(plan)
    async with calm.consuming():
        await calm.send(*sent)
        await calm.until_settled(120)
    await calm.corridor.aclose()
    assert outcome(calm, plan) == disturbed


def path_gate_of(room: Any, plan: Any) -> Any:
    with reading(room.store_url) as connection:
        found = finding(StoredEvidence(connection, StoredPlan(plan, plan.hash, "running", 1.0)), "candidate")
    return next((gate for gate in found.gates if gate.name == "path"), None), found.decision


async def test_another_request_to_the_candidate_withholds_every_verdict(room: Any, plan: Any, paired: Any) -> None:
    await room.begin(plan)
    async with room.consuming():
        for i in range(40):
            made = paired(plan, "0.9", {"candidate": "0.1"}, request_digest="openai:aa")
            if i == 7:
                made[1] = replace(made[1], request_digest="openai:bb")
                odd = made[0].id
            if i == 8:
                made[1] = replace(made[1], request_digest="anthropic:aa")
            await room.send(*made)
        await room.until_settled(40)
    gate, decision = path_gate_of(room, plan)
    assert gate.state == -1
    assert f"1 of 39 requests to shadow arms differ from the served request: {odd}" in gate.says
    assert decision.verdict == "hold"
    assert gate.says in "; ".join(decision.reasons)


@dataclass(frozen=True)
class Partial:
    """A StatedScorer that is kinder to one arm."""

    name: str = "stated"
    version: str = "1"
    kind: str = "code"
    direction: str = "maximise"
    bounds: tuple[float, float] = (0.0, 1.0)
    heavy: bool = False
    kinder: bool = True

    async def score(self, subject: Any) -> Score:
        bonus = 0.05 if self.kinder and subject.exchange.role == "shadow" else 0.0
        return Score(float(subject.completion.text) + bonus, "number", "why")

    def golden(self) -> tuple[Any, ...]:
        return ()


@pytest.mark.parametrize(("kinder", "state"), [(False, 1), (True, -1)])
async def test_a_scorer_that_favours_an_arm_is_noticed(
    room: Any, plan: Any, paired: Any, kinder: bool, state: int
) -> None:
    """Stored answers of the control are scored again as a candidate's would be; the draw takes one in ten."""
    room.scorers = {"stated": RegisteredScorer(Partial(kinder=kinder), 1.0, 10.0, "c1")}  # type: ignore[arg-type]
    await room.begin(plan)
    async with room.consuming():
        await room.send(*(e for _ in range(150) for e in paired(plan, "0.5", {"candidate": "0.5"})))
        await room.until_settled(150)
        await room.until(lambda: path_gate_of(room, plan)[0] is not None)
    gate, decision = path_gate_of(room, plan)
    assert gate.state == state
    assert ("get a different score when scored like a candidate's" in gate.says) == kinder
    assert "scored again, with the same result" in gate.says or kinder
    assert (gate.says in "; ".join(decision.reasons)) == kinder


async def test_one_consumer_leads_and_only_it_shows_figures(room: Any, plan: Any, paired: Any) -> None:
    await room.begin(plan)
    async with room.consuming("one") as one, room.consuming("two") as two:
        await room.until(lambda: room.leads("one") != room.leads("two"))
        await room.send(*traffic(plan, paired, 20))
        await room.until_settled(20)
        leader, other = (one, two) if room.leads("one") else (two, one)
        await room.until(lambda: any(f.pairs == 20 for f in leader.metrics.figures.experiments))
        assert other.metrics.figures.experiments == ()
    async with room.consuming("three"):
        await room.until(lambda: room.leads("three"))


async def test_prometheus_shows_what_the_report_shows(room: Any, plan: Any, paired: Any) -> None:
    from gateway.features.experiments.report.build import report_of

    await room.begin(plan)
    async with room.consuming() as desk:
        await room.send(*traffic(plan, paired, 60))
        await room.until_settled(60)
        await room.until(lambda: any(f.pairs == 60 for f in desk.metrics.figures.experiments))
        (shown,) = desk.metrics.figures.experiments
        text = {
            (s.name, s.labels.get("metric") or s.labels.get("gate") or s.labels.get("verdict", "")): s.value
            for family in desk.metrics.collect()
            for s in family.samples
            if s.name.startswith("gateway_experiment")
        }
    with reading(room.store_url) as connection:
        report = report_of(connection, "swap")
    primary = report.primary
    assert text["gateway_experiment_difference", "stated"] == primary.difference.value
    assert text["gateway_experiment_difference_low", "stated"] == primary.difference.low
    assert text["gateway_experiment_difference_high", "stated"] == primary.difference.high
    assert text["gateway_experiment_margin", "stated"] == 0.1
    assert text["gateway_experiment_pairs_total", ""] == report.pairs == 60
    assert text["gateway_experiment_verdict", report.verdict] == 1.0
    assert text["gateway_experiment_gate", "losses"] == {g.name: g.state for g in report.gates}["losses"]
    assert shown.candidate == "candidate"


@dataclass
class Prefers:
    """Prefers the candidate's answer, and remembers the pairs."""

    asked: list[Any] = field(default_factory=list)
    name: str = "prefers"
    version: str = "1"
    kind: str = "llm"
    direction: str = "maximise"
    bounds: tuple[float, float] = (0.0, 1.0)
    heavy: bool = False

    async def compare(self, pair: Any) -> Score:
        self.asked.append(pair)
        return Score(1.0, "b", "because", {"flip": 0.0, "first_slot": 0.5})

    def golden(self) -> tuple[()]:
        return ()


async def test_each_pair_is_judged_once_and_failed_arms_never(room: Any, plan: Any, paired: Any) -> None:
    judge = Prefers()
    room.pairs = {"prefers": RegisteredPair(judge, 1.0, 10.0, "c1", gate=ScorerGate("prefers"))}  # type: ignore[arg-type]
    await room.begin(plan)
    sent = traffic(plan, paired, 20)
    async with room.consuming("one"):
        await room.send(*sent)
        await room.until_settled(20)
    async with room.consuming("two"):
        await room.send(*sent)  # all of it again
        await room.until_read()
    failed = sum(e.outcome != "ok" for e in sent)
    arms = sum(e.role != "served" for e in sent)
    assert len(judge.asked) == arms - failed
    assert {pair.first for pair in judge.asked} == {"a", "b"}
    stored = room.sql("SELECT value, status FROM pair_scores WHERE arm = 'candidate'")
    assert sorted(stored) == [(0.0, "scored")] * failed + [(1.0, "scored")] * (20 - failed)
    with reading(room.store_url) as connection:
        sequences = {n.candidate: s for n, s in states(connection, plan.hash).items() if n.metric == "prefers"}
    assert sequences["candidate"]["preference"] is True
    assert sequences["candidate"]["spread"][0] == 20


async def test_all_arms_of_a_pair_are_judged_or_none(room: Any, plan: Any, paired: Any) -> None:
    judge = Prefers()
    room.pairs = {"prefers": RegisteredPair(judge, 0.5, 10.0, "c1")}  # type: ignore[arg-type]
    await room.begin(plan)
    sent = [e for _ in range(60) for e in paired(plan, "0.5", {"candidate": "0.5", "repeat": "0.5"})]
    async with room.consuming():
        await room.send(*sent)
        await room.until_settled(60)
    by_pair: dict[str, int] = {}
    for pair in judge.asked:
        by_pair[pair.a.exchange.id] = by_pair.get(pair.a.exchange.id, 0) + 1
    assert set(by_pair.values()) == {2}
    assert 12 < len(by_pair) < 48


async def test_distances_feed_the_likeness_test(room: Any, plan: Any, paired: Any, distances: Any) -> None:
    room.pairs = distances
    await room.begin(plan)
    sent = [e for _ in range(30) for e in paired(plan, "0.55", {"candidate": "0.9", "repeat": "0.55"})]
    async with room.consuming():
        await room.send(*sent)
        await room.until_settled(30)
    rows = room.sql("SELECT arm, min(value), max(value), count(*) FROM pair_scores GROUP BY arm ORDER BY arm")
    assert rows == [("candidate", 0.5, 0.5, 30), ("repeat", 0.0, 0.0, 30)]
    (row,) = room.sql("SELECT state FROM sequences WHERE metric = 'edit' AND candidate = 'candidate'")
    assert orjson.loads(row[0])["test"]["n"] == 30


async def test_a_stopped_plan_is_settled_to_its_end(room: Any, plan: Any, paired: Any) -> None:
    from gateway.core.plan import PlanState
    from gateway.store.plans import stored_plans

    await room.begin(plan)
    known = (await room.corridor.state.plans())["swap"]
    assert await room.corridor.state.set_plan(PlanState(plan, "stopped", known.since + 1), known)
    async with room.consuming():
        await room.send(*traffic(plan, paired, 5))
        await room.until_settled(5)
    with reading(room.store_url) as connection:
        assert stored_plans(connection) == [StoredPlan(plan, plan.hash, "stopped", known.since + 1)]


async def test_a_plan_stops_at_its_horizon(room: Any, plan: Any, paired: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Further pairs, which were under way, move nothing; a restart of the consumer does not start it again."""
    caplog.set_level("INFO")
    plan = replace(plan, method="hybrid", max_pairs=20, aa="alarm")
    await room.begin(plan)
    async with room.consuming():
        await room.send(*traffic(plan, paired, 19))
        await room.until_settled(19)
        assert (await room.corridor.state.plans())["swap"].running
        await room.send(*traffic(plan, paired, 6))
        await room.until_settled(25)
        async with asyncio.timeout(20):
            while (await room.corridor.state.plans())["swap"].running:
                await asyncio.sleep(0.01)
    with reading(room.store_url) as connection:
        found = {(name.candidate, name.metric): state for name, state in states(connection, plan.hash).items()}
    assert found["candidate", "stated"]["difference"]["n"] == 20
    assert found["candidate", "failed alone"]["difference"]["n"] == 25
    assert "experiment swap reached its horizon of 20 pairs; verdict on candidate: " in caplog.text
    async with room.consuming():
        await room.until_read()
    assert not (await room.corridor.state.plans())["swap"].running


async def test_the_last_pairs_are_settled_on_shutdown(room: Any, plan: Any, paired: Any) -> None:
    await room.begin(plan)
    async with room.consuming():
        await room.send(*traffic(plan, paired, 10))
        await room.until_read()
    assert room.sql("SELECT count(*) FROM pairs WHERE place IS NOT NULL") == [(10,)]
    assert room.sql("SELECT holder FROM leases WHERE name = 'experiments'") == [], "the lease is given back"


async def test_the_report_shows_pairs_saved_by_unshadowed_requests(
    room: Any, plan: Any, paired: Any, exchange: Any
) -> None:
    """The difference follows the control's score, whose mean is known from more requests than the pairs."""
    from gateway.features.experiments.report.build import report_of
    from gateway.verdict.report.as_json import to_dict
    from gateway.verdict.report.presentation import saving

    plan = replace(plan, method="hybrid", max_pairs=400, auto_horizon=True, aa="alarm", adjust=True, shadow=0.5)
    rng, sent = random.Random(5), []
    for i in range(150):
        mine = {"experiment": plan.name, "plan": plan.hash, "target": plan.control, "arm": "control"}
        sent += [exchange(f"{rng.random():.3f}", stratum="default+swap", **mine) for _ in range(2)]
        arms = {"candidate": f"{0.45 + 0.1 * rng.random():.3f}"} | ({"repeat": "0.5"} if i % 2 else {})
        sent += paired(plan, f"{rng.random():.3f}", arms)
    await room.begin(plan)
    async with room.consuming():
        await room.send(*sent)
        await room.until_settled(150)
    with reading(room.store_url) as connection:
        report = report_of(connection, "swap")
    primary = to_dict(report)["primary"]
    assert 0.15 < primary["saved"] < 0.5, "half of what the score explains, since half of the requests are pairs"
    assert primary["unadjusted"] == pytest.approx(primary["b"] - primary["a"])
    assert primary["horizon"] == pytest.approx(400 * (1 - primary["saved"]), abs=1)
    assert f"saves {primary['saved']:.0%} of the pairs" in saving(report.primary)


def clear(plan: Any, paired: Any, n: int) -> list[Any]:
    """The candidate is worse by 0.6 in every pair."""
    arms = ({"candidate": "0.2", "repeat": "0.8"} if i % 2 else {"candidate": "0.2"} for i in range(n))
    return [each for a in arms for each in paired(plan, "0.8", a)]


async def until_stopped(room: Any) -> None:
    async with asyncio.timeout(20):
        while (await room.corridor.state.plans())["swap"].running:
            await asyncio.sleep(0.01)


async def test_pairs_in_progress_do_not_change_a_verdict(
    room: Any, plan: Any, paired: Any, caplog: pytest.LogCaptureFixture
) -> None:
    from gateway.features.experiments.report.build import report_of

    caplog.set_level("INFO")
    plan = replace(plan, method="hybrid", max_pairs=300, aa="alarm", after_verdict="stop")
    await room.begin(plan)
    async with room.consuming():
        await room.send(*clear(plan, paired, 30))
        await until_stopped(room)
        with reading(room.store_url) as connection:
            decided = report_of(connection, "swap")
        await room.send(*[each for _ in range(9) for each in paired(plan, "0", {"candidate": "1"})])
        await room.until(lambda: room.sql("SELECT count(*) FROM pairs WHERE state = 'not_asked'") == [(9,)])
    with reading(room.store_url) as connection:
        after = report_of(connection, "swap")
    assert "experiment swap stops with its verdict; verdict on candidate: reject" in caplog.text
    assert (after.verdict, after.primary) == (decided.verdict, decided.primary) == ("reject", decided.primary)
    assert dict(after.withheld)["after the verdict"] == 9
    assert ("stops", "with its verdict") in after.design


async def test_a_plan_that_is_to_continue_takes_pairs_after_its_verdict(room: Any, plan: Any, paired: Any) -> None:
    plan = replace(plan, method="hybrid", max_pairs=300, aa="alarm", after_verdict="continue")
    await room.begin(plan)
    async with room.consuming() as desk:
        await room.send(*clear(plan, paired, 30))
        await room.until_settled(30)
        await room.until(lambda: any(f.verdict == "reject" for f in desk.metrics.figures.experiments))
        await room.send(*clear(plan, paired, 9))
        await room.until_settled(39)
        assert (await room.corridor.state.plans())["swap"].running
    assert room.sql("SELECT n FROM sequences WHERE metric = 'stated' AND candidate = 'candidate'") == [(39,)]


async def test_a_plan_about_others_without_units_is_stopped(
    room: Any, plan: Any, exchange: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The consumer refuses for a plan that a gateway starts what `gateway ab start` refuses."""
    now = time.time()
    plan = replace(plan, rules=3, method="hybrid", aa="alarm", auto_horizon=True, max_pairs=288, population="others")
    async with room.consuming():
        nameless = {"alias": "chat", "api": "chat", "user_digest": None, "request": b'{"messages":[]}'}
        await room.send(*(exchange(str(i), received=now - 600.0 + i, **nameless) for i in range(60)))
        await room.until_read()
        assert await room.corridor.state.set_plan(PlanState(plan, "running", now, unpaced=True))
        async with asyncio.timeout(60):
            while (state := (await room.corridor.state.plans())["swap"]).unpaced:
                await asyncio.sleep(0.01)
    assert state.state == "stopped"
    assert "names its user or conversation" in caplog.text
    assert "set `population: these`; the experiment is stopped" in caplog.text


async def test_a_plan_that_a_gateway_starts_is_spread_over_the_hours(
    room: Any, plan: Any, exchange: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A command reads the store before the start; for a plan that a gateway starts, the consumer does it afterwards."""
    caplog.set_level("INFO")
    now = time.time()
    plan = replace(plan, rules=2, method="hybrid", aa="alarm", auto_horizon=True, max_pairs=288, min_hours=24.0)
    async with room.consuming():
        await room.send(
            *(exchange(str(i), alias="chat", api="chat", received=now - 7200.0 + 15.0 * i) for i in range(480))
        )
        await room.until_read()
        cleared = HarmStop(now - 60.0, 70, -0.2, 0.0, cleared=now - 30.0)
        assert await room.corridor.state.set_plan(PlanState(plan, "running", now, unpaced=True, more=40, harm=cleared))
        async with asyncio.timeout(60):
            while (state := (await room.corridor.state.plans())["swap"]).unpaced:
                await asyncio.sleep(0.01)
        await room.until(lambda: room.sql("SELECT plan FROM plans") == [(state.plan.hash,)])
    assert (state.plan.shadow, state.plan.shadow_asked) == (0.056, 1.0), "1.1 times 288 pairs from 24 × 240 calls"
    assert state.running
    assert (state.more, state.harm) == (40, cleared)
    assert state.plan.same_design(plan)
    assert "shadow is lowered from 1 to 0.056" in caplog.text
