"""Green only for what is shown to be small; "nothing found yet" is unknown."""

from __future__ import annotations

import pytest

from gateway.evals.experiments.gates import PairLosses, aa_alarm, aa_gate, losses_gate, same_path_gate, srm_gate, worst
from gateway.evals.experiments.report import Estimate
from gateway.evals.statistics.srm import SequentialRatio


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


def test_a_comparison_on_one_path_passes_the_aa_gate() -> None:
    assert same_path_gate("total_s").state == 1


@pytest.mark.parametrize(
    ("arms", "difference", "state"),
    [
        ({}, Estimate(None), 0),
        ({"control": (1000, 0), "candidate": (1000, 4)}, Estimate(-0.004, -0.05, 0.04), 1),
        ({"control": (1000, 10), "candidate": (1000, 200)}, Estimate(-0.19, -0.25, -0.13), -1),
        ({"control": (1000, 100), "candidate": (1000, 100)}, Estimate(0.0, -0.015, 0.015), 1),
        ({"control": (50, 5), "candidate": (50, 5)}, Estimate(0.0, -0.3, 0.3), 0),
        ({"control": (50, 5), "candidate": (50, 5)}, Estimate(0.0), 0),
    ],
    ids=["nothing settled", "too few to matter", "one arm", "alike", "too few to tell", "no interval"],
)
def test_losses_must_be_few_or_alike(arms: dict[str, tuple[int, int]], difference: Estimate, state: int) -> None:
    assert losses_gate("losses", "records", PairLosses(arms, difference), 0.02).state == state


@pytest.mark.parametrize(
    ("counts", "state"),
    [([0, 0], 0), ([52, 48], 0), ([25_000, 25_100], 1), ([6_000, 5_000], -1)],
    ids=["none", "too few", "as planned", "not as planned"],
)
def test_the_shares_of_a_split_are_shown_to_be_the_planned_ones(counts: list[int], state: int) -> None:
    test = SequentialRatio([0.5, 0.5])
    for arm, n in enumerate(counts):
        test.counts[arm] = n
    test.add(0, 0)
    gate = srm_gate(test, ["control", "candidate"])
    assert gate.state == state
    assert gate.value is None or (gate.value < 0.01) == (state < 0)


def test_one_that_is_not_green_is_enough() -> None:
    green, open_, red = (aa_gate("m", e, 9, 0.1, True) for e in (
        Estimate(0, -0.01, 0.01), Estimate(0, -0.5, 0.5), Estimate(1, 0.5, 1)))  # fmt: skip
    assert (worst([]), worst([green]), worst([green, open_]), worst([green, open_, red])) == (1, 1, 0, -1)
