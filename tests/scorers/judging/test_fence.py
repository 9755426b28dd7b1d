"""No text can close its fence, end its message, or fill the prompt."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.scorers.judging.fence import closing, defuse, fence_rule, fence_texts, opening, shorten

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
