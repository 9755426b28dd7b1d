"""Labelled answers as numbers, and how often people disagree."""

from __future__ import annotations

import numpy as np
import pytest

from gateway.features.decisions.labelled import disagreement, labelled_calls, question_digest
from gateway.features.labels.rows import ScorerVersion


def row(id: str, at: float, value: float | None, labeller: str = "ada", **fields: object) -> dict[str, object]:
    """A label of a simple random sample of half of what was judged."""
    plain = {
        "subject_id": id, "at": at, "value": value, "labeller": labeller, "judged": 0.8, "created": 1.0, "pool": "",
        "favour": 1.0, "threshold": None, "share": 0.5, "horizon": 9.0, "experiment": "", "plan": None, "arm": "",
        "alias": "chat", "model": "m", "stratum": "s", "pi": 0.1, "sampled": 0.2, "unit": "",
    }  # fmt: skip
    return plain | fields


def test_calls_are_ordered_by_their_first_label() -> None:
    rows = [row("b", 3, 1.0), row("a", 5, 0.0), row("a", 2, 1.0, "bob"), row("c", 1, None)]
    found = labelled_calls("s", rows)
    assert found.at.tolist() == [2, 3]
    assert found.y.tolist() == [0.5, 1.0]
    assert found.weight.tolist() == pytest.approx([20, 20]), "1 / 0.1 of the scorer's draw, 1 / 0.5 of the label's"
    assert found.units == ("a", "b")
    assert found.part(found.at > 2).units == ("b",)
    assert found.sample().n == 2


def test_labels_that_nobody_drew_are_left_out() -> None:
    assert labelled_calls("s", [row("a", 1, 1.0, share=None)]).n == 0
    assert labelled_calls("s", []).relative.size == 0


def test_a_guards_calls_have_their_own_weight() -> None:
    assert labelled_calls("guard pii", [row("a", 1, 1.0, weight=4.0)]).weight.tolist() == [8.0]


def test_the_smallest_probability_has_weight_one() -> None:
    found = labelled_calls("s", [row("a", 1, 1.0), row("b", 2, 1.0, pi=0.4)])
    assert found.relative.tolist() == [1.0, 0.25]


def test_an_error_of_five_percent_makes_people_differ_in_a_tenth() -> None:
    random = np.random.default_rng(51)
    verdicts = [{"ada": float(a), "bob": float(b)} for a, b in random.random((4_000, 2)) < 0.95]
    found = disagreement(verdicts)
    assert found is not None
    assert found.twice == 4_000
    assert found.error == pytest.approx(0.05, abs=0.01)
    assert found.low < found.error
    assert disagreement([{"ada": 1.0}]) is None


def test_a_question_has_a_digest_of_version_and_config() -> None:
    of = ScorerVersion("s", "1", "ab", "exchange", "maximise")
    assert question_digest(of) != question_digest(ScorerVersion("s", "1", "ac", "exchange", "maximise"))
    assert len(question_digest(of)) == 12


def test_a_conversation_is_one_row_with_the_sum_of_its_weights() -> None:
    rows = [row("a", 1, 1.0, unit="x"), row("b", 2, 0.0, unit="x", judged=0.4), row("c", 3, 1.0, unit="y")]
    found = labelled_calls("s", rows).by_unit()
    assert found.units == ("x", "y")
    assert found.p.tolist() == pytest.approx([0.6, 0.8])
    assert found.y.tolist() == [0.5, 1.0]
    assert found.relative.tolist() == [1.0, 0.5]
    assert found.at.tolist() == [1, 3]
