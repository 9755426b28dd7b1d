"""Whether shadows slow what clients wait for: compared in spells without them, and paused when they are at fault."""

from __future__ import annotations

import random

import pytest

from gateway.proxy.experiments.latency_gate import (
    MIN_QUIET,
    MIN_WITH_SHADOWS,
    PAUSE,
    SLOT_S,
    SPELL_S,
    LatencyGate,
    tail_is_longer,
    tail_p,
)


class Day:
    """Traffic of one experiment: an answer each half second, with shadows while the gate is open.

    slow: the seconds by which shadows slow the answers that run with them.
    """

    def __init__(self, slow: float, seed: int = 1, start: float = 10 * SLOT_S + SPELL_S) -> None:
        self.gate, self.now, self.slow, self.rng = LatencyGate(), start, slow, random.Random(seed)
        self.paused_s, self.longest_pause_s, self.spells = 0.0, 0.0, 0

    def run(self, seconds: float, step_s: float = 0.25) -> None:
        ends, was_open = self.now + seconds, self.gate.open
        while self.now < ends:
            shadowed = self.gate.open
            if shadowed:
                self.gate.began()
            latency_s = self.rng.lognormvariate(-1, 0.3) + (self.slow if shadowed else 0.0)
            self.gate.answered(False, self.now, self.now + latency_s, latency_s)
            if shadowed:
                self.gate.ended(self.now + latency_s / 2)
            self.now += step_s
            self.gate.tick(self.now)
            self.spells += was_open and not self.gate.open and not self.gate.paused
            was_open = self.gate.open
            self.paused_s += step_s * self.gate.paused
            self.longest_pause_s = max(self.longest_pause_s, self.gate.paused_until - self.now)


def test_shadows_that_slow_clients_are_paused_longer_each_time() -> None:
    day = Day(slow=1.0)
    day.run(3600)
    assert day.paused_s > 1800
    assert PAUSE.first_s < day.longest_pause_s <= PAUSE.most_s


def test_harmless_shadows_are_checked_only_now_and_then() -> None:
    day = Day(slow=0.0)
    day.run(7200)
    assert day.paused_s == 0
    assert 5 <= day.spells <= 20, "a spell each ten minutes or so"


def test_false_alarms_are_rare() -> None:
    """The tails are exchangeable, and looked at many times."""
    rng = random.Random(3)
    alarms = sum(
        tail_is_longer([rng.lognormvariate(0, 1) for _ in range(300)], [rng.lognormvariate(0, 1) for _ in range(80)])
        for _ in range(400)
    )
    assert alarms <= 3


def test_a_pause_ends_and_shadows_are_offered_again() -> None:
    day = Day(slow=1.0)
    while not day.gate.paused:
        day.run(10)
    until = day.gate.paused_until
    assert until - day.now <= PAUSE.first_s
    day.slow = 0.0
    day.run(until - day.now + 1)
    assert day.gate.open
    day.run(1800)
    assert not day.gate.paused


def test_with_few_answers_nothing_is_concluded() -> None:
    day = Day(slow=5.0)
    day.run(3600, step_s=SPELL_S / (MIN_QUIET - 10))
    assert day.paused_s == 0


def test_a_spell_waits_until_no_shadow_runs() -> None:
    gate, at = LatencyGate(), 10 * SLOT_S
    gate.began()
    for i in range(MIN_WITH_SHADOWS):
        gate.answered(False, at - 60 + i * 0.1, at - 59, 1.0)
    gate.tick(at)
    assert not gate.open, "no new one is offered"
    gate.answered(False, at + 1, at + 2, 1.0)
    assert not gate.plain.quiet, "one still runs"
    gate.ended(at + 3)
    gate.tick(at + 3)
    gate.answered(False, at + 2, at + 4, 1.0)
    assert not gate.plain.quiet, "it began while one ran"
    gate.answered(False, at + 4, at + 5, 1.0)
    assert gate.plain.quiet == [1.0]
    gate.tick(at + SPELL_S)
    assert gate.open


@pytest.mark.parametrize(("above", "n", "k", "m"), [(3, 10, 1, 10), (10, 20, 2, 15), (1, 300, 1, 50)])
def test_the_probability_is_that_of_shuffled_values(above: int, n: int, k: int, m: int) -> None:
    rng, hits, rounds = random.Random(4), 0, 4000
    for _ in range(rounds):
        values = [rng.random() for _ in range(n + m)]
        bound = sorted(values[n:])[-k]
        hits += sum(v > bound for v in values[:n]) >= above
    p = tail_p(above, n, k, m)
    assert abs(hits / rounds - p) < 4 * (p * (1 - p) / rounds) ** 0.5 + 1e-3


def test_streams_and_plain_answers_are_compared_apart() -> None:
    gate = LatencyGate()
    gate.began()
    gate.answered(True, 0.0, 1.0, 0.1)
    gate.answered(False, 0.0, 1.0, 1.0)
    assert [list(series.with_shadows) for series in (gate.streams, gate.plain)] == [[0.1], [1.0]]
