"""Green only for what is shown to be small; "nothing found yet" is unknown; a reject waits for the repeats."""

from __future__ import annotations

import pytest

from gateway.reports.model import Comparison, Estimate, GateResult
from gateway.statistics.moments import Moments
from gateway.verdict.gates.control_repeat import aa_alarm, aa_gate, same_path_gate, with_doubt


@pytest.mark.parametrize(
    ("noise", "pairs", "repeats", "state", "says"),
    [
        (Estimate(0.0, -0.01, 0.01), 500, True, 1, "inside ±0.02"),
        (Estimate(0.0, -0.05, 0.05), 50, True, 0, "not inside ±0.02 yet"),
        (Estimate(-0.15, -0.2, -0.1), 100, True, -1, "the pipeline alone makes a difference"),
        (Estimate(0.03, 0.001, 0.06), 100, True, -1, "the pipeline alone"),
        (Estimate(None), 0, True, 0, "no pair of the control and its repeat"),
        (None, 0, True, 0, "no pair of the control and its repeat"),
        (None, 0, False, 0, "set repeat_control"),
    ],
)
def test_the_control_against_itself(noise: Estimate | None, pairs: int, repeats: bool, state: int, says: str) -> None:
    gate = aa_gate("quality", noise, pairs, 0.02, repeats)
    assert (gate.name, gate.state) == ("aa", state)
    assert says in gate.says


@pytest.mark.parametrize(
    ("noise", "pairs", "repeats", "state", "says"),
    [
        (Estimate(0.0, -0.03, 0.04), 60, True, 1, "the shadow path shifts quality by at most ±0.04 (99 %, 60 pairs)"),
        (Estimate(0.0, -0.5, 0.5), 20, True, 1, "by at most ±0.5"),
        (Estimate(0.1), 12, True, 1, "12 pairs, too few to bound a bias"),
        (Estimate(0.1), 9, True, 0, "9 of at least 10 pairs"),
        (Estimate(-0.15, -0.2, -0.1), 100, True, -1, "the pipeline alone makes a difference"),
        (Estimate(0.15, 0.1, 0.2), 100, True, -1, "the pipeline alone makes a difference"),
        (None, 0, True, 0, "0 of at least 10 pairs"),
        (None, 0, False, 0, "set repeat_control"),
    ],
)
def test_the_alarm_is_green_until_it_goes_off(
    noise: Estimate | None, pairs: int, repeats: bool, state: int, says: str
) -> None:
    gate = aa_alarm("quality", noise, pairs, repeats)
    assert (gate.name, gate.state) == ("aa", state)
    assert says in gate.says


@pytest.mark.parametrize(
    ("difference", "noise", "state", "says"),
    [
        (
            -0.5,
            [-1.0, 0.0, -1.0, -1.0, 0.0, -1.0],
            0,
            "there the control itself differs by −0.67 on quality (6 repeats)",
        ),
        (-0.5, [-1.0, -1.0, -1.0], 0, "a reject waits until that is settled"),
        (-0.5, [-1.0, -1.0], 0, "2 of the 3 repeats of the control that a reject on quality waits for"),
        (-0.5, [0.0] * 4, 0, "differs by +0"),
        (-0.5, [0.0] * 5, 1, "fine"),
        (-0.5, [1.0, 0.0, 1.0, 1.0, 1.0], 1, "fine"),
        (-0.5, [-0.2, -0.1] * 8, 1, "fine"),
        (-0.5, [-1.0, 0.0] * 8, 0, "there the control itself differs by −0.5"),
        (-0.2, [-0.4, 0.3] * 8, 1, "fine"),
    ],
    ids=[
        "on average",
        "always",
        "too few",
        "few and alike",
        "alike",
        "better on that path",
        "worse by less than the candidate",
        "as much worse",
        "only noise",
    ],
)
def test_a_reject_waits_while_the_path_may_explain_it(
    difference: float, noise: list[float], state: int, says: str
) -> None:
    worse = Comparison(
        "quality", "", "primary", Estimate(0.9), Estimate(0.4), Estimate(difference, -0.8, -0.2), None, 40, 40.0, 0.1,
        "worse", "inferior",
    )  # fmt: skip
    gate = with_doubt(GateResult("aa", 1, "fine"), worse, Moments.of(noise))
    assert (gate.state, gate.doubts_reject) == (state, state == 0)
    assert says in gate.says
    red = GateResult("aa", -1, "the pipeline alone makes a difference")
    assert with_doubt(red, worse, Moments.of(noise)) is red


def test_a_comparison_on_one_path_passes_the_aa_gate() -> None:
    assert same_path_gate("total_s").state == 1
