"""Names and addresses of upstreams: a slow name server or a dead address costs nobody else anything."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.core.errors import ConnectFailed, ConnectTimeout
from gateway.proxy.http.client.http1 import Http1Transport
from gateway.proxy.http.client.resolver import FRESH_S, OLD_S, REST_S, Address, Resolver, interleaved, open_socket
from gateway.proxy.http.client.transport import UpstreamRequest

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def at(port: int, host: str = "127.0.0.1") -> Address:
    return (socket.AF_INET, (host, port))


class Names:
    """A name server. answers: what each name has, or the error. Names that are held answer once released."""

    def __init__(self, **answers: list[Address] | OSError) -> None:
        self.answers = {name.replace("_", "."): answer for name, answer in answers.items()}
        self.asked: list[str] = []
        self.held: set[str] = set()
        self.released = threading.Event()
        self.now = 1000.0

    def __call__(self, hostname: str, port: int) -> list[Address]:
        self.asked.append(hostname)
        if hostname in self.held:
            assert self.released.wait(60)
        answer = self.answers[hostname]
        if isinstance(answer, OSError):
            raise answer
        return answer

    def resolver(self) -> Resolver:
        return Resolver(self, lambda: self.now)

    async def until_asked(self, times: int) -> None:
        async with asyncio.timeout(60):
            while len(self.asked) < times:
                await asyncio.sleep(0.002)


@pytest.fixture
def names() -> Iterator[Names]:
    """A resolver with a good, a slow and an unknown name."""
    names = Names(good_test=[at(1)], slow_test=[at(2)], bad_test=socket.gaierror(-2, "Name or service not known"))
    yield names
    names.released.set()


async def test_eight_callers_of_a_slow_name_hold_up_no_other(peer: Any, names: Names, read: Any) -> None:
    """Eight lookups used to take all threads of the loop's own resolver."""

    async def answer(link: Any) -> None:
        while await link.request():
            await link.say(OK)

    peer.plays(answer)
    names.answers["good.test"] = [at(int(peer.origin.rpartition(":")[2]))]
    names.held = {"slow.test"}
    async with contextlib.aclosing(Http1Transport(resolver=names.resolver())) as transport:

        def ask(host: str) -> UpstreamRequest:
            return UpstreamRequest(b"GET", f"http://{host}", b"/")

        slow = [asyncio.get_running_loop().create_task(transport.send(ask("slow.test"), 0.5)) for _ in range(8)]
        await names.until_asked(1)
        for _ in range(4):
            assert await read(await transport.send(ask("good.test"), 30)) == b"ok"
        outcomes = await asyncio.gather(*slow, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {ConnectTimeout}
    assert names.asked.count("slow.test") == 1, "one lookup at a time"


async def test_last_good_addresses_stay_while_a_lookup_runs(names: Names) -> None:
    resolver = names.resolver()
    assert await resolver.addresses("good.test", 80) == [at(1)]
    names.held, names.answers["good.test"] = {"good.test"}, [at(9)]
    names.now += FRESH_S
    for _ in range(3):
        assert await resolver.addresses("good.test", 80) == [at(1)]
    await names.until_asked(2)
    names.now += OLD_S  # now a caller waits for a moment, and takes the old ones then
    assert await resolver.addresses("good.test", 80) == [at(1)]
    names.released.set()
    async with asyncio.timeout(60):
        while await resolver.addresses("good.test", 80) != [at(9)]:
            await asyncio.sleep(0.002)
    assert names.asked == ["good.test"] * 2


async def test_last_good_addresses_stay_while_lookups_fail(names: Names) -> None:
    resolver = names.resolver()
    await resolver.addresses("good.test", 80)
    names.answers["good.test"] = socket.gaierror(-3, "Temporary failure in name resolution")
    for _ in range(5):
        names.now += OLD_S + 1
        assert await resolver.addresses("good.test", 80) == [at(1)]
    assert len(names.asked) == 6


async def test_a_name_that_failed_rests(names: Names) -> None:
    resolver = names.resolver()
    for _ in range(20):
        with pytest.raises(OSError, match="Name or service not known"):
            await resolver.addresses("bad.test", 80)
    assert names.asked == ["bad.test"]
    names.now += REST_S
    names.answers["bad.test"] = [at(3)]
    assert await resolver.addresses("bad.test", 80) == [at(3)]


async def test_an_address_needs_no_lookup(names: Names) -> None:
    for host, family in (("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)):
        [(found, address)] = await names.resolver().addresses(host, 80)
        assert (found, address[:2]) == (family, (host, 80))
    assert not names.asked


def test_families_take_turns() -> None:
    six, four = [(socket.AF_INET6, (f"::{i}", 1)) for i in range(3)], [at(1), at(2)]
    assert interleaved([*six, *four]) == [six[0], four[0], six[1], four[1], six[2]]
    assert interleaved([*four, *six]) == [four[0], six[0], four[1], six[1], six[2]]


@pytest.fixture
def deaf() -> Iterator[int]:
    """A port of loopback that neither accepts nor refuses: its queue is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield int(listener.getsockname()[1])


async def test_a_dead_first_address_does_not_hide_the_second(peer: Any, names: Names, read: Any, deaf: int) -> None:
    """Both are tried within one connect timeout, which the dead address alone would take."""

    async def answer(link: Any) -> None:
        while await link.request():
            await link.say(OK)

    peer.plays(answer)
    names.answers["good.test"] = [at(deaf), at(int(peer.origin.rpartition(":")[2]))]
    async with contextlib.aclosing(Http1Transport(resolver=names.resolver())) as transport:
        reply = await transport.send(UpstreamRequest(b"GET", "http://good.test", b"/"), 30)
        assert await read(reply) == b"ok"


async def test_every_address_that_failed_is_named(names: Names) -> None:
    closed = []
    for _ in range(2):
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            closed.append(at(sock.getsockname()[1]))
    names.answers["good.test"] = [*closed, at(closed[0][1][1], "127.0.0.2")]
    async with contextlib.aclosing(Http1Transport(resolver=names.resolver())) as transport:
        with pytest.raises(ConnectFailed, match=r"127\.0\.0\.1: Connection refused; 127\.0\.0\.2: Connection refused"):
            await transport.send(UpstreamRequest(b"GET", "http://good.test", b"/"), 30)


async def test_a_caller_that_leaves_closes_every_attempt(deaf: int) -> None:
    attempt = asyncio.get_running_loop().create_task(open_socket([at(deaf), at(deaf)], delay_s=0.0))
    await asyncio.sleep(0.05)
    attempt.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attempt  # an attempt that stayed open would be a ResourceWarning, and so a failure
