"""Certificates of thresholds: how often they are wrong, what they cost, and what they refuse."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.statistics.domains import Floats
from gateway.statistics.risk_control import (
    RATES,
    RiskClaim,
    average_threshold,
    candidate_threshold,
    labels_at_any_look,
    labels_at_one_look,
    log_evidence,
)

LOSSES = st.lists(st.integers(0, 1).map(float), min_size=1, max_size=40)


def shown(losses: Floats, weights: Floats, claim: RiskClaim) -> float:
    """The share of the rows in which the promise is shown at some look."""
    size = (1 - RATES)[:, None, None] / (1 - claim.bound)
    log = np.cumsum(np.log1p(size * weights * (claim.bound - losses)), axis=2)
    return float((np.logaddexp.reduce(log, axis=0) - math.log(RATES.size) >= claim.log_limit).any(axis=1).mean())


def three_errors(rate: float, runs: int) -> float:
    return 3 * math.sqrt(rate * (1 - rate) / runs)


@pytest.mark.parametrize("bound", [0.02, 0.05, 0.1, 0.15])
def test_a_promise_at_the_boundary_is_given_in_at_most_delta(bound: float) -> None:
    """2 000 zones whose error is exactly the bound, with a look after each of 800 labels."""
    claim, random = RiskClaim(bound, 0.1), np.random.default_rng(51)
    losses = (random.random((2_000, 800)) < bound).astype(float)
    assert 0.01 <= shown(losses, np.ones_like(losses), claim) <= 0.1 + three_errors(0.1, 2_000)


def test_draws_with_unequal_probability_keep_the_promise() -> None:
    """Wrong cases are rare where labels are drawn often: unweighted, the promise is broken in nearly every run."""
    claim, random, often = RiskClaim(0.05, 0.1), np.random.default_rng(52), 0.91
    drawn_often = random.random((2_000, 800)) < often  # half of the traffic, with ten times the probability
    losses = (random.random((2_000, 800)) < np.where(drawn_often, 0.01, 0.09)).astype(float)
    weights = np.where(drawn_often, 0.1, 1.0)
    assert shown(losses, weights, claim) <= 0.1 + three_errors(0.1, 2_000)
    assert shown(losses, np.ones_like(losses), claim) > 0.9


@pytest.mark.parametrize(("bound", "true_error"), [(0.05, 0.005), (0.1, 0.025), (0.15, 0.05)])
def test_the_price_is_the_number_of_labels_that_suffice(bound: float, true_error: float) -> None:
    claim, random = RiskClaim(bound, 0.1), np.random.default_rng(53)
    n = labels_at_any_look(true_error, claim)
    assert n is not None
    losses, slack = (random.random((2_000, n)) < true_error).astype(float), three_errors(0.8, 2_000)
    assert shown(losses, np.ones_like(losses), claim) >= 0.8 - slack
    assert shown(losses[:, :-1], np.ones_like(losses[:, :-1]), claim) < 0.8 + slack


def test_prices_are_those_of_the_design() -> None:
    claim = RiskClaim(0.05, 0.1)
    assert labels_at_any_look(0.005, claim) == pytest.approx(111, abs=3)
    assert labels_at_one_look(0.005, claim) == 77
    assert labels_at_one_look(0.025, claim) == 282
    assert labels_at_any_look(0.05, claim) is None, "a zone at the bound is never shown"
    assert labels_at_one_look(0.06, claim) is None
    assert labels_at_any_look(0.045, claim, most=100) is None


def test_the_evidence_of_equal_draws_is_the_likelihood_ratio() -> None:
    [*_, found] = log_evidence([0.0] * 30 + [1.0], 0.1)
    by_hand = np.log(np.mean(RATES * ((1 - RATES * 0.1) / 0.9) ** 30))
    assert found == pytest.approx(by_hand)


@given(LOSSES, st.floats(0.01, 0.4))
def test_one_more_wrong_label_never_adds_evidence(losses: list[float], bound: float) -> None:
    for at in range(len(losses)):
        worse = [*losses[:at], 1.0, *losses[at + 1 :]]
        assert log_evidence(worse, bound)[-1] <= log_evidence(losses, bound)[-1] + 1e-9


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.floats(0.01, 0.9))
def test_a_candidate_is_the_widest_zone_within_its_aim(p: list[float], aim: float) -> None:
    found = candidate_threshold(p, aim)

    def error(t: float) -> float:
        return float(np.mean([1 - x for x in p if x >= t]))

    fitting = [t for t in p if error(t) <= aim + 1e-12]
    assert found == (min(fitting) if fitting else None)


def test_equal_probabilities_are_of_one_zone() -> None:
    assert candidate_threshold([0.9, 0.9, 0.2, 0.2], 0.3) == 0.9
    assert average_threshold([0.9, 0.9], [0.0, 1.0], 0.6) is None


def test_automated_and_wrong_keeps_its_mean() -> None:
    """3 000 draws of 200 labels: the mean over them is at most the bound, though single draws are above it."""
    random, bound, traffic = np.random.default_rng(54), 0.05, np.random.default_rng(1).random(50_000)
    losses = (random.random(traffic.size) < 1 - traffic).astype(float)
    risks = []
    for _ in range(3_000):
        at = random.integers(0, traffic.size, 200)
        t = average_threshold(traffic[at], losses[at], bound)
        risks.append(float(losses[traffic >= t].sum()) / traffic.size if t is not None else 0.0)
    assert np.mean(risks) <= bound
    assert max(risks) > bound


@pytest.mark.parametrize(
    "call",
    [
        lambda: RiskClaim(0.0, 0.1),
        lambda: RiskClaim(0.1, 1.0),
        lambda: log_evidence([1.2], 0.1),
        lambda: log_evidence([0.0], 0.1, [2.0]),
        lambda: candidate_threshold([1.2], 0.1),
        lambda: candidate_threshold([0.5], 1.0),
        lambda: candidate_threshold([], 0.1),
        lambda: average_threshold([0.5], [0.0, 0.0], 0.1),
        lambda: labels_at_any_look(-0.1, RiskClaim(0.1, 0.1)),
        lambda: labels_at_one_look(0.01, RiskClaim(0.1, 0.1), power=1.0),
    ],
)
def test_arguments_outside_the_domain_are_refused(call: object) -> None:
    with pytest.raises(ValueError, match=r"outside|expected|differ"):
        call()  # type: ignore[operator]
