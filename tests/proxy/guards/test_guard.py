"""One guard: its deadline, slots and breaker, what it counts, and the action that its ramp gives."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from gateway.config.guards import GuardConfig
from gateway.core.guards import GuardRamp
from gateway.observability.proxy_metrics import ProxyMetrics
from gateway.proxy.guards.guard import FAILING, Guard, GuardFailed, Verdict


class Scorers:
    """Scorers whose next results are given: a score, an exception, or None for no answer."""

    def __init__(self, *given: Any) -> None:
        self.given = list(given)
        self.asked = 0

    async def ask(self, guard: str, subject: Mapping[str, Any]) -> float:
        self.asked += 1
        found = self.given.pop(0) if self.given else 0.0
        if found is None:
            await asyncio.Event().wait()
        if isinstance(found, Exception):
            raise found
        return float(found)


def guard_of(scorers: Scorers, ramps: Any = None, clock: Callable[[], float] = lambda: 0.0, **more: Any) -> Guard:
    config = GuardConfig.model_validate({"on": "answer", "scorer": "own", "deadline_ms": 20, **more})
    return Guard("own", config, ProxyMetrics(CollectorRegistry()), scorers, ramps or {}, clock)


async def reason(guard: Guard) -> str:
    with pytest.raises(GuardFailed) as caught:
        await guard.ask({})
    return caught.value.reason


async def test_each_failure_has_its_reason() -> None:
    guard = guard_of(Scorers(None, float("nan"), float("inf"), GuardFailed("crashed"), 0.25))
    assert [await reason(guard) for _ in range(4)] == ["timeout", "invalid", "invalid", "crashed"]
    assert await guard.ask({}) == 0.25


async def test_a_guard_that_fails_is_not_asked_for_a_while() -> None:
    now = [0.0]
    scorers = Scorers(*[GuardFailed("error")] * 6, 0.5)
    guard = guard_of(scorers, clock=lambda: now[0])
    assert [await reason(guard) for _ in range(7)] == ["error"] * 5 + ["breaker_open"] * 2
    assert scorers.asked == 5
    now[0] = 60.0
    assert await reason(guard) == "error", "a probe"
    now[0] = 120.0
    assert await guard.ask({}) == 0.5


async def test_without_a_free_slot_it_is_busy_and_no_breaker_opens() -> None:
    scorers = Scorers(None, *[None] * 20)
    guard = guard_of(scorers, concurrency=1, deadline_ms=200)
    first = asyncio.get_running_loop().create_task(reason(guard))
    await asyncio.sleep(0)
    guard.deadline_s = 0.01
    assert [await reason(guard) for _ in range(8)] == ["busy"] * 8
    assert await first == "timeout"
    assert not guard.breaker.open


def test_failures_in_a_row_are_said_until_it_decides_again(caplog: pytest.LogCaptureFixture) -> None:
    guard = guard_of(Scorers())
    for _ in range(FAILING):
        assert guard.trouble == ""
        guard.note_failed(GuardFailed("timeout"))
    assert guard.trouble == "timeout"
    assert "guard own fails (timeout); its calls pass meanwhile" in caplog.text
    guard.note_decided()
    assert guard.trouble == ""
    assert "guard own decides again" in caplog.text


@pytest.mark.parametrize(
    ("action", "if_late", "score", "failure", "result", "blocks"),
    [
        ("block", "pass", 0.5, None, "hit", True),
        ("block", "pass", 0.3, None, "near", False),
        ("block", "pass", 0.2, None, "pass", False),
        ("block", "pass", None, "timeout", "failed", False),
        ("block", "block", None, "timeout", "failed", True),
        ("block", None, None, "timeout", "failed", True),
        ("redact", None, None, "error", "failed", True),
        ("flag", None, None, "error", "failed", False),
        ("observe", None, None, "crashed", "failed", False),
        ("block", "pass", None, "too_large", "failed", True),
        ("flag", "block", None, "too_large", "failed", False),
        ("block", "pass", 0.9, "timeout", "hit", True),
        ("redact", "block", None, "error", "failed", True),
        ("redact", "pass", None, "error", "failed", False),
        ("redact", "block", 1.0, None, "hit", False),
        ("observe", "block", None, "timeout", "failed", False),
        ("flag", "pass", 1.0, None, "hit", False),
    ],
)
def test_a_verdict_has_a_result_and_says_whether_it_blocks(
    action: Any, if_late: str | None, score: float | None, failure: Any, result: str, blocks: bool
) -> None:
    verdict = Verdict(guard_of(Scorers(), if_late=if_late), action, None, score, failure)
    assert (verdict.result, verdict.blocks) == (result, blocks)


def test_a_ramp_that_passes_late_calls_continues_so() -> None:
    begun = GuardRamp("block", "flag", 1.0, "guard own", b"secret", passes_late=True)
    for ramp, blocks in ((begun, False), (replace(begun, passes_late=False), True)):
        assert Verdict(guard_of(Scorers(), {"own": ramp}), "block", None, None, "timeout").blocks is blocks


def test_a_ramp_gives_the_action_by_unit() -> None:
    ramps = {"own": GuardRamp("block", "flag", 0.25, "guard own", b"secret")}
    guard = guard_of(Scorers(), ramps)

    class Caller:
        name = "web"

    class Call:
        conversation: str | None = None
        user: str | None = None
        caller = Caller()

    actions = []
    for i in range(2000):
        call: Any = Call()
        call.user = f"user-{i}"
        actions.append(guard.action_for(call))
        assert guard.action_for(call) == actions[-1], "a unit keeps its action"
    # 2 000 draws with p = 1/4: outside 400..600 with a probability below 1e-6.
    assert 400 < actions.count("block") < 600
    assert set(actions) == {"block", "flag"}
    ramps.clear()
    assert guard.action_for(call) == "observe"
