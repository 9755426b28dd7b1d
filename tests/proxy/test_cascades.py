"""A cascade over real sockets: the first answer is served if it is accepted, and otherwise the control is asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fixtures.cascades import CASCADE, cascade_section

from gateway.core.exchange import DECLINED, Target
from gateway.core.learned_route import RETURNED, returned_to_json
from gateway.fake import FakeUpstream, Fault

LARGE, SMALL = Target("u0", "model-u0"), Target("u1", "small")
SURE, UNSURE = "Paris is the capital.", "Maybe Paris, I am not sure."
PRICES = {"u0/model-u0": {"input": 10.0, "output": 10.0}, "u1/small": {"input": 1.0, "output": 1.0}}
"""USD for a million tokens."""
Make = Callable[..., Any]


@pytest.fixture
async def make(
    start: Any, configured: Callable[..., dict[str, Any]], upstream: FakeUpstream, second: FakeUpstream
) -> Make:
    """A gateway with the cascade as the target of `chat`; with `experiment`, as the candidate of one instead."""

    async def go(*, experiment: dict[str, Any] | None = None, watch: float = 0, **sections: Any) -> Any:
        upstream.says("large")
        second.says(SURE)
        prices = {"as_of": "2026-11-29", "models": PRICES}
        parts = {"cascades": {CASCADE: cascade_section()}, "prices": prices, "scorers": {"valid_json": {}}}
        config = configured(upstream, second, chat={"fallback": []}, **{**parts, **sections})
        if experiment is None:
            config["models"]["chat"]["targets"] = [{"route": CASCADE, "watch": watch}]
        else:
            control = {"upstream": "u0", "model": "model-u0"}
            swap = {"model": "chat", "control": control, "candidate": {"route": CASCADE},
                    "shadow": 1.0, "repeat_control": 0.0, "aa": "proof", "headers": "all"}  # fmt: skip
            config["experiments"] = {"swap": {k: v for k, v in {**swap, **experiment}.items() if v is not None}}
            config["sampling"] = {"rate": 0.0}
        return await start(config)

    return go


async def test_an_accepted_answer_goes_out_and_costs_one_call(make: Make, upstream: FakeUpstream) -> None:
    gateway = await make()
    reply = await gateway.chat()
    assert reply.json()["choices"][0]["message"]["content"] == SURE
    head = {name: reply.headers[name] for name in ("x-gateway-route", "x-gateway-model", "x-gateway-attempts")}
    assert head == {"x-gateway-route": f"{CASCADE}/0", "x-gateway-model": "small", "x-gateway-attempts": "1"}
    [served] = await gateway.recorded(1)
    assert (served.route, served.target, len(served.attempts)) == (f"{CASCADE}/0", SMALL, 1)
    assert upstream.received == []
    calls = {"alias": "chat", "route": CASCADE, "leaf": "0", "target": "moved"}
    assert await gateway.metric("gateway_route_calls_total", **calls) == 1


async def test_a_doubtful_answer_is_asked_again_and_both_calls_count(make: Make, second: FakeUpstream) -> None:
    gateway = await make()
    second.says(UNSURE)
    reply = await gateway.chat()
    assert reply.json()["choices"][0]["message"]["content"] == "large"
    head = {name: reply.headers[name] for name in ("x-gateway-route", "x-gateway-model", "x-gateway-attempts")}
    assert head == {"x-gateway-route": f"{CASCADE}/1", "x-gateway-model": "model-u0", "x-gateway-attempts": "2"}
    [served] = await gateway.recorded(1)
    assert (served.route, served.target, served.outcome, served.status) == (f"{CASCADE}/1", LARGE, "ok", 200)
    assert [(a.target, a.failure, a.status) for a in served.attempts] == [(SMALL, DECLINED, 200), (LARGE, None, 200)]
    first, then = [a.usage for a in served.attempts]
    assert first is not None
    assert then is not None
    assert served.usage == then
    assert served.total_s >= sum(a.seconds for a in served.attempts)
    usd = [
        1e-6 * PRICES[str(a.target)]["input"] * (a.usage.input_tokens + a.usage.output_tokens) for a in served.attempts
    ]
    costs = [await gateway.metric("gateway_cost_usd_total", alias="chat", upstream=name) for name in ("u1", "u0")]
    assert costs == pytest.approx(usd)
    assert await gateway.metric("gateway_attempts_total", upstream="u1", result="declined") == 1
    assert await gateway.metric("gateway_route_calls_total", route=CASCADE, leaf="1", target="control") == 1


async def test_declined_answers_open_no_breaker(make: Make, second: FakeUpstream) -> None:
    gateway = await make()
    second.says(UNSURE)
    for _ in range(25):
        assert (await gateway.chat()).headers["x-gateway-model"] == "model-u0"
    assert len(second.received) == 25
    assert not gateway.gateway.router.target_state(SMALL).breaker.open


async def test_a_stream_goes_to_the_control_at_once(make: Make, upstream: FakeUpstream, second: FakeUpstream) -> None:
    gateway = await make()
    reply = await gateway.chat(stream=True)
    assert (reply.headers["x-gateway-route"], reply.headers["x-gateway-model"]) == (f"{CASCADE}/2", "model-u0")
    assert [len(upstream.received), len(second.received)] == [1, 0]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/chat/completions", {"messages": [{"role": "user", "content": "hi"}], "n": 2}),
        ("/embeddings", {"input": "hi"}),
    ],
    ids=["several answers", "another API"],
)
async def test_calls_that_it_cannot_check_go_to_the_control(
    make: Make, second: FakeUpstream, path: str, body: dict[str, Any]
) -> None:
    gateway = await make()
    reply = await gateway.client.post(path, json={"model": "chat", **body})
    assert (reply.headers["x-gateway-route"], reply.headers["x-gateway-model"]) == (f"{CASCADE}/unlike", "model-u0")
    assert second.received == []


@pytest.mark.parametrize("fault", [Fault.status(500), Fault.malformed_after(0)], ids=["HTTP 500", "no JSON"])
async def test_a_first_target_that_fails_is_followed_by_the_control(
    make: Make, second: FakeUpstream, fault: Fault
) -> None:
    gateway = await make()
    second.always(fault)
    reply = await gateway.chat()
    assert (reply.status_code, reply.headers["x-gateway-model"]) == (200, "model-u0")
    assert reply.headers["x-gateway-route"] == f"{CASCADE}/unanswered"
    assert await gateway.metric("gateway_route_calls_total", route=CASCADE, leaf="unanswered", target="control") == 1


async def test_a_failed_answer_in_http_200_does_not_go_out(make: Make, second: FakeUpstream) -> None:
    gateway = await make()
    failed = (
        b'{"id": "r", "object": "chat.completion", "choices": [], "error": {"message": "no", "type": "server_error"}}'
    )
    second.answers(200, failed)
    reply = await gateway.chat()
    assert (reply.status_code, reply.headers["x-gateway-model"]) == (200, "model-u0")
    [served] = await gateway.recorded(1)
    assert (served.outcome, served.status, served.target) == ("ok", 200, LARGE)


async def test_a_doubtful_answer_does_not_stand_in_for_the_control(
    make: Make, upstream: FakeUpstream, second: FakeUpstream
) -> None:
    gateway = await make()
    second.says(UNSURE)
    upstream.always(Fault.status(500))
    reply = await gateway.chat()
    assert reply.status_code == 502
    message = reply.json()["error"]["message"]
    assert "u1/small answered, and a cascade did not accept the answer" in message
    assert "u0/model-u0 HTTP 500" in message
    [served] = await gateway.recorded(1)
    assert [a.usage is not None for a in served.attempts if a.declined] == [True]


async def test_a_conversation_that_was_declined_once_stays_with_the_control(make: Make, second: FakeUpstream) -> None:
    gateway = await make()
    body = {"model": "chat", "messages": [{"role": "user", "content": "hi"}]}
    models = []
    for answer in (SURE, UNSURE, SURE):
        second.says(answer)
        reply = await gateway.client.post("/chat/completions", json=body, headers={"x-gateway-conversation": "a"})
        models.append(reply.headers["x-gateway-model"])
    assert models == ["small", "model-u0", "model-u0"]
    assert len(second.received) == 2


async def test_a_leaf_that_was_taken_back_asks_the_control_alone(make: Make, second: FakeUpstream) -> None:
    gateway = await make()
    served = gateway.gateway.router.learned.by_name[CASCADE]
    await gateway.corridor.state.remember(RETURNED, returned_to_json({served.learned.digest: frozenset({0})}), 60)
    await gateway.until(lambda: served.returned)
    reply = await gateway.chat()
    assert reply.headers["x-gateway-model"] == "model-u0"
    assert second.received == [], "no leaf would accept an answer, so none is paid for"


async def test_a_shadow_that_is_accepted_is_the_arm_s_answer(make: Make, second: FakeUpstream) -> None:
    gateway = await make(experiment={})
    await gateway.chat()
    roles = {e.role: e for e in await gateway.recorded(2)}
    assert (roles["shadow"].target, roles["shadow"].tied, roles["shadow"].route) == (SMALL, None, f"{CASCADE}/0")
    assert SURE.encode() in roles["shadow"].response


async def test_a_shadow_that_is_declined_is_a_tie_that_costs_both(
    make: Make, upstream: FakeUpstream, second: FakeUpstream
) -> None:
    gateway = await make(experiment={})
    second.says(UNSURE)
    await gateway.chat()
    roles = {e.role: e for e in await gateway.recorded(2)}
    served, shadow = roles["served"], roles["shadow"]
    assert (shadow.tied, shadow.route, shadow.target) == (True, f"{CASCADE}/1", LARGE)
    assert (shadow.response, shadow.usage) == (served.response, served.usage)
    assert [(a.target, a.declined) for a in shadow.attempts] == [(SMALL, True), (LARGE, False)]
    assert all(a.usage is not None for a in shadow.attempts)
    assert shadow.total_s > served.total_s
    assert [len(upstream.received), len(second.received)] == [1, 1], "the control is not asked again"
    assert await gateway.metric("gateway_shadow_tokens_total", experiment="swap") > 0


async def test_a_streamed_call_is_an_exact_tie_of_the_experiment(make: Make, second: FakeUpstream) -> None:
    gateway = await make(experiment={})
    await gateway.chat(stream=True)
    shadow = next(e for e in await gateway.recorded(2) if e.role == "shadow")
    assert (shadow.tied, shadow.route, shadow.attempts) == (True, f"{CASCADE}/2", ())
    assert second.received == []


async def test_a_split_serves_the_cascade_to_its_arm(make: Make, second: FakeUpstream) -> None:
    gateway = await make(experiment={"mode": "split", "split": 1.0, "shadow": None, "repeat_control": None, "aa": None})
    for answer in (SURE, UNSURE):
        second.says(answer)
        assert (await gateway.chat()).headers["x-gateway-arm"] == "candidate"
    found = {(e.arm, e.target, e.route) for e in await gateway.recorded(2)}
    assert found == {("candidate", SMALL, f"{CASCADE}/0"), ("candidate", LARGE, f"{CASCADE}/1")}
    assert await gateway.metric("gateway_split_total", experiment="swap", arm="candidate", result="ok") == 2


async def test_accepted_answers_are_watched_against_the_control(
    make: Make, upstream: FakeUpstream, second: FakeUpstream
) -> None:
    gateway = await make(watch=1.0)
    await gateway.until(lambda: gateway.gateway.router.experiments.in_force)
    await gateway.chat()
    second.says(UNSURE)
    await gateway.chat()
    found = await gateway.recorded(3)
    [shadow] = [e for e in found if e.role == "shadow"]
    [accepted] = [e for e in found if e.id == shadow.pair]
    assert (accepted.route, accepted.target, shadow.target) == (f"{CASCADE}/0", SMALL, LARGE)
    assert accepted.experiment == f"{CASCADE}-watch"
    assert [len(upstream.received), len(second.received)] == [2, 2]


async def test_a_call_is_charged_for_both_answers(make: Make, second: FakeUpstream) -> None:
    """Both answers are charged in the usage of the call's key, and so in its limits."""
    gateway = await make()
    second.says(UNSURE)
    await gateway.chat()
    [served] = await gateway.recorded(1)
    used = sum(a.usage.input_tokens + a.usage.output_tokens for a in served.attempts if a.usage)
    tally = await gateway.tally(lambda t: any(row.sums.output_tokens for row in t.usage))
    assert sum(row.sums.input_tokens + row.sums.output_tokens for row in tally.usage) == used
