"""A candidate that is stopped for harm still gets a twentieth of the shadows, recorded with that probability."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gateway.core.harm_stop import HarmStop
from gateway.fake import FakeUpstream

N = 200


def shadowing(configured: Any, upstream: FakeUpstream, second: FakeUpstream) -> dict[str, Any]:
    made: dict[str, Any] = configured(upstream, second)
    made["models"]["chat"]["fallback"] = []
    swap = {
        "model": "chat", "control": {"upstream": "u0", "model": "model-u0"},
        "candidate": {"upstream": "u1", "model": "model-u1"}, "primary": "error_rate", "shadow": 1.0,
        "repeat_control": 0.01, "min_hours": 0, "budget": {"concurrency": 64}, "gate": {"latency": False},
    }  # fmt: skip
    return {**made, "experiments": {"swap": swap}}


async def test_thinned_shadows_are_recorded_with_their_probability(
    start: Any, configured: Any, upstream: FakeUpstream, second: FakeUpstream
) -> None:
    gateway = await start(shadowing(configured, upstream, second))
    in_force = gateway.gateway.router.experiments.in_force
    await gateway.until(lambda: "swap" in in_force)
    known = (await gateway.corridor.state.plans())["swap"]
    harmed = replace(known, harm=HarmStop(1.0, 60, -0.3, 2.0))
    assert await gateway.corridor.state.set_plan(harmed, known)
    experiments = gateway.gateway.router.experiments
    await gateway.until(lambda: "swap" in experiments.in_force and experiments.in_force["swap"].thinned is not None)
    for _ in range(N):
        assert (await gateway.chat()).status_code == 200
    await gateway.until(lambda: not gateway.gateway.in_use)
    records = await gateway.recorded(N + len(second.calls))
    shadows = [record for record in records if record.role == "shadow"]
    assert 0 < len(shadows) < N / 4
    assert [record.pi for record in shadows] == pytest.approx([0.05] * len(shadows))
