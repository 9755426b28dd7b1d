"""HTTPS of the gateway's own: served, renewed without a restart, and refused with a reason."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uvicorn
import uvloop

from gateway.core.errors import ConfigError
from gateway.proxy.http.server.connection_limits import ConnectionLimits
from gateway.proxy.http.server.protocol import HttpProtocol
from gateway.proxy.http.server.tls import CertificateFiles
from gateway.proxy.http.server.uvicorn_server import GatewayServer

Make = Callable[[str], CertificateFiles]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Writes a self-signed certificate for localhost with this serial number over the previous one."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("the openssl command makes the certificates, and is not installed")

    def write(serial: str) -> CertificateFiles:
        words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj /CN=localhost"
        words += f" -addext subjectAltName=DNS:localhost -set_serial {serial} -keyout new.key -out new.pem"
        subprocess.run([openssl, *words.split()], cwd=tmp_path, check=True, capture_output=True)
        (tmp_path / "new.key").replace(tmp_path / "key.pem")
        (tmp_path / "new.pem").replace(tmp_path / "cert.pem")
        return CertificateFiles(tmp_path / "cert.pem", tmp_path / "key.pem")

    return write


async def answer_scheme(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": scope["scheme"].encode()})


async def served_serial(port: int, files: CertificateFiles) -> int:
    """The serial number of the certificate that the server presents; its answer must be right."""
    context = ssl.create_default_context(cafile=files.certificate)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.write(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    assert b"https" in await reader.read()
    writer.close()
    with contextlib.suppress(ssl.SSLError, ConnectionError):
        await writer.wait_closed()
    (files.certificate.parent / "seen.der").write_bytes(der)
    found = await asyncio.to_thread(
        subprocess.run,
        ["openssl", "x509", "-inform", "der", "-in", "seen.der", "-noout", "-serial"],
        cwd=files.certificate.parent, check=True, capture_output=True, text=True,
    )  # fmt: skip
    return int(found.stdout.partition("=")[2], 16)


async def test_a_renewed_certificate_is_served_without_a_restart(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    files = make("1")
    config = uvicorn.Config(
        answer_scheme, http=HttpProtocol, lifespan="off", log_config=None, proxy_headers=False, port=0,
        ssl_certfile=files.certificate, ssl_keyfile=files.key,
    )  # fmt: skip
    server = GatewayServer(config)
    with contextlib.closing(config.bind_socket()) as sock:
        serving = asyncio.get_running_loop().create_task(server._serve([sock]))
        port = sock.getsockname()[1]
        async with asyncio.timeout(50):
            while not server.started:
                await asyncio.sleep(0.005)
            assert await served_serial(port, files) == 1
            make("2")
            while await served_serial(port, files) != 2:
                await asyncio.sleep(0.05)
            whole = files.key.read_bytes()
            files.key.write_text("no key")
            os.utime(files.key, ns=(1, 1))
            while "is refused; the previous one stays" not in caplog.text:
                await asyncio.sleep(0.05)
            assert await served_serial(port, files) == 2
            files.key.write_bytes(whole)
        server.should_exit = True
        await serving


class CountingApp:
    """Answers; two connections at most."""

    def __init__(self) -> None:
        self.connections = ConnectionLimits(lambda: (2, None))

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await answer_scheme(scope, receive, send)


async def asked(port: int, files: CertificateFiles) -> bytes:
    """The answer to a new client, which sends its request together with the end of its handshake."""
    context = ssl.create_default_context(cafile=files.certificate)
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
    writer.write(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    came = await reader.read()
    writer.transport.abort()
    return came


async def silent_handshakes(files: CertificateFiles) -> None:
    app = CountingApp()
    config = uvicorn.Config(
        app, http=type("Hurried", (HttpProtocol,), {"handshake_s": 2.0}), lifespan="off", log_config=None,
        proxy_headers=False, port=0, ssl_certfile=files.certificate, ssl_keyfile=files.key,
    )  # fmt: skip
    server = GatewayServer(config)
    with contextlib.closing(config.bind_socket()) as sock:
        serving = asyncio.get_running_loop().create_task(server._serve([sock]))
        try:
            async with asyncio.timeout(50):
                while not server.started:
                    await asyncio.sleep(0.005)
                await _count(app, sock.getsockname()[1], files)
        finally:
            server.should_exit = True
            await serving


async def _count(app: CountingApp, port: int, files: CertificateFiles) -> None:
    for _ in range(20):
        assert b"https" in await asked(port, files)
    silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
    while app.connections.open < 2:
        await asyncio.sleep(0.005)
    refused = await asked(port, files)
    assert refused.startswith(b"HTTP/1.1 503 "), "they count before they have said anything"
    for reader, writer in silent:
        assert await reader.read() == b"", "a handshake has its time"
        writer.transport.abort()
    while app.connections.open or app.connections.refused:
        await asyncio.sleep(0.005)
    assert b"https" in await asked(port, files)
    _, leaving = await asyncio.open_connection("127.0.0.1", port)
    while not app.connections.open:
        await asyncio.sleep(0.005)
    leaving.transport.abort()
    while app.connections.open:
        await asyncio.sleep(0.005)


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_a_handshake_counts_as_a_connection_and_has_its_time(make: Make, loop: Any) -> None:
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(silent_handshakes(make("1")))


def test_the_options_need_each_other_and_files_that_fit(make: Make, tmp_path: Path) -> None:
    assert CertificateFiles.of_options(None, None) is None
    files = make("1")
    assert CertificateFiles.of_options(files.certificate, files.key) == files
    with pytest.raises(ConfigError, match="need each other"):
        CertificateFiles.of_options(files.certificate, None)
    with pytest.raises(ConfigError, match="No such file"):
        CertificateFiles.of_options(files.certificate, tmp_path / "gone")
    other = files.key.rename(tmp_path / "old.pem")
    make("2")
    with pytest.raises(ConfigError, match=r"(?i)mismatch"):
        CertificateFiles.of_options(files.certificate, other)
