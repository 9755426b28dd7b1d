"""A server that demands a client certificate gets ours, and only if both are right is a request sent."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.core.errors import TransportError
from gateway.proxy.http.client.http1 import Http1Transport
from gateway.proxy.http.client.httpx import HttpxTransport
from gateway.proxy.http.client.tls import UnusableTlsFile, UpstreamTls

HELLO = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"


@pytest.fixture(scope="module")
def issue(certificates: Any) -> Callable[[str], tuple[str, str]]:
    """Makes a client certificate that the CA of the tests has signed: (certificate, key)."""
    room: Path = certificates.ca.parent

    def run(words: str) -> None:
        openssl = shutil.which("openssl")
        assert openssl is not None
        subprocess.run([openssl, *words.split()], cwd=room, check=True, capture_output=True)

    def make(name: str) -> tuple[str, str]:
        run(
            f"req -keyout {name}.key -out {name}.csr -subj /CN={name} "
            "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
        )
        run(f"x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -days 30 -out {name}.pem")
        return str(room / f"{name}.pem"), str(room / f"{name}.key")

    return make


@pytest.fixture
def demanding(certificates: Any) -> ssl.SSLContext:
    """The TLS settings of a server that demands a client certificate."""
    room = certificates.ca.parent
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(room / "server.pem", room / "server.key")
    context.load_verify_locations(certificates.ca)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


@pytest.mark.parametrize("kind", [Http1Transport, HttpxTransport], ids=["http1", "httpx"])
async def test_a_server_that_demands_a_certificate_gets_it(
    kind: Any, certificates: Any, issue: Any, demanding: ssl.SSLContext, make_peer: Any, ask: Any, read: Any
) -> None:
    cert, key = issue("gateway")
    async with make_peer().listening(demanding) as peer:
        peer.says(HELLO)
        for files, answered in (((cert, key), True), ((None, None), False)):
            transport = kind(tls=UpstreamTls(str(certificates.ca), *files))
            if answered:
                assert await read(await transport.send(ask(origin=peer.origin), 5)) == b"hello"
            else:
                with pytest.raises(TransportError):
                    await read(await transport.send(ask(origin=peer.origin), 5))
            await transport.aclose()


def test_a_file_that_cannot_be_used_is_named(issue: Any, certificates: Any, tmp_path: Path) -> None:
    cert, key = issue("one")
    other = issue("two")[1]
    nothing = tmp_path / "nothing.pem"
    encrypted = tmp_path / "encrypted.key"
    openssl = shutil.which("openssl")
    assert openssl is not None
    words = f"pkey -in {key} -aes256 -passout pass:secret -out {encrypted}"
    subprocess.run([openssl, *words.split()], check=True, capture_output=True)
    for tls, said in (
        (UpstreamTls(str(nothing)), f"ca_file: {nothing}: No such file"),
        (UpstreamTls(None, str(nothing), key), f"cert_file: {nothing}: No such file"),
        (UpstreamTls(None, cert, str(nothing)), f"key_file: {nothing}: No such file"),
        (UpstreamTls(None, cert, other), f"key_file: {other}: not the key of {cert}"),
        (UpstreamTls(None, cert, str(encrypted)), f"key_file: {encrypted}: not the key of {cert}"),
    ):
        with pytest.raises(UnusableTlsFile) as error:
            tls.context()
        assert str(error.value).startswith(said)


def test_a_file_that_is_written_again_changes_the_stamps(tmp_path: Path) -> None:
    file = tmp_path / "cert.pem"
    tls = UpstreamTls(None, str(file), str(tmp_path / "key.pem"))
    before = tls.stamps()
    file.write_text("new")
    assert tls.stamps() != before
    assert tls.stamps() == tls.stamps()
