"""The proxies of deploy/proxies: their own programs read them, and nginx is driven with TLS."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx2
import pytest
from servers import free_ports

from gateway.fake import HOLD, FakeUpstream


def program(name: str) -> str:
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed: apt-get install {name}")
    return found


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the certificate and the key of localhost."""
    room = tmp_path_factory.mktemp("tls")
    subprocess.run(
        [program("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-keyout", "key.pem", "-out", "cert.pem", "-days", "30", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost,DNS:gateway.example.com"],
        cwd=room, check=True, capture_output=True,
    )  # fmt: skip
    (room / "both.pem").write_text((room / "cert.pem").read_text() + (room / "key.pem").read_text())
    return room


@pytest.fixture
async def nginx(
    deploy: Path, certificate: Path, tmp_path: Path, upstream: FakeUpstream, free_port: Callable[[], int]
) -> AsyncIterator[str]:
    """Starts nginx with the shipped server block, in front of a server that stands in for the gateway: its base URL."""
    nginx, port = program("nginx"), free_port()
    block = (deploy / "proxies" / "nginx.conf").read_text()
    for written, here in (
        ("listen 443 ssl;", f"listen 127.0.0.1:{port} ssl;"),
        ("    listen [::]:443 ssl;\n", ""),
        ("/etc/ssl/gateway.example.com.pem", str(certificate / "cert.pem")),
        ("/etc/ssl/gateway.example.com.key", str(certificate / "key.pem")),
        ("server 127.0.0.1:8000 max_fails=0;", f"server 127.0.0.1:{upstream.port} max_fails=0;"),
    ):
        assert written in block, written
        block = block.replace(written, here)
    temporary = " ".join(
        f"{kind}_temp_path {tmp_path / kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = tmp_path / "nginx.conf"
    config.write_text(
        f"daemon off; master_process off; pid {tmp_path / 'nginx.pid'}; error_log stderr;\n"
        f"events {{}}\nhttp {{ access_log off; {temporary}\n{block}}}\n"
    )
    process = await asyncio.create_subprocess_exec(nginx, "-p", str(tmp_path), "-c", str(config), "-e", "stderr")
    try:
        async with asyncio.timeout(30):
            while True:
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    break
                assert process.returncode is None, "nginx did not start"
                await asyncio.sleep(0.02)
        yield f"https://localhost:{port}"
    finally:
        process.terminate()
        await process.wait()


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    """A running double of an upstream."""
    async with FakeUpstream() as fake:
        yield fake


@pytest.fixture
def free_port() -> Callable[[], int]:
    """Finds a free port."""
    return lambda: free_ports(1)[0]


@pytest.fixture
async def client(nginx: str, certificate: Path) -> AsyncIterator[httpx2.AsyncClient]:
    """An HTTP client of nginx, which trusts its certificate."""
    trusted = ssl.create_default_context(cafile=str(certificate / "cert.pem"))
    async with httpx2.AsyncClient(base_url=nginx, verify=trusted, timeout=30) as found:
        yield found


BODY = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}]}


async def test_nginx_passes_a_stream_on_as_it_comes(client: httpx2.AsyncClient, upstream: FakeUpstream) -> None:
    upstream.says("first ", HOLD, "second")
    async with client.stream("POST", "/v1/chat/completions", json=BODY) as reply:
        assert reply.status_code == 200
        read, pieces = "", reply.aiter_text()
        async with asyncio.timeout(20):
            while "first" not in read:
                read += await anext(pieces)
        assert "second" not in read, "the first token is here while the upstream still waits"
        upstream.release()
        read += "".join([piece async for piece in pieces])
    assert "second" in read
    assert read.endswith("data: [DONE]\n\n")


async def test_nginx_says_who_the_client_is(client: httpx2.AsyncClient, upstream: FakeUpstream) -> None:
    reply = await client.post(
        "/v1/chat/completions", json={**BODY, "stream": False}, headers={"x-forwarded-for": "203.0.113.5"}
    )
    assert reply.status_code == 200
    (received,) = upstream.received
    assert [value for name, value in received.headers if name == "x-forwarded-for"] == ["127.0.0.1"]


async def test_nginx_passes_an_upgrade_on_and_keeps_other_connections(
    client: httpx2.AsyncClient, upstream: FakeUpstream
) -> None:
    await client.get("/v1/responses", headers={"connection": "Upgrade", "upgrade": "websocket"})
    await client.get("/v1/models")
    upgrade, plain = (dict(received.headers) for received in upstream.received)
    assert (upgrade["upgrade"], upgrade["connection"]) == ("websocket", "upgrade")
    assert not {"upgrade", "connection"} & plain.keys()


async def test_nginx_shows_nobody_the_metrics(client: httpx2.AsyncClient, upstream: FakeUpstream) -> None:
    for path in ("/metrics", "/ready", "//metrics", "/%6detrics", "/x/../metrics", "/metrics?a=b"):
        assert (await client.get(f"{str(client.base_url).rstrip('/')}{path}")).status_code == 404, path
    assert upstream.received == []


@pytest.mark.long
async def test_nginx_takes_a_body_as_large_as_the_gateway_does(
    client: httpx2.AsyncClient, upstream: FakeUpstream
) -> None:
    large = {**BODY, "stream": False, "messages": [{"role": "user", "content": "x" * 31_000_000}]}
    assert (await client.post("/v1/chat/completions", json=large)).status_code == 200
    large["messages"] = [{"role": "user", "content": "x" * 34_000_000}]
    assert (await client.post("/v1/chat/completions", json=large)).status_code == 413


def test_haproxy_reads_its_file(deploy: Path, certificate: Path, tmp_path: Path) -> None:
    haproxy = program("haproxy")
    text = (deploy / "proxies" / "haproxy.cfg").read_text()
    assert "/etc/ssl/gateway.example.com.pem" in text
    config = tmp_path / "haproxy.cfg"
    config.write_text(text.replace("/etc/ssl/gateway.example.com.pem", str(certificate / "both.pem")))
    checked = subprocess.run([haproxy, "-c", "-f", config], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    assert "WARNING" not in checked.stderr


def test_caddy_reads_its_file(deploy: Path, tmp_path: Path) -> None:
    caddy = program("caddy")
    environ = {**os.environ, "HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path)}
    checked = subprocess.run(
        [caddy, "validate", "--adapter", "caddyfile", "--config", deploy / "proxies" / "Caddyfile"],
        capture_output=True, text=True, check=False, env=environ,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stderr
    assert "Valid configuration" in checked.stdout + checked.stderr


def test_all_three_close_what_is_not_for_clients_and_do_not_buffer(deploy: Path) -> None:
    nginx, caddy, haproxy = (
        (deploy / "proxies" / name).read_text() for name in ("nginx.conf", "Caddyfile", "haproxy.cfg")
    )
    for text in (nginx, caddy, haproxy):
        assert "metrics" in text
        assert "ready" in text
        assert re.search("660s", text), "longer than the longest total_s"
    assert "proxy_buffering off;" in nginx
    assert "proxy_request_buffering off;" in nginx
    assert "flush_interval -1" in caddy
    assert "http-buffer-request" not in haproxy


def test_the_page_shows_what_the_shipped_file_has() -> None:
    """Lines that decide what is sent to which gateway, and how long a call may take."""
    root = Path(__file__).parents[2]
    page = (root / "docs" / "deploy.md").read_text("utf-8").partition("```nginx\n")[2].partition("```")[0]
    shipped = (root / "deploy" / "proxies" / "nginx.conf").read_text("utf-8")

    def directives(text: str) -> set[str]:
        lines = (" ".join(line.partition("#")[0].split()) for line in text.splitlines())
        return {line for line in lines if line.startswith(("proxy_", "server 127", "gzip", "client_max", "keepalive"))}

    there = {line.replace("//assay_gateway", "//gateway") for line in directives(shipped)}
    assert there <= directives(page)
    assert "server 127.0.0.1:8000 max_fails=0;" in there
