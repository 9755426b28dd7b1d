"""Model, judge, people: the corrected mean where a model decides what the judge sees, and people label a part of that.

The gauges' path, from sums and labels as the store has them. Every seed is fixed, so a test that passes cannot fail by
chance.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from fixtures.learned_worlds import PREDICTORS, TRUTH, Traffic, Values, inclusion, traffic
from fixtures.stage_terms import Stage, exchange_terms, stage_sums

from gateway.features.labels.calibration import corrected_figures
from gateway.features.labels.correction import LabelCandidate, in_order, threshold
from gateway.observability.eval_metrics import CorrectedFigures
from gateway.scoring.registry import RegisteredScorer
from gateway.store.snapshot import CellKey, ScoreCell

KEY = CellKey("stated", "1", "c1", "chat", "local/small", "", "default")
LABELS, FAVOUR = 100, 2.0
EXCHANGES = 2000
LONG = (pytest.mark.long, pytest.mark.timeout(1200))


def one_day(scorer: RegisteredScorer, seed: int, predictor: str, judge_error: float) -> CorrectedFigures:
    """The judge is too mild by 0.1 and errs. People label what it calls poor twice as often."""
    rng = np.random.default_rng(seed)
    t = traffic(rng, EXCHANGES)
    f = np.clip(t.h + rng.normal(0.1, judge_error, EXCHANGES), 0.0, 1.0)
    guess = PREDICTORS[predictor](rng, Traffic(f, t.expected, t.at))
    pi = inclusion(guess.residual)
    judged = rng.random(EXCHANGES) < pi
    guided = stage_sums("all", exchange_terms(f, [Stage(judged, pi, guess.g)]), float(EXCHANGES))
    seen = [(i, float(f[i])) for i in np.flatnonzero(judged).tolist()]
    order = in_order("stated", [LabelCandidate(f"{seed}.{i}", verdict, 1.0) for i, verdict in seen], FAVOUR)
    reached = threshold(order, {each.id for _, each in order[:LABELS]})
    rows = [_label(each, reached, float(t.h[_place(each)]), float(pi[_place(each)])) for _, each in order[:LABELS]]
    (figures,) = corrected_figures({"stated": scorer}, [_cell(f[judged])], rows, {KEY: guided})
    return figures


def _place(of: LabelCandidate) -> int:
    return int(of.id.partition(".")[2])


def _label(of: LabelCandidate, reached: float, value: float, pi: float) -> dict[str, Any]:
    """A row of store.labels.labels_with_scores. pi: of the score; every exchange was recorded."""
    return {
        "subject_id": of.id, "scorer": "stated", "version": "1", "config_hash": "c1", "labeller": "ada", "value": value,
        "pool": "", "favour": FAVOUR, "threshold": reached, "share": None, "horizon": 10.0, "judged": of.judged,
        "created": of.created, "experiment": "", "plan": None, "arm": "", "alias": "chat", "model": "local/small",
        "stratum": "default", "sampled": 1.0, "pi": pi,
    }  # fmt: skip


def _cell(verdicts: Values) -> ScoreCell:
    n = dict.fromkeys(("not_applicable", "error", "timeout", "budget"), 0) | {"scored": verdicts.size}
    total, squares = float(verdicts.sum()), float((verdicts**2).sum())
    return ScoreCell(KEY, n, total, squares, float(EXCHANGES), EXCHANGES, total, float(verdicts.size))


@pytest.mark.parametrize("judge_error", [0.05, 0.6])
@pytest.mark.parametrize("name", PREDICTORS)
@pytest.mark.parametrize("days", [pytest.param(6, id="quick"), pytest.param(1000, marks=LONG, id="large")])
def test_labels_correct_a_judge_that_a_model_guides(
    name: str, judge_error: float, days: int, stated_scorer: Any, request: pytest.FixtureRequest
) -> None:
    """The truth is covered in at least 92 %, and the bias is within 3 standard errors, whatever the model and the
    judge.

    It is covered in more than 98 % where labels are nearly foreseen: what 100 of them leave open is then most of the
    width.
    """
    scorer = stated_scorer()
    found = [one_day(scorer, seed, name, judge_error) for seed in range(days)]
    means = np.array([each.mean for each in found])
    covered = float(np.mean([each.low <= TRUTH <= each.high for each in found]))
    bias = float((means.mean() - TRUTH) / (means.std() / math.sqrt(days)))
    half = float(np.mean([each.high - each.low for each in found])) / 2.0
    reporter = request.config.pluginmanager.get_plugin("terminalreporter")
    with request.config.pluginmanager.get_plugin("capturemanager").global_and_fixture_disabled():
        reporter.write_line(f"\n| {name} | {judge_error} | {covered:.1%} | {bias:+.1f} | {half:.4f} |")
    assert covered >= 0.92 - 3.0 * math.sqrt(0.08 * 0.92 / days)
    assert abs(bias) <= 3.0
