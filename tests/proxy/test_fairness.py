"""One caller does not take what the others need: calls in flight, slow forms and large bodies are bounded."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import httpx2
import pytest

from gateway.fake import HOLD, FakeUpstream

Configured = Callable[..., dict[str, Any]]


def key(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "sha256": sha256(name.encode()).hexdigest(), **more}


async def test_a_key_has_at_most_its_calls_in_flight(
    start: Any, configured: Configured, upstream: FakeUpstream
) -> None:
    keys = [key("greedy", concurrency=2, allow=["passthrough"]), key("other")]
    upstream.says("one ", HOLD, "two ")
    gateway = await start(configured(upstream, keys=keys, passthrough="u0"), key="greedy")
    loop = asyncio.get_running_loop()
    held = [loop.create_task(gateway.chat()) for _ in range(2)]
    await upstream.until(lambda u: len(u.calls) == 2)
    for refused in (await gateway.chat(), await gateway.client.get("/files")):
        assert refused.status_code == 429
        assert refused.headers["retry-after"] == "1"
        assert refused.json()["error"]["code"] == "rate_limit_exceeded"
        assert "2 requests in flight" in refused.json()["error"]["message"]
    async with httpx2.AsyncClient(base_url=gateway.base_url, headers={"x-api-key": "other"}, timeout=30) as other:
        third = loop.create_task(
            other.post("/chat/completions", json={"model": "chat", "messages": [{"role": "user"}]})
        )
        await upstream.until(lambda u: len(u.calls) == 3)
        upstream.release()
        assert (await third).status_code == 200
    assert [(await call).status_code for call in held] == [200, 200]
    upstream.says("free")
    assert (await gateway.chat()).status_code == 200, "their places are free again"


async def test_a_reload_forgets_no_call_in_flight(start: Any, configured: Configured, upstream: FakeUpstream) -> None:
    upstream.says("one ", HOLD, "two ")
    config = configured(upstream, keys=[key("greedy", concurrency=1)])
    gateway = await start(config, key="greedy")
    held = asyncio.get_running_loop().create_task(gateway.chat())
    await upstream.until(lambda u: len(u.calls) == 1)
    before = gateway.gateway
    gateway.write({**config, "limits": {"drain_s": 7}})
    await gateway.until(lambda: gateway.gateway is not before)
    assert (await gateway.chat()).status_code == 429
    upstream.release()
    assert (await held).status_code == 200


BOUNDARY = b"xyz"
FORM = (
    b'--xyz\r\ncontent-disposition: form-data; name="model"\r\n\r\nchat\r\n'
    b'--xyz\r\ncontent-disposition: form-data; name="file"; filename="a.wav"\r\n\r\nsound\r\n--xyz--\r\n'
)


async def test_a_slow_form_holds_no_place_of_its_upstream(
    start: Any, configured: Configured, upstream: FakeUpstream
) -> None:
    config = configured(upstream)
    config["upstreams"]["u0"] |= {"concurrency": 2, "queue": 0}
    gateway = await start(config)
    port = int(re.findall(r":(\d+)", gateway.base_url)[0])
    head = (
        b"POST /v1/audio/transcriptions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer test-key\r\n"
        b"content-type: multipart/form-data; boundary=xyz\r\ncontent-length: %d\r\n\r\n" % len(FORM)
    )
    forms = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
    for _, writer in forms:
        writer.write(head + FORM[:-10])
    await gateway.until(lambda: gateway.gateway.calls["transcriptions"] == 2)
    for _ in range(5):
        assert (await gateway.chat()).status_code == 200
    for reader, writer in forms:
        writer.write(FORM[-10:])
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        writer.close()
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head + FORM[:-10])
    await gateway.until(lambda: gateway.gateway.calls["transcriptions"] == 1)
    writer.close()
    await gateway.until(lambda: not gateway.gateway.in_use)
    assert (await gateway.chat()).status_code == 200


@pytest.mark.parametrize("cors", [[], ["https://app.example"]], ids=["direct", "behind CORS"])
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
async def test_bodies_in_progress_are_bounded_together(
    start: Any, configured: Configured, upstream: FakeUpstream, chunked: bool, cors: list[str]
) -> None:
    upstream.says("one ", HOLD, "two ")
    gateway = await start(configured(upstream, limits={"inflight_mb": 1}, cors=cors))
    body = b'{"model":"chat","messages":[{"role":"user","content":"%b"}]}' % (b"x" * 600_000)

    async def pieces() -> Any:
        for at in range(0, len(body), 50_000):
            yield body[at : at + 50_000]

    async def post() -> httpx2.Response:
        return await gateway.client.post("/chat/completions", content=pieces() if chunked else body)

    held = asyncio.get_running_loop().create_task(post())
    await upstream.until(lambda u: len(u.calls) == 1)
    refused = await post()
    assert refused.status_code == 503
    assert refused.json()["error"]["code"] == "too_many_bytes_in_flight"
    assert (await gateway.client.get("/models")).status_code == 200
    upstream.release()
    assert (await held).status_code == 200
    upstream.says("free")
    for _ in range(5):
        assert (await post()).status_code == 200, "what is answered is no longer held"


@pytest.mark.parametrize("cors", [[], ["https://app.example"]], ids=["direct", "behind CORS"])
async def test_announced_bodies_leave_room_for_others(
    start: Any, configured: Configured, upstream: FakeUpstream, cors: list[str]
) -> None:
    keys = [key("greedy"), key("other")]
    gateway = await start(configured(upstream, keys=keys, limits={"inflight_mb": 1}, cors=cors), key="other")
    port = int(re.findall(r":(\d+)", gateway.base_url)[0])
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-api-key: greedy\r\ncontent-length: 300000\r\n\r\n{"
    dripping = [await asyncio.open_connection("127.0.0.1", port) for _ in range(5)]
    for _, writer in dripping:
        writer.write(head)
    lines = [asyncio.get_running_loop().create_task(reader.readline()) for reader, _ in dripping]
    await gateway.until(lambda: sum(line.done() for line in lines) == 4)
    refused = [line.result() for line in lines if line.done()]
    assert all(line.startswith(b"HTTP/1.1 503 ") for line in refused), "one holds 300 of its 500 KB"
    for _ in range(3):
        assert (await gateway.chat("x" * 450_000)).status_code == 200
    for _, writer in dripping:
        writer.transport.abort()
    await gateway.until(lambda: gateway.process.app.bodies.held == 0)
    await asyncio.gather(*lines, return_exceptions=True)


PRIORITIES = {"-5": None, "0": 0, "7": 7, '"high"': None, "true": None, "null": None, "-0.5": None}


@pytest.mark.parametrize(("sent", "reached"), PRIORITIES.items())
async def test_a_caller_does_not_go_before_others_by_priority(
    start: Any, configured: Configured, upstream: FakeUpstream, sent: str, reached: int | None
) -> None:
    config = configured(upstream)
    gateway = await start(config)
    body = f'{{"model":"chat","messages":[{{"role":"user","content":"hi"}}],"priority":{sent},"top_p":1}}'.encode()
    await gateway.client.post("/chat/completions", content=body)
    assert upstream.received[-1].json["priority"] == json.loads(sent), "an upstream without it gets the client's value"
    config["upstreams"]["u0"] |= {"kind": "vllm", "priority": True}
    gateway = await start(config)
    assert (await gateway.client.post("/chat/completions", content=body)).status_code == 200
    assert upstream.received[-1].json.get("priority") == reached
    assert upstream.received[-1].json["top_p"] == 1


async def test_callers_share_no_prefix_cache_where_that_is_wanted(
    start: Any, configured: Configured, upstream: FakeUpstream
) -> None:
    config = configured(upstream, keys=[key("ada"), key("bob")])
    config["upstreams"]["u0"] |= {"kind": "vllm", "cache_salt": True}
    salts: dict[str, list[str]] = {"ada": [], "bob": []}
    for name in ("ada", "bob", "ada"):
        gateway = await start(config, key=name)
        for more in ({}, {"cache_salt": "that of ada"}):
            assert (await gateway.chat(**more)).status_code == 200
            salts[name].append(upstream.received[-1].json["cache_salt"])
    assert len(set(salts["ada"])) == len(set(salts["bob"])) == 1, "the same in every gateway, whatever the caller sends"
    assert salts["ada"][0] != salts["bob"][0]
    assert "ada" not in salts["ada"][0]


BIG, SMALL, OWN = "big", "small", "judge"


@dataclass
class Shared:
    """Several callers of one upstream."""

    gateway: Any
    upstream: FakeUpstream
    clients: dict[str, httpx2.AsyncClient]
    started: list[asyncio.Task[int]] = field(default_factory=list)

    async def ask(self, name: str) -> int:
        body = {"model": "chat", "messages": [{"role": "user", "content": f"by {name}"}]}
        return (await self.clients[name].post("/chat/completions", json=body)).status_code

    def start(self, name: str, n: int) -> list[asyncio.Task[int]]:
        calls = [asyncio.get_running_loop().create_task(self.ask(name)) for _ in range(n)]
        self.started += calls
        return calls

    @property
    def waiting(self) -> int:
        waiting: int = self.gateway.gateway.upstreams["u0"].limiter.waiting
        return waiting

    async def until_waiting(self, n: int) -> None:
        await self.gateway.until(lambda: self.waiting == n)

    def order(self) -> list[str]:
        """Callers whose calls reached the upstream, in order."""
        return [next(n for n in self.clients if f"by {n}".encode() in call.body) for call in self.upstream.calls]


@pytest.fixture
async def shared(start: Any, configured: Configured, upstream: FakeUpstream) -> AsyncIterator[Shared]:
    """A gateway with keys of three names, whose upstream takes eight calls at once."""
    keys = [key(BIG), key(SMALL, allow=["passthrough"]), key(OWN, sample="never")]
    evals = {"base_url": "http://127.0.0.1:9/v1", "api_key": OWN}
    config = configured(upstream, keys=keys, passthrough="u0", evals=evals)
    config["upstreams"]["u0"] |= {"concurrency": 8, "queue_s": 50}
    config["models"]["chat"]["timeouts"] |= {"answer_s": 50, "first_token_s": 50, "total_s": 60}
    gateway = await start(config)
    limits = httpx2.Limits(max_connections=None)
    async with contextlib.AsyncExitStack() as stack:
        opened = [
            httpx2.AsyncClient(base_url=gateway.base_url, headers={"x-api-key": name}, timeout=60, limits=limits)
            for name in (BIG, SMALL, OWN)
        ]
        for client in opened:
            await stack.enter_async_context(client)
        yield Shared(gateway, upstream, dict(zip((BIG, SMALL, OWN), opened, strict=True)))


async def test_150_calls_of_one_key_leave_another_its_25(shared: Shared) -> None:
    """The small caller got 1 of 25 answers in the order of arrival."""
    shared.upstream.says("one ", HOLD, "two ")
    big = shared.start(BIG, 150)
    await shared.upstream.until(lambda u: len(u.calls) == 8)
    await shared.gateway.until(lambda: sum(call.done() for call in big) == 150 - 8 - 64)
    small = shared.start(SMALL, 25)
    await shared.gateway.until(lambda: sum(call.done() for call in big) == 150 - 8 - 64 + 25)
    shared.upstream.says("free")
    shared.upstream.release()
    assert [await call for call in small] == [200] * 25
    assert sorted(await asyncio.gather(*big)) == [200] * (8 + 64 - 25) + [429] * (150 - 8 - 64 + 25)
    assert shared.order()[8:58] == [BIG, SMALL] * 25, "in turn, as long as both wait"


async def test_judges_wait_behind_callers(shared: Shared) -> None:
    """The key of `evals.api_key` is that of the scorers."""
    shared.upstream.says("one ", HOLD, "two ")
    shared.start(BIG, 8)
    await shared.upstream.until(lambda u: len(u.calls) == 8)
    shared.start(OWN, 3)
    await shared.until_waiting(3)
    shared.start(BIG, 2)
    await shared.until_waiting(5)
    shared.upstream.says("free")
    shared.upstream.release()
    assert set(await asyncio.gather(*shared.started)) == {200}
    assert shared.order()[8:] == [BIG] * 2 + [OWN] * 3


async def test_other_paths_are_served_in_turn_too(shared: Shared) -> None:
    shared.upstream.says("one ", HOLD, "two ")
    shared.start(BIG, 8)
    await shared.upstream.until(lambda u: len(u.calls) == 8)
    shared.start(BIG, 3)
    await shared.until_waiting(3)
    files = asyncio.get_running_loop().create_task(shared.clients[SMALL].get("/files"))
    await shared.until_waiting(4)
    shared.upstream.says("free")
    shared.upstream.release()
    await asyncio.gather(files, *shared.started)
    assert [call.path.endswith("/files") for call in shared.upstream.calls[8:]] == [False, True, False, False]


async def test_bodies_of_many_members_are_refused_and_others_are_answered(
    start: Any, configured: Configured, upstream: FakeUpstream
) -> None:
    """Eight connections of one key; tests/proxy/request/test_parse.py bounds the work that each of them makes."""
    gateway = await start(configured(upstream, keys=[key("bomber"), key("other", models=["chat"])]), key="other")
    members = b"".join(b',"m%d":1' % n for n in range(100_000))
    bomb = b'{"model":"chat","messages":[{"role":"user","content":"hi"}]' + members + b"}"
    async with httpx2.AsyncClient(base_url=gateway.base_url, headers={"x-api-key": "bomber"}, timeout=60) as client:
        loop = asyncio.get_running_loop()
        sent = [loop.create_task(client.post("/chat/completions", content=bomb)) for _ in range(8)]
        assert (await gateway.chat()).status_code == 200
        refused = await asyncio.gather(*sent)
    assert {answer.status_code for answer in refused} == {400}
    assert "more than 1000 top-level members" in refused[0].json()["error"]["message"]
    elsewhere = await gateway.chat(models=["openai/gpt-x"])
    assert (elsewhere.status_code, elsewhere.json()["error"]["param"]) == (403, "models")
    assert (await gateway.chat(provider={"data_collection": "deny"})).status_code == 200
