"""Plans lie in the stream server; each gateway polls them off every call's path, and does what they say."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from fixtures.metric_samples import sample_sum
from fixtures.secret_of_draws import SECRET
from prometheus_client import CollectorRegistry

from gateway.config.config import Config
from gateway.core.errors import StreamDown
from gateway.core.plan import PlanState
from gateway.core.ramp import RampChange, RampRecord, advanced, rolled_back, started
from gateway.observability.proxy_metrics import ProxyMetrics
from gateway.proxy.experiments.candidate_health import CandidateHealth
from gateway.proxy.experiments.plan_poller import PlanPoller
from gateway.proxy.experiments.ramp_shares import RampShares
from gateway.proxy.experiments.shadow import ShadowState
from gateway.proxy.routing.assignment import ExperimentAssignments, KnownSecret

SWAP: dict[str, Any] = {
    "model": "chat", "control": {"upstream": "a", "model": "m"}, "candidate": {"upstream": "a", "model": "n"},
}  # fmt: skip


def experiments(draft: dict[str, Any] | None = None, **changes: Any) -> ExperimentAssignments:
    return ExperimentAssignments(
        Config.model_validate({
            "open": True, "upstreams": {"a": {"kind": "fake"}},
            "models": {"chat": {"targets": [{"upstream": "a", "model": "m"}]}},
            "experiments": {"swap": {**SWAP, **changes}} | ({"draft": draft} if draft else {}),
        })
    )  # fmt: skip


class Server:
    """The content of the stream server. down: it answers nothing."""

    def __init__(self) -> None:
        self.states: dict[str, PlanState] = {}
        self.down = False
        self.secret: bytes | None = SECRET
        self.added: list[Mapping[str, float]] = []

    async def draw_secret(self) -> bytes | None:
        return self.secret

    async def plans(self) -> dict[str, PlanState]:
        if self.down:
            raise StreamDown("stream server: away")
        return dict(self.states)

    async def set_plan(self, state: PlanState, instead_of: PlanState | None = None) -> bool:
        if self.states.get(state.plan.name) != instead_of:
            return False
        self.states[state.plan.name] = state
        return True

    async def add(self, name: str, amounts: Mapping[str, float], keep_s: int | None = None) -> dict[str, float]:
        self.added.append(amounts)
        return dict(amounts)


class Gateway:
    """One process that follows. present: its configs, the newest last."""

    def __init__(self, server: Server, *present: ExperimentAssignments) -> None:
        self.present, self.shadow_state, self.states = list(present), ShadowState(), {}
        self.registry = CollectorRegistry()
        self.now = 100.0
        self.shares = RampShares()
        """Shares that another config of the process has known."""
        self.following = PlanPoller(
            server,
            lambda: self.present,
            self.states,
            self.shadow_state,
            ProxyMetrics(self.registry),
            server,
            self.shares,
            CandidateHealth(lambda: self.now),
            KnownSecret(),
            lambda: self.now,
        )

    @property
    def runs(self) -> set[str]:
        return set(self.present[-1].in_force)

    def shown(self) -> float | None:
        return sample_sum(self.registry, "gateway_experiment_running", experiment="swap")


async def test_a_config_publishes_its_plan_once_and_runs_it() -> None:
    server = Server()
    gateway = Gateway(server, experiments())
    await gateway.following.look()
    assert gateway.runs == {"swap"}
    assert server.states["swap"].plan == gateway.present[0].plans["swap"]
    assert gateway.shown() == 1.0


@pytest.mark.parametrize(("min_hours", "unpaced"), [(24, True), (0, False)])
async def test_a_gateway_marks_a_plan_that_has_no_pace_yet(min_hours: float, unpaced: bool) -> None:
    server = Server()
    gateway = Gateway(server, experiments(primary="length", min_hours=min_hours, margin=0.05))
    await gateway.following.look()
    assert server.states["swap"].unpaced == unpaced
    server.states["swap"] = replace(server.states["swap"], plan=replace(server.states["swap"].plan, shadow=0.01,
                                    shadow_asked=server.states["swap"].plan.shadow), unpaced=False)  # fmt: skip
    other = Gateway(server, experiments(primary="length", min_hours=min_hours, margin=0.05))
    await other.following.look()
    assert (server.states["swap"].plan.shadow, server.states["swap"].unpaced) == (0.01, False), "it is left alone"


async def test_a_plan_from_before_there_were_methods_continues(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    server = Server()
    gateway = Gateway(server, experiments(primary="error_rate"))
    now = gateway.present[0].plans["swap"]
    before = replace(now, method="guaranteed", max_pairs=None, auto_horizon=False, aa="proof")
    server.states["swap"] = PlanState(before, "running", 1.0)
    await gateway.following.look()
    assert gateway.runs == {"swap"}
    assert server.states["swap"].plan == before
    assert "experiment swap continues with the plan it started with" in caplog.text


async def test_gateways_that_computed_other_horizons_share_one_plan() -> None:
    server = Server()
    gateway = Gateway(server, experiments(primary="error_rate"))
    other = replace(gateway.present[0].plans["swap"], max_pairs=5000)
    server.states["swap"] = PlanState(other, "running", 1.0)
    await gateway.following.look()
    assert server.states["swap"].plan == other
    assert gateway.present[0].in_force["swap"].plan == other


async def test_a_plan_that_cannot_decide_says_so(caplog: pytest.LogCaptureFixture) -> None:
    gateway = Gateway(Server(), experiments(primary="error_rate", max_pairs=100))
    await gateway.following.look()
    assert "max_pairs 100 is unlikely to decide a margin of 0.02; that needs about 667 pairs" in caplog.text


async def test_one_that_is_started_by_a_command_waits_for_it() -> None:
    server = Server()
    gateway = Gateway(server, experiments(start="manual"))
    await gateway.following.look()
    assert (gateway.runs, server.states) == (set(), {})
    server.states["swap"] = PlanState(gateway.present[0].plans["swap"], "running", 1.0)
    await gateway.following.look()
    assert gateway.runs == {"swap"}


async def test_a_stopped_experiment_stays_stopped(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = Server()
    server.states["swap"] = PlanState(experiments().plans["swap"], "stopped", 1.0)
    for changes in ({}, {"margin": 0.5}):
        gateway = Gateway(server, experiments(**changes))
        await gateway.following.look()
        assert gateway.runs == set()
    assert "`gateway ab start` starts it" in caplog.text


async def test_two_files_do_not_replace_each_others_plan(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    server = Server()
    one, other = Gateway(server, experiments()), Gateway(server, experiments(margin=0.5))
    await one.following.look()
    await other.following.look()
    newest = server.states["swap"]
    assert newest.plan == other.present[0].plans["swap"]
    for _ in range(3):
        await one.following.look()
        await other.following.look()
    assert server.states["swap"] == newest
    assert one.present[0].in_force["swap"].plan == newest.plan
    assert "which replaces" in caplog.text


async def test_the_last_known_plans_stay_in_force() -> None:
    server = Server()
    server.down = True
    gateway = Gateway(server, experiments())
    await gateway.following.look()
    assert gateway.runs == set()
    server.down = False
    await gateway.following.look()
    server.down = True
    await gateway.following.look()
    assert gateway.runs == {"swap"}


async def test_the_start_and_the_stop_of_a_plan_are_kept_by_the_clock() -> None:
    from datetime import UTC, datetime

    stop = datetime(2026, 1, 1, tzinfo=UTC)
    gateway = Gateway(Server(), experiments(stop=stop.isoformat()))
    gateway.now = stop.timestamp() - 1
    await gateway.following.look()
    assert gateway.runs == {"swap"}
    gateway.now += 2
    await gateway.following.look()
    assert gateway.runs == set()


async def test_a_config_that_switches_it_off_ends_running_work() -> None:
    server = Server()
    gateway = Gateway(server, experiments())
    await gateway.following.look()
    under_way = asyncio.get_running_loop().create_task(asyncio.Event().wait())
    gateway.shadow_state.tasks["swap"].add(under_way)
    gateway.present.append(experiments(enabled=False))
    await gateway.following.look()
    assert gateway.runs == set()
    await asyncio.wait({under_way})
    assert under_way.cancelled()


async def test_without_an_experiment_the_server_is_not_asked() -> None:
    server = Server()
    server.down = True
    none = ExperimentAssignments(Config.model_validate({
        "open": True, "upstreams": {"a": {"kind": "fake"}},
        "models": {"chat": {"targets": [{"upstream": "a", "model": "m"}]}},
    }))  # fmt: skip
    await Gateway(server, none).following.look()


async def test_one_experiment_at_a_time_runs_on_an_alias(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A draft that is in no config any more takes no call, and does not stop another."""
    server = Server()
    both = experiments(draft={**SWAP, "margin": 0.2, "start": "manual"})
    server.states["draft"] = PlanState(both.plans["draft"], "running", 1.0)
    await Gateway(server, both).following.look()
    assert "swap" not in server.states
    assert "experiment swap does not start: draft is running on chat; stop that one" in caplog.text
    await Gateway(server, experiments()).following.look()
    assert server.states["swap"].running


async def test_the_action_after_a_verdict_may_change_during_a_plan() -> None:
    server = Server()
    await Gateway(server, experiments(primary="error_rate")).following.look()
    before = server.states["swap"]
    assert before.plan.after_verdict == "stop"
    await Gateway(server, experiments(primary="error_rate", after_verdict="continue")).following.look()
    after = server.states["swap"]
    assert after.plan.after_verdict == "continue"
    assert (after.plan.hash, after.since, after.state) == (before.plan.hash, before.since, "running")


RAMP = {"ramp": {"steps": [0.5, 1.0]}, "primary": "error_rate"}


class RampServer(Server):
    """Stream server that keeps records of ramps, too."""

    def __init__(self) -> None:
        super().__init__()
        self.ramps: dict[str, RampRecord] = {}

    async def records(self) -> dict[str, RampRecord]:
        if self.down:
            raise StreamDown("stream server: away")
        return dict(self.ramps)


class RampGateway(Gateway):
    """One process that also follows ramps."""

    def shown_ramp(self) -> tuple[float | None, float | None]:
        """(share, stale) as in /metrics."""
        share = sample_sum(self.registry, "gateway_ramp_share", experiment="swap")
        return share, sample_sum(self.registry, "gateway_ramp_stale", experiment="swap")

    @property
    def share(self) -> float | None:
        return self.present[-1].in_force["swap"].share


async def a_ramp() -> tuple[RampServer, RampGateway, RampRecord]:
    """A ramp at its first step, and read by a gateway."""
    server = RampServer()
    gateway = RampGateway(server, experiments(**RAMP))
    await gateway.following.look()
    plan = gateway.present[0].plans["swap"]
    assert plan.ramp is not None
    assert gateway.share == 0.0
    change = RampChange(5.0, "ada", "why")
    first = advanced(started("swap", plan.hash, change), plan.ramp, change)
    server.ramps["swap"] = first
    await gateway.following.look()
    assert gateway.share == 0.5
    return server, gateway, first


async def test_a_ramp_follows_its_record_and_is_in_the_metrics() -> None:
    server, gateway, first = await a_ramp()
    assert gateway.shown_ramp() == (0.5, 0.0)
    server.ramps["swap"] = rolled_back(first, RampChange(6.0, "ada", "bad"), 60.0)
    await gateway.following.look()
    assert gateway.shown_ramp() == (0.0, 0.0)


async def test_without_the_stream_server_a_ramp_keeps_its_share_and_says_so() -> None:
    server, gateway, _ = await a_ramp()
    server.down = True
    await gateway.following.look()
    assert (gateway.share, gateway.shown_ramp()) == (0.5, (0.5, 1.0))
    server.down = False
    server.ramps.clear()  # it has lost everything
    await gateway.following.look()
    assert (gateway.share, gateway.shown_ramp()) == (0.5, (0.5, 1.0))


async def test_a_new_config_keeps_the_share_of_a_ramp() -> None:
    server, gateway, _ = await a_ramp()
    server.down = True
    gateway.present.append(experiments(**RAMP, draft={**SWAP, "start": "manual"}))
    await gateway.following.look()
    assert gateway.share == 0.5


async def test_a_keyed_plan_waits_for_the_secret_and_keeps_it(caplog: pytest.LogCaptureFixture) -> None:
    server = Server()
    server.secret = None
    early, late = (Gateway(server, experiments(mode="split", split=0.5)) for _ in range(2))
    for _ in range(2):
        await early.following.look()
    assert early.runs == set(), "clients get the control"
    assert early.shown() == 0.0
    assert caplog.text.count("experiment swap waits, and clients get the control") == 1
    server.secret = SECRET
    await early.following.look()
    assert early.runs == {"swap"}
    server.secret = None
    await early.following.look()
    await late.following.look()
    assert (early.runs, late.runs) == ({"swap"}, set()), "only who has read it goes on"
    assert SECRET.hex() not in caplog.text
    assert "\\x01" not in repr(early.present[-1].in_force), "no secret in a repr"


async def test_a_plan_of_the_first_rules_needs_no_secret() -> None:
    server = Server()
    server.secret = None
    gateway = Gateway(server, experiments())
    stored = replace(gateway.present[0].plans["swap"], rules=1, min_hours=0.0, empty="allowed", headers="all")
    server.states["swap"] = PlanState(stored, "running", 1.0)
    await gateway.following.look()
    assert gateway.runs == {"swap"}


async def test_feedback_without_a_range_starts_no_plan_and_stops_none(caplog: pytest.LogCaptureFixture) -> None:
    server, liked = Server(), {"mode": "split", "primary": "feedback:thumb", "margin": 0.1}
    await Gateway(server, experiments(**liked)).following.look()
    assert server.states == {}
    assert "experiment swap: feedback thumb has no range" in caplog.text
    plan = experiments(**liked).plans["swap"]
    server.states["swap"] = PlanState(plan, "running", 1.0)
    await Gateway(server, experiments(**liked)).following.look()
    assert server.states["swap"].running
