"""Green only for what is shown to be small; "nothing found yet" is unknown."""

from __future__ import annotations

import pytest

from gateway.reports.model import Comparison, Estimate, GateResult
from gateway.statistics.moments import Moments
from gateway.statistics.srm import SequentialRatio
from gateway.verdict.gates.gates import (
    PairLosses,
    PathChecks,
    aa_alarm,
    aa_gate,
    likelihood_gate,
    losses_gate,
    path_gate,
    same_path_gate,
    srm_gate,
    units_for_srm,
    with_doubt,
    worst,
)


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


@pytest.mark.parametrize(
    ("checks", "state", "says"),
    [
        (PathChecks(same=40), 1, "all 40 requests to shadow arms equal the served ones"),
        (PathChecks(same=40, rescored=4), 1, "; 4 stored answers were scored again, with the same result"),
        (PathChecks(translated=7), 1, "no request could be compared; 7 were sent in another API's format"),
        (PathChecks(same=40, different=1, differs="x7"), -1, "1 of 41 requests to shadow arms differ from the served"),
        (
            PathChecks(same=40, rescored=4, disagreed=1, disagrees="x8"),
            -1,
            "1 of 4 answers of the control get a different",
        ),
    ],
)
def test_one_pair_that_was_treated_otherwise_makes_the_path_red(checks: PathChecks, state: int, says: str) -> None:
    gate = path_gate(checks)
    assert (gate.name, gate.state) == ("path", state)
    assert says in gate.says
    assert all(exchange in gate.says for exchange in (checks.differs, checks.disagrees) if exchange)


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


@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.9, 0.1), (0.4, 0.3, 0.3)])
def test_the_needed_units_make_the_gate_of_a_split_green(shares: tuple[float, ...]) -> None:
    names = [f"arm{i}" for i in range(len(shares))]

    def state(units: int) -> int:
        counts = [round(units * share) for share in shares]
        return srm_gate(SequentialRatio(list(shares), counts=counts, log_peak=0.0), names).state

    needed = units_for_srm(shares)
    assert (state(needed), state(needed - 50)) == (1, 0)


def test_requests_that_differ_by_their_variants_are_said_to() -> None:
    equal = "all 3 requests to shadow arms equal the served ones"
    assert path_gate(PathChecks(same=3)).says == equal
    assert path_gate(PathChecks(same=3), varied=True).says == f"{equal}, apart from what the variants change"
    assert path_gate(PathChecks(same=2, different=1), varied=True).state == -1


@pytest.mark.parametrize(
    ("refused", "compared", "state"),
    [
        ({}, 0, 0),
        ({}, 5, 1),
        ({("tokenizers_differ", "candidate"): 1}, 999, -1),
        ({("no_prompt_logprobs", "candidate"): 1}, 0, -1),
        ({("not_aligned", "repeat"): 2}, 98, 1),
        ({("not_aligned", "repeat"): 12}, 88, -1),
    ],
)
def test_both_engines_must_score_the_same_tokens(
    refused: dict[tuple[str, str], int], compared: int, state: int
) -> None:
    gate = likelihood_gate(refused, compared)
    assert gate.state == state
    assert not refused or ("candidate" in gate.says or "repeat" in gate.says)
