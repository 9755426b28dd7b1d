"""The similarity of two texts by the words that they share."""

from __future__ import annotations

import pytest

from gateway.fake.similarity import similarity, vector


def test_a_text_is_most_similar_to_itself() -> None:
    assert similarity("Charged twice.", "charged TWICE") == pytest.approx(1)
    assert similarity("charged twice", "charged once") > similarity("charged twice", "all fine", 1024)


def test_a_text_without_words_is_like_none() -> None:
    assert vector("?!", 4) == [0.0] * 4
    assert similarity("?!", "charged") == 0
