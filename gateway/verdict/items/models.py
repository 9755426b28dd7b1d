"""Models compared in pairs: intervals of one look, verdicts that share the error, and the decisions that more items
would allow. Pure.

The number of items is fixed before anybody looks, so each interval is the paired one of one look
(statistics/score_interval.py). Several pairs share alpha by Holm's procedure, as the candidates of an experiment do.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from gateway.core.sanitize import plain
from gateway.reports.model import Comparison, Estimate, GateResult, Verdict, direction_finding, margin_finding
from gateway.reports.number_format import counted
from gateway.statistics.repeated_runs import VarianceSplit, variance_split
from gateway.statistics.score_interval import FEW_CLUSTERS, score_difference
from gateway.statistics.special import normal_quantile, student_quantile
from gateway.verdict.decision import Decision, SwapDescription, decide, holm
from gateway.verdict.items.pairs import PairedValues, mcnemar_text, mean_estimate, pairs_needed
from gateway.verdict.items.scores import PairedScores
from gateway.verdict.sequences.difference import AlphaShare

_POWER = 0.8
_METHODS = {"paired t": "paired t", "Agresti-Min": "few differences (Agresti–Min)", "Tango": "Tango's score interval"}


@dataclass(frozen=True, slots=True)
class VerdictTerms:
    margin: float = 0.02
    """The largest loss that is acceptable, in the unit of the score."""
    alpha: float = 0.05
    """The probability of a wrong verdict, over all pairs of models."""
    lower_is_better: bool = False


@dataclass(frozen=True, slots=True)
class RunsShare:
    """Uncertainty that repeated runs of the items add to a difference."""

    share: float
    """The share of the variance of an item's difference that comes from run to run."""
    twice_as_many_runs: float
    """Share by which twice as many runs of each item would narrow the interval."""


@dataclass(frozen=True, slots=True)
class PairFinding:
    """A later file against an earlier one."""

    control: str
    candidate: str
    comparison: Comparison
    verdict: Verdict
    sentence: str
    reasons: tuple[str, ...]
    alpha: float
    """The error of the interval that is shown: this pair's part of the whole."""
    clusters: int
    counts: tuple[int, int, int]
    """Items on which the candidate is better, alike and worse."""
    decides: float | None
    """The smallest margin that this number of items shows with a probability of 80 % where the models do not differ.
    None if unknown."""
    holds: float | None
    """The smallest margin within which the candidate is shown to be no worse. None if there is no interval."""
    runs: RunsShare | None

    @property
    def items_needed(self) -> int | None:
        """Estimates how many more items decide the margin if the difference stays; None if it is decided, or
        unknown.
        """
        return self.comparison.pairs_needed


@dataclass(frozen=True, slots=True)
class ModelFinding:
    """One model on its own."""

    name: str
    mean: Estimate
    runs: int
    variance: VarianceSplit | None
    """The variance by its sources; None if no item has several runs."""


@dataclass(frozen=True, slots=True)
class ScoreComparison:
    """A comparison of scores, complete."""

    terms: VerdictTerms
    scores: PairedScores
    models: tuple[ModelFinding, ...]
    pairs: tuple[PairFinding, ...]
    """Every later file against every earlier one."""
    notes: tuple[str, ...]
    cautions: tuple[str, ...]

    @property
    def deciding(self) -> tuple[PairFinding, ...]:
        """The comparisons with the first file, which decide the exit code."""
        return tuple(pair for pair in self.pairs if pair.control == self.scores.names[0])

    @property
    def verdict(self) -> Verdict:
        """Verdict on all models: ship if every other one ships against the first, reject if one of them is rejected,
        else hold.
        """
        verdicts = {pair.verdict for pair in self.deciding}
        return "reject" if "reject" in verdicts else "ship" if verdicts == {"ship"} else "hold"


def compare(scores: PairedScores, terms: VerdictTerms) -> ScoreComparison:
    """scores: of two models or more."""
    pairs = {f"{i} {j}": _Pair(scores, terms, i, j) for i, j in itertools.combinations(range(len(scores.names)), 2)}

    def verdict(name: str, share: AlphaShare) -> Verdict:
        parts = {"ship": share.ship, "reject": share.reject}
        found = {kind: pairs[name].at(terms.alpha * part / len(pairs))[1].verdict for kind, part in parts.items()}
        return "ship" if found["ship"] == "ship" else "reject" if found["reject"] == "reject" else "hold"

    shares = holm(list(pairs), verdict)
    found = tuple(pair.finding(verdict(name, shares[name]), shares[name], len(pairs)) for name, pair in pairs.items())
    return ScoreComparison(
        terms,
        scores,
        tuple(_model(scores, terms, number) for number in range(len(scores.names))),
        found,
        (*scores.notes, *_notes(scores, terms, len(pairs))),
        scores.cautions,
    )


@dataclass(frozen=True, slots=True)
class _Pair:
    scores: PairedScores
    terms: VerdictTerms
    control: int
    candidate: int
    known: dict[float, tuple[Comparison, Decision]] = field(default_factory=dict)
    """Results so far, by alpha: Holm's procedure needs some of them again."""

    def values(self) -> PairedValues:
        a, b = self.scores.means[self.control], self.scores.means[self.candidate]
        better = a - b if self.terms.lower_is_better else b - a
        return PairedValues(a, b, list(self.scores.clusters), better)

    def span(self, values: PairedValues) -> float:
        """The highest minus the lowest score, as far as it is known."""
        low, high = self.scores.bounds or (
            float(min(values.a.min(), values.b.min())),
            float(max(values.a.max(), values.b.max())),
        )
        return high - low

    def _comparison(self, alpha: float) -> Comparison:
        values, margin = self.values(), self.terms.margin
        difference, method = paired_interval(values, self.span(values), alpha)
        found = margin_finding(difference, margin)
        return Comparison(
            metric=plain(self.scores.columns.score),
            unit="",
            role="primary",
            a=mean_estimate(values.a, values.clusters, alpha, self.scores.bounds or (None, None)),
            b=mean_estimate(values.b, values.clusters, alpha, self.scores.bounds or (None, None)),
            difference=difference,
            noise=None,
            pairs=values.n,
            effective_n=float(len(set(values.clusters))),
            margin=margin,
            direction_found=direction_finding(difference),
            margin_found=found,
            pairs_needed=pairs_needed(difference, margin, values.n) if found == "unclear" else None,
            method=method,
            better="lower" if self.terms.lower_is_better else "higher",
        )

    def at(self, alpha: float) -> tuple[Comparison, Decision]:
        if alpha not in self.known:
            comparison = self._comparison(alpha)
            self.known[alpha] = comparison, self._decision(comparison)
        return self.known[alpha]

    def _decision(self, comparison: Comparison) -> Decision:
        names = self.scores.names
        swap = SwapDescription("items", names[self.control], names[self.candidate])
        decision = decide(swap, comparison, (), tuple(self._gates(comparison)), (), early_reject=False)
        _, _, finding = decision.sentence.partition(f" from {swap.control} to {swap.candidate}: ")
        items = counted(comparison.pairs, "item")
        return replace(decision, sentence=f"On {items}, from {swap.control} to {swap.candidate}: {finding}")

    def _gates(self, comparison: Comparison) -> Iterator[GateResult]:
        clusters = int(comparison.effective_n)
        if clusters < 2:
            yield GateResult(
                "items", 0, f"{counted(clusters, 'independent item')} gives no interval; at least 2 are needed"
            )
        values = self.values()
        worst = None
        if self.scores.bounds is not None:
            worst = self.scores.bounds[1] if self.terms.lower_is_better else self.scores.bounds[0]
        if self.span(values) == 0:
            yield GateResult("telling", 0, f"every score is {values.a[0]:g}, which does not distinguish the models")
        elif worst is not None and bool((values.a == worst).all() and (values.b == worst).all()):
            yield GateResult(
                "telling", 0, f"every score of both is the worst one, {worst:g}: equal, and neither acceptable"
            )

    def finding(self, verdict: Verdict, share: AlphaShare, of: int) -> PairFinding:
        """share: this pair's part of the error of all."""
        parts = {"ship": share.ship, "reject": share.reject, "hold": min(share.ship, share.reject)}
        alpha = self.terms.alpha * parts[verdict] / of
        (comparison, decision), values = self.at(alpha), self.values()
        clusters = int(comparison.effective_n)
        return PairFinding(
            control=self.scores.names[self.control],
            candidate=self.scores.names[self.candidate],
            comparison=comparison,
            verdict=decision.verdict,
            sentence=decision.sentence,
            reasons=decision.reasons,
            alpha=alpha,
            clusters=clusters,
            counts=(int((values.better > 0).sum()), int((values.better == 0).sum()), int((values.better < 0).sum())),
            decides=_decides(comparison.difference, alpha, clusters),
            holds=None if comparison.difference.low is None else max(0.0, -comparison.difference.low),
            runs=_runs_share(self.scores, self.control, self.candidate),
        )


def paired_interval(values: PairedValues, span: float, alpha: float) -> tuple[Estimate, str]:
    """The difference with its interval of one look, and the interval's name."""
    value, clusters = float(values.better.mean()), len(set(values.clusters))
    if clusters < 2:
        return Estimate(value), "too few items for an interval"
    if span == 0:
        return Estimate(value, value, value), "none: every score is the same"
    found = score_difference(np.zeros(values.n), values.better, span, alpha, values.clusters)
    method = f"{_METHODS[found.method]} over {counted(clusters, 'cluster')}"
    return Estimate(value, found.low, found.high), "; ".join(filter(None, (method, mcnemar_text(values))))


def _decides(difference: Estimate, alpha: float, clusters: int) -> float | None:
    if difference.low is None or difference.high is None or clusters < 2:
        return None
    half = (difference.high - difference.low) / 2
    quantile = student_quantile(1 - alpha / 2, clusters - 1)
    return half * (1 + normal_quantile(_POWER) / quantile)


def _runs_share(scores: PairedScores, control: int, candidate: int) -> RunsShare | None:
    several = scores.repeated and len(scores.items) > 1
    splits = [variance_split(scores.runs[number]) for number in (control, candidate)] if several else []
    known = [split.of_means for split in splits if split is not None]
    variance = float((scores.means[candidate] - scores.means[control]).var(ddof=1)) if known else 0.0
    if not known or variance <= 0:
        return None
    share = min(1.0, sum(known) / variance)
    return RunsShare(share, 1 - math.sqrt(1 - share / 2))


def _model(scores: PairedScores, terms: VerdictTerms, number: int) -> ModelFinding:
    mean = mean_estimate(scores.means[number], scores.clusters, terms.alpha, scores.bounds or (None, None))
    runs = scores.runs[number]
    split = variance_split(runs) if scores.repeated and len(runs) > 1 else None
    return ModelFinding(scores.names[number], mean, sum(map(len, runs)), split)


def _notes(scores: PairedScores, terms: VerdictTerms, pairs: int) -> Iterator[str]:
    if scores.columns.cluster is not None:
        clusters = len(set(scores.clusters))
        yield (
            f"Items of one {plain(scores.columns.cluster)} count as dependent: the standard error is of "
            f"{counted(clusters, 'cluster')}."
        )
        if clusters < FEW_CLUSTERS:
            yield (
                f"With {counted(clusters, 'cluster')} the interval has Student's quantile for {clusters - 1} "
                "degrees of freedom, and is "
                "only as good as the assumption that the clusters' sums are about normal: more clusters "
                "help, more items of the same do not."
            )
    if not scores.stated:
        known = "taken to be 0 … 1, since all are" if scores.bounds else "unknown; --range LOW,HIGH states it"
        yield f"The scale of the scores is {known}."
    if pairs > 1:
        yield (
            f"{pairs} pairs share the error of {terms.alpha:g} by Holm's procedure: no pair's verdict is more "
            "likely to be wrong "
            "because many were compared. The exit code is about the pairs with the first file."
        )
