"""BLEU equals sacrebleu's, its tokenizer included."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.scorers.bleu import Bleu, NgramCounts, bleu, count_ngrams, tokenize

sacrebleu = pytest.importorskip("sacrebleu")
RULE = Bleu("bleu")
SIGNS = "ab1 .,-'\"&;!?()[]{}<>/\\|~`@#$%^*_+=:\n\tü"
TEXT = st.text(alphabet=SIGNS, max_size=50) | st.lists(st.sampled_from(["the", "cat", "sat", "on", "."])).map(" ".join)


def test_the_numbers_of_the_design_notes(readme):
    one = count_ngrams(tokenize("the cat sat on the mat"), [tokenize("the cat is on the mat")])
    assert 100 * bleu(one, effective=True) == pytest.approx(37.99178428257963)
    corpus = sum((count_ngrams(tokenize(text), [tokenize(r) for r in refs]) for text, refs in readme), NgramCounts())
    assert 100 * bleu(corpus) == pytest.approx(48.530827009929865)


@given(TEXT, TEXT)
def test_it_equals_sacrebleu(ask, subject, answer, reference):
    oracle = sacrebleu.sentence_bleu(answer, [reference]).score / 100
    assert ask(RULE, subject(answer, None, reference)).value == pytest.approx(oracle, abs=1e-12)


@given(st.text(alphabet=SIGNS, max_size=60))
@example("1..2 ,.5 a.b 3-4 -5 &quot;&amp;lt; <skipped> well-\nknown")
def test_the_tokens_are_those_of_13a(text):
    tokenizer = sacrebleu.tokenizers.tokenizer_13a.Tokenizer13a()
    assert tokenize(text) == tokenizer(text.rstrip()).split()


@pytest.mark.parametrize(
    ("answer", "references"),
    [
        ("a b c d e", ["a b c d", "a b c d e f"]),
        ("a b", ["a", "a b c"]),
        ("a a a a a", ["a a b b c", "a c c c a"]),
    ],
)
def test_several_references_equal_sacrebleu(answer, references):
    oracle = sacrebleu.sentence_bleu(answer, references).score / 100
    assert bleu(count_ngrams(tokenize(answer), [tokenize(r) for r in references]), effective=True) == pytest.approx(
        oracle
    )
