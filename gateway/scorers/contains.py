"""Tests whether an answer contains the words of its reference, or texts of the config."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from gateway.core.completion import Completion
from gateway.core.score import Score, Skipped
from gateway.scorers.f1 import normalized_words
from gateway.scorers.preconditions import require_answer
from gateway.scorers.reference import MAX_CHARACTERS, NO_REFERENCE, golden_case
from gateway.scoring.types import Golden, Rule, Subject

NO_WORDS = Skipped("a reference with words in it")


@dataclass(frozen=True, slots=True)
class Contains(Rule):
    """Scores 1 if the answer contains the text, as a run of whole words, ignoring case, punctuation and articles, else
    0.
    """

    heavy: ClassVar[bool] = True

    texts: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """The texts to look for. Empty: the reference."""
    need: Literal["all", "any", "none"] = "all"
    """Number of the texts that the answer must contain."""
    literal: bool = False
    """Look for the characters, also within words."""

    def __post_init__(self) -> None:
        empty = [text for text in self.texts if not self.literal and not normalized_words(text)]
        if empty:
            raise ValueError(f"texts: {empty[0]!r} has no words; set literal: true to look for characters")

    def score_immediately(self, subject: Subject) -> Skipped | None:
        return NO_REFERENCE if not self.texts and subject.reference is None else require_answer(subject)

    async def score(self, subject: Subject) -> Score | Skipped:
        if skipped := self.score_immediately(subject):
            return skipped
        answer, wanted = subject.completion.text[:MAX_CHARACTERS], self.texts or ((subject.reference or "").strip(),)
        if not self.texts and not (wanted[0] if self.literal else normalized_words(wanted[0])):
            return NO_WORDS
        searched = answer if self.literal else _spaced(answer)
        found = [text for text in wanted if (text if self.literal else _spaced(text)) in searched]
        needed = {"all": len(found) == len(wanted), "any": bool(found), "none": not found}
        missing = [text for text in wanted if text not in found]
        return Score(float(needed[self.need]), explanation=f"not found: {', '.join(missing)}" if missing else None)

    def golden(self) -> tuple[Golden, ...]:
        skipped = golden_case("no reference", "Paris", None, None)
        if self.texts:
            all_of = " ".join(self.texts)
            return (
                Golden("all of them", {}, Completion(all_of, finish_reason="stop"), float(self.need != "none")),
                Golden("none of them", {}, Completion("", finish_reason="stop"), float(self.need == "none")),
            )
        wanted = float(self.need != "none")
        return (
            golden_case("in a sentence", "The capital is Paris.", "Paris", wanted),
            golden_case("another word", "It is Rome", "Paris", 1 - wanted),
            golden_case("within a word", "Parisian", "Paris", wanted if self.literal else 1 - wanted),
            skipped,
        )


def _spaced(text: str) -> str:
    """The words, each between two spaces, so that a text found in it is a run of whole words."""
    return f" {' '.join(normalized_words(text))} "
