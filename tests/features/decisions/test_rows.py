"""Labels and probabilities of guards, and what is stored of certificates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gateway.core.guards import GuardDecision, GuardResult, to_json
from gateway.features.decisions.labelled import labelled_calls
from gateway.features.decisions.model import CertificateAttempt, Promise, StoredTry, Zone
from gateway.features.decisions.rows import (
    labels_of_version,
    newest_attempts,
    newest_probabilities,
    save_attempt,
    save_tries,
    stored_tries,
)
from gateway.features.decisions.work import look
from gateway.features.labels.blind import LabelVerdict
from gateway.features.labels.desk import Desk, LabelRequest, save_labels
from gateway.features.labels.rows import ScorerVersion, version_of
from gateway.statistics.recalibration import MapTry, PlattMap
from gateway.store.query import reading, writing

RESULTS: tuple[GuardResult, ...] = ("hit", "near", "pass", "pass", "failed")
PROMISE = Promise("block", "guard pii", 0.1, 0.9, "threshold")


def decided(result: GuardResult) -> str:
    return to_json([GuardDecision("pii", "request", "observe", result, False, 0.5, config_hash="c")])


@pytest.fixture
def guarded(keep: Callable[..., str], exchange: Callable[..., Any]) -> str:
    """A store with 50 calls that a guard judged, of which a person labelled 40."""
    calls = [exchange("1", id=str(n), pi=0.5, guards=decided(RESULTS[n % 5])) for n in range(50)]
    url, given = keep(calls), []
    with reading(url) as connection:
        desk = Desk(connection, LabelRequest("guard pii", "ada", favour=1.0))
        for _ in range(40):
            drawn = desk.next(connection)
            assert drawn is not None
            given.append(desk.label(drawn, LabelVerdict(1.0)))
    save_labels(url, given)
    return url


def test_a_guards_decisions_are_probabilities_that_a_call_may_pass(guarded: str) -> None:
    with reading(guarded) as connection:
        version = version_of(connection, "guard pii")
        assert version is not None
        p, weight = newest_probabilities(connection, version)
        calls = labelled_calls(version.scorer, labels_of_version(connection, version))
        found = look(connection, PROMISE, 1.0)
    assert sorted(p.tolist()) == [0.0] * 10 + [0.25] * 10 + [1.0] * 20, "failed decisions are none"
    assert set(weight.tolist()) == {2.0}
    assert calls.n == 40
    assert set(calls.p.tolist()) == {0.0, 0.25, 1.0}
    assert found.truth.raw is not None
    assert found.truth.raw.bias.value < -0.3, "people pass every call"


def test_tries_and_attempts_are_read_as_they_were_stored(guarded: str) -> None:
    version = ScorerVersion("s", "1", "c", "exchange", "maximise")
    tried = StoredTry(MapTry(100, 0.05, PlattMap(-0.3, 0.6), 0.02, True), 7.0)
    attempt = CertificateAttempt(PROMISE, "q", tried.tried.map, 100, (Zone(0.9, 0.2, 0.03),), 8.0, 7.0, 100)
    with writing(guarded) as connection:
        save_tries(connection, version, [tried])
        save_tries(connection, version, [StoredTry(MapTry(100, 0.05, PlattMap(), 0.0, False), 9.0)])
        assert stored_tries(connection, version) == [tried], "a try is made once"
        assert stored_tries(connection, ScorerVersion("s", "2", "c", "exchange", "maximise")) == []
        save_attempt(connection, attempt)
        later = CertificateAttempt(PROMISE, "q", PlattMap(), 0, (), 9.0, 8.0, 120, lapsed=10.0, reason="drift")
        save_attempt(connection, later)
        assert newest_attempts(connection) == {"block": later}
