"""What `gateway judge calibrate` says: the planted numbers lie in its intervals, at the stated rate."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from gateway.evals.annotation.calibrate import CalibrationOptions, calibrate, corrected_mean
from gateway.evals.annotation.newest import NothingScored

RUNS = 200
LEAST = 0.95 - 3 * math.sqrt(0.05 * 0.95 / RUNS)  # what 95 % intervals hold in 200 runs, but for one time in 700
GOOD = (0.8, 0.4)  # the share of good answers in each stratum
CALLS = (800, 100)  # that each stratum stands for
TRUTH = (GOOD[0] * CALLS[0] + GOOD[1] * CALLS[1]) / sum(CALLS)


def truths(rng, n):
    """Good or not, of each answer."""
    return rng.random(n) < np.repeat(GOOD, [2 * n // 3, n // 3])


def kappa(p, tpr, tnr):
    """Of a judge with these rates, where a share p is good."""
    called = p * tpr + (1 - p) * (1 - tnr)
    agreed, chance = p * tpr + (1 - p) * tnr, p * called + (1 - p) * (1 - called)
    return (agreed - chance) / (1 - chance)


class Coverage:
    """How often each planted number lay in its interval."""

    def __init__(self, **planted):
        self.planted, self.hits, self.widths = planted, dict.fromkeys(planted, 0), dict.fromkeys(planted, 0.0)

    def look(self, **intervals):
        for name, found in intervals.items():
            self.hits[name] += found.low <= self.planted[name] <= found.high
            self.widths[name] += found.high - found.low

    def check(self):
        missed = {name: f"{hits} of {RUNS}" for name, hits in self.hits.items() if hits / RUNS < LEAST}
        assert not missed, f"fewer than {LEAST:.3f}; all: {self.hits}"


@pytest.mark.parametrize("favour", [1.0, pytest.param(2.0, marks=pytest.mark.long)])
def test_a_judge_that_errs_is_corrected_by_100_labels(bench, answers, favour):
    """It calls 90 % of the good ones good, and 25 % of the bad ones: its own mean is wrong."""
    tpr, tnr = 0.9, 0.75
    seen = Coverage(kappa=kappa(TRUTH, tpr, tnr), tpr=tpr, tnr=tnr, corrected=TRUTH, rogan_gladen=TRUTH)
    for run in range(RUNS):
        rng = np.random.default_rng(run)
        y = truths(rng, answers)
        f = np.where(rng.random(answers) < np.where(y, tpr, tnr), y, ~y).astype(float)
        bench.judge(f)
        bench.label(f, y, 100, favour)
        found = calibrate(bench.connection, CalibrationOptions("said"))
        (group,) = found.groups
        assert (found.labels, found.brought, group.labels) == (100, 0, 100)
        agreed = found.agreement
        seen.look(kappa=agreed.kappa, tpr=agreed.tpr, tnr=agreed.tnr, corrected=group.corrected,
                  rogan_gladen=group.rogan_gladen)  # fmt: skip
    seen.check()


@pytest.mark.long
def test_a_noisy_scale_is_corrected_and_helps(bench, answers):
    """A verdict between 0 and 1 that is too mild: without it, the interval would be wider."""
    seen, alone = Coverage(corrected=TRUTH), 0.0
    for run in range(RUNS):
        rng = np.random.default_rng(1000 + run)
        y = truths(rng, answers)
        f = np.clip(0.5 + 0.35 * y + rng.normal(0, 0.1, answers), 0, 1)
        bench.judge(f)
        bench.label(f, y, 80)
        (group,) = calibrate(bench.connection, CalibrationOptions("said")).groups
        seen.look(corrected=group.corrected)
        alone += 2 * 1.98 * math.sqrt(TRUTH * (1 - TRUTH) / 80)
    seen.check()
    assert seen.widths["corrected"] < 0.9 * alone


def test_a_judge_of_the_first_place_shows_its_slot_and_flip_rates(pairs):
    """Three times in ten it takes the first place in both orders; else it is right in 85 %."""
    bias, right, better, n = 0.3, 0.85, 0.6, 200
    tpr, tnr = bias + (1 - bias) * right, (1 - bias) * right
    seen = Coverage(first_slot=bias + (1 - bias) / 2, flip=bias, tpr=tpr, tnr=tnr, corrected=better)
    for run in range(RUNS):
        rng = np.random.default_rng(2000 + run)
        y, biased, first_a = rng.random(n) < better, rng.random(n) < bias, rng.random(n) < 0.5
        prefers_b = np.where(rng.random(n) < right, y, ~y)
        f = np.where(biased, 0.5, prefers_b)
        slot = np.where(biased, 1.0, prefers_b != first_a)
        details = [json.dumps({"flip": float(x), "first_slot": float(s)}) for x, s in zip(biased, slot, strict=True)]
        pairs.judge(f, details)
        pairs.label(f, y, 80)
        found = calibrate(pairs.connection, CalibrationOptions("said"))
        (group,) = found.groups
        seen.look(first_slot=found.first_slot, flip=found.flip, tpr=found.agreement.tpr, tnr=found.agreement.tnr,
                  corrected=group.corrected)  # fmt: skip
    seen.check()


def test_too_few_labels_say_nothing_but_how_many_there_are(bench, answers):
    f = np.ones(answers)
    bench.judge(f)
    bench.label(f, f, 5)
    found = calibrate(bench.connection, CalibrationOptions("said"))
    assert (found.too_few, found.agreement, found.labels, found.labellers) == (True, None, 5, ("ada",))
    assert [g.corrected for g in found.groups] == [None]
    assert corrected_mean(bench.connection, "said", None) is None


def test_the_corrected_mean_of_everything_is_the_same_number(bench, answers):
    rng = np.random.default_rng(7)
    y = truths(rng, answers)
    f = np.where(rng.random(answers) < 0.8, y, ~y).astype(float)
    bench.judge(f)
    bench.label(f, y, 100)
    (group,) = calibrate(bench.connection, CalibrationOptions("said")).groups
    assert corrected_mean(bench.connection, "said", None).value == pytest.approx(group.corrected.mean)
    assert corrected_mean(bench.connection, "said", "candidate") is None


def test_a_scorer_that_judged_nothing_is_named(bench):
    with pytest.raises(NothingScored, match="these have: said"):
        calibrate(bench.connection, CalibrationOptions("sayd"))
