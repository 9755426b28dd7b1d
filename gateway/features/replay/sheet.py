"""A replay's answers and scores as arrays: one number for each item and target, with repeats averaged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gateway.core.score import Bounds, Direction
from gateway.features.replay.rows import ReplayAnswer, ReplayScore

Floats = NDArray[np.float64]
MEASURES = ("failed", "seconds", "input_tokens", "output_tokens", "cost_usd")


@dataclass(frozen=True, slots=True)
class ReplayMetric:
    """A quantity by which targets are compared."""

    name: str
    direction: Direction
    bounds: Bounds
    """The lowest and the highest possible value; None: unbounded."""
    unit: str = ""
    preference: bool = False
    """Of a candidate's answer over the control's, ½ for a tie; the control has ½ where it was compared."""

    @property
    def worst(self) -> float | None:
        """The value of a failed answer. None: there is no worst value, or it depends on the other answer."""
        if self.preference:
            return None
        low, high = self.bounds
        return {"maximise": low, "minimise": high}.get(self.direction)

    @property
    def bounded(self) -> bool:
        return None not in self.bounds

    @property
    def span(self) -> float:
        """The highest minus the lowest value. Only for a bounded metric."""
        low, high = self.bounds
        return float(high or 0.0) - float(low or 0.0)


FAILED = ReplayMetric("error_rate", "minimise", (0.0, 1.0))
SECONDS = ReplayMetric("total_s", "minimise", (0.0, None), "s")
OUTPUT = ReplayMetric("output_tokens", "neutral", (0.0, None), "tokens")
COST = ReplayMetric("cost_per_1k", "minimise", (0.0, None), "USD per 1k")


@dataclass(slots=True)
class ScoreSheet:
    """One replay as arrays of shape (items, repeats), NaN where there is no number."""

    targets: tuple[str, ...]
    clusters: list[str]
    """The cluster of each item."""
    measures: dict[tuple[str, str], Floats]
    """By (measure, target)."""
    scores: dict[tuple[str, str], Floats]
    """By (scorer, target)."""
    unscored: dict[tuple[str, str], Counter[str]] = field(default_factory=dict)
    reasons: dict[str, Counter[str]] = field(default_factory=dict)
    """scorer → why its scores failed, with counts."""
    """The number of scores without a value, by (scorer, target) and status."""
    others: Counter[str] = field(default_factory=Counter)
    """By target: answers of another upstream and model than its first answer."""

    def failed(self, target: str) -> Floats:
        return self.measures["failed", target]

    def answers(self, target: str) -> int:
        """The number of answers, failed ones included."""
        return int(np.isfinite(self.failed(target)).sum())

    def values(self, metric: ReplayMetric, target: str, others: Sequence[str] = ()) -> Floats:
        """One number for each item, NaN if there is none. others: the targets that it is compared with.

        A failed answer has the worst value if the metric has one, and if another answer to the same item was scored:
        then the metric applies to the item.
        """
        scored = self.scores[metric.name, target]
        if metric.worst is not None:
            applies = np.zeros(scored.shape[0], dtype=bool)
            for other in (target, *others):
                applies |= np.isfinite(self.scores[metric.name, other]).any(axis=1)
            failed = (self.failed(target) == 1.0) & applies[:, None]
            scored = np.where(failed, metric.worst, scored)
        return row_means(scored)

    def measured(self, name: str, target: str) -> Floats:
        return row_means(self.measures[name, target])


def row_means(values: Floats) -> Floats:
    """The mean of each row's numbers; NaN for a row without numbers."""
    seen = np.isfinite(values)
    n = seen.sum(axis=1)
    total = np.where(seen, values, 0.0).sum(axis=1)
    return np.asarray(np.where(n > 0, total / np.maximum(n, 1), np.nan), dtype=np.float64)


def sheet(
    shape: tuple[int, int],
    targets: Sequence[str],
    scorers: Mapping[str, tuple[str, str]],
    answers: Iterable[ReplayAnswer],
    scored: Iterable[ReplayScore],
) -> ScoreSheet:
    """shape: (items, repeats); others are left out. scorers: name → the version and config hash whose scores count."""
    items, repeats = shape
    result = ScoreSheet(
        tuple(targets), [""] * items,
        {(m, t): np.full(shape, np.nan) for m in MEASURES for t in targets},
        {(s, t): np.full(shape, np.nan) for s in scorers for t in targets},
    )  # fmt: skip
    by: dict[str, tuple[str, str | None]] = {}
    for a in answers:
        if a.item > items or a.repeat > repeats or a.target not in result.targets:
            continue
        result.clusters[a.item - 1] = a.cluster
        _take(result, a)
        if a.upstream is not None:
            target = (a.upstream, a.model)
            result.others[a.target] += by.setdefault(a.target, target) != target
    for s in scored:
        if s.item <= items and s.repeat <= repeats and scorers.get(s.scorer) == (s.version, s.config_hash):
            _score(result, s)
    return result


def fill_preferences(sheet: ScoreSheet, metrics: Iterable[ReplayMetric]) -> None:
    """Adds what no judge is asked: the control's ½, and the preference over an answer that failed."""
    control, *candidates = sheet.targets
    for name in (m.name for m in metrics if m.preference):
        compared = np.zeros(sheet.failed(control).shape, dtype=bool)
        for candidate in candidates:
            values = sheet.scores[name, candidate]
            ours, theirs = sheet.failed(candidate), sheet.failed(control)
            values[(ours == 1.0) & (theirs == 0.0)] = 0.0
            values[(ours == 0.0) & (theirs == 1.0)] = 1.0
            compared |= np.isfinite(values)
        sheet.scores[name, control][compared] = 0.5


def _take(result: ScoreSheet, a: ReplayAnswer) -> None:
    at = (a.item - 1, a.repeat - 1)
    result.measures["failed", a.target][at] = float(a.outcome != "ok")
    if a.outcome == "ok":
        for name in MEASURES[1:]:
            value = getattr(a, name)
            result.measures[name, a.target][at] = np.nan if value is None else value


def _score(result: ScoreSheet, s: ReplayScore) -> None:
    key = (s.scorer, s.target)
    if key not in result.scores:
        return
    if s.value is not None:
        result.scores[key][s.item - 1, s.repeat - 1] = s.value
    else:
        result.unscored.setdefault(key, Counter())[s.status] += 1
        if s.status != "not_applicable" and s.explanation:
            result.reasons.setdefault(s.scorer, Counter())[s.explanation] += 1


Kind = Literal["primary", "guardrail", "other"]
