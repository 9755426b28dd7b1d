"""The sums of one arm's units."""

from __future__ import annotations

import numpy as np
import pytest

from gateway.features.ramp.served_sums import ServedSums
from gateway.statistics.asymptotic import Tuning


def test_sums_in_parts_are_those_of_all_values() -> None:
    values = np.random.default_rng(1).random(50)
    whole, parts = ServedSums.of(values), ServedSums.of(values[:20]).plus(ServedSums.of(values[20:]))
    assert (parts.n, parts.total, parts.squares) == (50, pytest.approx(whole.total), pytest.approx(whole.squares))
    assert whole.mean == pytest.approx(values.mean())
    assert whole.arm_mean(False, Tuning()).variance == pytest.approx(values.var())
    assert ServedSums().mean == 0.0
