"""Tests whether an answer is in the expected language."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from typing import Any, ClassVar

from gateway.core.completion import Completion
from gateway.core.request_format import last_user_text
from gateway.core.score import Score, Skipped
from gateway.scorers.preconditions import require_text
from gateway.scoring.types import Golden, Rule, Subject

# An optional package of 4 MB; without it, the registry reports how to install it.
langid: Any = import_module("py3langid.langid")

MIN_LETTERS = 20  # fewer do not identify a language
MIN_CONFIDENCE = 0.5
MAX_CHARACTERS = 4000  # that are read
TOO_SHORT = Skipped(f"an answer of at least {MIN_LETTERS} letters in a recognisable language")
NO_QUESTION = Skipped(f"a question of at least {MIN_LETTERS} letters in a recognisable language, or `expected`")


@cache
def identifier() -> Any:
    """The model, 40 MB in memory: read once per process, and never changed."""
    return langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE, norm_probs=True)


@dataclass(frozen=True, slots=True)
class Language(Rule):
    """Scores 1 if the answer is in the expected language, else 0. label: the answer's language (ISO 639-1).

    Only the first 4,000 characters are read. A request for another language ("translate into French") scores 0 unless
    `expected` is set.
    """

    heavy: ClassVar[bool] = True

    expected: str | None = None
    """An ISO 639-1 code; None: the language of the last user message."""
    identifier: Any = field(default_factory=identifier, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.expected is not None and self.expected not in self.identifier.nb_classes:
            raise ValueError(f'expected: no language "{self.expected}"; use an ISO 639-1 code, such as "en"')

    def score_immediately(self, subject: Subject) -> Skipped | None:
        return require_text(subject)

    async def score(self, subject: Subject) -> Score | Skipped:
        if skipped := self.score_immediately(subject):
            return skipped
        wanted = self.expected or self._detect(last_user_text(subject.request))[0]
        if wanted is None:
            return NO_QUESTION
        found, confidence = self._detect(subject.completion.text)
        if found is None:
            return TOO_SHORT
        return Score(float(found == wanted), found, f"in {found}, expected {wanted}", {"confidence": confidence})

    def _detect(self, text: str) -> tuple[str | None, float]:
        """The language, None if it is uncertain, and the confidence."""
        text = text[:MAX_CHARACTERS]
        if sum(c.isalpha() for c in text) < MIN_LETTERS:
            return None, 0.0
        found, confidence = self.identifier.classify(text)
        return (str(found), float(confidence)) if confidence >= MIN_CONFIDENCE else (None, float(confidence))

    def golden(self) -> tuple[Golden, ...]:
        english = "The weather in the mountains will be fine tomorrow, with some clouds in the evening."
        french = "Il fera beau demain dans les montagnes, avec quelques nuages dans la soirée."
        request = {"messages": [{"role": "user", "content": "How will the weather be in the mountains tomorrow?"}]}
        in_english = self.expected in (None, "en")
        return (
            Golden("English", request, Completion(english), float(in_english)),
            Golden("French", request, Completion(french), float(self.expected == "fr")),
            Golden("too short", request, Completion("42"), None),
        )
