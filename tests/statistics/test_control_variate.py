"""Controlled means: their formula and edges, and simulated predictors that try to break them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from fixtures.learned_worlds import PREDICTORS, SHARE, TRUTH, Run, Traffic, inclusion, run, traffic
from fixtures.stage_terms import Stage, exchange_terms, stage_sums
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from gateway.statistics.asymptotic import Tuning
from gateway.statistics.control_variate import ControlledEstimate, StageSums, controlled_mean
from gateway.statistics.sampled_mean import StratumSums, weighted_mean
from tests.statistics.powered_mean import Labelled, powered_mean

Values = NDArray[np.float64]


def one_stage(seed: int, n: int = 400, pi: float = 0.25) -> tuple[Values, Values, NDArray[np.bool_]]:
    """(judge's verdicts, predictions, who was judged)."""
    rng = np.random.default_rng(seed)
    h = rng.random(n)
    return h, np.clip(h + rng.normal(0.1, 0.2, n), 0, 1), rng.random(n) < pi


@given(seed=st.integers(0, 1000))
def test_without_predictions_it_is_the_weighted_mean(seed: int) -> None:
    h, g, drawn = one_stage(seed)
    judged = h[drawn]

    ours = controlled_mean([stage_sums("a", exchange_terms(h, [Stage(drawn, 0.25, g)]), 400.0)], controlled=False)
    theirs = weighted_mean(
        [StratumSums("a", judged.size, float(judged.sum()), float((judged**2).sum()), population=400)], (0.0, 1.0)
    )

    assert ours.mean == pytest.approx(theirs.mean)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))
    assert ours.effective_n == pytest.approx(theirs.effective_n)


def test_with_one_draw_it_agrees_with_prediction_powered_inference() -> None:
    """One probability for all: the estimate of powered_mean, up to terms of the order 1/n."""
    h, g, drawn = one_stage(5, 20_000)

    ours = controlled_mean([stage_sums("a", exchange_terms(h, [Stage(drawn, 0.25, g)]))])
    theirs = powered_mean(Labelled.of(h[drawn], g[drawn], g[~drawn]))

    assert ours.mean is not None
    assert ours.mean == pytest.approx(theirs.mean, abs=0.0005)
    assert ours.fixed_high - ours.fixed_low == pytest.approx(theirs.high - theirs.low, rel=0.06)


def test_a_constant_bias_of_the_predictions_costs_nothing() -> None:
    h, _, drawn = one_stage(7, 4000)
    fair = controlled_mean([stage_sums("a", exchange_terms(h, [Stage(drawn, 0.25, h)]))])
    biased = controlled_mean([stage_sums("a", exchange_terms(h, [Stage(drawn, 0.25, h + 0.4)]))])

    assert biased.mean == pytest.approx(fair.mean)
    assert biased.variance_ratio == pytest.approx(fair.variance_ratio)
    assert fair.variance_ratio < 0.35


@pytest.mark.parametrize("g", [0.0, 0.7, 1.0])
def test_a_constant_prediction_is_not_used(g: float) -> None:
    h, _, drawn = one_stage(8)
    found = controlled_mean([stage_sums("a", exchange_terms(h, [Stage(drawn, 0.25, np.full(400, g))]))])
    assert (found.weights, found.variance_ratio) == ((0.0,), 1.0)


def test_a_prediction_of_the_wrong_sign_is_not_used() -> None:
    h, _, drawn = one_stage(9)
    found = controlled_mean([stage_sums("a", exchange_terms(h, [Stage(drawn, 0.25, 1 - h)]))])
    assert found.weights == (0.0,)


def test_strata_count_by_their_population() -> None:
    def stratum(name: str, value: float, population: float) -> StageSums:
        nothing = np.zeros(50)
        return stage_sums(name, exchange_terms(np.full(50, value), [Stage(np.ones(50), 1.0, nothing)]), population)

    found = controlled_mean([stratum("rest", 1.0, 900.0), stratum("error", 0.0, 100.0)])
    late = controlled_mean([stratum("rest", 1.0, 10.0), stratum("error", 0.0, 0.0)])

    assert (found.mean, found.n) == (pytest.approx(0.9), 100)
    assert late.mean == pytest.approx(0.5), "a tally that lags behind counts at least the exchanges"


def test_nothing_is_claimed_without_answers() -> None:
    unseen = stage_sums("slow", exchange_terms(np.zeros(40), [Stage(np.zeros(40), 0.2, np.zeros(40))]))
    seen = stage_sums("rest", exchange_terms(np.ones(40), [Stage(np.ones(40), 0.2, np.ones(40))]))
    not_applicable = stage_sums("n/a", exchange_terms(np.ones(40), [Stage(np.ones(40), 1.0, np.ones(40))], 0.0))

    assert controlled_mean([seen, unseen]).missing == ("slow",)
    assert controlled_mean([seen, unseen]).mean is None
    assert controlled_mean([]).mean is None
    assert controlled_mean([not_applicable]).missing == ()
    both = controlled_mean([seen, not_applicable])
    assert (both.mean, both.missing) == (1.0, ())


def test_equal_verdicts_do_not_claim_certainty() -> None:
    def of(n: int) -> ControlledEstimate:
        return controlled_mean([stage_sums("a", exchange_terms(np.ones(n), [Stage(np.ones(n), 1.0, np.ones(n))]))])

    assert (of(29).low, of(9).fixed_low) == (0.0, 0.0)
    assert 0.5 < of(30).low < of(30).fixed_low < 0.97
    assert of(30).high == of(30).fixed_high == 1.0


def test_failed_answers_are_a_share_of_the_traffic() -> None:
    """A judge that fails at random leaves the mean as it is."""
    answered = np.arange(40) % 4 > 0
    terms = exchange_terms(np.ones(40), [Stage(np.ones(40), 1.0, np.ones(40))], answered)
    found = controlled_mean([stage_sums("a", terms, 90.0, failed=10.0), stage_sums("b", terms[answered], 10.0)])
    assert (found.mean, found.nonresponse) == (pytest.approx(1.0), pytest.approx(90 * 0.25 / 120))


@pytest.mark.parametrize(
    ("sums", "message"),
    [
        ((-1, np.zeros(4), np.zeros((4, 4))), "n: -1"),
        ((1, np.zeros(3), np.zeros((3, 3))), "do not fit"),
        ((1, np.zeros(4), np.zeros((4, 6))), "do not fit"),
        ((1, np.full(4, math.nan), np.zeros((4, 4))), "not a finite"),
    ],
)
def test_domains(sums: tuple[int, Values, Values], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StageSums("a", *sums)


def test_strata_need_the_same_stages() -> None:
    one, two = (StageSums("a", 1, np.ones(size), np.ones((size, size))) for size in (4, 6))
    with pytest.raises(ValueError, match="stages"):
        controlled_mean([one, two])


# Simulated worlds: fixtures/learned_worlds.py. Every seed is fixed, so that a test that passes cannot fail by chance.
LONG = (pytest.mark.long, pytest.mark.timeout(1200))
SCALES = [pytest.param(24, 1000, id="quick"), pytest.param(3000, 4000, marks=LONG, id="large")]


def misses(share: float, runs: int) -> float:
    """Adds 3 standard errors over these runs to a share."""
    return share + 3.0 * math.sqrt(share * (1.0 - share) / runs)


@pytest.mark.parametrize("name", PREDICTORS)
@pytest.mark.parametrize(("runs", "n"), SCALES)
def test_one_look_covers_the_truth_whatever_the_predictor(
    name: str, runs: int, n: int, request: pytest.FixtureRequest
) -> None:
    """Coverage 95 ± 3 % and bias within 3 standard errors, with the predictions and without."""
    ours, unused, plain = [], [], []
    for seed in range(runs):
        found = run(seed, PREDICTORS[name], n)
        ours.append(controlled_mean(found.sums()))
        unused.append(controlled_mean(found.sums(), controlled=False))
        plain.append(controlled_mean([stage_sums("all", found.plain)], controlled=False))
    means = np.array([e.mean for e in ours], dtype=np.float64)
    bias = float((means.mean() - TRUTH) / (means.std() / math.sqrt(runs)))
    saved, weight = (_width(ours) / _width(plain)) ** 2, np.mean([e.weights[0] for e in ours])
    show(
        request,
        f"| {name} | {_covered(ours):.1%} | {_covered(unused):.1%} | {bias:+.1f} | {_width(ours) / 2:.4f} | "
        f"{_width(unused) / 2:.4f} | {_width(plain) / 2:.4f} | {saved:.2f} | {weight:.2f} |",
    )
    assert 0.92 - (misses(0.05, runs) - 0.05) <= _covered(ours) <= (0.98 if runs > 1000 else 1.0)
    assert 1.0 - _covered(unused) <= misses(0.05, runs) + 0.01
    assert abs(bias) <= 3.0
    if name in ("leaking", "good"):
        assert saved < 0.8


@pytest.mark.parametrize("name", PREDICTORS)
@pytest.mark.parametrize(
    ("runs", "n", "every"),
    [pytest.param(3, 1000, 100, id="quick"), pytest.param(1000, 2000, 20, marks=LONG, id="large")],
)
def test_the_sequence_covers_the_truth_at_every_look(
    name: str, runs: int, n: int, every: int, request: pytest.FixtureRequest
) -> None:
    """lambda is fitted again at every look; at least 95 % of the runs are never wrong."""
    ever = once = 0
    for seed in range(runs):
        looks = _looks(run(seed, PREDICTORS[name], n), every)
        ever += any(not e.low <= TRUTH <= e.high for e in looks)
        once += any(not e.fixed_low <= TRUTH <= e.fixed_high for e in looks)
    show(request, f"| {name} | {1 - ever / runs:.1%} | {1 - once / runs:.1%} |")
    assert ever / runs <= misses(0.05, runs)


def _looks(found: Run, every: int) -> list[ControlledEstimate]:
    """The estimates at regular intervals."""
    sums, products, looks = np.zeros(4), np.zeros((4, 4)), []
    for end in range(every, len(found.terms) + 1, every):
        part = found.terms[end - every : end]
        sums, products = sums + part.sum(axis=0), products + part.T @ part
        looks.append(controlled_mean([StageSums("all", end, sums, products)]))
    return looks


def _covered(found: list[ControlledEstimate]) -> float:
    return float(np.mean([e.fixed_low <= TRUTH <= e.fixed_high for e in found]))


def _width(found: list[ControlledEstimate]) -> float:
    return float(np.mean([e.fixed_high - e.fixed_low for e in found]))


# Three stages: a model predicts the judge, a judge reads a fifth, people a quarter of that, poor answers rather.


def three_stages(seed: int, predictor: str, judge_error: float, n: int = 4000) -> tuple[Values, float]:
    """(x of each exchange, the truth that people would find)."""
    rng = np.random.default_rng(seed)
    t = traffic(rng, n)
    f = np.clip(t.h + rng.normal(0.1, judge_error, n), 0.0, 1.0)
    guess = PREDICTORS[predictor](rng, Traffic(f, t.expected, t.at))
    pi = inclusion(guess.residual)
    people = inclusion(1.2 - f, 0.25)
    judged = rng.random(n) < pi
    labelled = judged & (rng.random(n) < people)
    return exchange_terms(t.h, [Stage(judged, pi, guess.g), Stage(labelled, people, f)]), TRUTH


@pytest.mark.parametrize("judge_error", [0.05, 0.6])
@pytest.mark.parametrize("name", ["wrong sign", "overfitted", "good"])
@pytest.mark.parametrize("runs", [pytest.param(12, id="quick"), pytest.param(3000, marks=LONG, id="large")])
def test_three_stages_cover_what_people_would_find(
    name: str, judge_error: float, runs: int, request: pytest.FixtureRequest
) -> None:
    found, bare = [], []
    for seed in range(runs):
        terms, _ = three_stages(seed, name, judge_error)
        sums = stage_sums("all", terms)
        found.append(controlled_mean([sums]))
        bare.append(controlled_mean([sums], controlled=False))
    means = np.array([e.mean for e in found], dtype=np.float64)
    bias = float((means.mean() - TRUTH) / (means.std() / math.sqrt(runs)))
    show(
        request,
        f"| {name} | {judge_error} | {_covered(found):.1%} | {bias:+.1f} | {_width(found) / 2:.4f} | "
        f"{_width(bare) / 2:.4f} | {np.mean([e.weights for e in found], axis=0).round(2)} |",
    )
    assert 0.92 - (misses(0.05, runs) - 0.05) <= _covered(found), "more is covered where few labels are alike"
    assert abs(bias) <= 3.0
    assert SHARE * 0.8 < pi_mean(three_stages(0, name, judge_error)[0]) < SHARE * 1.2


def pi_mean(terms: Values) -> float:
    """The share that stage 1 judged: E1 is 1 where it did not."""
    return float((terms[:, 2] < 0.999).mean())


def show(request: pytest.FixtureRequest, line: str) -> None:
    reporter = request.config.pluginmanager.get_plugin("terminalreporter")
    with request.config.pluginmanager.get_plugin("capturemanager").global_and_fixture_disabled():
        reporter.write_line("")
        reporter.write_line(line)


def test_a_wider_tuning_gives_a_wider_sequence() -> None:
    terms = run(0, PREDICTORS["good"]).terms
    sure, usual = (controlled_mean([stage_sums("a", terms)], Tuning(alpha)) for alpha in (0.01, 0.05))
    assert sure.low < usual.low < usual.fixed_low
