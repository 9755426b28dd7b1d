"""No calls go to a candidate whose circuit breaker is open, or which has just failed repeatedly."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gateway.config.upstreams import Upstream
from gateway.core.exchange import Target
from gateway.core.learned_route import route_target
from gateway.core.plan import Plan
from gateway.core.ramp import RampDesign
from gateway.proxy.dialects.kinds import build_dialect
from gateway.proxy.experiments.candidate_health import HEALTHY_S, SETTLE, UNPROBED_S, CandidateHealth
from gateway.proxy.routing.circuit_breaker import CircuitBreaker
from gateway.proxy.routing.concurrency_limiter import ConcurrencyLimiter
from gateway.proxy.routing.target_state import TargetState, UpstreamState

CANDIDATE = Target("b", "m")
PLAN = Plan(
    "swap", "chat", Target("a", "m"), (("candidate", CANDIDATE),), "both", ramp=RampDesign((0.5, 1.0), 0.0, 1), rules=2
)  # fmt: skip


class Worker:
    """One process with one candidate, whose clock the test moves."""

    def __init__(self) -> None:
        self.now = 100.0
        upstream = Upstream.model_validate({"kind": "openai", "base_url": "http://127.0.0.1:1/v1"})
        nothing: Any = None
        self.upstream = UpstreamState(
            "b", upstream, build_dialect(upstream), nothing, ConcurrencyLimiter(None, 0, 0.0), None
        )
        self.state = TargetState(CANDIDATE, self.upstream, CircuitBreaker(lambda: self.now), lambda: self.now)
        self.health = CandidateHealth(lambda: self.now)
        self.health.watch(self.state)
        self.state.on_failure = lambda caller: self.health.failed(CANDIDATE, caller)
        self.state.breaker.on_change = self.changed

    def changed(self, opened: bool) -> None:
        (self.health.opened if opened else self.health.closed)(CANDIDATE)

    def breaks(self, *callers: str) -> None:
        for i in range(5):
            self.state.record_failure(callers[i % len(callers)])

    def probed(self, works: bool, caller: str = "web") -> None:
        self.now += self.state.breaker.wait_s()
        assert self.state.breaker.allow()
        if works:
            self.state.breaker.record_success()
        else:
            self.state.record_failure(caller)

    def share(self, plan: Plan = PLAN) -> float:
        return self.health.applied({plan.hash: 0.5}, [plan])[plan.hash]

    @property
    def report(self) -> dict[str, Any] | None:
        return self.health.reports([PLAN]).get("swap")


@pytest.fixture
def worker() -> Worker:
    """A worker that watches a candidate."""
    return Worker()


def test_a_route_is_as_healthy_as_the_target_it_moves_calls_to(worker: Worker) -> None:
    """Moved calls would wait for nothing while that is down, so users get the control, like those of any candidate."""
    route = route_target("safe", "0" * 16)
    plan = replace(PLAN, candidates=(("candidate", route),))
    worker.health.follow_routes({route: CANDIDATE})
    assert worker.share(plan) == 0.5
    worker.breaks("web", "app")
    assert worker.share(plan) == 0.0
    assert worker.health.reports([plan])["swap"]["open"] is True
    worker.probed(works=True)
    worker.now += SETTLE.wait_s(1)
    assert worker.share(plan) == 0.5
    worker.health.follow_routes({})
    worker.breaks("web")
    assert worker.share(plan) == 0.5, "a plan of a route that the config no longer has sends nobody anyway"


def test_an_open_breaker_takes_the_share_away_and_is_reported(worker: Worker) -> None:
    assert (worker.share(), worker.report) == (0.5, None)
    worker.breaks("web", "app")
    assert worker.share() == 0.0
    report = worker.report
    assert report is not None
    assert (report["open"], report["openings"], report["failing_s"], len(report["callers"])) == (True, 1, 0.0, 2)
    assert "web" not in report["callers"], "digests only"


def test_a_plan_by_the_first_rules_keeps_its_share(worker: Worker) -> None:
    worker.breaks("web")
    assert worker.share(replace(PLAN, rules=1)) == 0.5


def test_the_share_returns_a_while_after_the_breaker_has_closed(worker: Worker) -> None:
    worker.breaks("web")
    worker.probed(works=False)
    worker.probed(works=True)
    assert worker.share() == 0.0
    assert worker.report is not None
    assert worker.report["open"] is False
    worker.now += SETTLE.wait_s(1) + 0.1
    assert (worker.share(), worker.report) == (0.5, None)


def test_each_new_opening_doubles_the_wait(worker: Worker) -> None:
    for opening in (1, 2, 3):
        worker.breaks("web")
        worker.probed(works=True)
        worker.now += SETTLE.wait_s(opening) - 0.1
        assert worker.share() == 0.0
        worker.now += 0.2
        assert worker.share() == 0.5
    worker.now += HEALTHY_S
    worker.breaks("web")
    worker.probed(works=True)
    worker.now += SETTLE.wait_s(1) + 0.1
    assert worker.share() == 0.5


def test_failing_time_is_from_the_first_opening_to_the_last_failure(worker: Worker) -> None:
    worker.breaks("web")
    began = worker.now
    for _ in range(4):
        worker.probed(works=False, caller="app")
    assert worker.report is not None
    assert worker.report["failing_s"] == pytest.approx(worker.now - began)
    assert len(worker.report["callers"]) == 2
    worker.now += 1000.0
    assert worker.report["failing_s"] < 1000.0, "time without a call is not a failure"


def test_a_breaker_that_nobody_probes_is_probed_by_served_calls(worker: Worker) -> None:
    worker.breaks("web")
    worker.now += worker.state.breaker.wait_s() + UNPROBED_S - 0.1
    assert worker.share() == 0.0
    worker.now += 0.2
    assert worker.share() == 0.5
    worker.probed(works=False)
    assert worker.share() == 0.0


def test_an_upstream_that_is_down_counts_as_an_open_breaker(worker: Worker) -> None:
    worker.upstream.down = True
    assert worker.share() == 0.0
    worker.now += 7.0
    assert worker.share() == 0.0
    assert worker.report is not None
    assert (worker.report["open"], worker.report["failing_s"]) == (True, 7.0)
    worker.upstream.down = False
    assert worker.share() == 0.0, "it has to stay up for a while"
    worker.now += SETTLE.wait_s(1) + 0.1
    assert worker.share() == 0.5
