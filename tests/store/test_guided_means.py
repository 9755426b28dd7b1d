"""Means, histograms and windows of a scorer that is drawn with unequal probability are those of all traffic.

Traffic: 75 % of the answers score 1 and are drawn with probability 0.1, 25 % score 0 and are always drawn. So 3 of 4
exchanges are good, and of those that were judged about one in four.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from gateway.consumer.gauges import strata_of
from gateway.core.exchange import Exchange
from gateway.features.labels.calibration import CalibrationOptions, calibrate, corrected_figures
from gateway.features.labels.correction import EVERYTHING, call_weights, judged_sample, labelled_items, labels_in
from gateway.features.labels.report import to_dict, to_terminal
from gateway.features.labels.rows import (
    Label,
    ScorerVersion,
    ScoreSelection,
    judged_sums,
    labels_with_scores,
    save_labels,
)
from gateway.statistics.sampled_mean import weighted_mean
from gateway.store.guided_means import guided_mean
from gateway.store.predictions import Prediction, StoredModel, save_model

Make = Callable[..., Exchange]
N = 400


def guided(good: bool, judged: bool, version: str = "v1") -> Prediction:
    return Prediction("stated", version, 0.8 if good else 0.1, 0.04, 0.1 if good else 1.0, judged, "", b"")


def fill(store: Any, exchange: Make, tally: Any, population: int = 10 * N) -> None:
    """Every tenth of the good ones is drawn, so that the draw adds nothing to chance here."""
    sent, drawn = [], 0
    for i in range(N):
        good = i % 4 > 0
        drawn += good
        judged = not good or drawn % 10 == 0
        sent.append(exchange("1" if good else "0"))
        store.predictions[sent[-1].id] = guided(good, judged)
    store.write(*sent, tally(sent, {"default": population}))


def test_the_mean_is_that_of_all_traffic(store: Any, exchange: Make, tally: Any) -> None:
    fill(store, exchange, tally)
    found = store.snapshot()

    mean = guided_mean(found.cells, found.guided, (0.0, 1.0), "maximise")
    unused = guided_mean(found.cells, found.guided, (0.0, 1.0), "maximise", controlled=False)
    naive = weighted_mean([strata_of(cell) for cell in found.cells], (0.0, 1.0))

    assert mean is not None
    assert unused is not None
    assert mean.mean == pytest.approx(0.75, abs=0.01)
    assert unused.mean == pytest.approx(0.75, abs=0.01)
    assert mean.low < 0.75 < mean.high
    assert naive.mean == pytest.approx(30 / 130), "what the plain mean of the judged answers would show"
    assert naive.high < 0.5


def test_closed_weights_and_buckets_are_those_of_all_traffic(store: Any, exchange: Make, tally: Any) -> None:
    fill(store, exchange, tally)
    store.close()
    cell = store.cell()
    assert (cell.weight, cell.weighted_sum) == (pytest.approx(10 * N), pytest.approx(7.5 * N))
    assert (cell.bucket_weights[0], cell.bucket_weights[10]) == (pytest.approx(2.5 * N), pytest.approx(7.5 * N))
    fill(store, exchange, tally, 20 * N)
    store.close()
    assert store.cell().weighted_sum / store.cell().weight == pytest.approx(0.75)


def test_scorers_of_other_scales_keep_their_scale(store: Any, exchange: Make, stated_scorer: Any, tally: Any) -> None:
    """Bounds from 0 to 2, lower is better: unit values are 1 and 0.5, and 0.5 is the mean of 2 · (1 − u)."""
    store.scorers["stated"] = stated_scorer(bounds=(0.0, 2.0), direction="minimise")
    fill(store, exchange, tally)
    found = store.snapshot()

    mean = guided_mean(found.cells, found.guided, (0.0, 2.0), "minimise")

    assert mean is not None
    assert mean.mean == pytest.approx(0.75, abs=0.02)
    assert 0.0 <= mean.low < 0.75 < mean.high <= 2.0


def test_a_cell_from_before_the_predictor_keeps_its_plain_sums(store: Any, exchange: Make, tally: Any) -> None:
    before = [exchange("0", stratum="old") for _ in range(100)]
    store.write(*before)
    fill(store, exchange, tally, N)
    found = store.snapshot()

    mean = guided_mean(found.cells, found.guided, (0.0, 1.0), "maximise")

    assert mean is not None
    assert mean.mean == pytest.approx(0.75 * N / (N + 100), abs=0.01)


def test_judged_sums_and_label_weights_are_those_of_all_traffic(store: Any, exchange: Make, tally: Any) -> None:
    """The mean that labels correct, and what each label stands for. People call everything good."""
    fill(store, exchange, tally)
    of = ScorerVersion("stated", "1", "c1", "exchange", "maximise")
    people = [
        Label("stated", "exchange", id, "ada", 1.0, None, None, "1", "c1", "", 1.0, EVERYTHING, None, 2e9, 2e9)
        for (id,) in store.sql("SELECT exchange_id FROM scores")
    ]
    store.run(lambda c: save_labels(c, people))

    sums = store.run(lambda c: judged_sums(c, of, ScoreSelection(), 0.5))
    (figures,) = corrected_figures(
        store.scorers, store.snapshot().cells, store.run(labels_with_scores), store.snapshot().guided
    )
    items = labelled_items("stated", store.run(labels_with_scores))
    labels = labels_in(items, call_weights(sums))

    sample = judged_sample(sums)
    assert (sample.mean, sample.good, sample.weight) == pytest.approx((0.75, 0.75, 10 * N), rel=0.02)
    assert float(labels.shares @ labels.f) == pytest.approx(0.75, abs=0.05)
    assert figures.mean == pytest.approx(1.0, abs=0.02)


def test_a_calibration_shows_the_mean_of_everything_recorded(store: Any, exchange: Make, tally: Any) -> None:
    fill(store, exchange, tally)
    card = {"held_out": 9, "mae": 0.1, "mae_of_mean": 0.2, "variance_ratio": 0.5, "weight": 0.9,
            "variance_ratio_low": 0.4, "variance_ratio_high": 0.6}  # fmt: skip
    store.run(lambda c: save_model(c, StoredModel("v1", "labels:stated", 1.0, 0.0, 1.0, 9, "{}", card, ())))

    found = store.run(lambda c: calibrate(c, CalibrationOptions("stated")))

    assert found.recorded is not None
    assert found.recorded.mean == pytest.approx(0.75, abs=0.01)
    assert found.recorded.fixed_low > found.recorded.low
    console = Console(width=200, file=io.StringIO(), record=True)
    console.print(to_terminal(found))
    text = console.export_text()
    assert "all 400 recorded, with predictions" in text
    assert "variance 0.50 (0.40 to 0.60)" in text
    assert to_dict(found)["predictor"] == card


def test_where_nothing_guides_there_is_no_guided_mean(store: Any, exchange: Make) -> None:
    store.write(exchange("1"))
    found = store.snapshot()
    assert guided_mean(found.cells, found.guided, (0.0, 1.0), "maximise") is None
    assert guided_mean(found.cells, {found.cells[0].key: None}, (0.0, None), "maximise") is None  # type: ignore[dict-item]
