"""One question is asked until it is answered, refused or given up: over a real socket, with a clock of the test's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.core.prices import Prices
from gateway.evals.http_client import GatewayClient, HttpConnections
from gateway.evals.replay.answers import ReplayRequest
from gateway.evals.replay.asking import Misconfigured, RequestPacer, RequestPacing, RetryingRequester
from gateway.evals.replay.design import ReplayTarget
from gateway.evals.replay.items import item_of
from gateway.fake import HOLD, FakeUpstream, Fault

ITEM = item_of({"examples": "hi"}, 1).item
TARGET = ReplayTarget("one", "chat")
ASK = ReplayRequest("r", ITEM, TARGET, 1, {"model": "chat", "messages": [{"role": "user", "content": "hi"}]})


class Sleeper:
    """Sleeps no time, and remembers how long it was to."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(0)


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    """It stands where the gateway stands."""
    async with FakeUpstream() as upstream:
        upstream.says("hello")
        yield upstream


@pytest.fixture
async def connections() -> AsyncIterator[HttpConnections]:
    async with HttpConnections() as connections:
        yield connections


def asker(
    upstream: FakeUpstream, connections: HttpConnections, sleep: Sleeper, pace: RequestPacing | None = None
) -> RetryingRequester:
    client = GatewayClient(upstream.base_url, None, connections)
    return RetryingRequester(client, pace or RequestPacing(), Prices({}, {}), sleep, lambda: 12.0)


async def test_a_failure_that_passes_is_asked_again_later_and_later(upstream, connections) -> None:
    upstream.then(Fault.status(503), Fault.reset(), Fault.status(500))
    sleep = Sleeper()
    answer = await asker(upstream, connections, sleep).ask(ASK)
    assert (answer.outcome, answer.text, answer.asked) == ("ok", "hello", 12.0)
    assert len(upstream.calls) == 4
    assert [0.5 * base <= s <= 1.5 * base for s, base in zip(sleep.slept, (0.5, 1.0, 2.0), strict=True)] == [True] * 3
    again = Sleeper()
    upstream.then(Fault.status(503), Fault.reset(), Fault.status(500))
    await asker(upstream, connections, again).ask(ASK)
    assert again.slept == sleep.slept, "the same question waits the same, in every run"


async def test_it_gives_up_after_its_attempts_and_says_the_last_failure(upstream, connections) -> None:
    upstream.always(Fault.status(503))
    answer = await asker(upstream, connections, Sleeper(), RequestPacing(attempts=3)).ask(ASK)
    assert (answer.outcome, answer.status) == ("failed", 503)
    assert len(upstream.calls) == 3


async def test_a_refusal_is_not_asked_again(upstream, connections) -> None:
    upstream.answers(400, b'{"error":{"message":"too long"}}')
    answer = await asker(upstream, connections, Sleeper()).ask(ASK)
    assert (answer.outcome, answer.error) == ("refused", "HTTP 400: too long")
    assert len(upstream.calls) == 1


async def test_a_wait_that_is_asked_for_holds_that_target_and_no_other(upstream, connections) -> None:
    upstream.then(Fault.rate_limited(retry_after=30))
    sleep = Sleeper()
    made = asker(upstream, connections, sleep)
    await made.ask(ASK)
    assert sleep.slept[0] == pytest.approx(30, abs=5)
    await made.ask(ReplayRequest("r", ITEM, ReplayTarget("two", "chat"), 1, ASK.body))
    assert len(sleep.slept) == 1


async def test_a_late_answer_is_a_timeout(upstream, connections) -> None:
    upstream.says(HOLD)
    answer = await asker(upstream, connections, Sleeper(), RequestPacing(deadline_s=0.1, attempts=1)).ask(ASK)
    assert answer.outcome == "timeout"


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_what_every_further_question_would_meet_too_ends_it(upstream, connections, status: int) -> None:
    upstream.answers(status, b'{"error":{"message":"no such key"}}')
    with pytest.raises(Misconfigured, match=f"one cannot be asked: HTTP {status}: no such key"):
        await asker(upstream, connections, Sleeper()).ask(ASK)


async def test_questions_are_a_rate_apart_all_targets_together() -> None:
    sleep = Sleeper()
    turns = RequestPacer(2.0, sleep, lambda: 100.0)
    for target in ("a", "b", "a", "b"):
        await turns.turn(target)
    assert sleep.slept == [0.5, 1.0, 1.5]


async def test_the_headers_name_the_target_that_must_answer(upstream, connections) -> None:
    from gateway.core.exchange import Target

    forced = ReplayTarget("u/m", "chat", Target("u", "m"))
    await asker(upstream, connections, Sleeper()).ask(ReplayRequest("r", ITEM, forced, 1, ASK.body))
    assert upstream.calls[0].header("x-gateway-target") == "u/m"
    assert upstream.calls[0].header("x-gateway-sample") == "never"
