"""A config becomes the objects that serve it, and the next config replaces them without a restart."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvloop
from fixtures.secret_of_draws import SECRET
from prometheus_client import CollectorRegistry

from gateway.config.config import Config
from gateway.core.errors import ConfigError
from gateway.core.plan import PlanState
from gateway.fake import FakeUpstream, Fault
from gateway.observability.proxy_metrics import ProxyMetrics
from gateway.proxy.build import ProcessParts, build, close
from gateway.proxy.http.client.transport import UpstreamRequest
from gateway.proxy.recording.recorder import Recorder
from gateway.proxy.relay.deadlines import Ticker
from gateway.runtime.tasks import Tasks

Configured = Callable[..., dict[str, Any]]


@pytest.fixture(autouse=True)
def nothing_failed(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Fails a test whose log names an error: errors in the background are reported nowhere else."""
    yield
    wrong = [r.getMessage() for r in caplog.records if r.exc_info or "ASGI" in r.getMessage()]
    assert not wrong


def some_parts() -> ProcessParts:
    """The parts of a process that records nothing."""
    nothing: Any = None
    metrics = ProxyMetrics(CollectorRegistry())
    return ProcessParts(Recorder(nothing, metrics), metrics, Tasks(), nothing, Ticker())


@pytest.fixture
async def parts() -> ProcessParts:
    """The parts of a process, without a config."""
    return some_parts()


def config_of(**upstreams: dict[str, Any]) -> Config:
    target = {"upstream": next(iter(upstreams)), "model": "m"}
    rows = {name: {"kind": "openai", "base_url": "http://127.0.0.1:9/v1", **row} for name, row in upstreams.items()}
    return Config.model_validate({"open": True, "upstreams": rows, "models": {"chat": {"targets": [target]}}})


async def test_upstreams_share_a_transport_where_they_connect_alike(parts: ProcessParts) -> None:
    gateway = build(config_of(a={}, b={"concurrency": 1}, c={"transport": "httpx"}, d={"http2": True}), parts)
    a, b, c, d = (gateway.upstreams[name].transport for name in "abcd")
    assert a is b
    assert len({id(t) for t in (a, c, d)}) == 3
    await close(gateway)


async def test_a_new_config_keeps_experiments_in_force_at_once(parts: ProcessParts) -> None:
    """Experiments would otherwise wait for the next look at the stream server for the secret of draws, and serve the
    control."""
    split = {"model": "chat", "control": {"upstream": "a", "model": "m"}, "candidate": {"upstream": "b", "model": "m"}}
    config = Config.model_validate({
        **config_of(a={}, b={}).model_dump(exclude_unset=True), "experiments": {"swap": {**split, "mode": "split"}},
    })  # fmt: skip
    first = build(config, parts)
    plan = first.router.experiments.plans["swap"]
    parts.plans["swap"], parts.secret.value = PlanState(plan, "running", 1.0), SECRET
    assert set(build(config, parts, before=first).router.experiments.in_force) == {"swap"}
    assert SECRET.hex() not in repr(parts.secret)


async def test_limits_hold_for_each_upstream(parts: ProcessParts) -> None:
    gateway = build(config_of(a={"concurrency": 1}, b={"concurrency": 1}), parts)
    await gateway.upstreams["a"].limiter.acquire()
    assert not gateway.upstreams["a"].limiter.free
    assert gateway.upstreams["b"].limiter.free


@pytest.mark.parametrize(
    ("row", "output"),
    [
        ({"ca_file": "/nowhere/ca.pem"}, "upstreams.a.ca_file: /nowhere/ca.pem: No such file"),
        ({"ca_file": __file__}, f"upstreams.a.ca_file: {__file__}: "),
        ({"proxy": "nonsense"}, "upstreams.a: Unknown scheme for proxy URL"),
    ],
    ids=["no CA file", "a CA file without a certificate", "no proxy"],
)
async def test_a_config_that_cannot_be_built_names_its_mistake(
    parts: ProcessParts, row: dict[str, Any], output: str
) -> None:
    with pytest.raises(ConfigError) as error:
        build(config_of(a=row), parts)
    assert str(error.value).startswith(output)


async def test_a_closed_gateway_has_no_connections(parts: ProcessParts, upstream: FakeUpstream) -> None:
    gateway = build(config_of(a={"base_url": upstream.base_url}, b={"base_url": upstream.base_url}), parts)
    for name in "ab":
        reply = await gateway.upstreams[name].transport.send(UpstreamRequest(b"GET", upstream.origin, b"/health"), 2)
        while await reply.chunk():
            pass
    assert upstream.open_connections == 1
    await close(gateway)
    await close(gateway)
    await upstream.until(lambda u: u.open_connections == 0)


def test_a_connection_given_up_while_it_opens_is_forgotten() -> None:
    """The loop is the one that serves: uvloop does not tell a protocol that it is lost before its opening was over."""

    async def give_up() -> None:
        async with FakeUpstream() as upstream:
            parts = some_parts()
            gateway = build(config_of(a={"base_url": upstream.base_url}), parts)
            transport = gateway.upstreams["a"].transport
            for turns in range(12):
                request = UpstreamRequest(b"GET", upstream.origin, b"/health")
                state = parts.tasks.start(transport.send(request, 2), "asking")
                for _ in range(turns):
                    await asyncio.sleep(0)
                state.cancel()
                await asyncio.wait({state})
            async with asyncio.timeout(60):
                await close(gateway)
                await upstream.until(lambda u: u.open_connections == 0)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(give_up())


async def test_breakers_that_open_and_close_are_logged_and_counted(
    start: Any, configured: Any, upstream: FakeUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    config = configured(upstream, chat={"retries": {"attempts": 1}})
    config["upstreams"]["u0"]["breaker"] = {"failures": 2, "open_s": 0.01}
    gateway = await start(config)
    upstream.then(*[Fault.status(500)] * 2)
    assert [(await gateway.chat()).status_code for _ in range(2)] == [502, 502]
    labels = {"upstream": "u0", "model": "model-u0"}
    assert await gateway.metric("gateway_breaker_transitions_total", to="open", **labels) == 1
    async with asyncio.timeout(55):
        while (await gateway.chat()).status_code != 200:
            await asyncio.sleep(0.01)
    assert await gateway.metric("gateway_breaker_transitions_total", to="closed", **labels) == 1
    messages = [r.getMessage() for r in caplog.records if "circuit breaker" in r.getMessage()]
    assert messages == [
        "target u0/model-u0 failed: HTTP 500 server_error; its circuit breaker opens, and a probe follows",
        "circuit breaker of u0/model-u0 closed: its probe succeeded",
    ]


async def test_upstreams_after_the_fiftieth_share_histograms(
    start: Any, configured: Configured, upstream: FakeUpstream
) -> None:
    config = configured(upstream)
    [row] = config["upstreams"].values()
    config["upstreams"] = {f"u{n:02}": row for n in range(52)}
    config["models"] = {f"m{n}": {"targets": [{"upstream": f"u{n}", "model": "m"}]} for n in (49, 50, 51)}
    config["keys"] = [{**key, "models": None} for key in config.get("keys", ())]
    gateway = await start(config)
    for alias in config["models"]:
        assert (await gateway.chat(model=alias)).status_code == 200
    duration = "gen_ai_server_request_duration_seconds_count"
    assert await gateway.metric(duration, upstream="u49") == 1
    assert await gateway.metric(duration, upstream="other") == 2
    assert await gateway.metric("gateway_requests_total", upstream="u51") == 1
