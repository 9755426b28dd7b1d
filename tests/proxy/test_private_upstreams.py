"""Upstreams that demand a client certificate, and clients that are not told which upstreams there are."""

from __future__ import annotations

import asyncio
import json
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from gateway.fake import CUT, FakeUpstream, Fault

Configured = Callable[..., dict[str, Any]]
CHAT = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [
    {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}]}  # fmt: skip


@pytest.fixture(scope="module")
def openssl(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Runs openssl in a folder with a CA and a certificate of localhost; returns the folder."""
    found = shutil.which("openssl")
    if found is None:
        pytest.skip("the openssl command makes the certificates, and is not installed")
    room = tmp_path_factory.mktemp("pki")

    def run(words: str) -> Path:
        subprocess.run([found, *words.split()], cwd=room, check=True, capture_output=True)
        return room

    key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
    run(f"req -x509 -keyout ca.key -out ca.pem -days 30 -subj /CN=ca -addext keyUsage=keyCertSign {key}")
    (room / "names").write_text("subjectAltName=DNS:localhost\n")
    for name in ("server", "one", "two"):
        run(f"req -keyout {name}.key -out {name}.csr -subj /CN={'localhost' if name == 'server' else name} {key}")
        run(f"x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -days 30 -out {name}.pem -extfile names")
    return run


@pytest.fixture
async def demanding(openssl: Callable[[str], Path]) -> AsyncIterator[tuple[int, list[str]]]:
    """A server that answers clients with a certificate of the CA: (port, the names that came)."""
    room, came = openssl("version"), list[str]()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(room / "server.pem", room / "server.key")
    context.load_verify_locations(room / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            subject = writer.get_extra_info("peercert")["subject"]
            came.append(dict(each[0] for each in subject)["commonName"])
            body = json.dumps(CHAT).encode()
            head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
            writer.write(f"{head}connection: close\r\n\r\n".encode() + body)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1], came


async def test_an_upstream_gets_the_certificate_that_is_there_now(
    start: Any, configured: Configured, demanding: tuple[int, list[str]], openssl: Callable[[str], Path], tmp_path: Path
) -> None:
    port, came = demanding
    room = openssl("version")
    shutil.copy(room / "one.pem", tmp_path / "client.pem")
    shutil.copy(room / "one.key", tmp_path / "client.key")
    secured = {
        "kind": "openai", "base_url": f"https://localhost:{port}/v1", "ca_file": str(room / "ca.pem"),
        "cert_file": str(tmp_path / "client.pem"), "key_file": str(tmp_path / "client.key"),
    }  # fmt: skip
    config = configured(FakeUpstream(), upstreams={"u0": secured})
    gateway = await start(config)
    assert (await gateway.chat()).status_code == 200
    shutil.copy(room / "two.key", tmp_path / "client.key")
    shutil.copy(room / "two.pem", tmp_path / "client.pem")
    before = gateway.gateway
    await gateway.until(lambda: gateway.gateway is not before)  # nobody said that the files changed
    assert (await gateway.chat()).status_code == 200
    assert came == ["one", "two"]


async def test_without_its_certificate_an_upstream_cannot_be_used(
    start: Any, configured: Configured, demanding: tuple[int, list[str]], openssl: Callable[[str], Path]
) -> None:
    port, came = demanding
    bare = {
        "kind": "openai", "base_url": f"https://localhost:{port}/v1", "ca_file": str(openssl("version") / "ca.pem"),
    }  # fmt: skip
    gateway = await start(configured(FakeUpstream(), upstreams={"u0": bare}))
    assert (await gateway.chat()).status_code == 502
    assert came == []


WORDS = ("u0", "u1", "model-u0", "model-u1")


def told(answer: Any) -> str:
    return f"{answer.headers} {answer.text}"


@pytest.fixture
def hidden(start: Any, configured: Configured, upstream: FakeUpstream, second: FakeUpstream) -> Callable[..., Any]:
    """Starts a gateway that hides its upstreams."""

    async def go(**sections: Any) -> Any:
        keys = [
            {"name": "client", "sha256": sha256(b"client-key").hexdigest(), "allow": ["passthrough"]},
            {"name": "admin", "sha256": sha256(b"admin-key").hexdigest(), "allow": ["target"]},
        ]
        parts = {"hide_upstreams": True, "passthrough": "u0", "keys": keys, **sections}
        return await start(configured(upstream, second, **parts), key="client-key")

    return go


async def test_a_client_learns_no_names_of_upstreams(hidden: Any, upstream: FakeUpstream, second: FakeUpstream) -> None:
    gateway = await hidden()
    answer = await gateway.chat()
    assert answer.status_code == 200
    assert answer.headers["x-gateway-attempts"] == "1"
    assert not any(name in str(answer.headers) for name in WORDS)
    assert not [n for n in answer.headers if n.startswith(("x-gateway-upstream", "x-gateway-model", "anthropic-"))]
    async with gateway.stream() as stream:
        await stream.aread()
    assert not any(name in str(stream.headers) for name in WORDS)
    upstream.always(Fault.status(500))
    second.always(Fault.status(503))
    failed = await gateway.chat()
    assert failed.status_code == 502
    message = failed.json()["error"]["message"]
    assert "target 1 HTTP 500" in message
    assert "target 2 HTTP 503" in message
    assert not any(name in told(failed) for name in WORDS)


async def test_an_upstreams_own_error_calls_the_model_by_its_alias(hidden: Any, upstream: FakeUpstream) -> None:
    gateway = await hidden()
    upstream.then(Fault.status(400, message="model-u0 takes no such parameter", error_code="bad"))
    answer = await gateway.chat()
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "chat takes no such parameter"
    assert not any(name in told(answer) for name in WORDS)


async def test_a_broken_stream_and_passthrough_name_nothing(
    start: Any, configured: Configured, hidden: Any, upstream: FakeUpstream
) -> None:
    gateway = await hidden(models={"chat": {"targets": [{"upstream": "u0", "model": "model-u0"}]}})
    upstream.says("some ", CUT)
    async with gateway.stream() as stream:
        body = (await stream.aread()).decode()
    assert "the stream broke off: its target" in body
    assert "u0/" not in body
    passed = await gateway.client.get("/files")
    assert "x-gateway-upstream" not in passed.headers
    await upstream.stop()
    refused = await gateway.client.get("/files")
    assert refused.status_code == 502
    assert refused.json()["error"]["message"].startswith("the upstream could not be reached")


async def test_a_key_that_may_choose_targets_sees_them(hidden: Any, upstream: FakeUpstream) -> None:
    gateway = await hidden()
    gateway.client.headers["authorization"] = "Bearer admin-key"
    answer = await gateway.chat()
    assert (answer.headers["x-gateway-upstream"], answer.headers["x-gateway-model"]) == ("u0", "model-u0")


async def test_an_open_gateway_hides_them_too(start: Any, configured: Configured, upstream: FakeUpstream) -> None:
    config = configured(upstream, hide_upstreams=True, open=True)
    del config["keys"]
    gateway = await start(config, key=None)
    answer = await gateway.chat()
    assert answer.status_code == 200
    assert "x-gateway-upstream" not in answer.headers
