from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.evals.store.buckets import COUNT, UNIT, WIDE, bounds_of, bucket_of


@given(st.floats(allow_nan=False), st.sampled_from([UNIT, WIDE]))
def test_a_value_is_in_the_first_bucket_whose_bound_holds_it(value, bounds):
    at = bucket_of(value, bounds)
    assert 0 <= at < COUNT
    assert at == len(bounds) or value <= bounds[at]
    assert at == 0 or value > bounds[at - 1]


@pytest.mark.parametrize(("value", "at"), [(0.0, 0), (0.05, 1), (0.1, 1), (1.0, 10), (1.5, 11), (math.inf, 11)])
def test_the_ends_of_the_unit_interval_have_buckets_of_their_own(value, at):
    assert bucket_of(value, UNIT) == at


def test_scores_of_other_bounds_have_wide_buckets():
    assert bounds_of(0.0, 1.0) is UNIT
    assert bounds_of(0.0, None) is WIDE
    assert len(UNIT) == len(WIDE) == COUNT - 1
