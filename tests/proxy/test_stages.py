"""The optional stages of a call, as a config has them."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry

from gateway.config.config import Config
from gateway.observability.proxy_metrics import ProxyMetrics
from gateway.proxy.app import Gateway
from gateway.proxy.build import ProcessParts, build, close
from gateway.proxy.recording.recorder import Recorder
from gateway.proxy.relay.deadlines import Ticker
from gateway.proxy.relay.state import NOT_HELD, CallContext
from gateway.proxy.request.call import Call, Caller
from gateway.runtime.tasks import Tasks

GUARD = {"secrets": {"on": "answer", "scorer": "secrets", "action": "observe"}}


class NotingSpans:
    """Spans that note which calls begin one."""

    def __init__(self) -> None:
        self.begun: list[str] = []

    def begin(self, call: Call, context: CallContext) -> Call:
        self.begun.append(call.alias)
        return call


def built(spans: Any = None, alias: str = "chat", model: str = "m", **sections: Any) -> Gateway:
    nothing: Any = None
    metrics = ProxyMetrics(CollectorRegistry())
    parts = ProcessParts(Recorder(nothing, metrics), metrics, Tasks(), nothing, Ticker(), spans=spans)
    target = {"upstream": "up", "model": model}
    config = {
        "open": True,
        "upstreams": {"up": {"kind": "openai", "base_url": "http://127.0.0.1:9/v1"}},
        "models": {alias: {"targets": [target]}},
    }
    return build(Config.model_validate({**config, **sections}), parts)


def a_call(alias: str) -> Call:
    return Call("id", 0.0, 0.0, Caller("web"), "chat", b"POST", b"/chat/completions", alias, False, b"{}")


async def test_a_plain_call_has_no_optional_stage() -> None:
    gateway = built()
    assert (gateway.stages.before_route, gateway.stages.before_relay) == ((), ())
    await close(gateway)


async def test_each_configured_stage_is_there_once_and_in_order() -> None:
    spans = NotingSpans()
    gateway = built(spans, alias="team-*", model="*", guards=GUARD)
    begin, as_pattern = gateway.stages.before_route
    context = CallContext(NOT_HELD)
    routed = as_pattern(begin(a_call("team-a"), context), context)
    assert (spans.begun, routed.alias, routed.named) == (["team-a"], "team-*", "team-a")
    assert gateway.guards is not None
    assert gateway.stages.before_relay == (gateway.guards.enter,)
    await close(gateway)


async def test_a_name_without_a_pattern_stays_as_it_is() -> None:
    gateway = built(alias="team-*", model="*")
    (as_pattern,) = gateway.stages.before_route
    call = a_call("other")
    assert as_pattern(call, CallContext(NOT_HELD)) is call
    await close(gateway)
