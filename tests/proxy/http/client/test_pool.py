"""Origins, and a pool with a limit."""

import asyncio
import contextlib
import socket
import ssl

import pytest

from gateway.core.errors import ConnectTimeout, NoFilesLeft
from gateway.proxy.http.client.http1 import Http1Transport
from gateway.proxy.http.client.pool import Origin
from gateway.proxy.http.client.resolver import Resolver
from gateway.proxy.relay.failures import of_transport

CONTEXT = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@pytest.mark.parametrize(
    ("url", "hostname", "port", "host"),
    [
        ("http://a.example", "a.example", 80, b"a.example"),
        ("http://A.example/", "a.example", 80, b"a.example"),
        ("http://a.example:80", "a.example", 80, b"a.example"),
        ("http://a.example:8000", "a.example", 8000, b"a.example:8000"),
        ("https://a.example", "a.example", 443, b"a.example"),
        ("https://a.example:80", "a.example", 80, b"a.example:80"),
        ("http://127.0.0.1:8000", "127.0.0.1", 8000, b"127.0.0.1:8000"),
        ("http://[::1]", "::1", 80, b"[::1]"),
        ("https://[2001:db8::1]:8443", "2001:db8::1", 8443, b"[2001:db8::1]:8443"),
        ("http://bücher.example", "xn--bcher-kva.example", 80, b"xn--bcher-kva.example"),
    ],
)
def test_an_origin_says_where_to_connect_and_what_to_call_it(url, hostname, port, host):
    origin = Origin.parse(url, lambda: CONTEXT)

    assert (origin.hostname, origin.port, origin.host) == (hostname, port, host)
    assert origin.tls is (CONTEXT if url.startswith("https") else None)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "a.example",
        "ftp://a.example",
        "http://",
        "http://a:b@c.example",
        "http://a.example/v1",
        "http://a?b",
        "http://a:99999",
    ],
)
def test_an_invalid_origin_is_refused_without_its_password(url):
    with pytest.raises(ValueError) as refused:  # noqa: PT011 - the port's own message is urllib's
        Origin.parse(url, lambda: CONTEXT)
    assert "a:b" not in str(refused.value)


# a limit of connections

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture
async def one_only(peer):
    """A transport with at most one connection to an origin."""
    async with contextlib.aclosing(Http1Transport(max_connections=1)) as transport:
        yield transport


@pytest.fixture
def gate(peer):
    """The peer answers nothing until the gate opens."""
    gate = asyncio.Event()

    async def script(link):
        while asked := await link.request():
            await peer.note(asked)
            await gate.wait()
            await link.say(OK)

    peer.plays(script)
    return gate


@pytest.fixture
def after(peer, one_only, monkeypatch):
    """after(name, act): acts right after the pool's method, before any task has run: the narrowest of races."""

    def patch(name, act):
        pool = one_only.pool(peer.origin)
        method = getattr(pool, name)
        monkeypatch.setattr(pool, name, lambda connection: (method(connection), act(connection)))

    return patch


async def test_above_the_limit_requests_wait_their_turn(peer, one_only, gate, ask, read):
    async def one(n):
        assert await read(await one_only.send(ask(b"/%d" % n), 5)) == b"ok"

    async with asyncio.TaskGroup() as tasks:
        for n in range(5):
            tasks.create_task(one(n))
        await peer.until(lambda: len(peer.asked) == 1)
        gate.set()

    assert peer.links == 1
    assert [asked.line.split()[1] for asked in peer.asked] == ["/0", "/1", "/2", "/3", "/4"]
    assert (one_only.opened, one_only.reused) == (1, 4)


async def test_waiting_for_a_turn_counts_as_connecting(peer, one_only, gate, ask, read):
    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(one_only.send(ask(), 5))
        await peer.until(lambda: len(peer.asked) == 1)
        with pytest.raises(ConnectTimeout):
            await one_only.send(ask(), 0.02)
        gate.set()
        await read(await first)
    assert await read(await one_only.send(ask(), 5)) == b"ok"


async def test_a_connection_of_a_cancelled_waiter_is_passed_on(peer, one_only, gate, ask, read, after):
    async with asyncio.TaskGroup() as tasks:
        holding = tasks.create_task(one_only.send(ask(), 5))
        await peer.until(lambda: len(peer.asked) == 1)
        leaving = tasks.create_task(one_only.send(ask(), 5))
        after("give_back", lambda _: leaving.cancel())
        await asyncio.sleep(0)
        gate.set()
        await read(await holding)

    assert leaving.cancelled()
    assert one_only.idle(peer.origin) == 1


async def test_a_dead_connection_of_a_cancelled_waiter_is_dropped(peer, one_only, gate, ask, read, after):
    async with asyncio.TaskGroup() as tasks:
        holding = tasks.create_task(one_only.send(ask(), 5))
        await peer.until(lambda: len(peer.asked) == 1)
        leaving = tasks.create_task(one_only.send(ask(), 5))
        after("give_back", lambda connection: (leaving.cancel(), connection.abort()))
        await asyncio.sleep(0)
        gate.set()
        await read(await holding)

    assert one_only.idle(peer.origin) == 0
    assert await read(await one_only.send(ask(), 5)) == b"ok"
    assert one_only.retried == 0


async def test_a_place_given_to_one_who_left_is_passed_on(peer, one_only, gate, ask, read, after):
    async with asyncio.TaskGroup() as tasks:
        holding = tasks.create_task(one_only.send(ask(), 5))
        await peer.until(lambda: len(peer.asked) == 1)
        leaving = tasks.create_task(one_only.send(ask(), 5))
        after("forget", lambda _: leaving.cancel())
        await asyncio.sleep(0)
        holding.cancel()

    gate.set()
    assert await read(await one_only.send(ask(), 1)) == b"ok"


async def test_a_resting_connection_makes_room_for_a_new_one(peer, one_only, ask, read):
    """A retry wants it so, which trusts no old connection."""
    peer.says(OK)
    await read(await one_only.send(ask(), 5))

    pool = one_only.pool(peer.origin)
    connection = await pool.open(5)

    assert (connection.requests, one_only.idle(peer.origin)) == (0, 0)
    await peer.until(lambda: peer.links == 2)
    assert (pool.idle, pool.busy) == (0, 1)


async def test_a_connection_that_dies_frees_its_place(peer, one_only, ask, read):
    async def script(link):
        await link.request()
        if link.number > 1:
            await link.say(OK)

    peer.plays(script)
    async with asyncio.TaskGroup() as tasks:
        doomed = tasks.create_task(fails(one_only.send(ask(), 5)))
        waiting = tasks.create_task(one_only.send(ask(), 5))
        assert await doomed
        assert await read(await waiting) == b"ok"
    assert peer.links == 2


async def test_a_connect_that_fails_frees_its_place(peer, one_only, ask, read, unused_tcp_port):
    for _ in range(3):
        assert await fails(one_only.send(ask(origin=f"http://127.0.0.1:{unused_tcp_port}"), 5))
        assert await fails(one_only.send(ask(origin=peer.origin.replace("http:", "https:")), 0.05))


async def test_a_retry_keeps_to_the_limit(peer, one_only, ask, read):
    async def script(link):
        await link.request()
        await link.say(OK)
        await link.request()

    peer.plays(script)
    for _ in range(3):
        assert await read(await one_only.send(ask(), 5)) == b"ok"
    assert (one_only.opened, one_only.retried) == (3, 2)


async def fails(sending):
    try:
        await sending
    except Exception as error:
        return type(error)


@pytest.mark.parametrize("addresses", [1, 2])
async def test_want_of_files_is_not_the_targets_fault(peer, ask, read, no_file_left, addresses):
    def lookup(name, port):
        return [(socket.AF_INET, ("127.0.0.1", port))] * addresses

    peer.says(OK)
    origin = peer.origin.replace("127.0.0.1", "peer.example")
    async with contextlib.aclosing(Http1Transport(resolver=Resolver(lookup))) as transport:
        with no_file_left():
            with pytest.raises(NoFilesLeft) as raised:
                await transport.send(ask(origin=origin), 5)
            assert not of_transport(raised.value).target_fault
        assert await read(await transport.send(ask(origin=origin), 5)) == b"ok"
