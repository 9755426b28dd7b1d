"""Equal to nltk's METEOR where WordNet has no say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.scorers.meteor import Meteor, chunks, meteor, meteor_words

VOCABULARY = "the cat cats sat sitting sits on mat mats matting zoo"
WORDS = st.lists(st.sampled_from(VOCABULARY.split(" ")), max_size=14)


class NoWordNet:
    """No word has a synonym."""

    def synsets(self, word):
        return []


@pytest.fixture(scope="module")
def nltk_meteor():
    translate = pytest.importorskip("nltk.translate.meteor_score", reason="nltk is not installed", exc_type=ImportError)
    porter = pytest.importorskip("nltk.stem.porter", reason="nltk is not installed", exc_type=ImportError)
    stemmer = porter.PorterStemmer(mode=porter.PorterStemmer.ORIGINAL_ALGORITHM)

    def scored(answer, reference):
        return translate.single_meteor_score(reference, answer, stemmer=stemmer, wordnet=NoWordNet())

    return scored


@given(WORDS, WORDS)
def test_it_equals_nltk_without_synonyms(nltk_meteor, answer, reference):
    assert meteor(answer, reference) == pytest.approx(nltk_meteor(answer, reference))


def test_scattered_matches_score_less_than_a_run(ask, subject):
    reference = "one two three four"
    run, scattered = (
        ask(Meteor("m"), subject(text, None, reference)).value
        for text in ("one two three four x y z", "four x three y two z one")
    )
    assert run > scattered > 0


def test_chunks_are_runs_in_both_texts():
    assert chunks([]) == 0
    assert chunks([(0, 0), (1, 1), (2, 5), (4, 6)]) == 3


def test_words_are_letters_and_digits_of_any_script():
    assert meteor_words("Don't panic: Über-Öl 42!") == ["don", "t", "panic", "über", "öl", "42"]
