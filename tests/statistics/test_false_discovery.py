"""The share of false reports among all reports is bounded."""

from __future__ import annotations

import numpy as np
import pytest

from gateway.statistics.false_discovery import benjamini_hochberg


def test_the_published_example_reports_four():
    """Benjamini & Hochberg 1995, section 4: 15 p-values at q = 0.05."""
    p = [
        0.0001,
        0.0004,
        0.0019,
        0.0095,
        0.0201,
        0.0278,
        0.0298,
        0.0344,
        0.0459,
        0.3240,
        0.4262,
        0.5719,
        0.6528,
        0.7590,
        1.0,
    ]
    assert benjamini_hochberg(p, 0.05) == [True] * 4 + [False] * 11


def test_a_value_above_its_own_step_is_reported_below_a_later_one():
    assert benjamini_hochberg([0.03, 0.04], 0.05) == [True, True]
    assert benjamini_hochberg([0.04, 0.9], 0.05) == [False, False]


@pytest.mark.parametrize(("p", "found"), [([], []), ([0.0], [True]), ([1.0], [False])])
def test_edges(p, found):
    assert benjamini_hochberg(p, 0.02) == found


def test_the_order_does_not_matter():
    random = np.random.default_rng(3)
    p = random.beta(0.3, 1, 40)
    order = random.permutation(40)
    assert [benjamini_hochberg(list(p), 0.1)[i] for i in order] == benjamini_hochberg(list(p[order]), 0.1)


def test_the_false_share_is_bounded():
    """40 of 50 without a difference, 4 000 times: nominal 0.1 × 0.8, plus three standard errors."""
    random, shares = np.random.default_rng(5), []
    for _ in range(4000):
        p = np.concatenate([random.random(40), random.beta(0.02, 1, 10)])
        found = np.array(benjamini_hochberg(list(p), 0.1))
        shares.append(found[:40].sum() / max(1, found.sum()))
    assert np.mean(shares) <= 0.08 + 3 * np.std(shares) / np.sqrt(len(shares))
