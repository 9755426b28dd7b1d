"""Connections: a parsed address, TLS, an ACL user; refusals are explained, and never show a secret."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.config.stream import StreamConfig
from gateway.core.errors import StreamDown
from gateway.core.keys import OrganizationRecord
from gateway.stream import Corridor
from gateway.stream.connect import ServerAddress, address_of, connect, described
from gateway.stream.directory import DirectoryStream
from gateway.stream.leases import LeaseReport, LeaseServer

SECRET = "h-u:s@h/%"
QUOTED = "h-u%3As%40h%2F%25"
RULES = (
    "+@stream +@hash +@string +@set +@sortedset +@keyspace +@connection +@transaction "
    "+eval +evalsha +script +info +time "
    "~acl:* ~{acl:limits}:* &*"
)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://a", ServerAddress("one", False, (("a", 6379),))),
        (f"rediss://u:{QUOTED}@a:1/3", ServerAddress("one", True, (("a", 1),), "", 3, "u", SECRET)),
        (f"redis://:{QUOTED}@a", ServerAddress("one", False, (("a", 6379),), password=SECRET)),
        ("redis+sentinel://a,b:2/main/1", ServerAddress("sentinel", False, (("a", 26379), ("b", 2)), "main", 1)),
        ("rediss+cluster://a:1,[::1]:2", ServerAddress("cluster", True, (("a", 1), ("::1", 2)))),
        ("redis://[::1]", ServerAddress("one", False, (("::1", 6379),))),
    ],
)
def test_an_address_is_parsed(url, address):
    assert address_of(url) == address


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (f"http://u:{QUOTED}@a", "http:// is not a stream server's scheme"),
        (f"redis+other://u:{QUOTED}@a", "redis+other"),
        (f"redis://u:{QUOTED}@a:x", "is not host:port"),
        (f"redis://u:{QUOTED}@a/x", "is not a database; expected its number"),
        (f"redis://u:{QUOTED}@a,b", "several hosts"),
        (f"redis+sentinel://u:{QUOTED}@a", "must end in the name of the service"),
    ],
)
def test_mistakes_in_a_url_are_named_without_its_secret(url, expected):
    with pytest.raises(ValueError, match=expected.replace("+", r"\+")) as error:
        address_of(url)
    assert SECRET not in str(error.value)
    assert QUOTED not in str(error.value)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("unix:///run/s%20s.sock", "/run/s s.sock"),
        (f"rediss://u:{QUOTED}@a:1/3", "a:1 (TLS)"),
        ("redis+sentinel://a,b:2/main", "main, by the sentinels a:26379, b:2"),
        (f"redis+cluster://u:{QUOTED}@a:1,b:2", "cluster of a:1, b:2"),
    ],
)
def test_a_server_is_described_without_how_one_enters(url, expected):
    assert described(url) == expected


def test_credentials_of_the_config_go_before_those_of_the_url():
    client = connect(f"redis://u:{QUOTED}@a", StreamConfig(username="v", password="w"))
    options = client.connection_pool.connection_kwargs
    assert (options["username"], options["password"]) == ("v", "w")
    options = connect(f"redis://u:{QUOTED}@a", StreamConfig()).connection_pool.connection_kwargs
    assert (options["username"], options["password"]) == ("u", SECRET)


@pytest.fixture
def place(servers: Any) -> Iterator[Path]:
    """A directory with a path short enough for a Unix socket."""
    with servers.directory() as directory:
        yield directory


def config_of(url: str, **section: Any) -> Corridor:
    stream = StreamConfig.model_validate({"url": url, "name": "acl", **section})
    assert stream.address is not None
    return Corridor.of(stream, stream.address)


async def every_verb(corridor: Corridor) -> None:
    """Calls everything that gateways, consumers and commands do."""
    await corridor.ping()
    await corridor.join()
    await corridor.append([{b"n": b"%d" % i} for i in range(3)])
    first, second, _ = await corridor.read("a", 3, 50)
    await corridor.keep("a", [first.id])
    await corridor.ack([first.id])
    await corridor.dead_letters.add(second, "unreadable", "why")
    await corridor.claim("b", 0, 1)
    letters = [each async for each in corridor.dead_letters.all()]
    assert await corridor.dead_letters.replay(letters[0]) is not None
    assert await corridor.dead_letters.purge(letters) == 0
    assert (await corridor.snapshots())[0].run_id
    await corridor.lag()
    await corridor.trim_read()
    await corridor.home.trim(most=1)
    await corridor.trimmed_unread()
    await corridor.state.add("spent", {"x": 1.0}, 60)
    await corridor.state.remember("x", "y", 60)
    await corridor.state.heartbeat("a", 1.0)
    await corridor.state.consumers()
    await corridor.state.set_gateway_heartbeat("g", {})
    assert await corridor.evicting() is None
    await corridor.state.plans()
    await directory(corridor.directory)
    await limits(LeaseServer(corridor.client, "acl", "g"))
    await corridor.leave("a")


async def directory(stream: DirectoryStream) -> None:
    assert await stream.head() is None
    record = OrganizationRecord("acme", {})
    assert await stream.publish_all(None, "e1", 1, [record])
    head = await stream.head()
    assert head is not None
    assert await stream.publish(head, 2, [(2, record)])
    assert await stream.count() == 1
    later = await stream.head()
    assert later is not None
    for known in (None, head):
        changes = await stream.read(known, later)
        assert changes is not None
        assert list(changes.records.values()) == [record]


async def limits(leases: LeaseServer) -> None:
    window = round(time.time() * 1000)
    report = LeaseReport("team:a:usd_per_day:x", 1, 1, 0, 5, 0, 100, window - 1000, window + 60_000, 1000)
    await leases.raise_spent(report.name, 7, window + 60_000)
    reply = await leases.exchange([report])
    assert reply is not None
    assert reply.grants[0].spent == 7
    await leases.sweep()
    await leases.leave()


async def test_an_acl_user_with_these_rules_may_do_all_that_is_needed(program, place, servers):
    """docs/sampling-and-stream.md gives these rules."""
    node = servers.Node(program, servers.free_ports(1)[0], place, user=f"assay on >{SECRET} {RULES}").start()
    try:
        corridor = config_of(node.url, username="assay", password=SECRET)
        await every_verb(corridor)
        await corridor.aclose()
        other = Corridor(f"redis://assay:{QUOTED}@127.0.0.1:{node.port}", "others")
        with pytest.raises(StreamDown, match=r"was refused: No permissions to access a key$") as error:
            await other.append([{b"req": b"what they asked (a secret)"}])
        assert error.value.__cause__ is None, "redis-py's own text holds the command"
        await other.aclose()
    finally:
        node.kill()


async def test_a_wrong_password_is_stream_down_and_never_shown(program, place, servers):
    node = servers.Node(program, servers.free_ports(1)[0], place, user=f"assay on >{SECRET} {RULES}").start()
    corridor = config_of(node.url, username="assay", password="not-it-at-all")
    try:
        with pytest.raises(StreamDown, match=r"stream server: .*(WRONGPASS|Authentication)") as error:
            await corridor.ping()
        assert "not-it-at-all" not in str(error.value) + repr(error.value.__cause__)
    finally:
        node.kill()
        await corridor.aclose()


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a CA, and certificates that it signed for a server on 127.0.0.1 and for a client."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("the openssl command makes the certificates, and is not installed")
    room = tmp_path_factory.mktemp("certificates")

    def run(words: str) -> None:
        subprocess.run([openssl, *words.split()], cwd=room, check=True, capture_output=True)

    key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
    run(f"req -x509 -keyout ca.key -out ca.pem -days 30 -subj /CN=ca -addext keyUsage=keyCertSign {key}")
    (room / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    for who in ("server", "client"):
        run(f"req -keyout {who}.key -out {who}.csr -subj /CN={who} {key}")
        run(f"x509 -req -in {who}.csr -CA ca.pem -CAkey ca.key -days 30 -out {who}.pem -extfile names")
    return room


def speaks_tls(program: str) -> bool:
    """The connection ends at once either way: without certificates, or without TLS."""
    finished = subprocess.run([program, "--port", "0", "--tls-port", "1"], capture_output=True, timeout=10, check=False)
    return b"connection type tls" not in finished.stdout


@pytest.fixture
def tls_node(program: str, place: Path, servers: Any, certificates: Path) -> Iterator[Any]:
    """Node that also requires a certificate of its clients."""
    if not speaks_tls(program):
        pytest.skip(f"{Path(program).name} is built without TLS")
    port, tls_port = servers.free_ports(2)
    files = {f"tls_{what}_file": str(certificates / name) for what, name in
             (("cert", "server.pem"), ("key", "server.key"), ("ca_cert", "ca.pem"))}  # fmt: skip
    node = servers.Node(program, port, place, tls_port=str(tls_port), tls_auth_clients="yes", **files).start()
    node.tls_url = f"rediss://127.0.0.1:{tls_port}/0"
    yield node
    node.kill()


async def test_tls_is_spoken_with_both_sides_certificates(tls_node, certificates):
    files = {f"{what}_file": str(certificates / name)
             for what, name in (("ca", "ca.pem"), ("cert", "client.pem"), ("key", "client.key"))}  # fmt: skip
    corridor = config_of(tls_node.tls_url, **files)
    await every_verb(corridor)
    await corridor.aclose()


async def test_a_certificate_that_nobody_vouches_for_is_refused(tls_node, certificates):
    for files in ({}, {"ca_file": str(certificates / "client.pem")}):
        corridor = config_of(tls_node.tls_url, **files)
        with pytest.raises(StreamDown, match=r"certificate|SSL"):
            await corridor.ping()
        await corridor.aclose()


async def test_a_server_that_hangs_is_down_until_it_answers(program, place, servers):
    node = servers.Node(program, servers.free_ports(1)[0], place).start()
    corridor = Corridor(node.url, "x")
    await corridor.append([{b"n": b"0"}])
    node.pause()
    async with asyncio.timeout(60):
        with pytest.raises(StreamDown):
            await corridor.append([{b"n": b"1"}])
    node.resume()
    async with asyncio.timeout(60):
        while True:
            try:
                await corridor.append([{b"n": b"2"}])
                break
            except StreamDown:
                await asyncio.sleep(0.01)
    await corridor.aclose()
    node.kill()


@contextlib.asynccontextmanager
async def halting(url: str, at: int, meanwhile: Callable[[int], Awaitable[None]]) -> AsyncIterator[str]:
    """A way to a server on which what a client sends after the given number of bytes waits until meanwhile(its port) is
    done.
    """
    running: list[asyncio.Task[Any]] = []

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        running.append(asyncio.current_task())
        back_reader, back = await asyncio.open_connection(*address_of(url).hosts[0])

        async def there() -> None:
            sent = 0
            while some := await reader.read(1 << 16):
                first, sent = at - sent, sent + len(some)
                if 0 < first <= len(some):
                    back.write(some[:first])
                    await meanwhile(back.get_extra_info("sockname")[1])
                    some = some[first:]
                back.write(some)
            back.close()

        async with asyncio.TaskGroup() as both:
            both.create_task(there())
            while some := await back_reader.read(1 << 16):
                writer.write(some)
            writer.close()

    async with await asyncio.start_server(relay, "127.0.0.1", 0) as listening:
        yield f"redis://127.0.0.1:{listening.sockets[0].getsockname()[1]}/0"
        await asyncio.gather(*running)


async def test_a_server_that_recovers_during_a_batch_leaves_no_gap(program, place, servers):
    """The server has loaded its data by then. If the end were taken without the beginning, a gateway killed before it
    tries again would leave a hole that looks like a loss of the server's."""
    node = servers.Node(program, servers.free_ports(1)[0], place).start()
    node.ask("CONFIG", "SET", "maxmemory", 1)

    async def takes_again(port: int) -> None:
        def midway() -> bool:
            (its,) = [c for c in node.ask("CLIENT LIST") if c["addr"].endswith(f":{port}")]
            return int(its["qbuf"]) > 0  # it has done what came, and waits for the rest of a command

        await asyncio.to_thread(servers.wait, midway, "the server does not read")
        node.ask("CONFIG", "SET", "maxmemory", 0)

    batch = [{b"n": b"%d" % i, b"body": b"x" * 1_000} for i in range(100)]
    async with halting(node.url, 50_000, takes_again) as url:
        corridor = Corridor(url, "x")
        with contextlib.suppress(StreamDown):
            await corridor.append(batch)
        await corridor.aclose()
    corridor = Corridor(node.url, "x")
    await corridor.join()
    assert [dict(entry.fields) for entry in await corridor.read("a", 200, 10)] == batch
    await corridor.aclose()
    node.kill()


async def test_an_unknown_command_is_reported(program, place, servers):
    """A server older than 6.2 has no XAUTOCLAIM."""
    node = servers.Node(
        program, servers.free_ports(1)[0], place, user="default on nopass ~* &* +@all -xautoclaim"
    ).start()
    corridor = Corridor(node.url, "x")
    await corridor.join()
    with pytest.raises(StreamDown, match=r"was refused: .*xautoclaim"):
        await corridor.claim("a", 0, 1)
    await corridor.aclose()
    node.kill()


class OneName:
    """A name in front of several servers, as managed ones have it: a connection stays with the server that the name
    meant when it was opened."""

    def __init__(self) -> None:
        self.server = ""
        self.opened = 0
        self.running: set[asyncio.Task[Any] | None] = set()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened += 1
        self.running.add(asyncio.current_task())
        upstream, downstream = await asyncio.open_unix_connection(self.server)
        await asyncio.gather(piped(reader, downstream), piped(upstream, writer))


async def piped(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


@pytest.mark.parametrize("state", ["read only", "too few replicas", "without its primary"])
async def test_after_a_failover_behind_one_name_it_is_resolved_again(
    stream_server: Any, stream_url: str, stream_name: str, state: str
) -> None:
    """The old primary stays up as a replica and keeps its connections; nothing may stick to it."""
    name = OneName()
    name.server = stream_server.url.removeprefix("unix://")
    async with await asyncio.start_server(name, "127.0.0.1", 0) as listener:
        corridor = Corridor(f"redis://127.0.0.1:{listener.sockets[0].getsockname()[1]}", stream_name)
        old = connect(stream_server.url, StreamConfig())
        after = connect(stream_url, StreamConfig())
        await corridor.append([{b"n": b"1"}])
        if state == "too few replicas":
            await old.config_set("min-replicas-to-write", 1)
        else:
            if state == "without its primary":
                await old.config_set("replica-serve-stale-data", "no")
            await old.replicaof("127.0.0.1", 1)
        name.server = stream_url.removeprefix("unix://")
        for attempt in range(3):
            with contextlib.suppress(StreamDown):
                await corridor.append([{b"n": b"%d" % attempt}])
        keys = [key for key in await after.keys(f"*{stream_name}*") if await after.type(key) == b"stream"]
        assert keys, "appended to the new primary"
        assert name.opened <= 3, "healthy connections are kept"
        await corridor.aclose()
        await old.aclose()
        await after.aclose()
        listener.close()
        await asyncio.sleep(0)  # the last connection that was accepted begins
        await asyncio.gather(*(task for task in name.running if task is not None))


class ScriptedServer:
    """A stream server that knows nothing, and can hold its replies back."""

    def __init__(self) -> None:
        self.open = 0
        self.opened = 0
        self.replies = asyncio.Event()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        self.opened += 1
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                command = [await self._word(reader) for _ in range(await self._number(reader))]
                await self.replies.wait()
                writer.write({b"HELLO": b"%1\r\n+proto\r\n:3\r\n", b"GET": b"_\r\n"}.get(command[0], b"+OK\r\n"))
        writer.close()
        self.open -= 1

    async def _number(self, reader: asyncio.StreamReader) -> int:
        return int((await reader.readuntil(b"\r\n"))[1:])

    async def _word(self, reader: asyncio.StreamReader) -> bytes:
        return (await reader.readexactly(await self._number(reader) + 2))[:-2]


@contextlib.asynccontextmanager
async def scripted(kind: str, directory: Path) -> AsyncIterator[tuple[ScriptedServer, str]]:
    """A scripted server and its URL."""
    server = ScriptedServer()
    path = directory / "s"
    if kind == "unix":
        listening, url = await asyncio.start_unix_server(server, path), f"unix://{path}"
    else:
        listening = await asyncio.start_server(server, "127.0.0.1", 0)
        url = f"redis://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    async with listening:
        yield server, url


@pytest.mark.parametrize("cancelled", [False, True], ids=["in progress", "cancelled"])
@pytest.mark.parametrize("held", [False, True], ids=["answering", "silent"])
@pytest.mark.parametrize("kind", ["unix", "tcp"])
async def test_a_closed_client_leaves_no_connection_open(place: Path, kind: str, held: bool, cancelled: bool) -> None:
    """A command is in progress since the given number of turns of the loop: connecting, greeting, sending, reading."""
    opened = 0
    for turns in range(40):
        async with scripted(kind, place) as (server, url):
            if not held:
                server.replies.set()
            corridor = Corridor(url, "x")
            command = asyncio.get_running_loop().create_task(corridor.state.recall("x"))
            for _ in range(turns):
                await asyncio.sleep(0)
            if cancelled:
                command.cancel()
            await corridor.aclose()
            server.replies.set()
            with contextlib.suppress(StreamDown, asyncio.CancelledError):
                await command
            assert command.done()
            with pytest.raises(StreamDown, match="closed"):
                await corridor.ping()
            for _ in range(20):  # the server hears of it, where it was told
                await asyncio.sleep(0)
            assert server.open == 0, f"open after {turns} turns"
            opened += server.opened
    assert opened > 20, "most commands had come so far as to connect"
