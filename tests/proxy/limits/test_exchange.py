"""Leases between a gateway and its stream server: ahead of need, in outages, and at the end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from gateway.config.limits import Budgets
from gateway.config.stream import StreamConfig
from gateway.core.limits import Limit, LimitScope
from gateway.observability.proxy_metrics import ProxyMetrics
from gateway.proxy.limits.book import LeaseBook
from gateway.proxy.limits.charge import Charge
from gateway.proxy.limits.estimate import ModelEstimate
from gateway.proxy.limits.exchange import LeaseExchange
from gateway.proxy.limits.limiter import Limiter
from gateway.proxy.limits.patience import Patience
from gateway.proxy.request.call import Call, Caller
from gateway.stream.connect import close, connect
from gateway.stream.leases import ExchangeReply, LeaseGrant, LeaseServer

Limited = Callable[..., dict[str, Any]]
Start = Callable[..., Any]


@pytest.fixture
def alone(limited: Limited, stream_server: Any, stream_name: str) -> Limited:
    """`limited`, on a stream server that the test may kill."""

    def make(*limits: Any, **sections: Any) -> dict[str, Any]:
        return limited(*limits, stream={"url": stream_server.url, "name": stream_name}, **sections)

    return make


async def in_contact(gateway: Any, *, lost: bool = False) -> None:
    async with asyncio.timeout(30):
        while await gateway.metric("gateway_limits_degraded") != lost:
            pass


async def statuses(gateway: Any, n: int, **fields: Any) -> list[int]:
    return [(await gateway.chat(**fields)).status_code for _ in range(n)]


async def used(gateway: Any) -> float:
    return float((await gateway.client.get("/key")).json()["limits"][0]["used"])


async def test_only_the_first_calls_of_a_limit_wait(stream_server: Any, start: Start, alone: Limited) -> None:
    gateway = await start(alone({"requests_per_day": 100_000}))
    assert set(await statuses(gateway, 60)) == {200}
    assert 1 <= await gateway.metric("gateway_limit_waits_total") <= 5


async def test_an_outage_leaves_a_worker_its_share(stream_server: Any, start: Start, alone: Limited) -> None:
    gateway = await start(alone({"requests_per_day": 100}))
    assert await statuses(gateway, 10) == [200] * 10
    stream_server.kill()
    await in_contact(gateway, lost=True)
    waits = await gateway.metric("gateway_limit_waits_total")
    answers = await statuses(gateway, 100)
    assert set(answers) == {200, 503}, "whether others have left something is not known"
    refused = await gateway.chat()
    assert refused.json()["error"]["code"] == "limits_unavailable"
    assert refused.headers["retry-after"] == "1"
    assert await gateway.metric("gateway_limit_waits_total") == waits, "no call waits for a server that is away"
    assert 20 <= answers.count(200) <= 90
    stream_server.start()
    await in_contact(gateway)
    answers += await statuses(gateway, 100)
    assert answers.count(200) == 90, "all of it counts, once"
    assert await used(gateway) == 100


async def test_a_limit_that_is_closed_refuses_while_it_cannot_be_checked(
    stream_server: Any, start: Start, alone: Limited
) -> None:
    gateway = await start(alone({"requests_per_day": 100, "on_outage": "closed"}))
    assert await statuses(gateway, 3) == [200] * 3
    stream_server.kill()
    await in_contact(gateway, lost=True)
    refused = await gateway.chat()
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert refused.json()["error"]["code"] == "limits_unavailable"
    assert refused.json()["error"]["scope"] == "key tester"
    stream_server.start()
    await in_contact(gateway)
    assert await statuses(gateway, 2) == [200] * 2
    assert await used(gateway) == 5


@pytest.mark.parametrize(("on_outage", "answers"), [("bounded", {200}), ("closed", {503})])
async def test_a_gateway_starts_without_its_stream_server(
    stream_server: Any, start: Start, alone: Limited, on_outage: str, answers: set[int]
) -> None:
    stream_server.kill()
    gateway = await start(alone({"requests_per_minute": 1000, "on_outage": on_outage}))
    assert set(await statuses(gateway, 5)) == answers
    stream_server.start()
    await in_contact(gateway)
    assert await statuses(gateway, 1) == [200]


async def test_a_server_that_hangs_holds_up_one_call_for_fifty_milliseconds(
    stream_server: Any, start: Start, alone: Limited
) -> None:
    gateway = await start(alone({"requests_per_day": 1000}))
    assert await statuses(gateway, 2) == [200] * 2
    stream_server.pause()
    try:
        assert set(await statuses(gateway, 100)) == {200}
        assert await gateway.metric("gateway_limit_waits_total", result="late") >= 1
    finally:
        stream_server.resume()
    await in_contact(gateway)
    async with asyncio.timeout(30):
        while await used(gateway) != 102:
            pass


async def test_a_server_without_its_data_is_told_everything_again(
    stream_server: Any, start: Start, alone: Limited
) -> None:
    gateway = await start(alone({"requests_per_day": 100}))
    assert await statuses(gateway, 30) == [200] * 30
    stream_server.kill()
    for path in stream_server.directory.rglob("*.aof*"):
        path.unlink()
    await in_contact(gateway, lost=True)
    stream_server.start()
    await in_contact(gateway)
    async with asyncio.timeout(30):
        while await used(gateway) != 30:
            pass


async def test_the_log_says_once_when_most_of_a_limit_is_used(
    stream_server: Any, start: Start, alone: Limited, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = await start(alone({"requests_per_day": 10}))
    await statuses(gateway, 12)
    async with asyncio.timeout(30):
        while await used(gateway) < 10 or "100 %" not in caplog.text:
            pass
    lines = [record.getMessage() for record in caplog.records if "has used" in record.getMessage()]
    assert lines in (
        ["key tester has used 80 % of its requests_per_day", "key tester has used 100 % of its requests_per_day"],
        ["key tester has used 100 % of its requests_per_day"],  # in one report
    )


@pytest.mark.parametrize("command", [("REPLICAOF", "127.0.0.1", "1"), ("CONFIG", "SET", "maxmemory", "1")], ids=str)
@pytest.mark.parametrize(("on_outage", "answers"), [("bounded", {200}), ("closed", {503})])
async def test_a_server_that_takes_no_writes_is_an_outage(
    stream_server: Any, start: Start, alone: Limited, command: tuple[str, ...], on_outage: str, answers: set[int]
) -> None:
    """The server is read-only, as after a fail-over, or full."""
    gateway = await start(alone({"requests_per_day": 1000, "on_outage": on_outage}), flush_s=0.1)
    assert await statuses(gateway, 2) == [200] * 2
    await gateway.corridor.client.execute_command(*command)
    await in_contact(gateway, lost=True)
    assert set(await statuses(gateway, 20)) == answers
    undo = ("REPLICAOF", "NO", "ONE") if command[0] == "REPLICAOF" else (*command[:-1], "0")
    await gateway.corridor.client.execute_command(*undo)
    await in_contact(gateway)
    assert await used(gateway) == 2 + 20 * (answers == {200})


async def test_a_sparse_caller_is_not_out_of_money_when_the_server_is_away(
    stream_server: Any, limited: Limited, stream_name: str
) -> None:
    """The caller's share has been given up after 30 s without a call; the next call finds the server full, or gone."""
    ahead_s = 0.0
    scope = LimitScope("team", "sparse", (Limit("usd", 500, "month"),))
    caller, client = Caller("web", id="web", scopes=(scope,)), connect(stream_server.url, StreamConfig())
    call = Call("id", 0.0, 0.0, caller, "chat", b"POST", b"/chat/completions", "chat", False, b"{}", {"max_tokens": 50})
    book, metrics = LeaseBook(lambda: time.monotonic() + ahead_s), ProxyMetrics(CollectorRegistry())
    exchange = LeaseExchange(book, LeaseServer(client, stream_name, "worker"), metrics, every_s=0.01)
    limiter = Limiter(book, exchange, {"chat": ModelEstimate(1e3, 1e4, None)}, Budgets(), metrics)
    running = asyncio.get_running_loop().create_task(exchange.run())

    async def exchanged() -> None:
        for _ in range(2):
            assert await exchange.next_exchange(Patience(30))

    limiter.settle(await limiter.wait(caller, call), Charge(10, 0, 50, 0, 0.09, False))
    await exchanged()
    ahead_s = 40.0
    await exchanged()
    stream_server.kill()
    reservations = [limiter.reserve(caller, call) or await limiter.wait(caller, call) for _ in range(60)]
    assert len(reservations) == 60
    [figures] = await limiter.figures(caller)
    assert figures["spent"] == pytest.approx(0.09)
    assert figures["used"] + figures["remaining"] == pytest.approx(500)
    running.cancel()
    await close(client)


async def test_an_outage_is_named_unless_the_budget_is_used_up(
    stream_server: Any, start: Start, alone: Limited
) -> None:
    """A money error only where nothing that others hold could make it false."""
    gateway = await start(alone(team={"usd_per_month": 0.0006}))
    passed = [(await gateway.chat(max_tokens=5)).status_code == 200 for _ in range(20)].count(True)
    assert 0 < passed < 20
    async with asyncio.timeout(30):  # the server has answered the report of all that was spent
        while (await gateway.client.get("/key")).json()["limits"][0]["spent"] < passed * 51e-6:
            pass
    stream_server.kill()
    await in_contact(gateway, lost=True)
    refused = (await gateway.chat(max_tokens=5)).json()["error"]
    assert refused["code"] == "insufficient_quota"
    assert refused["spent"] + 52e-6 > 0.0006
    small = await gateway.client.post("/embeddings", json={"model": "chat", "input": "x"})
    assert small.status_code == 200, "what is left may be used"


async def answers_of(gateway: Any, n: int, user: str) -> list[int]:
    body = {"messages": [{"role": "user", "content": "hi"}], "model": "chat", "max_tokens": 5, "user": user}
    return [(await gateway.client.post("/chat/completions", json=body)).status_code for _ in range(n)]


async def test_an_outage_leaves_a_worker_its_promise_of_an_end_user(
    stream_server: Any, start: Start, alone: Limited
) -> None:
    """The worker gets nothing of end users who are new to it: another worker may have promised theirs."""
    config = alone({"per_user": {"requests_per_day": 40}})
    gateways = [await start(config), await start(config)]
    answers = await answers_of(gateways[0], 8, "ada")
    assert await answers_of(gateways[1], 1, "carol") == [200]
    stream_server.kill()
    for gateway in gateways:
        await in_contact(gateway, lost=True)
    answers += await answers_of(gateways[0], 40, "ada")
    assert set(answers) == {200, 503}
    assert 8 < answers.count(200) < 40
    assert await answers_of(gateways[1], 3, "ada") + await answers_of(gateways[0], 1, "bob") == [503] * 4
    stream_server.start()
    for gateway in gateways:
        await in_contact(gateway)
    async with asyncio.timeout(60):
        while 429 not in answers:
            answers += await answers_of(gateways[1], 1, "ada") + await answers_of(gateways[0], 1, "ada")
    async with asyncio.timeout(60):  # what one of them holds comes back
        while answers.count(200) < 40:
            answers += await answers_of(gateways[0], 1, "ada")
    assert await answers_of(gateways[0], 3, "ada") + await answers_of(gateways[1], 3, "ada") == [429] * 6


@pytest.mark.parametrize(
    ("limits", "answered"),
    [
        ({"requests_per_day": 8, "on_outage": "split"}, 8),
        ({"requests_per_minute": 1000}, 9),
        ({"on_outage": "closed", "requests_per_day": 8}, 0),
    ],
)
async def test_new_end_users_in_an_outage_have_what_their_limits_say(
    stream_server: Any, start: Start, alone: Limited, limits: dict[str, Any], answered: int
) -> None:
    stream_server.kill()
    gateway = await start(alone({"per_user": limits}))
    assert await answers_of(gateway, 9, "ada") == [200] * answered + [503] * (9 - answered)
    stream_server.start()
    await in_contact(gateway)
    if "requests_per_day" in limits:
        async with asyncio.timeout(60):
            while (statuses := await answers_of(gateway, 1, "ada")) != [429]:
                assert statuses == [200]
                answered += 1
        assert answered == 8, "all of it counts, once"


class Broken:
    """A stream server whose first reply cannot be read."""

    def __init__(self) -> None:
        self.asked = 0

    async def exchange(self, reports: Any) -> ExchangeReply:
        self.asked += 1
        if self.asked == 1:
            raise ValueError("not a number")
        return ExchangeReply(1e9, 1, True, tuple(LeaseGrant(r.want, 10**6, 0, 0, 0) for r in reports))

    async def sweep(self) -> int:
        return 0

    async def leave(self) -> None:
        pass


async def test_leases_are_renewed_after_whatever_went_wrong(caplog: pytest.LogCaptureFixture) -> None:
    book = LeaseBook()
    scope = LimitScope("key", "web", (Limit("tokens", 1000, "day"),))
    [lease] = book.account("web", (scope,)).leases
    exchange = LeaseExchange(book, Broken(), ProxyMetrics(CollectorRegistry()), every_s=0.01)
    running = asyncio.get_running_loop().create_task(exchange.run())
    lease.wait(10, book.now())
    book.ask(lease)
    assert not await exchange.next_exchange(Patience(30))
    async with asyncio.timeout(30):
        while lease.free < 10:
            lease.wait(10, book.now())
            book.ask(lease)
            await exchange.next_exchange(Patience(30))
    running.cancel()
    assert "tried again" in caplog.text


class Forgetful:
    """A stream server that does not know the worker any more. It notes what it is told."""

    def __init__(self) -> None:
        self.told: dict[str, int] = {}

    async def exchange(self, reports: Any) -> ExchangeReply:
        known = bool(self.told)
        self.told |= {report.name: report.spent for report in reports}
        return ExchangeReply(1e9, 1, known, tuple(LeaseGrant(0, 10**6, 0, 0, 0) for _ in reports))

    async def sweep(self) -> int:
        return 0

    async def leave(self) -> None:
        pass


async def test_unchanged_leases_are_reported_to_a_server_that_lost_them() -> None:
    book = LeaseBook()
    scopes = (LimitScope("key", "web", (Limit("tokens", 1000, "month"), Limit("requests", 1000, "month"))),)
    book.measured(0.0, 0.0, 1e9)
    idle, asking = book.account("web", scopes).leases
    idle.spent = 70
    store = Forgetful()
    exchange = LeaseExchange(book, store, ProxyMetrics(CollectorRegistry()), every_s=0.01)
    book.ask(asking)
    running = asyncio.get_running_loop().create_task(exchange.run())
    async with asyncio.timeout(30):
        while store.told.get(idle.name) != 70:
            await asyncio.sleep(0.005)
    running.cancel()
