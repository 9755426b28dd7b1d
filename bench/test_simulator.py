"""The simulator obeys what queueing theory says of it: seeds are fixed, so each run gives the same numbers."""

from __future__ import annotations

import math
import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # the benchmark is not a package: its programs are run as scripts
from simulator import SLICE_S, Machine, Process, Session, Simulation

pytestmark = pytest.mark.long  # it tests a benchmark, not the product


def queue(load: float, jobs: int, seed: int = 1, *, exponential: bool = False) -> tuple[Process, Machine, float]:
    """A process with a core of its own, jobs of 1 s (or of 1 s on average) and Poisson arrivals."""
    simulation = Simulation(random.Random(seed))
    machine = Machine(simulation, 1, slice_s=math.inf)
    process = Process(simulation, machine)

    def arrive() -> None:
        process.ask(simulation.rng.expovariate(1.0) if exponential else 1.0, lambda: None)

    simulation.arrivals(lambda: load, arrive)
    simulation.run(jobs / load)
    return process, machine, simulation.now


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_the_mean_wait_is_that_of_an_m_d_1_queue(load: float) -> None:
    """ρ / (2 (1 − ρ)) services (Pollaczek and Khinchine)."""
    process, *_ = queue(load, 30_000)
    assert process.waited_s / process.done == pytest.approx(load / (2 * (1 - load)), rel=0.05)


def test_the_mean_wait_is_that_of_an_m_m_1_queue() -> None:
    process, *_ = queue(0.6, 12_000, exponential=True)
    assert process.waited_s / process.done == pytest.approx(0.6 / 0.4, rel=0.06)


@pytest.mark.parametrize("exponential", [False, True])
def test_littles_law_holds(exponential: bool) -> None:
    """The mean number inside is the arrival rate times the mean stay."""
    process, _, seconds = queue(0.7, 5_000, exponential=exponential)
    mean_stay_s, rate = process.stayed_s / process.done, process.came / seconds
    assert process.inside_s / seconds == pytest.approx(mean_stay_s * rate, rel=2e-3)


def test_every_job_ends_once_and_its_work_is_the_machine_s_busy_time() -> None:
    simulation = Simulation(random.Random(2))
    machine = Machine(simulation, 2)
    processes = [Process(simulation, machine) for _ in range(5)]
    ended: list[int] = []
    work = [simulation.rng.uniform(0.01, 1) for _ in range(200)]
    for n, each in enumerate(work):
        simulation.after(
            simulation.rng.uniform(0, 20), lambda n=n, each=each: processes[n % 5].ask(each, lambda: ended.append(n))
        )
    simulation.run(1_000)
    assert sorted(ended) == list(range(200))
    assert sum(p.used_s for p in processes) == pytest.approx(sum(work)) == pytest.approx(machine.busy_s)
    assert [p.inside for p in processes] == [0] * 5


@pytest.mark.parametrize(("processes", "cores", "ends"), [(1, 2, 1.0), (2, 2, 1.0), (3, 2, 1.5), (4, 1, 4.0)])
def test_cores_are_shared_equally_and_no_job_has_more_than_one(processes: int, cores: int, ends: float) -> None:
    simulation = Simulation(random.Random(3))
    machine = Machine(simulation, cores)
    at: list[float] = []
    for _ in range(processes):
        Process(simulation, machine).ask(1.0, lambda: at.append(simulation.now))
    simulation.run(100)
    assert at == pytest.approx([ends] * processes, abs=processes * SLICE_S)


def test_a_shorter_job_leaves_its_share_to_the_others() -> None:
    """1 and 2 s on one core: both have half of it until 2 s, the second the whole of it until 3 s."""
    simulation = Simulation(random.Random(4))
    machine = Machine(simulation, 1)
    at: list[float] = []
    for work in (1.0, 2.0):
        Process(simulation, machine).ask(work, lambda: at.append(simulation.now))
    simulation.run(100)
    assert at == pytest.approx([2.0, 3.0], abs=2 * SLICE_S)


def test_a_process_that_wakes_takes_the_core_of_one_that_had_more() -> None:
    simulation = Simulation(random.Random(5))
    machine = Machine(simulation, 1)
    Process(simulation, machine).ask(10.0, lambda: None)
    short, at = Process(simulation, machine), []
    simulation.after(1.0005, lambda: short.ask(0.0001, lambda: at.append(simulation.now)))
    simulation.run(20)
    assert at == pytest.approx([1.0006])


def test_one_that_has_just_had_as_much_waits_for_the_slice() -> None:
    simulation = Simulation(random.Random(5))
    machine = Machine(simulation, 1)
    hungry = [Process(simulation, machine) for _ in range(2)]
    for each in hungry:
        each.ask(10.0, lambda: None)
    often, waited = Process(simulation, machine), []

    def again(since: float) -> None:
        waited.append(simulation.now - since - 0.003)
        simulation.after(1e-4, lambda: often.ask(0.003, lambda now=simulation.now: again(now)))

    often.ask(0.003, lambda: again(0.0))
    simulation.run(9)
    assert often.used_s == pytest.approx(3.0, rel=0.1), "a third: it never sleeps long enough to be ahead"
    assert max(waited) > SLICE_S


def test_a_session_of_its_own_gets_the_share_of_all_others_together() -> None:
    simulation = Simulation(random.Random(6))
    machine = Machine(simulation, 1)
    own = Process(simulation, machine, Session())
    others = [Process(simulation, machine) for _ in range(4)]
    for each in (own, *others):
        each.ask(100.0, lambda: None)
    simulation.run(10)
    assert own.used_s == pytest.approx(5.0, abs=0.02)
    assert [each.used_s for each in others] == pytest.approx([1.25] * 4, abs=0.02)


def test_a_seed_gives_one_run() -> None:
    assert [queue(0.5, 500, seed=9)[0].waited_s for _ in range(2)] == [queue(0.5, 500, seed=9)[0].waited_s] * 2
