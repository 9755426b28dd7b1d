"""Answers and scores as arrays: repeats averaged, failures the worst where the metric applies."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gateway.features.replay.results.sheet import FAILED, SECONDS, ScoreSheet, row_means, sheet
from gateway.features.replay.rows import ReplayAnswer, ReplayScore
from gateway.verdict.items.pairs import ItemMetric

GOOD = ReplayAnswer(item=1, target="a", repeat=1, answer_id="x", cluster="c1", outcome="ok", seconds=2.0, asked=1.0,
              upstream="u", model="m", output_tokens=4)  # fmt: skip
EXACT = ItemMetric("exact", "maximise", (0.0, 1.0))
SCORERS = {"exact": ("1", "h")}
NAN = float("nan")


def answer(item: int, target: str, repeat: int = 1, **more: object) -> ReplayAnswer:
    return replace(GOOD, item=item, target=target, repeat=repeat, cluster=f"c{item}", **more)  # type: ignore[arg-type]


def score(item: int, target: str, value: float | None, repeat: int = 1, **more: object) -> ReplayScore:
    plain = ReplayScore(
        item, target, repeat, "exact", "1", "h", "scored" if value is not None else "error", value, None
    )
    return replace(plain, **more)  # type: ignore[arg-type]


def made(answers: list[ReplayAnswer], scores: list[ReplayScore], shape: tuple[int, int] = (2, 1)) -> ScoreSheet:
    return sheet(shape, ("a", "b"), SCORERS, answers, scores)


def test_repeats_of_an_item_are_averaged() -> None:
    found = made(
        [answer(1, "a", r) for r in (1, 2, 3)], [score(1, "a", v, r) for r, v in enumerate([1, 0, 1], 1)], (2, 3)
    )
    assert found.values(EXACT, "a").tolist() == [pytest.approx(2 / 3), pytest.approx(NAN, nan_ok=True)]
    assert found.answers("a") == 3
    assert found.clusters == ["c1", ""]


def test_a_failed_answer_has_the_worst_value_if_it_applies() -> None:
    failed = [answer(i, "b", outcome="failed") for i in (1, 2)]
    found = made([answer(1, "a"), answer(2, "a"), *failed], [score(1, "a", 1.0)])
    assert found.values(EXACT, "b", ("a", "b")).tolist() == [0.0, pytest.approx(NAN, nan_ok=True)]
    assert found.measured("failed", "b").tolist() == [1.0, 1.0]
    assert np.isnan(found.measured("seconds", "b")).all(), "the duration of a failure is not the latency of an answer"
    worse_is_more = ItemMetric("exact", "minimise", (0.0, 1.0))
    assert found.values(worse_is_more, "b", ("a", "b"))[0] == 1.0
    assert np.isnan(found.values(ItemMetric("exact", "neutral", (0.0, 1.0)), "b", ("a", "b"))).all()


def test_scores_of_other_versions_and_other_rows_are_left_out() -> None:
    old = [score(1, "a", 1.0, version="0"), score(1, "a", 1.0, config_hash="g"), score(1, "a", 1.0, scorer="f1")]
    found = made([answer(1, "a"), answer(3, "a"), answer(1, "a", 2), answer(1, "gone")], [*old, score(3, "a", 1.0)])
    assert np.isnan(found.values(EXACT, "a")).all()
    assert found.answers("a") == 1


def test_scores_without_a_value_are_counted_by_status() -> None:
    found = made([answer(1, "a"), answer(2, "a")], [score(1, "a", None), score(2, "a", None, status="not_applicable")])
    assert found.unscored["exact", "a"] == {"error": 1, "not_applicable": 1}


def test_answers_of_another_upstream_than_the_first_are_counted() -> None:
    found = made([answer(1, "a"), answer(2, "a", upstream="fallback"), answer(1, "b")], [])
    assert (found.others["a"], found.others["b"]) == (1, 0)


def test_a_row_without_numbers_has_no_mean() -> None:
    assert row_means(np.array([[1.0, NAN], [NAN, NAN]])).tolist() == [1.0, pytest.approx(NAN, nan_ok=True)]


def test_a_bounded_metric_has_a_worst_value_and_a_span() -> None:
    assert (FAILED.worst, FAILED.bounded, FAILED.span) == (1.0, True, 1.0)
    assert (SECONDS.worst, SECONDS.bounded) == (None, False)
    assert ItemMetric("x", "maximise", (-1.0, 1.0)).span == 2.0
