from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.decision import (
    Answer,
    InvalidAnswer,
    Option,
    Question,
    answer_of,
    distribution,
    jev_confidence,
    option_texts,
    probability,
    refusal,
    split,
)

TEAM = Question("choice", "q0", None, "Which team?", (Option("billing"), Option("other")))
TONE = Question("score", "q1", "tone", "How upset?", (Option("calm"), Option("annoyed"), Option("furious")))


def test_an_answer_follows_from_its_probabilities() -> None:
    choice = answer_of(TEAM, [0.25, 0.75], 0.3)
    assert choice == Answer("choice", (0.25, 0.75), "other", None, 0.5, "jev", 0.3)
    score = answer_of(TONE, [0.1, 0.6, 0.3])
    assert score.value is None
    assert [score.score, score.confidence] == pytest.approx([1.2, 0.4])
    predicate = answer_of(Question("predicate", "q0", None, "True?"), [0.9, 0.1])
    assert (predicate.confidence, predicate.confidence_form) == (None, None)
    assert refusal(TONE) == Answer("score", refused=True)


@pytest.mark.parametrize("value", [1.2, -0.1, "0.9", True, None, [0.5], float("nan"), float("inf")])
def test_another_value_is_never_a_probability(value: object) -> None:
    with pytest.raises(InvalidAnswer, match=r"^question q0: a probability is"):
        probability(TEAM, value)


@pytest.mark.parametrize(("values", "valid"), [
    ([0.5, 0.52], True), ([0.49, 0.49], True), ([0.5, 0.521], False), ([0.5, 0.4], False), ([1.0], False),
    ([0.4, 0.4, 0.2], False), ([0, 1], True),
])  # fmt: skip
def test_probabilities_sum_to_1_within_two_hundredths(values: list[float], valid: bool) -> None:
    if valid:
        assert distribution(TEAM, values) == tuple(values)
        return
    with pytest.raises(InvalidAnswer):
        distribution(TEAM, values)


@given(st.lists(st.floats(0.001, 1), min_size=2, max_size=10))
def test_confidence_is_between_0_and_1(weights: list[float]) -> None:
    shares = [weight / sum(weights) for weight in weights]
    for kind in ("choice", "score"):
        confidence = jev_confidence(kind, shares)
        assert confidence is not None
        assert 0.0 <= confidence <= 1.0


def test_two_levels_have_the_confidence_of_a_choice() -> None:
    assert jev_confidence("score", [0.9, 0.1]) == pytest.approx(jev_confidence("choice", [0.9, 0.1]))
    assert jev_confidence("score", [1 / 3] * 3) == 0.0
    assert jev_confidence("choice", [1.0]) == 1.0


def test_typed_values_and_equal_levels_become_different_texts() -> None:
    values = (Option(True), Option("true"), Option("true (boolean)"), Option(False))
    assert option_texts(Question("choice", "q0", None, "", values)) == (
        "true (boolean) (boolean)", "true", "true (boolean)", "false",
    )  # fmt: skip
    levels = (Option("low"), Option("low"), Option("high", "very"), Option("low (level 1)", ""))
    assert option_texts(Question("score", "q0", None, "", levels)) == (
        "low", "low (level 1)", "high: very", "low (level 1) (level 3)",
    )  # fmt: skip


def test_questions_are_split_by_a_server_limit() -> None:
    assert split([TEAM, TONE, TEAM], 2) == [[TEAM, TONE], [TEAM]]
    assert split([TEAM], None) == [[TEAM]]
