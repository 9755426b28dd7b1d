"""The length of an answer, in three units."""

from __future__ import annotations

import pytest

from gateway.core.completion import Completion
from gateway.core.exchange import Usage
from gateway.core.score import Skipped
from gateway.scorers.length import Length

RULE = Length("length")


@pytest.mark.parametrize(("text", "words"), [("one", 1), (" two\nwords ", 2), ("naïve café", 2), ("天地玄黄", 1)])
def test_words_are_split_at_white_space(ask, subject, text, words):
    score = ask(RULE, subject(text))
    assert score.value == words
    assert score.detail == {"words": words, "characters": len(text)}


def test_the_words_are_split_once(subject):
    asked = subject("one two")
    assert asked.words() == ["one", "two"]
    assert asked.words() is asked.words()
    assert asked == subject("one two"), "words are not part of its equality"


def test_tokens_are_those_the_upstream_counted(ask, subject):
    assert ask(RULE, subject(Completion("a b", usage=Usage(1, 7)))).detail["output_tokens"] == 7
    assert ask(RULE, subject(Completion("a b"), usage=Usage(1, 0))).detail["output_tokens"] == 0


def test_longer_is_neither_better_nor_worse():
    assert (RULE.direction, RULE.bounds) == ("neutral", (0.0, None))


def test_no_text_has_no_length(ask, subject):
    assert isinstance(ask(RULE, subject(" \n")), Skipped)
