"""Tests whether an answer repeats itself."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from gateway.core.completion import Completion
from gateway.core.score import Direction, Score, Skipped
from gateway.scorers.preconditions import require_text
from gateway.scoring.text_facts import GRAM, grams
from gateway.scoring.types import Golden, ImmediateRule, Subject

MAX_CHARACTERS = 100_000  # from the end, where loops are
PROSE_RATIO = 0.25  # prose and code of any length deflate to more than this share of their size


@dataclass(frozen=True, slots=True)
class Repetition(ImmediateRule):
    """The share of the answer that repeats the text just before it: max(loop, again · squeezed). Less is better.

    loop: the share of words in a run that immediately repeats the complete block before it. again: 1 − distinct-4, the
    share of 4-grams that occurred before. squeezed: the degree to which the text deflates below a quarter of its size,
    from 0 to 1. The product detects loops in which a number changes each time, and stays near 0 for lists and tables,
    which have only one of the two. In text with hardly any white space, characters count as words. Linear in the text;
    only its last 100,000 characters are read.
    """

    direction: ClassVar[Direction] = "minimise"

    def score_immediately(self, subject: Subject) -> Score | Skipped:
        if skipped := require_text(subject):
            return skipped
        facts, whole = subject.text_facts(), subject.completion.text
        in_words = len(whole) <= min(MAX_CHARACTERS, 20 * facts.words)  # its words are the units
        if in_words and not facts.repeats:
            return FRESH
        text = whole[-MAX_CHARACTERS:]
        words, shortest = _units(text, subject.words() if len(whole) <= MAX_CHARACTERS else text.split())
        count = len(words) - GRAM + 1
        distinct = len(set(grams(words)))
        if distinct >= count:
            return FRESH
        in_order, again = list(grams(words)), 1 - distinct / count
        loop, squeezed = words_in_loops(in_order, shortest) / len(words), _squeezed(text)
        value = max(loop, again * squeezed)
        detail = {"loop": loop, "again": again, "squeezed": squeezed}
        return Score(value, "loops" if value > 0.3 else "fresh", detail=detail)

    def golden(self) -> tuple[Golden, ...]:
        prose = "The quick brown fox jumps over the lazy dog while the cat looks on from the warm wall."
        return (
            Golden("prose", {}, Completion(prose), 0.0),
            Golden("one block a hundred times", {}, Completion("one two three four five " * 100), 0.99),
            Golden("one sentence twice", {}, Completion(f"{prose} {prose}"), 0.5),
            Golden("a refrain of a few words", {}, Completion(f"so it goes {prose} so it goes"), 0.0),
            Golden("no white space", {}, Completion("天地玄黄" * 50), 0.98),
            Golden("no text", {}, Completion(" "), None),
        )


FRESH = Score(0.0, "fresh", detail={"loop": 0.0, "again": 0.0, "squeezed": 0.0})


def _units(text: str, words: Sequence[str]) -> tuple[Sequence[str], int]:
    """The words and the shortest loop; characters instead where words would have more than 20."""
    return (words, 8) if len(text) <= 20 * len(words) else ("".join(words), 24)


def words_in_loops(grams: Sequence[tuple[str, ...]], shortest: int) -> int:
    """The number of words that repeat the block just before them.

    A run is a stretch in which every gram last occurred the same distance ago. It is a loop when it is as long as that
    distance (so that the complete block is repeated immediately) and has at least `shortest` words.
    """
    last: dict[tuple[str, ...], int] = {}
    total = run = period = 0
    for at, gram in enumerate(grams):
        distance = at - last.get(gram, at)
        last[gram] = at
        if distance == period:
            run += 1
            continue
        total += _counted(run, period, shortest)
        run, period = 1, distance
    return total + _counted(run, period, shortest)


def _counted(run: int, period: int, shortest: int) -> int:
    words = run + GRAM - 1
    return words if period and words >= max(period, shortest) else 0


def _squeezed(text: str) -> float:
    data = text.encode("utf-8", "replace")
    return min(1.0, max(0.0, 1 - len(zlib.compress(data, 1)) / len(data) / PROSE_RATIO))
