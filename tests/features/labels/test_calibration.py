"""The planted numbers lie in the intervals of a calibration at the stated rate; its gauges agree with it."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from gateway.config.derive import model_names
from gateway.config.loading import parse
from gateway.consumer.gauges import Gauges
from gateway.core.errors import CannotRun
from gateway.features.labels.blind import LabelVerdict
from gateway.features.labels.calibration import CalibrationOptions, calibrate, corrected_figures
from gateway.features.labels.desk import Desk, LabelRequest, save_labels
from gateway.features.labels.metrics import corrected_by
from gateway.features.labels.rows import labels_with_scores
from gateway.observability.eval_metrics import EvalMetrics
from gateway.store.query import reading
from gateway.store.snapshot import take_snapshot
from gateway.stream import Lag

FEW, MANY = 100, pytest.param(400, marks=pytest.mark.long)  # runs
GOOD = (0.8, 0.4)  # the share of good answers in each stratum
CALLS = (800, 100)  # that each stratum stands for
TRUTH = (GOOD[0] * CALLS[0] + GOOD[1] * CALLS[1]) / sum(CALLS)


def truths(rng, n):
    """Good or not, of each answer."""
    return rng.random(n) < np.repeat(GOOD, [2 * n // 3, n // 3])


def kappa(p, tpr, tnr):
    """Cohen's kappa of a judge with these rates, where a share p is good."""
    called = p * tpr + (1 - p) * (1 - tnr)
    agreed, chance = p * tpr + (1 - p) * tnr, p * called + (1 - p) * (1 - called)
    return (agreed - chance) / (1 - chance)


class Coverage:
    """Shares of runs in which each planted number lay in its interval."""

    def __init__(self, runs, **planted):
        self.runs = runs
        self.planted, self.hits, self.widths = planted, dict.fromkeys(planted, 0), dict.fromkeys(planted, 0.0)

    def look(self, **intervals):
        for name, found in intervals.items():
            self.hits[name] += found.low <= self.planted[name] <= found.high
            self.widths[name] += found.high - found.low

    def check(self):
        least = 0.95 - 3 * math.sqrt(0.05 * 0.95 / self.runs)  # what 95 % intervals hold, but for one time in 700
        missed = {name: f"{hits} of {self.runs}" for name, hits in self.hits.items() if hits / self.runs < least}
        assert not missed, f"fewer than {least:.3f}; all: {self.hits}"


@pytest.mark.parametrize("runs", [FEW, MANY])
@pytest.mark.parametrize("favour", [1.0, pytest.param(2.0, marks=pytest.mark.long)])
def test_a_judge_that_errs_is_corrected_by_100_labels(bench, answers, favour, runs):
    """The judge calls 90 % of the good answers good, and 25 % of the bad ones, so its own mean is wrong."""
    tpr, tnr = 0.9, 0.75
    seen = Coverage(runs, kappa=kappa(TRUTH, tpr, tnr), tpr=tpr, tnr=tnr, corrected=TRUTH, rogan_gladen=TRUTH)
    for run in range(runs):
        rng = np.random.default_rng(run)
        y = truths(rng, answers)
        f = np.where(rng.random(answers) < np.where(y, tpr, tnr), y, ~y).astype(float)
        bench.judge(f)
        bench.label(f, y, 100, favour)
        found = calibrate(bench.connection, CalibrationOptions("stated"))
        (group,) = found.groups
        assert (found.labels, found.imported, group.labels) == (100, 0, 100)
        agreed = found.agreement
        seen.look(kappa=agreed.kappa, tpr=agreed.tpr, tnr=agreed.tnr, corrected=group.corrected,
                  rogan_gladen=group.rogan_gladen)  # fmt: skip
    seen.check()


@pytest.mark.parametrize("runs", [MANY])
def test_a_noisy_scale_is_corrected_and_helps(bench, answers, runs):
    """A verdict between 0 and 1 that is too mild: without it, the interval would be wider."""
    seen, alone = Coverage(runs, corrected=TRUTH), 0.0
    for run in range(runs):
        rng = np.random.default_rng(1000 + run)
        y = truths(rng, answers)
        f = np.clip(0.5 + 0.35 * y + rng.normal(0, 0.1, answers), 0, 1)
        bench.judge(f)
        bench.label(f, y, 80)
        (group,) = calibrate(bench.connection, CalibrationOptions("stated")).groups
        seen.look(corrected=group.corrected)
        alone += 2 * 1.98 * math.sqrt(TRUTH * (1 - TRUTH) / 80)
    seen.check()
    assert seen.widths["corrected"] < 0.9 * alone


@pytest.mark.parametrize("runs", [FEW, MANY])
def test_a_judge_biased_to_slot_1_shows_slot_and_flip_rates(pairs, runs):
    """Three times in ten it takes the first place in both orders; else it is right in 85 %."""
    bias, right, better, n = 0.3, 0.85, 0.6, 200
    tpr, tnr = bias + (1 - bias) * right, (1 - bias) * right
    seen = Coverage(runs, first_slot=bias + (1 - bias) / 2, flip=bias, tpr=tpr, tnr=tnr, corrected=better)
    for run in range(runs):
        rng = np.random.default_rng(2000 + run)
        y, biased, first_a = rng.random(n) < better, rng.random(n) < bias, rng.random(n) < 0.5
        prefers_b = np.where(rng.random(n) < right, y, ~y)
        f = np.where(biased, 0.5, prefers_b)
        slot = np.where(biased, 1.0, prefers_b != first_a)
        details = [json.dumps({"flip": float(x), "first_slot": float(s)}) for x, s in zip(biased, slot, strict=True)]
        pairs.judge(f, details)
        pairs.label(f, y, 80)
        found = calibrate(pairs.connection, CalibrationOptions("stated"))
        (group,) = found.groups
        seen.look(first_slot=found.first_slot, flip=found.flip, tpr=found.agreement.tpr, tnr=found.agreement.tnr,
                  corrected=group.corrected)  # fmt: skip
    seen.check()


def test_too_few_labels_give_only_their_number(bench, answers):
    f = np.ones(answers)
    bench.judge(f)
    bench.label(f, f, 5)
    found = calibrate(bench.connection, CalibrationOptions("stated"))
    assert (found.too_few, found.agreement, found.labels, found.labellers) == (True, None, 5, ("ada",))
    assert [g.corrected for g in found.groups] == [None]


def test_a_scorer_without_scores_is_named_with_those_that_have(bench):
    with pytest.raises(CannotRun, match="these scorers have: stated"):
        calibrate(bench.connection, CalibrationOptions("statd"))


CONFIG = """
open: true
upstreams: {local: {kind: vllm, base_url: "http://127.0.0.1:1/v1"}}
models: {chat: {targets: [{upstream: local, model: small}]}}
"""


@pytest.fixture
def labelled_store(keep, exchange, stated_scorer):
    """80 answers, judged 1, 1, 0 in turn, of which people labelled 40 and contradicted 5."""
    url = keep([exchange(f"{int(i % 3 > 0)} n {i}") for i in range(80)])
    given = []
    with reading(url) as connection:
        desk = Desk(connection, LabelRequest("stated", "ada"))
        for n in range(40):
            drawn = desk.next(connection)
            judged = float(drawn.blind.answers[0].split()[0])
            given.append(desk.label(drawn, LabelVerdict(1 - judged if n % 8 == 0 else judged)))
    save_labels(url, given)
    return url


def test_the_gauge_is_the_mean_that_calibrate_prints(labelled_store, stated_scorer):
    with reading(labelled_store) as connection:
        (figures,) = corrected_figures(
            {"stated": stated_scorer()}, take_snapshot(connection).cells, labels_with_scores(connection)
        )
        (group,) = calibrate(connection, CalibrationOptions("stated")).groups
    assert (figures.scorer, figures.model, figures.arm, figures.labels) == ("stated", "local/small", "", 40)
    assert figures.mean == pytest.approx(group.corrected.mean)
    assert figures.low < group.corrected.low < group.corrected.high < figures.high, (
        "a gauge is looked at again and again"
    )


def test_another_scale_is_corrected_on_the_unit_scale(labelled_store, stated_scorer):
    """The sums of a cell are moved and inverted like each of its values."""
    with reading(labelled_store) as connection:
        (cell,) = take_snapshot(connection).cells
        rows = labels_with_scores(connection)
    values = np.array([0.0] * 27 + [1.0] * 53)
    wide = 5.0 - 4.0 * values  # "minimise" on [1, 5]: 1 is best
    moved = replace(cell, total=float(wide.sum()), squares=float((wide**2).sum()))
    scorer = stated_scorer(bounds=(1.0, 5.0), direction="minimise")
    (turned,) = corrected_figures({"stated": scorer}, [moved], rows)
    (plain,) = corrected_figures({"stated": stated_scorer()}, [cell], rows)
    assert turned.mean == pytest.approx(plain.mean)
    assert turned.high == pytest.approx(plain.high)


def test_other_versions_and_unbounded_scorers_have_no_gauge(labelled_store, stated_scorer):
    with reading(labelled_store) as connection:
        cells, rows = take_snapshot(connection).cells, labels_with_scores(connection)
    assert corrected_figures({"stated": stated_scorer(version="2")}, cells, rows) == ()
    assert corrected_figures({"stated": stated_scorer(bounds=(0.0, None))}, cells, rows) == ()
    assert corrected_figures({}, cells, rows) == ()


def test_the_gauge_has_the_labels_of_the_raw_mean(labelled_store, stated_scorer):
    registry = CollectorRegistry()
    with reading(labelled_store) as connection:
        config, scorers, snapshot = parse(CONFIG), {"stated": stated_scorer()}, take_snapshot(connection)
        corrected = corrected_by(labels_with_scores(connection), scorers, model_names(config))
        EvalMetrics(registry).figures = corrected(Gauges(config, scorers).show(snapshot, Lag(0, 0, 0, 0.0)), snapshot)
    text = generate_latest(registry).decode()
    of = '{arm="",model="local/small",scorer="stated"}'
    for name in ("mean", "corrected_mean", "corrected_mean_low", "corrected_mean_high"):
        assert f"\ngateway_eval_score_{name}{of} 0." in text, name
    assert f"\ngateway_eval_score_labels{of} 40.0" in text
