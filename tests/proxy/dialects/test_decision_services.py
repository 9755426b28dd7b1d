"""Services of decisions whose path or bill is their own, as doubles of Perplexity and OpenRouter, over sockets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest
from fixtures.scoring import Model

from gateway.consumer.entry_scoring import EntryScorer
from gateway.core.prices import Price, Prices
from gateway.fake import FakeAnswer, FakeUpstream, Received
from gateway.scoring.threads import ScoringThreads
from gateway.stream import StreamEntry

QUESTIONS = [
    {"type": "predicate", "name": "refund", "instructions": "The customer asks for money back."},
    {
        "type": "choice",
        "name": "team",
        "instructions": "Which team?",
        "choices": [{"value": "billing"}, {"value": "it"}],
    },
]
ASKED = {"model": "chat", "input": "I was charged twice.", "questions": QUESTIONS}
STATED = {
    "model": "chat",
    "state": "I was charged twice.",
    "questions": {"refund": {"type": "noul", "instructions": "Is a refund requested?"}},
}
COST = 0.000_25


def _answers(questions: dict[str, Any]) -> dict[str, Any]:
    """Answers to all questions, with two decimals."""
    answers: dict[str, Any] = {}
    for key, question in questions.items():
        if question["type"] == "noul":
            answers[key] = {"type": "noul", "noul": 0.93}
        else:
            shares = {"billing": 0.97, "it": 0.02}
            answers[key] = {"type": "choice", "choice": "billing", "probabilities": shares, "confidence": 0.9}
    return answers


def service(path: str, usage: dict[str, Any] | None = None) -> Callable[[Received], FakeAnswer]:
    """A service that takes System One's format at this path alone."""

    def replies(received: Received) -> FakeAnswer:
        body = received.json
        if received.path != path or "state" not in body:
            return FakeAnswer(b'{"error":{"message":"no such path, or not this format","code":404}}', status=404)
        answer = {"id": "gen-1", "model": body["model"], "provider": "TypeSafe", "answers": _answers(body["questions"])}
        return FakeAnswer(orjson.dumps({**answer, "usage": {"input_tokens": 90, "output_tokens": 0, **(usage or {})}}))

    return replies


def of_kind(config: dict[str, Any], kind: str, price: float | None = None) -> dict[str, Any]:
    """A config whose upstreams are of this kind. price: of its models, in USD per million tokens."""
    for upstream in config["upstreams"].values():
        upstream |= {"kind": kind}
    if price is not None:
        models = {f"model-{name}": {"input": price, "output": price} for name in config["upstreams"]}
        config["prices"] = {"as_of": "2026-12-01", "models": models}
    return config


@pytest.mark.parametrize(
    ("kind", "path"), [("perplexity", "/v1/decisions"), ("openrouter", "/alpha/decisions")], ids=str
)
@pytest.mark.parametrize("at", ["/decisions", "/systemone"])
async def test_both_formats_reach_a_service_on_its_own_path(
    start: Any, configured: Any, kind: str, path: str, at: str
) -> None:
    async with FakeUpstream() as double:
        double.replies(service(path))
        running = await start(of_kind(configured(double), kind))
        ours, theirs = await running.client.post(at, json=ASKED), await running.client.post(at, json=STATED)
    assert (ours.status_code, theirs.status_code) == (200, 200), ours.text + theirs.text
    assert [call.path for call in double.calls] == [path, path]
    refund, team = ours.json()["answers"]
    assert (refund["probability"], team["choice"]) == (0.93, "billing"), "a sum of 0.99 is not an invalid answer"
    assert theirs.json()["answers"] == {"refund": {"type": "noul", "noul": 0.93}}
    assert theirs.json()["provider"] == "TypeSafe", "the answer passes as it is"
    assert orjson.loads(double.calls[1].body) == {**STATED, "model": "model-u0"}


async def test_more_questions_than_perplexity_takes_are_asked_in_parts(start: Any, configured: Any) -> None:
    asked = {**ASKED, "questions": QUESTIONS[:1] * 130}
    async with FakeUpstream() as double:
        double.replies(service("/v1/decisions"))
        running = await start(of_kind(configured(double), "perplexity"))
        reply = await running.client.post("/decisions", json=asked)
    assert reply.status_code == 200, reply.text
    assert [len(call.json["questions"]) for call in double.calls] == [128, 2]
    assert {call.path for call in double.calls} == {"/v1/decisions"}


@pytest.mark.parametrize("body", [ASKED, STATED], ids=["openai", "systemone"])
async def test_a_service_that_runs_out_of_time_is_followed_by_another(
    start: Any, configured: Any, body: dict[str, Any]
) -> None:
    """Perplexity ends a request after about a minute with HTTP 504, and with a page that is no JSON."""
    async with FakeUpstream() as slow, FakeUpstream() as other:
        slow.replies(lambda received: FakeAnswer(b"<html>504</html>", status=504, content_type="text/html"))
        other.replies(service("/v1/decisions"))
        running = await start(of_kind(configured(slow, other), "perplexity"))
        reply = await running.client.post("/decisions", json=body)
        assert (reply.status_code, reply.headers["x-gateway-upstream"]) == (200, "u1"), reply.text
        alone = await start(of_kind(configured(slow), "perplexity"))
        reply = await alone.client.post("/decisions", json=body)
    assert reply.status_code == 502, reply.text
    assert "504" in reply.text
    assert ("error" if body is ASKED else "detail") in reply.json(), "in the shape of the client's API"


@pytest.mark.parametrize("status", [400, 413])
async def test_an_error_passes_or_has_the_clients_shape(start: Any, configured: Any, status: int) -> None:
    error = {"error": {"message": "the state is too long", "type": "too_long", "code": status}}
    async with FakeUpstream() as double:
        double.replies(lambda received: FakeAnswer(orjson.dumps(error), status=status))
        running = await start(of_kind(configured(double), "perplexity"))
        translated = await running.client.post("/systemone", json=ASKED)
        native = await running.client.post("/decisions", json=STATED)
    assert (translated.status_code, native.status_code) == (status, status)
    assert translated.json()["error"]["message"] == "the state is too long"
    assert native.json() == error, "as the service sent it"


@pytest.mark.parametrize("price", [None, 10.0], ids=["without a price", "with a price"])
@pytest.mark.parametrize("body", [ASKED, STATED], ids=["translated", "native"])
async def test_the_services_own_bill_wins(
    start: Any, configured: Any, body: dict[str, Any], price: float | None
) -> None:
    async with FakeUpstream() as double:
        double.replies(service("/alpha/decisions", {"cost": COST}))
        running = await start(of_kind(configured(double), "openrouter", price))
        reply = await running.client.post("/decisions", json=body)
        assert reply.status_code == 200, reply.text
        [exchange] = await running.recorded()
        assert exchange.usage.usd == COST
        assert await running.metric("gateway_cost_usd_total") == pytest.approx(COST)
        assert await running.metric("gateway_unpriced_total") == 0.0


def billed_by_openais_format(received: Received) -> FakeAnswer:
    """A service that takes OpenAI's format, and states its bill."""
    count = len(received.json["questions"])
    answers = [{"type": "predicate", "name": None, "probability": 0.93}] * count
    usage = {"input_tokens": 90, "output_tokens": 0, "total_tokens": 90, "cost": COST}
    return FakeAnswer(orjson.dumps({"model": "m", "answers": answers, "usage": usage}))


async def test_a_bill_reaches_clients_of_both_formats(start: Any, configured: Any) -> None:
    async with FakeUpstream() as theirs, FakeUpstream() as ours:
        theirs.replies(service("/alpha/decisions", {"cost": COST}))
        running = await start(of_kind(configured(theirs), "openrouter"))
        to_systemone = await running.client.post("/decisions", json=ASKED)
        ours.replies(billed_by_openais_format)
        config = configured(ours)
        config["upstreams"]["u0"]["decisions"] = "openai"
        running = await start(config)
        to_openai = await running.client.post("/systemone", json=STATED)
    usage = to_systemone.json()["usage"]
    assert (usage["cost"], usage["total_tokens"]) == (COST, 90), usage
    assert to_openai.json()["usage"] == {"input_tokens": 90, "output_tokens": 0, "cost": COST}


async def test_the_bills_of_parts_are_summed(start: Any, configured: Any) -> None:
    asked = {**ASKED, "questions": QUESTIONS[:1] * 201}
    async with FakeUpstream() as double:
        double.replies(service("/alpha/decisions", {"cost": COST}))
        running = await start(of_kind(configured(double), "openrouter"))
        reply = await running.client.post("/decisions", json=asked)
        [exchange] = await running.recorded()
    assert len(double.calls) == 2
    assert reply.json()["usage"]["cost"] == exchange.usage.usd == 2 * COST


async def test_an_answer_without_a_bill_states_none(start: Any, configured: Any) -> None:
    async with FakeUpstream() as double:
        double.replies(service("/v1/decisions"))
        running = await start(of_kind(configured(double), "perplexity", 10.0))
        reply = await running.client.post("/decisions", json=ASKED)
    assert "cost" not in reply.json()["usage"], "our own price is not the bill of the upstream"


@pytest.mark.parametrize("body", [ASKED, STATED], ids=["translated", "native"])
async def test_a_scorer_over_http_is_told_the_bill(
    start: Any, configured: Any, model: Model, body: dict[str, Any]
) -> None:
    """The price of the tokens would be 0.0009 USD, and the call has attempts that failed."""
    model.upstream.replies(lambda r: FakeAnswer(b"", status=404) if "golden" in r.path else FakeAnswer(b'{"value": 1}'))
    scorer = model.build("far", use=model.upstream.origin + "/score")
    async with FakeUpstream() as broken, FakeUpstream() as double:
        broken.answers(503, b"{}")
        double.replies(service("/alpha/decisions", {"cost": COST}))
        running = await start(of_kind(configured(broken, double), "openrouter", 10.0))
        assert (await running.client.post("/decisions", json=body)).status_code == 200
        [exchange] = await running.recorded()
    threads = ScoringThreads()
    prices = Prices({f"u{n}/model-u{n}": Price(10.0, 10.0) for n in range(2)})
    read = await EntryScorer({"far": scorer}, threads, prices).read([StreamEntry("1-0", exchange.to_fields())])
    threads.close()
    [sent] = [call.json for call in model.upstream.calls if call.method == "POST"]
    assert len(exchange.attempts) > 1
    assert sent["exchange"]["cost_usd"] == COST
    assert [entry.judged.cost_usd for entry in read.read if entry.judged] == [COST]


@pytest.mark.parametrize("cost", [True, -1, "0.1", {"total_cost": 1}, 1e9])
async def test_a_bill_that_is_no_sum_of_money_is_not_read(start: Any, configured: Any, cost: Any) -> None:
    async with FakeUpstream() as double:
        double.replies(service("/alpha/decisions", {"cost": cost}))
        running = await start(of_kind(configured(double), "openrouter", 10.0))
        assert (await running.client.post("/decisions", json=STATED)).status_code == 200
        [exchange] = await running.recorded()
        assert exchange.usage.usd is None
        assert await running.metric("gateway_cost_usd_total") == pytest.approx(90 * 10.0 / 1e6)


def refusing(received: Received) -> FakeAnswer:
    """OpenRouter, whose model refuses the first question and answers the others."""
    answer = orjson.loads(service("/alpha/decisions", {"cost": COST})(received).body)
    del answer["answers"][next(iter(answer["answers"]))]
    return FakeAnswer(orjson.dumps(answer))


async def test_a_question_that_openrouter_refuses_costs_no_other(start: Any, configured: Any) -> None:
    """A refused question has no answer there; for OpenAI's clients that is a refusal, and a call of one attempt."""
    stated = {**STATED, "questions": {**STATED["questions"], "again": STATED["questions"]["refund"]}}
    async with FakeUpstream() as double:
        double.replies(refusing)
        running = await start(of_kind(configured(double), "openrouter"))
        ours = await running.client.post("/decisions", json=ASKED)
        theirs = await running.client.post("/decisions", json=stated)
        exchange, _ = await running.recorded(2)
    refund, team = ours.json()["answers"]
    assert (refund, team["choice"]) == ({"type": "refusal", "name": "refund"}, "billing")
    assert list(theirs.json()["answers"]) == ["again"], "the answer passes as it is"
    assert (len(double.calls), exchange.outcome, exchange.usage.usd) == (2, "ok", COST)


@pytest.mark.parametrize("status", [402, 403, 429])
@pytest.mark.parametrize("body", [ASKED, STATED], ids=["translated", "native"])
async def test_openrouters_refusal_of_a_call_keeps_each_shape(
    start: Any, configured: Any, body: dict[str, Any], status: int
) -> None:
    """No credit, moderation and its own rate limit: translated as the client's error, natively as it was sent."""
    error = {"error": {"code": status, "message": "refused by the provider", "metadata": {"provider_name": "OpenAI"}}}
    async with FakeUpstream() as double:
        double.replies(lambda received: FakeAnswer(orjson.dumps(error), status=status))
        config = of_kind(configured(double), "openrouter")
        config["models"]["chat"]["retries"] = {"attempts": 1}
        running = await start(config)
        reply = await running.client.post("/decisions", json=body)
    assert reply.status_code == status
    if body is STATED:
        assert reply.json() == error, "as the service sent it"
    else:
        assert set(reply.json()["error"]) == {"message", "type", "param", "code"}
        assert "refused by the provider" in reply.json()["error"]["message"]
    assert len(double.calls) == 1
