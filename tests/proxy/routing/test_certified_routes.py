"""Cascades of decisions over sockets: they act within the certified zone, and ask a target or a person outside."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from gateway.config.certified import claim_digest
from gateway.core.certificate import CONFIRMED_S, SHARED_NAME, CertificateInForce
from gateway.core.exchange import DECLINED, Target
from gateway.fake import FakeAnswer, FakeUpstream, Fault, Received

SMALL, LARGE = Target("u0", "small"), Target("u1", "large")
REFUND = {"type": "predicate", "name": "refund", "instructions": "The customer asks for money back."}
TEAM = {"type": "choice", "instructions": "Which team?", "choices": [{"value": "billing"}, {"value": True}]}
PRICES = {"u0/small": {"input": 1.0, "output": 1.0}, "u1/large": {"input": 10.0, "output": 10.0}}
Make = Callable[..., Any]


def answering(**by_kind: Any) -> Callable[[Received], FakeAnswer]:
    """A server of both formats; by_kind: the probability of a predicate's truth, and of a choice's first option."""
    predicate, choice = by_kind.get("predicate", 0.5), by_kind.get("choice", 0.5)

    def answer(received: Received) -> FakeAnswer:
        body = received.json
        if received.path == "/v1/systemone":
            answers: Any = {key: {"type": "noul", "noul": predicate} for key in body["questions"]}
        else:
            answers = [_answer(question, predicate, choice) for question in body["questions"]]
        usage = {"input_tokens": 100, "output_tokens": 0, "total_tokens": 100}
        return FakeAnswer(json.dumps({"model": body["model"], "answers": answers, "usage": usage}).encode())

    return answer


def _answer(question: dict[str, Any], predicate: Any, choice: float) -> dict[str, Any]:
    if question["type"] == "predicate":
        return {"type": "predicate", "name": question.get("name"), "probability": predicate}
    values = [entry["value"] for entry in question["choices"]]
    rows = [{"value": value, "probability": p} for value, p in zip(values, (choice, 1.0 - choice), strict=True)]
    return {"type": "choice", "name": None, "choice": values[choice < 0.5], "confidence": 0.5, "probabilities": rows}


class Triage:
    """A gateway with the cascade as the target of `chat`."""

    def __init__(self, gateway: Any) -> None:
        self.gateway = gateway

    @property
    def in_force(self) -> list[float]:
        """The beginnings of the zones that this process has read."""
        certified = self.gateway.gateway.router.learned.by_name["triage"].certified
        return sorted(held.from_p for held in certified.in_force.values())

    async def certify(self, at: float | None = None, **from_p: float) -> None:
        """Shares certificates as a consumer does, and waits until this process has read them. at: Unix seconds."""
        state, config = self.gateway.corridor.state, self.gateway.gateway.config
        held = {name: CertificateInForce(p, at or time.time()) for name, p in from_p.items()}
        texts = {SHARED_NAME + claim_digest(config, name): each.to_json() for name, each in held.items()}
        await state.remember_all(texts, 600)
        await self.gateway.until(lambda: self.in_force == sorted(p for p in from_p.values() if p <= 1.0))

    async def ask(self, *questions: Any, **fields: Any) -> Any:
        body = {"model": "chat", "input": "I was charged twice.", "questions": list(questions or (REFUND,)), **fields}
        return await self.gateway.client.post("/decisions", json=body)


@pytest.fixture
async def make(
    start: Any, configured: Callable[..., dict[str, Any]], upstream: FakeUpstream, second: FakeUpstream
) -> Make:
    """A gateway whose model `chat` is the cascade; upstream: asked first, second: then."""

    async def go(**changes: Any) -> Triage:
        upstream.replies(answering(predicate=0.97))
        second.replies(answering(predicate=0.6))
        then = {"upstream": "u1", "model": "large"}
        cascade = {"model": "chat", "first": {"upstream": "u0", "model": "small"}, "then": then}
        questions = {"refund": {"predicate": REFUND["instructions"]},
                     "team": {"choice": "Which team?", "options": ["billing", True]}}  # fmt: skip
        config = configured(upstream, second, chat={"fallback": []}, prices={"as_of": "2026-12-01", "models": PRICES})
        config["scorers"] = {n: {"use": "decided", "target": str(SMALL), "question": q} for n, q in questions.items()}
        config["decisions"] = {"certificates": {name: {"scorer": name} for name in questions}}
        config["cascades"] = {"triage": {**cascade, "accept": "certificate refund", **changes}}
        config["models"]["chat"]["targets"] = [{"route": "triage"}]
        return Triage(await start(config))

    return go


def acted(reply: Any) -> tuple[str, str, str]:
    """Reads action, model and leaf of a response."""
    names = ("x-gateway-decision-action", "x-gateway-model", "x-gateway-route")
    action, model, route = (reply.headers[name] for name in names)
    return action, model, route.removeprefix("triage/")


ACTED, DECLINED_, UNCERTIFIED = ("act", "small", "0"), ("ask", "large", "1"), ("ask", "large", "uncertified")


async def test_without_a_certificate_all_goes_to_the_other(make: Make, upstream: FakeUpstream) -> None:
    triage = await make()
    reply = await triage.ask()
    assert (reply.status_code, acted(reply)) == (200, UNCERTIFIED)
    assert upstream.received == [], "what nobody may act upon costs nothing"


async def test_a_certificate_acts_in_its_zone_alone(make: Make, upstream: FakeUpstream) -> None:
    triage = await make()
    await triage.certify(refund=0.9)
    for p, expected in ((0.9, ACTED), (0.1, ACTED), (0.899, DECLINED_), (0.101, DECLINED_), (1.0, ACTED)):
        upstream.replies(answering(predicate=p))
        reply = await triage.ask()
        assert acted(reply) == expected, p
        assert reply.json()["answers"][0]["probability"] == (p if expected == ACTED else 0.6)
    records = await triage.gateway.recorded(5)
    assert [record.target for record in records] == [SMALL, SMALL, LARGE, LARGE, SMALL]
    assert [record.route for record in records][1:3] == ["triage/0", "triage/1"]
    assert [(a.target, a.failure) for a in records[2].attempts] == [(SMALL, DECLINED), (LARGE, None)]
    moved = await triage.gateway.metric("gateway_route_calls_total", route="triage", target="moved")
    asked = await triage.gateway.metric("gateway_route_calls_total", route="triage", leaf="1")
    assert (moved, asked) == (3, 2)
    costs = [await triage.gateway.metric("gateway_cost_usd_total", upstream=name) for name in ("u0", "u1")]
    assert costs == pytest.approx([5 * 100e-6, 2 * 1000e-6]), "the small model is paid where it is not believed"


async def test_a_lapse_sends_everything_to_the_other(make: Make, upstream: FakeUpstream) -> None:
    triage = await make()
    await triage.certify(refund=0.9)
    assert acted(await triage.ask()) == ACTED
    sent = len(upstream.calls)
    await triage.certify(refund=2.0)
    replies = [await triage.ask() for _ in range(5)]
    assert {acted(reply) for reply in replies} == {UNCERTIFIED}
    assert len(upstream.calls) == sent, "the first target is not paid for what nobody may act upon"
    assert {reply.status_code for reply in replies} == {200}, "no client sees an error"


async def test_a_certificate_that_nobody_confirms_ends(make: Make) -> None:
    triage = await make()
    await triage.certify(refund=0.9, at=time.time() - CONFIRMED_S + 600)
    assert acted(await triage.ask()) == ACTED
    route = triage.gateway.gateway.router.learned.by_name["triage"]
    route.certified.clock = lambda: time.time() + 601
    assert acted(await triage.ask()) == UNCERTIFIED, "also where the stream server is gone"
    route.certified.clock = time.time
    await triage.gateway.corridor.state.remember_all(
        {SHARED_NAME + route.claims[0]: CertificateInForce(0.9, time.time() - CONFIRMED_S).to_json()}, 600
    )
    await triage.gateway.until(lambda: triage.in_force == [])
    assert acted(await triage.ask()) == UNCERTIFIED


@pytest.mark.parametrize(
    "question",
    [
        {**REFUND, "instructions": "The customer asks for money."},
        {**REFUND, "instructions": [{"type": "input_text", "text": REFUND["instructions"]}]},
        TEAM,
    ],
    ids=["other words", "parts", "another question"],
)
async def test_a_question_that_is_not_certified_is_not_acted_upon(make: Make, question: dict[str, Any]) -> None:
    triage = await make()
    await triage.certify(refund=0.9)
    assert acted(await triage.ask(question)) == DECLINED_
    assert acted(await triage.ask(REFUND, question)) == DECLINED_, "one is enough"
    assert acted(await triage.ask(REFUND, {**REFUND, "name": "again"})) == ACTED


async def test_all_questions_need_a_certificate_of_their_own(make: Make, upstream: FakeUpstream) -> None:
    triage = await make(accept="certificate refund and certificate team")
    await triage.certify(refund=0.9, team=0.8)
    for predicate, choice, expected in ((0.95, 0.85, ACTED), (0.95, 0.15, ACTED), (0.95, 0.75, DECLINED_),
                                        (0.85, 0.99, DECLINED_)):  # fmt: skip
        upstream.replies(answering(predicate=predicate, choice=choice))
        assert acted(await triage.ask(REFUND, TEAM)) == expected
    upstream.replies(answering(choice=0.95))
    assert acted(await triage.ask(TEAM)) == ACTED


@pytest.mark.parametrize("p", ["0.97", 1.2, None, True, -0.1])
async def test_a_value_that_is_no_probability_is_not_acted_upon(make: Make, upstream: FakeUpstream, p: Any) -> None:
    triage = await make()
    await triage.certify(refund=0.0)
    upstream.replies(answering(predicate=p))
    assert acted(await triage.ask()) == DECLINED_


async def test_an_emulated_answer_is_not_that_of_a_native_one(make: Make, upstream: FakeUpstream) -> None:
    triage = await make()
    await triage.certify(refund=0.9)
    answer = {"model": "small", "answers": [{"type": "predicate", "probability": 0.97}], "usage": {"input_tokens": 9}}
    upstream.answers(200, json.dumps({**answer, "x_reading": "slot"}).encode())
    assert acted(await triage.ask()) == DECLINED_
    upstream.answers(200, json.dumps(answer).encode())
    assert acted(await triage.ask()) == ACTED


async def test_a_first_target_that_fails_is_followed(make: Make, upstream: FakeUpstream) -> None:
    triage = await make()
    await triage.certify(refund=0.9)
    upstream.always(Fault.status(500))
    reply = await triage.ask()
    assert (reply.status_code, acted(reply)) == (200, ("ask", "large", "unanswered"))


async def test_a_person_gets_the_first_answer(make: Make, upstream: FakeUpstream, second: FakeUpstream) -> None:
    triage = await make(then="ask")
    assert acted(await triage.ask()) == ("ask", "small", "uncertified"), "people label what it would have done"
    await triage.certify(refund=0.9)
    assert acted(await triage.ask()) == ACTED
    upstream.replies(answering(predicate=0.8))
    reply = await triage.ask()
    assert (acted(reply), reply.json()["answers"][0]["probability"]) == (("ask", "small", "1"), 0.8)
    assert second.received == []
    upstream.always(Fault.status(500))
    sent = len(upstream.received)
    assert (await triage.ask()).status_code >= 500
    assert len(upstream.received) - sent <= 2, "there is one target, which is not asked once more as its own fallback"


async def test_system_ones_clients_are_told_as_well(make: Make) -> None:
    triage = await make()
    await triage.certify(refund=0.9)
    asked = {"refund": {"type": "noul", "instructions": REFUND["instructions"]}}
    body = {"model": "chat", "state": "I was charged twice.", "questions": asked}
    reply = await triage.gateway.client.post("/systemone", json=body)
    assert (acted(reply), reply.json()["answers"]["refund"]["noul"]) == (ACTED, 0.97)


async def test_a_chat_goes_to_the_other_target(make: Make, second: FakeUpstream) -> None:
    triage = await make()
    await triage.certify(refund=0.9)
    second.says("hello")
    reply = await triage.gateway.chat()
    assert (reply.headers["x-gateway-route"], reply.headers["x-gateway-model"]) == ("triage/unlike", "large")
    assert "x-gateway-decision-action" not in reply.headers


async def test_a_changed_question_is_not_covered_after_a_reload(make: Make) -> None:
    triage = await make()
    await triage.certify(refund=0.9)
    config = yaml.safe_load(await asyncio.to_thread(triage.gateway.config_path.read_text))
    config["decisions"]["certificates"]["refund"]["wrong"] = 0.2
    before = triage.gateway.gateway
    triage.gateway.write(config)
    await triage.gateway.until(lambda: triage.gateway.gateway is not before)
    assert acted(await triage.ask()) == UNCERTIFIED, "another promise has labels of its own"
