"""The sixteen upstream faults that a caller must survive: over real sockets, streamed and plain, with a fallback and
without. `pytest tests/proxy/test_faults.py -q` prints the table."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from gateway.fake import CUT, HOLD, FakeAnswer, FakeUpstream, Fault
from gateway.fake.wire import correct_steps

TEXT = "Paris is the capital of France."
TIMEOUTS = {"connect_s": 1, "first_token_s": 0.4, "answer_s": 0.6, "idle_s": 0.4, "total_s": 15}


@dataclass(frozen=True)
class Case:
    """One fault. once: it strikes only the first request. clean: statuses that may be the answer without a fallback
    (200: it is survived alone). asked: how often the faulty target may be asked. breaks: a stream is then cut, and
    ends in an error event when there is no fallback."""

    name: str
    fault: Fault
    clean: tuple[int, ...]
    once: bool = False
    asked: int = 2
    breaks: bool = False
    streams_only: bool = False


CASES = [
    Case("429 with Retry-After", Fault.rate_limited(retry_after=30), (429,), asked=1),
    Case("always 429", Fault.rate_limited(), (429,)),
    Case("one 500", Fault.status(500), (200,), once=True),
    Case("always 503", Fault.status(503), (503,)),
    Case("reset before headers", Fault.reset(), (502,)),
    Case("accepted, then silence", Fault.silence(), (504,), asked=1),
    Case("headers at once, first token after 20 s", Fault.slow_first_token(20), (504,), asked=1),
    Case("stream cut after some tokens", Fault.cut_after(3), (502,), breaks=True),
    Case("stream falls silent", Fault.stall_after(3), (504,), asked=1, breaks=True),
    Case("one malformed event", Fault.malformed_after(3), (200,), streams_only=True),
    Case("complete stream without [DONE]", Fault.no_done(), (200,)),
    Case("context_length_exceeded", Fault.context_length(), (400,), asked=1),
    Case("content_policy_violation", Fault.content_policy(), (400,), asked=1),
]
SURVIVED = [c for c in CASES if c.name != "content_policy_violation"]
MODES = pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])


@dataclass
class Got:
    """The response that a client had in the end. done: the stream said [DONE]."""

    status: int
    text: str
    error: dict[str, Any] | None
    finish: str | None
    done: bool
    headers: Any
    seconds: float


async def ask(gateway: Any, events: Callable[[bytes], list[Any]], stream: bool) -> Got:
    started = time.monotonic()
    async with asyncio.timeout(60):
        reply = await gateway.chat("What is the capital of France?", stream=stream)
    seconds = time.monotonic() - started
    if not reply.headers["content-type"].startswith("text/event-stream"):
        body = reply.json()
        choice = (body.get("choices") or [{"message": {}}])[0]
        text = choice["message"].get("content") or ""
        finish = choice.get("finish_reason")
        return Got(reply.status_code, text, body.get("error"), finish, False, reply.headers, seconds)
    return Got(reply.status_code, *_of_stream(reply.content, events), reply.headers, seconds)


def _of_stream(
    body: bytes, events: Callable[[bytes], list[Any]]
) -> tuple[str, dict[str, Any] | None, str | None, bool]:
    text, error, finish, done = "", None, None, False
    for line in body.split(b"\n\n"):
        if not line.startswith(b"data: "):
            continue
        try:
            [event] = events(line)
        except ValueError:
            continue  # the malformed one: a client skips it too
        if event == "[DONE]":
            done = True
        elif "error" in event:
            error = event["error"]
        else:
            for choice in event.get("choices", ()):
                text += choice.get("delta", {}).get("content") or ""
                finish = choice.get("finish_reason") or finish
    return text, error, finish, done


def whole(got: Got, stream: bool) -> bool:
    return got.status == 200 and got.text == TEXT and got.finish == "stop" and got.done == stream and got.error is None


def strike(upstream: FakeUpstream, case: Case) -> None:
    if case.once:
        upstream.then(case.fault)
    else:
        upstream.always(case.fault)


@pytest.fixture
def two(upstream: FakeUpstream, second: FakeUpstream) -> tuple[FakeUpstream, FakeUpstream]:
    """Two doubles that give the same text."""
    for each in (upstream, second):
        each.says(*[w + " " for w in TEXT.split()[:-1]], TEXT.split()[-1])
    return upstream, second


@MODES
@pytest.mark.parametrize("case", SURVIVED, ids=lambda c: c.name)
async def test_with_a_fallback_the_caller_gets_the_complete_answer(
    start: Any, configured: Any, two: Any, events: Any, note: Any, case: Case, stream: bool
) -> None:
    first, second = two
    strike(first, case)
    gateway = await start(configured(first, second, chat={"timeouts": TIMEOUTS}))

    got = await ask(gateway, events, stream)

    if case.streams_only and not stream:
        assert got.status == 200  # half an object in a whole HTTP answer: the fallback's is what comes
    assert whole(got, stream), got
    assert len(first.calls) <= case.asked, "a tight loop"
    [exchange] = await gateway.recorded()
    assert exchange.outcome == "ok"
    assert len(exchange.attempts) == len(first.calls) + len(second.calls), "each attempt is in the Exchange"
    assert await gateway.metric("gateway_attempts_total") == len(exchange.attempts)
    note(case.name, "streamed" if stream else "plain", "complete")


@MODES
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
async def test_without_a_fallback_the_error_is_clean_and_bounded(
    start: Any, configured: Any, two: Any, events: Any, note: Any, case: Case, stream: bool
) -> None:
    first, _ = two
    strike(first, case)
    gateway = await start(configured(first, chat={"timeouts": TIMEOUTS}))

    got = await ask(gateway, events, stream)

    assert len(first.calls) <= case.asked, "a tight loop"
    if stream and case.breaks:
        assert got.status == 200
        assert got.error is not None
        assert not got.done
        assert got.finish is None
        assert TEXT.startswith(got.text)
        note(case.name, "streamed, alone", "error event")
    elif 200 in case.clean and not (case.streams_only and not stream):
        assert whole(got, stream), got
        note(case.name, "streamed, alone" if stream else "plain, alone", "complete")
    else:
        assert got.status in ((502,) if case.streams_only else case.clean)
        assert got.error is not None
        assert got.error["message"]
        note(case.name, "streamed, alone" if stream else "plain, alone", str(got.status))


@MODES
async def test_a_content_policy_refusal_is_not_sent_elsewhere(
    start: Any, configured: Any, two: Any, events: Any, note: Any, stream: bool
) -> None:
    first, second = two
    first.always(Fault.content_policy())
    gateway = await start(configured(first, second))
    got = await ask(gateway, events, stream)
    assert got.status == 400
    assert got.error is not None
    assert got.error["code"] == "content_policy_violation"
    assert len(first.calls) == 1
    assert not second.calls
    note("content_policy_violation", "streamed" if stream else "plain", "the provider's reason")


@MODES
async def test_a_retry_after_that_fits_the_budget_is_waited_for(
    start: Any, configured: Any, two: Any, events: Any, stream: bool
) -> None:
    first, second = two
    first.then(Fault.rate_limited(retry_after=1))
    gateway = await start(configured(first, second))
    got = await ask(gateway, events, stream)
    assert whole(got, stream)
    assert got.seconds >= 1
    assert len(first.calls) == 2
    assert not second.calls


async def test_a_differing_continuation_ends_in_an_error_event(
    start: Any, configured: Any, two: Any, events: Any
) -> None:
    first, second = two
    first.always(Fault.cut_after(3))
    second.says("The ", "answer ", "is ", "Paris.")
    gateway = await start(configured(first, second, chat={"timeouts": TIMEOUTS}))
    got = await ask(gateway, events, stream=True)
    assert TEXT.startswith(got.text)
    assert got.error is not None
    assert got.error["code"] == "stream_cut"
    assert not got.done
    assert got.finish is None
    [exchange] = await gateway.recorded()
    assert exchange.outcome == "cut"
    assert not exchange.spliced


async def test_a_cut_stream_continues_by_prefill_where_the_target_can(
    start: Any, configured: Any, upstream: FakeUpstream, events: Any
) -> None:
    upstream.says("one ", "two ", CUT)
    async with FakeUpstream(vllm=True) as second:
        second.says("one ", "two ", "three ", "four")
        config = configured(upstream, second, chat={"timeouts": TIMEOUTS})
        config["upstreams"]["u1"]["prefill"] = True
        gateway = await start(config)
        got = await ask(gateway, events, stream=True)
        assert got.text == "one two three four"
        assert (got.finish, got.done, got.error) == ("stop", True, None)
        asked = second.calls[0].json
        assert asked["messages"][-1] == {"role": "assistant", "content": "one two "}
        assert asked["continue_final_message"] is True
        assert asked["add_generation_prompt"] is False
        [exchange] = await gateway.recorded()
        assert exchange.spliced
        assert exchange.outcome == "ok"
        assert [a.failure is None for a in exchange.attempts] == [False, True]


async def test_a_fallback_that_refuses_a_prefill_is_asked_afresh(
    start: Any, configured: Any, upstream: FakeUpstream, events: Any, note: Any
) -> None:
    upstream.says("one ", "two ", CUT)
    async with FakeUpstream(vllm=True) as second:
        second.says("one ", "two ", "three")
        second.always(Fault.refuse_prefill())
        config = configured(upstream, second, chat={"timeouts": TIMEOUTS})
        config["upstreams"]["u1"]["prefill"] = True
        gateway = await start(config)
        got = await ask(gateway, events, stream=True)
        assert (got.text, got.done, got.error) == ("one two three", True, None)
        assert len(second.calls) == 2
        note("fallback refuses a prefill", "streamed", "complete")


async def test_a_continued_stream_keeps_its_first_id(start: Any, configured: Any, two: Any, events: Any) -> None:
    first, second = two
    first.always(Fault.cut_after(2))
    gateway = await start(configured(first, second, chat={"timeouts": TIMEOUTS}))
    reply = await gateway.chat(stream=True)
    ids = {e["id"] for e in events(reply.content) if e != "[DONE]"}
    assert len(ids) == 1


@pytest.mark.parametrize(
    "fields",
    [{"n": 2}, {"tools": [{"type": "function", "function": {"name": "f"}}]}, {"logprobs": True},
     {"response_format": {"type": "json_object"}}],
    ids=lambda f: next(iter(f)),
)  # fmt: skip
async def test_only_plain_text_is_continued(
    start: Any, configured: Any, two: Any, events: Any, fields: dict[str, Any]
) -> None:
    first, second = two
    first.always(Fault.cut_after(2))
    gateway = await start(configured(first, second, chat={"timeouts": TIMEOUTS}))
    reply = await gateway.chat(stream=True, **fields)
    assert "error" in events(reply.content)[-1]
    assert not second.calls


@MODES
async def test_fail_over_accounting_is_the_fallbacks(
    start: Any, configured: Any, two: Any, events: Any, note: Any, stream: bool
) -> None:
    first, second = two
    first.always(Fault.status(500))
    gateway = await start(configured(first, second))
    got = await ask(gateway, events, stream)
    assert got.headers["x-gateway-upstream"] == "u1"
    [exchange] = await gateway.recorded()
    assert exchange.target.upstream == "u1"
    assert exchange.usage is not None
    assert [a.usage is None for a in exchange.attempts] == [True, True, False]
    spent = await gateway.metric("gateway_tokens_total", upstream="u0")
    assert spent == 0
    assert await gateway.metric("gateway_tokens_total", upstream="u1", type="output") == exchange.usage.output_tokens
    note("fail-over accounting", "streamed" if stream else "plain", "the fallback's")


async def test_a_flapping_target_is_skipped_until_it_recovers(
    start: Any, configured: Any, two: Any, events: Any, note: Any
) -> None:
    first, second = two
    first.always(Fault.status(500))
    gateway = await start(configured(first, second, chat={"retries": {"attempts": 1}}))
    for _ in range(8):
        assert whole(await ask(gateway, events, stream=False), False)
    assert len(first.calls) == 5, "the breaker opens after five failures in a row"
    assert await gateway.metric("gateway_breaker_open", upstream="u0") == 1
    first.always(None)
    async with asyncio.timeout(60):
        while (await ask(gateway, events, stream=False)).headers["x-gateway-upstream"] != "u0":
            await asyncio.sleep(0.05)
    assert await gateway.metric("gateway_breaker_open", upstream="u0") == 0
    note("target flaps", "plain", "back")


async def test_dripping_heads_and_endless_comments_time_out(start: Any, configured: Any, two: Any, events: Any) -> None:
    first, second = two
    for fault in (Fault.header_drip(0.05), Fault.comments_forever(0.05)):
        first.always(fault)
        gateway = await start(configured(first, second, chat={"timeouts": TIMEOUTS}))
        got = await ask(gateway, events, stream=True)
        assert whole(got, True), fault


async def test_a_200_with_an_error_in_it_is_not_an_answer(start: Any, configured: Any, two: Any, events: Any) -> None:
    first, second = two
    first.always(Fault.error_body())
    gateway = await start(configured(first, second))
    for stream in (False, True):
        assert whole(await ask(gateway, events, stream), stream)


async def test_a_well_formed_short_stream_is_not_an_answer(start: Any, configured: Any, two: Any, events: Any) -> None:
    """A clean HTTP end without finish_reason and [DONE]: continued on the fallback, an error event without one."""
    first, second = two
    first.always(Fault.short())
    gateway = await start(configured(first, second))
    assert whole(await ask(gateway, events, True), True)
    alone = await start(configured(first))
    got = await ask(alone, events, True)
    assert got.error is not None
    assert not got.done


async def test_a_clients_own_limit_shortens_the_call(gateway: Any, upstream: FakeUpstream) -> None:
    upstream.says(HOLD, "never")
    reply = await gateway.client.post(
        "/chat/completions",
        json={"model": "chat", "messages": [{"role": "user", "content": "x"}]},
        headers={"x-gateway-timeout-s": "0.2"},
    )
    assert reply.status_code == 504


@pytest.mark.parametrize("stream", [False, True])
async def test_a_callers_own_timeouts_do_not_open_the_breaker(
    gateway: Any, upstream: FakeUpstream, stream: bool
) -> None:
    """Any key could otherwise take a healthy but slower target away from everybody."""
    upstream.always(Fault.slow_head(0.3))
    body = {"model": "chat", "messages": [{"role": "user", "content": "x"}], "stream": stream}
    hurried = [
        gateway.client.post("/chat/completions", json=body, headers={"x-gateway-timeout-s": "0.02"}) for _ in range(50)
    ]
    assert {reply.status_code for reply in await asyncio.gather(*hurried)} == {504}
    [target_state] = gateway.gateway.router.target_states
    assert target_state.breaker.closed
    assert (await gateway.chat(stream=stream)).status_code == 200


def in_stream(*events: dict[str, Any]) -> Fault:
    """HTTP 200 and then these events."""
    raw = tuple(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)
    answer = FakeAnswer(stream=True, events=raw, content_type="text/event-stream")
    return Fault("in_stream", lambda received, _: correct_steps(received, answer))


def failed_response(code: str) -> dict[str, Any]:
    return {
        "id": "resp_1",
        "object": "response",
        "status": "failed",
        "output": [],
        "error": {"code": code, "message": "no"},
    }


@pytest.mark.parametrize("code", ["invalid_prompt", "bio_policy", "server_error"])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_failed_response_passes_and_is_asked_once(
    gateway: Any, upstream: FakeUpstream, code: str, stream: bool
) -> None:
    """HTTP 200 whose Response says "failed": it is the model's answer to this prompt, not a fault of the target."""
    response = failed_response(code)
    event = {"type": "response.failed", "sequence_number": 1, "response": response}
    upstream.always(in_stream(event) if stream else Fault.status(200, body=json.dumps(response).encode()))
    for _ in range(6):
        reply = await gateway.client.post("/responses", json={"model": "chat", "input": "hi", "stream": stream})
        assert reply.status_code == 200
        passed = json.loads(reply.text.removeprefix("data: "))
        answered = passed["response"] if stream else passed
        assert answered["id"].startswith(f"{response['id']}."), "sealed, as every response's"
        assert {**answered, "id": response["id"]} == response
        assert not stream or {**passed, "response": response} == event
    assert len(upstream.received) == 6
    await assert_unharmed(gateway, upstream)


@pytest.mark.parametrize("members", [{}, {"status": None}, {"status": "incomplete"}, {"status": "completed"}])
async def test_a_response_with_an_error_is_an_answer(
    gateway: Any, upstream: FakeUpstream, members: dict[str, Any]
) -> None:
    """Servers that give no status, or another than "failed", answer for this prompt alone too."""
    response = {k: v for k, v in failed_response("server_error").items() if k != "status"} | members
    upstream.always(Fault.status(200, body=json.dumps(response).encode()))
    for _ in range(6):
        reply = await gateway.client.post("/responses", json={"model": "chat", "input": "hi"})
        assert reply.status_code == 200, reply.text
        assert reply.json()["error"] == response["error"]
    assert len(upstream.received) == 6
    await assert_unharmed(gateway, upstream)


@pytest.mark.parametrize("code", [400, "400", "invalid_prompt", "context_length_exceeded"])
async def test_an_error_event_about_the_request_passes(gateway: Any, upstream: FakeUpstream, code: Any) -> None:
    event = {"error": {"message": "your image is not an image", "type": "BadRequestError", "code": code}}
    upstream.always(in_stream(event))
    for _ in range(6):
        reply = await gateway.chat(stream=True)
        assert (reply.status_code, reply.text) == (200, "data: " + json.dumps(event) + "\n\n")
    assert len(upstream.received) == 6
    await assert_unharmed(gateway, upstream)


async def assert_unharmed(gateway: Any, upstream: FakeUpstream) -> None:
    """Checks that what failed was counted, and that the next caller is served."""
    assert await gateway.metric("gateway_attempts_total", result="refused") == 6
    assert {exchange.outcome for exchange in await gateway.recorded(6)} == {"upstream_error"}
    [target_state] = gateway.gateway.router.target_states
    assert target_state.breaker.closed
    upstream.always(None)
    assert (await gateway.chat()).status_code == 200


async def test_an_error_event_of_the_target_names_its_message(gateway: Any, upstream: FakeUpstream) -> None:
    upstream.always(in_stream({"error": {"message": "CUDA is out of memory", "code": 500}}))
    reply = await gateway.chat(stream=True)
    assert reply.status_code == 502
    assert "CUDA is out of memory" in reply.json()["error"]["message"]
    assert len(upstream.received) == 2, "it is retried"
