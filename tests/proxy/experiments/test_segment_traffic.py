"""Segments under real traffic: what is recorded of a call, and that an excepted segment stays with the control."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gateway.core.ramp import RampChange, RampDecision, advanced, excepted, started
from gateway.core.segments import segments_from_json
from gateway.fake import FakeUpstream

VALUES = {"metadata.product": ["code"], "language": ["en"]}
SEGMENTS = {"by": ["metadata.product", "tools", "language"], "values": VALUES}
SWAP = {
    "model": "chat",
    "control": {"upstream": "u0", "model": "model-u0"}, "candidate": {"upstream": "u1", "model": "new"},
    "shadow": 1.0, "repeat_control": 0.0, "aa": "proof", "primary": "error_rate", "margin": 0.05, "segments": SEGMENTS,
    "unit": "request", "min_hours": 0,
}  # fmt: skip
ENGLISH = "What is the capital of the country that you live in?"


async def running(start: Any, config: dict[str, Any], **swap: Any) -> Any:
    """A gateway in whose experiment the plan is in force."""
    config["models"]["chat"]["fallback"] = []
    gateway = await start({**config, "experiments": {"swap": {**SWAP, **swap}}})
    await gateway.until(lambda: "swap" in gateway.gateway.router.experiments.in_force)
    return gateway


async def test_a_record_says_which_segments_its_call_is_in(
    start: Any, configured: Callable[..., dict[str, Any]], upstream: FakeUpstream, second: FakeUpstream
) -> None:
    gateway = await running(start, configured(upstream, second))
    await gateway.chat(ENGLISH, metadata={"product": "code"}, tools=[{"type": "function", "function": {"name": "f"}}])
    await gateway.chat("42", metadata={"product": "mail"})
    exchanges = sorted(await gateway.recorded(4), key=lambda e: e.received)
    found = [segments_from_json(e.segments) for e in exchanges if e.role == "served"]
    assert [dict(each.values) for each in found if each] == [
        {"metadata.product": "code", "tools": "yes", "language": "en"},
        {"metadata.product": "other", "tools": "no", "language": "other"},
    ]
    of = {e.id: e.segments for e in exchanges if e.role == "served"}
    assert [e.segments for e in exchanges if e.role == "shadow"] == [of[e.pair] for e in exchanges if e.pair]


async def test_calls_of_an_excepted_segment_stay_with_the_control(
    start: Any, configured: Callable[..., dict[str, Any]], upstream: FakeUpstream, second: FakeUpstream
) -> None:
    """Calls of the segment do so at the step to all traffic, too. They are not in the split, and are still shadowed."""
    gateway = await running(start, configured(upstream, second), ramp={"steps": [1.0], "holdout": 0})
    plan = gateway.gateway.router.experiments.in_force["swap"].plan
    change, decision = RampChange(1.0, "ada", "why"), RampDecision("hold", "x", without=("metadata.product=code",))
    begun = started("swap", plan.hash, change)
    record = excepted(begun, plan.ramp, change, decision, decision.without)
    assert await gateway.corridor.ramps.change(None, record, b"{}")
    await gateway.until(lambda: gateway.gateway.router.experiments.in_force["swap"].share == 1.0)
    for product in ("code", "mail", "code"):
        reply = await gateway.chat(metadata={"product": product})
        assert reply.status_code == 200
    exchanges = sorted(await gateway.recorded(5), key=lambda e: e.received)  # one with a shadow is recorded later
    served = [(e.arm, e.target.upstream, e.stratum.startswith("split:")) for e in exchanges if e.role == "served"]
    assert served == [("control", "u0", False), ("candidate", "u1", True), ("control", "u0", False)]
    assert {e.arm for e in exchanges if e.role == "shadow"} == {"candidate"}
    back = advanced(record, plan.ramp, change)
    assert back.kept == ("metadata.product=code",), "after the promotion too"
