"""Equal to nltk's METEOR where WordNet has no say."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.scorers.meteor import Meteor, chunks, meteor, meteor_words, stem

VOCABULARY = "the cat cats sat sitting sits on mat mats matting zoo"
WORDS = st.lists(st.sampled_from(VOCABULARY.split(" ")), max_size=14)


class NoWordNet:
    """No word has a synonym."""

    def synsets(self, word):
        return []


@pytest.fixture(scope="module")
def _without_sklearn():
    """Lets nltk do without scikit-learn, whose import takes half of nltk's time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "sklearn", None)
        yield


@pytest.fixture(scope="module")
def nltk_meteor(_without_sklearn):
    """METEOR as nltk computes it; skipped where it is not installed."""
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


PAPER = {
    "caresses": "caress", "ponies": "poni", "ties": "ti", "cats": "cat", "feed": "feed", "agreed": "agre",
    "plastered": "plaster", "bled": "bled", "motoring": "motor", "sing": "sing", "conflated": "conflat",
    "troubled": "troubl", "sized": "size", "hopping": "hop", "falling": "fall", "hissing": "hiss", "failing": "fail",
    "filing": "file", "happy": "happi", "sky": "sky", "relational": "relat", "conditional": "condit",
    "vietnamization": "vietnam", "triplicate": "triplic", "hopeful": "hope", "revival": "reviv", "adoption": "adopt",
    "adjustment": "adjust", "probate": "probat", "rate": "rate", "cease": "ceas", "controll": "control", "roll": "roll",
}  # fmt: skip
ENDINGS = "a e i o u y b ss ll at bl iz tion al ness ful ing ed eed s es ies ization ator ement ive y ous"
PARTS = st.sampled_from(ENDINGS.split(" "))


@pytest.mark.parametrize("word", PAPER)
def test_the_examples_of_the_paper(word):
    assert stem(word) == PAPER[word]


@pytest.fixture(scope="module")
def nltk_stem(_without_sklearn):
    """Porter's stemmer as nltk has it; skipped where it is not installed."""
    porter = pytest.importorskip("nltk.stem.porter", reason="nltk is not installed", exc_type=ImportError)
    stemmer = porter.PorterStemmer(mode=porter.PorterStemmer.ORIGINAL_ALGORITHM)
    return lambda word: stemmer.stem(word, to_lowercase=False)


@given(st.text(alphabet="aeiouybcdlnstz", min_size=3, max_size=12) | st.lists(PARTS, max_size=6).map("".join))
def test_it_equals_nltk(nltk_stem, word):
    if len(word) > 2:  # nltk's strips the s of "as"; the paper's program leaves such words alone
        assert stem(word) == nltk_stem(word)


def test_a_word_of_any_length_ends():
    assert stem("y" * 100_000) == "y" * 100_000
