"""The controller on a real stream server and a real store: it begins, advances, rolls back, and keeps the audit."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from typing import Any

import orjson
import pytest
from prometheus_client import CollectorRegistry

from gateway.config.loading import parse
from gateway.consumer.serve import opened
from gateway.core.exchange import Exchange
from gateway.core.plan import Plan, PlanState
from gateway.core.ramp import RampChange, RampDesign, RampPace, RampRecord, advanced, overridden, paused, resumed
from gateway.features.isolation import IsolatedWork, WorkLimits
from gateway.features.ramp.work import RampController
from gateway.store.plans import save_plans, stored_plans
from gateway.store.store import Store

DESIGN = RampDesign((0.1, 0.5, 1.0), 60.0, 3)
AUTO = {"swap": RampPace("auto", cooldown_s=100.0)}


@dataclass
class Controlled:
    """A controller whose clock the test moves."""

    controller: RampController
    room: Any
    store: Store
    plan: Plan
    now: float

    async def round(self, passed: float = 5.0) -> RampRecord:
        self.now += passed
        await self.controller.step(await self.store.run(stored_plans))
        return (await self.room.corridor.ramps.records())["swap"]

    async def put(self, plan: Plan, state: str = "running") -> None:
        given = PlanState(plan, state, self.now)  # type: ignore[arg-type]
        await self.store.run(lambda c: save_plans(c, [given], self.now))

    def audit(self) -> list[tuple[Any, ...]]:
        return self.room.sql("SELECT version, kind, actor FROM ramp_events ORDER BY version")  # type: ignore[no-any-return]


@pytest.fixture
def ramped(plan: Plan) -> Plan:
    """The plan with a ramp by request, and without guardrails."""
    return replace(plan, mode="both", method="anytime", aa="alarm", ramp=DESIGN, unit="request", guardrails=())


@pytest.fixture
async def controlled(room: Any, ramped: Plan) -> AsyncIterator[Controlled]:
    """A ramp's controller on a room's store and stream, with a clock that the test sets."""
    async with Store(room.store_url) as store:
        made = Controlled(None, room, store, ramped, time.time())  # type: ignore[arg-type]
        made.controller = RampController(store, room.corridor, AUTO, every_s=0.0, full_s=0.0, clock=lambda: made.now)
        await made.put(ramped)
        yield made


@pytest.fixture
def pairs(room: Any, paired: Callable[..., list[Exchange]], ramped: Plan) -> Callable[..., Any]:
    """Sends pairs through a consumer until they are settled."""

    async def send(n: int, candidate: str) -> None:
        async with room.consuming():
            await room.begin(ramped)
            for i in range(n):
                arms = {"candidate": candidate, "repeat": "0.5"}
                await room.send(*paired(ramped, "0.5", arms, unit=f"u{i}"))
            await room.until_settled(n)

    return send


async def test_a_ramp_begins_with_shadows_and_waits_for_a_verdict(controlled: Controlled) -> None:
    first = await controlled.round()
    assert (first.state, first.version, first.by) == ("shadow", 1, "controller")
    held = await controlled.round()
    assert held == first
    evidence = orjson.loads(await controlled.room.corridor.ramps.evidence("swap"))
    assert evidence["verdict"] == "hold"
    assert evidence["decision"]["action"] == "hold"
    assert controlled.audit() == [(1, "shadowing", "controller")]
    assert (await controlled.room.corridor.ramps.waiting()).ids == (), "the audit has them"


async def test_a_good_candidate_steps_up_and_a_broken_one_rolls_back(
    controlled: Controlled, pairs: Callable[..., Any], room: Any, exchange: Callable[..., Exchange], ramped: Plan
) -> None:
    await pairs(120, "0.6")
    controlled.now = time.time()
    await controlled.round(0.0)
    step = await controlled.round()
    assert (step.state, step.step) == ("ramp", 0), controlled.controller.standings

    async def serve(arm: str, n: int, **more: Any) -> None:
        same = {"experiment": "swap", "plan": ramped.hash, "target": ramped.target(arm), "arm": arm}
        async with room.consuming():
            await room.send(*(exchange("0.6", received=controlled.now + 2, **{**same, **more}) for _ in range(n)))
            await room.until_read()

    await serve("candidate", 3)
    await serve("control", 300)
    assert (await controlled.round()).step == 0, "it soaks"
    assert (await controlled.round(61.0)).step == 0
    assert "no alarm could tell" in controlled.controller.standings[0].decision.reason
    await serve("candidate", 9)
    assert (await controlled.round()).step == 1
    await serve("candidate", 12, status=502, outcome="upstream_error")
    await serve("control", 300)
    back = await controlled.round(3.0)
    assert (back.state, back.share(DESIGN)) == ("rolled_back", 0.0)
    assert back.reason.startswith("error_rate at step 2: worse by more than 0.02 on served answers")
    assert back.cooling_until == controlled.now + 100.0
    assert await controlled.round() == back, "it stays"
    assert [kind for _, kind, _ in controlled.audit()] == ["shadowing", "advanced", "advanced", "rolled_back"]
    (evidence,) = room.sql("SELECT evidence FROM ramp_events WHERE kind = 'rolled_back'")
    assert orjson.loads(evidence[0])["decision"]["action"] == "roll_back"


async def test_a_promoted_candidate_that_breaks_rolls_back(
    controlled: Controlled, room: Any, exchange: Callable[..., Exchange], ramped: Plan
) -> None:
    ramps, same = room.corridor.ramps, {"experiment": "swap", "plan": ramped.hash}

    async def moves() -> None:
        known = (await ramps.records())["swap"]
        assert await ramps.change(known, advanced(known, DESIGN, RampChange(controlled.now, "mia", "ready")), b"{}")

    async def served(n: int, **of: Any) -> None:
        async with room.consuming():
            await room.send(*(exchange("1", received=controlled.now + 2, **{**same, **of}) for _ in range(n)))
            await room.until_read()
        controlled.now += 10

    await controlled.round()
    await moves()
    await moves()
    await served(300, arm="control", target=ramped.control)
    await moves()
    await moves()
    assert (await controlled.round()).state == "promoted"
    broken = {"arm": "candidate", "target": ramped.target("candidate"), "status": 502, "outcome": "upstream_error"}
    await served(12, **broken)
    back = await controlled.round()
    assert (back.state, back.by) == ("rolled_back", "controller"), controlled.controller.standings


async def test_a_reject_of_the_shadows_ends_the_ramp_before_its_first_step(
    controlled: Controlled, pairs: Callable[..., Any]
) -> None:
    await pairs(120, "0.1")
    controlled.now = time.time()
    await controlled.round(0.0)
    back = await controlled.round()
    assert (back.state, back.step) == ("rolled_back", -1)
    assert "worse by more than 0.1" in back.reason


async def test_a_record_that_the_server_lost_is_put_back_from_the_audit(controlled: Controlled) -> None:
    await controlled.round()
    ramps = controlled.room.corridor.ramps
    known = (await ramps.records())["swap"]
    forced = overridden(known, DESIGN, RampChange(controlled.now, "mia", "we know it"))
    assert await ramps.change(known, forced, b"{}")
    await controlled.round()
    await controlled.room.corridor.client.delete(f"{controlled.room.corridor.state.prefix}:ramps")
    back = await controlled.round()
    assert (back.state, back.step, back.version, back.since) == ("ramp", 0, 3, forced.since)
    assert "put back" in back.reason
    assert "we know it" in back.reason
    older = replace(back, version=1)
    await controlled.room.corridor.client.hset(
        f"{controlled.room.corridor.state.prefix}:ramps", "swap", older.to_json()
    )
    assert (await controlled.round()).version == 4, "a server that lost its last seconds"
    assert [kind for _, kind, _ in controlled.audit()][:3] == ["shadowing", "overridden", "restored"]


async def test_a_change_by_a_person_in_between_wins(controlled: Controlled) -> None:
    first = await controlled.round()
    held = paused(first, RampChange(controlled.now, "mia", "lunch"))
    assert await controlled.room.corridor.ramps.change(first, held, b"{}")
    assert not await controlled.room.corridor.ramps.change(first, replace(first, version=2), b"{}")
    assert (await controlled.round()).paused
    (standing,) = controlled.controller.standings
    assert standing.decision.reason == "paused by mia: lunch"


async def test_a_stopped_experiment_ends_its_ramp(controlled: Controlled) -> None:
    await controlled.round()
    controlled.now += 1
    await controlled.put(controlled.plan, "stopped")
    assert (await controlled.round()).state == "stopped"
    controlled.now += 1
    await controlled.put(controlled.plan)
    again = await controlled.round()
    assert (again.state, again.version) == ("shadow", 3)


async def test_a_new_plan_begins_with_shadows_again(controlled: Controlled) -> None:
    await controlled.round()
    await controlled.put(controlled.plan, "stopped")
    controlled.now += 1
    await controlled.put(replace(controlled.plan, margin=0.2))
    fresh = await controlled.round()
    assert (fresh.plan, fresh.state, fresh.version) == (replace(controlled.plan, margin=0.2).hash, "shadow", 2)


async def test_a_gateway_that_stopped_reporting_holds(controlled: Controlled) -> None:
    await controlled.round()
    with contextlib.suppress(KeyError):
        await controlled.room.corridor.state.set_gateway_heartbeat("g1", {"at": controlled.now - 20})
    await controlled.round()
    evidence = orjson.loads(await controlled.room.corridor.ramps.evidence("swap"))
    assert evidence["lost_gateways"] == 1


async def test_between_two_full_looks_a_candidate_that_breaks_is_taken_back(
    controlled: Controlled, room: Any, exchange: Callable[..., Exchange], ramped: Plan
) -> None:
    """A full look is due in an hour, as with very many answers; failures are looked at every time."""
    known = await controlled.round()
    forced = overridden(known, DESIGN, RampChange(controlled.now, "mia", "we know it"))
    assert await room.corridor.ramps.change(known, forced, b"{}")
    hourly = RampController(
        controlled.store, room.corridor, AUTO, every_s=0.0, full_s=3600.0, clock=lambda: controlled.now
    )
    controlled.controller = hourly
    assert (await controlled.round()).state == "ramp"
    same = {"experiment": "swap", "plan": ramped.hash, "received": controlled.now}
    bad = {"arm": "candidate", "target": ramped.target("candidate"), "status": 502, "outcome": "upstream_error"}
    async with room.consuming():
        await room.send(*(exchange("1", arm="control", target=ramped.control, **same) for _ in range(300)))
        await room.send(*(exchange("1", **{**same, **bad}) for _ in range(12)))
        await room.until_read()
    back = await controlled.round()
    assert (back.state, back.by) == ("rolled_back", "controller")
    assert back.reason.startswith("error_rate at step 1")


async def test_a_step_whose_units_do_not_fit_its_share_is_paused_once(
    controlled: Controlled, room: Any, exchange: Callable[..., Exchange]
) -> None:
    """The calls of a key never reach the candidate at a share of 0.1."""
    plan = controlled.plan = replace(controlled.plan, rules=2)
    controlled.now += 1
    await controlled.put(plan)
    known = await controlled.round()
    ramps = room.corridor.ramps
    assert await ramps.change(known, advanced(known, DESIGN, RampChange(controlled.now, "mia", "ready")), b"{}")
    same = {"experiment": "swap", "plan": plan.hash, "received": controlled.now + 2, "stratum": "split:swap"}
    control, candidate = ({"arm": arm, "target": plan.target(arm), **same} for arm in ("control", "candidate"))
    async with room.consuming():
        await room.send(*(exchange("0.5", caller="batch", **control) for _ in range(400)))
        await room.send(*(exchange("0.5", **control) for _ in range(90)))
        await room.send(*(exchange("0.5", **candidate) for _ in range(10)))
        await room.until_read()
    held = await controlled.round()
    assert (held.paused, held.by) == (True, "controller"), controlled.controller.standings
    assert "10 of 500 units had the candidate, where 0.1 was planned" in held.reason
    assert "key batch" in held.reason
    assert await ramps.change(held, resumed(held, RampChange(controlled.now, "mia", "it is known")), b"{}")
    assert not (await controlled.round()).paused, "a person has seen it"


HELD = replace(DESIGN, holdout=0.1, holdout_days=28.0)


async def promoted(controlled: Controlled) -> RampRecord:
    """A ramp of a plan by the present rules, promoted, with its holdout."""
    controlled.plan = replace(controlled.plan, rules=2, ramp=HELD)
    controlled.now += 1
    await controlled.put(controlled.plan)
    known = await controlled.round()
    forced = overridden(known, HELD, RampChange(controlled.now, "mia", "we know it"), full=True)
    assert await controlled.room.corridor.ramps.change(known, forced, b"{}")
    return await controlled.round()


async def test_a_holdout_ends_by_itself_after_its_days(controlled: Controlled) -> None:
    record = await promoted(controlled)
    assert (record.state, record.share(HELD)) == ("promoted", 0.9)
    assert (await controlled.round(27 * 86_400.0)).share(HELD) == 0.9
    ended = await controlled.round(86_400.0)
    assert (ended.state, ended.share(HELD), ended.reason) == ("promoted", 1.0, "the holdout ends: its 28 days are over")
    assert [kind for _, kind, _ in controlled.audit()] == ["shadowing", "overridden", "holdout_ended"]
    assert await controlled.round() == ended, "once"


async def test_a_holdout_ends_when_another_experiment_of_the_model_starts(controlled: Controlled) -> None:
    await promoted(controlled)
    controlled.now += 1
    await controlled.put(replace(controlled.plan, name="next", ramp=None, rules=1))
    assert (await controlled.round()).reason == "the holdout ends: next has started on chat"


async def test_a_holdout_ends_when_the_config_has_no_control_any_more(controlled: Controlled) -> None:
    await promoted(controlled)
    controlled.controller = RampController(
        controlled.store, controlled.room.corridor, AUTO, 0.0, 0.0, lambda: controlled.now, lambda plan: False
    )
    ended = await controlled.round()
    assert (ended.share(HELD), ended.reason) == (
        1.0,
        "the holdout ends: the config has no local/small for chat any more",
    )


async def test_a_holdout_says_what_the_switch_did(
    controlled: Controlled, room: Any, exchange: Callable[..., Exchange]
) -> None:
    """The control's answers are worse by 0.05; both arms are drawn from the same traffic."""
    await promoted(controlled)
    plan = controlled.plan
    same = {"experiment": "swap", "plan": plan.hash, "received": controlled.now + 2, "stratum": "split:swap"}
    async with room.consuming():
        for arm, text, n in (("control", "0.6", 150), ("candidate", "0.65", 600)):
            of = {"arm": arm, "target": plan.target(arm), **same}
            await room.send(*(exchange(text, **of) for _ in range(n)))
            bad = {"status": 502, "outcome": "upstream_error"}
            await room.send(*(exchange("0", **of, **bad) for _ in range(n // 50)))
        await room.until_read()
    controlled.controller = RampController(controlled.store, room.corridor, AUTO, 0.0, 0.0, lambda: controlled.now)
    await controlled.round(3_600.0)
    evidence = orjson.loads(await room.corridor.ramps.evidence("swap"))
    found = {each["metric"]: each for each in evidence["switch"]}
    assert found["stated"]["difference"] == pytest.approx(0.05, abs=0.01)
    assert -0.1 < found["stated"]["low"] < 0.05 < found["stated"]["high"] < 0.2
    assert found["error_rate"]["units"] == [153, 612]
    ended = await controlled.round(28 * 86_400.0)
    assert ended.share(HELD) == 1.0
    await controlled.round()
    kept = orjson.loads(await room.corridor.ramps.evidence("swap"))["switch"]
    assert {each["metric"]: each for each in kept} == found, "it stays, though nobody has the control any more"


async def test_the_consumer_of_a_config_moves_its_ramps(room: Any, ramped: Plan) -> None:
    text = f"""
open: true
upstreams: {{local: {{kind: vllm, base_url: "http://127.0.0.1:1/v1"}}}}
models: {{chat: {{targets: [{{upstream: local, model: small}}]}}}}
stream: {{url: "{room.stream_url}", name: "{room.stream_name}"}}
"""
    await room.begin(ramped)
    async with (
        opened(parse(text), room.store_url, room.stream_url, CollectorRegistry()) as consumer,
        asyncio.TaskGroup() as tasks,
        asyncio.timeout(60),
    ):
        tasks.create_task(consumer.run())
        while "swap" not in await room.corridor.ramps.records():
            await asyncio.sleep(0.02)
        consumer.stop()
    assert room.sql("SELECT kind FROM ramp_events") == [("shadowing",)]


class Unreadable(Store):
    """A store whose evidence cannot be read."""

    async def look(self, work: Any) -> Any:
        raise ValueError("planted")


async def test_a_ramp_whose_evidence_fails_serves_nobody(controlled: Controlled, room: Any, ramped: Plan) -> None:
    """The experiment stops, too, and another start begins it again."""
    await controlled.put(ramped)
    await room.begin(ramped)
    assert (await controlled.round()).state == "shadow"
    isolated = IsolatedWork(limits=WorkLimits(tries=2, failing_s=0.0))
    async with Unreadable(room.store_url) as broken:
        fine, controlled.controller = (
            controlled.controller,
            RampController(broken, room.corridor, AUTO, 0.0, 0.0, lambda: controlled.now, isolated=isolated),
        )
        assert (await controlled.round()).state == "shadow", "one failure stops nothing"
        record = await controlled.round()
    assert (record.state, record.by) == ("stopped", "controller")
    assert record.reason.startswith("its evidence cannot be read: ValueError; once its cause is mended, `gateway ab ")
    assert list(isolated.stopped()) == ["ramp of swap"]
    assert (await room.corridor.state.plans())["swap"].state == "stopped"
    controlled.controller, controlled.now = fine, controlled.now + 5.0
    await room.begin(ramped)
    await controlled.put(ramped)
    assert (await controlled.round()).state == "shadow"


async def test_by_rules_3_a_ramp_reads_the_hours_of_its_models_calls(
    controlled: Controlled, room: Any, exchange: Callable[..., Exchange], ramped: Plan
) -> None:
    """Hours count from four quarter-hours with calls of the last week on; with `min_hours: 0` none is read."""
    day = 86_400.0 * math.floor(controlled.now / 86_400.0) - 2 * 86_400.0
    at = [day + 3600.0 * hour + 900.0 * quarter for hour, quarters in ((5, 4), (6, 3)) for quarter in range(quarters)]
    async with room.consuming():
        await room.send(*(exchange("0.6", received=seconds + 1.0) for seconds in at))
        await room.until_read()

    async def evidence(plan: Plan) -> Any:
        await controlled.put(ramped, "stopped")
        await controlled.put(plan)
        await controlled.round()
        await controlled.round()
        return orjson.loads(await room.corridor.ramps.evidence("swap"))

    by_hours = replace(ramped, rules=3, min_hours=24.0)
    found = await evidence(by_hours)
    assert found["hours"]["missing"] == [5]
    assert 6 in found["hours"]["without_calls"]
    await controlled.put(by_hours, "stopped")
    assert "hours" not in await evidence(replace(by_hours, min_hours=0.0))
