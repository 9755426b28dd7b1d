"""Facts that rules ask of an answer's text word by word, computed for the texts of a whole batch at once.

In pure Python, splitting a text of 1 KB and comparing its 4-grams takes longer than everything else that rules do.
word_arrays.py does that for a batch; a process that scores single texts, as that of guards, never loads numpy.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

GRAM = 4
FEW = 8  # so few texts take longer in arrays than one by one
MAX_BYTES = 1 << 16  # of texts in arrays at the same time; with twice as many, a text takes 6.9 µs instead of 4.9


class TextFacts(NamedTuple):
    words: int
    """The number of words, split at white space."""
    repeats: bool
    """Whether the same GRAM words in a row may occur twice. False is certain."""


class BatchTexts:
    """The texts of a batch. The facts of all are computed when those of the first are asked for."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._facts: list[TextFacts] = []

    def add(self, text: str) -> tuple[BatchTexts, int]:
        """The batch, and the text's index in it."""
        self._texts.append(text)
        return self, len(self._texts) - 1

    def facts(self, index: int) -> TextFacts:
        if len(self._facts) < len(self._texts):
            self._facts = text_facts(self._texts)
        return self._facts[index]


def text_facts(texts: Sequence[str], most_bytes: int = MAX_BYTES) -> list[TextFacts]:
    """The facts of each text. most_bytes: of texts in arrays at the same time."""
    if len(texts) < FEW:
        return [facts_of_words(text.split()) for text in texts]
    from gateway.scoring.word_arrays import counted  # a quarter of what an isolated scorer loads

    return [TextFacts(n, repeats) for group in _groups(texts, most_bytes) for n, repeats in counted(group, GRAM)]


def facts_of_words(words: Sequence[str]) -> TextFacts:
    """The facts of the text that consists of these words."""
    return TextFacts(len(words), len(set(grams(words))) < len(words) - GRAM + 1)


def grams(words: Sequence[str]) -> Iterator[tuple[str, ...]]:
    return zip(words, words[1:], words[2:], words[3:], strict=False)


def _groups(texts: Sequence[str], most_bytes: int) -> Iterator[list[bytes]]:
    group: list[bytes] = []
    size = 0
    for text in texts:
        encoded = text.encode("utf-8", "surrogatepass")
        if group and size + len(encoded) > most_bytes:
            yield group
            group, size = [], 0
        group.append(encoded)
        size += len(encoded)
    yield group
