"""One span for each call, at a real collector; its id reaches the upstream as the parent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from gateway.core.exchange import new_id, run_key
from gateway.fake import FakeUpstream, Fault
from gateway.observability.tracing import ids_of, run_ids
from gateway.proxy.recording.spans import failure_of
from gateway.proxy.relay.state import CallContext, HeldBytes

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
BODY = {"model": "chat", "messages": [{"role": "user", "content": "my own words"}]}
Configured = Callable[..., dict[str, Any]]


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the exporter of spans send every 50 ms."""
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")


@pytest.fixture
async def traced(
    start: Any, configured: Configured, upstream: FakeUpstream, second: FakeUpstream, collector: Any
) -> Any:
    """A gateway with a fallback, prices and a collector of spans."""
    otel = {"endpoint": collector.url, "headers": {"x-collector-key": "open"}}
    prices = {"as_of": "2026-11-01", "models": {"model-u0": {"input": 1.0, "output": 2.0}}}
    return await start(configured(upstream, second, otel=otel, prices=prices))


async def spans(collector: Any, n: int) -> list[Any]:
    async with asyncio.timeout(60):
        while len(collector.spans) < n:
            await asyncio.sleep(0.02)
    return list(collector.spans)


def values(span: Any, name: str) -> list[Any]:
    """The values of an attribute that is a list."""
    [found] = [a.value.array_value.values for a in span.attributes if a.key == name]
    return [getattr(each, each.WhichOneof("value")) for each in found]


async def test_a_call_is_one_span_without_content(
    traced: Any, collector: Any, otlp: Any, upstream: FakeUpstream
) -> None:
    answer = await traced.client.post("/chat/completions", json=BODY)
    (span,) = await spans(collector, 1)
    output = otlp.attributes(span)
    assert (span.name, span.kind, span.parent_span_id) == ("chat chat", 3, b"")  # 3: CLIENT
    assert output["gen_ai.operation.name"] == "chat"
    assert output["gen_ai.provider.name"] == "openai"
    assert (output["gen_ai.request.model"], output["gen_ai.response.model"]) == ("chat", "model-u0")
    assert output["gen_ai.usage.output_tokens"] == answer.json()["usage"]["completion_tokens"]
    usage = answer.json()["usage"]
    assert output["gateway.cost_usd"] == pytest.approx((usage["prompt_tokens"] + 2 * usage["completion_tokens"]) / 1e6)
    assert output["gen_ai.response.id"] == answer.headers["x-request-id"]
    assert span.trace_id.hex() == answer.headers["x-request-id"].replace("-", "")
    assert 0 < span.end_time_unix_nano - span.start_time_unix_nano < 20e9
    assert collector.headers["x-collector-key"] == "open"
    assert "my own words" not in str(span)
    sent = dict(upstream.calls[0].headers)["traceparent"]
    assert sent == f"00-{span.trace_id.hex()}-{span.span_id.hex()}-01"


async def test_a_clients_trace_continues_to_the_upstream(traced: Any, collector: Any, upstream: FakeUpstream) -> None:
    head = {"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": "vendor=1"}
    await traced.client.post("/chat/completions", json=BODY, headers=head)
    (span,) = await spans(collector, 1)
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, SPAN)
    sent = dict(upstream.calls[0].headers)
    assert sent["traceparent"] == f"00-{TRACE}-{span.span_id.hex()}-01"
    assert sent["tracestate"] == "vendor=1"


async def test_an_unsampled_trace_is_not_exported_but_continues(
    traced: Any, collector: Any, upstream: FakeUpstream
) -> None:
    await traced.client.post("/chat/completions", json=BODY, headers={"traceparent": f"00-{TRACE}-{SPAN}-00"})
    await traced.client.post("/chat/completions", json=BODY)
    (span,) = await spans(collector, 1)
    assert span.trace_id.hex() != TRACE
    assert dict(upstream.calls[0].headers)["traceparent"].startswith(f"00-{TRACE}-")


async def test_a_call_with_all_its_attempts_is_one_span(
    traced: Any, collector: Any, otlp: Any, upstream: FakeUpstream, second: FakeUpstream
) -> None:
    upstream.always(Fault.status(500))
    assert (await traced.client.post("/chat/completions", json=BODY)).status_code == 200
    second.always(Fault.status(500))
    failed = await traced.client.post("/chat/completions", json=BODY)
    missing = await traced.client.post("/chat/completions", json=BODY | {"model": "my own words"})
    assert failed.status_code >= 500
    saved, lost, unknown = await spans(collector, 3)
    assert otlp.attributes(saved)["gateway.attempts"] > 1
    assert "gateway.cost_usd" not in otlp.attributes(saved), "the other model has no price"
    tried, statuses, seconds = (values(saved, f"gateway.attempt.{each}") for each in ("targets", "statuses", "seconds"))
    assert (tried[0], tried[-1]) == ("u0/model-u0", "u1/model-u1")
    assert (set(statuses[:-1]), statuses[-1]) == ({500}, 200)
    assert all(0 < each < 20 for each in seconds)
    assert (saved.status.code, lost.status.code, unknown.status.code) == (0, 2, 2)  # 2: ERROR
    assert otlp.attributes(lost)["error.type"] == lost.status.message == failed.json()["error"]["code"]
    assert (unknown.name, otlp.attributes(unknown)["error.type"]) == ("chat", missing.json()["error"]["code"])
    assert "my own words" not in str(unknown)


async def test_a_collector_that_is_unreachable_holds_no_call_up(
    start: Any, configured: Configured, upstream: FakeUpstream
) -> None:
    gateway = await start(configured(upstream, otel={"endpoint": "http://127.0.0.1:9"}))
    for _ in range(3):
        assert (await gateway.client.post("/chat/completions", json=BODY)).status_code == 200


def test_a_client_that_leaves_is_not_a_failure() -> None:
    assert failure_of(CallContext(HeldBytes(False, 0), outcome="client_gone")) == ""
    assert failure_of(CallContext(HeldBytes(False, 0), outcome="cut", status=200)) == "cut"
    assert failure_of(CallContext(HeldBytes(False, 0), outcome="ok", status=400)) == "400"


async def test_the_calls_of_a_run_are_one_trace(traced: Any, collector: Any, upstream: FakeUpstream) -> None:
    """The parent of these spans is the span of the run, which the consumer sends under the same ids, unless the client
    traces itself.
    """
    run = {"x-gateway-run": "task-1"}
    for head in (run, run, {"x-gateway-run": "task-2"}, run | {"traceparent": f"00-{TRACE}-{SPAN}-01"}):
        await traced.client.post("/chat/completions", json=BODY, headers=head)
    first, second, other, own = await spans(collector, 4)
    ids = run_ids(run_key("tester", "task-1"), 1.0)
    assert first.trace_id.hex() == second.trace_id.hex() == f"{ids.trace:032x}"
    assert first.parent_span_id.hex() == second.parent_span_id.hex() == f"{ids.span:016x}"
    assert first.span_id != second.span_id
    assert other.trace_id != first.trace_id
    assert (own.trace_id.hex(), own.parent_span_id.hex()) == (TRACE, SPAN)
    assert dict(upstream.calls[0].headers)["traceparent"] == f"00-{first.trace_id.hex()}-{first.span_id.hex()}-01"


def test_runs_are_traced_whole_or_not_at_all() -> None:
    drawn = {n: {ids_of(new_id(), None, 0.3, f"run_{n}").sampled for _ in range(3)} for n in range(400)}
    assert all(len(found) == 1 for found in drawn.values())
    share = sum(True in found for found in drawn.values()) / 400
    assert abs(share - 0.3) < 5.2 * (0.21 / 400) ** 0.5  # a chance of two in ten million


async def test_latencies_and_failures_lead_to_their_trace(
    traced: Any, upstream: FakeUpstream, second: FakeUpstream
) -> None:
    """Exemplars are in OpenMetrics alone. A call whose trace is not sampled leaves none."""
    answer = await traced.client.post("/chat/completions", json=BODY)
    for double in (upstream, second):
        double.always(Fault.status(500))
    failed = await traced.client.post("/chat/completions", json=BODY, headers={"traceparent": f"00-{TRACE}-{SPAN}-01"})
    await traced.client.post("/chat/completions", json=BODY, headers={"traceparent": f"00-{SPAN}{SPAN}-{SPAN}-00"})
    page = traced.base_url.removesuffix("/v1") + "/metrics"
    plain = (await traced.client.get(page)).text
    found = await traced.client.get(page, headers={"accept": "application/openmetrics-text;version=1.0.0"})
    assert found.headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert "trace_id" not in plain
    lines = [line for line in found.text.splitlines() if "trace_id" in line]
    slow = [line for line in lines if line.startswith("gen_ai_server_request_duration_seconds_bucket")]
    trace = answer.headers["x-request-id"].replace("-", "")
    assert [f'# {{call_id="{answer.headers["x-request-id"]}",trace_id="{trace}"}}' in line for line in slow] == [
        True,
        False,
    ]
    assert f'call_id="{failed.headers["x-request-id"]}",trace_id="{TRACE}"' in slow[1]
    (counted,) = (line for line in lines if line.startswith("gateway_requests_total"))
    assert 'outcome="upstream_error"' in counted
    assert TRACE in counted
    assert f"{SPAN}{SPAN}" not in found.text
