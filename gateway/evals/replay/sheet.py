"""What a replay's answers and scores are for the statistics: one number for each item and target, repeats averaged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gateway.core.score import Bounds, Direction
from gateway.evals.store.replays import ReplayAnswer, ReplayScore

Floats = NDArray[np.float64]
MEASURES = ("failed", "seconds", "input_tokens", "output_tokens", "cost_usd")


@dataclass(frozen=True, slots=True)
class ReplayMetric:
    """What is compared. bounds: of its values."""

    name: str
    direction: Direction
    bounds: Bounds
    unit: str = ""

    @property
    def worst(self) -> float | None:
        """What a failed answer counts as; None: there is no worst."""
        low, high = self.bounds
        return {"maximise": low, "minimise": high}.get(self.direction)

    @property
    def bounded(self) -> bool:
        return None not in self.bounds

    @property
    def span(self) -> float:
        """From the lowest to the highest value. Only for what is bounded."""
        low, high = self.bounds
        return float(high or 0.0) - float(low or 0.0)


FAILED = ReplayMetric("error_rate", "minimise", (0.0, 1.0))
SECONDS = ReplayMetric("total_s", "minimise", (0.0, None), "s")
OUTPUT = ReplayMetric("output_tokens", "neutral", (0.0, None), "tokens")
COST = ReplayMetric("cost_per_1k", "minimise", (0.0, None), "USD per 1k")


@dataclass(slots=True)
class ScoreSheet:
    """One replay as arrays: shape (items, repeats) for each target, NaN where there is no number.

    clusters: of each item. silent: scores that came to nothing, by (scorer, target) and status.
    """

    targets: tuple[str, ...]
    clusters: list[str]
    measures: dict[tuple[str, str], Floats]
    scores: dict[tuple[str, str], Floats]
    silent: dict[tuple[str, str], Counter[str]] = field(default_factory=dict)
    others: Counter[str] = field(default_factory=Counter)  # answers by another target than the first that answered

    def failed(self, target: str) -> Floats:
        return self.measures["failed", target]

    def answers(self, target: str) -> int:
        """Options, the failed included."""
        return int(np.isfinite(self.failed(target)).sum())

    def values(self, metric: ReplayMetric, target: str, others: Sequence[str] = ()) -> Floats:
        """One number for each item, NaN where there is none. others: the targets it is compared with.

        A failed answer counts as the worst, where the metric has one and another answer to the same item was scored,
        so that the metric does apply to it.
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
    """The mean of each row's numbers; NaN for a row without any."""
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
    """shape: (items, repeats); what is beyond is left out. scorers: of each the version and config hash that count."""
    items, repeats = shape
    made = ScoreSheet(
        tuple(targets), [""] * items,
        {(m, t): np.full(shape, np.nan) for m in MEASURES for t in targets},
        {(s, t): np.full(shape, np.nan) for s in scorers for t in targets},
    )  # fmt: skip
    by: dict[str, tuple[str, str | None]] = {}
    for a in answers:
        if a.item > items or a.repeat > repeats or a.target not in made.targets:
            continue
        made.clusters[a.item - 1] = a.cluster
        _take(made, a)
        if a.upstream is not None:
            target = (a.upstream, a.model)
            made.others[a.target] += by.setdefault(a.target, target) != target
    for s in scored:
        if s.item <= items and s.repeat <= repeats and scorers.get(s.scorer) == (s.version, s.config_hash):
            _score(made, s)
    return made


def _take(made: ScoreSheet, a: ReplayAnswer) -> None:
    at = (a.item - 1, a.repeat - 1)
    made.measures["failed", a.target][at] = float(a.outcome != "ok")
    if a.outcome == "ok":
        for name in MEASURES[1:]:
            value = getattr(a, name)
            made.measures[name, a.target][at] = np.nan if value is None else value


def _score(made: ScoreSheet, s: ReplayScore) -> None:
    key = (s.scorer, s.target)
    if key not in made.scores:
        return
    if s.value is not None:
        made.scores[key][s.item - 1, s.repeat - 1] = s.value
    else:
        made.silent.setdefault(key, Counter())[s.status] += 1


Kind = Literal["primary", "guardrail", "other"]
