"""Templates: what they may use, what they must hold, and that text goes in once."""

from __future__ import annotations

import pytest

from gateway.scorers.judging.templates import load, parse
from gateway.scoring.options import InvalidOptions

KNOWN = ("answer", "criterion", "conversation")


def test_a_file_is_a_system_and_a_user_message():
    made = parse("You grade.\n---\nCriterion: {{ criterion }}\n{{answer}}\n")
    system, user = made.messages(
        {"criterion": "C"}, {"answer": "A", "conversation": "not asked for"}, "V", lambda: "ff"
    )
    assert system == {"role": "system", "content": "You grade."}
    assert user["content"].endswith("Criterion: C\n<<<BEGIN answer ff>>>\nA\n<<<END answer ff>>>\n\nV")
    assert "not asked for" not in user["content"]


def test_without_a_line_of_dashes_all_of_it_is_the_user_message():
    (only,) = parse("Grade {{answer}}").messages({}, {"answer": "A"}, "V")
    assert only["role"] == "user"


def test_what_looks_like_a_value_in_an_answer_stays_as_it_is():
    (only,) = parse("{{answer}} {{criterion}}").messages({"criterion": "C"}, {"answer": "{{criterion}}"}, "V")
    assert "\n{{criterion}}\n" in only["content"]
    assert only["content"].count(" C\n") == 1


def test_the_digest_is_of_the_text():
    assert parse("a {{answer}}").digest != parse("b {{answer}}").digest
    assert parse("a {{answer}}").digest == parse("a {{answer}}").digest


@pytest.mark.parametrize("kind", ["pointwise", "reference", "rubric", "groundedness", "pairwise"])
def test_the_shipped_ones_hold_what_their_kind_needs(kind, tmp_path):
    known = (*KNOWN, "reference", "context", "answer_1", "answer_2", "items", "low", "high")
    assert load(kind, None, tmp_path, known, ()).system


def test_mistakes_are_named(tmp_path):
    (tmp_path / "t.txt").write_text("{{anser}} {{whatever_else}}")
    with pytest.raises(InvalidOptions) as caught:
        load("pointwise", "t.txt", tmp_path, KNOWN, ("answer",))
    assert caught.value.lines == (
        '.template: unknown value {{anser}}; did you mean "answer"?',
        ".template: unknown value {{whatever_else}}; known: answer, conversation, criterion",
        ".template: must contain {{answer}}",
    )
    with pytest.raises(InvalidOptions, match=r"gone\.txt cannot be read"):
        load("pointwise", "gone.txt", tmp_path, KNOWN, ())
