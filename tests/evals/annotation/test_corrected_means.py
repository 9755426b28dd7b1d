"""The corrected mean stands in Prometheus beside the raw one, once there are labels enough."""

from __future__ import annotations

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from gateway.config.loading import parse
from gateway.evals.annotation.calibrate import CalibrationOptions, calibrate
from gateway.evals.annotation.corrected_means import corrected_figures
from gateway.evals.gauges import Gauges
from gateway.evals.store.labels import labelled
from gateway.evals.store.query import reading
from gateway.evals.store.snapshot import standing
from gateway.observability.eval_metrics import EvalMetrics
from gateway.stream import Lag

CONFIG = """
open: true
upstreams: {local: {kind: vllm, base_url: "http://127.0.0.1:1/v1"}}
models: {chat: {targets: [{upstream: local, model: small}]}}
"""


@pytest.fixture
def labelled_store(keep, exchange, said):
    """80 answers, judged 1, 1, 0 in turn, of which people labelled 40 and contradicted 5."""
    from gateway.evals.annotation.desk import LabelRequest
    from gateway.evals.annotation.record import desk_at, next_at
    from gateway.evals.annotation.record import keep as save
    from gateway.evals.annotation.verdict_words import LabelVerdict

    url = keep([exchange(f"{int(i % 3 > 0)} n {i}") for i in range(80)])
    desk = desk_at(url, LabelRequest("said", "ada"))
    for n in range(40):
        drawn = next_at(url, desk)
        judged = float(drawn.blind.answers[0].split()[0])
        save(url, [desk.label(drawn, LabelVerdict(1 - judged if n % 8 == 0 else judged))])
    return url


def test_the_exported_mean_is_the_one_that_calibrate_prints(labelled_store, said):
    with reading(labelled_store) as connection:
        (figures,) = corrected_figures({"said": said()}, standing(connection).cells, labelled(connection))
        (group,) = calibrate(connection, CalibrationOptions("said")).groups
    assert (figures.scorer, figures.model, figures.arm, figures.labels) == ("said", "local/small", "", 40)
    assert figures.mean == pytest.approx(group.corrected.mean)
    assert (figures.low, figures.high) == (pytest.approx(group.corrected.low), pytest.approx(group.corrected.high))


def test_a_scorer_on_another_scale_is_corrected_on_the_unit_scale(labelled_store, said):
    """The sums of its cells are moved and turned as each of its values was."""
    with reading(labelled_store) as connection:
        (cell,) = standing(connection).cells
        rows = labelled(connection)
    values = np.array([0.0] * 27 + [1.0] * 53)
    wide = 5.0 - 4.0 * values  # "minimise" on [1, 5]: 1 is best
    from dataclasses import replace

    moved = replace(cell, total=float(wide.sum()), squares=float((wide**2).sum()))
    scorer = said(bounds=(1.0, 5.0), direction="minimise")
    (turned,) = corrected_figures({"said": scorer}, [moved], rows)
    (plain,) = corrected_figures({"said": said()}, [cell], rows)
    assert turned.mean == pytest.approx(plain.mean)
    assert turned.high == pytest.approx(plain.high)


def test_labels_of_another_version_and_unbounded_scorers_export_nothing(labelled_store, said):
    with reading(labelled_store) as connection:
        cells, rows = standing(connection).cells, labelled(connection)
    assert corrected_figures({"said": said(version="2")}, cells, rows) == ()
    assert corrected_figures({"said": said(bounds=(0.0, None))}, cells, rows) == ()
    assert corrected_figures({}, cells, rows) == ()


def test_prometheus_reads_it_under_the_labels_of_the_raw_mean(labelled_store, said):
    registry = CollectorRegistry()
    with reading(labelled_store) as connection:
        gauges = Gauges(parse(CONFIG), {"said": said()})
        EvalMetrics(registry).figures = gauges.show(standing(connection), Lag(0, 0, 0, 0.0), labelled(connection))
    text = generate_latest(registry).decode()
    of = '{arm="",model="local/small",scorer="said"}'
    for name in ("mean", "corrected_mean", "corrected_mean_low", "corrected_mean_high"):
        assert f"\ngateway_eval_score_{name}{of} 0." in text, name
    assert f"\ngateway_eval_score_labels{of} 40.0" in text
