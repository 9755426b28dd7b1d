"""The certificates that a consumer shares: the beginning of each zone, and none of what does not hold."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.certified import claim_digest
from gateway.config.loading import parse
from gateway.core.certificate import CONFIRMED_S, SHARED_NAME, certificate_from_json
from gateway.core.errors import StreamDown
from gateway.features.decisions.in_force import NOWHERE, SharedCertificates, certificates_in_force, zone_begin
from gateway.features.decisions.labelled import question_digest
from gateway.features.decisions.model import CertificateAttempt, CertificateFinding, Zone
from gateway.features.decisions.work import promises_of
from gateway.features.labels.rows import ScorerVersion
from gateway.scoring.registry import build_all
from gateway.statistics.recalibration import PlattMap

CONFIG = """
open: true
upstreams: {up: {kind: openai, base_url: "http://127.0.0.1:1/v1", api_key: x}}
models: {triage: {targets: [{upstream: up, model: small}]}}
scorers:
  refund: {use: decided, target: up/small, question: {predicate: "Money back?"}}
  valid_json: {}
decisions: {certificates: {refund: {scorer: refund}, other: {scorer: valid_json}}}
"""
MAP = PlattMap(-0.5, 0.8)
ZONE = Zone(0.75, 0.3, 0.01)


@given(st.floats(-4, 4), st.floats(0.05, 3), st.floats(0.5, 0.999), st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_the_zone_begins_where_the_map_reaches_it(a: float, b: float, threshold: float, ps: list[float]) -> None:
    calibration = PlattMap(a, b)
    begin = zone_begin(calibration, threshold)
    for p in (*ps, *((begin, float(np.nextafter(begin, 0.0))) if begin <= 1.0 else ())):
        assert (p >= begin) == (float(calibration(p)) >= threshold)


@pytest.mark.parametrize("slope", [0.0, -1.0])
def test_a_map_that_does_not_rise_has_no_zone(slope: float) -> None:
    assert zone_begin(PlattMap(3.0, slope), 0.6) == NOWHERE


def test_a_zone_may_hold_everything() -> None:
    assert zone_begin(PlattMap(9.0, 1.0), 0.5) == 0.0


@pytest.fixture
def known() -> tuple[Any, Any, CertificateFinding]:
    """A config, its scorers, and the finding of a certificate that is in force."""
    config = parse(CONFIG)
    scorers = build_all(config.scorers)
    promise = {promise.name: promise for promise in promises_of(config)}["refund"]
    registered = scorers.single["refund"]
    version = ScorerVersion("refund", registered.scorer.version, registered.config_hash, "exchange", "maximise")
    attempt = CertificateAttempt(
        promise, question_digest(version), MAP, 100, (ZONE,), 1.0, 1.0, 100, given=2.0, certified=ZONE, horizon=2.0
    )
    finding: Any = SimpleNamespace(promise=promise, question=attempt.question, attempt=attempt, certified=ZONE)
    return config, scorers, finding


def begin_of(texts: dict[str, str], config: Any) -> float:
    held = certificate_from_json(texts[SHARED_NAME + claim_digest(config, "refund")])
    assert held is not None
    assert held.at == 5.0
    return held.from_p


def test_a_certificate_is_shared_with_its_zone(known: Any) -> None:
    config, scorers, finding = known
    texts = certificates_in_force([finding], config, scorers.single, 5.0)
    begin = begin_of(texts, config)
    assert float(MAP(begin)) >= ZONE.threshold > float(MAP(np.nextafter(begin, 0.0)))


def test_a_lapsed_certificate_begins_nowhere(known: Any) -> None:
    config, scorers, finding = known
    finding.certified = None
    finding.attempt = replace(finding.attempt, lapsed=3.0, reason="drift")
    assert begin_of(certificates_in_force([finding], config, scorers.single, 5.0), config) == NOWHERE


def test_scores_of_another_question_certify_nothing(known: Any) -> None:
    config, _, finding = known
    other = parse(CONFIG.replace("Money back?", "Money?"))
    texts = certificates_in_force([finding], other, build_all(other.scorers).single, 5.0)
    assert begin_of(texts, other) == NOWHERE, "until the new question has labels of its own"
    assert SHARED_NAME + claim_digest(config, "refund") not in texts


def test_a_certificate_about_other_scores_is_not_shared(known: Any) -> None:
    config, scorers, finding = known
    finding.promise = replace(finding.promise, name="other", labelled_as="valid_json")
    assert certificates_in_force([finding], config, scorers.single, 5.0) == {}


async def test_a_stream_server_that_is_gone_is_no_failure(known: Any) -> None:
    config, scorers, finding = known
    asked = []

    async def remember_all(values: dict[str, str], keep_s: int) -> None:
        asked.append((len(values), keep_s))
        raise StreamDown("gone")

    state: Any = SimpleNamespace(remember_all=remember_all)
    await SharedCertificates(state, config, scorers).share([finding], 5.0)
    assert asked == [(1, int(CONFIRMED_S))]
