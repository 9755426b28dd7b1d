"""Facts of a batch of texts are those of each text alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.scoring import text_facts
from gateway.scoring.text_facts import FEW, GRAM, BatchTexts, TextFacts, facts_of_words, grams

SPACES = [" ", "\n", "\t", "\x1c", "\x1f", "\x85", "\xa0", "\u2009", "\u2028", "\u3000"]
NO_SPACES = ["\0", "\x08", "\x0e", "\x1b", "\u200b", "\u2060", "\ufeff", "\ud800", "é", "日", "𝒳"]
WORDS = ["a", "bb", "the", "eightlet", "internationalisation", "internationalization", "“quoted”", *NO_SPACES]
TEXTS = st.lists(st.sampled_from([*WORDS, *SPACES, *SPACES]), max_size=60).map("".join)


@given(st.lists(TEXTS, min_size=FEW, max_size=FEW + 4))
def test_words_are_counted_as_by_split_and_no_repeat_is_missed(texts: list[str]) -> None:
    for text, found in zip(texts, text_facts.text_facts(texts), strict=True):
        alone = facts_of_words(text.split())
        assert found.words == alone.words
        assert found.repeats or not alone.repeats


@pytest.mark.parametrize("character", [chr(i) for i in range(0x3001) if len(f"a{chr(i)}b".split()) == 2])
def test_every_white_space_separates(character: str) -> None:
    assert text_facts.text_facts([f"a{character}b"] * FEW) == [TextFacts(2, repeats=False)] * FEW


def test_repeats_are_found_in_their_own_text_only() -> None:
    fresh = " ".join(f"word{i} {'x' * i}" for i in range(1, 80))
    texts = [
        fresh,
        f"{fresh}\n{fresh}",
        fresh,
        "",
        "one two three",
        "one two three four one two three four",
        fresh,
        " ",
    ]
    assert [f.repeats for f in text_facts.text_facts(texts)] == [False, True, False, False, False, True, False, False]


def test_texts_beyond_the_size_of_a_group_are_read_in_several() -> None:
    texts = [" ".join(f"{i}-{n}" for n in range(50)) for i in range(20)]
    whole = text_facts.text_facts(texts)
    assert text_facts.text_facts(texts, most_bytes=500) == whole
    assert [f.words for f in whole] == [50] * 20


def test_a_batch_gives_each_text_its_own_facts() -> None:
    batch = BatchTexts()
    places = [batch.add(text) for text in ("one", "one two", "", "one two three")]
    assert [texts.facts(index).words for texts, index in places] == [1, 2, 0, 3]


def test_grams_are_of_as_many_words() -> None:
    assert list(grams("abcde")) == [tuple("abcd"), tuple("bcde")]
    assert GRAM == 4
