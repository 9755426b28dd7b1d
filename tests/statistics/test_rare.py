"""The difference of two rates of rare failures: exact, and cheap while nothing fails."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.statistics.rare import BETS, WEIGHTS, RareDifference


def after(**counts: int) -> RareDifference:
    return RareDifference(0.05, **counts)


@pytest.mark.parametrize("margin", [0.02, 0.01, 0.005])
def test_without_failures_it_costs_less_than_two_rules_of_three(margin: float) -> None:
    """The rule of three at a one-sided error of 0.025 is 3.7 / margin."""
    n = next(n for n in range(1, 10_000) if after(n=n).interval()[1] < margin)
    assert n * margin <= 7.4


def test_the_interval_holds_the_mean_and_narrows() -> None:
    widths = []
    for n in (100, 1_000, 10_000):
        found = after(n=n, more=n // 50, fewer=n // 100)
        low, high = found.interval()
        assert low < found.mean < high
        assert found.mean == pytest.approx(0.01)
        widths.append(high - low)
    assert widths[0] > 2 * widths[1]
    assert widths[1] > 2 * widths[2]


def test_the_two_sides_mirror_each_other() -> None:
    low, high = after(n=900, more=12, fewer=4).interval()
    assert after(n=900, more=4, fewer=12).interval() == pytest.approx((-high, -low))


def test_the_bound_is_where_the_evidence_reaches_its_threshold() -> None:
    found = after(n=2_000, more=8, fewer=6)
    low, high = found.interval()
    assert found.log_evidence_below(high) == pytest.approx(math.log(40), abs=0.01)
    assert found.log_evidence_above(low) == pytest.approx(math.log(40), abs=0.01)


@given(st.integers(20, 5_000), st.integers(0, 10), st.integers(0, 10), st.floats(1.0, 50.0), st.floats(1.0, 3.0))
def test_fewer_events_never_narrow_the_interval(n: int, more: int, fewer: int, size: float, times: float) -> None:
    found = after(n=n, more=more, fewer=fewer)
    assert found.interval(1.0) == found.interval()
    (low, high), (wider_low, wider_high) = found.interval(size), found.interval(size * times)
    assert wider_low <= low + 2e-6
    assert wider_high >= high - 2e-6


def test_twenty_failures_of_one_event_say_what_one_failure_says() -> None:
    many, one = after(n=2_400, more=20), after(n=120, more=1)
    assert many.interval(20.0) == pytest.approx(one.interval(), abs=2e-6)
    assert many.interval(20.0)[1] > 2.5 * many.interval()[1]
    with pytest.raises(ValueError, match=r"of_event: 0\.5, expected 1 or more"):
        many.interval(0.5)


def test_no_pair_says_nothing() -> None:
    assert RareDifference().interval() == (-1.0, 1.0)
    assert RareDifference().log_evidence_below(0.5) == 0.0


@given(st.lists(st.sampled_from([-1.0, 0.0, 1.0]), max_size=50), st.integers(0, 50))
def test_a_restored_sequence_continues_with_the_same_bits(values: list[float], cut: int) -> None:
    whole, part = RareDifference(), RareDifference()
    for value in values:
        whole.add(value)
    for value in values[:cut]:
        part.add(value)
    part = RareDifference.from_state(json.loads(json.dumps(part.state())))
    for value in values[cut:]:
        part.add(value)
    assert part.interval() == whole.interval()


@pytest.mark.parametrize("wrong", [0.5, 2.0, math.nan])
def test_a_value_that_is_not_a_difference_of_outcomes_is_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match="expected -1, 0 or 1"):
        RareDifference().add(wrong)


@pytest.mark.parametrize("rate", [0.002, 0.01, 0.06])
def test_a_worse_candidate_passes_at_most_as_often_as_allowed(rate: float) -> None:
    """2 000 runs of 3 000 pairs, a look after each; 0.025 and five standard errors (false-alarm rate below 1e-6)."""
    rng, margin, runs, n = np.random.default_rng(11), 0.01, 2_000, 3_000
    passed = 0
    for _ in range(runs // 100):
        d = (rng.random((100, n)) < rate + margin).astype(int) - (rng.random((100, n)) < rate)
        more, fewer = np.cumsum(d == 1, axis=1), np.cumsum(d == -1, axis=1)
        # Only a pair in which the candidate fails alone lowers the evidence: it is greatest just before one, or at the
        # end.
        look = np.ones_like(d, dtype=bool)
        look[:, :-1] = d[:, 1:] == 1
        run, at = np.nonzero(look)
        counts = np.stack([more[run, at], at + 1 - more[run, at] - fewer[run, at], fewer[run, at]], axis=1)
        gains = np.log1p(np.outer([margin - 1, margin, margin + 1], BETS))
        evidence = np.average(np.exp(counts @ gains), axis=1, weights=WEIGHTS)
        passed += np.unique(run[evidence >= 40]).size
    assert passed / runs <= 0.025 + 5 * math.sqrt(0.025 * 0.975 / runs)
