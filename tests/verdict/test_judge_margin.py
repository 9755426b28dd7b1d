"""Margins and differences on a judge's scores, as people judge."""

from __future__ import annotations

import numpy as np
import pytest

from gateway.statistics.judge_rates import JudgeAccuracy
from gateway.verdict.judge_margin import difference_by_rates, judge_margin, margin_sentence


@pytest.mark.parametrize(
    ("tnr", "tpr", "labels", "least", "most"),
    [  # Wilson's intervals by hand: 80 of 100 is 0.7112 … 0.8666, 27 of 30 0.7438 … 0.9654, 18 of 30 0.4232 … 0.7541
        (1.0, 1.0, 10_000, 0.05, 0.0501),
        (0.8, 0.8, 10_000, 0.0811, 0.0858),
        (0.8, 0.8, 100, 0.0720, 0.1054),
        (0.9, 0.6, 30, 0.0749, 0.1893),
        (0.5, 0.5, 100, 0.3676, None),
        (0.2, 0.3, 100, 0.05 / 1e-9, None),
    ],
)
def test_a_margin_is_larger_as_people_judge(
    tnr: float, tpr: float, labels: int, least: float, most: float | None
) -> None:
    found = judge_margin(JudgeAccuracy(tnr, labels, tpr, labels), 0.05).as_people_judge
    assert found[0] == pytest.approx(least, rel=0.03)
    assert found[1] == (None if most is None else pytest.approx(most, rel=0.03))


def test_the_sentence_says_what_to_set() -> None:
    known = judge_margin(JudgeAccuracy(0.8, 100, 0.8, 100), 0.05)
    assert margin_sentence("right", known, 200) == (
        "Your margin of 0.05 on right is 0.072 to 0.11 as people judge: the judge sees 60% of a difference "
        "(47% … 69%, one look at 200 labels); for at most 0.05 as people judge, set `margin: 0.024`."
    )
    unknown = judge_margin(JudgeAccuracy(0.5, 100, 0.5, 100), 0.05)
    assert "at least 0.37, without a bound, as people judge" in margin_sentence("right", unknown, 200)
    assert "label more answers: gateway label next --scorer right" in margin_sentence("right", unknown, 200)


def test_a_difference_by_rates_covers_that_of_people() -> None:
    """A judge that errs alike on both arms; its difference is −0.06 where that of people is −0.1, with their errors
    unknown. Nominal 0.95 for one look; 4 000 draws with a fixed seed have a standard error of 0.0035."""
    rng, covered = np.random.default_rng(2), 0
    for _ in range(4_000):
        tnr, tpr = rng.binomial(60, 0.85) / 60, rng.binomial(140, 0.75) / 140
        found = difference_by_rates(JudgeAccuracy(tnr, 60, tpr, 140), rng.normal(-0.06, 0.02), 0.02)
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= -0.1 <= found.high
    assert covered / 4_000 >= 0.95 - 3 * 0.0035


def test_a_judge_like_chance_gives_no_difference() -> None:
    assert difference_by_rates(JudgeAccuracy(0.55, 40, 0.55, 40), -0.06, 0.02) is None


def test_the_interval_covers_what_the_judge_sees() -> None:
    """Nominal 0.95; 4 000 draws with a fixed seed have a standard error of 0.0035."""
    rng, covered = np.random.default_rng(1), 0
    for _ in range(4_000):
        tnr, tpr = rng.binomial(60, 0.85) / 60, rng.binomial(140, 0.75) / 140
        found = judge_margin(JudgeAccuracy(tnr, 60, tpr, 140), 0.05)
        covered += found.low <= 0.6 <= found.high
    assert covered / 4_000 >= 0.95 - 3 * 0.0035
