"""chrF equals sacrebleu's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.scorers.chrf import Chrf, chrf, count_ngrams

sacrebleu = pytest.importorskip("sacrebleu")
RULE = Chrf("chrf")
TEXT = st.text(max_size=40) | st.text(alphabet="ab \n", max_size=60)


def test_the_number_of_the_design_notes():
    assert 100 * chrf(count_ngrams("the cat sat on the mat", "the cat is on the mat")) == pytest.approx(
        64.5779420625287
    )


def test_a_corpus_is_the_sum_of_its_texts(readme):
    """The reference that fits a text best is taken for each, as sacrebleu does."""
    best = [max((count_ngrams(text, r) for r in refs), key=chrf) for text, refs in readme]
    total = [tuple(map(sum, zip(*orders, strict=True))) for orders in zip(*best, strict=True)]
    assert 100 * chrf(total) == pytest.approx(59.72751782684763)


@given(TEXT, TEXT)
def test_it_equals_sacrebleu(ask, subject, answer, reference):
    oracle = sacrebleu.sentence_chrf(answer, [reference]).score / 100
    assert ask(RULE, subject(answer, None, reference)).value == pytest.approx(oracle, abs=1e-12)
