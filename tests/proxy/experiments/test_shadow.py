"""The candidate is asked once the served answer has ended, off the client's path, and never waits for a place."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest
import yaml

from gateway.core.exchange import Target
from gateway.core.plan import CONVERSATION_PAIRS, PlanState
from gateway.fake import HOLD, FakeUpstream, Fault
from gateway.proxy.experiments.idle_queue import IdleQueue

SWAP: dict[str, Any] = {
    "model": "chat",
    "control": {"upstream": "u0", "model": "model-u0"},
    "candidate": {"upstream": "u1", "model": "new"},
    "shadow": 1.0,
    "repeat_control": 0.0,
    "aa": "proof",
    "headers": "all",
}
Make = Callable[..., Any]


@pytest.fixture
async def make(
    start: Any, configured: Callable[..., dict[str, Any]], upstream: FakeUpstream, second: FakeUpstream
) -> Make:
    """A gateway that shadows every call of `chat` at the second upstream. changes: of the experiment; total_s: of the
    alias, and so the shadow's deadline."""

    async def go(
        rate: float = 0.0, upstream_1: dict[str, Any] | None = None, total_s: float = 20.0, **changes: Any
    ) -> Any:
        experiments = {"swap": {**SWAP, **changes}}
        sampling = {"rate": rate}
        chat = {"fallback": [], "timeouts": {"connect_s": 2, "total_s": total_s}}
        config = configured(upstream, second, chat=chat, experiments=experiments, sampling=sampling)
        config["upstreams"]["u1"] |= upstream_1 or {}
        quiet = {"name": "quiet", "sha256": sha256(b"quiet").hexdigest(), "sample": "never"}
        return await start({**config, "keys": [*config["keys"], quiet]})

    return go


def by_role(exchanges: list[Any]) -> dict[str, Any]:
    return {e.role: e for e in exchanges}


async def counted(gateway: Any, result: str) -> None:
    """Waits until the shadow has been counted so."""
    async with asyncio.timeout(60):
        while await gateway.metric("gateway_shadow_total", experiment="swap", result=result) == 0:
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
async def test_the_pair_is_recorded_each_with_its_own_probability(
    make: Make, upstream: FakeUpstream, second: FakeUpstream, stream: bool
) -> None:
    upstream.says("served")
    second.says("shadow")
    gateway = await make(shadow=1.0, rate=0.0)
    reply = await gateway.chat("hi", stream=stream, seed=7, temperature=0.5)
    assert b"served" in reply.content
    assert reply.headers["x-gateway-arm"] == "control"
    roles = by_role(await gateway.recorded(2))
    served, shadow = roles["served"], roles["shadow"]
    assert (served.id, shadow.pair) == (reply.headers["x-request-id"], served.id)
    assert shadow.id != served.id
    assert (served.target, shadow.target) == (Target("u0", "model-u0"), Target("u1", "new"))
    assert (served.arm, shadow.arm) == ("control", "candidate")
    assert served.plan == shadow.plan
    assert (served.pi, served.stratum) == (1.0, "default+swap")
    assert (shadow.pi, shadow.stratum) == (1.0, "shadow:swap")
    assert b"shadow" in shadow.response
    assert shadow.usage is not None
    assert (shadow.stream, shadow.first_token_s is not None) == (stream, stream)


async def test_the_shadow_differs_in_model_and_seed_only(
    make: Make, upstream: FakeUpstream, second: FakeUpstream
) -> None:
    gateway = await make()
    await gateway.chat("hi", seed=7, temperature=0.5, unknown={"kept": 1})
    asked = (await second.next_received()).json
    wanted = upstream.received[0].json
    assert wanted.pop("seed") == 7
    assert asked == {**wanted, "model": "new"}


async def test_the_client_never_waits_for_the_shadow(make: Make, second: FakeUpstream) -> None:
    second.says("one ", HOLD, "two")
    gateway = await make()
    assert (await gateway.chat()).status_code == 200
    await second.next_received()
    assert [e.role for e in await gateway.recorded(1)] == ["served"]
    second.release()
    assert by_role(await gateway.recorded(2))["shadow"].outcome == "ok"


async def test_the_shadow_starts_after_the_served_answer(
    make: Make, upstream: FakeUpstream, second: FakeUpstream
) -> None:
    upstream.says("one ", HOLD, "two")
    gateway = await make()
    async with gateway.stream() as reply:
        async for line in reply.aiter_lines():
            if "one " in line:
                assert not second.received
                upstream.release()
    await second.next_received()


FAILURES = [
    (Fault.status(500), "upstream_error", 502),
    (Fault.reset(), "upstream_error", 502),
    (Fault.content_policy(), "upstream_error", 400),
    (Fault.silence(), "timeout", 504),
]


@pytest.mark.parametrize(("fault", "outcome", "status"), FAILURES, ids=[f[0].name for f in FAILURES])
async def test_a_candidate_that_fails_is_a_result_and_is_asked_once(
    make: Make, second: FakeUpstream, fault: Fault, outcome: str, status: int
) -> None:
    second.always(fault)
    gateway = await make(total_s=0.3)
    await gateway.chat()
    shadow = by_role(await gateway.recorded(2))["shadow"]
    assert (shadow.outcome, shadow.pi, len(shadow.attempts)) == (outcome, 1.0, 1)
    assert len(second.received) == 1
    await counted(gateway, "asked_failed")


async def test_shadows_that_do_not_fit_are_counted_and_not_asked(make: Make, second: FakeUpstream) -> None:
    second.always(Fault.silence())
    gateway = await make(budget={"concurrency": 1})
    await gateway.chat()
    await second.next_received()
    await gateway.chat()
    await counted(gateway, "not_offered_busy")
    assert len(second.received) == 1


@pytest.mark.parametrize("fault", [None, Fault.status(500)], ids=["answered", "failed"])
async def test_a_shadow_that_has_ended_makes_room_for_the_next(make: Make, second: FakeUpstream, fault: Any) -> None:
    second.always(fault)
    gateway = await make(budget={"concurrency": 1})
    for n in (1, 2, 3):
        await gateway.chat()
        await second.until(lambda u, n=n: len(u.calls) == n)  # type: ignore[misc]
        await gateway.until(lambda: gateway.gateway.shadow.running == 0)


async def test_a_shadow_takes_no_place_that_a_client_waits_for(make: Make, second: FakeUpstream) -> None:
    """An upstream with a limit: a shadow that would have to wait there is not asked."""
    gateway = await make(upstream_1={"concurrency": 1}, budget={"concurrency": 4})
    limiter = gateway.gateway.upstreams["u1"].limiter
    await limiter.acquire()
    await gateway.chat()
    await counted(gateway, "not_offered_busy")
    assert (limiter.waiting, second.received) == (0, [])
    limiter.release()
    await gateway.chat()
    await second.next_received()


async def test_a_candidate_that_is_down_is_not_asked(make: Make, second: FakeUpstream) -> None:
    gateway = await make()
    gateway.gateway.router.target_state(Target("u1", "new")).upstream.down = True
    await gateway.chat()
    await counted(gateway, "not_offered_target_down")
    assert not second.calls


@pytest.mark.parametrize("fields", [{"store": True}, {"web_search_options": {}}, {"web_search_options": {"a": 1}}])
async def test_requests_with_effects_are_not_repeated(make: Make, second: FakeUpstream, fields: Any) -> None:
    gateway = await make()
    assert (await gateway.chat(**fields)).status_code == 200
    await counted(gateway, "not_offered_has_effects")
    assert not second.calls


async def test_tokens_used_up_for_the_day_end_the_days_shadows(make: Make, second: FakeUpstream) -> None:
    gateway = await make(budget={"tokens_per_day": 1})
    await gateway.chat()
    await counted(gateway, "asked")
    await gateway.chat()
    await counted(gateway, "not_offered_budget")
    assert len(second.calls) == 1


async def test_opted_out_callers_and_other_models_have_no_shadow(make: Make, second: FakeUpstream) -> None:
    gateway = await make(rate=1.0)
    body = {"model": "chat", "messages": [{"role": "user", "content": "x"}]}
    for headers in ({"authorization": "Bearer quiet"}, {"x-gateway-sample": "never"}):
        assert (await gateway.client.post("/chat/completions", json=body, headers=headers)).status_code == 200
    await gateway.chat()
    assert len(await gateway.recorded(2)) == 2
    assert len(second.calls) == 1


async def test_the_control_is_asked_again_as_the_candidate_is(
    make: Make, upstream: FakeUpstream, second: FakeUpstream
) -> None:
    """The control gets the same body without its seed, and a record of its own with its own probability."""
    gateway = await make(repeat_control=1.0, shadow=1.0)
    await gateway.chat("hi", seed=7, temperature=0.5)
    roles = by_role(await gateway.recorded(3))
    served, again, candidate = roles["served"], roles["control"], roles["shadow"]
    assert set(served.asked) == {"candidate", "repeat"}
    assert (again.arm, again.pair, again.target) == ("repeat", served.id, Target("u0", "model-u0"))
    assert (again.pi, again.stratum) == (1.0, "repeat:swap")
    bodies = [u.received[-1].json for u in (upstream, second)]
    assert [b.pop("model") for b in bodies] == ["model-u0", "new"]
    assert bodies[0] == bodies[1]
    assert "seed" not in bodies[0]
    assert candidate.pair == served.id


async def test_the_served_record_says_why_no_shadow_was_sent(
    make: Make, upstream: FakeUpstream, second: FakeUpstream
) -> None:
    """All arms or none: the control asked again alone would make no pair."""
    gateway = await make(repeat_control=1.0)
    gateway.gateway.router.target_state(Target("u1", "new")).upstream.down = True
    await gateway.chat()
    [served] = await gateway.recorded(1)
    assert (served.asked, served.not_asked) == ((), "target_down")
    assert (len(upstream.calls), second.calls) == (1, [])


async def test_priority_is_set_only_where_the_upstream_takes_it(make: Make, second: FakeUpstream) -> None:
    gateway = await make(upstream_1={"kind": "vllm", "priority": True})
    await gateway.chat()
    await second.until(lambda u: len(u.calls) == 1)
    assert second.calls[0].json["priority"] == 100


async def test_a_stopped_experiments_shadow_leaves_no_record(make: Make, second: FakeUpstream) -> None:
    second.says("one ", HOLD, "two")
    gateway = await make(budget={"concurrency": 1})
    await gateway.chat()
    await second.next_received()
    state = (await gateway.corridor.state.plans())["swap"]
    assert await gateway.corridor.state.set_plan(PlanState(state.plan, "stopped", 1.0), state)
    await second.until(lambda u: u.cancelled == 1)
    await gateway.until(lambda: gateway.gateway.shadow.running == 0)
    await counted(gateway, "given_up")
    reply = await gateway.chat()
    assert "x-gateway-experiment" not in reply.headers
    assert (len(second.calls), [e.role for e in gateway.exchanges if e.role != "served"]) == (1, [])


@pytest.fixture
def busy() -> list[bool]:
    """[True] while a call seems to be in flight."""
    return [True]


@pytest.fixture
def stopped(busy: list[bool]) -> Callable[[Any], None]:
    """Gives a gateway an idle queue for which a call is always in flight and no time passes: nothing queued runs."""

    def stop(gateway: Any) -> None:
        gateway.gateway.shadow.idle_queue = IdleQueue(lambda: busy[0], lambda: 0.0)

    return stop


async def test_while_calls_are_in_flight_no_shadow_work_runs(
    make: Make, second: FakeUpstream, stopped: Callable[[Any], None], busy: list[bool]
) -> None:
    """The shadow is not sent and the served answer not recorded until there is a moment for both."""
    gateway = await make()
    stopped(gateway)
    for _ in range(3):
        assert (await gateway.chat()).status_code == 200
    shadow = gateway.gateway.shadow
    assert (shadow.running, gateway.gateway.recorder.seq, second.received) == (3, 1, [])
    busy[0] = False
    assert Counter(e.role for e in await gateway.recorded(6)) == {"served": 3, "shadow": 3}


async def test_at_the_stop_waiting_calls_are_recorded_without_shadow(
    make: Make, second: FakeUpstream, stopped: Callable[[Any], None]
) -> None:
    gateway = await make()
    stopped(gateway)
    await gateway.chat()
    gateway.gateway.shadow.give_up()
    [served] = await gateway.recorded(1)
    assert (served.asked, served.not_asked) == ((), "busy")
    await gateway.chat()
    assert {e.not_asked for e in await gateway.recorded(2)} == {"busy"}
    assert (second.calls, gateway.gateway.shadow.running) == ([], 0)


async def shadowed_calls(gateway: Any, conversation: str, calls: int, **fields: Any) -> None:
    """Sends the calls of a conversation, each once it is settled what became of the last one's shadow."""
    before = await gateway.metric("gateway_shadow_total", experiment="swap")
    for n in range(1, calls + 1):
        await gateway.chat(metadata={"conversation_id": conversation}, **fields)
        async with asyncio.timeout(60):
            while await gateway.metric("gateway_shadow_total", experiment="swap") < before + n:
                await asyncio.sleep(0.005)


async def test_a_complete_conversation_has_no_further_shadow(make: Make, second: FakeUpstream) -> None:
    """A conversation counts 20 pairs at most: what comes later would be paid for and not count."""
    gateway = await make(rate=1.0)
    await shadowed_calls(gateway, "long", CONVERSATION_PAIRS + 3)
    assert len(second.received) == CONVERSATION_PAIRS
    left_out = await gateway.metric("gateway_shadow_total", result="not_offered_conversation_complete")
    assert left_out == 3
    await shadowed_calls(gateway, "another", 1)
    assert len(second.received) == CONVERSATION_PAIRS + 1
    served = [e for e in await gateway.recorded(2 * CONVERSATION_PAIRS + 5) if e.role == "served"]
    late = [(e.stratum, e.asked, e.not_asked) for e in served[CONVERSATION_PAIRS:-1]]
    assert late == [("default", (), None)] * 3, "it makes no pair"
    assert {e.stratum for e in (*served[:CONVERSATION_PAIRS], served[-1])} == {"default+swap"}


async def test_complete_conversations_outlive_a_reload(make: Make, second: FakeUpstream) -> None:
    gateway = await make()
    await shadowed_calls(gateway, "long", CONVERSATION_PAIRS)
    config = yaml.safe_load(gateway.config_path.read_text())
    config["sampling"]["rate"] = 0.5
    before = gateway.gateway
    gateway.write(config)
    await gateway.until(lambda: gateway.gateway is not before)
    await shadowed_calls(gateway, "long", 1)
    assert len(second.received) == CONVERSATION_PAIRS


async def test_a_plan_of_the_first_rules_shadows_every_call(make: Make, second: FakeUpstream) -> None:
    gateway = await make()
    state = (await gateway.corridor.state.plans())["swap"]
    older = replace(state.plan, rules=1, min_hours=0.0, empty="allowed", headers="all")
    assert await gateway.corridor.state.set_plan(PlanState(older, "running", state.since), state)
    await gateway.until(lambda: gateway.gateway.router.experiments.in_force["swap"].plan == older)
    await shadowed_calls(gateway, "long", CONVERSATION_PAIRS + 1)
    assert len(second.received) == CONVERSATION_PAIRS + 1


async def test_a_unit_of_both_is_complete_in_all_its_conversations(make: Make, second: FakeUpstream) -> None:
    """The consumer counts one mean for each unit. Calls that name none are complete by nothing."""
    gateway = await make(mode="both", split=1e-9, unit="user", primary="error_rate", min_hours=0)
    for n in range(CONVERSATION_PAIRS + 1):
        await shadowed_calls(gateway, f"c{n}", 1, user="zoe")
    assert len(second.received) == CONVERSATION_PAIRS
    await shadowed_calls(gateway, "same", CONVERSATION_PAIRS + 1)
    assert len(second.received) == 2 * CONVERSATION_PAIRS + 1
