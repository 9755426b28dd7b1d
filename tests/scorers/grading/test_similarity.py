"""The metrics of the text_similarity grader, against the packages that define them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.scorers.grading.similarity import MAX_CHARACTERS, gleu, similarity

PAIRS = [
    ("the cat sat on the mat", "the cat is on the mat"),
    ("The quick brown fox jumps.", "A quick brown dog jumped over it, quickly."),
    ("same words", "same words"),
    ("nothing", "in common here"),
    ("", "empty answer"),
]
WORDS = st.lists(st.sampled_from(["a", "b", "c", "d", "the"]), min_size=1, max_size=12)


@pytest.mark.parametrize(("answer", "reference"), PAIRS)
@pytest.mark.parametrize("metric", ["rouge_1", "rouge_2", "rouge_3", "rouge_l"])
def test_rouge_is_rouge_scores(metric, answer, reference):
    from rouge_score.rouge_scorer import RougeScorer

    name = metric.replace("_", "").replace("rougel", "rougeL")
    expected = RougeScorer([name], use_stemmer=False).score(reference, answer)[name].fmeasure
    assert math.isclose(similarity(metric, answer, reference), expected, abs_tol=1e-9)


@given(WORDS, WORDS)
def test_gleu_is_nltks(answer, reference):
    from nltk.translate.gleu_score import sentence_gleu

    assert math.isclose(gleu(answer, reference), sentence_gleu([reference], answer), abs_tol=1e-12)


@pytest.mark.parametrize("metric", ["fuzzy_match", "bleu", "gleu", "rouge_1", "rouge_5", "rouge_l"])
def test_the_same_is_1_and_nothing_in_common_0(metric):
    text = "one two three four five six"
    assert math.isclose(similarity(metric, text, text), 1.0)
    assert similarity(metric, "xxyy", "abcd") == 0.0
    assert 0.0 <= similarity(metric, "", "") <= 1.0


def test_fuzzy_match_is_an_edit_ratio():
    assert math.isclose(similarity("fuzzy_match", "this is a test", "this is a test!"), 28 / 29)


def test_only_so_much_of_a_text_is_read():
    assert similarity("fuzzy_match", "a" * (MAX_CHARACTERS + 5), "a" * MAX_CHARACTERS) == 1.0
