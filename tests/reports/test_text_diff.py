"""Differences are marked, everything else is kept, and only a bounded part of a long text is compared."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.reports.text_diff import SHOWN_CHARACTERS, Segment, omission, side_by_side


def marked(segments: list[Segment], mark: str) -> list[str]:
    return [each.text for each in segments if each.mark == mark]


def text(segments: list[Segment]) -> str:
    return "".join(each.text for each in segments)


def test_words_that_only_one_side_has_are_marked():
    left, right = side_by_side("cook it for six minutes", "cook it for twelve minutes")
    assert marked(left, "del") == ["six"]
    assert marked(right, "ins") == ["twelve"]
    assert marked(left, "ins") == marked(right, "del") == []


@pytest.mark.parametrize(
    ("control", "candidate", "only"),
    [("今日は晴れです", "今日は雨です", ["晴れ"]), ("สวัสดีครับ", "สวัสดีค่ะ", ["รับ"]), ("a,b", "a;b", [","])],
)
def test_scripts_without_spaces_are_compared_by_character(control, candidate, only):
    assert marked(side_by_side(control, candidate)[0], "del") == only


@given(st.text("ab <>&\n", max_size=80), st.text("ab <>&\n", max_size=80))
def test_short_texts_are_complete_and_equal_where_unmarked(control, candidate):
    left, right = side_by_side(control, candidate)
    assert text(left) == (control or "no text")
    assert text(right) == (candidate or "no text")
    assert "".join(marked(left, "")) == "".join(marked(right, ""))


def test_long_answers_start_shortly_before_they_differ():
    same = "word " * 4000
    left, right = side_by_side(same + "yes " + same, same + "no " + same)
    assert marked(left, "del") == ["yes"]
    assert marked(right, "ins") == ["no"]
    assert marked(left, "cut")[0].strip() == "… 19\u202f840 characters …"
    assert len(text(left)) < SHOWN_CHARACTERS + 100


@pytest.mark.parametrize("letters", ["ab", "a ", "!?", "<>", "あい"], ids=["words", "letters", "signs", "tags", "kana"])
def test_a_bounded_part_of_long_texts_is_compared(letters):
    rng = random.Random(1)
    texts = [" ".join("".join(rng.choices(letters, k=2)) for _ in range(33_000)) for _ in range(2)]
    for side in side_by_side(*texts):
        compared = sum(len(each.text) for each in side if each.mark != "cut")
        assert compared <= SHOWN_CHARACTERS
        assert len(side) <= 2 * SHOWN_CHARACTERS


def test_left_out_characters_are_counted():
    assert omission(98000).text == " … 98\u202f000 characters … "
