"""Other paths: forwarded to one upstream, unchanged, for keys that may use them, and never outside its base path."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import re
from collections.abc import AsyncIterator, Callable
from hashlib import sha256
from typing import Any

import httpx2
import pytest

from gateway.fake import FakeUpstream, Fault
from gateway.proxy.endpoints.passthrough import makes_state

ESCAPES = ["/v1/../admin", "/v1/files/../../admin", "/v1/%2e%2e/admin", "/v1/files/%2E%2E%2f..%2fadmin", "/v1/./files"]


@pytest.fixture
async def passing(start: Any, configured: Callable[..., dict[str, Any]], upstream: FakeUpstream) -> Any:
    """A gateway with `passthrough`, and a key that may not use it."""
    config = configured(upstream, passthrough="u0")
    config["keys"].append({"name": "narrow", "sha256": sha256(b"narrow").hexdigest()})
    return await start(config)


async def raw(gateway: Any, request: str, body: str = "") -> bytes:
    """Sends over a socket, since an HTTP client would normalise a path."""
    host, port = gateway.base_url.removesuffix("/v1").removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"{request}\r\nhost: x\r\nauthorization: Bearer test-key\r\nconnection: close\r\n\r\n{body}".encode())
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


@pytest.mark.parametrize("path", ESCAPES)
async def test_no_path_leads_out_of_the_upstreams_base_path(passing: Any, upstream: FakeUpstream, path: str) -> None:
    assert (await raw(passing, f"GET {path} HTTP/1.1")).split()[1] == b"404"
    assert not upstream.calls


async def test_a_path_is_carried_as_it_was_written(passing: Any, upstream: FakeUpstream) -> None:
    await raw(passing, "GET /v1/files/a%2Fb%20c?x=1&y=%2e%2e HTTP/1.1")
    assert (upstream.calls[0].path, upstream.calls[0].query) == ("/v1/files/a/b c", "x=1&y=%2e%2e")


async def test_a_page_of_an_upstream_runs_no_script_on_the_gateways_origin(
    passing: Any, upstream: FakeUpstream
) -> None:
    upstream.answers(200, b"<script>alert(1)</script>", content_type="text/html")
    reply = await passing.client.get("/files/f/content")
    assert reply.headers["content-security-policy"] == "sandbox"
    assert reply.headers["x-content-type-options"] == "nosniff"


async def test_one_attempt_is_made_and_no_other_upstream_asked(
    start: Any, configured: Callable[..., dict[str, Any]], upstream: FakeUpstream, second: FakeUpstream
) -> None:
    gateway = await start(configured(upstream, second, passthrough="u0"))
    upstream.always(Fault.reset())
    reply = await gateway.client.post("/batches", json={"a": 1})
    assert (reply.status_code, reply.json()["error"]["code"]) == (502, "upstream_failed")
    assert "127.0.0.1" not in reply.text
    assert (len(upstream.calls), len(second.calls)) == (1, 0)


async def test_other_paths_are_never_recorded(passing: Any) -> None:
    await passing.client.post("/batches", json={"messages": [{"role": "user", "content": "x"}]})
    await passing.chat()
    [exchange] = await passing.recorded(1)
    assert exchange.api == "chat"
    assert exchange.seq == 1


async def test_an_answer_that_breaks_off_does_not_look_whole(passing: Any, upstream: FakeUpstream) -> None:
    upstream.always(Fault.cut_after(1))
    answer = await raw(passing, "GET /v1/files HTTP/1.1")
    head, _, body = answer.partition(b"\r\n\r\n")
    length = next(int(line.split(b":")[1]) for line in head.splitlines() if line.startswith(b"content-length"))
    assert len(body) < length


async def test_only_a_key_that_may_uses_other_paths(passing: Any, upstream: FakeUpstream) -> None:
    reply = await passing.client.get("/files", headers={"authorization": "Bearer narrow"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (403, "permission_denied")
    assert not upstream.calls
    assert (await passing.client.get("/files")).status_code == 200


SPELLINGS = [
    "/v1/chat/completions/", "/v1//chat/completions", "//v1/chat/completions", "/v1/%63hat/completions",
    "/v1/chat%2fcompletions", "/v1/chat%252fcompletions",
    "/v1/chat/completions;x", "/v1/chat/completions%3Fx",
    "/v1/chat/completions%20",
]  # fmt: skip


@pytest.mark.parametrize("path", SPELLINGS)
async def test_every_spelling_of_a_routed_path_is_routed(passing: Any, upstream: FakeUpstream, path: str) -> None:
    """The request would go out raw otherwise: past aliases, the key's models, metrics and records."""
    got = [await raw(passing, *post(path, model)) for model in ("chat", "dear")]
    assert [answer.split()[1] for answer in got] == [b"200", b"404"]
    assert b"model_not_found" in got[1]
    assert [(asked.path, asked.json["model"]) for asked in upstream.received] == [("/v1/chat/completions", "model-u0")]


REFUSED = [
    "/v1/Chat/Completions", "/V1/chat/completions", "/v1/chat/COMPLETIONS/", "/v1/./chat/completions",
    "/v1/x/../chat/completions", "/v1/x/%252e%252e/chat/completions", "/v1/x/..;/chat/completions",
    "/v1/x/..%5cchat/completions",
]  # fmt: skip


@pytest.mark.parametrize("path", REFUSED)
async def test_a_path_that_only_some_servers_route_is_refused(passing: Any, upstream: FakeUpstream, path: str) -> None:
    assert (await raw(passing, *post(path, "dear"))).split()[1] == b"404"
    assert not upstream.calls


def post(path: str, model: str) -> tuple[str, str]:
    body = f'{{"model":"{model}","messages":[{{"role":"user","content":"x"}}]}}'
    return f"POST {path} HTTP/1.1\r\ncontent-length: {len(body)}", body


OWN = [
    ("/v1/chat/completions", "POST"), ("/v1/embeddings", "POST"), ("/v1/responses", "POST"), ("/v1/messages", "POST"),
    ("/v1/audio/speech", "POST"), ("/v1/feedback", "POST"), ("/v1/models", "GET, HEAD"), ("/v1/key", "GET, HEAD"),
    ("/v1/responses/resp_1", "GET, HEAD, DELETE"), ("/v1/responses/resp_1/cancel", "POST"),
    ("/v1/responses/resp_1/input_items", "GET, HEAD"), ("/v1/responses/compact", "POST"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "allow"), OWN)
async def test_the_gateways_own_paths_are_not_forwarded_by_other_methods(
    passing: Any, upstream: FakeUpstream, path: str, allow: str
) -> None:
    """The upstream would get them with its credential, and answer for the gateway."""
    origin = passing.base_url.removesuffix("/v1")
    for method in {"HEAD", "OPTIONS", "PUT", "PATCH", "DELETE"} - set(allow.split(", ")):
        reply = await passing.client.request(method, origin + path)
        assert (reply.status_code, reply.headers["allow"]) == (405, allow), method
    assert not upstream.calls


async def test_the_list_of_stored_chats_is_forwarded(passing: Any, upstream: FakeUpstream) -> None:
    upstream.answers(200, b'{"data": []}')
    assert (await passing.client.get("/chat/completions?model=x")).json() == {"data": []}
    assert (await passing.client.delete("/models/ft:gpt-4o-mini:acme::a")).status_code == 200
    assert [(asked.method, asked.path) for asked in upstream.calls] == [
        ("GET", "/v1/chat/completions"),
        ("DELETE", "/v1/models/ft:gpt-4o-mini:acme::a"),
    ]


class Files:
    """A server of files: it answers what a request asks for in its conditions, and remembers requests as they came."""

    def __init__(self) -> None:
        self.requests: list[bytes] = []
        self.base_url = ""

    def answer(self, head: bytes) -> bytes:
        if b"range: bytes=0-3" in head:
            of_part = b'content-range: bytes 0-3/8\r\netag: "e1"\r\ncontent-length: 4\r\n\r\nfour'
            return b"HTTP/1.1 206 Partial Content\r\n" + of_part
        if b'if-none-match: "e1"' in head:
            return b'HTTP/1.1 304 Not Modified\r\netag: "e1"\r\n\r\n'
        if b"/away" in head:
            return b"HTTP/1.1 302 Found\r\nlocation: https://blobs.example/x?sig=1\r\ncontent-length: 0\r\n\r\n"
        if b"/moved" in head:
            at = f"location: {self.base_url}/files/new\r\n".encode()
            return b"HTTP/1.1 307 Temporary Redirect\r\n" + at + b"content-length: 0\r\n\r\n"
        if b"/packed" in head:
            packed = gzip.compress(b'{"a": 1}')
            length = f"content-length: {len(packed)}\r\n".encode()
            return (
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-encoding: gzip\r\n"
                + length
                + b"\r\n"
                + packed
            )
        return b"HTTP/1.1 200 OK\r\nlast-modified: Thu, 26 Nov 2026 08:00:00 GMT\r\ncontent-length: 2\r\n\r\n{}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while head := (await reader.readuntil(b"\r\n\r\n")).lower():
                length = re.search(rb"content-length: (\d+)", head)
                body = await reader.readexactly(int(length[1])) if length else b""
                self.requests.append(head + body)
                writer.write(self.answer(head))
        writer.close()


@pytest.fixture
async def files() -> AsyncIterator[Files]:
    """A server of files at which requests arrive as they were sent."""
    served = Files()
    server = await asyncio.start_server(served.serve, "127.0.0.1", 0)
    async with server:
        served.base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        yield served


@pytest.fixture
async def before_files(
    start: Any, configured: Callable[..., dict[str, Any]], upstream: FakeUpstream, files: Files
) -> Any:
    """A gateway whose `passthrough` is the server of files."""
    config = configured(upstream, passthrough="files")
    config["upstreams"]["files"] = {"kind": "openai", "base_url": files.base_url}
    return await start(config)


async def test_ranges_and_conditions_pass_both_ways(before_files: Any) -> None:
    part = await before_files.client.get("/files/f/content", headers={"range": "bytes=0-3"})
    assert (part.status_code, part.content, part.headers["content-range"]) == (206, b"four", "bytes 0-3/8")
    same = await before_files.client.get("/files/f", headers={"if-none-match": part.headers["etag"]})
    assert (same.status_code, same.headers["etag"]) == (304, '"e1"')
    whole = await before_files.client.get("/files/f")
    assert whole.headers["last-modified"] == "Thu, 26 Nov 2026 08:00:00 GMT"


async def test_a_redirect_can_be_followed(before_files: Any) -> None:
    away = await before_files.client.get("/files/away/content")
    assert (away.status_code, away.headers["location"]) == (302, "https://blobs.example/x?sig=1")
    moved = await before_files.client.get("/files/moved")
    assert moved.headers["location"] == "/v1/files/new", "not the upstream's own address"


async def test_an_encoding_that_the_server_insists_on_is_named(before_files: Any) -> None:
    assert (await before_files.client.get("/files/packed")).json() == {"a": 1}


async def test_a_body_of_known_length_is_sent_with_its_length(before_files: Any, files: Files) -> None:
    await before_files.client.post("/batches", content=b'{"a": 1}')
    assert b"content-length: 8" in files.requests[0]
    assert b"transfer-encoding" not in files.requests[0]
    assert files.requests[0].endswith(b'{"a": 1}')


async def test_the_http_paths_of_realtime_pass_and_websockets_are_refused(passing: Any, upstream: FakeUpstream) -> None:
    await passing.client.post("/realtime/client_secrets", json={"session": {"type": "realtime"}})
    assert upstream.calls[0].path == "/v1/realtime/client_secrets"
    websocket = "GET /v1/realtime?model=m HTTP/1.1\r\nupgrade: websocket\r\nconnection: upgrade"
    assert (await raw(passing, websocket)).split()[1] == b"501"
    assert len(upstream.calls) == 1


async def test_a_compressed_body_keeps_its_encoding(passing: Any, upstream: FakeUpstream) -> None:
    packed = gzip.compress(b'{"a": 1}')
    headers = {"content-encoding": "gzip", "content-type": "application/json"}
    assert (await passing.client.post("/files", content=packed, headers=headers)).status_code == 200
    [received] = upstream.calls
    assert (received.body, received.header("content-encoding")) == (packed, "gzip")


async def test_each_api_has_its_own_upstream(
    start: Any, configured: Callable[..., dict[str, Any]], upstream: FakeUpstream, second: FakeUpstream
) -> None:
    """Anthropic's batches do not go to OpenAI."""
    gateway = await start(configured(upstream, second, passthrough={"openai": "u0", "anthropic": "u1"}))
    await gateway.client.get("/batches")
    await gateway.client.get("/messages/batches")
    await gateway.client.get("/files", headers={"anthropic-version": "2023-06-01"})
    assert [call.path for call in upstream.calls] == ["/v1/batches"]
    assert [call.path for call in second.calls] == ["/v1/messages/batches", "/v1/files"]


async def test_an_api_without_an_upstream_is_refused(
    start: Any, configured: Callable[..., dict[str, Any]], upstream: FakeUpstream
) -> None:
    gateway = await start(configured(upstream, passthrough={"anthropic": "u0"}))
    assert (await gateway.client.get("/batches")).status_code == 404
    assert upstream.calls == []


FILE, STORE = "file-" + "a" * 24, "vs_" + "b" * 32


@pytest.fixture
async def two_keys(start: Any, configured: Callable[..., dict[str, Any]], upstream: FakeUpstream) -> Any:
    """A gateway with two keys that may use `passthrough`."""
    config = configured(upstream, passthrough="u0")
    config["keys"].append({"name": "other", "sha256": sha256(b"other").hexdigest(), "allow": ["passthrough"]})
    return await start(config)


def of(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


async def made(gateway: Any, upstream: FakeUpstream, path: str, answer: dict[str, Any]) -> None:
    """Makes something at the upstream."""
    upstream.answers(200, json.dumps(answer, indent=2).encode() + b"\n")
    assert (await gateway.client.post(path, json={"a": 1}, headers=of("test-key"))).status_code == 200
    upstream.says("hello")


@pytest.mark.parametrize(
    ("method", "path", "makes"),
    [("POST", b"/v1/files", True), ("POST", b"/v1//files/", True), ("GET", b"/v1/files", False),
     ("POST", b"/v1/uploads/u/complete", True), ("POST", b"/v1/vector_stores/v/files", False),
     ("POST", b"/v1/batches/b/cancel", False), ("DELETE", b"/v1/files/f", False)],
)  # fmt: skip
def test_only_what_is_new_is_made(method: str, path: bytes, makes: bool) -> None:
    assert makes_state(method, path) is makes


async def test_an_answer_in_pieces_is_read(two_keys: Any, upstream: FakeUpstream) -> None:
    answer = json.dumps({"meta": {"a": {}}, "id": FILE}).encode()
    upstream.streams([answer[at : at + 7] for at in range(0, len(answer), 7)], content_type="application/json")
    assert (await two_keys.client.post("/files", json={}, headers=of("test-key"))).json()["id"] == FILE
    assert (await two_keys.client.get(f"/files/{FILE}", headers=of("other"))).status_code == 404


MADE = [
    ("/files", {"id": FILE}, f"/files/{FILE}/content", "file"),
    ("/vector_stores", {"id": STORE}, f"/vector_stores/{STORE}/files", "vector_store"),
    ("/conversations", {"id": "conv_" + "d" * 40}, f"/conversations/conv_{'d' * 40}", "conversation"),
    ("/batches", {"id": "batch_" + "e" * 40}, f"/batches/batch_{'e' * 40}/cancel", "batch"),
    (f"/uploads/upload_{'f' * 32}/complete", {"id": "upload_" + "f" * 32, "file": {"id": FILE}}, f"/files/{FILE}",
     "file"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "answer", "below", "kind"), MADE)
async def test_a_path_of_another_keys_state_is_not_found(
    two_keys: Any, upstream: FakeUpstream, path: str, answer: dict[str, Any], below: str, kind: str
) -> None:
    await made(two_keys, upstream, path, answer)
    sent = len(upstream.calls)
    for method in ("GET", "POST", "DELETE"):
        refused = await two_keys.client.request(method, below, headers=of("other"))
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, f"{kind}_not_found")
        assert refused.json()["error"]["param"] == "id"
    spelled = below.replace("_", "%5f").replace("-", "%2d")
    assert (await two_keys.client.get(spelled, headers=of("other"))).status_code == 404
    assert len(upstream.calls) == sent
    upstream.answers(200, b"{}")
    assert (await two_keys.client.get(below, headers=of("test-key"))).status_code == 200


async def test_additions_below_an_object_are_not_owned(two_keys: Any, upstream: FakeUpstream) -> None:
    """A file in a vector store has the id of the file, which may be shared."""
    await made(two_keys, upstream, f"/vector_stores/{STORE}/files", {"id": FILE})
    assert (await two_keys.client.get(f"/files/{FILE}", headers=of("other"))).status_code == 200


async def test_refused_requests_make_nothing(two_keys: Any, upstream: FakeUpstream) -> None:
    upstream.answers(400, json.dumps({"id": FILE}).encode())
    assert (await two_keys.client.post("/files", json={}, headers=of("test-key"))).status_code == 400
    upstream.says("hello")
    assert (await two_keys.client.get(f"/files/{FILE}", headers=of("other"))).status_code == 200


PATHS = {
    ("GET", "/files"): True,
    ("POST", "/files"): True,
    ("GET", "/files/f1/content"): True,
    ("GET", "/batches/b1"): True,
    ("HEAD", "/batches/b1"): True,
    ("POST", "/batches"): False,
    ("DELETE", "/batches/b1"): False,
    ("GET", "/fine_tuning/jobs"): False,
    ("GET", "/files%2f..%2ffine_tuning"): False,
    ("GET", "/FILES"): False,
    ("GET", "/batche%73/b1"): False,
}


@pytest.mark.parametrize(("method", "path"), PATHS)
async def test_a_key_uses_only_the_paths_that_it_names(
    start: Any, configured: Any, upstream: Any, method: str, path: str
) -> None:
    config = configured(upstream, passthrough="u0", responses={"files": "shared"})
    config["keys"][0] |= {"paths": ["/v1/files*", "GET /v1/batches/*"]}
    gateway = await start(config)
    answer = await gateway.client.request(method, httpx2.URL(gateway.base_url + path))
    if PATHS[method, path]:
        assert answer.status_code == 200
        assert len(upstream.calls) == 1
        return
    assert answer.status_code in (403, 404)
    assert upstream.calls == []
    if answer.status_code == 403:
        assert "keys[].paths are /v1/files*, GET /v1/batches/*" in answer.json()["error"]["message"]


ASK_MODELS = [
    "/v1beta/openai/chat/completions", "/v1beta/openai/embeddings", "/v1beta//openai/chat/completions",
    "/v1beta/%6Fpenai/chat/completions", "/v1beta/interactions", "/v1beta/models/other:predict",
    "/v1beta/models/other%3Apredict", "/v1beta/models/other:PREDICT", "/v1beta/models/other:predictLongRunning",
    "/v1beta/models/other:embedContent", "/v1/models/other:embedContent", "/v1beta/models/other:batchGenerateContent",
    "/v1beta/dynamic/x:generateContent", "/v1beta/dynamic/x:streamGenerateContent",
    "/v1beta/tunedModels/other:generateContent", "/v1beta1/projects/p/locations/l/models/other:predict",
    "/v1/projects/p/locations/l/publishers/google/models/other:generateContent", "/v1alpha/auth_tokens",
    "/async-invoke", "/model/other/converse",
]  # fmt: skip


@pytest.mark.parametrize("path", ASK_MODELS)
async def test_a_key_with_models_asks_no_other_by_a_forwarded_path(
    start: Any, configured: Any, upstream: FakeUpstream, second: FakeUpstream, path: str
) -> None:
    """A key whose paths name it, and one that may use all models, send the same to the vendor, unless it is routed."""
    config = configured(upstream, second, passthrough={"gemini": "u0", "bedrock": "u1"})
    config["models"]["chat"] = {"targets": [{"upstream": "u0", "model": "m"}]}
    for name, kind in (("u0", "gemini_native"), ("u1", "bedrock_converse")):
        config["upstreams"][name] |= {"kind": kind, "api_key": f"sk-{name}"}
    paths = ["/v1/*", "/v1alpha/*", "/v1beta/*", "/async-invoke"]
    models = {"models": ["chat"]}
    rights: dict[str, Any] = {"limited": models, "listed": {**models, "paths": paths}, "all": {}}
    for name, more in rights.items():
        digest = sha256(name.encode()).hexdigest()
        config["keys"].append({"name": name, "sha256": digest, "allow": ["passthrough"], **more})
    gateway = await start(config, key=None)
    for fake in (upstream, second):
        fake.answers(200, b'{"ok": true}')
    url, statuses = httpx2.URL(gateway.base_url.removesuffix("/v1") + path), {}
    for name in rights:
        answer = await gateway.client.post(url, headers={"x-api-key": name}, json={"model": "other"})
        statuses[name] = answer.status_code
        assert name != "limited" or not (upstream.calls or second.calls)
    if statuses["limited"] == 404:
        assert (statuses["listed"], statuses["all"]) == (404, 404)
        return
    assert statuses == {"limited": 403, "listed": 200, "all": 200}


@pytest.mark.parametrize(
    "query",
    [
        "key[]=SECRET", "access_token=SECRET", "a=1&token=SECRET&b=2", "a=1;t=SECRET", "SECRET", "SECRET=1",
        "t=Bearer%20SECRET", "t=Bearer+SECRET", "t=%2573ecret-of-another", "t=%73ecret-of-another",
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/files", "/chat/completions"])
async def test_no_key_of_the_gateway_reaches_an_upstream_by_a_query(
    start: Any, configured: Any, upstream: FakeUpstream, query: str, path: str
) -> None:
    """Neither the caller's own key does, nor another's."""
    config = configured(upstream, passthrough="u0")
    config["keys"].append({"name": "another", "sha256": sha256(b"secret-of-another").hexdigest()})
    gateway = await start(config)
    for secret in ("test-key", "secret-of-another"):
        given = f"keep=1&{query.replace('SECRET', secret)}&page=a%20b"
        body = {"model": "chat", "messages": [{"role": "user", "content": "hi"}]}
        answer = await gateway.client.post(httpx2.URL(f"{gateway.base_url}{path}?{given}"), json=body)
        assert answer.status_code == 200
    assert len(upstream.calls) == 2
    for call in upstream.calls:
        assert re.fullmatch(r"keep=1(&a=1)?(&b=2)?&page=a%20b", call.query)
