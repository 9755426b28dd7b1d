"""A learned route over real sockets: as the target of a model, and as the candidate of an experiment."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import pytest
from fixtures.learned_routes import ROUTE, a_route, a_segment_route

from gateway.core.exchange import Target
from gateway.core.learned_route import RETURNED, RouteTarget, returned_to_json
from gateway.core.ramp import RampChange, overridden, started
from gateway.fake import FakeUpstream, Fault

KEY = "test-key"
CODE, PLAIN = "Write a Python function.", "What should I cook?"
LARGE, SMALL = Target("u0", "model-u0"), Target("u1", "small")
Make = Callable[..., Any]


@pytest.fixture
async def make(
    start: Any, configured: Callable[..., dict[str, Any]], upstream: FakeUpstream, second: FakeUpstream
) -> Make:
    """A gateway with the route as the target of `chat`; with `candidate`, as that of an experiment instead."""

    async def go(
        *, experiment: dict[str, Any] | None = None, route: Any = None, watch: float = 0, **sections: Any
    ) -> Any:
        upstream.says("large")
        second.says("small")
        config = configured(upstream, second, chat={"fallback": []}, **sections)
        if experiment is None:
            config["models"]["chat"]["targets"] = [{"route": ROUTE, "watch": watch}]
            config["scorers"] = {"valid_json": {}}
        else:
            swap = {"model": "chat", "control": {"upstream": "u0", "model": "model-u0"}, "candidate": {"route": ROUTE},
                    "shadow": 1.0, "repeat_control": 0.0, "aa": "proof", "headers": "all"}  # fmt: skip
            config["experiments"] = {"swap": {k: v for k, v in {**swap, **experiment}.items() if v is not None}}
            config["sampling"] = {"rate": 0.0}
        return await start(config, routes=[route or a_route()])

    return go


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
async def test_each_request_goes_where_its_leaf_says(make: Make, stream: bool) -> None:
    gateway = await make()
    replies = {text: await gateway.chat(text, stream=stream) for text in (CODE, PLAIN)}
    assert [b"large" in replies[CODE].content, b"small" in replies[PLAIN].content] == [True, True]
    assert [replies[t].headers["x-gateway-route"] for t in (CODE, PLAIN)] == [f"{ROUTE}/1", f"{ROUTE}/0"]
    assert replies[PLAIN].headers["x-gateway-model"] == "small"
    found = {e.route: e.target for e in await gateway.recorded(2)}
    assert found == {f"{ROUTE}/1": LARGE, f"{ROUTE}/0": SMALL}
    calls = {"alias": "chat", "route": ROUTE}
    assert await gateway.metric("gateway_route_calls_total", **calls, leaf="0", target="moved") == 1
    assert await gateway.metric("gateway_route_calls_total", **calls, leaf="1", target="control") == 1


async def test_a_model_without_a_route_says_nothing_of_one(gateway: Any) -> None:
    reply = await gateway.chat(PLAIN)
    assert "x-gateway-route" not in reply.headers
    assert [e.route for e in await gateway.recorded(1)] == [None]


async def test_a_small_model_that_fails_is_followed_by_the_control(make: Make, second: FakeUpstream) -> None:
    gateway = await make()
    second.always(Fault.status(500))
    reply = await gateway.chat(PLAIN)
    assert (reply.status_code, reply.headers["x-gateway-model"]) == (200, "model-u0")
    assert reply.json()["choices"][0]["message"]["content"] == "large"


async def test_the_small_model_never_stands_in_for_the_control(
    make: Make, upstream: FakeUpstream, second: FakeUpstream
) -> None:
    gateway = await make()
    upstream.always(Fault.status(500))
    assert (await gateway.chat(CODE)).status_code >= 500
    assert second.received == []


@pytest.mark.parametrize("text", ["Привет, как дела сегодня?", "请翻译这句话"], ids=["cyrillic", "cjk"])
async def test_a_script_that_was_not_learned_goes_to_the_control(make: Make, text: str) -> None:
    gateway = await make()
    reply = await gateway.chat(text)
    assert (reply.headers["x-gateway-route"], reply.headers["x-gateway-model"]) == (f"{ROUTE}/unlike", "model-u0")


async def test_another_api_goes_to_the_control(make: Make) -> None:
    gateway = await make()
    reply = await gateway.client.post("/embeddings", json={"model": "chat", "input": PLAIN})
    assert (reply.status_code, reply.headers["x-gateway-route"]) == (200, f"{ROUTE}/unlike")
    assert reply.headers["x-gateway-model"] == "model-u0"


async def test_a_conversation_keeps_its_model(make: Make) -> None:
    gateway = await make()
    for conversation, first, then, model in (("a", PLAIN, CODE, "small"), ("b", CODE, PLAIN, "model-u0")):
        found = []
        for text in (first, then):
            body = {"model": "chat", "messages": [{"role": "user", "content": text}]}
            headers = {"x-gateway-conversation": conversation}
            reply = await gateway.client.post("/chat/completions", json=body, headers=headers)
            found.append(reply.headers["x-gateway-model"])
        assert found == [model, model]


async def test_a_reload_moves_no_conversation(make: Make) -> None:
    gateway = await make()
    headers = {"x-gateway-conversation": "a"}
    body: dict[str, Any] = {"model": "chat", "messages": [{"role": "user", "content": PLAIN}]}
    await gateway.client.post("/chat/completions", json=body, headers=headers)
    before = gateway.gateway
    gateway.config_path.write_text(gateway.config_path.read_text() + "\n# a comment\n")
    await gateway.until(lambda: gateway.gateway is not before)
    body["messages"][0]["content"] = CODE
    reply = await gateway.client.post("/chat/completions", json=body, headers=headers)
    assert reply.headers["x-gateway-model"] == "small"


async def test_a_route_by_segment_keeps_the_calls_of_its_segment(make: Make) -> None:
    gateway = await make(route=a_segment_route())
    for product, model, leaf in (("code", "model-u0", 1), ("mail", "small", 0), ("code", "model-u0", 1)):
        reply = await gateway.chat(PLAIN, metadata={"product": product})
        assert (reply.headers["x-gateway-model"], reply.headers["x-gateway-route"]) == (model, f"{ROUTE}/{leaf}")
    assert (await gateway.chat(PLAIN)).headers["x-gateway-model"] == "small"


async def test_a_record_says_that_another_target_had_to_answer(make: Make, second: FakeUpstream) -> None:
    gateway = await make()
    await gateway.chat(PLAIN)
    second.always(Fault.status(500))
    await gateway.chat(PLAIN)
    await gateway.chat(CODE)
    found = [(e.route, e.target, e.fell_back) for e in sorted(await gateway.recorded(3), key=lambda e: e.received)]
    assert found == [(f"{ROUTE}/0", SMALL, None), (f"{ROUTE}/0", LARGE, True), (f"{ROUTE}/1", LARGE, None)]


async def test_a_chosen_target_is_not_the_route_s(make: Make) -> None:
    gateway = await make()
    body = {"model": "chat", "messages": [{"role": "user", "content": PLAIN}]}
    reply = await gateway.client.post("/chat/completions", json=body, headers={"x-gateway-target": "u0/model-u0"})
    assert reply.headers["x-gateway-model"] == "model-u0"
    assert "x-gateway-route" not in reply.headers


async def test_a_changed_route_file_is_refused_and_the_previous_one_serves(make: Make) -> None:
    gateway = await make()
    path = gateway.config_path.with_name(f"{gateway.config_path.stem}.route.{ROUTE}.json")
    raw = json.loads(path.read_text())
    raw["leaves"][1]["moved"] = True
    path.write_text(json.dumps(raw))
    app = gateway.process.app
    await gateway.until(lambda: app.config_refused)
    assert "it was changed after it was learned" in app.config_refused
    assert (await gateway.chat(CODE)).headers["x-gateway-model"] == "model-u0"


async def test_a_kept_call_is_an_exact_tie_and_costs_no_call(
    make: Make, upstream: FakeUpstream, second: FakeUpstream
) -> None:
    gateway = await make(experiment={})
    await gateway.chat(CODE)
    served, shadow = sorted(await gateway.recorded(2), key=lambda e: e.role != "served")
    assert (served.role, shadow.role, shadow.arm, shadow.pair) == ("served", "shadow", "candidate", served.id)
    assert (shadow.tied, served.tied, shadow.route) == (True, None, f"{ROUTE}/1")
    same = ("request", "response", "usage", "status", "outcome", "total_s", "target", "request_digest")
    assert [getattr(shadow, name) for name in same] == [getattr(served, name) for name in same]
    assert len(upstream.received) == 1
    assert second.received == []
    assert await gateway.metric("gateway_shadow_total", experiment="swap", arm="candidate", result="tied") == 1
    assert await gateway.metric("gateway_shadow_tokens_total", experiment="swap") == 0


async def test_a_moved_call_is_sent_as_for_any_candidate(make: Make, second: FakeUpstream) -> None:
    gateway = await make(experiment={})
    await gateway.chat(PLAIN)
    roles = {e.role: e for e in await gateway.recorded(2)}
    assert (roles["shadow"].target, roles["shadow"].tied, roles["shadow"].route) == (SMALL, None, f"{ROUTE}/0")
    assert roles["served"].route is None
    assert b"small" in roles["shadow"].response
    assert len(second.received) == 1


async def test_ties_wait_for_the_small_model_like_the_other_pairs(make: Make, second: FakeUpstream) -> None:
    """Were they kept while it is down, the pairs would be those of the control alone."""
    gateway = await make(experiment={})
    state = gateway.gateway.router.target_state(SMALL)
    for _ in range(50):
        state.breaker.record_failure()
    assert state.breaker.open
    await gateway.chat(CODE)
    [served] = await gateway.recorded(1)
    assert (served.asked, served.not_asked) == ((), "target_down")


async def test_a_split_serves_the_route_to_its_arm(make: Make) -> None:
    gateway = await make(experiment={"mode": "split", "split": 1.0, "shadow": None, "repeat_control": None, "aa": None})
    replies = {text: await gateway.chat(text) for text in (CODE, PLAIN)}
    assert {reply.headers["x-gateway-arm"] for reply in replies.values()} == {"candidate"}
    assert [replies[t].headers["x-gateway-model"] for t in (CODE, PLAIN)] == ["model-u0", "small"]
    assert replies[PLAIN].headers["x-gateway-route"] == f"{ROUTE}/0"
    found = {(e.arm, e.target, e.route) for e in await gateway.recorded(2)}
    assert found == {("candidate", LARGE, f"{ROUTE}/1"), ("candidate", SMALL, f"{ROUTE}/0")}
    assert await gateway.metric("gateway_split_total", experiment="swap", arm="candidate", result="ok") == 2


async def test_a_ramp_serves_the_route_until_the_small_model_breaks(make: Make, second: FakeUpstream) -> None:
    """An answer that the route keeps is the candidate's own. While the small model's breaker is open, nobody is sent to
    the route, however often the shares are read again."""
    ramp = {"ramp": {"steps": [1.0], "holdout": 0}, "primary": "error_rate", "margin": 0.05, "unit": "request"}
    gateway = await make(experiment={**ramp, "min_hours": 0})
    await gateway.until(lambda: "swap" in gateway.gateway.router.experiments.in_force)
    plan = gateway.gateway.router.experiments.in_force["swap"].plan
    change = RampChange(1.0, "ada", "why")
    record = overridden(started("swap", plan.hash, change), plan.ramp, change, full=True)
    assert await gateway.corridor.ramps.change(None, record, b"{}")
    await gateway.until(lambda: gateway.gateway.router.experiments.in_force["swap"].share == 1.0)
    for text, model in ((CODE, "model-u0"), (PLAIN, "small")):
        reply = await gateway.chat(text)
        assert (reply.headers["x-gateway-arm"], reply.headers["x-gateway-model"]) == ("candidate", model)
    found = {(e.arm, e.target, e.fell_back) for e in await gateway.recorded(2)}
    assert found == {("candidate", LARGE, None), ("candidate", SMALL, None)}
    second.always(Fault.status(500))
    while not gateway.gateway.router.target_state(SMALL).breaker.open:
        assert (await gateway.chat(PLAIN)).headers["x-gateway-model"] == "model-u0"
    shown = 1.0
    while shown:  # set after the shares were read, and what is not healthy was taken from them
        shown = await gateway.metric("gateway_ramp_share", experiment="swap")
    assert (await gateway.chat(PLAIN)).headers["x-gateway-arm"] == "control"


async def test_a_target_s_own_settings_are_those_of_the_route(make: Make, second: FakeUpstream) -> None:
    moved = RouteTarget("u1", "small", {"set": {"temperature": 0}})
    gateway = await make(route=a_route(moved=moved))
    reply = await gateway.chat(PLAIN, temperature=1)
    assert reply.headers["x-gateway-variant"] == "temperature=0"
    assert (await second.next_received()).json["temperature"] == 0


async def test_a_caller_who_may_not_see_upstreams_sees_no_route(make: Make) -> None:
    key = {"name": "tester", "sha256": sha256(KEY.encode()).hexdigest()}
    gateway = await make(hide_upstreams=True, keys=[key])
    reply = await gateway.chat(PLAIN)
    assert (reply.status_code, "x-gateway-route" in reply.headers) == (200, False)


async def test_a_leaf_that_a_consumer_has_taken_back_goes_to_the_control(make: Make) -> None:
    gateway = await make()
    assert (await gateway.chat(PLAIN)).headers["x-gateway-model"] == "small"
    await gateway.corridor.state.remember(RETURNED, returned_to_json({a_route().digest: frozenset({0})}), 60)
    served = gateway.gateway.router.learned.by_name[ROUTE]
    await gateway.until(lambda: served.returned)
    reply = await gateway.chat(PLAIN)
    assert (reply.headers["x-gateway-model"], reply.headers["x-gateway-route"]) == ("model-u0", f"{ROUTE}/0")
    assert await gateway.metric("gateway_route_leaves_returned", route=ROUTE) == 1


async def test_moved_calls_are_watched_and_kept_ones_are_not(
    make: Make, upstream: FakeUpstream, second: FakeUpstream
) -> None:
    """The watch is an experiment of the answers that the small model served, against the control."""
    gateway = await make(watch=1.0)
    await gateway.until(lambda: gateway.gateway.router.experiments.in_force)
    await gateway.chat(CODE)
    await gateway.chat(PLAIN)
    served, shadow = [e for e in await gateway.recorded(3) if e.route == f"{ROUTE}/0" or e.role == "shadow"]
    assert (served.target, shadow.target, shadow.pair) == (SMALL, LARGE, served.id)
    assert (served.experiment, shadow.arm) == (f"{ROUTE}-watch", "candidate")
    assert [len(upstream.received), len(second.received)] == [2, 1]
