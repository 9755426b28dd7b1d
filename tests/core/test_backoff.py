"""Waits double up to a cap; jitter keeps them between half and one and a half times."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.backoff import Backoff


@pytest.mark.parametrize(
    ("backoff", "waits"),
    [
        (Backoff(0.2, 30.0), [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30, 30]),
        (Backoff(1.0, 15.0), [1, 2, 4, 8, 15, 15]),
        (Backoff(60.0, 60.0), [60, 60]),
        (Backoff(0.5), [0.5, 1, 2, 4]),
        (Backoff(0.0), [0, 0]),
    ],
)
def test_each_wait_is_twice_the_previous_one_up_to_the_cap(backoff: Backoff, waits: list[float]) -> None:
    assert [backoff.wait_s(n) for n in range(1, len(waits) + 1)] == pytest.approx(waits)


@given(st.integers(1, 10**9), st.floats(0, 1, exclude_max=True))
def test_no_wait_exceeds_the_cap_after_any_number_of_failures(failures: int, u: float) -> None:
    assert 0 < Backoff(0.1, 5.0).wait_s(failures, u) <= 5.0


def test_callers_that_failed_together_do_not_return_together() -> None:
    waits = [Backoff(2.0).wait_s(1, random.Random(seed).random()) for seed in range(200)]
    assert 1.0 <= min(waits) < 1.1
    assert 2.9 < max(waits) < 3.0
