"""A question is retried, paced and given up; its answer becomes a row and a subject."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import orjson
import pytest

from gateway.core.errors import CannotRun
from gateway.core.exchange import Target, Usage
from gateway.core.prices import Price, Prices
from gateway.fake import HOLD, FakeUpstream, Fault
from gateway.features.replay.datasets.datasets import item_of
from gateway.features.replay.sending.asking import (
    ReplayFailure,
    ReplayRequest,
    RequestPacer,
    RequestPacing,
    RetryingRequester,
    answered,
    completion_of,
    subject,
)
from gateway.features.targets import ReplayTarget
from gateway.scoring.http_client import GatewayClient, HttpConnections, HttpReply

SUM_ITEM = item_of({"examples": "2 + 2?", "ground_truth": "4", "cluster": "sums"}, 3).item
SUM_REQUEST = ReplayRequest("r", SUM_ITEM, ReplayTarget("one", "chat"), 2, {"model": "chat", "messages": []})
BODY = orjson.dumps({"choices": [{"index": 0, "message": {"content": "4"}, "finish_reason": "stop"}],
                     "usage": {"prompt_tokens": 1000, "completion_tokens": 500}})  # fmt: skip


def reply(status: int = 200, body: bytes = BODY, **headers: str) -> HttpReply:
    return HttpReply(status, body, headers, 0.4, "ex-1", Target("u", "m"), None)


def test_an_answer_is_a_row_with_its_cost() -> None:
    completion = completion_of(SUM_REQUEST, reply())
    assert not isinstance(completion, ReplayFailure)
    row = answered(SUM_REQUEST, reply(), completion, 9.0, Prices({"u/m": Price(2.0, 8.0)}, {}))
    assert (row.item, row.target, row.repeat, row.cluster) == (3, "one", 2, "sums")
    assert (row.outcome, row.text, row.finish_reason, row.upstream, row.model) == ("ok", "4", "stop", "u", "m")
    assert (row.input_tokens, row.output_tokens, row.exchange_id) == (1000, 500, "ex-1")
    assert row.cost_usd == pytest.approx(0.006)
    assert answered(SUM_REQUEST, reply(), completion, 9.0, Prices({}, {})).cost_usd is None


@pytest.mark.parametrize(
    ("got", "outcome", "retryable"),
    [
        (reply(400, b'{"error":{"message":"too long"}}'), "refused", False),
        (reply(429, b"{}", **{"retry-after": "7"}), "failed", True),
        (reply(503, b"down"), "failed", True),
        (reply(504, b"{}"), "timeout", True),
        (reply(408, b"{}"), "timeout", True),
        (reply(200, b"not json"), "failed", True),
        (reply(200, b'{"error":{"message":"overloaded"}}'), "failed", True),
    ],
)
def test_a_failure_has_a_reason_and_may_be_retryable(got: HttpReply, outcome: str, retryable: bool) -> None:
    failure = completion_of(SUM_REQUEST, got)
    assert isinstance(failure, ReplayFailure)
    assert (failure.outcome, failure.retryable) == (outcome, retryable)
    assert failure.error


def test_a_refusal_has_the_upstreams_message_and_retry_after() -> None:
    refused = completion_of(SUM_REQUEST, reply(400, b'{"error":{"message":"too long"}}'))
    limited = completion_of(SUM_REQUEST, reply(429, b"{}", **{"retry-after": "7"}))
    odd = completion_of(SUM_REQUEST, reply(429, b"{}", **{"retry-after": "Wed, 21 Oct"}))
    assert isinstance(refused, ReplayFailure)
    assert isinstance(limited, ReplayFailure)
    assert isinstance(odd, ReplayFailure)
    assert refused.error == "HTTP 400: too long"
    assert (limited.retry_after_s, odd.retry_after_s) == (7.0, None)


def test_scorers_see_question_answer_and_reference() -> None:
    completion = completion_of(SUM_REQUEST, reply())
    assert not isinstance(completion, ReplayFailure)
    judged = subject(SUM_REQUEST, answered(SUM_REQUEST, reply(), completion, 9.0, Prices({}, {})))
    assert (judged.completion.text, judged.reference, judged.request) == ("4", "4", SUM_REQUEST.body)
    assert judged.exchange.usage == Usage(1000, 500)
    assert judged.exchange.id == SUM_REQUEST.answer_id


def test_the_id_depends_on_replay_item_target_and_repeat() -> None:
    assert SUM_REQUEST.answer_id == ReplayRequest("r", SUM_ITEM, SUM_REQUEST.target, 2, {}).answer_id
    target = SUM_REQUEST.target
    others = [
        ReplayRequest("s", SUM_ITEM, target, 2, {}),
        ReplayRequest("r", SUM_ITEM, target, 1, {}),
        ReplayRequest("r", SUM_ITEM, ReplayTarget("two", "chat"), 2, {}),
    ]
    assert len({SUM_REQUEST.answer_id, *(o.answer_id for o in others)}) == 4


ITEM = item_of({"examples": "hi"}, 1).item
TARGET = ReplayTarget("one", "chat")
REQUEST = ReplayRequest("r", ITEM, TARGET, 1, {"model": "chat", "messages": [{"role": "user", "content": "hi"}]})


class Sleeper:
    """Sleeps no time, and remembers how long it was to."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(0)


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    """Upstream that takes the gateway's place."""
    async with FakeUpstream() as upstream:
        upstream.says("hello")
        yield upstream


@pytest.fixture
async def connections() -> AsyncIterator[HttpConnections]:
    """HTTP connections, closed after the test."""
    async with HttpConnections() as connections:
        yield connections


def asker(
    upstream: FakeUpstream, connections: HttpConnections, sleep: Sleeper, pace: RequestPacing | None = None
) -> RetryingRequester:
    client = GatewayClient(upstream.base_url, None, connections)
    return RetryingRequester(client, pace or RequestPacing(), Prices({}, {}), sleep, lambda: 12.0)


async def test_a_retryable_failure_is_retried_with_backoff(upstream, connections) -> None:
    upstream.then(Fault.status(503), Fault.reset(), Fault.status(500))
    sleep = Sleeper()
    answer = await asker(upstream, connections, sleep).ask(REQUEST)
    assert (answer.outcome, answer.text, answer.asked) == ("ok", "hello", 12.0)
    assert len(upstream.calls) == 4
    assert [0.5 * base <= s <= 1.5 * base for s, base in zip(sleep.slept, (0.5, 1.0, 2.0), strict=True)] == [True] * 3
    again = Sleeper()
    upstream.then(Fault.status(503), Fault.reset(), Fault.status(500))
    await asker(upstream, connections, again).ask(REQUEST)
    assert again.slept == sleep.slept, "the same question waits the same, in every run"


async def test_after_the_last_attempt_the_last_failure_is_kept(upstream, connections) -> None:
    upstream.always(Fault.status(503))
    answer = await asker(upstream, connections, Sleeper(), RequestPacing(attempts=3)).ask(REQUEST)
    assert (answer.outcome, answer.status) == ("failed", 503)
    assert len(upstream.calls) == 3


async def test_a_refusal_is_not_retried(upstream, connections) -> None:
    upstream.answers(400, b'{"error":{"message":"too long"}}')
    answer = await asker(upstream, connections, Sleeper()).ask(REQUEST)
    assert (answer.outcome, answer.error) == ("refused", "HTTP 400: too long")
    assert len(upstream.calls) == 1


async def test_retry_after_holds_only_its_own_target(upstream, connections) -> None:
    upstream.then(Fault.rate_limited(retry_after=30))
    sleep = Sleeper()
    made = asker(upstream, connections, sleep)
    await made.ask(REQUEST)
    assert sleep.slept[0] == pytest.approx(30, abs=5)
    await made.ask(ReplayRequest("r", ITEM, ReplayTarget("two", "chat"), 1, REQUEST.body))
    assert len(sleep.slept) == 1


async def test_a_late_answer_is_a_timeout(upstream, connections) -> None:
    upstream.says(HOLD)
    answer = await asker(upstream, connections, Sleeper(), RequestPacing(deadline_s=0.1, attempts=1)).ask(REQUEST)
    assert answer.outcome == "timeout"


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_a_permanent_error_ends_the_replay(upstream, connections, status: int) -> None:
    upstream.answers(status, b'{"error":{"message":"no such key"}}')
    with pytest.raises(CannotRun, match=f"one refuses all requests: HTTP {status}: no such key"):
        await asker(upstream, connections, Sleeper()).ask(REQUEST)


async def test_all_targets_share_the_rate() -> None:
    sleep = Sleeper()
    turns = RequestPacer(2.0, sleep, lambda: 100.0)
    for target in ("a", "b", "a", "b"):
        await turns.turn(target)
    assert sleep.slept == [0.5, 1.0, 1.5]


async def test_a_header_names_the_forced_target(upstream, connections) -> None:
    from gateway.core.exchange import Target

    forced = ReplayTarget("u/m", "chat", Target("u", "m"))
    await asker(upstream, connections, Sleeper()).ask(ReplayRequest("r", ITEM, forced, 1, REQUEST.body))
    assert upstream.calls[0].header("x-gateway-target") == "u/m"
    assert upstream.calls[0].header("x-gateway-sample") == "never"
