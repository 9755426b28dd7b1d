"""A decision model as the candidate under real traffic: what is asked, what is recorded, and who answers clients."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from fixtures.chat_engines import chat_answer

from gateway.config.certified import claim_digest
from gateway.core.certificate import CONFIRMED_S, SHARED_NAME, CertificateInForce
from gateway.core.exchange import DECLINED
from gateway.core.ramp import RampChange, advanced, started
from gateway.fake import FakeAnswer, FakeUpstream, Received

TEXT = "I was charged twice."
SCHEMA = {"type": "object", "properties": {"refund": {"type": "boolean"}}, "required": ["refund"]}
FORMAT = {"type": "json_schema", "json_schema": {"name": "ticket", "schema": SCHEMA}}
FREE = {"type": "json_schema", "json_schema": {"schema": {"type": "object", "properties": {"why": {"type": "string"}}}}}
SWAP: dict[str, Any] = {
    "model": "chat", "control": {"upstream": "u0", "model": "model-u0"},
    "candidate": {"upstream": "u1", "model": "decider", "as": "decision"},
    "shadow": 1.0, "repeat_control": 0.0, "aa": "proof", "primary": "error_rate", "margin": 0.05,
    "min_hours": 0, "unit": "request",
}  # fmt: skip

SPLIT: dict[str, Any] = {"mode": "split", "split": 1.0, "shadow": None, "repeat_control": None, "aa": None}


def decides(received: Received) -> FakeAnswer:
    answers = [{"type": "predicate", "name": "refund", "probability": 0.9}]
    return FakeAnswer(orjson.dumps({"model": "d", "answers": answers, "usage": {"input_tokens": 50}}))


def refuses(received: Received) -> FakeAnswer:
    answers = [{"type": "refusal", "name": "refund"}]
    return FakeAnswer(orjson.dumps({"model": "d", "answers": answers, "usage": {"input_tokens": 50}}))


@pytest.fixture
async def make(
    start: Any, configured: Callable[..., dict[str, Any]], upstream: FakeUpstream, second: FakeUpstream
) -> Callable[..., Any]:
    """A gateway in whose experiment the plan is in force, with these changes to it."""

    async def go(**swap: Any) -> Any:
        upstream.says('{"refund": false}')
        second.replies(decides)
        config = configured(upstream, second, chat={"fallback": []})
        swap = {name: value for name, value in {**SWAP, **swap}.items() if value is not None}
        gateway = await start({**config, "experiments": {"swap": swap}})
        await gateway.until(lambda: "swap" in gateway.gateway.router.experiments.in_force)
        return gateway

    return go


async def test_a_pair_compares_a_chat_and_a_decision(make: Any, second: FakeUpstream) -> None:
    gateway = await make()
    reply = await gateway.chat(TEXT, response_format=FORMAT, temperature=0.3)
    assert "x-gateway-decision" not in reply.headers
    served, shadow = sorted(await gateway.recorded(2), key=lambda e: e.role)
    assert (served.role, shadow.role, shadow.pair, shadow.outcome) == ("served", "shadow", served.id, "ok")
    assert second.received[0].path == "/v1/decisions"
    assert orjson.loads(shadow.response)["choices"][0]["message"]["content"] == '{"refund":true}'
    assert orjson.loads(shadow.decision)["probabilities"] == {"refund": [0.9, pytest.approx(0.1)]}
    assert served.decision is None
    assert shadow.request_digest == served.request_digest, "both arms were asked the same"
    assert orjson.loads(shadow.request)["temperature"] == 0.3


async def test_a_candidate_may_be_read_from_a_chat_engine(make: Any, second: FakeUpstream) -> None:
    """The shadow's record has the decision that the reading gave, in the form of the client's API."""
    gateway = await make(candidate={**SWAP["candidate"], "reading": "words", "probed": "2026-12-03"})
    second.replies(lambda received: chat_answer([("yes", 0.6), ("No", 0.2)]))
    await gateway.chat(TEXT, response_format=FORMAT, temperature=0.3)
    served, shadow = sorted(await gateway.recorded(2), key=lambda e: e.role)
    assert (served.role, shadow.role, shadow.pair, shadow.outcome) == ("served", "shadow", served.id, "ok")
    assert shadow.target.label == "decider[decision,reading=words]"
    [asked] = second.calls
    assert (asked.path, asked.json["temperature"]) == ("/v1/chat/completions", 1)
    assert orjson.loads(shadow.response)["choices"][0]["message"]["content"] == '{"refund":true}'
    stated = orjson.loads(shadow.decision)
    assert (stated["reading"], stated["probabilities"]) == ("words", {"refund": pytest.approx([0.75, 0.25])})
    assert shadow.request_digest == served.request_digest, "both arms were asked the same"


async def test_a_call_that_a_reading_cannot_ask_is_outside(make: Any, second: FakeUpstream) -> None:
    """Such calls would be errors of the candidate alone."""
    gateway = await make(candidate={**SWAP["candidate"], "reading": "words", "probed": "2026-12-03"})
    schema = {"type": "object", "properties": {"team": {"enum": ["bill", "billing"]}}, "required": ["team"]}
    await gateway.chat(TEXT, response_format={"type": "json_schema", "json_schema": {"name": "t", "schema": schema}})
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    messages = [{"role": "user", "content": [{"type": "text", "text": TEXT}, image]}]
    await gateway.chat(TEXT, messages=messages, response_format=FORMAT)
    assert [exchange.experiment for exchange in await gateway.recorded(2)] == [None, None]
    assert second.calls == []
    for reason in ("alike", "input"):
        assert await gateway.metric("gateway_shadow_total", result=f"ineligible_{reason}") == 1


async def test_a_streamed_call_is_compared_too(make: Any) -> None:
    gateway = await make()
    async with gateway.stream(TEXT, response_format=FORMAT) as reply:
        await reply.aread()
    served, shadow = sorted(await gateway.recorded(2), key=lambda e: e.role)
    assert (shadow.stream, shadow.outcome, served.stream) == (True, "ok", True)
    assert shadow.response.endswith(b"data: [DONE]\n\n")


async def test_other_requests_are_outside_and_counted(make: Any, second: FakeUpstream) -> None:
    gateway = await make()
    for members in ({}, {"response_format": FREE}, {"response_format": FORMAT, "n": 2}, {"response_format": FREE}):
        assert (await gateway.chat(TEXT, **members)).status_code == 200
    await gateway.chat(TEXT, response_format=FORMAT)
    exchanges = await gateway.recorded(6)
    assert [e.experiment for e in sorted(exchanges, key=lambda e: e.received)][:4] == [None] * 4
    assert len(second.received) == 1
    for reason, n in {"no_schema": 1, "free_text": 2, "several_answers": 1}.items():
        assert await gateway.metric("gateway_shadow_total", result=f"ineligible_{reason}") == n


async def test_a_refusal_is_the_controls_answer_at_its_price(make: Any, second: FakeUpstream) -> None:
    """A client behind the façade would get the control's answer, after the refusal was paid."""
    gateway = await make()
    second.replies(refuses)
    await gateway.chat(TEXT, response_format=FORMAT)
    served, shadow = sorted(await gateway.recorded(2), key=lambda e: e.role)
    assert (shadow.tied, shadow.outcome, shadow.response) == (True, "ok", served.response)
    assert shadow.attempts[0].failure == DECLINED
    assert shadow.attempts[0].usage.input_tokens == 50
    assert shadow.decision is None


async def test_a_split_serves_no_decision_that_has_not_shipped(make: Any, second: FakeUpstream) -> None:
    gateway = await make(**SPLIT)
    assert (await gateway.chat(TEXT, response_format=FORMAT)).headers["x-gateway-upstream"] == "u0"
    assert second.received == []


async def test_an_owner_may_split_without_a_proof(make: Any, second: FakeUpstream) -> None:
    gateway = await make(**SPLIT, candidate={**SWAP["candidate"], "facade": "unproved"})
    reply = await gateway.chat(TEXT, response_format=FORMAT)
    assert (reply.headers["x-gateway-upstream"], reply.headers["x-gateway-decision"]) == ("u1", "native")
    second.replies(refuses)
    assert (await gateway.chat(TEXT, response_format=FORMAT)).headers["x-gateway-upstream"] == "u0"
    assert (await gateway.chat(TEXT)).headers["x-gateway-upstream"] == "u0"
    exchanges = sorted(await gateway.recorded(3), key=lambda e: e.received)
    assert [(e.arm, e.target.upstream) for e in exchanges] == [
        ("candidate", "u1"),
        ("candidate", "u0"),  # what the arm's clients get
        (None, "u0"),
    ]
    assert await gateway.metric("gateway_split_total", arm="candidate", result="ok") == 2


async def test_a_step_of_a_ramp_serves_decisions(make: Any) -> None:
    gateway = await make(ramp={"steps": [1.0], "holdout": 0})
    plan = gateway.gateway.router.experiments.in_force["swap"].plan
    record = started("swap", plan.hash, RampChange(1.0, "ada", "why"))
    assert (await gateway.chat(TEXT, response_format=FORMAT)).headers["x-gateway-upstream"] == "u0"

    step = advanced(record, plan.ramp, RampChange(2.0, "ada", "why"))
    assert await gateway.corridor.ramps.change(None, step, b"{}")
    await gateway.until(lambda: gateway.gateway.router.experiments.in_force["swap"].share == 1.0)
    reply = await gateway.chat(TEXT, response_format=FORMAT)
    assert (reply.headers["x-gateway-upstream"], reply.headers["x-gateway-decision"]) == ("u1", "native")
    assert (await gateway.chat(TEXT, response_format=FREE)).headers["x-gateway-upstream"] == "u0"


OBEYS = {**SWAP["candidate"], "facade": "unproved", "accept": "certificate refund"}


@pytest.fixture
async def certified(
    start: Any, configured: Callable[..., dict[str, Any]], upstream: FakeUpstream, second: FakeUpstream
) -> Callable[..., Any]:
    """A gateway whose candidate obeys a certificate that is in force from this probability on."""

    async def go(from_p: float, **swap: Any) -> Any:
        upstream.says('{"refund": false}')
        second.replies(decides)
        scorer = {"use": "decided", "target": "u1/decider[decision]", "question": {"predicate": "refund"}}
        swap = {name: value for name, value in {**SWAP, "candidate": OBEYS, **swap}.items() if value is not None}
        gateway = await start({
            **configured(upstream, second, chat={"fallback": []}),
            "scorers": {"refund": scorer},
            "decisions": {"certificates": {"refund": {"scorer": "refund"}}},
            "experiments": {"swap": swap},
        })  # fmt: skip
        claim = SHARED_NAME + claim_digest(gateway.gateway.config, "refund")
        await gateway.corridor.state.remember(claim, CertificateInForce(from_p, time.time()).to_json(), 600)
        [variant] = gateway.gateway.router.experiments.variants.values()
        await gateway.until(lambda: variant.certified.in_force)
        await gateway.until(lambda: "swap" in gateway.gateway.router.experiments.in_force)
        return gateway

    return go


@pytest.mark.parametrize(("from_p", "upstreams"), [(0.85, ["u1"]), (0.95, ["u1", "u0"])])
async def test_a_split_arm_obeys_its_certificate(certified: Any, from_p: float, upstreams: list[str]) -> None:
    """Below the threshold the arm's clients get the control, and both attempts are in the arm's record."""
    gateway = await certified(from_p, **SPLIT)
    reply = await gateway.chat(TEXT, response_format=FORMAT)
    assert reply.headers["x-gateway-upstream"] == upstreams[-1]
    [record] = await gateway.recorded(1)
    assert (record.arm, record.target.upstream) == ("candidate", upstreams[-1])
    assert [attempt.target.upstream for attempt in record.attempts] == upstreams
    assert record.attempts[0].usage.input_tokens == 50
    assert (record.decision is None) == (len(upstreams) == 2)


@pytest.mark.parametrize(("from_p", "asked"), [(0.85, ["u1"]), (0.95, ["u1", "u0"])])
async def test_a_shadow_is_what_a_client_would_get(certified: Any, from_p: float, asked: list[str]) -> None:
    """Below the threshold it is the control's answer, at the price of both."""
    gateway = await certified(from_p)
    await gateway.chat(TEXT, response_format=FORMAT)
    served, shadow = sorted(await gateway.recorded(2), key=lambda e: e.role)
    assert (shadow.role, bool(shadow.tied)) == ("shadow", len(asked) == 2)
    assert [attempt.target.upstream for attempt in shadow.attempts] == asked
    assert shadow.attempts[0].usage.input_tokens == 50
    assert (shadow.response == served.response) == (len(asked) == 2)


async def test_nothing_is_compared_while_no_certificate_holds(certified: Any, second: FakeUpstream) -> None:
    """Pairs of the control with itself would show that a model is as good which nobody gets."""
    gateway = await certified(0.85)
    [variant] = gateway.gateway.router.experiments.variants.values()
    variant.certified.clock = lambda: time.time() + 2 * CONFIRMED_S
    assert (await gateway.chat(TEXT, response_format=FORMAT)).headers["x-gateway-upstream"] == "u0"
    [record] = await gateway.recorded(1)
    assert (record.experiment, record.arm, second.received) == (None, None, [])
    assert await gateway.metric("gateway_shadow_total", result="ineligible_uncertified") == 1


@pytest.fixture
async def ramped(certified: Any) -> Callable[..., Any]:
    """A gateway whose candidate serves all units by a ramp, and obeys a certificate from this probability on."""

    async def go(from_p: float) -> Any:
        candidate = {name: value for name, value in OBEYS.items() if name != "facade"}
        gateway = await certified(from_p, candidate=candidate, ramp={"steps": [1.0], "holdout": 0})
        plan = gateway.gateway.router.experiments.in_force["swap"].plan
        assert plan.accept == (("candidate", ("refund",)),)
        step = advanced(
            started("swap", plan.hash, RampChange(1.0, "ada", "why")), plan.ramp, RampChange(2.0, "ada", "why")
        )
        assert await gateway.corridor.ramps.change(None, step, b"{}")
        await gateway.until(lambda: gateway.gateway.router.experiments.in_force["swap"].share == 1.0)
        return gateway

    return go


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("from_p", "asked"), [(0.85, ["u1"]), (0.95, ["u1", "u0"])])
async def test_a_ramp_obeys_its_certificate(ramped: Any, from_p: float, asked: list[str], stream: bool) -> None:
    """Below the threshold the control answers within the same call, which stays the candidate's with both attempts:
    a step is judged by what the candidate's clients got and paid."""
    gateway = await ramped(from_p)
    reply = await gateway.chat(TEXT, response_format=FORMAT, stream=stream)
    assert (reply.status_code, reply.headers["x-gateway-upstream"]) == (200, asked[-1])
    assert reply.headers.get("x-gateway-decision-action") == ("act" if len(asked) == 1 else None)
    [record] = await gateway.recorded(1)
    assert (record.arm, record.target.upstream, record.outcome) == ("candidate", asked[-1], "ok")
    assert [attempt.target.upstream for attempt in record.attempts] == asked


async def test_a_lapse_takes_calls_out_of_a_ramp(ramped: Any, second: FakeUpstream) -> None:
    """The control answers, which shows nothing for a step."""
    gateway = await ramped(0.85)
    [variant] = gateway.gateway.router.experiments.variants.values()
    variant.certified.clock = lambda: time.time() + 2 * CONFIRMED_S
    assert (await gateway.chat(TEXT, response_format=FORMAT)).headers["x-gateway-upstream"] == "u0"
    [record] = await gateway.recorded(1)
    assert (record.arm, second.received) == (None, [])
