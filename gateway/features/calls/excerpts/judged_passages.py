"""An answer with the reasons of its judges next to the sentences that they are about. Pure.

A reason is about a sentence if it quotes it, or if both have four words in a row. Any other reason is about the whole.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_SENTENCE = re.compile(r"[^.!?。！？\n]*(?:[.!?。！？]+[\"”’)]*\s*|\n+|$)")
_QUOTED = re.compile(r"[\"“‘'«]([^\"“”‘’«»]{8,400}?)[\"”’'»]")
_WORD = re.compile(r"\w+")
_ROW = 4
MOST_CHARACTERS = 60_000
"""Longer answers are shown without reasons next to them."""


@dataclass(frozen=True, slots=True)
class JudgesReason:
    scorer: str
    value: float | None
    text: str


@dataclass(frozen=True, slots=True)
class Passage:
    text: str
    reasons: tuple[JudgesReason, ...] = ()


@dataclass(frozen=True, slots=True)
class AnswerWithReasons:
    passages: tuple[Passage, ...]
    """The answer, in order; joined they are its text."""
    about_all: tuple[JudgesReason, ...]
    """Reasons that are about no single sentence."""


def judged_answer(answer: str, reasons: Sequence[JudgesReason]) -> AnswerWithReasons:
    """Places each reason at the first sentence that it is about."""
    if len(answer) > MOST_CHARACTERS:
        return AnswerWithReasons((Passage(answer),), tuple(reasons))
    sentences = [found for found in _SENTENCE.findall(answer) if found]
    at: dict[int, list[JudgesReason]] = {}
    about_all = []
    for reason in reasons:
        place = _place(sentences, reason.text)
        if place is None:
            about_all.append(reason)
        else:
            at.setdefault(place, []).append(reason)
    return AnswerWithReasons(tuple(_merged(sentences, at)), tuple(about_all))


def _place(sentences: Sequence[str], reason: str) -> int | None:
    quotes = [_plain(quote) for quote in _QUOTED.findall(reason)]
    plain = [_plain(sentence) for sentence in sentences]
    for quote in quotes:
        for i, sentence in enumerate(plain):
            if quote and (quote in sentence or (len(sentence) >= 8 and sentence in quote)):
                return i
    rows = _rows(reason)
    return next((i for i, sentence in enumerate(sentences) if rows & _rows(sentence)), None)


def _plain(text: str) -> str:
    return " ".join(text.lower().split()).strip(" .!?…")


def _rows(text: str) -> set[tuple[str, ...]]:
    """Every four words in a row."""
    words = [word.lower() for word in _WORD.findall(text)]
    return {tuple(words[i : i + _ROW]) for i in range(len(words) - _ROW + 1)}


def _merged(sentences: Sequence[str], at: dict[int, list[JudgesReason]]) -> list[Passage]:
    """Sentences without a reason are joined with those before them."""
    found: list[Passage] = []
    for i, sentence in enumerate(sentences):
        reasons = tuple(at.get(i, ()))
        if not reasons and found and not found[-1].reasons:
            found[-1] = Passage(found[-1].text + sentence)
        else:
            found.append(Passage(sentence, reasons))
    return found
