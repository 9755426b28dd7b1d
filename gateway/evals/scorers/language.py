"""Whether an answer is in the language it should be in."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from typing import Any, ClassVar

from gateway.core.completion import Completion
from gateway.core.request_format import last_user_text
from gateway.core.score import Score, Skipped
from gateway.evals.scorers.preconditions import require_text
from gateway.evals.scoring.types import Golden, Rule, Subject

# Optional, 4 MB: when it is missing, building this scorer says how to install it.
langid: Any = import_module("py3langid.langid")

LETTERS = 20  # fewer say too little of their language
SURE = 0.5
READ = 4000  # characters
TOO_SHORT = Skipped(f"an answer of at least {LETTERS} letters in a language that can be told")
NO_QUESTION = Skipped(f"a question of at least {LETTERS} letters in a language that can be told, or `expected`")


@dataclass(frozen=True, slots=True)
class Language(Rule):
    """1: the answer is in the expected language; 0: it is in another. label: the answer's language (ISO 639-1).

    expected: an ISO 639-1 code; None: the language of the user's last message. Judges the first 4,000 characters;
    a question that asks for another language ("translate into French") is misjudged: give `expected`, or leave it out
    there.
    """

    heavy: ClassVar[bool] = True

    expected: str | None = None
    identifier: Any = field(
        default_factory=partial(langid.LanguageIdentifier.from_model_file, langid.MODEL_FILE, norm_probs=True),
        init=False,
        repr=False,
        compare=False,
    )

    def __post_init__(self) -> None:
        if self.expected is not None and self.expected not in self.identifier.nb_classes:
            raise ValueError(f'expected: no language "{self.expected}"; give an ISO 639-1 code, such as "en"')

    def score_immediately(self, subject: Subject) -> Skipped | None:
        return require_text(subject)

    async def score(self, subject: Subject) -> Score | Skipped:
        skipped = self.score_immediately(subject)
        if skipped is not None:
            return skipped
        wanted = self.expected or self._told(last_user_text(subject.request))[0]
        if wanted is None:
            return NO_QUESTION
        found, sure = self._told(subject.completion.text)
        if found is None:
            return TOO_SHORT
        return Score(float(found == wanted), found, f"in {found}, expected {wanted}", {"confidence": sure})

    def _told(self, text: str) -> tuple[str | None, float]:
        text = text[:READ]
        if sum(c.isalpha() for c in text) < LETTERS:
            return None, 0.0
        found, sure = self.identifier.classify(text)
        return (str(found), float(sure)) if sure >= SURE else (None, float(sure))

    def golden(self) -> tuple[Golden, ...]:
        english = "The weather in the mountains will be fine tomorrow, with some clouds in the evening."
        french = "Il fera beau demain dans les montagnes, avec quelques nuages dans la soirée."
        asked = {"messages": [{"role": "user", "content": "How will the weather be in the mountains tomorrow?"}]}
        in_english = self.expected in (None, "en")
        return (
            Golden("English", asked, Completion(english), float(in_english)),
            Golden("French", asked, Completion(french), float(self.expected == "fr")),
            Golden("too short to say", asked, Completion("42"), None),
        )
