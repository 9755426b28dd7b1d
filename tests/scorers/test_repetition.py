"""Loops of any block are detected; prose, lists and code are not loops."""

from __future__ import annotations

import json
import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.scorers.repetition import Repetition

RULE = Repetition("repetition")
WORDS = [f"{a}{b}" for a in "bcdfghklm" for b in ("a", "ede", "ilo", "ont", "urst")]


def prose(n, seed=1):
    return " ".join(random.Random(seed).choices(WORDS, k=n))


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        (prose(200), 0.0, 0.02),
        (prose(20_000), 0.0, 0.1),
        ("no " * 400, 0.98, 1.0),
        ("I am sorry. I am sorry to say. " * 60, 0.9, 1.0),
        (prose(100) + " and then the end" * 100, 0.7, 0.9),
        (f"{prose(100)} {prose(100)}", 0.45, 0.55),
        ("".join(f"Step {i}: open the door and look behind it for the key.\n" for i in range(200)), 0.5, 0.9),
        ("天地玄黄宇宙洪荒" * 100, 0.9, 1.0),
        ("a" * 5000, 0.9, 1.0),
        (json.dumps([{"id": i, "name": prose(3, i), "price": i * 7 % 100} for i in range(60)]), 0.0, 0.25),
        ("".join(f"- {prose(6, i)}\n" for i in range(60)), 0.0, 0.05),
        ("ha ha ha", 0.0, 0.0),
        ("yes", 0.0, 0.0),
    ],
)
def test_the_value_is_the_share_that_loops(ask, subject, text, low, high):
    score = ask(RULE, subject(text))
    assert low <= score.value <= high, score
    assert set(score.detail) == {"loop", "again", "squeezed"}
    assert score.label == ("loops" if score.value > 0.3 else "fresh")


def test_only_the_end_of_a_long_answer_is_read(ask, subject):
    assert ask(RULE, subject("x y " * 100_000 + prose(60_000))).value < 0.2
    assert ask(RULE, subject(prose(60_000) + "x y " * 100_000)).value > 0.98


@pytest.mark.parametrize("text", ["a" * 100_000, "a b " * 25_000, prose(20_000), "ab" * 50_000, "x " * 49_000 + "y"])
def test_a_hundred_kilobytes_take_linear_time(ask, subject, text):
    began = time.thread_time()
    ask(RULE, subject(text))
    assert time.thread_time() - began < 1


@given(st.text(alphabet="ab \n", min_size=1, max_size=300), st.integers(1, 40))
def test_the_value_stays_in_bounds(ask, subject, text, times):
    score = ask(RULE, subject("w " + text * times))
    assert 0 <= score.value <= 1
    assert all(0 <= v <= 1 for v in score.detail.values())


@given(st.lists(st.sampled_from(WORDS), min_size=3, max_size=12, unique=True), st.integers(10, 50))
def test_any_repeated_block_is_a_loop(ask, subject, block, times):
    assert ask(RULE, subject(" ".join(block * times))).value >= 0.85
