"""The figures of certificates, and of the probabilities that they are about."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from gateway.config.loading import parse
from gateway.features.decisions.metrics import acted_upon, calibration_figures, figures_of, follow_all, obeying
from gateway.features.decisions.model import Promise
from gateway.features.labels.blind import LabelVerdict
from gateway.features.labels.desk import Desk, LabelRequest, save_labels
from gateway.observability.eval_metrics import CertificateFigures, EvalFigures, EvalMetrics
from gateway.store.query import reading, writing

PROMISES = (
    Promise("auto", "stated", 0.1, 0.9, "threshold"),
    Promise("strict", "stated", 0.02, 0.9, "threshold"),
    Promise("absent", "nothing", 0.1, 0.9, "threshold"),
)


def labelled(keep: Callable[..., str], exchange: Callable[..., Any], n: int) -> str:
    """A store with 120 answers that are judged too high, of which people labelled n."""
    random = np.random.default_rng(51)
    p = random.uniform(0.5, 1.0, 120).round(4)
    url = keep([exchange(f"{x} {int(random.random() < x - 0.3)}", id=str(at)) for at, x in enumerate(p)])
    given = []
    with reading(url) as connection:
        desk = Desk(connection, LabelRequest("stated", "ada"))
        for _ in range(n):
            drawn = desk.next(connection)
            assert drawn is not None
            given.append(desk.label(drawn, LabelVerdict(float(drawn.blind.answers[0].split()[1]))))
    save_labels(url, given)
    return url


def shown(certificates: Sequence[CertificateFigures], **figures: Any) -> str:
    registry = CollectorRegistry()
    EvalMetrics(registry).figures = EvalFigures(certificates=tuple(certificates), **figures)
    return generate_latest(registry).decode()


def test_a_scorer_has_one_row_however_many_certificates(keep: Callable[..., str], exchange: Callable[..., Any]) -> None:
    with writing(labelled(keep, exchange, 60)) as connection:
        followed = follow_all(connection, PROMISES, 1.0)
    assert [found.promise.name for found in followed] == ["auto", "strict"]
    [found] = calibration_figures(followed)
    assert (found.scorer, found.labels) == ("stated", 60)
    assert found.bias is not None
    assert found.bias > 0.1, "too sure"
    text = shown((), calibrations=(found,))
    assert 'gateway_calibration_labels{scorer="stated"} 60.0' in text
    for part in ("score", "reliability", "resolution", "uncertainty"):
        assert f'gateway_calibration_brier{{part="{part}",scorer="stated"}}' in text


def test_few_labels_have_no_figure_but_their_number(keep: Callable[..., str], exchange: Callable[..., Any]) -> None:
    with writing(labelled(keep, exchange, 20)) as connection:
        [found] = calibration_figures(follow_all(connection, PROMISES[:1], 1.0))
    assert (found.labels, found.bias, found.error, found.brier) == (20, None, None, {})
    assert "\ngateway_calibration_bias{" not in shown((), calibrations=(found,))


def test_a_certificate_shows_its_state_and_share() -> None:
    text = shown([CertificateFigures("auto", "certified", ("open", "certified", "lapsed"), 0.25)])
    assert 'gateway_decision_certificate{name="auto",state="certified"} 1.0' in text
    assert 'gateway_decision_certificate{name="auto",state="lapsed"} 0.0' in text
    assert 'gateway_decision_automated_ratio{name="auto"} 0.25' in text


def test_the_figures_have_a_name_in_the_consumers_report() -> None:
    assert figures_of(PROMISES).name == "figures of decisions"


OBEYED = """
open: true
upstreams:
  engine: {kind: vllm, base_url: "http://127.0.0.1:1/v1"}
  big: {kind: vllm, base_url: "http://127.0.0.1:2/v1"}
scorers: {refund: {use: decided, target: engine/small, question: {predicate: "Money back?"}}, other: {use: valid_json}}
decisions: {certificates: {auto: {scorer: refund}, free: {scorer: other}}}
cascades:
  triage:
    model: triage
    first: {upstream: engine, model: small}
    accept: certificate auto
    then: {upstream: big, model: m}
models: {triage: {targets: [{route: triage}]}}
"""


def test_the_share_of_a_cascade_is_what_was_acted_upon(keep: Callable[..., str], exchange: Callable[..., Any]) -> None:
    """Two of ten calls were acted upon, though nearly all recorded answers of the first target are of these two."""
    leaves = ["0"] * 2 + ["1"] * 5 + ["uncertified"] * 2
    calls = [exchange("0.9 1", id=f"c{at}", route=f"triage/{leaf}", received=500.0) for at, leaf in enumerate(leaves)]
    calls[2].pi = 0.5
    old, foreign = ({"route": "triage/0", "received": -90_000.0}, {"route": "triage-2/0", "received": 500.0})
    calls += [exchange("0.9 1", id=name, **fields) for name, fields in (("old", old), ("foreign", foreign))]
    cascades = obeying(parse(OBEYED))
    assert cascades == {"auto": ["triage"]}
    with reading(keep(calls)) as connection:
        shares = acted_upon(connection, cascades, 1_000.0)
        assert shares == {"auto": pytest.approx(2 / 10)}, "one of the nine stands for two"
        assert acted_upon(connection, cascades, 200_000.0) == {}, "none of the last day"
