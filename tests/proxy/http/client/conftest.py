"""A peer that plays exact bytes over real sockets, and what every test of a transport needs.

Every test runs on asyncio's own loop and on uvloop: they differ in how they close, pause and lose connections.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import ssl
import struct
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvloop

from gateway.proxy.http.client.transport import UpstreamReply, UpstreamRequest
from gateway.proxy.types import Headers

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> dict[str, Callable[[], Any]]:
    return LOOPS


@dataclass
class Asked:
    """One request as the peer read it."""

    line: str
    headers: dict[str, str]  # names in lower case
    body: bytes


@dataclass
class Link:
    """The peer's end of one connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    number: int

    async def head(self) -> Asked | None:
        """The next request up to its body; None at the end of the connection."""
        try:
            raw = await self.reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return None
        line, *fields = raw.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        pairs = [f.split(": ", 1) for f in fields]
        return Asked(line, {name.lower(): value for name, value in pairs}, b"")

    async def request(self) -> Asked | None:
        asked = await self.head()
        if asked and "chunked" in asked.headers.get("transfer-encoding", ""):
            while part := await self.chunk():
                asked.body += part
        elif asked:
            asked.body = await self.reader.readexactly(int(asked.headers.get("content-length", "0")))
        return asked

    async def chunk(self) -> bytes:
        size = int(await self.reader.readuntil(b"\r\n"), 16)
        return (await self.reader.readexactly(size + 2))[:-2]

    async def say(self, *parts: bytes) -> None:
        """Each part in a write of its own."""
        for part in parts:
            self.writer.write(part)
            await self.writer.drain()
            await asyncio.sleep(0)

    def hang_up(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        linger = struct.pack("ii", 1, 0)  # close sends RST instead of FIN
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.writer.transport.abort()

    async def gone(self) -> None:
        """Returns when the transport has closed its end."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65536):
                pass


Script = Callable[[Link], Awaitable[None]]


@dataclass
class Peer:
    """A server which gives the same answer on every connection, or follows a script of the test's own."""

    origin: str = ""
    asked: list[Asked] = field(default_factory=list)
    links: int = 0  # connections accepted so far
    ended: int = 0  # of them, those that are over
    sni: list[str | None] = field(default_factory=list)
    _script: Script = Link.gone
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    _broken: list[BaseException] = field(default_factory=list)

    def says(self, *parts: bytes, then: str = "keep") -> None:
        """Answers every request with these parts. then: "keep" the connection, "hang up", "reset" or "hold" it in
        silence."""

        async def script(link: Link) -> None:
            while asked := await link.request():
                await self.note(asked)
                await link.say(*parts)
                if then == "hang up":
                    return link.hang_up()
                if then == "reset":
                    return link.reset()
                if then == "hold":
                    return await link.gone()
            return None

        self.plays(script)

    def plays(self, script: Script) -> None:
        self._script = script

    async def note(self, asked: Asked) -> None:
        async with self._changed:
            self.asked.append(asked)
            self._changed.notify_all()

    async def until(self, state: Callable[[], bool]) -> None:
        async with self._changed:
            await asyncio.wait_for(self._changed.wait_for(state), 60)

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with self._changed:
            self.links += 1
            self._changed.notify_all()
        try:
            await self._script(Link(reader, writer, self.links))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the transport closed first, which tests may want
        except Exception as error:
            self._broken.append(error)  # shown when the test ends
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()
            async with self._changed:
                self.ended += 1
                self._changed.notify_all()

    @contextlib.asynccontextmanager
    async def listening(self, tls: ssl.SSLContext | None = None) -> AsyncIterator[Peer]:
        if tls:
            tls.sni_callback = lambda _, name, __: self.sni.append(name)
        server = await asyncio.start_server(self.accept, "127.0.0.1", 0, ssl=tls, limit=1 << 20)
        port = server.sockets[0].getsockname()[1]
        self.origin = f"https://localhost:{port}" if tls else f"http://127.0.0.1:{port}"
        yield self
        server.close()
        await self.until(lambda: self.ended == self.links)
        await server.wait_closed()
        assert not self._broken, self._broken


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    """A scripted HTTP server on a local port."""
    # A test's transport is closed before, so that every connection ends: fixtures end in the reverse of their order.
    async with Peer().listening() as peer:
        yield peer


@pytest.fixture
def ask(peer: Peer) -> Callable[..., UpstreamRequest]:
    """ask(path, body, …): sends a request to the peer."""

    def build(
        path: bytes = b"/",
        body: Any = b"",
        *,
        method: bytes = b"POST",
        headers: Headers | None = None,
        origin: str = "",
        length: int | None = None,
    ) -> UpstreamRequest:
        return UpstreamRequest(method, origin or peer.origin, path, headers or [], body, length)

    return build


async def read_all(reply: UpstreamReply) -> bytes:
    parts = []
    while part := await reply.chunk():
        parts.append(part)
    return b"".join(parts)


@pytest.fixture
def read() -> Callable[[UpstreamReply], Awaitable[bytes]]:
    """Reads the body of an upstream's reply to its end."""
    return read_all


@dataclass(frozen=True)
class Certificates:
    ca: Path
    server: ssl.SSLContext


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """A certificate authority of the test's own, and a certificate for localhost that it signed."""
    room = tmp_path_factory.mktemp("certificates")
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("the openssl command makes the certificates, and is not installed")

    def run(words: str) -> None:
        subprocess.run([openssl, *words.split()], cwd=room, check=True, capture_output=True)

    key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
    run(f"req -x509 -keyout ca.key -out ca.pem -days 30 -subj /CN=ca -addext keyUsage=keyCertSign {key}")
    run(f"req -keyout server.key -out server.csr -subj /CN=localhost {key}")
    (room / "names").write_text("subjectAltName=DNS:localhost\n")
    run("x509 -req -in server.csr -CA ca.pem -CAkey ca.key -days 30 -out server.pem -extfile names")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(room / "server.pem", room / "server.key")
    return Certificates(room / "ca.pem", context)


@pytest.fixture
async def tls_peer(certificates: Certificates) -> AsyncIterator[Peer]:
    """The scripted HTTP server behind TLS."""
    async with Peer().listening(certificates.server) as peer:
        yield peer


@pytest.fixture
def make_peer() -> type[Peer]:
    """The class Peer, for tests that start several or script them differently."""
    return Peer
