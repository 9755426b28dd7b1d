"""The simulated fleet keeps its accounts, and agrees with what can be computed where nothing is random."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # as in test_simulator.py
import fleet_report
import plan
import run_bench
from fleet_measured import PARTS, Measured, Window
from fleet_model import APPENDED, GATHER_S, MOST, Cost, Costs, Fleet, Judge, Size, fit, steady
from plan import Bytes, Hardware, PlannedFleet, Traffic

from gateway.proxy.recording import recorder

pytestmark = pytest.mark.long  # it tests a benchmark, not the product

COSTS = Costs(
    client_s=10e-6, upstream_s=15e-6, request_s=75e-6, record_s=25e-6, append=Cost(8e-6, 40e-6), read=Cost(6e-6, 60e-6),
    consumer=Cost(150e-6, 2e-3), store=Cost(80e-6, 1e-3), background=Cost(10e-6, 1e-3), wait_s=2e-3,
    consumer_tick_s=5e-3, stream_tick_s=5e-4, store_tick_s=4e-3,
)  # fmt: skip
BYTES = Bytes(stream_memory=3200, stream_file=3300, store=6600, wal=7600)


def test_batches_are_those_of_the_gateway() -> None:
    assert recorder._BATCH == APPENDED
    assert recorder._GATHER_S == GATHER_S


@pytest.mark.parametrize("size", [Size(1, 1, 1, 1.0), Size(2, 2, 2, 0.1)])
def test_no_exchange_is_lost_or_made_up(size: Size) -> None:
    fleet = Fleet(COSTS, size, cores=2)
    seen = fleet.run(0.2)
    recorded = fleet.shard.appended + sum(w.gathered for w in fleet.workers)
    assert recorded == pytest.approx(fleet.served * size.rate, rel=0.15)
    assert seen.waiting == fleet.shard.appended - sum(c.scored for c in fleet.consumers) >= 0
    fleet.drain(5)
    assert sum(c.scored for c in fleet.consumers) + sum(c.at_work for c in fleet.consumers) == fleet.shard.appended


def test_all_cores_are_used_and_requests_take_what_they_cost() -> None:
    fleet = Fleet(COSTS, Size(2, 2, 1, 0.0), cores=2)
    seen = fleet.run(0.2)
    assert fleet.machine.busy_s == pytest.approx(0.4, rel=0.02)
    each_s = COSTS.client_s + COSTS.upstream_s + COSTS.request_s
    assert seen.served == pytest.approx(2 / each_s, rel=0.05)


def test_a_streamed_answer_takes_its_gaps_and_what_it_costs() -> None:
    size = Size(1, 1, 1, 0.0, connections=4, events=11, gap_s=0.01)
    fleet = Fleet(COSTS, size, cores=4)
    seen = fleet.run(0.5)
    assert seen.served == pytest.approx(4 / 0.1, rel=0.05)
    assert fleet.served == 4 * 5, "no answer is counted by halves"
    assert seen.cpu_s["gateways"] == pytest.approx(fleet.served * COSTS.request_s, rel=0.01)


def test_a_rate_is_that_between_the_first_batch_and_the_last() -> None:
    assert steady([(1.0, 100), (2.0, 200), (3.0, 300)]) == 100.0
    assert steady([(1.0, 100)]) == steady([]) == 0.0


def test_a_consumer_drains_at_its_capacity() -> None:
    """The capacity lies between that of one that does everything in turn, and what its own CPU time allows."""
    fleet = Fleet(COSTS, Size(1, 1, 1, 1.0), cores=8)
    fleet.shard.append(fleet.simulation, 60 * MOST)
    fleet.simulation.run(COSTS.append.of(60 * MOST) + 0.01)
    assert fleet.shard.appended == 60 * MOST
    capacity = plan.capacity(COSTS)
    assert fleet.drain(20) == pytest.approx(capacity, rel=0.05)
    own_s = COSTS.consumer.of(MOST)
    assert MOST / (own_s + COSTS.store.of(MOST) + COSTS.read.of(MOST) + COSTS.wait_s) < capacity < MOST / own_s


@pytest.mark.parametrize("gateways", [10, 1000])
def test_the_planned_fleet_keeps_up_with_bursts(gateways: int) -> None:
    traffic = Traffic(gateways, 200, 0.1)
    planned = plan.plan(COSTS, BYTES, traffic, Hardware())
    assert max(planned.load[p] for p in ("gateways", "stream server", "consumers", "store's cores")) <= plan.BUSY
    seen = PlannedFleet(COSTS, BYTES, traffic, planned, Hardware()).run(30)
    assert seen.left < traffic.recorded, "a second's worth"


def test_the_simulator_uses_what_the_plan_says() -> None:
    """Simulates without bursts, and without the consumers' work between rounds."""
    traffic, costs = Traffic(100, 200, 0.1, burst=1.0), replace(COSTS, consumer_tick_s=0.0, stream_tick_s=0.0)
    planned = plan.plan(costs, BYTES, traffic, Hardware())
    seen = PlannedFleet(costs, BYTES, traffic, planned, Hardware()).run(20)
    assert seen.load["stream server"] == pytest.approx(planned.load["stream server"], rel=0.1)
    assert seen.load["store's disk"] == pytest.approx(planned.load["store's disk"], rel=0.1)


def test_beyond_the_part_that_fails_first_the_backlog_grows() -> None:
    hardware = Hardware(disk_mb_s=100)
    traffic = Traffic(1000, 200, 0.1)
    planned = plan.plan(COSTS, BYTES, traffic, hardware)
    assert planned.first == "store's disk"
    half, whole = (PlannedFleet(COSTS, BYTES, traffic, planned, hardware).run(s).left for s in (5, 10))
    assert whole > 1.5 * half > traffic.recorded


def test_a_judge_that_takes_seconds_sets_the_pace_of_a_consumer() -> None:
    """A round reads 1 024 exchanges and waits for its judges: with 1 %, for two turns of eight calls."""
    judge = Judge(0.01, 2.0)
    assert plan.capacity(COSTS, [judge]) < MOST / 4 < plan.capacity(COSTS) / 10


def test_costs_are_recovered_from_what_they_add_up_to() -> None:
    cost = Cost(100e-6, 2e-3)
    points = [(n, b, cost.of(0) * b + cost.each_s * n) for n, b in ((10_000, 40), (1_000, 300))]
    found = fit(points)
    assert (found.each_s, found.batch_s) == pytest.approx((cost.each_s, cost.batch_s))
    assert fit([(1000, 10, 0.1), (1000, 100, 0.05)]).batch_s == 0.0, "no cost is negative"


def _measured(n: int, acks: int, factor: float, vacuum_s: float) -> Measured:
    """A drain at a multiple of the usual costs, and what autovacuum took meanwhile."""
    window = Window(1.0, dict.fromkeys(PARTS, 0.0), scored=n, acks=acks)
    window.backends_s = factor * COSTS.store.of(n) + factor * COSTS.store.batch_s * (acks - 1) + COSTS.store_tick_s
    own_s = factor * (COSTS.consumer.each_s * n + COSTS.consumer.batch_s * acks) + COSTS.consumer_tick_s
    behind_s = COSTS.background.each_s * n + COSTS.background.batch_s * acks
    window.cpu_s |= {"consumers": own_s, "store": window.backends_s + behind_s + vacuum_s}
    return Measured(window, window, window, n, 0, 0.0, 0.0, {}, (0.01, 0.02))


def test_the_speed_of_a_drain_is_found_in_what_it_took() -> None:
    slow = _measured(20 * MOST, 20, 1.5, 0.0)
    assert fleet_report.drain_factor(COSTS, slow.drain) == pytest.approx(1.5)
    assert fleet_report.drain_factor(COSTS, _measured(MOST, 1, 1.5, 0.0).drain) == 1.0, "too short to tell"


def test_autovacuum_counts_as_another_program() -> None:
    cores = run_bench.this_machine()["cores"]
    assert fleet_report.concurrent(COSTS, _measured(MOST, 1, 1.0, 0.0)) == pytest.approx((0.01, 0.02))
    found = fleet_report.concurrent(COSTS, _measured(MOST, 1, 1.0, 0.1 * cores))
    assert found == pytest.approx((0.11, 0.12))
