"""Certificates behind the façade, over sockets: a decision model answers a chat within the certified zone, and the
control outside."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import orjson
import pytest
import yaml
from fixtures.chat_engines import chat_answer

from gateway.config.certified import claim_digest
from gateway.config.decided_questions import DecidedQuestion
from gateway.config.loading import parse
from gateway.core.certificate import CONFIRMED_S, SHARED_NAME, CertificateInForce
from gateway.core.completion import Completion
from gateway.core.errors import ConfigError
from gateway.core.exchange import DECLINED, Target
from gateway.core.score import Score
from gateway.fake import FakeAnswer, FakeUpstream, Fault, Received
from gateway.scorers.decided import Decided
from gateway.scoring.types import Subject

SMALL, LARGE = Target("u0", "small", "decision"), Target("u1", "large")
REFUND, TEAM = "The customer asks for money back.", "Which team?"
BOOLEAN = {"type": "boolean", "description": REFUND}
CHOICE = {"enum": ["billing", "other"], "description": TEAM}
PRICES = {"u0/small": {"input": 1.0, "output": 1.0}, "u1/large": {"input": 10.0, "output": 10.0}}
USAGE = {"input_tokens": 100, "output_tokens": 0, "total_tokens": 100}
Make = Callable[..., Any]


def deciding(refund: Any, team: Any = 0.5) -> Callable[[Received], FakeAnswer]:
    """A server of decisions: the probability of a predicate's truth, and of a choice's first option; None refuses."""

    def answer(received: Received) -> FakeAnswer:
        answers: list[dict[str, Any]] = []
        for question in received.json["questions"]:
            p = refund if question["type"] == "predicate" else team
            if p is None:
                answers.append({"type": "refusal", "name": question["name"]})
            elif question["type"] == "predicate":
                answers.append({"type": "predicate", "name": question["name"], "probability": p})
            else:
                rows = [{"value": v, "probability": q} for v, q in (("billing", p), ("other", 1.0 - p))]
                choice = "billing" if p >= 0.5 else "other"
                answers.append({"type": "choice", "choice": choice, "confidence": 0.5, "probabilities": rows})
        return FakeAnswer(orjson.dumps({"model": "small", "answers": answers, "usage": USAGE}))

    return answer


class Facade:
    """A gateway whose model `chat` is a decision model that obeys certificates, before a large model."""

    def __init__(self, gateway: Any, target: Target = SMALL) -> None:
        self.gateway, self.target = gateway, target

    @property
    def certified(self) -> Any:
        return self.gateway.gateway.router.experiments.variants[self.target].certified

    async def certify(self, at: float | None = None, **from_p: float) -> None:
        """Shares certificates as a consumer does, and waits until this process has read them. at: Unix seconds."""
        config = self.gateway.gateway.config
        held = {name: CertificateInForce(p, at or time.time()) for name, p in from_p.items()}
        texts = {SHARED_NAME + claim_digest(config, name): each.to_json() for name, each in held.items()}
        await self.gateway.corridor.state.remember_all(texts, 600)
        wanted = sorted(p for p in from_p.values() if p <= 1.0)
        await self.gateway.until(lambda: sorted(c.from_p for c in self.certified.in_force.values()) == wanted)

    async def ask(self, properties: dict[str, Any] | None = None, **fields: Any) -> Any:
        schema = {"type": "object", "properties": properties or {"refund": BOOLEAN}}
        form = {"type": "json_schema", "json_schema": {"name": "ticket", "schema": schema}}
        return await self.gateway.chat("I was charged twice.", response_format=form, **fields)


@pytest.fixture
async def make(
    start: Any, configured: Callable[..., dict[str, Any]], upstream: FakeUpstream, second: FakeUpstream
) -> Make:
    """upstream: the decision model; second: the large one."""

    async def go(**changes: Any) -> Facade:
        upstream.replies(deciding(0.97))
        second.says('{"refund": false}')
        small = {"upstream": "u0", "model": "small", "as": "decision", "facade": "unproved"}
        model = {"targets": [{**small, "accept": "certificate refund", **changes}]}
        model["fallback"] = [{"upstream": "u1", "model": "large"}]
        config = configured(upstream, second, chat=model, prices={"as_of": "2026-12-01", "models": PRICES})
        questions = {"refund": {"predicate": REFUND}, "team": {"choice": TEAM, "options": ["billing", "other"]}}
        config["scorers"] = {n: {"use": "decided", "target": str(SMALL), "question": q} for n, q in questions.items()}
        config["decisions"] = {"certificates": {name: {"scorer": name} for name in questions}}
        return Facade(await start(config))

    return go


def answered(reply: Any) -> tuple[str, str | None]:
    """The model and the action of a response, which is no error."""
    assert reply.status_code == 200
    return reply.headers["x-gateway-model"], reply.headers.get("x-gateway-decision-action")


ACTED, LEFT = ("small", "act"), ("large", None)


async def test_a_chat_that_nobody_may_act_upon_costs_nothing(make: Make, upstream: FakeUpstream) -> None:
    facade = await make()
    assert answered(await facade.ask()) == LEFT
    assert upstream.received == []
    assert await facade.gateway.metric("gateway_attempts_total", result="ineligible") == 1


async def test_a_chat_is_acted_upon_in_the_zone_alone(make: Make, upstream: FakeUpstream) -> None:
    facade = await make()
    await facade.certify(refund=0.9)
    for p, expected in ((0.9, ACTED), (0.1, ACTED), (0.899, LEFT), (0.101, LEFT), (1.0, ACTED), (None, LEFT)):
        upstream.replies(deciding(p))
        for stream in (False, True):
            assert answered(await facade.ask(stream=stream)) == expected, p
    records = await facade.gateway.recorded(12)
    assert [record.target for record in records] == [
        t for t in (SMALL, SMALL, LARGE, LARGE, SMALL, LARGE) for _ in "12"
    ]
    declined = records[4]
    assert [(a.target, a.failure) for a in declined.attempts] == [(SMALL, DECLINED), (LARGE, None)]
    assert declined.decision is None, "the answer is the large model's"
    assert await facade.gateway.metric("gateway_attempts_total", result="declined") == 6
    small = await facade.gateway.metric("gateway_cost_usd_total", upstream="u0")
    assert small == pytest.approx(12 * 100e-6), "the decision model is paid where it is not believed"
    assert await facade.gateway.metric("gateway_cost_usd_total", upstream="u1") > 0
    assert not any(state.breaker.open for state in facade.gateway.gateway.router.target_states)


async def test_a_reading_needs_certificates_of_its_own(
    start: Any, configured: Callable[..., dict[str, Any]], upstream: FakeUpstream, second: FakeUpstream
) -> None:
    """Probabilities of a chat engine are certified by labels of their reading, and of no other."""
    upstream.replies(lambda received: chat_answer([("yes", 0.81), ("no", 0.09)]))
    second.says('{"refund": false}')
    read = Target("u0", "small", "decision,reading=words")
    small = {"upstream": "u0", "model": "small", "as": "decision", "facade": "unproved", "reading": "words",
             "probed": "2026-12-03", "accept": "certificate refund"}  # fmt: skip
    model = {"targets": [small], "fallback": [{"upstream": "u1", "model": "large"}]}
    config = configured(upstream, second, chat=model)
    scorer = {"use": "decided", "target": str(read), "question": {"predicate": REFUND}}
    config |= {"scorers": {"refund": scorer}, "decisions": {"certificates": {"refund": {"scorer": "refund"}}}}
    with pytest.raises(ConfigError, match="is about the reading native, and the answers have words"):
        parse(yaml.safe_dump(config), "f.yaml", {})
    scorer["reading"] = "words"
    facade = Facade(await start(config), read)
    assert answered(await facade.ask()) == LEFT
    assert upstream.calls == [], "no certificate is in force"
    await facade.certify(refund=0.85)
    assert answered(await facade.ask()) == ACTED
    await facade.certify(refund=0.95)
    assert answered(await facade.ask()) == LEFT


async def test_a_lapse_sends_all_chats_to_the_control(make: Make, upstream: FakeUpstream) -> None:
    facade = await make()
    await facade.certify(refund=0.9)
    assert answered(await facade.ask()) == ACTED
    sent = len(upstream.calls)
    await facade.certify(refund=2.0)
    assert {answered(await facade.ask()) for _ in range(5)} == {LEFT}
    assert len(upstream.calls) == sent


async def test_a_certificate_of_a_chat_ends_unless_it_is_confirmed(make: Make) -> None:
    facade = await make()
    await facade.certify(refund=0.9, at=time.time() - CONFIRMED_S + 600)
    assert answered(await facade.ask()) == ACTED
    facade.certified.clock = lambda: time.time() + 601
    assert answered(await facade.ask()) == LEFT, "also where the stream server is gone"


async def test_each_member_needs_a_certificate_of_its_question(make: Make, upstream: FakeUpstream) -> None:
    facade = await make()
    both = {"refund": BOOLEAN, "team": CHOICE}
    await facade.certify(refund=0.9)
    assert answered(await facade.ask({"again": BOOLEAN})) == ACTED, "the name is not the question"
    assert answered(await facade.ask({"refund": {**BOOLEAN, "description": "Money back?"}})) == LEFT
    assert answered(await facade.ask(both)) == LEFT
    facade = await make(accept="certificate refund and certificate team")
    await facade.certify(refund=0.9, team=0.8)
    for refund, team, expected in ((0.95, 0.85, ACTED), (0.95, 0.15, ACTED), (0.95, 0.75, LEFT), (0.85, 0.99, LEFT)):
        upstream.replies(deciding(refund, team))
        assert answered(await facade.ask(both)) == expected


async def test_a_certified_model_that_fails_is_followed(make: Make, upstream: FakeUpstream) -> None:
    facade = await make()
    await facade.certify(refund=0.9)
    upstream.always(Fault.status(500))
    assert answered(await facade.ask()) == LEFT


async def test_certificates_outlive_a_reload_of_the_config(make: Make) -> None:
    facade = await make()
    await facade.certify(refund=0.9)
    before = facade.gateway.gateway
    config = yaml.safe_load(await asyncio.to_thread(facade.gateway.config_path.read_text))
    config["sampling"]["rate"] = 0.5
    facade.gateway.write(config)
    await facade.gateway.until(lambda: facade.gateway.gateway is not before)
    assert answered(await facade.ask()) == ACTED


async def test_an_acted_chat_is_scored_as_the_decision_that_it_was(make: Make) -> None:
    """People label the answers behind the façade, so that its certificate is watched."""
    facade = await make()
    await facade.certify(refund=0.9)
    await facade.ask()
    [record] = await facade.gateway.recorded(1)
    scorer = Decided("refund", DecidedQuestion(predicate=REFUND), str(SMALL))
    score = await scorer.score(Subject(record, orjson.loads(record.request), Completion()))
    assert isinstance(score, Score)
    assert (score.value, score.label) == (0.97, "yes")
