"""What differs is marked, all of the rest is kept, and no text takes long."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.evals.reports.experiment.html.differ import SHOWN, cut, sides


def marked(read, text, name):
    return [each.text for each in read(text).all(name)]


def test_words_that_only_one_side_has_are_marked(read):
    left, right = sides("cook it for six minutes", "cook it for twelve minutes")
    assert marked(read, left, "del") == ["six"]
    assert marked(read, right, "ins") == ["twelve"]
    assert marked(read, left, "ins") == marked(read, right, "del") == []


@pytest.mark.parametrize(
    ("control", "candidate", "only"),
    [("今日は晴れです", "今日は雨です", ["晴れ"]), ("สวัสดีครับ", "สวัสดีค่ะ", ["รับ"]), ("a,b", "a;b", [","])],
)
def test_scripts_without_spaces_are_compared_sign_by_sign(read, control, candidate, only):
    assert marked(read, sides(control, candidate)[0], "del") == only


@given(st.text("ab <>&\n", max_size=80), st.text("ab <>&\n", max_size=80))
def test_both_texts_are_whole_and_what_is_unmarked_is_the_same(read, control, candidate):
    left, right = (read(each) for each in sides(control, candidate))
    assert left.text == (control or "no text")
    assert right.text == (candidate or "no text")
    same = ["".join(part for part in side.within if isinstance(part, str)) for side in (left, right)]
    assert same[0] == same[1]


def test_long_answers_show_where_they_part_ways(read):
    same = "word " * 4000
    left, right = (read(each) for each in sides(same + "yes " + same, same + "no " + same))
    assert [each.text for each in left.all("del")] == ["yes"]
    assert [each.text for each in right.all("ins")] == ["no"]
    assert next(each.text.strip() for each in left.all("span", "cut")) == "… 19\u202f840 characters …"
    assert len(left.text) < SHOWN + 100


@pytest.mark.parametrize("letters", ["ab", "a ", "!?", "<>", "あい"], ids=["words", "letters", "signs", "tags", "kana"])
def test_a_hundred_kilobytes_take_no_time(letters):
    rng = random.Random(1)
    texts = [" ".join("".join(rng.choices(letters, k=2)) for _ in range(33_000)) for _ in range(2)]
    started = time.process_time()
    left, right = sides(*texts)
    assert time.process_time() - started < 2
    assert max(len(left), len(right)) < 20 * SHOWN


def test_what_is_left_out_is_counted(read):
    assert read(cut(98000)).text == " … 98\u202f000 characters … "
