"""The consumer's part of a heartbeat."""

from __future__ import annotations

import pytest

from gateway.core.score import Score, ScoreResult
from gateway.features.consumer_report import ConsumerReport, FailingScorer, ScorerFailures, silent_consumers
from gateway.features.isolation import StoppedWork

STOPPED = StoppedWork("ValueError: m2: inf", "ValueError", "restart the consumer", 9.0)


def result(scorer="judge", status="error", reason="HTTP 404: no such model"):
    score = Score(1.0) if status == "scored" else None
    return ScoreResult(scorer, "1", "c", status, score, None if score else reason, 0.1, 1.0)


def test_a_report_survives_json_and_an_unknown_member():
    report = ConsumerReport(
        "store: full", {"judge": FailingScorer(3, 4, "no")}, "abc", "refused", 5.0, {"runs": STOPPED}
    )
    assert ConsumerReport.from_json(report.to_json()) == report
    assert ConsumerReport.from_json('{"paused": "x", "newer": 1}') == ConsumerReport("x")
    assert ConsumerReport.from_json(None) == ConsumerReport()


@pytest.mark.parametrize(
    ("failed", "fine", "named"), [(262, 0, True), (2, 0, False), (3, 0, True), (3, 27, True), (3, 28, False)]
)
def test_a_scorer_is_named_from_a_tenth_and_three_failures_on(failed, fine, named):
    failures = ScorerFailures()
    failures.count([*[result()] * failed, *[result(status="scored")] * fine], 0.0)
    assert ("judge" in failures.failing(1.0)) is named


def test_the_newest_reason_is_kept_and_old_failures_are_forgotten():
    failures = ScorerFailures()
    failures.count([result(reason="old")] * 3, 0.0)
    failures.count([result(reason="new" * 200)], 300.0)
    assert failures.failing(300.0)["judge"].reason == ("new" * 200)[:300]
    assert failures.failing(720.0) == {}
    failures.count([result(status="timeout", reason=None)] * 3, 800.0)
    assert failures.failing(801.0) == {"judge": FailingScorer(4, 4, "timeout")}


def test_a_metric_that_does_not_apply_is_not_a_failure():
    failures = ScorerFailures()
    failures.count([result(status=status) for status in ("not_applicable", "budget") for _ in range(9)], 0.0)
    assert failures.failing(0.0) == {}


GONE = [
    ({"a": 0.0}, {"a": -900.0}, ["a"]),
    ({"a": 0.0, "b": 99.0}, {"a": -900.0, "b": -900.0}, ["a"]),
    ({"a": 0.0, "b": 99.0}, {"a": -900.0, "b": 5.0}, []),
    ({"a": 0.0, "c": 3.0, "b": 99.0}, {"b": 5.0}, ["a"]),
    ({"a": 0.0, "c": 3.0, "b": 99.0}, {"b": 2.0}, ["c"]),
    ({"a": 0.0, "b": 99.0}, {}, ["a"]),
]


@pytest.mark.parametrize(("beats", "started", "gone"), GONE, ids=[str(n) for n in range(len(GONE))])
def test_each_new_consumer_replaces_one_that_is_gone(
    beats: dict[str, float], started: dict[str, float], gone: list[str]
) -> None:
    assert silent_consumers(beats, started, 100.0) == gone
