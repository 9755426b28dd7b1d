"""A guard as a candidate under real traffic: nothing is sent twice, callers notice nothing, and each call of the
experiment makes a pair of what went out and what would have gone out if the guard had blocked."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest
import yaml

from gateway.config.derive import plans_of
from gateway.config.guard_candidates import guard_candidate
from gateway.core.completion import completion_of, is_empty
from gateway.core.exchange import Exchange
from gateway.core.guards import GuardDecision, GuardRamp, from_json, to_json
from gateway.core.plan import PlanState
from gateway.fake import FakeUpstream
from gateway.proxy.experiments.guard_copies import refusal_copy, why_no_copy
from gateway.proxy.guards.ramp_poller import GuardRampPoller
from gateway.proxy.request.call import Call, Caller
from gateway.proxy.routing.assignment import RunningExperiment
from gateway.proxy.routing.assignment import running as running_of
from tests.config.test_guard_candidates import config_of

INVOICE = {"name": "invoice", "regex": "invoice [0-9]{1,9}"}
GUARD = {"on": "answer", "scorer": "patterns", "patterns": [INVOICE], "text": "{guard} refused {id}"}
EXPERIMENT = {
    "model": "chat",
    "control": {"upstream": "u0", "model": "model-u0"},
    "candidate": {"guard": "own"},
    "primary": "refusal",
    "margin": 0.02,
}
Make = Callable[..., Any]


@pytest.fixture
def make(start: Any, configured: Callable[..., dict[str, Any]], upstream: FakeUpstream) -> Make:
    """A gateway whose guard is the candidate. guard, experiment: changes to them."""

    async def go(guard: Any = {}, experiment: Any = {}, **sections: Any) -> Any:  # noqa: B006 - read only
        made = configured(upstream, scorers={"refusal": {}}, **sections)
        return await start(
            {**made, "guards": {"own": {**GUARD, **guard}}, "experiments": {"e": {**EXPERIMENT, **experiment}}}
        )

    return go


async def quiet(gateway: Any) -> None:
    await gateway.until(lambda: not gateway.gateway.in_use)


def pairs_of(records: list[Exchange]) -> dict[str, tuple[Exchange, Exchange]]:
    """text of the request → (the served record, the candidate's)."""
    served = {e.id: e for e in records if e.role == "served"}
    return {
        json.loads(served[e.pair].request)["messages"][-1]["content"]: (served[e.pair], e)
        for e in records
        if e.pair is not None
    }


@pytest.mark.parametrize("stream", [False, True])
async def test_a_hit_is_compared_with_its_refusal(make: Make, upstream: FakeUpstream, stream: bool) -> None:
    gateway = await make()
    upstream.replies(lambda asked: f"To {asked.json['messages'][-1]['content']}: as agreed.")
    for text in ("hello", "pay invoice 77"):
        reply = await gateway.chat(text, stream=stream)
        assert reply.status_code == 200
        assert "x-gateway-guard" not in reply.headers
    await quiet(gateway)
    found = pairs_of(await gateway.recorded(4))
    assert len(upstream.calls) == 2, "no request is sent for a guard"
    served, copy = found["hello"]
    assert copy.tied
    assert (copy.role, copy.arm, copy.pi, copy.stratum) == ("shadow", "candidate", 1.0, "shadow:e")
    assert completion_of(copy).text == completion_of(served).text
    (served, copy), marked = next((pair, text) for text, pair in found.items() if text != "hello")
    assert "77" not in marked + completion_of(served).text, "the record has a mark in place of what matched"
    assert served.asked == ("candidate",)
    assert (copy.tied, copy.outcome, copy.status, copy.attempts) == (None, "ok", 200, ())
    refusal = completion_of(copy)
    assert (refusal.text, refusal.finish_reason) == (f"own refused {served.id}", "content_filter")
    assert copy.usage == served.usage, "the upstream has produced the answer"
    assert [(d.action, d.acted) for d in from_json(copy.guards)] == [("block", True)]
    assert [(d.action, d.acted) for d in from_json(served.guards)] == [("observe", False)]
    assert await gateway.metric("gateway_shadow_total", result="tied") == 1
    assert await gateway.metric("gateway_shadow_total", result="refused") == 1
    assert await gateway.metric("gateway_shadow_total") == 2


async def test_a_request_that_would_be_refused_uses_no_tokens(make: Make, upstream: FakeUpstream) -> None:
    gateway = await make(guard={"on": "request"})
    reply = await gateway.chat("pay invoice 77")
    assert reply.status_code == 200
    await quiet(gateway)
    ((served, copy),) = pairs_of(await gateway.recorded(2)).values()
    assert served.usage is not None
    assert copy.usage is None
    assert completion_of(copy).text == f"own refused {served.id}"


async def test_no_hit_is_drawn_more_often_into_pairs(make: Make, upstream: FakeUpstream) -> None:
    """Hits are recorded far more often than other calls, and pairs are drawn from all of them with one probability. A
    binomial count of 400 is outside 7 deviations with a probability below 1e-11."""
    upstream.replies(lambda asked: asked.json["messages"][-1]["content"])
    gateway = await make(experiment={"shadow": 0.5}, sampling={"rate": 0.0})
    for i in range(400):
        await gateway.chat("hello" if i % 2 else f"invoice {i}")
    await quiet(gateway)
    done = await gateway.metric("gateway_shadow_total")
    refused = await gateway.metric("gateway_shadow_total", result="refused")
    assert abs(done - 200) < 7 * math.sqrt(100)
    assert abs(refused - done / 2) < 7 * math.sqrt(done / 4)
    copies = [e for e in await gateway.recorded(200) if e.pair]
    assert {e.pi for e in copies} == {0.5}


async def test_calls_on_which_the_guard_acts_make_no_pair(
    make: Make, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ramp that blocks for some units takes all of their calls out, not only those with a hit."""

    async def nothing(poller: GuardRampPoller) -> None: ...

    monkeypatch.setattr(GuardRampPoller, "look", nothing)  # it would end the ramp, which is in no stream
    gateway = await make()
    gateway.gateway.guards.all[0].ramps["own"] = GuardRamp("block", "observe", 1.0, "d", b"s")
    upstream.replies(lambda asked: asked.json["messages"][-1]["content"])
    await gateway.chat("hello")
    blocked = await gateway.chat("invoice 7")
    assert blocked.json()["choices"][0]["finish_reason"] == "content_filter"
    await quiet(gateway)
    assert await gateway.metric("gateway_shadow_total", result="not_offered_guard_enforced") == 1
    assert await gateway.metric("gateway_shadow_total") == 1


async def test_calls_that_it_does_not_judge_are_tied(make: Make, upstream: FakeUpstream) -> None:
    keys = [{"name": n, "sha256": sha256(n.encode()).hexdigest()} for n in ("web", "app")]
    gateway = await make(guard={"keys": ["app"]}, keys=keys)
    for key in ("web", "app"):
        headers = {"authorization": f"Bearer {key}"}
        body = {"model": "chat", "messages": [{"role": "user", "content": "invoice 7"}]}
        upstream.says("invoice 7")
        assert (await gateway.client.post("/chat/completions", json=body, headers=headers)).status_code == 200
    await quiet(gateway)
    copies = {e.caller: e.tied for e in await gateway.recorded(4) if e.pair}
    assert copies == {"web": True, "app": None}


async def test_a_changed_guard_ends_the_pairs_of_the_plan(
    make: Make, configured: Callable[..., dict[str, Any]], upstream: FakeUpstream
) -> None:
    """A plan that is started by hand waits for its new start."""
    gateway = await make(experiment={"start": "manual"})
    experiments = gateway.gateway.router.experiments
    plan = experiments.plans["e"]
    await gateway.corridor.state.set_plan(PlanState(plan, "running", 0.0), None)
    await gateway.until(lambda: "e" in gateway.gateway.router.experiments.in_force)
    changed = config_as_written(gateway)
    changed["guards"]["own"]["text"] = "No."
    gateway.write(changed)
    await gateway.until(lambda: gateway.gateway.router.experiments is not experiments)
    assert gateway.gateway.router.experiments.in_force == {}
    await gateway.chat("invoice 7")
    await quiet(gateway)
    assert await gateway.metric("gateway_shadow_total") == 0


def config_as_written(gateway: Any) -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load(gateway.config_path.read_text())
    return read


def decided(**changes: Any) -> str:
    return to_json([replace(GuardDecision("own", "answer", "observe", "pass", False, 0.0), **changes)])


@pytest.mark.parametrize(
    ("guard", "decision", "refused"),
    [
        ({}, {"result": "pass"}, False),
        ({}, {"result": "near"}, False),
        ({}, {"result": "hit", "score": 1.0}, True),
        ({}, {"result": "failed", "score": None, "failure": "timeout"}, True),
        ({"if_late": "pass"}, {"result": "failed", "score": None, "failure": "timeout"}, False),
        ({"if_late": "block"}, {"result": "failed", "score": None, "failure": "timeout"}, True),
        ({"if_late": "block"}, {"result": "failed", "score": None, "failure": "breaker_open"}, True),
    ],
)
@pytest.mark.parametrize("api", ["chat", "completions", "responses", "messages"])
def test_a_guard_that_fails_does_what_if_late_says(
    guard: dict[str, Any], decision: dict[str, Any], refused: bool, api: str, exchange: Any
) -> None:
    running = running_with(guard)
    of = running.guards["candidate"]
    judged = decided(config_hash=of.config_hash, **decision)
    served = replace(exchange("hello"), api=api, guards=judged, plan=running.hash)
    call = Call("1", 0.0, 0.0, Caller("web"), "chat", b"POST", b"/x", "chat", False, b"{}")
    assert why_no_copy(of, call, judged) is None
    copy = refusal_copy(served, running, "candidate")
    assert (copy is not None) is refused
    if copy is not None:
        answer = completion_of(copy)
        assert f"report the call {served.id}" in answer.text
        assert is_empty(copy, answer) is False


def test_a_decision_of_another_config_makes_no_pair() -> None:
    """A call that was in flight while the guard's config changed."""
    running = running_with({})
    call = Call("1", 0.0, 0.0, Caller("web"), "chat", b"POST", b"/x", "chat", False, b"{}")
    assert why_no_copy(running.guards["candidate"], call, decided(config_hash="other")) == "guard_undecided"
    assert why_no_copy(running.guards["candidate"], call, None) == "guard_undecided"


def test_calls_without_recorded_content_make_no_pair() -> None:
    """No scorer could tell the refusal from the answer."""
    of = running_with({}).guards["candidate"]
    call = Call("1", 0.0, 0.0, Caller("web", content="metadata"), "chat", b"POST", b"/x", "chat", False, b"{}")
    assert why_no_copy(of, call, decided(config_hash=of.config_hash, result="hit", score=1.0)) == "no_content"


def running_with(guard: dict[str, Any]) -> RunningExperiment:
    config = config_of({"own": guard})
    plan = plans_of(config)["e"]
    found = guard_candidate(config, plan.target("candidate"))
    assert found is not None
    made = running_of(plan, config.experiments["e"], secret=b"s")
    return replace(made, guards={"candidate": found})
