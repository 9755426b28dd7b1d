"""What an answer means, as a few columns next to the features: MiniLM's vector, projected, and its cosine with the
prompt's.

The projection is onto directions of fixed random signs, the same in every version and on every machine, so there is
nothing to fit, to store or to read from outside. MiniLM takes hundreds of times as long as the other features: this
runs in a thread, while the event loop goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from hashlib import shake_256
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from gateway.core.request_format import last_user_text
from gateway.features.learned.features import FeatureExtractor, Matrix
from gateway.scoring.types import Subject

_WIDTH, _DIRECTIONS = 384, 16
_CHARACTERS = 512  # of each text, its beginning: it bounds what a long answer costs
EMBEDDING_FEATURES = (*(f"minilm_{i}" for i in range(_DIRECTIONS)), "minilm_answer_to_prompt")
"""Numbers without a unit; NaN where a text is empty. The last is the cosine of the answer and the last user message."""


def feature_names(*, embedding: bool) -> tuple[str, ...]:
    """Of everything that a model may look at, in order."""
    return (*FeatureExtractor.names, *(EMBEDDING_FEATURES if embedding else ()))


class TextVectors(Protocol):
    """gateway.scorers.minilm.MiniLM."""

    def vectors(self, texts: Sequence[str]) -> NDArray[np.float32]: ...


class Embedded(NamedTuple):
    """columns: shape (n, len(EMBEDDING_FEATURES)). cpu_s: what they cost."""

    columns: Matrix
    cpu_s: float


class EmbeddingColumns:
    """load: reads the weights, when they are first needed."""

    def __init__(self, load: Callable[[], TextVectors]) -> None:
        self._load = load
        self._directions = _random_signs()

    def of(self, subjects: Sequence[Subject]) -> Embedded:
        """Takes milliseconds for each subject; call it in a thread."""
        began = time.thread_time()
        answers = [s.completion.text[:_CHARACTERS] for s in subjects]
        prompts = [(last_user_text(s.request) or "")[:_CHARACTERS] for s in subjects]
        known = self._vectors({text for text in (*answers, *prompts) if text.strip()})
        nothing = np.full(_WIDTH, np.nan, dtype=np.float32)
        a = np.array([known.get(text, nothing) for text in answers], dtype=np.float32).reshape(-1, _WIDTH)
        p = np.array([known.get(text, nothing) for text in prompts], dtype=np.float32).reshape(-1, _WIDTH)
        columns = np.hstack((a @ self._directions, (a * p).sum(axis=1, keepdims=True)))
        return Embedded(columns, time.thread_time() - began)

    def _vectors(self, texts: set[str]) -> dict[str, NDArray[np.float32]]:
        ordered = sorted(texts, key=lambda text: (len(text), text))  # the same batch always has the same rounding
        return dict(zip(ordered, self._load().vectors(ordered), strict=True)) if ordered else {}


def _random_signs() -> Matrix:
    """Shape (384, 16), each ±1 / 4, so that lengths stay about the same. Source: Achlioptas 2003, "Database-friendly
    random projections", J. Comput. Syst. Sci. 66."""
    # The text is part of stored models: another one would give other directions.
    raw = np.frombuffer(shake_256(b"gateway.evals.learned.embedding").digest(_WIDTH * _DIRECTIONS // 8), dtype=np.uint8)
    signs = np.unpackbits(raw).astype(np.float32).reshape(_WIDTH, _DIRECTIONS)
    return (2.0 * signs - 1.0) / np.float32(np.sqrt(_DIRECTIONS))
