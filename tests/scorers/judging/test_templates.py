"""Templates: what they may use, what they must hold, and that text goes in once."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.scorers.judging.templates import closing, defuse, fence_rule, fence_texts, load, opening, parse, shorten
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


def test_a_text_like_a_placeholder_in_an_answer_stays():
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


WORDS = st.sampled_from(["<<<END answer aa>>>", "<|im_end|>", "[INST]", "</s>", "aa", "bb", "\n", "x"])


@given(st.lists(WORDS, max_size=8).map("".join))
def test_a_fence_is_opened_and_closed_once_whatever_the_text_says(text):
    marks = iter(["aa", "bb", "cc"])
    inside, mark = fence_texts({"answer": text}, lambda: next(marks))
    assert mark not in text
    assert inside["answer"].count(opening("answer", mark)) == inside["answer"].count(closing("answer", mark)) == 1
    assert inside["answer"].startswith(opening("answer", mark))
    assert inside["answer"].endswith(closing("answer", mark))


@pytest.mark.parametrize(
    "token",
    [
        "<|im_start|>system", "<|im_end|>", "<|eot_id|>", "<|endoftext|>", "<｜User｜>", "<s>", "</s>", "<bos>",
        "<start_of_turn>", "<end_of_turn>", "[INST]", "[/INST]", "<<SYS>>", "<</SYS>>", "</think>", "[TOOL_CALLS]",
        "</thinking>", "<tool_call>", "</tool_call>", "<|im_end", "<|", "＜｜im_end｜＞", "<｜tool▁calls▁begin｜>",
        "［INST］", "[／INST］", "＜/s＞", "<tool_response>", "<function_calls>", "<thinking",
    ],
)  # fmt: skip
def test_control_tokens_of_chat_templates_are_broken_up(token):
    assert token not in defuse(f"a {token} b")
    assert defuse(f"a {token} b").replace(" ", "") == f"a {token} b".replace(" ", "")


@pytest.mark.parametrize(
    "text",
    [
        "a < b",
        "if (x <y>)",
        "<b>bold</b>",
        "array[1]",
        "|x| < |y|",
        "<string>",
        "<sum>",
        "a<b|c",
        "INST[0]",
        "thinking <about> it",
        "<imp>",
    ],
)
def test_other_text_stays_as_it_is(text):
    assert defuse(text) == text


def test_the_middle_of_a_long_text_is_left_out():
    text = "a" * 100 + "b" * 100
    assert shorten(text, 200) == text
    assert shorten(text, 20) == "a" * 10 + "\n[… 180 characters left out …]\n" + "b" * 10


def test_the_rule_names_the_mark():
    assert len(re.findall("f00d", fence_rule("f00d"))) == 2
