"""A BERTScore-like similarity: tokens of answer and reference, matched by the cosine of MiniLM's vectors in context.

The method is BERTScore's F1 without idf weights and baseline; the model is all-MiniLM-L6-v2 and not RoBERTa-large, so
the values cannot be compared with published BERTScores. Source: Zhang et al., "BERTScore", arXiv:1904.09675, section 3.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from gateway.core.score import Kind, Score, Skipped
from gateway.scorers.embedding import MAX_CHARACTERS, local_minilm
from gateway.scorers.preconditions import require_answer
from gateway.scorers.reference import NO_REFERENCE, golden_case
from gateway.scoring.types import Golden, Rule, Subject

DIGITS = 4  # further ones differ between processors
_SUNNY, _LOVELY = "It's so sunny outside!", "The weather is lovely today."


def bertscore_minilm(name: str) -> BertScoreMiniLM:
    """Raises InvalidOptions if the weights of MiniLM are not installed."""
    return BertScoreMiniLM(name, local_minilm())


@dataclass(frozen=True, slots=True)
class BertScoreMiniLM(Rule):
    """The F1; `detail` has precision and recall. Of each text, the first 254 tokens are read."""

    kind: ClassVar[Kind] = "model"
    heavy: ClassVar[bool] = True

    load: Callable[[], Any]

    def score_immediately(self, subject: Subject) -> Skipped | None:
        return NO_REFERENCE if not (subject.reference or "").strip() else require_answer(subject)

    async def score(self, subject: Subject) -> Score | Skipped:
        if skipped := self.score_immediately(subject):
            return skipped
        if not subject.completion.text.strip():
            return Score(0.0, "empty", "the answer is empty")
        minilm = self.load()
        answer, reference = (
            minilm.token_vectors(text[:MAX_CHARACTERS]) for text in (subject.completion.text, subject.reference or "")
        )
        if not len(answer) or not len(reference):
            return Skipped("an answer and a reference with tokens in them")
        precision, recall, f1 = greedy_match(answer, reference)
        return Score(f1, detail={"precision": precision, "recall": recall})

    def golden(self) -> tuple[Golden, ...]:
        return (
            golden_case("the same", _LOVELY, _LOVELY, 1.0),
            golden_case("in other words", _SUNNY, _LOVELY, 0.5563),
            golden_case("an empty answer", "", _LOVELY, 0.0),
            golden_case("no reference", _LOVELY, None, None),
        )


def greedy_match(answer: NDArray[np.float32], reference: NDArray[np.float32]) -> tuple[float, float, float]:
    """Precision, recall and F1 in [0, 1]. answer, reference: shape (tokens, width), rows of length 1."""
    cosines = answer @ reference.T
    precision, recall = (float(np.clip(cosines.max(axis=axis).mean(), 0.0, 1.0)) for axis in (1, 0))
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return round(precision, DIGITS), round(recall, DIGITS), round(min(1.0, f1), DIGITS)
