"""Endings of calls over sockets: each row of the table, with its charge and its outcome."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from gateway.fake import HOLD, FakeUpstream, Fault
from gateway.proxy.limits import endings
from gateway.proxy.limits.endings import AttemptEnding
from gateway.proxy.recording.call_metrics import FAILED

Limited = Callable[..., dict[str, Any]]
MOST = 40
TEXT = "x" * 4000
INPUT = 1000
"""Tokens that TEXT alone is estimated at."""
DEADLINE = {"x-gateway-timeout-s": "0.8"}


ENDINGS = [each for each in vars(endings).values() if isinstance(each, AttemptEnding)]
"""The rows of the table, in the order of the documentation."""


def a_body(stream: bool, **fields: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": TEXT}]
    return {"model": "chat", "messages": messages, "stream": stream, "max_tokens": MOST, **fields}


async def until_charged(gateway: Any, limit: str = "tokens_per_day") -> float:
    """The charge of the only call, once it has ended and nothing is reserved any more."""
    async with asyncio.timeout(30):
        while True:
            found = {each["limit"]: each for each in (await gateway.client.get("/key")).json()["limits"]}
            if found["concurrency"]["used"] == 0 and found["requests_per_day"]["used"] in (0, 1):
                return float(found[limit]["used"])


@pytest.fixture
async def gateway(start: Any, limited: Limited, lines: list[dict[str, Any]]) -> Any:
    """One key with limits; an upstream that is asked once."""
    limits = {"requests_per_day": 100, "tokens_per_day": 10**6, "usd_per_day": 10, "concurrency": 9}
    chat = {"retries": {"attempts": 1}, "timeouts": {"answer_s": 1, "first_token_s": 1, "idle_s": 1}}
    return await start({**limited(limits, chat=chat), "log": {"access": True, "format": "json"}})


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The access log's lines."""
    found: list[dict[str, Any]] = []
    monkeypatch.setattr(
        "gateway.proxy.recording.access_log._to_stderr",
        lambda data: found.extend(json.loads(line) for line in data.splitlines()),
    )
    return found


async def hold(gateway: Any, upstream: FakeUpstream, stream: bool, headers: dict[str, str], leave: bool) -> None:
    """A call whose upstream stops after three words, or before its plain answer."""
    upstream.says("one ", "two ", "three ", HOLD, "never")
    body = a_body(stream)
    with contextlib.suppress(httpx2.HTTPError):
        async with gateway.client.stream("POST", "/chat/completions", json=body, headers=headers) as response:
            read = b""
            async for data in response.aiter_bytes():
                read += data
                if leave and b"three" in read:
                    return


async def leave_plain(gateway: Any, upstream: FakeUpstream) -> None:
    upstream.says(HOLD, "never")
    loop = asyncio.get_running_loop()
    call = loop.create_task(gateway.client.post("/chat/completions", json=a_body(False)))
    await upstream.until(lambda u: len(u.calls) == 1)
    call.cancel()
    await asyncio.wait([call])


async def faulty(gateway: Any, upstream: FakeUpstream, stream: bool, fault: Fault) -> None:
    upstream.then(fault)
    with contextlib.suppress(httpx2.HTTPError):
        await gateway.client.post("/chat/completions", json=a_body(stream))


Play = Callable[[Any, FakeUpstream], Awaitable[None]]
PLAYED: list[tuple[str, Play, int | None, str]] = [
    # what happens, how, the output that is charged (None: nothing at all), the outcome
    ("its own deadline, plain", lambda g, u: hold(g, u, False, DEADLINE, False), MOST, "client_deadline"),
    ("its own deadline, stream", lambda g, u: hold(g, u, True, DEADLINE, False), 4, "client_deadline"),
    ("a configured timeout, plain", lambda g, u: hold(g, u, False, {}, False), MOST, "timeout"),
    ("a configured timeout, stream", lambda g, u: hold(g, u, True, {}, False), 4, "timeout"),
    ("the client left, plain", leave_plain, MOST, "client_gone"),
    ("the client left, stream", lambda g, u: hold(g, u, True, {}, True), 4, "client_gone"),
    ("cut, plain", lambda g, u: faulty(g, u, False, Fault.reset()), MOST, "upstream_error"),
    ("refused, plain", lambda g, u: faulty(g, u, False, Fault.status(400)), None, "client_error"),
    ("refused, stream", lambda g, u: faulty(g, u, True, Fault.status(503)), None, "upstream_error"),
]


@pytest.mark.parametrize(("play", "output", "outcome"), [p[1:] for p in PLAYED], ids=[p[0] for p in PLAYED])
async def test_a_call_is_charged_by_how_it_ended(
    gateway: Any, upstream: FakeUpstream, lines: list[dict[str, Any]], play: Play, output: int | None, outcome: str
) -> None:
    await play(gateway, upstream)
    charged = await until_charged(gateway)
    sent = len(upstream.calls[0].body) // 4 if output is not None else 0
    assert sent == 0 or INPUT < sent < INPUT + 60
    assert abs(charged - sent - (output or 0)) <= (20 if output else 0), "a body is a few bytes longer where it is sent"
    usd = await until_charged(gateway, "usd_per_day")
    assert await gateway.metric("gateway_requests_total", outcome=outcome) == 1
    failed = sum([await gateway.metric("gateway_requests_total", outcome=each) for each in FAILED])
    assert failed == (outcome in FAILED)
    async with asyncio.timeout(30):
        while not (found := [line for line in lines if line["api"] == "chat"]):
            await asyncio.sleep(0.01)
    assert (found[0]["outcome"], found[0]["cost_usd"]) == (outcome, pytest.approx(usd))


async def test_a_short_deadline_makes_no_input_free(gateway: Any, upstream: FakeUpstream) -> None:
    """Twenty plain calls, each ended by its client: all of them are charged, and none is a failure of the upstream."""
    upstream.says(HOLD, "never")
    calls = [gateway.client.post("/chat/completions", json=a_body(False), headers=DEADLINE) for _ in range(20)]
    answers = await asyncio.gather(*calls)
    assert {answer.status_code for answer in answers} <= {504, 429}
    errors = [answer.json()["error"] for answer in answers if answer.status_code == 504]
    assert {error["code"] for error in errors} == {"client_deadline"}
    assert all("x-gateway-timeout-s" in error["message"] for error in errors)
    async with asyncio.timeout(30):
        while True:
            found = {each["limit"]: each["used"] for each in (await gateway.client.get("/key")).json()["limits"]}
            if found["concurrency"] == 0 and found["requests_per_day"] == len(upstream.calls):
                break
    assert found["tokens_per_day"] >= len(upstream.calls) * (INPUT + MOST)
    [target_state] = gateway.gateway.router.target_states
    assert target_state.breaker.closed
    assert await gateway.metric("gateway_attempts_total", result="client_deadline") == len(upstream.calls)


async def test_a_deadline_that_passes_while_connecting_costs_nothing(start: Any, limited: Limited) -> None:
    """Nothing was sent, so nothing can have been used."""
    config = limited({"tokens_per_day": 10**6, "requests_per_day": 10, "concurrency": 9})
    config["upstreams"]["u0"]["base_url"] = "http://192.0.2.1:9/v1"  # an address that nobody has (RFC 5737)
    config["models"]["chat"]["timeouts"] |= {"connect_s": 20}
    gateway = await start(config)
    answer = await gateway.client.post("/chat/completions", json=a_body(False), headers=DEADLINE)
    assert answer.status_code in (502, 504)
    assert await until_charged(gateway) == 0


def a_row(ending: AttemptEnding) -> str:
    shown = {
        "estimated": "estimated", "nothing": "0", "arrived": "what arrived", "reserved": "what was reserved",
    }  # fmt: skip
    outcomes = dict.fromkeys((f"`{ending.outcome}`", f"`{ending.cut_outcome}`"))
    cells = (ending.name, shown[ending.input], shown[ending.plain_output], shown[ending.stream_output])
    return f"| {' | '.join((*cells, ' or '.join(outcomes)))} |"


def test_the_page_shows_the_table_of_the_code() -> None:
    page = (Path(__file__).parents[3] / "docs" / "teams.md").read_text("utf-8")
    rows = "\n".join(map(a_row, ENDINGS))
    assert rows in page, rows


def test_every_outcome_has_an_ending() -> None:
    outcomes = {outcome for ending in ENDINGS for outcome in (ending.outcome, ending.cut_outcome)}
    assert outcomes == {"ok", "client_gone", "client_deadline", "blocked", "upstream_error", "timeout", "cut"}
