"""Each real engine through the gateway: chat, stream, usage, cancel, load, refusals, and a death in mid-answer."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from openai import APIStatusError, InternalServerError, OpenAI

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]
JAPAN: Any = [{"role": "user", "content": "What is the capital of Japan?"}]
STORY: Any = [{"role": "user", "content": "Tell me a long story about a lighthouse keeper and the sea."}]


@pytest.fixture
def client(stage: Any) -> Iterator[OpenAI]:
    """OpenAI's client, connected to the engine's gateway."""
    with OpenAI(base_url=stage.base_url, api_key="none", max_retries=0, timeout=300) as client:
        yield client


def test_it_answers(stage: Any, client: OpenAI, journal: Any) -> None:
    reply = client.chat.completions.with_raw_response.create(
        model="alone", messages=JAPAN, max_tokens=24, temperature=0
    )
    answer = reply.parse()
    assert "Tokyo" in (answer.choices[0].message.content or "")
    assert answer.choices[0].finish_reason == "stop"
    assert reply.headers["x-gateway-upstream"] == "real"
    assert answer.usage is not None
    assert answer.usage.completion_tokens > 0
    journal.note(stage.engine.name, "plain answer", f"“{answer.choices[0].message.content}”")


def raw_events(stage: Any, **fields: Any) -> list[str]:
    body = {"model": "alone", "messages": JAPAN, "max_tokens": 24, "temperature": 0, "stream": True, **fields}
    request = urllib.request.Request(
        f"{stage.base_url}/chat/completions", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=120) as answer:
        lines = answer.read().decode().split("\n\n")
    return [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]


def test_a_stream_ends_with_done_and_usage_only_on_request(stage: Any, journal: Any) -> None:
    silent = raw_events(stage)
    asked = raw_events(stage, stream_options={"include_usage": True})
    for events in (silent, asked):
        assert events[-1] == "[DONE]"
        chunks = [json.loads(e) for e in events[:-1]]
        text = "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"])
        assert "Tokyo" in text
        assert len(chunks) > 4
    usage = [json.loads(e).get("usage") for e in asked[:-1]]
    assert usage[-1]
    assert usage[-1]["completion_tokens"] > 0
    usages = sum(bool(json.loads(e).get("usage")) for e in silent[:-1])
    assert usages == (1 if stage.engine.name == "transformers" else 0), "the chunk we asked for is ours"
    journal.note(stage.engine.name, "stream", f"{len(asked) - 1} chunks, usage if requested, [DONE]")


def test_usage_is_counted_and_stored_plain_and_streamed(stage: Any, client: OpenAI, journal: Any) -> None:
    before = stage.metric("gateway_tokens_total", alias="alone", type="output")
    plain = client.chat.completions.with_raw_response.create(
        model="alone", messages=JAPAN, max_tokens=24, temperature=0
    )
    usage = plain.parse().usage
    assert usage is not None
    raw_events(stage)
    counted = stage.metric("gateway_tokens_total", alias="alone", type="output") - before
    assert counted == pytest.approx(2 * usage.completion_tokens, abs=2), "the stop token may count in one of them"
    stored = stage.sample(plain.headers["x-request-id"])
    assert stored["input_tokens"] == usage.prompt_tokens
    assert stored["output_tokens"] == usage.completion_tokens
    journal.note(
        stage.engine.name, "usage", f"{usage.prompt_tokens}+{usage.completion_tokens} tokens, counted and stored"
    )


def test_a_client_that_leaves_stops_the_engine(stage: Any, client: OpenAI, journal: Any, stages: Any) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model="alone", messages=STORY, max_tokens=700, temperature=0.8, stream=True
    )
    stream = raw.parse()
    for _ in range(4):
        next(stream)
    assert stage.busy() > 0
    stream.close()
    stages.wait_for(lambda: stage.busy() == 0, 30, "the engine is idle")
    stored = stage.sample(raw.headers["x-request-id"])
    assert stored["outcome"] == "client_gone"
    assert stored["text"]
    journal.note(stage.engine.name, "client leaves", "the engine stops; kept as client_gone")


@contextmanager
def occupied(stage: Any, stages: Any) -> Iterator[Callable[[int], None]]:
    """Gives what sends N long requests to the engine past the gateway; they end with the block."""
    threads: list[threading.Thread] = []
    over = threading.Event()

    def ask() -> None:
        body = {"model": "smollm2", "messages": STORY, "max_tokens": 30, "temperature": 0.8, "stream": True}
        request = urllib.request.Request(
            f"{stage.origin}/v1/chat/completions", json.dumps(body).encode(), {"content-type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=300) as answer:
            while answer.readline() and not over.is_set():
                pass

    def send(n: int) -> None:
        before = stage.busy()
        for _ in range(n):
            threads.append(threading.Thread(target=ask, daemon=True))
            threads[-1].start()
        stages.wait_for(lambda: stage.busy() >= before + n, 90, f"{n} more requests at the engine")

    try:
        yield send
    finally:
        over.set()
        for each in threads:
            each.join(120)
        stages.wait_for(lambda: stage.busy() == 0, 60, "the engine is idle again")


def where(client: OpenAI, alias: str, within_s: float | None = None) -> str:
    """The upstream that answered; "none" if none did in time."""
    limit = {} if within_s is None else {"x-gateway-timeout-s": f"{within_s:g}"}
    try:
        reply = client.chat.completions.with_raw_response.create(
            model=alias, messages=JAPAN, max_tokens=1, extra_headers=limit
        )
    except InternalServerError:  # 504
        return "none"
    return reply.headers["x-gateway-upstream"]


def test_the_load_that_it_tells_sends_calls_elsewhere(stage: Any, client: OpenAI, journal: Any, stages: Any) -> None:
    """An ORCA report comes with a plain answer: it was asked before others came, and learns of them."""
    assert {where(client, "balanced") for _ in range(3)} == {"real"}
    if not stage.engine.tells_load:
        journal.note(stage.engine.name, "load in answers", "none reported")
        return
    with occupied(stage, stages) as send:
        send(3)
        answered = threading.Thread(target=where, args=(client, "alone"))
        answered.start()
        stages.wait_for(lambda: stage.busy() >= 4, 90, "ours is at the engine")
        send(4)
        answered.join(280)
        assert [where(client, "balanced") for _ in range(4)] == ["double"] * 4
    journal.note(stage.engine.name, "load in answers", "ORCA: calls went elsewhere while others waited there")


def test_the_load_that_its_metrics_tell_does_so_too(stage: Any, client: OpenAI, journal: Any, stages: Any) -> None:
    if stage.engine.name != "vllm":
        journal.note(stage.engine.name, "load in /metrics", "not read")
        pytest.skip("only vLLM's /metrics are read for load")
    assert where(client, "scraped") == "watched"
    with occupied(stage, stages) as send:
        send(6)
        tried = [where(client, "scraped", 3) for _ in range(4)]  # the first may go before the metrics are read again
        assert tried[-3:] == ["double"] * 3
        assert stage.busy() > 2, "others still wait"
    journal.note(stage.engine.name, "load in /metrics", "scraped: calls went elsewhere")


def refused(stage: Any, client: OpenAI, journal: Any, check: str, **fields: Any) -> APIStatusError | None:
    """The refusal of a request, as the client sees it; None if it is answered. An engine's own words pass as they
    are.
    """
    asked = {"model": "alone", "messages": JAPAN, "max_tokens": 4, **fields}
    try:
        client.post("/chat/completions", body=asked, cast_to=object)
    except APIStatusError as error:
        body = error.response.json()
        if "error" in body:
            assert set(body["error"]) >= {"message", "type", "code"}
            words = f"{body['error']['type']}, code {body['error']['code']}"
        else:
            assert stage.engine.name == "transformers", "the others have OpenAI's shape"
            words = f"`{next(iter(body))}`, not OpenAI's shape"
        journal.note(stage.engine.name, check, f"{error.status_code} {words}")
        return error
    journal.note(stage.engine.name, check, "answered")
    return None


def test_an_unknown_model_is_refused_where_the_engine_minds(stage: Any, client: OpenAI, journal: Any) -> None:
    error = refused(stage, client, journal, "unknown model", model="unknown")
    if stage.engine.name in ("vllm", "transformers"):
        assert error is not None
        assert 400 <= error.status_code < 500


def test_a_request_without_messages_is_the_clients_fault(stage: Any, client: OpenAI, journal: Any) -> None:
    error = refused(stage, client, journal, "no messages", messages=None)
    assert error is not None
    journal.note(stage.engine.name, "no messages", f"{error.status_code}")


def test_a_prompt_that_is_too_long_goes_to_the_fallback(stage: Any, client: OpenAI, journal: Any) -> None:
    if stage.engine.context is None:
        journal.note(stage.engine.name, "too long a prompt", "no limit of its own")
        pytest.skip(f"{stage.engine.title} has no limit of its own")
    long: Any = [{"role": "user", "content": "sea and " * stage.engine.context}]
    error = refused(stage, client, journal, "too long a prompt", messages=long)
    assert error is not None
    assert error.status_code == 400
    reply = client.chat.completions.with_raw_response.create(model="backed", messages=long, max_tokens=4)
    assert reply.headers["x-gateway-upstream"] == "double"


def test_a_death_in_mid_answer_ends_the_stream_with_an_error(
    stage: Any, client: OpenAI, journal: Any, stages: Any
) -> None:
    """The engine comes back where `gateway up` runs it."""
    body = {"model": "alone", "messages": STORY, "max_tokens": 700, "stream": True}
    request = urllib.request.Request(
        f"{stage.base_url}/chat/completions", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=120) as answer:
        for _ in range(6):
            answer.readline()
        stage.kill()
        rest = answer.read().decode()
    last = [line for line in rest.splitlines() if line.startswith("data: ")][-1]
    assert json.loads(last.removeprefix("data: "))["error"]["message"]
    assert "[DONE]" not in rest
    assert where(client, "backed") == "double"
    if stage.own is not None:
        stages.start_own(stage)
        result = "error event; the fallback answers"
    else:
        stages.wait_for(stage.healthy, 300, "`gateway up` has started it again")
        result = "error event; the fallback answers; `gateway up` starts it again"
    stages.wait_for(lambda: where(client, "backed") == "real", 120, "the gateway asks it again")
    journal.note(stage.engine.name, "killed in mid-answer", result)
