"""A credential is fetched ahead of its end, by one thread at a time; requests use the present one meanwhile."""

from __future__ import annotations

import asyncio
import threading

import pytest

from gateway.core.errors import ConnectFailed, ConnectTimeout
from gateway.proxy.http.auth.renewal import Issued, Renewal, issued_until


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Source:
    """Values v1, v2, … that live 100 s and are renewed after 50 s."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.count = 0
        self.error: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()

    def fetch(self) -> Issued[str]:
        assert self.gate.wait(30)
        if self.error is not None:
            raise self.error
        self.count += 1
        return Issued(f"v{self.count}", self.clock.now + 100, self.clock.now + 50)


@pytest.fixture
def clock() -> Clock:
    """A clock that the test sets."""
    return Clock()


@pytest.fixture
def source(clock: Clock) -> Source:
    """A source of credentials that live by that clock."""
    return Source(clock)


async def until_fetched(renewal: Renewal[str], n: int) -> None:
    async with asyncio.timeout(30):
        while renewal.fetched < n:
            await asyncio.sleep(0.001)


async def test_the_first_request_waits_and_later_ones_do_not(clock: Clock, source: Source) -> None:
    renewal = Renewal("x", source.fetch, clock=clock)
    assert await asyncio.gather(*(renewal.get() for _ in range(20))) == ["v1"] * 20
    assert source.count == 1, "one fetch for all who wait"
    clock.now += 49
    assert await renewal.get() == "v1"
    assert source.count == 1


async def test_a_renewal_delays_no_request(clock: Clock, source: Source) -> None:
    renewal = Renewal("x", source.fetch, clock=clock)
    await renewal.get()
    source.gate.clear()
    clock.now += 60
    assert await renewal.get() == "v1", "the present one, although the new one is not there"
    source.gate.set()
    await until_fetched(renewal, 2)
    assert await renewal.get() == "v2"


async def test_it_is_renewed_without_requests(clock: Clock, source: Source) -> None:
    renewal = Renewal("x", source.fetch, clock=clock)
    renewal.tend()
    await until_fetched(renewal, 1)
    renewal.tend()
    clock.now += 51
    renewal.tend()
    await until_fetched(renewal, 2)
    assert source.count == 2


async def test_an_expired_one_is_not_used_while_the_source_fails(
    clock: Clock, source: Source, caplog: pytest.LogCaptureFixture
) -> None:
    renewal = Renewal("x", source.fetch, ["s3cret"], clock=clock)
    await renewal.get()
    source.error = RuntimeError("client_secret s3cret\nis wrong")
    clock.now += 60
    assert await renewal.get() == "v1"
    async with asyncio.timeout(30):
        while "no new credential of x" not in caplog.text:
            await asyncio.sleep(0.001)
    assert "the present one is valid for 40 s" in caplog.text
    assert "RuntimeError: client_secret [secret] is wrong" in caplog.text
    clock.now += 50
    with pytest.raises(ConnectFailed, match=r"no credential of x: RuntimeError$"):
        await renewal.get()
    assert "s3cret" not in caplog.text
    source.error = None
    clock.now += 31
    assert await renewal.get() == "v2", "it is tried again after a while"


async def test_a_source_that_fails_is_not_asked_by_every_request(clock: Clock, source: Source) -> None:
    calls = 0

    def fetch() -> Issued[str]:
        nonlocal calls
        calls += 1
        raise RuntimeError

    renewal = Renewal("x", fetch, clock=clock)
    for _ in range(10):
        with pytest.raises(ConnectFailed):
            await renewal.get()
    assert calls == 1


async def test_a_source_that_hangs_ends_the_wait(clock: Clock, source: Source) -> None:
    source.gate.clear()
    renewal = Renewal("x", source.fetch, clock=clock)
    with pytest.raises(ConnectTimeout, match=r"no credential of x within 0\.01 s"):
        await renewal.get(0.01)
    source.gate.set()
    assert await renewal.get() == "v1"


async def test_a_refused_one_is_replaced_once_in_a_while(clock: Clock, source: Source) -> None:
    renewal = Renewal("x", source.fetch, clock=clock)
    assert await renewal.get() == "v1"
    assert await renewal.renewed("v1") == "v2"
    assert await renewal.renewed("v1") == "v2", "another request that was sent with the old one"
    assert await renewal.renewed("v2") is None, "a server that refuses everything causes no storm"
    clock.now += 11
    assert await renewal.renewed("v2") == "v3"


def test_a_long_life_ends_five_minutes_early_and_a_short_one_at_half() -> None:
    assert issued_until("v", 4600.0, 1000.0).renew_at == 4300.0
    assert issued_until("v", 1060.0, 1000.0).renew_at == 1030.0
