"""Requests and answers of decisions that are wrong, large or ambiguous: a clear error or the next target, and never a
number that nobody stated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import openai
import orjson
import pytest

from gateway.fake import FakeAnswer, FakeUpstream, Received

KEY = "test-key"
ASKED = {"type": "predicate", "instructions": "Is it?"}
STATED = {"refund": {"type": "noul", "instructions": "Is it?"}}
MB = 1 << 20


@pytest.fixture
def translating(start: Any, configured: Any) -> Callable[..., Any]:
    """A gateway whose upstreams take decisions in this format."""

    async def go(format: str, *servers: FakeUpstream) -> Any:
        config = configured(*servers)
        for upstream in config["upstreams"].values():
            upstream["decisions"] = format
        config["models"]["chat"]["timeouts"] = {"answer_s": 60, "total_s": 60}  # 30 MB take their time
        return await start(config)

    return go


def jev(**shares: Any) -> Callable[[Received], FakeAnswer]:
    """A server of System One that rounds to two decimals: every choice has these probabilities."""

    def answer(received: Received) -> FakeAnswer:
        answers = {key: _stated(question, shares) for key, question in received.json["questions"].items()}
        return FakeAnswer(orjson.dumps({"model": "jev-1.13.0", "answers": answers, "usage": {"input_tokens": 9}}))

    return answer


def _stated(question: Any, shares: dict[str, Any]) -> Any:
    if question["type"] == "noul":
        return {"type": "noul", "noul": 0.93}
    return {"type": "choice", "choice": max(shares, key=shares.__getitem__), "probabilities": shares, "confidence": 0.5}


def choice(*values: Any) -> dict[str, Any]:
    return {"type": "choice", "instructions": "Which?", "choices": [{"value": value} for value in values]}


def openai_body(*questions: Any, **fields: Any) -> dict[str, Any]:
    return {"model": "chat", "input": "x", "questions": list(questions), **fields}


async def test_questions_of_one_name_are_told_apart_by_position(translating: Any, upstream: FakeUpstream) -> None:
    upstream.replies(jev(a=0.8, b=0.2))
    running = await translating("systemone", upstream)
    questions = [{**ASKED, "name": "same"}, {**choice("b", "a"), "name": "same"}]
    reply = await running.client.post("/decisions", json=openai_body(*questions))
    first, second = reply.json()["answers"]
    assert (first["name"], first["probability"]) == ("same", 0.93)
    assert (second["name"], second["choice"]) == ("same", "a")
    assert second["probabilities"] == [{"value": "b", "probability": 0.2}, {"value": "a", "probability": 0.8}]


async def test_an_option_that_begins_another_keeps_its_share(translating: Any, upstream: FakeUpstream) -> None:
    upstream.replies(jev(bill=0.1, billing=0.6, billings=0.3))
    running = await translating("systemone", upstream)
    reply = await running.client.post("/decisions", json=openai_body(choice("billings", "bill", "billing")))
    [answer] = reply.json()["answers"]
    assert answer["choice"] == "billing"
    assert [row["probability"] for row in answer["probabilities"]] == [0.3, 0.1, 0.6]


NO_LEVELS = {**ASKED, "type": "score", "levels": []}
MANY = [str(n) for n in range(256)]
REFUSED = [
    ("systemone", "/decisions", openai_body(choice(*MANY)), "questions[0].choices", "2 to 255, not 256"),
    ("systemone", "/decisions", openai_body(choice("a", "a")), "questions[0].choices", "a value twice"),
    ("systemone", "/decisions", openai_body(NO_LEVELS), "questions[0].levels", "2 to 10"),
    (
        "systemone",
        "/decisions",
        openai_body({**ASKED, "type": "score", "levels": [{"label": ""}, {"label": "b"}]}),
        "questions[0].levels[0].label",
        "not empty",
    ),
    (
        "openai",
        "/systemone",
        {"questions": {"a": {"type": "choice", "instructions": "?", "criteria": dict.fromkeys(MANY)}}},
        "questions.a.criteria",
        "1 to 255 options",
    ),
    (
        "openai",
        "/systemone",
        {"questions": {"a": {"type": "score", "instructions": "?", "criteria": []}}},
        "questions.a.criteria",
        "2 to 10 levels",
    ),
    (
        "systemone",
        "/decisions",
        openai_body(ASKED, input=[{"role": "user", "content": [{"type": "input_image", "image_url": "https://h/a.png"}]}]),
        "input",
        "takes no images",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("format", "path", "body", "param", "words"), REFUSED, ids=[words for *_, words in REFUSED])
async def test_an_impossible_question_is_refused_before_it_is_sent(
    translating: Any, upstream: FakeUpstream, format: str, path: str, body: Any, param: str, words: str
) -> None:
    running = await translating(format, upstream)
    stated = {"model": "chat", "state": "x"} if path == "/systemone" else {}
    reply = await running.client.post(path, json=stated | body)
    assert reply.status_code == 400, reply.text
    error = reply.json()
    if path == "/decisions":
        assert (error["error"]["param"], words in error["error"]["message"]) == (param, True), error
    else:
        [detail] = error["detail"]
        assert (detail["loc"], words in detail["msg"]) == (["body", param], True), error
    assert upstream.calls == []


@pytest.mark.parametrize("shares", [(0.33, 0.33, 0.33), (0.34, 0.34, 0.33), (0.98, 0.02, 0.02), (0.5, 0.25, 0.23)])
async def test_rounded_probabilities_are_kept_as_they_come(
    translating: Any, upstream: FakeUpstream, shares: tuple[float, ...]
) -> None:
    upstream.replies(jev(**dict(zip("abc", shares, strict=True))))
    running = await translating("systemone", upstream)
    reply = await running.client.post("/decisions", json=openai_body(choice("a", "b", "c")))
    assert [row["probability"] for row in reply.json()["answers"][0]["probabilities"]] == list(shares)


@pytest.mark.parametrize(
    "answers",
    [
        {"q0": {"type": "choice", "choice": "a", "probabilities": {"a": 0.5, "b": 0.47}}},
        {"q0": {"type": "choice", "choice": "a", "probabilities": {"a": 0.53, "b": 0.5}}},
        {"q0": {"type": "choice", "choice": "a", "probabilities": {"a": "1.2", "b": 0.0}}},
        {"q0": {"type": "choice", "choice": "c", "probabilities": {"a": 0.5, "b": 0.5}}},
        {"q0": {"type": "choice", "choice": "a", "probabilities": {"a": 1.0}}},
        {"q0": {"type": "noul", "noul": 0.5}},
        {"q1": {"type": "choice", "choice": "a", "probabilities": {"a": 0.5, "b": 0.5}}},
    ],
    ids=["0.97", "1.03", "text", "other choice", "option missing", "other kind", "not asked"],
)
async def test_an_invalid_answer_goes_to_the_next_target(
    translating: Any, upstream: FakeUpstream, second: FakeUpstream, answers: Any
) -> None:
    upstream.replies(lambda received: FakeAnswer(orjson.dumps({"model": "m", "answers": answers})))
    second.replies(jev(a=0.75, b=0.25))
    running = await translating("systemone", upstream, second)
    reply = await running.client.post("/decisions", json=openai_body(choice("a", "b")))
    assert (reply.status_code, reply.headers["x-gateway-upstream"]) == (200, "u1")
    assert [row["probability"] for row in reply.json()["answers"][0]["probabilities"]] == [0.75, 0.25]
    [exchange] = await running.recorded()
    assert [attempt.target.upstream for attempt in exchange.attempts] == ["u0", "u0", "u1"], (
        "tried twice, as configured"
    )


@pytest.mark.parametrize(
    "answers",
    [
        [{"type": "predicate", "probability": "1.2"}],
        [{"type": "predicate", "probability": 0.5}] * 2,
        [{"type": "predicate", "probability": None}],
    ],
    ids=["text", "not asked", "missing"],
)
async def test_an_invalid_answer_of_openais_server_is_no_number(
    translating: Any, upstream: FakeUpstream, answers: Any
) -> None:
    upstream.replies(lambda received: FakeAnswer(orjson.dumps({"model": "m", "answers": answers})))
    running = await translating("openai", upstream)
    reply = await running.client.post("/systemone", json={"model": "chat", "state": "x", "questions": STATED})
    assert (reply.status_code, isinstance(reply.json()["detail"], str)) == (502, True)


async def test_a_state_of_30_mb_is_translated_and_33_are_refused(translating: Any, upstream: FakeUpstream) -> None:
    upstream.replies(jev())
    running = await translating("systemone", upstream)
    reply = await running.client.post("/decisions", json=openai_body(ASKED, input="x" * 30 * MB))
    assert (reply.status_code, reply.json()["answers"][0]["probability"]) == (200, 0.93)
    assert len(upstream.calls[0].body) > 30 * MB
    large = await running.client.post("/decisions", json=openai_body(ASKED, input="x" * 33 * MB))
    assert large.status_code == 413
    assert len(upstream.calls) == 1


@pytest.mark.parametrize("format", ["openai", "systemone"])
async def test_a_402_reaches_both_clients_and_is_asked_once(
    translating: Any, upstream: FakeUpstream, format: str
) -> None:
    error = {"error": {"message": "insufficient credits", "type": "billing"}}
    upstream.replies(lambda received: FakeAnswer(orjson.dumps(error), status=402))
    running = await translating(format, upstream)
    async with openai.AsyncOpenAI(base_url=running.base_url, api_key=KEY, max_retries=2) as client:
        with pytest.raises(openai.APIStatusError) as raised:
            await client.decisions.create(model="chat", input="x", questions=[ASKED])  # type: ignore[list-item]
    assert (raised.value.status_code, "insufficient credits" in raised.value.message) == (402, True)
    reply = await running.client.post("/systemone", json={"model": "chat", "state": "x", "questions": STATED})
    assert reply.status_code == 402
    assert len(upstream.calls) == 2


async def test_a_refusal_is_an_error_where_the_config_says_so(
    start: Any, configured: Any, upstream: FakeUpstream
) -> None:
    answers = [{"type": "refusal", "name": None}, {"type": "predicate", "name": None, "probability": 0.9}]
    body = {"model": "m", "answers": answers, "usage": {"input_tokens": 9, "output_tokens": 0, "total_tokens": 9}}
    upstream.replies(lambda received: FakeAnswer(orjson.dumps(body)))
    config = configured(upstream, decisions={"refusal": "error"})
    config["upstreams"]["u0"]["decisions"] = "openai"
    running = await start(config)
    questions = {"first": STATED["refund"], "second": STATED["refund"]}
    reply = await running.client.post("/systemone", json={"model": "chat", "state": "x", "questions": questions})
    assert reply.status_code == 422
    [detail] = reply.json()["detail"]
    assert (detail["loc"], detail["type"]) == (["body", "questions", "first"], "refused")
    own = await running.client.post("/decisions", json=openai_body(ASKED, ASKED))
    assert (own.status_code, own.json()["answers"][0]["type"]) == (200, "refusal"), "its format has an answer for it"
    refused, answered = await running.recorded(2)
    assert (refused.status, refused.usage.input_tokens, answered.status) == (422, 9, 200), "it is paid"
    assert not running.gateway.router.target_states[0].breaker.open
    answers[0] = answers[1]
    asked = {"model": "chat", "state": "x", "questions": questions}
    complete = await running.client.post("/systemone", json=asked)
    assert (complete.status_code, complete.json()["answers"]["first"]) == (200, {"type": "noul", "noul": 0.9})
