"""The hot path, over real sockets: what a client sees, and the one exchange that each call leaves."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import openai
import pytest

from gateway.fake import CUT, HOLD, FakeUpstream, Fault
from gateway.proxy.app import App
from gateway.proxy.relay.state import CallContext

KEY = "test-key"


def client_of(gateway: Any, key: str = KEY, **options: Any) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=gateway.base_url, api_key=key, max_retries=0, **options)


async def test_a_plain_answer_passes_byte_for_byte_and_is_recorded(gateway: Any, upstream: FakeUpstream) -> None:
    body = b'{"id":"x", "choices":[{"index":0,"message":{"role":"assistant","content":"h\\u00e9 0.70"},'
    body += b'"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":2},"big":12345678901234567890}'
    upstream.answers(200, body)

    reply = await gateway.chat("hello", unknown_field={"kept": [1, 2.50]})

    assert reply.content == body
    assert upstream.calls[0].json["unknown_field"] == {"kept": [1, 2.5]}
    assert upstream.calls[0].json["model"] == "model-u0"
    [exchange] = await gateway.recorded()
    assert exchange.id == reply.headers["x-request-id"]
    assert exchange.response == body
    assert (exchange.outcome, exchange.pi, exchange.stratum, exchange.caller) == ("ok", 1.0, "default", "tester")
    assert exchange.usage is not None
    assert (exchange.usage.input_tokens, exchange.usage.output_tokens) == (3, 2)
    assert reply.headers["x-gateway-upstream"] == "u0"
    assert reply.headers["x-gateway-attempts"] == "1"


async def test_a_streamed_answer_arrives_as_it_is_said(gateway: Any, upstream: FakeUpstream) -> None:
    upstream.says("one ", HOLD, "two")
    async with client_of(gateway) as client:
        stream = await client.chat.completions.create(
            model="chat", messages=[{"role": "user", "content": "count"}], stream=True
        )
        output = []
        async for chunk in stream:
            assert chunk.choices, "the usage chunk was not asked for"
            output.append(chunk.choices[0].delta.content or "")
            if "".join(output) == "one ":
                upstream.release()
    assert "".join(output) == "one two"
    [exchange] = await gateway.recorded()
    assert exchange.usage is not None, "usage is always requested upstream"
    assert exchange.first_token_s is not None
    assert exchange.stream


async def test_the_usage_chunk_reaches_whoever_asked(gateway: Any) -> None:
    async with client_of(gateway) as client:
        stream = await client.chat.completions.create(
            model="chat",
            messages=[{"role": "user", "content": "x"}],
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [c async for c in stream]
    assert chunks[-1].usage is not None
    assert not chunks[-1].choices


@pytest.mark.parametrize(
    ("key", "message"), [("wrong", "not known"), ("", "no API key")], ids=["a wrong key", "no key"]
)
async def test_without_a_right_key_nobody_is_asked(
    gateway: Any, upstream: FakeUpstream, key: str, message: str
) -> None:
    headers = {"authorization": f"Bearer {key}" if key else ""}
    reply = await gateway.client.post("/chat/completions", json={"model": "chat", "messages": []}, headers=headers)
    assert reply.status_code == 401
    assert reply.json()["error"]["code"] == "invalid_api_key"
    assert message in reply.json()["error"]["message"]
    assert not upstream.calls


BAD: list[tuple[str, bytes, int, str | None]] = [
    ("unreadable JSON", b'{"model": "chat",', 400, None),
    ("no object", b'["chat"]', 400, None),
    ("nothing", b"", 400, None),
    ("no model", b'{"messages": [{"role": "user", "content": "x"}]}', 400, "model"),
    ("a number as model", b'{"model": 5, "messages": []}', 400, "model"),
    ("an unknown model", b'{"model": "chatt", "messages": [{"role": "user", "content": "x"}]}', 404, "model"),
    ("no messages", b'{"model": "chat"}', 400, "messages"),
    ("empty messages", b'{"model": "chat", "messages": []}', 400, "messages"),
    ("messages of text", b'{"model": "chat", "messages": "hi"}', 400, "messages"),
    ("a word as stream", b'{"model": "chat", "messages": [{}], "stream": "yes"}', 400, "stream"),
    ("not UTF-8", b'{"model": "ch\xff"}', 400, None),
]


@pytest.mark.parametrize(("body", "status", "param"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
async def test_bad_input_gets_an_openai_error(
    gateway: Any, upstream: FakeUpstream, body: bytes, status: int, param: str | None
) -> None:
    reply = await gateway.client.post("/chat/completions", content=body)
    error = reply.json()["error"]
    assert (reply.status_code, error["param"]) == (status, param)
    assert error["type"] == "invalid_request_error"
    assert error["message"]
    assert reply.headers["x-request-id"]
    assert not upstream.calls
    assert (await gateway.chat()).status_code == 200


async def test_an_unknown_model_is_told_which_one_was_meant(gateway: Any) -> None:
    async with client_of(gateway) as client:
        with pytest.raises(openai.NotFoundError, match='did you mean "chat"'):
            await client.chat.completions.create(model="chatt", messages=[{"role": "user", "content": "x"}])


async def test_a_body_above_the_limit_is_refused(
    start: Any, configured: Callable[..., Any], upstream: FakeUpstream
) -> None:
    gateway = await start(configured(upstream))
    image = "data:image/png;base64," + "A" * 20_000_000
    content = [{"type": "image_url", "image_url": {"url": image}}]
    reply = await gateway.client.post(
        "/chat/completions", json={"model": "chat", "messages": [{"role": "user", "content": content}]}
    )
    assert reply.status_code == 200
    assert len(upstream.calls[0].body) > 20_000_000
    [exchange] = await gateway.recorded()
    assert len(exchange.request) < 2000
    assert b"sha256=" in exchange.request

    too_large = await gateway.client.post("/chat/completions", content=b"x" * 33_000_000)
    assert too_large.status_code == 413
    assert "32 MB" in too_large.json()["error"]["message"]


async def test_an_upstream_that_refuses_connections_is_a_clear_502(
    start: Any, configured: Callable[..., Any], upstream: FakeUpstream
) -> None:
    config = configured(upstream)
    await upstream.stop()
    gateway = await start(config)
    reply = await gateway.chat()
    assert reply.status_code == 502
    assert "u0/model-u0 could not be connected to" in reply.json()["error"]["message"]
    assert reply.headers["x-should-retry"] == "false"
    [exchange] = await gateway.recorded()
    assert exchange.outcome == "upstream_error"
    assert exchange.attempts[0].failure == "could not be connected to"


async def test_the_clients_credentials_never_go_upstream(gateway: Any, upstream: FakeUpstream) -> None:
    await gateway.client.post(
        "/chat/completions",
        json={"model": "chat", "messages": [{"role": "user", "content": "x"}]},
        headers={"cookie": "session=1", "x-api-key": "another", "traceparent": "00-abc", "x-request-id": "mine-1"},
    )
    got = upstream.calls[0]
    assert "test-key" not in str(got.headers)
    assert got.header("cookie") is None
    assert got.header("x-api-key") is None
    assert got.header("traceparent") == "00-abc"
    assert got.header("x-request-id") == "mine-1"
    assert got.header("accept-encoding") == "identity"
    [exchange] = await gateway.recorded()
    assert exchange.client_id == "mine-1"
    assert exchange.id != "mine-1"


async def test_every_call_at_an_upstream_leaves_one_served_exchange(gateway: Any, upstream: FakeUpstream) -> None:
    """A client that leaves and an upstream that breaks change nothing; a call that was refused before leaves none."""
    await gateway.chat()
    upstream.then(Fault.status(400))
    await gateway.chat()
    upstream.then(Fault.reset(), Fault.reset(), Fault.reset())
    await gateway.chat()
    upstream.then(Fault.cut_after(2))
    await gateway.chat(stream=True)
    await gateway.client.post("/chat/completions", json={"model": "unknown", "messages": []})
    upstream.says("one ", HOLD, "two ")
    async with gateway.stream() as reply:
        async for line in reply.aiter_lines():
            if "one " in line:
                break
    exchanges = await gateway.recorded(5)
    assert [e.role for e in exchanges] == ["served"] * 5
    assert len({e.id for e in exchanges}) == 5
    outcomes = [e.outcome for e in sorted(exchanges, key=lambda e: e.seq)]
    assert outcomes[0] == "ok"
    assert outcomes[-1] == "client_gone"
    assert "cut" in outcomes
    assert sorted(e.seq for e in exchanges) == [1, 2, 3, 4, 5]


async def test_a_client_that_leaves_still_leaves_one_exchange(gateway: Any, upstream: FakeUpstream) -> None:
    """Disconnecting mid-stream records the answer so far as `client_gone`, and stops the upstream."""
    upstream.says("one ", HOLD, "two ")
    async with gateway.stream() as reply:
        async for line in reply.aiter_lines():
            if "one " in line:
                break
    [exchange] = await gateway.recorded()
    assert exchange.outcome == "client_gone"
    assert b"one " in exchange.response
    assert b"two " not in exchange.response
    await upstream.until(lambda u: u.cancelled == 1)


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
async def test_a_client_that_leaves_early_cancels_the_upstream(
    gateway: Any, upstream: FakeUpstream, stream: bool
) -> None:
    upstream.then(Fault.silence())
    state = asyncio.get_running_loop().create_task(gateway.chat(stream=stream))
    await upstream.until(lambda u: len(u.calls) == 1)
    state.cancel()
    await upstream.until(lambda u: u.cancelled == 1)
    [exchange] = await gateway.recorded()
    assert exchange.outcome == "client_gone"
    await gateway.until(lambda: not any(p.in_flight for p in gateway.gateway.router.target_states))


async def test_half_of_200_streams_leave_and_all_are_recorded(
    start: Any, configured: Callable[..., Any], upstream: FakeUpstream
) -> None:
    """No machine is too slow for the deadlines: every stream waits until all have begun."""
    patient = dict.fromkeys(("connect_s", "first_token_s", "answer_s", "idle_s", "total_s"), 110)
    gateway = await start(configured(upstream, chat={"timeouts": patient}))
    upstream.says("begin ", HOLD, "end")
    begun = asyncio.Semaphore(0)
    go_on = asyncio.Event()

    async def call(leaves: bool) -> None:
        async with gateway.stream() as reply:
            lines = reply.aiter_lines()
            async for line in lines:
                if "begin " in line:
                    begun.release()
                    break
            if leaves:
                return
            await go_on.wait()
            rest = [line async for line in lines]
            assert any("end" in line for line in rest)
            assert "data: [DONE]" in rest

    async with asyncio.TaskGroup() as group:
        for i in range(200):
            group.create_task(call(i % 2 == 0))
        for _ in range(200):
            await begun.acquire()
        await upstream.until(lambda u: u.cancelled == 100)
        upstream.release()
        go_on.set()
    exchanges = await gateway.recorded(200)
    outcomes = [e.outcome for e in exchanges]
    assert (outcomes.count("client_gone"), outcomes.count("ok")) == (100, 100)
    assert upstream.cancelled == 100
    assert len({e.id for e in exchanges}) == 200
    assert sorted(e.seq for e in exchanges) == list(range(1, 201))


async def test_after_the_first_byte_an_error_travels_in_the_stream(
    start: Any, configured: Callable[..., Any], upstream: FakeUpstream, events: Callable[[bytes], list[Any]]
) -> None:
    upstream.says("half an ", CUT)
    gateway = await start(configured(upstream))
    async with gateway.stream() as reply:
        body = await reply.aread()
    assert reply.status_code == 200
    output = events(body)
    assert output[-1]["error"]["code"] == "stream_cut"
    assert "[DONE]" not in output
    assert not any(c.get("finish_reason") for e in output for c in e.get("choices", ()))
    [exchange] = await gateway.recorded()
    assert exchange.outcome == "cut"


async def test_models_are_ours(gateway: Any) -> None:
    async with client_of(gateway) as client:
        assert [m.id async for m in client.models.list()] == ["chat"]
        assert (await client.models.retrieve("chat")).owned_by == "assay-gateway"
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve("nope")


async def test_a_base_url_without_v1_gets_a_hint(gateway: Any) -> None:
    root = gateway.base_url.removesuffix("/v1")
    reply = await gateway.client.post(f"{root}/chat/completions", json={"model": "chat"})
    assert reply.status_code == 404
    assert "must end in /v1" in reply.json()["error"]["message"]


async def test_an_answer_never_waits_for_the_stream_server(
    start: Any, configured: Callable[..., Any], upstream: FakeUpstream, stream_server: Any
) -> None:
    """Down at the start: calls are answered. Back: recording resumes by itself, with what had waited."""
    stream_server.kill()
    gateway = await start(configured(upstream, stream={"url": stream_server.url, "name": "later"}))
    for _ in range(5):
        assert (await gateway.chat()).status_code == 200
    stream_server.start()
    await gateway.corridor.join()
    assert len(await gateway.recorded(5)) == 5
    assert await gateway.metric("gateway_eval_dropped_total") == 0


async def test_a_full_recorder_drops_the_newest_and_counts_it(
    start: Any, configured: Callable[..., Any], upstream: FakeUpstream, stream_server: Any
) -> None:
    stream_server.kill()
    stream = {"url": stream_server.url, "name": "full", "buffer_mb": 0.005}
    gateway = await start(configured(upstream, stream=stream))
    replies = [await gateway.chat() for _ in range(10)]
    assert all(r.status_code == 200 for r in replies)
    dropped = await gateway.metric("gateway_eval_dropped_total", reason="buffer_full")
    assert dropped > 0
    stream_server.start()
    await gateway.corridor.join()
    kept = await gateway.recorded(int(10 - dropped))
    assert [e.id for e in kept] == [r.headers["x-request-id"] for r in replies[: len(kept)]]
    tally = await gateway.tally(lambda t: sum(c.n for c in t.enqueued) == len(kept))
    assert sum(c.n for c in tally.sampled) == 10
    assert sum(c.n for c in tally.dropped if c.reason == "buffer_full") == dropped
    assert tally.last_seq == len(kept)


async def test_a_refused_credential_is_not_repeated_to_the_client(start: Any, configured: Any, upstream: Any) -> None:
    config = configured(upstream)
    config["upstreams"]["u0"]["api_key"] = "sk-of-the-gateway"
    gateway = await start(config)
    upstream.answers(403, b'{"error": {"message": "bad key sk-of-the-gateway", "type": "forbidden"}}')
    reply = await gateway.chat()
    assert reply.status_code == 403
    assert "sk-of-the-gateway" not in reply.text
    assert "bad key [key]" in reply.text


def test_the_hot_path_fits_on_one_screen() -> None:
    """A stage that is added has a name of its own, and so has what it keeps."""
    lines, _ = inspect.getsourcelines(App.answer)
    assert len(lines) < 50
    assert len(fields(CallContext)) < 20
