"""The similarity in meaning of two texts: the cosine of their vectors (`use: embedding`).

`compare: reference` compares the answer with its reference, `prompt` with the last user message, and `arms` one arm's
answer with the other's, as a distance. The vectors come from MiniLM or from any model that the gateway serves at
/v1/embeddings.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, ClassVar, Literal, Protocol

from pydantic import Field

from gateway.core.completion import Completion
from gateway.core.extras import install_command
from gateway.core.request_format import last_user_text
from gateway.core.score import Bounds, Direction, Kind, Score, Skipped, Spent
from gateway.scorers.preconditions import require_text
from gateway.scoring.asker import Asker
from gateway.scoring.options import InvalidOptions
from gateway.scoring.types import Golden, GoldenPair, Pair, Subject

Compare = Literal["reference", "prompt", "arms"]
NO_QUESTION = Skipped("a user message in text")
NO_REFERENCE = Skipped("a reference")
MAX_CHARACTERS = 20_000  # of each text that are read; MiniLM reads 256 tokens
DIGITS = 4  # further ones differ between processors

_LOVELY, _SUNNY, _STADIUM = "The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."
HOW_TO_INSTALL = (
    f"the weights of MiniLM are not here: {install_command('embedding')} and gateway fetch minilm; "
    "or name a model that the gateway serves at /v1/embeddings (`model: ALIAS`)"
)


class VectorSource(Protocol):
    """Turns texts into vectors."""

    @property
    def local(self) -> bool:
        """Tells whether they are computed in this process, and checked by golden cases."""

    @property
    def model(self) -> str | None:
        """The alias that is called; None when local."""

    async def of(self, texts: Sequence[str]) -> tuple[list[Sequence[float]], Spent | None]: ...


def embedding(
    name: str, asker: Asker, compare: Compare = "reference", model: Annotated[str, Field(min_length=1)] | None = None
) -> EmbeddingSimilarity | EmbeddingDistance:
    """Makes the scorer with an alias of the gateway, or with MiniLM in this process.

    Raises InvalidOptions if MiniLM is wanted and not installed.
    """
    vectors = vector_source(asker, model)
    return EmbeddingDistance(name, vectors) if compare == "arms" else EmbeddingSimilarity(name, vectors, compare)


def vector_source(asker: Asker, model: str | None) -> VectorSource:
    """Raises InvalidOptions for MiniLM if it is not installed."""
    return ServedVectors(asker, model) if model else LocalVectors(local_minilm())


@dataclass(frozen=True, slots=True)
class _Embedding:
    version: ClassVar[str] = "1"
    kind: ClassVar[Kind] = "model"
    bounds: ClassVar[Bounds] = (0.0, 1.0)

    name: str
    vectors: VectorSource

    @property
    def heavy(self) -> bool:
        return self.vectors.local

    @property
    def waits(self) -> bool:
        return not self.vectors.local

    @property
    def models(self) -> tuple[str, ...]:
        """The aliases that it calls."""
        return (self.vectors.model,) if self.vectors.model else ()

    async def _cosine(self, one: str, other: str) -> tuple[float, Spent | None]:
        (a, b), spent = await self.vectors.of([one[:MAX_CHARACTERS], other[:MAX_CHARACTERS]])
        return round(cosine(a, b), DIGITS), spent


@dataclass(frozen=True, slots=True)
class EmbeddingSimilarity(_Embedding):
    """Scores 1 for the same meaning, 0 for an unrelated or opposite one."""

    direction: ClassVar[Direction] = "maximise"

    compare: Literal["reference", "prompt"] = "reference"

    async def score(self, subject: Subject) -> Score | Skipped:
        if skipped := require_text(subject):
            return skipped
        other = subject.reference if self.compare == "reference" else last_user_text(subject.request)
        if not (other or "").strip():
            return NO_REFERENCE if self.compare == "reference" else NO_QUESTION
        cosine_, spent = await self._cosine(subject.completion.text, other or "")
        return Score(max(0.0, cosine_), detail={"cosine": cosine_}, spent=spent)

    def golden(self) -> tuple[Golden, ...]:
        skipped = (Golden("an empty answer", {}, Completion("", finish_reason="stop"), None, reference=_LOVELY),)
        if not self.vectors.local:
            return skipped
        return (
            *skipped,
            self._case(_LOVELY, _LOVELY, 1.0),
            self._case(_LOVELY, _SUNNY, 0.666),
            self._case(_LOVELY, _STADIUM, 0.1046),
        )

    def _case(self, answer: str, other: str, expected: float) -> Golden:
        request = {"messages": [{"role": "user", "content": other}]}
        completion = Completion(answer, finish_reason="stop")
        return Golden(f"{answer} – {other}", request, completion, expected, reference=other)


@dataclass(frozen=True, slots=True)
class EmbeddingDistance(_Embedding):
    """The distance of two arms' answers. 0: the same in meaning; 1: unrelated or opposite."""

    direction: ClassVar[Direction] = "minimise"

    async def compare(self, pair: Pair) -> Score | Skipped:
        if skipped := require_text(pair.a) or require_text(pair.b):
            return skipped
        cosine_, spent = await self._cosine(pair.a.completion.text, pair.b.completion.text)
        return Score(round(min(1.0, max(0.0, 1.0 - cosine_)), DIGITS), detail={"cosine": cosine_}, spent=spent)

    def golden(self) -> tuple[GoldenPair, ...]:
        def case(a: str, b: str, expected: float | None) -> GoldenPair:
            return GoldenPair(f"{a} – {b}", {}, Completion(a, finish_reason="stop"), Completion(b), expected)

        local = (case(_LOVELY, _LOVELY, 0.0), case(_LOVELY, _SUNNY, 0.334)) if self.vectors.local else ()
        return (*local, case(_LOVELY, "", None))


class ServedVectors:
    """Vectors from a model behind the gateway."""

    local = False

    def __init__(self, asker: Asker, model: str) -> None:
        self._asker, self.model = asker, model

    async def of(self, texts: Sequence[str]) -> tuple[list[Sequence[float]], Spent | None]:
        """Raises ValueError for a reply that is not one of /v1/embeddings, and the errors of Asker.ask."""
        reply, spent = await self._asker.ask("/embeddings", {"model": self.model, "input": list(texts)})
        data: Any = reply.get("data")
        try:
            rows = sorted(data, key=lambda row: row["index"])
            vectors: list[Sequence[float]] = [[float(x) for x in row["embedding"]] for row in rows]
        except (TypeError, KeyError, ValueError):
            raise ValueError(f"{self.model} returned no embeddings: {str(reply)[:200]}") from None
        if len(vectors) != len(texts) or len({len(v) for v in vectors}) != 1:
            raise ValueError(f"{self.model} returned {len(vectors)} embeddings for {len(texts)} texts")
        return vectors, spent


class LocalVectors:
    """Vectors from MiniLM in this process. The weights are read for the first text, once per process."""

    local = True
    model = None

    def __init__(self, load: Callable[[], Any]) -> None:
        self._load = load

    async def of(self, texts: Sequence[str]) -> tuple[list[Sequence[float]], None]:
        minilm = self._load()
        return [minilm.vector(text) for text in texts], None


def local_minilm() -> Callable[[], Any]:
    """Loads MiniLM in this process when it is called. Raises InvalidOptions if its weights are not installed."""
    try:
        from gateway.scorers.minilm import load, model_directory

        files = model_directory()
    except ModuleNotFoundError as error:
        raise InvalidOptions([f": {HOW_TO_INSTALL} (no {error.name})"]) from error
    return partial(load, files)


def cosine(a: Sequence[float], b: Sequence[float]) -> float:
    """The cosine of the angle; 0 if a vector is zero."""
    dot = math.fsum(float(x) * float(y) for x, y in zip(a, b, strict=True))
    lengths = math.sqrt(math.fsum(float(x) ** 2 for x in a)) * math.sqrt(math.fsum(float(y) ** 2 for y in b))
    return min(1.0, max(-1.0, dot / lengths)) if lengths else 0.0
