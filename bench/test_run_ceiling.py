"""The interval that the measurement of a ceiling prints, and the config that it measures."""

from __future__ import annotations

import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # as in test_simulator.py
import run_ceiling

from gateway.config.config import Config


def test_the_interval_has_the_median_and_narrows_with_blocks() -> None:
    rng = random.Random(3)
    few, many = ([rng.gauss(0.08, 0.05) for _ in range(n)] for n in (20, 500))
    (low, high), (lower, upper) = map(run_ceiling.interval, (many, few))
    assert low < 0.08 < high
    assert upper - lower > 2 * (high - low)


def test_only_one_of_the_keys_has_a_ceiling() -> None:
    config = run_ceiling.config(9)
    assert len(Config.model_validate(config).keys) == 2
    assert ["limits" in key for key in config["keys"]] == [False, True]
    assert run_ceiling.request("with").count(b"x-gateway-run") == 1
