"""The difference of two p95s: covered at every look, and not claimed before there is enough."""

from __future__ import annotations

import math
import random

from gateway.features.experiments.latency_difference import p95_difference, p95_of, quantile


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
