"""Bedrock's own client (botocore, which boto3 wraps), Anthropic's client for Bedrock and Gemini's own API on a gateway,
over real sockets: answers, streams, usage, cost, records, limits, errors in their shapes, cuts and fallbacks.

google-genai itself runs in tests/real/test_vendor_clients.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import anthropic
import botocore.session
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, EventStreamError
from fixtures.event_frames import exception
from fixtures.vendor_doubles import FRAMES, USAGE, converse, gemini, invoke

from gateway.core.completion import completion_of
from gateway.core.exchange import Usage
from gateway.fake import FakeAnswer, FakeUpstream

Configured = Callable[..., dict[str, Any]]
PRICES = {"as_of": "2026-11-01", "models": {f"model-u{n}": {"input": 1.0, "output": 10.0} for n in range(2)}}
COST = 11e-6 + 4 * 10e-6
HI: Any = [{"role": "user", "content": [{"text": "hi"}]}]
CONTENTS = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}


def of_kind(config: dict[str, Any], kind: str) -> dict[str, Any]:
    for upstream in config["upstreams"].values():
        upstream |= {"kind": kind, "api_key": "sk-cloud"}
    return config


def root(gateway: Any) -> str:
    origin: str = gateway.base_url.removesuffix("/v1")
    return origin


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for localhost, with its key: botocore sends bearer tokens over HTTPS alone."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("the openssl command makes the certificate, and is not installed")
    folder = tmp_path_factory.mktemp("tls")
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj /CN=localhost"
    words += " -addext subjectAltName=DNS:localhost -keyout key.pem -out cert.pem"
    subprocess.run([openssl, *words.split()], cwd=folder, check=True, capture_output=True)
    return folder / "cert.pem"


async def piped(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass  # one of the two has closed its connection
    finally:
        writer.close()


@pytest.fixture
async def secured(certificate: Path) -> AsyncIterator[Callable[[Any], Awaitable[str]]]:
    """Puts TLS in front of a gateway, and returns its address."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_name("key.pem"))
    running, writers = list[asyncio.Task[Any]](), list[asyncio.StreamWriter]()
    with contextlib.ExitStack() as stack:

        async def put(gateway: Any) -> str:
            host, port = root(gateway).removeprefix("http://").split(":")

            async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                answer, ahead = await asyncio.open_connection(host, int(port))
                writers.append(ahead)
                await asyncio.gather(piped(answer, writer), piped(reader, ahead))

            def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                writers.append(writer)
                running.append(asyncio.get_running_loop().create_task(forward(reader, writer)))

            server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context)
            stack.callback(server.close)
            return f"https://localhost:{server.sockets[0].getsockname()[1]}"

        yield put
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    for writer in writers:
        writer.transport.abort()
    await asyncio.sleep(0.01)  # until the loop has closed the sockets


@pytest.fixture(scope="module")
def session() -> Any:
    """A session of botocore, which reads the model of the API once."""
    return botocore.session.get_session()


@pytest.fixture
async def bedrock(
    session: Any, secured: Callable[[Any], Awaitable[str]], certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Callable[..., Awaitable[Any]]]:
    """Makes clients of Bedrock's runtime with a key of the gateway's as their bearer token."""
    made = []

    async def make(gateway: Any, key: str = "test-key") -> Any:
        monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", key)
        once = Config(retries={"total_max_attempts": 1}, read_timeout=30)
        at, session = await secured(gateway), botocore.session.get_session()
        client = session.create_client(
            "bedrock-runtime", "eu-west-1", endpoint_url=at, config=once, verify=str(certificate)
        )
        made.append(client)
        return client

    yield make
    for client in made:
        client.close()


def said_by(client: Any, **more: Any) -> tuple[str, Any]:
    """(text, usage) of a stream of Converse."""
    text, usage = "", None
    with contextlib.closing(client.converse_stream(modelId="chat", messages=HI, **more)["stream"]) as parts:
        for part in parts:
            text += part.get("contentBlockDelta", {}).get("delta", {}).get("text", "")
            usage = part.get("metadata", {}).get("usage", usage)
    return text, usage


async def test_bedrocks_own_client_is_answered_charged_and_recorded(
    start: Any, configured: Configured, upstream: FakeUpstream, bedrock: Any
) -> None:
    upstream.replies(converse)
    gateway = await start(of_kind(configured(upstream, prices=PRICES), "bedrock_converse"))
    client = await bedrock(gateway)
    limit = {"maxTokens": 20}
    plain = await asyncio.to_thread(client.converse, modelId="chat", messages=HI, inferenceConfig=limit)
    assert plain["output"]["message"]["content"] == [{"text": "one two three"}]
    assert (plain["usage"], plain["stopReason"]) == (USAGE, "end_turn")
    assert plain["ResponseMetadata"]["HTTPHeaders"]["x-gateway-upstream"] == "u0"
    assert await asyncio.to_thread(said_by, client) == ("one two three", USAGE)
    assert [call.path for call in upstream.calls] == [
        "/v1/model/model-u0/converse",
        "/v1/model/model-u0/converse-stream",
    ]
    assert upstream.calls[0].json == {"messages": HI, "inferenceConfig": limit}
    assert upstream.calls[0].header("authorization") == "Bearer sk-cloud"
    for exchange in await gateway.recorded(2):
        assert (exchange.api, exchange.outcome, exchange.usage) == ("messages", "ok", Usage(11, 4))
        assert json.loads(exchange.request)["messages"] == [
            {"role": "user", "content": [{"type": "text", "text": "hi"}]}
        ]
        assert completion_of(exchange).text == "one two three"
    assert await gateway.metric("gateway_cost_usd_total", upstream="u0") == pytest.approx(2 * COST)


async def test_frames_pass_as_they_came(start: Any, configured: Configured, upstream: FakeUpstream) -> None:
    upstream.replies(converse)
    gateway = await start(of_kind(configured(upstream), "bedrock_converse"))
    streamed = await gateway.client.post(f"{root(gateway)}/model/chat/converse-stream", json={"messages": HI})
    assert streamed.headers["content-type"] == FRAMES
    assert streamed.headers["x-amzn-requestid"] == streamed.headers["x-request-id"]
    assert streamed.content == b"".join(converse(upstream.calls[0]).events)  # type: ignore[arg-type]


async def test_anthropics_bedrock_client_is_answered_charged_and_recorded(
    start: Any, configured: Configured, upstream: FakeUpstream
) -> None:
    upstream.replies(invoke)
    gateway = await start(of_kind(configured(upstream, prices=PRICES), "bedrock_anthropic"))
    client = anthropic.AsyncAnthropicBedrock(aws_region="r", api_key="test-key", base_url=root(gateway), max_retries=0)
    hi: Any = [{"role": "user", "content": "hi"}]
    plain = await client.messages.create(model="chat", messages=hi, max_tokens=20)
    assert (plain.content[0].text, plain.usage.output_tokens) == ("one two three", 4)  # type: ignore[union-attr]
    async with client.messages.stream(model="chat", messages=hi, max_tokens=20) as stream:
        final = await stream.get_final_message()
    assert (final.content[0].text, final.stop_reason) == ("one two three", "end_turn")  # type: ignore[union-attr]
    for exchange in await gateway.recorded(2):
        assert (exchange.api, exchange.usage) == ("messages", Usage(11, 4))
        assert json.loads(exchange.request)["messages"] == hi
        assert completion_of(exchange).text == "one two three"
    assert await gateway.metric("gateway_cost_usd_total", upstream="u0") == pytest.approx(2 * COST)
    with pytest.raises(anthropic.NotFoundError):
        await client.messages.create(model="dear", messages=hi, max_tokens=20)
    await client.close()


async def test_claude_by_invoke_model_answers_chats_and_messages(
    start: Any, configured: Configured, upstream: FakeUpstream
) -> None:
    upstream.replies(invoke)
    gateway = await start(of_kind(configured(upstream, prices=PRICES), "bedrock_anthropic"))
    plain = await gateway.chat(max_tokens=9)
    assert plain.json()["choices"][0]["message"]["content"] == "one two three"
    assert upstream.calls[0].path == "/v1/model/model-u0/invoke"
    assert upstream.calls[0].json["anthropic_version"] == "bedrock-2023-05-31"
    streamed = (await gateway.chat(stream=True, stream_options={"include_usage": True})).text
    assert "one " in streamed
    assert '"total_tokens":15' in streamed
    assert streamed.endswith("data: [DONE]\n\n")
    theirs = anthropic.AsyncAnthropic(base_url=root(gateway), api_key="test-key", max_retries=0)
    async with theirs.messages.stream(
        model="chat", messages=[{"role": "user", "content": "hi"}], max_tokens=9
    ) as events:
        final = await events.get_final_message()
    assert (final.content[0].text, final.usage.output_tokens) == ("one two three", 4)  # type: ignore[union-attr]
    assert {exchange.usage for exchange in await gateway.recorded(3)} == {Usage(11, 4)}
    assert await gateway.metric("gateway_cost_usd_total", upstream="u0") == pytest.approx(3 * COST)
    await theirs.close()


async def test_another_model_by_invoke_model_is_counted_by_bedrocks_headers(
    start: Any, configured: Configured, upstream: FakeUpstream, bedrock: Any
) -> None:
    counts = (("X-Amzn-Bedrock-Input-Token-Count", "11"), ("X-Amzn-Bedrock-Output-Token-Count", "4"))
    upstream.replies(lambda _: FakeAnswer(b'{"results":[{"outputText":"Hi"}]}', headers=counts))
    gateway = await start(of_kind(configured(upstream, prices=PRICES), "bedrock_converse"))
    body = b'{"inputText":"hi"}'
    client, guard = await bedrock(gateway), {"guardrailIdentifier": "g1", "guardrailVersion": "1"}
    found = await asyncio.to_thread(client.invoke_model, modelId="chat", body=body, **guard)
    assert json.loads(found["body"].read())["results"] == [{"outputText": "Hi"}]
    assert upstream.calls[0].body == body
    assert upstream.calls[0].header("x-amzn-bedrock-guardrailidentifier") == "g1"
    [exchange] = await gateway.recorded()
    assert (exchange.api, exchange.usage) == ("invoke_model", Usage(11, 4))
    assert await gateway.metric("gateway_cost_usd_total", upstream="u0") == pytest.approx(COST)


async def test_geminis_own_api_is_answered_charged_and_recorded(
    start: Any, configured: Configured, upstream: FakeUpstream
) -> None:
    upstream.replies(gemini)
    gateway = await start(of_kind(configured(upstream, prices=PRICES), "gemini_native"), key=None)
    url, key = f"{root(gateway)}/v1beta/models/chat", {"x-goog-api-key": "test-key"}
    plain = await gateway.client.post(f"{url}:generateContent", json=CONTENTS, headers=key)
    assert plain.json()["candidates"][0]["content"]["parts"] == [{"text": "one two three"}]
    streamed = await gateway.client.post(f"{url}:streamGenerateContent?alt=sse", json=CONTENTS, headers=key)
    assert streamed.content == b"".join(gemini(upstream.calls[-1]).events)  # type: ignore[arg-type]
    counted = await gateway.client.post(f"{url}:countTokens", json=CONTENTS, headers=key)
    assert counted.json() == {"totalTokens": 11}
    assert [call.path.removeprefix("/v1/models/model-u0") for call in upstream.calls] == [
        ":generateContent", ":streamGenerateContent", ":countTokens"
    ]  # fmt: skip
    assert {call.header("x-goog-api-key") for call in upstream.calls} == {"sk-cloud"}
    for exchange in await gateway.recorded(2):
        assert (exchange.api, exchange.usage, completion_of(exchange).text) == ("chat", Usage(11, 4), "one two three")
        assert json.loads(exchange.request)["messages"] == [{"role": "user", "content": "hi"}]
    assert await gateway.metric("gateway_cost_usd_total", upstream="u0") == pytest.approx(2 * COST)


async def test_a_pattern_passes_vendors_models_and_aws_gets_a_signature(
    start: Any, configured: Configured, upstream: FakeUpstream, second: FakeUpstream
) -> None:
    """The pattern is that of docs/clients.md. Neither vendor sees the gateway's key."""
    upstream.answers(200, b'{"candidates":[{"content":{"parts":[{"text":"hi"}]},"finishReason":"STOP"}]}')
    second.answers(200, b'{"output":{"message":{"content":[{"text":"hi"}]}},"stopReason":"end_turn"}')
    config = configured(upstream, second)
    config["upstreams"]["u0"] |= {"kind": "gemini_native", "api_key": "sk-cloud"}
    auth = {"kind": "sigv4", "region": "eu-west-1", "access_key_id": "AKIA1", "secret_access_key": "secret-of-aws"}
    config["upstreams"]["u1"] |= {"kind": "bedrock_converse", "auth": auth}
    for name, model in (("u0", "gemini-*"), ("u1", "eu.amazon.*")):
        config["models"][model] = {"targets": [{"upstream": name, "model": model}]}
    config["keys"][0]["models"] = ["gemini-*", "eu.amazon.*"]
    gateway = await start(config)
    origin = root(gateway)
    answers = [
        await gateway.client.post(f"{origin}/v1beta/models/gemini-2.5-flash:generateContent", json=CONTENTS),
        await gateway.client.post(f"{origin}/model/eu.amazon.nova-lite-v1%3A0/converse", json={"messages": HI}),
        await gateway.client.post(f"{origin}/model/us.meta.llama/converse", json={"messages": HI}),
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 404]
    assert upstream.calls[0].path == "/v1/models/gemini-2.5-flash:generateContent"
    [asked] = second.calls
    assert asked.path == "/v1/model/eu.amazon.nova-lite-v1:0/converse"
    signature = asked.header("authorization") or ""
    assert signature.startswith("AWS4-HMAC-SHA256 Credential=AKIA1/")
    assert "/eu-west-1/bedrock/aws4_request" in signature
    seen = str([call.headers for call in (*upstream.calls, asked)])
    assert "test-key" not in seen


async def test_a_rule_on_the_finish_reads_vendors_answers(
    start: Any, configured: Configured, upstream: FakeUpstream
) -> None:
    upstream.answers(200, b'{"candidates":[{"content":{"parts":[{"text":"hi"}]},"finishReason":"MAX_TOKENS"}]}')
    rules = [{"when": {"finish_reason": "length"}, "rate": 1.0}]
    config = of_kind(configured(upstream, sampling={"rate": 0.0, "rules": rules}), "gemini_native")
    gateway = await start(config)
    await gateway.client.post(f"{root(gateway)}/v1beta/models/chat:generateContent", json=CONTENTS)
    [exchange] = await gateway.recorded()
    assert completion_of(exchange).finish_reason == "length"
    assert exchange.pi == 1.0


async def test_keys_models_and_limits_hold_and_errors_have_bedrocks_shape(
    start: Any, configured: Configured, upstream: FakeUpstream, bedrock: Any
) -> None:
    upstream.replies(converse)
    config = of_kind(configured(upstream, prices=PRICES), "bedrock_converse")
    config["keys"] += [
        {"name": "other", "sha256": sha256(b"other").hexdigest(), "models": ["dear"]},
        {"name": "poor", "sha256": sha256(b"poor").hexdigest(), "limits": {"tokens_per_day": 40}},
    ]
    config["models"]["dear"] = config["models"]["chat"]
    gateway = await start(config)

    limit = {"maxTokens": 8}

    async def refused(key: str, model: str = "chat") -> tuple[str, int]:
        client = await bedrock(gateway, key)
        with pytest.raises(ClientError) as error:
            await asyncio.to_thread(client.converse, modelId=model, messages=HI, inferenceConfig=limit)
        response = error.value.response
        return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]

    assert await refused("unknown") == ("AccessDeniedException", 401)
    assert await refused("other") == ("ResourceNotFoundException", 404)
    assert await refused("test-key", "nothing") == ("ResourceNotFoundException", 404)
    assert not upstream.calls
    poor = await bedrock(gateway, "poor")
    await asyncio.to_thread(poor.converse, modelId="chat", messages=HI, inferenceConfig=limit)
    assert await refused("poor") == ("ThrottlingException", 429)
    assert len(upstream.calls) == 1


async def test_errors_of_gemini_have_its_shape_and_no_key_goes_in_a_query(
    start: Any, configured: Configured, upstream: FakeUpstream
) -> None:
    gateway = await start(of_kind(configured(upstream), "gemini_native"), key=None)
    url, key = f"{root(gateway)}/v1beta/models", {"x-goog-api-key": "test-key"}
    asked = [
        (f"{url}/dear:generateContent", key, CONTENTS, 404, "NOT_FOUND"),
        (f"{url}/chat:generateContent", {}, CONTENTS, 401, "UNAUTHENTICATED"),
        (f"{url}/chat:generateContent?key=test-key", key, CONTENTS, 400, "INVALID_ARGUMENT"),
        (f"{url}/chat:generateContent", key, {}, 400, "INVALID_ARGUMENT"),
        (f"{url}/chat:streamGenerateContent", key, CONTENTS, 400, "INVALID_ARGUMENT"),
        (f"{url}/chat:embedContent", key, CONTENTS, 404, "NOT_FOUND"),
        (f"{root(gateway)}/v1beta/files", key, {}, 404, "NOT_FOUND"),
    ]
    for address, headers, body, status, name in asked:
        reply = await gateway.client.post(address, json=body, headers=headers)
        error = reply.json()["error"]
        assert (reply.status_code, error["code"], error["status"]) == (status, status, name), address
        assert error["message"]
    assert not upstream.calls


async def test_a_target_of_another_kind_says_what_is_needed(
    start: Any, configured: Configured, upstream: FakeUpstream, bedrock: Any
) -> None:
    gateway = await start(configured(upstream))
    with pytest.raises(ClientError, match="upstreams of kind bedrock_converse have"):
        await asyncio.to_thread((await bedrock(gateway)).converse, modelId="chat", messages=HI)
    reply = await gateway.client.post(f"{root(gateway)}/v1beta/models/chat:generateContent", json=CONTENTS)
    assert "upstreams of kind gemini_native have" in reply.json()["error"]["message"]


async def test_a_throttled_call_falls_back_and_a_refusal_comes_back(
    start: Any, configured: Configured, upstream: FakeUpstream, second: FakeUpstream, bedrock: Any
) -> None:
    """Any failure before the first content moves the call; the client's own mistakes are returned to it."""
    upstream.replies(
        lambda _: FakeAnswer(events=[exception("throttlingException", "slow")], stream=True, content_type=FRAMES)
    )
    second.replies(converse)
    chat = {"retries": {"attempts": 1}}
    gateway = await start(of_kind(configured(upstream, second, chat=chat, prices=PRICES), "bedrock_converse"))
    client = await bedrock(gateway)
    assert await asyncio.to_thread(said_by, client) == ("one two three", USAGE)
    wrong = FakeAnswer(b'{"message":"bad shape"}', status=400, headers=(("x-amzn-errortype", "ValidationException"),))
    upstream.replies(lambda _: wrong)
    with pytest.raises(ClientError, match=r"ValidationException.*bad shape"):
        await asyncio.to_thread(client.converse, modelId="chat", messages=HI)
    assert len(second.calls) == 1
    assert await gateway.metric("gateway_cost_usd_total", upstream="u1") == pytest.approx(COST)


async def test_a_cut_stream_ends_with_an_exception_and_partial_charges(
    start: Any, configured: Configured, upstream: FakeUpstream, bedrock: Any
) -> None:
    upstream.replies(lambda received: converse(received, cut_after=2))
    config = of_kind(configured(upstream), "bedrock_converse")
    config["keys"][0]["limits"] = {"tokens_per_day": 100_000}
    gateway = await start(config)
    with pytest.raises(EventStreamError, match=r"modelStreamErrorException.*broke off"):
        await asyncio.to_thread(said_by, await bedrock(gateway))
    [exchange] = await gateway.recorded()
    assert (exchange.outcome, completion_of(exchange).text) == ("cut", "one two ")
    frames, sent = 3, len(upstream.calls[0].body) // 4
    async with asyncio.timeout(60):
        while (await gateway.client.get("/key")).json()["limits"][0]["used"] != frames + sent:
            await asyncio.sleep(0.05)


async def test_a_cut_stream_of_gemini_ends_with_an_error_in_its_shape(
    start: Any, configured: Configured, upstream: FakeUpstream
) -> None:
    upstream.replies(lambda received: gemini(received, cut_after=2))
    gateway = await start(of_kind(configured(upstream), "gemini_native"))
    url = f"{root(gateway)}/v1beta/models/chat:streamGenerateContent?alt=sse"
    found = (await gateway.client.post(url, json=CONTENTS)).text.split("data: ")
    error = json.loads(found[-1])["error"]
    assert (error["code"], error["status"], error["details"][0]["reason"]) == (502, "UNAVAILABLE", "STREAM_CUT")
    assert [json.loads(part)["candidates"][0]["content"]["parts"][0]["text"] for part in found[1:-1]] == [
        "one ",
        "two ",
    ]
    [exchange] = await gateway.recorded()
    assert (exchange.outcome, completion_of(exchange).text) == ("cut", "one two ")


async def test_an_enforced_guard_refuses_what_it_cannot_read(
    start: Any, configured: Configured, upstream: FakeUpstream, bedrock: Any
) -> None:
    upstream.replies(converse)
    guard = {"scorer": "secrets", "on": "request", "action": "block"}
    gateway = await start(of_kind(configured(upstream, guards={"keys": guard}), "bedrock_converse"))
    with pytest.raises(ClientError, match=r'AccessDeniedException.*the guard "keys"'):
        await asyncio.to_thread((await bedrock(gateway)).converse, modelId="chat", messages=HI)
    assert not upstream.calls


@pytest.fixture
async def passing(start: Any, configured: Configured, upstream: FakeUpstream, second: FakeUpstream) -> Any:
    """A gateway that forwards other paths of both vendors, and a key with a list of paths."""
    config = configured(upstream, second, passthrough={"gemini": "u0", "bedrock": "u1"})
    for name, kind in (("u0", "gemini_native"), ("u1", "bedrock_converse")):
        config["upstreams"][name] |= {"kind": kind, "api_key": f"sk-{name}"}
    paths = ["GET /v1beta/files*", "/guardrail/*"]
    narrow = {"name": "narrow", "sha256": sha256(b"narrow").hexdigest(), "allow": ["passthrough"], "paths": paths}
    config["keys"].append(narrow)
    return await start(config, key=None)


async def test_other_paths_go_to_the_vendor_for_keys_that_name_them(
    passing: Any, upstream: FakeUpstream, second: FakeUpstream
) -> None:
    origin, narrow = root(passing), {"x-goog-api-key": "narrow"}
    for fake in (upstream, second):
        fake.answers(200, b'{"ok": true}')
    found = await passing.client.get(f"{origin}/v1beta/files?pageSize=2", headers=narrow)
    assert found.json() == {"ok": True}
    assert (upstream.calls[0].path, upstream.calls[0].query) == ("/v1/files", "pageSize=2")
    assert upstream.calls[0].header("x-goog-api-key") == "sk-u0"
    bearer = {"authorization": "Bearer narrow"}
    applied = await passing.client.post(f"{origin}/guardrail/g/version/1/apply", json={}, headers=bearer)
    assert applied.status_code == 200
    assert (second.calls[0].path, second.calls[0].header("authorization")) == (
        "/v1/guardrail/g/version/1/apply",
        "Bearer sk-u1",
    )
    refused = await passing.client.post(f"{origin}/v1beta/cachedContents", json={}, headers=narrow)
    assert (refused.status_code, refused.json()["error"]["status"]) == (403, "PERMISSION_DENIED")
    listed = await passing.client.get(f"{origin}/async-invoke", headers=bearer)
    assert (listed.status_code, listed.headers["x-amzn-errortype"]) == (403, "AccessDeniedException")
    keyed = await passing.client.get(f"{origin}/v1beta/files?key=narrow", headers=narrow)
    assert keyed.status_code == 400
    assert (len(upstream.calls), len(second.calls)) == (1, 1)


@pytest.fixture
async def three(start: Any, configured: Configured, upstream: FakeUpstream, second: FakeUpstream) -> Any:
    """A gateway with an upstream of OpenAI's and one of Gemini's, which both get other paths of their own clients."""
    config = configured(upstream, second, passthrough={"openai": "u0", "gemini": "u1"})
    config["upstreams"]["u0"] |= {"api_key": "sk-openai"}
    config["upstreams"]["u1"] |= {"kind": "gemini_native", "api_key": "sk-google"}
    config["models"]["chat"].pop("fallback", None)
    config["models"]["gem"] = {"targets": [{"upstream": "u1", "model": "model-u1"}]}
    for fake in (upstream, second):
        fake.answers(200, b'{"ok": true}')
    return await start(config, key=None)


OF_GOOGLES_LIBRARY = [
    ("GET", "/v1/files"), ("GET", "/v1/files/f1"), ("DELETE", "/v1/files/f1"), ("GET", "/v1/files/f1:download"),
    ("POST", "/v1/files:register"), ("POST", "/v1/models/gemini-embedding-001:batchEmbedContents"),
    ("POST", "/v1/models/gemini-embedding-001:embedContent"), ("POST", "/v1/models/imagen-4:predict"),
    ("POST", "/v1/cachedContents"), ("GET", "/v1/batches"), ("GET", "/v1/batches/b1"), ("GET", "/v1/tunedModels"),
    ("POST", "/v1/fileSearchStores"), ("GET", "/v1/models/veo-3/operations/o1"), ("GET", "/v1/operations/o1"),
]  # fmt: skip
"""Requests of google-genai 3.6.1 to Gemini's API, whose default version is /v1."""


@pytest.mark.parametrize(("method", "path"), OF_GOOGLES_LIBRARY)
async def test_no_path_of_googles_library_goes_to_another_vendor(
    three: Any, upstream: FakeUpstream, second: FakeUpstream, method: str, path: str
) -> None:
    reply = await three.client.request(method, root(three) + path, headers={"x-goog-api-key": "test-key"})
    assert reply.json() == {"ok": True}
    [asked] = second.calls
    assert (asked.path, asked.header("x-goog-api-key")) == (path, "sk-google")
    assert not upstream.calls


@pytest.mark.parametrize("path", ["/v1/files", "/v1/batches", "/v1/cachedContents", "/v1/models/g:embedContent"])
async def test_a_path_without_an_upstream_of_its_api_is_refused(
    start: Any, configured: Configured, upstream: FakeUpstream, path: str
) -> None:
    """One upstream for `passthrough` is OpenAI's and Anthropic's: Google's clients have no business there."""
    gateway = await start(configured(upstream, passthrough="u0"), key=None)
    reply = await gateway.client.post(root(gateway) + path, headers={"x-goog-api-key": "test-key"})
    assert (reply.status_code, reply.json()["error"]["status"]) == (404, "NOT_FOUND")
    assert "`passthrough.gemini` names an upstream" in reply.json()["error"]["message"]
    assert not upstream.calls


@pytest.mark.parametrize(
    "path",
    [
        "/v1/projects/p/locations/l/publishers/google/models/g:generateContent",
        "/v1beta1/projects/p/locations/l/models", "/v1beta1/publishers/google/models/g:generateContent",
        "/v1beta/projects/p/locations/l/publishers/x/models/o:rawPredict",
        "/v1/publishers/google/models", "/v1//projects/p/locations", "/v1/%70rojects/p/locations/l",
    ],
)  # fmt: skip
async def test_a_path_of_vertex_reaches_nobody(
    three: Any, upstream: FakeUpstream, second: FakeUpstream, path: str
) -> None:
    for headers in ({"x-goog-api-key": "test-key"}, {"authorization": "Bearer test-key"}):
        reply = await three.client.post(root(three) + path, headers=headers, json={})
        assert reply.status_code == 404
        assert "Vertex AI" in reply.json()["error"]["message"]
    assert not upstream.calls
    assert not second.calls


@pytest.mark.parametrize("version", ["v1", "v1beta", "v1alpha"])
async def test_googles_library_lists_the_models_it_can_use(three: Any, second: FakeUpstream, version: str) -> None:
    """An answer in OpenAI's form would be an empty list to it."""
    key = {"x-goog-api-key": "test-key"}
    listed = (await three.client.get(f"{root(three)}/{version}/models?pageSize=50", headers=key)).json()
    assert [
        (model["name"], "generateContent" in model["supportedGenerationMethods"]) for model in listed["models"]
    ] == [("models/gem", True)]
    assert (await three.client.get(f"{root(three)}/{version}/models/gem", headers=key)).json() == listed["models"][0]
    missing = await three.client.get(f"{root(three)}/{version}/models/other", headers=key)
    assert (missing.status_code, missing.json()["error"]["status"]) == (404, "NOT_FOUND")
    assert (
        await three.client.get(f"{root(three)}/{version}/models", headers={"x-goog-api-key": "no"})
    ).status_code == 401
    assert not second.calls


async def test_a_base_url_that_has_a_version_already_works(three: Any, second: FakeUpstream) -> None:
    second.replies(gemini)
    for version in ("v1", "v1beta"):
        url = f"{root(three)}/v1/{version}/models/gem:generateContent"
        assert (await three.client.post(url, json=CONTENTS, headers={"x-goog-api-key": "test-key"})).status_code == 200
    assert len(second.calls) == 2


@pytest.mark.parametrize(
    "path",
    [
        "/v1beta/models/g%3AgenerateContent", "/v1beta/models/g:batchGenerateContent",
        "/v1beta/./models/g:generateContent",
        "/v1beta/tunedModels/g:generateContent", "/model/m/invoke%2f", "/model/m/../n/converse",
        "/v1beta/models/g:GENERATECONTENT",
    ],
)  # fmt: skip
async def test_no_spelling_of_a_routed_path_is_forwarded(
    passing: Any, upstream: FakeUpstream, second: FakeUpstream, path: str
) -> None:
    """A forwarded request would go past the key's models, its limits and the records."""
    host, port = root(passing).removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = (
        f"POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer test-key\r\nconnection: close\r\ncontent-length: 2"
    )
    writer.write(f"{head}\r\n\r\n{{}}".encode())
    assert (await reader.read()).split()[1] in (b"404", b"400")
    writer.close()
    await writer.wait_closed()
    assert not upstream.calls
    assert not second.calls
