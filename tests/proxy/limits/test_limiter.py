"""Limits as a client sees them: calls that pass or are refused, their cost however they end, and the gauge."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any

import openai
import pytest
from fixtures.limit_calls import LimitCalls
from fixtures.metric_samples import sample_sum
from prometheus_client import CollectorRegistry

from gateway.config.limits import Budgets
from gateway.core.errors import QuotaExceeded
from gateway.core.limits import Limit, LimitScope
from gateway.fake import HOLD, FakeUpstream, Fault
from gateway.observability.proxy_metrics import ProxyMetrics
from gateway.proxy.limits.book import LeaseBook
from gateway.proxy.limits.charge import Charge
from gateway.proxy.limits.estimate import ModelEstimate
from gateway.proxy.limits.lease import Lease
from gateway.proxy.limits.limiter import MOST_SERIES, Limiter, LimitGauges
from gateway.proxy.limits.patience import Patience
from gateway.proxy.request.call import Call, Caller
from gateway.stream.leases import LeaseGrant

Limited = Callable[..., dict[str, Any]]
Start = Callable[..., Any]

SCOPES = {"key": "key tester", "person": "person ann", "team": "team search", "organization": "organization acme"}
MESSAGES = [{"role": "user", "content": "hi"}]


async def used(gateway: Any, limit: str) -> float:
    """The used amount of one of the key's limits, as GET /v1/key says."""
    limits = (await gateway.client.get("/key")).json()["limits"]
    return next(each["used"] for each in limits if each["limit"] == limit)


async def until_used(gateway: Any, limit: str, amount: float) -> None:
    async with asyncio.timeout(30):
        while await used(gateway, limit) != pytest.approx(amount):
            pass


@pytest.mark.parametrize("scope", list(SCOPES))
async def test_the_call_beyond_a_limit_is_refused_with_its_scope(start: Start, limited: Limited, scope: str) -> None:
    gateway = await start(limited(**{scope: {"requests_per_day": 5}}))
    statuses = [(await gateway.chat()).status_code for _ in range(6)]
    assert statuses == [200] * 5 + [429]
    refused = await gateway.chat()
    error = refused.json()["error"]
    assert (error["scope"], error["limit"], error["amount"], error["used"]) == (SCOPES[scope], "requests_per_day", 5, 5)
    assert (error["type"], error["code"]) == ("insufficient_quota", "insufficient_quota")
    assert error["reset"].endswith("T00:00:00Z")
    assert SCOPES[scope] in error["message"]
    assert int(refused.headers["retry-after"]) <= 86_401
    assert refused.headers["x-should-retry"] == "false"
    assert await gateway.metric("gateway_limit_refused_total", kind=scope, limit="requests_per_day") == 2
    assert await gateway.metric("gateway_requests_total", outcome="ok") == 5
    assert await gateway.metric("gateway_requests_total") == 5, "a refused call is not a failure of its model"


async def test_a_limit_of_a_minute_says_when_to_come_back(start: Start, limited: Limited) -> None:
    gateway = await start(limited({"requests_per_minute": 2, "tokens_per_minute": 10_000}), limits_shift_s=1e-3)
    answers = [await gateway.chat(max_tokens=10) for _ in range(3)]
    first, refused = answers[0], answers[-1]
    assert first.headers["x-ratelimit-limit-requests"] == "2"
    assert int(first.headers["x-ratelimit-remaining-requests"]) <= 1
    assert first.headers["x-ratelimit-limit-tokens"] == "10000"
    assert 9_900 < int(first.headers["x-ratelimit-remaining-tokens"]) < 10_000
    if refused.status_code == 200:
        pytest.skip("the minute ended between the calls")
    assert refused.status_code == 429
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    assert 1 <= int(refused.headers["retry-after"]) <= 61
    assert refused.headers["x-ratelimit-reset-requests"].endswith("s")
    assert "x-should-retry" not in refused.headers


async def test_anthropic_clients_are_refused_in_their_format(start: Start, limited: Limited) -> None:
    gateway = await start(limited({"requests_per_day": 1}))
    body = {"model": "chat", "max_tokens": 5, "messages": MESSAGES}
    assert (await gateway.client.post("/messages", json=body)).status_code == 200
    refused = (await gateway.client.post("/messages", json=body)).json()
    assert refused["type"] == "error"
    assert (refused["error"]["type"], refused["error"]["scope"]) == ("rate_limit_error", "key tester")


async def test_tokens_are_counted_as_the_upstream_reports_them(start: Start, limited: Limited) -> None:
    gateway = await start(limited({"tokens_per_day": 10_000}))
    total = 0
    for _ in range(4):
        total += (await gateway.chat("one two three", max_tokens=50)).json()["usage"]["total_tokens"]
    async with gateway.stream("four five", max_tokens=50) as response:
        await response.aread()
    [last] = (await gateway.recorded(5))[-1:]
    total += last.usage.input_tokens + last.usage.output_tokens
    await until_used(gateway, "tokens_per_day", total)


@pytest.mark.parametrize("status", [402, 429])
async def test_the_sum_of_all_calls_stays_within_a_budget(start: Start, limited: Limited, status: int) -> None:
    """The fake's answer has 5 tokens at 10 $ a million, so a call with max_tokens 5 costs 51 or 52 µ$."""
    gateway = await start(limited(team={"usd_per_month": 0.001}, budgets={"status": status}))
    answers = [await gateway.chat(max_tokens=5) for _ in range(20)]
    passed = [answer for answer in answers if answer.status_code == 200]
    assert {answer.status_code for answer in answers} == {200, status}
    usages = [answer.json()["usage"] for answer in passed]
    cost = sum(u["prompt_tokens"] * 1e-6 + u["completion_tokens"] * 1e-5 for u in usages)
    assert 0.0009 < cost <= 0.001
    refused = answers[-1].json()["error"]
    assert (refused["scope"], refused["limit"], refused["amount"]) == ("team search", "usd_per_month", 0.001)
    await until_used(gateway, "usd_per_month", cost)


async def test_a_call_in_flight_counts_until_its_stream_ends(
    start: Start, limited: Limited, upstream: FakeUpstream
) -> None:
    upstream.says("one ", HOLD, "two ")
    gateway = await start(limited(organization={"concurrency": 2}))
    loop = asyncio.get_running_loop()

    async def streamed() -> int:
        async with gateway.stream() as response:
            await response.aread()
            return int(response.status_code)

    held = [loop.create_task(streamed()) for _ in range(2)]
    await upstream.until(lambda u: len(u.calls) == 2)
    refused = await gateway.chat()
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
    assert refused.json()["error"]["limit"] == "concurrency"
    upstream.release()
    assert [await call for call in held] == [200, 200]
    upstream.says("free")
    assert (await gateway.chat()).status_code == 200
    await until_used(gateway, "concurrency", 0)


async def test_a_client_that_leaves_pays_for_what_was_produced(
    start: Start, limited: Limited, upstream: FakeUpstream
) -> None:
    upstream.says(*["word "] * 40, HOLD, "end")
    gateway = await start(limited({"tokens_per_day": 10_000, "concurrency": 1}))
    async with gateway.stream("x" * 400, max_tokens=500) as response:
        async for line in response.aiter_lines():
            if line.count("word") and response.num_bytes_downloaded > 40 * 100:
                break
    async with asyncio.timeout(30):
        while await used(gateway, "concurrency"):
            pass
    assert 100 < await used(gateway, "tokens_per_day") < 400


@pytest.mark.parametrize(
    ("fault", "requests"), [(Fault.status(400), 1), (Fault.status(503), 1), (Fault.context_length(), 1)], ids=str
)
async def test_a_refused_call_costs_no_tokens(
    start: Start, limited: Limited, upstream: FakeUpstream, fault: Fault, requests: int
) -> None:
    upstream.always(fault)
    limits = {"tokens_per_day": 10_000, "usd_per_day": 1, "requests_per_day": 10, "concurrency": 1}
    gateway = await start(limited(limits))
    assert (await gateway.chat(max_tokens=100)).status_code >= 400
    await until_used(gateway, "requests_per_day", requests)
    for limit in ("tokens_per_day", "usd_per_day", "concurrency"):
        await until_used(gateway, limit, 0)


async def test_a_call_that_reaches_no_upstream_does_not_count(
    start: Start, limited: Limited, upstream: FakeUpstream
) -> None:
    await upstream.stop()
    gateway = await start(limited({"requests_per_day": 10, "tokens_per_day": 1000}, chat={"retries": {"attempts": 1}}))
    assert (await gateway.chat(max_tokens=10)).status_code == 502
    await until_used(gateway, "requests_per_day", 0)
    await until_used(gateway, "tokens_per_day", 0)


async def test_a_fallback_is_charged_once(start: Start, limited: Limited, upstream: FakeUpstream) -> None:
    async with FakeUpstream() as second:
        upstream.always(Fault.status(503))
        gateway = await start(limited({"requests_per_day": 10, "tokens_per_day": 1000}, upstreams=(upstream, second)))
        usage = (await gateway.chat(max_tokens=10)).json()["usage"]
        await until_used(gateway, "requests_per_day", 1)
        await until_used(gateway, "tokens_per_day", usage["total_tokens"])


CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "completions": ("/completions", {"prompt": "one two", "max_tokens": 9}),
    "embeddings": ("/embeddings", {"input": "one two three"}),
    "responses": ("/responses", {"input": "one two", "max_output_tokens": 9}),
    "messages": ("/messages", {"messages": MESSAGES, "max_tokens": 9}),
    "rerank": ("/rerank", {"query": "one", "documents": ["two", "three"]}),
    "speech": ("/audio/speech", {"input": "one two", "voice": "alloy"}),
}


@pytest.mark.parametrize("api", list(CALLS))
async def test_every_api_counts(start: Start, limited: Limited, api: str) -> None:
    gateway = await start(limited({"requests_per_day": 2, "tokens_per_day": 100_000}))
    path, body = CALLS[api]
    assert [(await gateway.client.post(path, json={"model": "chat", **body})).status_code for _ in range(3)] == [
        200, 200, 429,
    ]  # fmt: skip
    await until_used(gateway, "requests_per_day", 2)
    assert await used(gateway, "tokens_per_day") > 0


async def test_forms_and_other_paths_count_as_requests(start: Start, limited: Limited, upstream: FakeUpstream) -> None:
    gateway = await start(limited({"requests_per_day": 2, "concurrency": 5}, passthrough="u0"))
    form = {"model": (None, "chat"), "file": ("a.wav", b"sound")}
    assert (await gateway.client.post("/audio/transcriptions", files=form)).status_code == 200
    passed = len(upstream.calls)
    assert (await gateway.client.get("/files")).status_code != 429
    assert len(upstream.calls) == passed + 1
    refused = await gateway.client.get("/files")
    assert refused.json()["error"]["limit"] == "requests_per_day"
    assert (await gateway.client.post("/audio/transcriptions", files=form)).status_code == 429
    assert len(upstream.calls) == passed + 1
    await until_used(gateway, "concurrency", 0)


@pytest.mark.parametrize(("policy", "tokens"), [("refuse", None), ("count_tokens", True), ("free", False)])
async def test_a_model_without_a_price_is_a_policy(
    start: Start, limited: Limited, policy: str, tokens: bool | None
) -> None:
    limits = {"usd_per_month": 1, "tokens_per_day": 1000, "requests_per_day": 5}
    gateway = await start(limited(limits, prices=None, budgets={"unknown_price": policy}))
    answer = await gateway.chat(max_tokens=5)
    if tokens is None:
        assert answer.status_code == 403
        assert answer.json()["error"]["code"] == "unknown_price"
        assert "u0/model-u0" in answer.json()["error"]["message"]
        return
    assert answer.status_code == 200
    await until_used(gateway, "requests_per_day", 1)
    await until_used(gateway, "usd_per_month", 0)
    await until_used(gateway, "tokens_per_day", answer.json()["usage"]["total_tokens"] if tokens else 0)


async def test_other_paths_cost_an_unknown_price(start: Start, limited: Limited) -> None:
    gateway = await start(limited({"usd_per_month": 1}, passthrough="u0"))
    assert (await gateway.client.post("/batches", json={})).status_code == 403
    assert (await gateway.client.get("/files")).status_code != 403


async def test_a_call_that_can_never_pass_gets_that_answer(
    start: Start, limited: Limited, upstream: FakeUpstream
) -> None:
    gateway = await start(limited({"tokens_per_minute": 1000}))
    refused = await gateway.chat(max_tokens=5000)
    assert refused.status_code == 429
    assert "can never pass" in refused.json()["error"]["message"]
    assert refused.headers["x-should-retry"] == "false"
    assert "retry-after" not in refused.headers
    assert (await gateway.chat()).status_code == 200, "without max_tokens, the estimate is within the limit"
    assert len(upstream.calls) == 1


@pytest.mark.parametrize(
    "fields",
    [{"max_tokens": 600}, {"max_tokens": 10, "max_completion_tokens": 600}, {"max_tokens": 60, "n": 10}],
    ids=str,
)
async def test_all_that_a_call_may_use_is_reserved(start: Start, limited: Limited, fields: dict[str, Any]) -> None:
    gateway = await start(limited({"tokens_per_day": 500}))
    assert "can never pass" in (await gateway.chat(**fields)).json()["error"]["message"]
    several = {"model": "chat", "prompt": ["one"] * 10, "max_tokens": 60}
    assert "can never pass" in (await gateway.client.post("/completions", json=several)).json()["error"]["message"]


async def test_numbers_are_reserved_as_the_upstream_reads_them(start: Start, limited: Limited) -> None:
    gateway = await start(limited({"tokens_per_day": 500}))
    for fields in ({"max_tokens": 600.0}, {"max_tokens": 60, "n": 10.0}, {"max_tokens": 600, "max_output_tokens": 1}):
        assert "can never pass" in (await gateway.chat(**fields)).json()["error"]["message"], fields
    responses = {"model": "chat", "input": "x", "max_output_tokens": 600, "max_tokens": 1}
    assert "can never pass" in (await gateway.client.post("/responses", json=responses)).json()["error"]["message"]
    batch = {"model": "chat", "messages": [MESSAGES] * 20, "max_tokens": 60}
    refused = await gateway.client.post("/chat/completions/batch", json=batch)
    assert "can never pass" in refused.json()["error"]["message"]
    assert (await gateway.chat(max_tokens=20.0)).status_code == 200
    for wrong in ({"max_tokens": "20"}, {"max_completion_tokens": 20.5}, {"n": "2"}):
        refused = await gateway.chat(**wrong)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, next(iter(wrong)))


@pytest.mark.parametrize(
    ("path", "fields", "name"),
    [
        ("/chat/completions", {"messages": MESSAGES}, "max_completion_tokens"),
        ("/chat/completions", {"messages": MESSAGES, "max_completion_tokens": 0}, "max_completion_tokens"),
        ("/completions", {"prompt": "x"}, "max_tokens"),
        ("/responses", {"input": "x"}, "max_output_tokens"),
        ("/messages", {"messages": MESSAGES}, "max_completion_tokens"),
    ],
)
async def test_requests_without_a_limit_get_the_default(
    start: Start, limited: Limited, upstream: FakeUpstream, path: str, fields: dict[str, Any], name: str
) -> None:
    """The default is sent under the name that this upstream reads, for keys with a limit of tokens or dollars alone."""
    budgets = {"default_max_tokens": 7}
    gateway = await start(limited({"tokens_per_day": 10_000}, budgets=budgets))
    assert (await gateway.client.post(path, json={"model": "chat", **fields})).status_code == 200
    assert upstream.received[-1].json[name] == 7
    if path == "/chat/completions":
        assert (await gateway.chat(max_tokens=3)).status_code == 200
        assert "max_completion_tokens" not in upstream.received[-1].json
        rated = await start(limited({"requests_per_minute": 100}, budgets=budgets))
        assert (await rated.chat()).status_code == 200
        assert "max_completion_tokens" not in upstream.received[-1].json


async def test_an_estimate_alone_refuses_no_call_permanently(start: Start, limited: Limited) -> None:
    """1000 tokens of output are assumed at first: 0.01 $."""
    gateway = await start(limited({"usd_per_month": 0.001, "tokens_per_day": 500}))
    assert (await gateway.chat()).status_code == 200


async def test_a_caller_without_limits_has_none(start: Start, limited: Limited) -> None:
    gateway = await start(limited())
    assert (await gateway.chat()).status_code == 200
    assert (await gateway.client.get("/key")).json()["limits"] == []
    assert await gateway.metric("gateway_limit_waits_total") == 0


async def test_a_reload_forgets_nothing_that_was_spent(start: Start, limited: Limited) -> None:
    gateway = await start(limited({"requests_per_day": 3}))
    assert [(await gateway.chat()).status_code for _ in range(2)] == [200, 200]
    before = gateway.gateway
    gateway.write({**limited({"requests_per_day": 4}), "stream": before.config.stream.model_dump(exclude_unset=True)})
    await gateway.until(lambda: gateway.gateway is not before)
    assert [(await gateway.chat()).status_code for _ in range(3)] == [200, 200, 429]


async def test_a_second_gateway_shares_the_limit(start: Start, limited: Limited) -> None:
    config = limited({"requests_per_day": 10})
    first, second = await start(config), await start(config)
    answers = [(await each.chat()).status_code for _ in range(8) for each in (first, second)]
    assert answers.count(200) <= 10
    async with asyncio.timeout(30):  # what one of them has leased too much comes back
        while answers.count(200) < 10:
            answers += [(await each.chat()).status_code for each in (first, second)]
    assert answers.count(200) == 10


async def test_the_stop_of_a_gateway_gives_back_what_it_has_not_spent(
    start: Start, limited: Limited, upstream: FakeUpstream
) -> None:
    config = limited({"tokens_per_day": 100_000})
    second = await start(config)
    async with contextlib.AsyncExitStack() as stack:
        first = await start(config, stack=stack)
        total = (await first.chat(max_tokens=4000)).json()["usage"]["total_tokens"]
    await until_used(second, "tokens_per_day", total)


async def test_the_openai_client_waits_for_the_next_minute(
    start: Start, limited: Limited, upstream: FakeUpstream
) -> None:
    """The minute ends some seconds after the start. Should it end between the first calls, more of them pass."""
    gateway = await start(limited({"requests_per_minute": 5}), limits_shift_s=58 - time.time() % 60)
    async with openai.AsyncOpenAI(base_url=gateway.base_url, api_key="test-key", max_retries=0) as client:
        refused: openai.RateLimitError | None = None
        while refused is None and len(upstream.calls) <= 10:
            try:
                await client.chat.completions.create(model="chat", messages=MESSAGES)  # type: ignore[arg-type]
            except openai.RateLimitError as error:
                refused = error
        assert refused is not None
        assert (refused.code, refused.type) == ("rate_limit_exceeded", "rate_limit_error")
        assert refused.body["scope"] == "key tester"  # type: ignore[index]
        assert len(upstream.calls) in (5, 10)
        patient = client.with_options(max_retries=2)
        answer = await patient.chat.completions.create(model="chat", messages=MESSAGES)  # type: ignore[arg-type]
        assert answer.choices[0].message.content == "Hello from the fake upstream."


async def test_the_openai_client_does_not_repeat_what_only_money_heals(
    start: Start, limited: Limited, upstream: FakeUpstream
) -> None:
    gateway = await start(limited({"usd_per_month": 0.00008}))
    async with openai.AsyncOpenAI(base_url=gateway.base_url, api_key="test-key", max_retries=2) as client:
        asked: Any = {"model": "chat", "messages": MESSAGES, "max_tokens": 5}
        await client.chat.completions.create(**asked)
        with pytest.raises(openai.RateLimitError) as refused:
            await client.chat.completions.create(**asked)
    assert refused.value.code == "insufficient_quota"
    assert await gateway.metric("gateway_refused_total", code="insufficient_quota") == 1, "asked once"
    assert len(upstream.calls) == 1


async def test_a_reservation_is_settled_once(start: Start, limited: Limited) -> None:
    gateway = await start(limited({"requests_per_day": 10, "tokens_per_day": 1000, "usd_per_day": 1}))
    limiter = gateway.gateway.limiter
    caller = gateway.gateway.keys.caller({b"x-api-key": b"test-key"})
    call = Call("id", 0.0, 0.0, caller, "chat", b"POST", b"/chat/completions", "chat", False, b"{}", {"max_tokens": 50})
    reservation = await limiter.wait(caller, call)
    for _ in range(3):
        limiter.settle(reservation, Charge(10, 0, 20, 0, 0.00021, False))
    limiter.settle(reservation, None)
    await until_used(gateway, "requests_per_day", 1)
    await until_used(gateway, "tokens_per_day", 30)
    await until_used(gateway, "usd_per_day", 0.00021)


class Replies:
    """A stream server that grants what the test says, exchange by exchange."""

    def __init__(self, *replies: Callable[[], None]) -> None:
        self.replies = list(replies)

    async def next_exchange(self, patience: Patience) -> bool:
        self.replies.pop(0)()
        return True


async def test_a_call_whose_grant_is_taken_by_another_asks_again() -> None:
    """The call is refused only when the server refuses."""
    scope = LimitScope("key", "web", (Limit("requests", 1e6, "day"), Limit("tokens", 1e6, "day")))
    caller = Caller("web", id="web", scopes=(scope,))
    call = Call("id", 0.0, 0.0, caller, "chat", b"POST", b"/chat/completions", "chat", False, b"{}", {"max_tokens": 50})
    book = LeaseBook()
    requests, tokens = book.account("web", caller.scopes).leases
    tokens.free = 100

    def give(lease: Lease, n: int, left: int = 10**6) -> None:
        lease.report(book.now())
        book.urgent.discard(lease)
        lease.accept(LeaseGrant(n, left, 0, 0, 0), book.now())

    def while_another_takes_the_tokens() -> None:
        give(requests, 1)
        LimitCalls(tokens).reserve(60)

    replies = Replies(while_another_takes_the_tokens, lambda: give(tokens, 60))
    metrics = ProxyMetrics(CollectorRegistry())
    limiter = Limiter(book, replies, {"chat": ModelEstimate(0, 0, None)}, Budgets(), metrics)
    reservation = await limiter.wait(caller, call)
    assert (replies.replies, reservation.needs[:2]) == ([], (1, 51))
    replies.replies = [lambda: give(requests, 1), lambda: give(tokens, 1, left=1)]
    with pytest.raises(QuotaExceeded):
        await limiter.wait(caller, call)


async def test_many_calls_at_once_far_below_their_limits_all_pass(start: Start, limited: Limited) -> None:
    limits = {"requests_per_minute": 10**9, "tokens_per_day": 10**12, "concurrency": 10**5}
    gateway = await start(limited(limits, {**limits, "usd_per_month": 10**6}))
    for n in (1, 5, 40, 1, 40):
        answers = await asyncio.gather(*(gateway.chat(max_tokens=n * 10) for _ in range(n)))
        assert {answer.status_code for answer in answers} == {200}


@pytest.mark.parametrize("stream", [False, True])
async def test_the_gateways_own_account_at_the_upstream_is_not_the_callers(
    start: Start, limited: Limited, upstream: FakeUpstream, stream: bool
) -> None:
    """The upstream's x-ratelimit headers are replaced by those of the caller's own limits, where there are any."""
    theirs = {"x-ratelimit-limit-requests": "7", "x-ratelimit-remaining-tokens": "7"}
    chunk = b'data: {"choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    if stream:
        upstream.streams([chunk], headers=theirs)
    else:
        upstream.answers(200, b'{"object":"chat.completion","choices":[{"message":{"content":"hi"}}]}', theirs)
    ours = (await (await start(limited({"requests_per_minute": 50}))).chat(stream=stream)).headers
    assert (ours["x-ratelimit-limit-requests"], "x-ratelimit-remaining-tokens" in ours) == ("50", False)
    unlimited = (await (await start(limited({"requests_per_day": 50}))).chat(stream=stream)).headers
    assert {name: unlimited[name] for name in theirs} == theirs


async def test_shadows_are_not_charged_to_the_caller(start: Start, limited: Limited, upstream: FakeUpstream) -> None:
    async with FakeUpstream() as other:
        arms = {"control": {"upstream": "u0", "model": "model-u0"}, "candidate": {"upstream": "u1", "model": "m"}}
        experiment = {"swap": {"model": "chat", "mode": "shadow", "shadow": 1.0, "repeat_control": 0.5, **arms}}
        config = limited({"requests_per_day": 50, "tokens_per_day": 10_000}, upstreams=(upstream, other))
        config["models"]["chat"]["fallback"] = []
        gateway = await start({**config, "experiments": experiment})
        answers = [await gateway.chat(max_tokens=20) for _ in range(6)]
        await other.until(lambda u: len(u.calls) >= 1)
    await until_used(gateway, "requests_per_day", 6)
    await until_used(gateway, "tokens_per_day", sum(a.json()["usage"]["total_tokens"] for a in answers))


BUDGET, RATE = Limit("usd", 500.0, "month"), Limit("requests", 60.0, "minute")


class Gauges:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.gauges = LimitGauges(ProxyMetrics(self.registry))

    def value(self, scope: str, limit: str) -> float | None:
        return sample_sum(self.registry, "gateway_limit_used_ratio", scope=scope, limit=limit)


@pytest.fixture
def gauges() -> Gauges:
    """The gauges of limits."""
    return Gauges()


def team(name: str) -> LimitScope:
    return LimitScope("team", name, (BUDGET, RATE))


def test_each_limit_of_a_scope_has_its_share(gauges: Gauges) -> None:
    gauges.gauges.show([(team("search"), BUDGET, 0.81), (team("search"), RATE, 0.05)])
    assert gauges.value("team search", "usd_per_month") == 0.81
    assert gauges.value("team search", "requests_per_minute") == 0.05


def test_a_limit_whose_window_has_ended_is_unused(gauges: Gauges) -> None:
    gauges.gauges.show([(team("search"), RATE, 1.0)])
    gauges.gauges.show([])
    assert gauges.value("team search", "requests_per_minute") == 0.0


def test_the_fullest_of_many_limits_represents_the_others(gauges: Gauges) -> None:
    """An alert then fires for each of them."""
    first = [(team(f"t{n}"), BUDGET, 0.1) for n in range(MOST_SERIES)]
    gauges.gauges.show([*first, (team("one more"), BUDGET, 0.3), (team("and another"), BUDGET, 0.9)])
    assert gauges.value("other", "usd_per_month") == 0.9
    assert gauges.value("team one more", "usd_per_month") is None
    gauges.gauges.show(first)
    assert gauges.value("other", "usd_per_month") == 0.0
