"""The difference of two p95s: covered at every look, and not claimed before there is enough."""

from __future__ import annotations

import math
import random
from bisect import bisect_left
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gateway.verdict.sequences.latency import ArmSeconds, SlowShare, p95_difference, p95_of, quantile, slow_share


def seconds(rng: random.Random, n: int, scale: float = 1.0) -> list[float]:
    return [scale * rng.lognormvariate(0, 0.5) for _ in range(n)]


TRUTH = math.exp(0.5 * 1.6448536)


def test_nothing_and_little() -> None:
    assert quantile([], 0.95, 0.05).value is None
    few = quantile(sorted(seconds(random.Random(1), 10)), 0.95, 0.05)
    assert few.high is None, "no answer is known to be beyond it"
    assert p95_difference([], [1.0], 0.05).value is None


def test_the_interval_covers_at_every_look() -> None:
    missed = 0
    for seed in range(60):
        rng = random.Random(seed)
        values = seconds(rng, 1500)
        for n in range(100, 1501, 200):
            e = quantile(sorted(values[:n]), 0.95, 0.05)
            if (e.low is not None and e.low > TRUTH) or (e.high is not None and e.high < TRUTH):
                missed += 1
                break
    assert missed <= 60 * 0.05 + 3 * (60 * 0.05 * 0.95) ** 0.5


def test_a_faster_arm_is_found_and_positive() -> None:
    rng = random.Random(2)
    made = p95_of(seconds(rng, 3000), seconds(rng, 3000, 0.5), 0.05, 0.2)
    assert made.direction_found == "better"
    assert made.margin_found == "non_inferior"
    assert made.difference.low is not None
    assert made.difference.low < TRUTH / 2 < (made.difference.high or math.inf)
    assert (made.metric, made.role, made.unit) == ("latency_p95", "guardrail", "s")
    assert p95_of(seconds(rng, 3000), seconds(rng, 3000), 0.05, None).direction_found == "unclear"


SPREAD = 0.5  # of the logarithm of a duration
P95 = math.exp(SPREAD * 1.6448536)
OFTEN_SAMPLED = 1.8  # seconds above which every answer is recorded; of the others, a fifth


def arm(seed: int, units: int, calls: int = 1, shared: float = 0.0, scale: float = 1.0) -> ArmSeconds:
    """calls: of a unit, on average. shared: the part of SPREAD that a unit's calls have in common."""
    rng = np.random.default_rng(seed)
    unit = np.repeat(np.arange(units), 1 + rng.poisson(calls - 1, units))
    level = rng.normal(0, shared, units)[unit] + rng.normal(0, math.sqrt(SPREAD**2 - shared**2), unit.size)
    return ArmSeconds(scale * np.exp(level), [f"u{u}" for u in unit])


def sampled(of: ArmSeconds, seed: int) -> ArmSeconds:
    pi = np.where(of.seconds > OFTEN_SAMPLED, 1.0, 0.2)
    taken = np.flatnonzero(np.random.default_rng(seed).random(pi.size) < pi)
    return ArmSeconds(of.seconds[taken], np.asarray(of.units)[taken].tolist(), 1.0 / pi[taken])


def first(of: ArmSeconds, units: int) -> ArmSeconds:
    end = bisect_left(of.units, units, key=lambda name: int(str(name)[1:]))  # they are in order
    return ArmSeconds(of.seconds[:end], of.units[:end], None if of.weights is None else of.weights[:end])


def misses(seed: int, weighted: bool, scale: float = 1.0, units: int = 500) -> bool:
    """Whether the interval ever excludes the difference, over six looks."""
    a, b = arm(2 * seed, units, 6, 0.3), arm(2 * seed + 1, units, 6, 0.3, scale)
    if weighted:
        a, b = sampled(a, seed), sampled(b, seed + 1)
    looks = [slow_share(first(a, n), first(b, n), 0.05).difference for n in range(120, units + 1, 76)]
    truth = P95 * (1.0 - scale)
    return any((d.low or -math.inf) > truth or (math.inf if d.high is None else d.high) < truth for d in looks)


@pytest.mark.parametrize(("weighted", "scale"), [(False, 1.0), (True, 1.0), (False, 0.6)])
def test_the_difference_is_covered_at_every_look(weighted: bool, scale: float) -> None:
    """The difference is missed in at most alpha of the runs, plus three standard errors."""
    runs = 40
    assert sum(misses(seed, weighted, scale) for seed in range(runs)) <= runs * 0.05 + 3 * (runs * 0.05 * 0.95) ** 0.5


def test_a_p95_a_fifth_higher_is_found_with_units_of_many_calls() -> None:
    found = [slow_share(arm(s, 1500, 6, 0.2), arm(s + 99, 1500, 6, 0.2, 1.2), 0.05) for s in range(5)]
    assert all(each.difference.high is not None and each.difference.high < 0 for each in found)
    assert all(each.share_a == pytest.approx(0.05, abs=0.001) for each in found)
    assert all(0.08 < each.share_b < 0.13 for each in found), "about a tenth is slower than the control's p95"


def test_single_calls_need_fewer_answers_than_order_statistics() -> None:
    a, b = arm(1, 3000), arm(2, 3000)
    made = slow_share(a, b, 0.05).difference
    other = p95_of(list(a.seconds), list(b.seconds), 0.05, None).difference
    assert made.value == pytest.approx(other.value, abs=0.01)

    def width(d: Any) -> float:
        return float(d.high - d.low)

    assert width(made) < 0.75 * width(other)


def test_calls_of_one_unit_count_for_less_than_as_many_units() -> None:
    alone, together = arm(3, 1800), arm(3, 1800)
    together = replace(together, units=[f"u{i // 6}" for i in range(1800)])
    ends = [slow_share(each, arm(4, 1800), 0.05) for each in (alone, together)]
    assert ends[1].effective < ends[0].effective
    alike = ArmSeconds(np.repeat(arm(5, 300).seconds, 6), [f"u{i // 6}" for i in range(1800)])
    assert width_of(slow_share(alike, arm(4, 1800), 0.05)) > 1.2 * width_of(ends[0])


def width_of(found: SlowShare) -> float:
    low, high = found.difference.low, found.difference.high
    return math.inf if low is None or high is None else high - low


def test_few_units_and_equal_durations_claim_nothing() -> None:
    few = slow_share(arm(6, 99), arm(7, 400), 0.05)
    assert (few.difference.low, few.difference.high) == (None, None)
    same = ArmSeconds(np.full(400, 0.2), [f"u{i}" for i in range(400)])
    equal = slow_share(same, same, 0.05)
    assert (equal.difference.value, equal.share_a, equal.share_b) == (0.0, 0.0, 0.0)
    with pytest.raises(ValueError, match="at least one"):
        slow_share(ArmSeconds(np.array([]), []), same, 0.05)


def test_units_may_be_numbers() -> None:
    a, b = arm(1, 300, calls=3, shared=0.5), arm(2, 300, calls=3, shared=0.5)
    numbered = [replace(each, units=np.array([int(str(u)[1:]) for u in each.units])) for each in (a, b)]

    assert slow_share(*numbered, 0.05) == slow_share(a, b, 0.05)
