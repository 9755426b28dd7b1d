"""Tests whether an answer chooses the option of its reference, as in multiple-choice questions."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from pydantic import Field

from gateway.core.score import Score, Skipped
from gateway.scorers.reference import MAX_CHARACTERS, ReferenceScorer, golden_case
from gateway.scoring.types import Golden, Subject

NO_CHOICE = Skipped("a reference that is one of the choices")
_SAYS = re.compile(r"(?i)\b(?:answer|choice|option|verdict|label)\b(?:\s+(?:is|was))?\s*[:=]?")


@dataclass(frozen=True, slots=True)
class Choice(ReferenceScorer):
    """Scores 1 if the answer chooses what the reference names, 0 if it chooses another, several or none. The label is
    its choice.

    An answer's choice is the whole answer, else the text after its last "answer is", "answer:" (or choice, option,
    verdict, label), else the only choice that it mentions. A choice of one letter counts in capitals or in brackets
    only, since "a" is a word.
    """

    heavy: ClassVar[bool] = True

    choices: tuple[Annotated[str, Field(min_length=1)], ...] = ("A", "B", "C", "D")
    _patterns: list[re.Pattern[str]] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        folded = [choice.strip().casefold() for choice in self.choices]
        if len(set(folded)) != len(folded) or "" in folded or len(folded) < 2:
            raise ValueError("choices: expected at least two different ones")
        self._patterns.extend(map(_mention, self.choices))

    async def score(self, subject: Subject) -> Score | Skipped:
        if skipped := self.score_immediately(subject):
            return skipped
        wanted = self._chosen((subject.reference or "")[:MAX_CHARACTERS])
        if wanted is None:
            return NO_CHOICE
        found = self._chosen(subject.completion.text[:MAX_CHARACTERS])
        return Score(float(found == wanted), found or "none", f"{found or 'no choice'}, expected {wanted}")

    def _chosen(self, text: str) -> str | None:
        bare = text.strip().strip("()[]{}.,:;!*\"'` \n").casefold()
        for choice in self.choices:
            if bare == choice.strip().casefold():
                return choice
        statements = list(_SAYS.finditer(text))
        if statements and (first := self._mentioned(text[statements[-1].end() :])):
            return min(first)[1]
        mentioned = {choice for _, choice in self._mentioned(text)}
        return mentioned.pop() if len(mentioned) == 1 else None

    def _mentioned(self, text: str) -> list[tuple[int, str]]:
        """Finds where each choice is first mentioned. Of choices that begin at the same place, only the longest."""
        found: dict[int, str] = {}
        for choice, pattern in zip(self.choices, self._patterns, strict=True):
            for match in pattern.finditer(text):
                if len(choice) > len(found.get(match.start(), "")):
                    found[match.start()] = choice
        return sorted(found.items())

    def golden(self) -> tuple[Golden, ...]:
        one, other, *_ = self.choices
        return (
            golden_case("itself", f" {one}.", one, 1.0),
            golden_case("said at the end", f"Not {other}. So the answer is: ({one})", one, 1.0),
            golden_case("another", f"**{other}**", one, 0.0),
            golden_case("none", "Nothing fits 12345.", one, 0.0),
            golden_case("no choice in the reference", one, "12345", None),
            golden_case("no reference", one, None, None),
        )


def _mention(choice: str) -> re.Pattern[str]:
    word = choice.strip()
    if len(word) == 1 and word.isalpha():
        return re.compile(rf"(?<!\w){re.escape(word.upper())}(?![\w'’])|(?<=[(\[]){re.escape(word.lower())}(?=[)\]])")
    return re.compile(rf"(?i)(?<!\w){re.escape(word)}(?!\w)")
