"""A scorer's labelled answers in the order of their labels, as numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gateway.features.decisions.model import Disagreement
from gateway.features.labels.correction import LabelledItem, StoredLabel, labelled_items
from gateway.features.labels.rows import ScorerVersion
from gateway.statistics.calibration import LabelledProbabilities
from gateway.statistics.domains import Floats
from gateway.statistics.paired import wilson

GOOD = 0.5  # people's verdict from which an answer is good
Chosen = slice | NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class LabelledCalls:
    """Arrays of shape (n,), by the time of the first label."""

    p: Floats
    """The scorer's probabilities."""
    y: Floats
    """1 if all people call it good, 0 if all call it bad, else the share of those who call it good."""
    weight: Floats
    """The number of calls that each stands for."""
    at: Floats
    """Unix seconds."""
    units: tuple[str, ...]
    verdicts: tuple[Mapping[str, float], ...]
    """Verdicts by labeller."""
    segments: tuple[tuple[str, str], ...] = ()
    """(model name, target) of each; () if they are unknown."""

    @property
    def n(self) -> int:
        return int(self.p.size)

    @property
    def relative(self) -> Floats:
        """Smallest probability / probability, in (0, 1]: the weights of e-values."""
        return np.asarray(self.weight / self.weight.max()) if self.n else self.weight

    def part(self, chosen: Chosen) -> LabelledCalls:
        of = np.arange(self.n)[chosen]
        units, verdicts = tuple(self.units[i] for i in of), tuple(self.verdicts[i] for i in of)
        segments = tuple(self.segments[i] for i in of) if self.segments else ()
        return LabelledCalls(self.p[of], self.y[of], self.weight[of], self.at[of], units, verdicts, segments)

    def by_unit(self) -> LabelledCalls:
        """One row for each conversation, whose labels depend on each other: their weighted means with the sum of their
        weights, at the time of the first. A bet on it is one on all its calls."""
        if len(set(self.units)) == self.n:
            return self
        numbers: dict[str, int] = {}
        codes = np.array([numbers.setdefault(unit, len(numbers)) for unit in self.units], dtype=np.intp)
        weight = np.bincount(codes, self.weight).astype(np.float64)
        p, y = (np.bincount(codes, self.weight * values) / weight for values in (self.p, self.y))
        first = np.unique(codes, return_index=True)[1]
        return LabelledCalls(p, y, weight, self.at[first], tuple(numbers), tuple(self.verdicts[i] for i in first))

    def sample(self) -> LabelledProbabilities:
        return LabelledProbabilities.of(self.p, self.y, self.weight, self.units)


def labelled_calls(scorer: str, rows: Sequence[StoredLabel]) -> LabelledCalls:
    """rows: all labels of one version of a scorer or guard. Labels that nobody drew are left out: they say nothing of
    the traffic."""
    first: dict[str, StoredLabel] = {}
    for row in sorted(rows, key=lambda row: (row["at"], row["subject_id"])):
        if row["value"] is not None:
            first.setdefault(row["subject_id"], row)
    items = [item for item in labelled_items(scorer, rows) if item.pi > 0]
    items.sort(key=lambda item: (first[item.id]["at"], item.id))
    numbers = [(item.f, _good(item), _calls(first[item.id]) / item.pi, first[item.id]["at"]) for item in items]
    p, y, weight, at = np.array(numbers, dtype=np.float64).reshape(-1, 4).T
    units = tuple(item.unit or item.id for item in items)
    verdicts, segments = tuple(item.by for item in items), tuple((item.key[0], item.key[1]) for item in items)
    return LabelledCalls(p, y, weight, at, units, verdicts, segments)


def _good(item: LabelledItem) -> float:
    return sum(verdict >= GOOD for verdict in item.by.values()) / len(item.by)


def _calls(row: StoredLabel) -> float:
    """1 / π of the record and of the scorer's draw."""
    return float(row["weight"]) if "weight" in row else 1.0 / float(row["pi"])


def question_digest(version: ScorerVersion) -> str:
    """Twelve hexadecimal digits that differ where the scorer, its question or its model do."""
    return hashlib.sha256(f"{version.version}\0{version.config_hash}".encode()).hexdigest()[:12]


def disagreement(verdicts: Sequence[Mapping[str, float]]) -> Disagreement | None:
    """How often the first two labellers of an answer differ; None if none has two.

    If each errs with probability e, alone, they differ in 2 e (1 - e) of the answers, so e = (1 - sqrt(1 - 2 d)) / 2.
    Two who pick different options agree if the decision took neither: both labels say that it was wrong.
    Source: Dawid & Skene 1979, Applied Statistics 28(1), for two labellers with one error rate.
    """
    pairs = [sorted(by.items())[:2] for by in verdicts if len(by) > 1]
    if not pairs:
        return None
    differ = sum((a >= GOOD) != (b >= GOOD) for (_, a), (_, b) in pairs)
    low, _ = wilson(differ, len(pairs), 0.05)
    return Disagreement(len(pairs), differ, _error(differ / len(pairs)), _error(low))


def _error(differ: float) -> float:
    return float((1.0 - np.sqrt(max(0.0, 1.0 - 2.0 * differ))) / 2.0)
