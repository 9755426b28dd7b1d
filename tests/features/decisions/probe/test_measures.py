"""Figures of readings from planted answers, and which of them are noise."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.core.decision import Answer, DecisionRequest, Option, Question, answer_of
from gateway.features.decisions.probe.measures import figures_of, noise, recommended
from gateway.features.decisions.probe.model import CaseAnswers, ProbeCase, ReadingFigures

MOOD = Question("choice", "mood", "mood", "How is it?", (Option("good"), Option("bad")))
GOOD = ReadingFigures("slot", 20, 20, {}, flips=0.0, by_order=0.01, by_state=0.3)


def case(n: int) -> ProbeCase:
    return ProbeCase("mood", DecisionRequest(f"text {n}", (MOOD,)), n % 2)


def answered(p: float) -> Answer:
    return answer_of(MOOD, (p, 1 - p), 0.5)


def cases(given: list[float], reverse: list[float]) -> list[CaseAnswers]:
    return [CaseAnswers(case(n), answered(p), answered(q)) for n, (p, q) in enumerate(zip(given, reverse, strict=True))]


def test_a_reading_that_follows_the_text_is_usable() -> None:
    [figures] = figures_of({"slot": cases([0.8, 0.2] * 10, [0.7, 0.1] * 10)})
    assert (figures.cases, figures.answered, figures.flips) == (20, 20, 0.0)
    assert (figures.right, figures.labelled, figures.constant) == (20, 20, 0.5)
    assert figures.by_order == pytest.approx(0.05)
    assert figures.by_state == pytest.approx(0.3)
    assert figures.label_mass == 0.5
    assert figures.refused == ""


def test_a_reading_that_follows_the_order_is_refused_with_the_figure() -> None:
    [figures] = figures_of({"letters": cases([0.8] * 20, [0.2] * 20)})
    assert figures.flips == 1.0
    assert figures.refused == "100% of its answers change when the options are listed in reverse"


NOISE: list[tuple[ReadingFigures, str]] = [
    (replace(GOOD, unread={"label_mass": 9}), "no answer to 22% of its reads, mostly label_mass"),
    (replace(GOOD, unread={"label_mass": 8}), ""),
    (replace(GOOD, flips=0.21), "21% of its answers change"),
    (replace(GOOD, flips=0.2), ""),
    (replace(GOOD, by_state=0.1, by_order=0.1), "the input moves its probabilities by 0.10, the order of the options"),
    (replace(GOOD, by_state=0.019), "moves its probabilities by 0.02, the order of the options by 0.01"),
    (replace(GOOD, by_state=None), ""),
    (replace(GOOD, right=12, labelled=20, constant=0.5), "right in 12 of 20, which is not shown to be better than"),
    (replace(GOOD, right=16, labelled=20, constant=0.5), ""),
    (GOOD, ""),
]


@pytest.mark.parametrize(("figures", "words"), NOISE)
def test_noise_is_named_with_its_figure(figures: ReadingFigures, words: str) -> None:
    reason = noise(figures)
    assert words in reason
    assert bool(words) == bool(reason)


def test_missing_answers_are_counted_by_reason() -> None:
    given = [CaseAnswers(case(n), "label_mass" if n < 3 else answered(0.9), "truncated") for n in range(4)]
    [figures] = figures_of({"slot": given})
    assert figures.unread == {"label_mass": 3, "truncated": 4}
    assert (figures.answered, figures.flips) == (0, None)
    assert "no answer to 88% of its reads, mostly truncated" in figures.refused


def test_the_best_of_what_is_no_noise_is_recommended() -> None:
    """Right answers decide; without them the agreement with others that are not noise, then flips."""
    slot, words = replace(GOOD, right=15, labelled=20), replace(GOOD, reading="words", right=19, labelled=20)
    assert recommended([slot, words]) == "words"
    assert recommended([slot, replace(words, refused="x")]) == "slot"
    agreeing = [
        replace(GOOD, reading="native", agreement={"slot": 0.9, "words": 0.6}),
        replace(GOOD, agreement={"native": 0.9, "words": 0.8}),
        replace(GOOD, reading="words", agreement={"native": 0.6, "slot": 0.8}),
    ]
    assert recommended(agreeing) == "slot"
    assert recommended([replace(GOOD, flips=0.1), replace(GOOD, reading="structured")]) == "structured"
    assert recommended([replace(GOOD, answered=7)]) is None
    assert recommended([]) is None


def test_readings_are_compared_where_both_answer() -> None:
    slot = cases([0.8, 0.2, 0.8], [0.8, 0.2, 0.8])
    words = [*cases([0.8, 0.8], [0.8, 0.8]), CaseAnswers(case(2), "truncated", answered(0.1))]
    first, second = figures_of({"slot": slot, "words": words})
    assert first.agreement == {"words": 0.5}
    assert second.agreement == {"slot": 0.5}
