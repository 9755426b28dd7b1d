"""Whether an answer is stuck in a loop."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from gateway.core.completion import Completion
from gateway.core.score import Direction, Score, Skipped
from gateway.evals.scorers.preconditions import require_text
from gateway.evals.scoring.types import Golden, Rule, Subject

READ = 100_000  # characters, from the end: that is where loops are
GRAM = 4
PROSE = 0.25  # prose and code of any length stay above this share of their size when deflated


@dataclass(frozen=True, slots=True)
class Repetition(Rule):
    """The share of the answer that says again what was just said: max(loop, again · squeezed). Less is better.

    loop: the share of words that stand in a run which repeats the block before it, whole and at once.
    again: 1 − distinct-4, the share of 4-grams that occurred before. squeezed: how far the text deflates below a
    quarter of its size, from 0 to 1; together they see loops that change a number each time round, and leave lists
    and tables, which have only the one or the other, near 0. Words are characters where hardly any white space stands.
    Linear in the text; reads its last 100,000 characters.
    """

    direction: ClassVar[Direction] = "minimise"

    async def score(self, subject: Subject) -> Score | Skipped:
        skipped = require_text(subject)
        if skipped is not None:
            return skipped
        text = subject.completion.text[-READ:]
        words = subject.words() if len(subject.completion.text) <= READ else text.split()
        words, shortest = _units(text, words)
        count = len(words) - GRAM + 1
        distinct = len(set(_grams(words)))
        if distinct >= count:
            return FRESH
        grams, again = list(_grams(words)), 1 - distinct / count
        loop, squeezed = words_in_loops(grams, shortest) / len(words), _squeezed(text)
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


def _grams(words: Sequence[str]) -> Iterator[tuple[str, ...]]:
    return zip(words, words[1:], words[2:], words[3:], strict=False)


def _units(text: str, words: Sequence[str]) -> tuple[Sequence[str], int]:
    """The words, and the fewest of them that make a loop; characters where a word would have more than 20."""
    return (words, 8) if len(text) <= 20 * len(words) else ("".join(words), 24)


def words_in_loops(grams: Sequence[tuple[str, ...]], shortest: int) -> int:
    """How many words repeat the block just before them.

    A run is a stretch in which every gram was last seen the same distance ago; it is a loop when it is as long as
    that distance (so the whole block came again, at once) and has at least `shortest` words.
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
    return min(1.0, max(0.0, 1 - len(zlib.compress(data, 1)) / len(data) / PROSE))
