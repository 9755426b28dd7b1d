"""Scores of several models on the same items, as a reader of pairs hands them over."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.verdict.items.pairs import Floats


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns that were chosen."""

    id: str
    score: str
    cluster: str | None
    guessed: tuple[str, ...] = ()
    """Names of those that were guessed: "id", "score"."""


@dataclass(frozen=True, slots=True)
class PairedScores:
    """Scores of each model on the items that all files have, in the order of the first file."""

    names: tuple[str, ...]
    columns: Columns
    items: tuple[str, ...]
    clusters: tuple[str, ...]
    """The cluster of each item; its own id where no column was named."""
    means: tuple[Floats, ...]
    """The mean of each item's runs, by model."""
    runs: tuple[tuple[tuple[float, ...], ...], ...]
    """The runs of each item, by model."""
    bounds: tuple[float, float] | None
    """The scale of the scores. None if unknown."""
    stated: bool
    """The scale was given, and not seen."""
    notes: tuple[str, ...]
    """Sentences that report how the data were treated."""
    cautions: tuple[str, ...]

    @property
    def repeated(self) -> bool:
        return any(len(runs) > 1 for model in self.runs for runs in model)
