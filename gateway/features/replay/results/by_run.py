"""A replay of recorded runs with the run as the unit: a run's value is the mean over its turns. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import ceil

import numpy as np

from gateway.features.replay.results.findings import ReplayAnswers, ReportScope, reports
from gateway.features.replay.results.sheet import MEASURES, ScoreSheet
from gateway.reports.model import Report
from gateway.reports.number_format import count
from gateway.statistics.score_interval import few_differences
from gateway.statistics.special import normal_quantile, smallest
from gateway.verdict.items.pairs import Floats, ItemMetric

_POWER = 0.8
_MOST_RUNS = 100_000


@dataclass(frozen=True, slots=True)
class RunPrice:
    """The price of a replay of runs, and what it can show."""

    runs: int
    turns: int
    targets: int
    repeats: int = 1
    of_a_turn: float = 1.0
    """Mean over the runs of 1 / turns: the part of the variance of one turn that the mean of a run keeps."""

    @property
    def calls(self) -> int:
        return self.turns * self.targets * self.repeats

    def deviation(self, margin: float, alpha: float) -> float:
        """The largest standard deviation of a run's difference with which an equal candidate ships in 80 %. alpha: of
        one candidate."""
        needed = normal_quantile(1.0 - alpha / 2.0) + normal_quantile(_POWER)
        return margin * float(np.sqrt(self.runs)) / needed

    def for_half(self, margin: float, alpha: float) -> int:
        """The runs with which an equal candidate ships in 80 % if its scores, in [0, 1], differ from the control's in
        half of the turns, independently: a turn's difference has a variance of at most a half."""
        needed = normal_quantile(1.0 - alpha / 2.0) + normal_quantile(_POWER)
        return ceil((needed / margin) ** 2 * self.of_a_turn / 2)

    def needed(self, margin: float, alpha: float) -> int | None:
        """The runs that a `ship` needs at least: as many as show a share within the margin where no run differs."""
        return smallest(lambda n: few_differences(np.zeros(n), 1.0, alpha)[0] > -margin, 2, _MOST_RUNS)

    def described(self, margin: float, alpha: float, errors: float = 1.0) -> str:
        """The price in a sentence. margin: of the primary. errors: the margin of the error rate."""
        again = f", {self.repeats} times each" if self.repeats > 1 else ""
        price = (
            f"price: {count(self.calls)} calls, less those already answered: {count(self.turns)} turns of "
            f"{count(self.runs)} runs to each of {self.targets} targets{again}"
        )
        if margin <= 0 or self.targets < 2:
            return price
        least = self.needed(min(margin, errors), alpha)
        if least is None or self.runs < least:
            what = f"more than {count(_MOST_RUNS)}" if least is None else f"at least {count(least)}"
            return f"{price}. They cannot ship: margins of {margin:g} and, for errors, {errors:g} need {what} runs"
        half = self.for_half(margin, alpha)
        calls = round(self.calls / self.runs * half)
        return (
            f"{price}. A candidate equal to the control ships in 8 of 10 such replays if a run's difference has a "
            f"standard deviation of at most {self.deviation(margin, alpha):.2g}; where scores differ in half of the "
            f"turns, at random, that takes {count(half)} runs (about {count(calls)} calls)"
        )


def price_of(clusters: Iterable[str], targets: int, repeats: int) -> RunPrice:
    """clusters: the run of each turn."""
    turns = Counter(clusters)
    inverse = sum(1 / n for n in turns.values()) / max(1, len(turns))
    return RunPrice(len(turns), turns.total(), targets, repeats, inverse)


def by_run(turns: ScoreSheet, metrics: Sequence[ItemMetric]) -> ScoreSheet:
    """The sheet of runs, in the order in which they begin. A run with a turn that was not asked yet has no value."""
    runs = list(dict.fromkeys(turns.clusters))
    at = {run: place for place, run in enumerate(runs)}
    places = np.array([at[run] for run in turns.clusters], dtype=np.int64)
    scores = {
        (m.name, t): _run_means(turns.filled(m, t, turns.targets), places, len(runs))
        for m in metrics
        for t in turns.targets
    }
    measures = {(m, t): _run_means(turns.measures[m, t], places, len(runs)) for m in MEASURES for t in turns.targets}
    for target in turns.targets:
        missing = _incomplete(turns.failed(target), places, len(runs))
        for values in (*_of(scores, target), *_of(measures, target)):
            values[missing] = np.nan
    asked = {target: turns.answers(target) for target in turns.targets}
    return replace(turns, clusters=runs, measures=measures, scores=scores, requests=asked)


def _of(values: dict[tuple[str, str], Floats], target: str) -> list[Floats]:
    return [each for (_, name), each in values.items() if name == target]


def _run_means(values: Floats, places: np.ndarray, runs: int) -> Floats:
    """The mean over the turns of each run, for each repeat; NaN without numbers."""
    total, seen = np.zeros((runs, values.shape[1])), np.zeros((runs, values.shape[1]))
    known = np.isfinite(values)
    np.add.at(total, places, np.where(known, values, 0.0))
    np.add.at(seen, places, known)
    return np.asarray(np.where(seen > 0, total / np.maximum(seen, 1), np.nan), dtype=np.float64)


def _incomplete(failed: Floats, places: np.ndarray, runs: int) -> np.ndarray:
    """Marks the runs that have a turn without a result, for each repeat."""
    missing = np.zeros((runs, failed.shape[1]))
    np.add.at(missing, places, ~np.isfinite(failed))
    return missing > 0


def run_reports(turns: ScoreSheet, question: ReportScope, texts: ReplayAnswers) -> tuple[Report, ...]:
    """A report for each candidate with the run as the unit; examples, costs and times are those of single turns."""
    sheet = by_run(turns, question.metrics)
    runs = len(sheet.clusters)
    of_runs = replace(question, rows=runs, of=runs, unit="runs")
    plain = replace(texts, questions={}, answers={})
    return tuple(
        replace(found, examples=single.examples, arms=single.arms, latency=single.latency)
        for found, single in zip(reports(sheet, of_runs, plain), reports(turns, question, texts), strict=True)
    )
