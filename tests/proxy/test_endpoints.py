"""Every endpoint over real sockets: who may call it, where it goes, what is counted, and what is recorded."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import pytest

from gateway.fake import FakeUpstream, Fault

MESSAGES = [{"role": "user", "content": "hi there"}]
FILE = bytes(range(256)) * 40


@dataclass(frozen=True)
class Api:
    """One endpoint. known: the double has it; else its 404 must come through. usage: its answer says what was used."""

    path: str
    body: dict[str, Any] = field(default_factory=dict)
    form: bool = False
    known: bool = True
    usage: bool = False
    recorded: bool = False
    asked: str = ""

    @property
    def upstream_path(self) -> str:
        return f"/v1{self.asked or self.path}"


APIS = [
    Api("/chat/completions", {"messages": MESSAGES}, usage=True, recorded=True),
    Api("/completions", {"prompt": "Once"}, usage=True, recorded=True),
    Api("/responses", {"input": "hi there"}, usage=True, recorded=True),
    Api("/responses/compact", {"input": "hi there"}, known=False),
    Api("/responses/input_tokens", {"input": "hi there"}, known=False),
    Api("/messages", {"messages": MESSAGES, "max_tokens": 9}, usage=True, recorded=True, asked="/chat/completions"),
    Api("/embeddings", {"input": ["one", "two"]}, usage=True),
    Api("/moderations", {"input": "hi"}),
    Api("/rerank", {"query": "a", "documents": ["a b", "c"]}),
    Api("/score", {"text_1": "a", "text_2": ["a", "b"]}, usage=True),
    Api("/classify", {"input": "a"}, known=False),
    Api("/pooling", {"input": "a"}, known=False),
    Api("/tokenize", {"prompt": "ab"}),
    Api("/detokenize", {"tokens": [97, 98]}),
    Api("/audio/transcriptions", form=True),
    Api("/audio/translations", form=True),
    Api("/audio/speech", {"input": "hi", "voice": "alloy"}),
    Api("/images/generations", {"prompt": "a cat"}),
    Api("/images/edits", form=True, known=False),
]


async def ask(gateway: Any, api: Api, model: str = "chat", **options: Any) -> Any:
    if api.form:
        files = {"file": ("a.wav", FILE, "audio/wav")}
        return await gateway.client.post(api.path, data={"model": model}, files=files, **options)
    return await gateway.client.post(api.path, json={"model": model, **api.body}, **options)


async def test_each_goes_to_the_models_target_and_comes_back_as_it_was(gateway: Any, upstream: FakeUpstream) -> None:
    """The alias becomes the target's model; nothing else of the request changes."""
    for api in APIS:
        reply = await ask(gateway, api)

        asked = upstream.calls[-1]
        assert asked.path == api.upstream_path
        assert b"model-u0" in asked.body
        if not api.form and not api.asked:
            assert asked.json == {**api.body, "model": "model-u0"}
        if api.known:
            assert reply.status_code == 200, api
        else:
            assert reply.status_code == 404
            assert "the fake upstream has no " in reply.json()["error"]["message"], "the upstream's own words"
        assert reply.headers["x-request-id"]
        assert reply.headers["x-gateway-upstream"] == "u0"
        assert reply.headers["x-gateway-attempts"] == "1"
    assert len(upstream.calls) == len(APIS)


async def test_without_a_key_nobody_is_asked(gateway: Any, upstream: FakeUpstream) -> None:
    for api in APIS:
        for headers in ({"authorization": ""}, {"authorization": "Bearer wrong"}, {"authorization": "Basic dGVzdA=="}):
            reply = await ask(gateway, api, headers=headers)
            assert reply.status_code == 401, api
            assert "API key" in reply.json()["error"]["message"]
            assert reply.headers["x-should-retry"] == "false"
            assert ("type" in reply.json()) == (api.path == "/messages"), "Anthropic's clients get its format"
    assert not upstream.calls


async def test_an_unknown_model_is_a_404_that_names_it(gateway: Any, upstream: FakeUpstream) -> None:
    for api in APIS:
        reply = await ask(gateway, api, model="chatt")
        assert reply.status_code == 404, api
        assert 'did you mean "chat"?' in reply.json()["error"]["message"]
    assert not upstream.calls


async def test_without_a_model_it_is_a_400(gateway: Any, upstream: FakeUpstream) -> None:
    for api in APIS:
        given = {"data": {"n": "1"}, "files": {"file": ("a.wav", FILE)}} if api.form else {"json": api.body}
        reply = await gateway.client.post(api.path, **given)
        assert reply.status_code == 400, api
        assert "model" in reply.json()["error"]["message"]
    assert not upstream.calls


async def test_each_is_counted_and_only_text_is_recorded(gateway: Any) -> None:
    """An embedding's vectors, sound and pictures have no place in the stream."""
    recorded: list[str] = []
    for n, api in enumerate(APIS, 1):
        before = await gateway.metric("gateway_tokens_total", alias="chat", type="input")
        await ask(gateway, api)
        assert await gateway.metric("gateway_requests_total", alias="chat", upstream="u0") == n, api
        assert await gateway.metric("gateway_attempts_total", upstream="u0") == n
        spent = await gateway.metric("gateway_tokens_total", alias="chat", type="input") - before
        assert (spent > 0) == api.usage, api
        recorded += [api.path] if api.recorded else []
    unknown = sum(not api.known for api in APIS)
    assert await gateway.metric("gateway_requests_total", alias="chat", outcome="client_error") == unknown

    await gateway.chat("a last one, by which the others must have come")
    exchanges = await gateway.recorded(len(recorded) + 1)
    names = {"chat": "/chat/completions"}
    assert [names.get(e.api, f"/{e.api}") for e in exchanges] == [*recorded, "/chat/completions"]
    assert all(e.status == 200 and e.usage is not None for e in exchanges)


async def test_vllms_own_paths_are_served_at_the_root_too(
    start: Any, configured: Callable[..., Any], upstream: FakeUpstream
) -> None:
    """vLLM serves them outside /v1, so its clients send them there, and the upstream gets them there."""
    config = configured(upstream)
    config["upstreams"]["u0"]["kind"] = "vllm"
    gateway = await start(config)
    root = gateway.base_url.removesuffix("/v1")
    for api in APIS:
        if api.path not in ("/tokenize", "/detokenize", "/score", "/rerank", "/classify", "/pooling"):
            continue
        for base in (root, gateway.base_url):
            reply = await gateway.client.post(base + api.path, json={"model": "chat", **api.body})
            assert reply.status_code == (200 if api.known else 404), api
            assert upstream.calls[-1].path.removeprefix("/v1") == api.path
        refused = await gateway.client.post(
            root + api.path, json={"model": "chat", **api.body}, headers={"authorization": ""}
        )
        assert refused.status_code == 401


async def test_a_list_as_an_answer_passes_where_servers_give_one(gateway: Any, upstream: FakeUpstream) -> None:
    body = b'[{"index":1,"score":0.99},\n {"index":0,"score":0.10}]'
    upstream.answers(200, body)
    reply = await gateway.client.post("/rerank", json={"model": "chat", "query": "a", "documents": ["b", "c"]})
    assert (reply.status_code, reply.content) == (200, body)


def form(parts: list[tuple[str, bytes, str | None]], boundary: str = "b0undary") -> tuple[bytes, dict[str, str]]:
    """parts: name, value and file name, in the order they are sent."""
    out = []
    for name, value, filename in parts:
        of_file = f'; filename="{filename}"\r\nContent-Type: audio/wav' if filename else ""
        out.append(f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{of_file}\r\n\r\n'.encode())
        out += [value, b"\r\n"]
    return b"".join([*out, f"--{boundary}--\r\n".encode()]), {
        "content-type": f"multipart/form-data; boundary={boundary}"
    }


AWKWARD = (
    b'\r\n--b0undar\r\ncontent-disposition: form-data; name="model"\r\n\r\nchat\r\n--b0undar--\r\n'
    b'name="stream"\r\n\r\ntrue\r\n--\r\n\r\n' + FILE
)


@pytest.mark.parametrize("path", ["/audio/transcriptions", "/audio/translations"])
async def test_a_file_arrives_whole_wherever_the_model_stands(gateway: Any, upstream: FakeUpstream, path: str) -> None:
    for data in (FILE, AWKWARD, b"", b"\r\n" * 50):
        parts = [("model", b"chat", None), ("file", data, "a.wav"), ("language", "fr é".encode(), None)]
        for ordered in (parts, [parts[1], parts[0], parts[2]], parts[::-1]):
            body, headers = form(ordered)

            reply = await gateway.client.post(path, content=body, headers=headers)

            assert reply.status_code == 200, reply.text
            assert reply.json()["file"] == {"filename": "a.wav", "size": len(data), "sha256": sha256(data).hexdigest()}
            expected, _ = form([(n, b"model-u0" if n == "model" else v, f) for n, v, f in ordered])
            assert upstream.calls[-1].body == expected
            assert upstream.calls[-1].header("content-type") == headers["content-type"]


async def test_a_file_of_20_mb_arrives_whole(gateway: Any) -> None:
    data = os.urandom(20_000_000)
    parts = [("model", b"chat", None), ("file", data, "a.wav")]
    for ordered in (parts, parts[::-1]):
        body, headers = form(ordered)
        reply = await gateway.client.post("/audio/transcriptions", content=body, headers=headers)
        assert reply.json()["file"]["sha256"] == sha256(data).hexdigest()


async def test_a_form_survives_a_failed_attempt(
    start: Any, configured: Callable[..., Any], upstream: FakeUpstream, second: FakeUpstream
) -> None:
    upstream.always(Fault.status(503))
    gateway = await start(configured(upstream, second))
    body, headers = form([("file", FILE, "a.wav"), ("model", b"chat", None)])
    reply = await gateway.client.post("/audio/transcriptions", content=body, headers=headers)
    assert reply.json()["file"]["sha256"] == sha256(FILE).hexdigest()
    assert b"model-u1" in second.calls[0].body


async def test_a_form_sent_in_chunks_is_read_as_one(gateway: Any, upstream: FakeUpstream) -> None:
    body, headers = form([("file", FILE, "a.wav"), ("model", b"chat", None)])

    async def pieces() -> Any:
        for at in range(0, len(body), 777):
            yield body[at : at + 777]

    reply = await gateway.client.post("/audio/transcriptions", content=pieces(), headers=headers)
    assert reply.json()["file"]["sha256"] == sha256(FILE).hexdigest()


async def test_a_transcription_may_be_streamed(gateway: Any, upstream: FakeUpstream) -> None:
    events = [b'data: {"type":"transcript.text.delta","delta":"Hi"}\n\n', b'data: {"type":"transcript.text.done"}\n\n']
    upstream.streams(events)
    body, headers = form([("stream", b"true", None), ("file", FILE, "a.wav"), ("model", b"chat", None)])
    async with gateway.client.stream("POST", "/audio/transcriptions", content=body, headers=headers) as reply:
        assert await reply.aread() == b"".join(events)
        assert reply.headers["content-type"].startswith("text/event-stream")


async def test_a_transcription_may_be_plain_text(gateway: Any, upstream: FakeUpstream) -> None:
    upstream.answers(200, b"WEBVTT\n\n00:00.000 --> 00:01.000\nHi\n", content_type="text/vtt")
    body, headers = form([("model", b"chat", None), ("file", FILE, "a.wav")])
    reply = await gateway.client.post("/audio/transcriptions", content=body, headers=headers)
    assert reply.content.startswith(b"WEBVTT")
    assert reply.headers["content-type"] == "text/vtt"


async def test_a_body_that_is_not_a_form_is_a_400(gateway: Any, upstream: FakeUpstream) -> None:
    reply = await gateway.client.post("/audio/transcriptions", json={"model": "chat"})
    assert reply.status_code == 400
    assert not upstream.calls


async def test_sound_passes_byte_for_byte_with_its_length(gateway: Any) -> None:
    reply = await gateway.client.post("/audio/speech", json={"model": "chat", "input": "hi", "voice": "alloy"})
    assert reply.content == bytes(range(256)) * 16
    assert reply.headers["content-type"] == "audio/mpeg"
    assert reply.headers["content-length"] == "4096"


async def test_a_key_sees_only_the_models_it_may_use(
    start: Any, configured: Callable[..., Any], upstream: FakeUpstream
) -> None:
    config = configured(upstream)
    config["models"]["team/small"] = config["models"]["chat"]
    narrow = {"name": "narrow", "sha256": sha256(b"narrow").hexdigest(), "models": ["team/small"]}
    config["keys"].append(narrow)
    gateway = await start(config)

    async def seen(key: str) -> list[str]:
        reply = await gateway.client.get("/models", headers={"authorization": f"Bearer {key}"})
        return [m["id"] for m in reply.json()["data"]]

    assert await seen("test-key") == ["chat", "team/small"]
    assert await seen("narrow") == ["team/small"]
    one = await gateway.client.get("/models/team/small", headers={"authorization": "Bearer narrow"})
    assert one.json()["id"] == "team/small"
    hidden = await gateway.client.get("/models/chat", headers={"authorization": "Bearer narrow"})
    assert hidden.status_code == 404
    reply = await ask(gateway, APIS[0], headers={"authorization": "Bearer narrow"})
    assert reply.status_code == 404
    assert not upstream.calls, "the names are answered by us"


@pytest.mark.parametrize("path", ["/models", "/models/chat"])
async def test_models_need_a_key(gateway: Any, path: str) -> None:
    reply = await gateway.client.get(path, headers={"authorization": ""})
    assert reply.status_code == 401
    assert reply.headers["x-request-id"]


@pytest.fixture
async def passing(start: Any, configured: Callable[..., Any], upstream: FakeUpstream) -> Any:
    """A gateway that passes other paths on, and knows a second key that may not use them."""
    config = configured(upstream, passthrough="u0")
    config["keys"].append({"name": "plain", "sha256": sha256(b"plain").hexdigest()})
    return await start(config)


PATHS = ["/files", "/files/file-1/content?after=x%2Fy&limit=2", "/batches", "/uploads/a%20b/parts"]


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "PUT", "PATCH"])
async def test_other_paths_go_untouched_to_the_named_upstream(
    passing: Any, upstream: FakeUpstream, method: str
) -> None:
    content = FILE if method in ("POST", "PUT", "PATCH") else b""
    upstream.answers(200, b'{"x": [1,  2]}', headers=[("openai-version", "2020-10-01"), ("set-cookie", "a=b")])
    for path in PATHS:
        sent = {"content-type": "x/y", "cookie": "c"}
        reply = await passing.client.request(method, path, content=content, headers=sent)

        assert (reply.status_code, reply.content) == (200, b'{"x": [1,  2]}')
        assert reply.headers["openai-version"] == "2020-10-01"
        assert reply.headers["x-request-id"]
        assert "set-cookie" not in reply.headers
        asked = upstream.calls[-1]
        assert (asked.method, asked.body) == (method, content)
        assert asked.path + ("?" + asked.query if asked.query else "") == "/v1" + path.replace("%20", " ")
        assert asked.header("content-type") == "x/y"
        assert asked.header("cookie") is None
        assert "test-key" not in str(asked.headers)


async def test_a_key_without_leave_may_not_use_other_paths(passing: Any, upstream: FakeUpstream) -> None:
    reply = await passing.client.post("/files", content=b"x", headers={"authorization": "Bearer plain"})
    assert reply.status_code == 403
    assert "passthrough" in reply.json()["error"]["message"]
    assert reply.headers["x-request-id"]
    without = await passing.client.get("/files", headers={"authorization": ""})
    assert without.status_code == 401
    assert not upstream.calls


async def test_without_a_named_upstream_other_paths_are_a_404(gateway: Any, upstream: FakeUpstream) -> None:
    for method in ("GET", "POST", "DELETE"):
        reply = await gateway.client.request(method, "/files")
        assert reply.status_code == 404
        message = reply.json()["error"]["message"]
        assert message.startswith(f"{method} /v1/files does not exist here: ")
        assert "`passthrough`" in message
        assert reply.headers["x-request-id"]
    assert not upstream.calls


async def test_an_upstreams_refusal_passes_unchanged(passing: Any, upstream: FakeUpstream) -> None:
    upstream.answers(409, b'{"error":{"message":"busy","code":17}}')
    reply = await passing.client.post("/batches", json={})
    assert (reply.status_code, reply.content) == (409, b'{"error":{"message":"busy","code":17}}')


async def test_a_status_that_is_none_is_a_502(passing: Any, upstream: FakeUpstream) -> None:
    upstream.answers(999, b"{}")
    for state in (passing.client.get("/files"), passing.chat()):
        assert (await state).status_code == 502


async def test_a_large_upload_is_carried_in_both_directions(passing: Any, upstream: FakeUpstream) -> None:
    data = os.urandom(40_000_000)  # above max_body_mb: nothing of it is held

    async def pieces() -> Any:
        for at in range(0, len(data), 1 << 20):
            yield data[at : at + (1 << 20)]

    reply = await passing.client.post("/files", content=pieces())
    assert reply.json()["sha256"] == sha256(data).hexdigest()
    upstream.answers(200, data, content_type="application/octet-stream")
    reply = await passing.client.get("/files/f/content")
    assert reply.content == data


async def test_an_aborted_upload_never_looks_complete(passing: Any, upstream: FakeUpstream) -> None:
    """Half a file stored as if it were all of it would be noticed much later."""
    host, port = passing.base_url.removeprefix("http://").removesuffix("/v1").split(":")
    for framing in (b"content-length: 1000\r\n\r\nhalf", b"transfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n"):
        opened = upstream.connections_opened
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"POST /v1/files HTTP/1.1\r\nhost: x\r\nauthorization: Bearer test-key\r\n" + framing)
        await writer.drain()
        await upstream.until(lambda u, opened=opened: u.connections_opened > opened)
        writer.close()
        await writer.wait_closed()
        await upstream.until(lambda u: u.open_connections == 0)
        del reader
    assert not upstream.calls


async def test_a_passed_stream_arrives_as_it_comes(passing: Any, upstream: FakeUpstream) -> None:
    pieces = [b"data: one\n\n", b"data: two\n\n"]
    upstream.streams(pieces)
    async with passing.client.stream("GET", "/files/f/events") as reply:
        assert await reply.aread() == b"".join(pieces)


async def test_realtime_is_a_clear_501(gateway: Any, passing: Any) -> None:
    for each in (gateway, passing):
        reply = await each.client.get("/realtime?model=chat")
        assert reply.status_code == 501
        assert "realtime" in reply.json()["error"]["message"]


async def test_head_is_get_without_a_body(gateway: Any) -> None:
    root = gateway.base_url.removesuffix("/v1")
    for url in (f"{gateway.base_url}/models", f"{gateway.base_url}/models/chat", f"{root}/health", f"{root}/ready"):
        reply = await gateway.client.head(url)
        assert (reply.status_code, reply.content) == (200, b""), url
        assert (await gateway.client.get(url)).headers["content-length"] == reply.headers["content-length"]


async def test_another_method_on_a_known_path_is_refused_in_words(gateway: Any, upstream: FakeUpstream) -> None:
    for api in APIS:
        for method in ("GET", "PUT", "DELETE", "HEAD"):
            reply = await gateway.client.request(method, api.path)
            assert (reply.status_code, reply.headers["allow"]) == (405, "POST")
            assert reply.headers["x-request-id"]
            if method != "HEAD":
                assert reply.json()["error"]["message"]
    assert not upstream.calls
    reply = await gateway.client.post("/models")
    assert (reply.status_code, reply.headers["allow"]) == (405, "GET, HEAD")
    assert reply.json()["error"]["code"] == "method_not_allowed"


ORIGIN = "https://app.example"


@pytest.fixture
async def for_browsers(start: Any, configured: Callable[..., Any], upstream: FakeUpstream) -> Any:
    """A gateway with CORS and `passthrough`."""
    return await start(configured(upstream, cors=[ORIGIN], passthrough="u0"))


async def test_a_browser_of_a_named_origin_may_ask_first(for_browsers: Any, upstream: FakeUpstream) -> None:
    asks = {
        "origin": ORIGIN,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type,x-stainless-os",
        "authorization": "",
    }
    for path in ("/chat/completions", "/models", "/embeddings", "/files", "/responses/r"):
        reply = await for_browsers.client.options(path, headers=asks)
        assert reply.status_code == 200
        assert reply.headers["access-control-allow-origin"] == ORIGIN
        assert "authorization" in reply.headers["access-control-allow-headers"].lower()
        assert "POST" in reply.headers["access-control-allow-methods"]
        other = await for_browsers.client.options(path, headers={**asks, "origin": "https://evil.example"})
        assert "access-control-allow-origin" not in other.headers
    assert not upstream.calls


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
async def test_a_browser_of_a_named_origin_may_read_every_answer(
    for_browsers: Any, upstream: FakeUpstream, stream: bool
) -> None:
    """A browser may read a refusal, too: without the header the page learns only that something failed."""
    body = {"model": "chat", "messages": MESSAGES, "stream": stream}
    named = {"origin": ORIGIN}
    replies = [
        await for_browsers.client.post("/chat/completions", json=body, headers=named),
        await for_browsers.client.post("/chat/completions", json={**body, "model": "no"}, headers=named),
        await for_browsers.client.post("/chat/completions", json=body, headers={**named, "authorization": ""}),
        await for_browsers.client.get("/models", headers=named),
        await for_browsers.client.get("/files", headers=named),
    ]
    assert [r.status_code for r in replies] == [200, 404, 401, 200, 200]
    for reply in replies:
        assert reply.headers["access-control-allow-origin"] == ORIGIN
        assert "origin" in reply.headers["vary"].lower()
        assert reply.headers["access-control-expose-headers"] == "*"
    other = await for_browsers.client.post("/chat/completions", json=body, headers={"origin": "https://evil.example"})
    assert other.status_code == 200
    assert "access-control-allow-origin" not in other.headers
    none = await for_browsers.client.post("/chat/completions", json=body)
    assert "access-control-allow-origin" not in none.headers


async def test_without_cors_a_browser_is_told_nothing(gateway: Any, upstream: FakeUpstream) -> None:
    asks = {"origin": ORIGIN, "access-control-request-method": "POST"}
    reply = await gateway.client.options("/chat/completions", headers=asks)
    assert reply.status_code in (204, 404, 405)
    assert "access-control-allow-origin" not in reply.headers
    assert not upstream.calls


@pytest.mark.parametrize(("aliases", "name"), [(1, "chatt"), (1, "chat" * 50_000), (1000, "chatt")])
async def test_only_a_cheap_comparison_makes_a_suggestion(
    start: Any, configured: Callable[..., dict[str, Any]], upstream: FakeUpstream, aliases: int, name: str
) -> None:
    """Comparing holds up all other calls: with 1000 aliases, or a name of a megabyte, a tenth of a second each time."""
    config = configured(upstream)
    config["models"] |= {f"chat-{n}": config["models"]["chat"] for n in range(aliases - 1)}
    gateway = await start(config)
    reply = await gateway.chat(model=name)
    assert reply.status_code == 404
    assert ("did you mean" in reply.json()["error"]["message"]) == (aliases == 1 and len(name) < 200)


@pytest.mark.parametrize(
    ("path", "body"),
    [("/embeddings", {"messages": MESSAGES}), ("/completions", {"prompt_embeds": "gAJj"})],
    ids=["chat embeddings", "prompt embeddings"],
)
async def test_vllms_own_forms_pass(gateway: Any, upstream: FakeUpstream, path: str, body: dict[str, Any]) -> None:
    await gateway.client.post(path, json={"model": "chat", **body})
    assert upstream.calls[0].json == {"model": "model-u0", **body}
    neither = await gateway.client.post(path, json={"model": "chat"})
    assert neither.json()["error"]["code"] == "missing_required_parameter"


async def test_a_request_without_a_model_goes_to_the_default_of_its_api(
    start: Any, configured: Callable[..., dict[str, Any]], upstream: FakeUpstream
) -> None:
    gateway = await start(configured(upstream, defaults={"moderations": "chat"}))
    answered = await gateway.client.post("/moderations", json={"input": "hi"})
    assert answered.status_code == 200
    assert upstream.calls[0].json == {"input": "hi", "model": "model-u0"}
    refused = await gateway.client.post("/embeddings", json={"input": "hi"})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "model")
    gateway.write({**configured(upstream), "defaults": {"embeddings": "chat"}})
    await gateway.until(lambda: gateway.gateway.config.defaults == {"embeddings": "chat"})
    assert (await gateway.client.post("/embeddings", json={"input": "hi", "model": None})).status_code == 200
    assert (await gateway.client.post("/moderations", json={"input": "hi"})).status_code == 400
