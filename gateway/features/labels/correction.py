"""A scorer's mean over everything it judged, corrected by the few answers that people labelled. Draws these answers,
too.

Pure. The sample has two phases: traffic was sampled and judged with known weights, and a part of what was judged was
drawn for people with known probability. This is PPI++ for such samples, and equal to it with equal weights. The rows of
the store become the samples here too.

Every judged item has a position u in [0, 1) that never changes: one hash, in a domain of the scorer's own. People label
the items in the order of their keys u / r, where r is the relative rate at which items of this kind are to be drawn.
With each label, the threshold is stored: the smallest key among the items that have not been seen. Everything below
the threshold has been seen. So an item was seen exactly when its key was below a threshold that was stored while the
item existed, and its probability of that, given the others, is r times the threshold. Labelling may stop and continue
at any time, and new answers may arrive in between.

Source: Rosén, "On sampling with probability proportional to size", J. Statist. Plann. Inference 62, 1997 (order
sampling); Cohen & Kaplan, "Summarizing data using bottom-k sketches", PODC 2007 (the next key as the threshold).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gateway.core.randomization import draw
from gateway.features.labels.rows import JudgedSums, TrafficKey
from gateway.statistics.asymptotic import Tuning, half_width
from gateway.statistics.domains import Floats, inside, positive, same_length, vector
from gateway.statistics.judge_rates import CorrectedRate, JudgeAccuracy, corrected_rate
from gateway.statistics.special import student_quantile

EVERYTHING = 1e300  # the threshold when every item has been seen
CALLED_GOOD = 0.5  # the scorer's verdict from which an item counts as called good


@dataclass(frozen=True, slots=True)
class LabelCandidate:
    """A judged item."""

    id: str
    judged: float
    """The scorer's verdict in [0, 1], 1 best."""
    created: float
    """Unix time of the score, in seconds."""
    experiment: str = ""


@dataclass(frozen=True, slots=True)
class SamplingDesign:
    """The design by which one label's item was drawn."""

    pool: str
    """The experiment that was drawn from; "": all traffic."""
    favour: float
    """Factor by which items that the scorer calls bad are drawn more often."""
    threshold: float | None
    """See the module's docstring. None if not drawn in order."""
    share: float | None
    """The share of the items in a simple random sample that was drawn elsewhere. None if drawn in order."""
    horizon: float
    """The creation time of the newest item there was, Unix seconds."""


@dataclass(frozen=True, slots=True)
class ItemArrays:
    """Judged items as arrays of shape (n,)."""

    u: Floats
    judged: Floats
    created: Floats
    experiment: Sequence[str]

    @classmethod
    def of(cls, scorer: str, candidates: Sequence[LabelCandidate]) -> ItemArrays:
        return cls(
            np.array([position(scorer, c.id) for c in candidates], dtype=np.float64),
            np.array([c.judged for c in candidates], dtype=np.float64),
            np.array([c.created for c in candidates], dtype=np.float64),
            [c.experiment for c in candidates],
        )


def position(scorer: str, subject_id: str) -> float:
    """Value of u in the module's docstring."""
    return draw(f"label:{scorer}", subject_id)


def rate(judged: float, favour: float) -> float:
    """Value of r in the module's docstring, in (0, 1]; 1 for the items that are drawn most."""
    return min(1.0, favour) if judged < CALLED_GOOD else min(1.0, 1.0 / favour)


def in_order(scorer: str, candidates: Iterable[LabelCandidate], favour: float) -> list[tuple[float, LabelCandidate]]:
    """The items with their keys, smallest key first."""
    keyed = [(position(scorer, c.id) / rate(c.judged, favour), c) for c in candidates]
    return sorted(keyed, key=lambda pair: (pair[0], pair[1].id))


def threshold(ordered: Iterable[tuple[float, LabelCandidate]], seen: Collection[str]) -> float:
    """The smallest key among the items that have not been seen."""
    return next((key for key, candidate in ordered if candidate.id not in seen), EVERYTHING)


def probabilities(items: ItemArrays, designs: Iterable[SamplingDesign]) -> Floats:
    """Computes each item's probability of having been seen; 0 if these designs cannot have drawn it.

    The two kinds of draw are independent: in order by u, and the simple random samples that were drawn elsewhere.
    """
    ordered: dict[tuple[str, float], list[SamplingDesign]] = {}
    unsampled = np.ones(items.u.size)
    for design in designs:
        if design.threshold is not None:
            ordered.setdefault((design.pool, design.favour), []).append(design)
        if design.share is not None:
            unsampled[_in_pool(items, design.pool) & (items.created <= design.horizon)] *= 1.0 - design.share
    by_order = np.zeros(items.u.size)
    for (pool, favour), group in ordered.items():
        reached = _reached(items.created, group) * _rates(items.judged, favour)
        by_order = np.maximum(by_order, np.where(_in_pool(items, pool), np.minimum(1.0, reached), 0.0))
    return np.asarray(by_order + (1.0 - by_order) * (1.0 - unsampled), dtype=np.float64)


def seen_in_order(items: ItemArrays, designs: Iterable[SamplingDesign]) -> Floats:
    """The probabilities of the ordered draws alone: an item whose u is below was drawn, others were imported."""
    return probabilities(items, [d for d in designs if d.threshold is not None and d.share is None])


def _reached(created: Floats, group: Sequence[SamplingDesign]) -> Floats:
    """The highest threshold that was stored while each item existed."""
    by_horizon = sorted(group, key=lambda d: d.horizon)
    horizons = np.array([d.horizon for d in by_horizon])
    highest = np.maximum.accumulate(np.array([d.threshold for d in by_horizon], dtype=np.float64)[::-1])[::-1]
    at = np.searchsorted(horizons, created, side="left")
    return np.append(highest, 0.0)[at]


def _rates(judged: Floats, favour: float) -> Floats:
    return np.where(judged < CALLED_GOOD, min(1.0, favour), min(1.0, 1.0 / favour))


def _in_pool(items: ItemArrays, pool: str) -> NDArray[np.bool_]:
    return np.array([pool in ("", each) for each in items.experiment], dtype=np.bool_)


_USUAL_LABELS = 200.0  # at which the interval for any look is tightest
MIN_LABELS = 10  # with fewer labels there is no estimate
Mask = NDArray[np.bool_]
StoredLabel = Mapping[str, Any]
"""A row of store.labels.labelled or labelled_pairs."""


@dataclass(frozen=True, slots=True)
class JudgedSample:
    """All that a scorer judged in one kind of traffic."""

    n: int
    weight: float
    """The number of calls that these answers represent."""
    mean: float
    """The weighted mean of the verdicts in [0, 1]."""
    variance: float
    good: float
    """The weighted share that the scorer calls good."""
    effective: float
    """The size of an equally weighted sample with the same information."""
    se: float | None = None
    """The standard error of the mean, where a predictor's control made it smaller than the verdicts alone would."""


@dataclass(frozen=True, slots=True)
class Labels:
    """Labelled answers, as arrays of shape (n,)."""

    y: Floats
    """People's verdicts in [0, 1]."""
    f: Floats
    """The scorer's verdicts in [0, 1]."""
    weight: Floats
    """The number of calls that each judged answer represents."""
    pi: Floats
    """The probability with which each judged answer came to be labelled, in (0, 1]."""
    units: Sequence[str] = ()
    """The conversation of each; () if every label is one of its own."""

    @classmethod
    def of(cls, y: ArrayLike, f: ArrayLike, weight: ArrayLike, pi: ArrayLike, units: Sequence[str] = ()) -> Labels:
        """Raises ValueError for arrays of different lengths, weights that are not positive, pi outside (0, 1]."""
        labels = cls(vector("y", y, 0), vector("f", f, 0), vector("weight", weight, 0), vector("pi", pi, 0), units)
        same_length("y, f, weight, pi", labels.y, labels.f, labels.weight, labels.pi)
        if labels.n:
            positive("smallest weight", float(labels.weight.min()))
            positive("smallest pi", float(labels.pi.min()))
            inside("largest pi", float(labels.pi.max()), 0.0, 1.0 + 1e-12)
        return labels

    @property
    def n(self) -> int:
        return int(self.y.size)

    @property
    def shares(self) -> Floats:
        """The share of all traffic that each label represents. The shares sum to 1."""
        calls = self.weight / self.pi
        return np.asarray(calls / calls.sum(), dtype=np.float64)

    @property
    def effective(self) -> float:
        return float(1.0 / (self.shares**2).sum()) if self.n else 0.0

    @property
    def conversations(self) -> int:
        return len(set(self.units)) if self.units else self.n

    def inflation(self, deviations: Floats) -> float:
        """Factor of the variance of a mean over that of independent labels, since labels of one conversation deviate
        together: Σ over conversations (Σ s d)² / Σ s² d², with the correction for few conversations, 1 at least."""
        n = self.conversations
        if n == self.n or n < 2:
            return 1.0
        _, codes = np.unique(np.asarray(self.units), return_inverse=True)
        parts = self.shares * deviations
        alone, together = float((parts**2).sum()), float((np.bincount(codes, parts) ** 2).sum())
        return max(1.0, n / (n - 1.0) * together / alone) if alone > 0 else 1.0


@dataclass(frozen=True, slots=True)
class Corrected:
    """An estimate of the mean that people would give."""

    mean: float
    se: float
    low: float
    high: float
    trust: float
    """lambda: the weight of the scorer's own mean in the estimate, in [0, 1]."""
    of_labels: float
    """The part of se^2 that shrinks in proportion to the number of labels."""
    of_judged: float
    """The part of se^2 that only more judged answers reduce."""


def corrected(labels: Labels, judged: JudgedSample, alpha: float = 0.05) -> Corrected | None:
    """Estimate lambda mean(f) + mean of (y - lambda f) over the labels, each representing weight / pi calls.

    None if there are fewer than MIN_LABELS, or all are of one conversation.

    lambda = cov(y, f) / var(f), in [0, 1]. se^2 = sum (1 - pi) s^2 (e - mean e)^2 + sum s w (y - mean)^2 / W, s the
    labels' shares, e = y - lambda f, W the weight of all judged; Student's t with effective - 1 degrees of freedom;
    t / (2 effective) is added in quadrature to se, since equal labels do not prove certainty (compare Wilson's
    interval). Labels of one conversation depend on each other: both sums grow by Labels.inflation (Liang & Zeger 1986),
    and t has one degree less than there are conversations. Where a model predicted the judge (judged.se), the mean of f
    is the controlled one, and the second term is sum s w (e - mean e)^2 / W + lambda^2 judged.se^2, since e is
    uncorrelated with f, if that is less and lambda < 1. The interval is valid for one look.
    Source: Angelopoulos, Duchi & Zrnic 2023, arXiv:2311.01453; variances of two-phase sampling from Särndal, Swensson &
    Wretman 1992, chapter 9.
    """
    inside("alpha", alpha)
    size = labels.effective
    if labels.n < MIN_LABELS or size <= 2.0 or judged.n < 1 or labels.conversations < 2:
        return None
    share, more = labels.shares, size / (size - 1.0)
    trust = _trust(labels, judged)
    rest = labels.y - trust * labels.f
    middle = float((share * rest).sum())
    mean = trust * judged.mean + middle
    of_labels = more * float(((1.0 - labels.pi) * share**2 * (rest - middle) ** 2).sum())
    of_labels = labels.inflation(rest - middle) * of_labels + unseen_variance(labels, trust, middle)
    together = labels.inflation(labels.y - mean)
    of_judged = together * more * float((share * labels.weight * (labels.y - mean) ** 2).sum()) / judged.weight
    if judged.se is not None and trust < 1.0:
        of_rest = more * float((share * labels.weight * (rest - middle) ** 2).sum()) / judged.weight
        of_rest *= labels.inflation(rest - middle)
        of_judged = min(of_judged, of_rest + (trust * judged.se) ** 2)
    se, t = math.sqrt(of_labels + of_judged), student_quantile(1.0 - alpha / 2.0, min(size, labels.conversations) - 1.0)
    half = t * se
    return Corrected(_clip(mean), se, _clip(mean - half), _clip(mean + half), trust, of_labels, of_judged)


def at_any_look(estimate: Corrected, labels: Labels, alpha: float = 0.05) -> tuple[float, float]:
    """An interval of the mean that is valid at every look, as a gauge needs it: an asymptotic confidence sequence over
    the labels, by their effective size or the number of conversations; never narrower than that for one look.

    With fewer than MIN_LABELS independent labels, it is (0, 1).
    """
    n = min(labels.effective, float(labels.conversations))
    tuning = Tuning(inside("alpha", alpha), _USUAL_LABELS, MIN_LABELS)
    half = half_width(estimate.se * math.sqrt(n), n, tuning)
    return min(estimate.low, _clip(estimate.mean - half)), max(estimate.high, _clip(estimate.mean + half))


def unseen_variance(labels: Labels, trust: float, middle: float) -> float:
    """The variance that one more good and one more bad label would add among the answers the scorer calls bad, and
    among those it calls good."""
    added = 0.0
    for half in (labels.f < 0.5, labels.f >= 0.5):
        if half.any():
            share, drawn = float(labels.shares[half].mean()), float(labels.pi[half].mean())
            offset = trust * float(labels.f[half].mean()) + middle
            added += (1.0 - drawn) * share**2 * ((1.0 - offset) ** 2 + offset**2)
    return added


def _trust(labels: Labels, judged: JudgedSample) -> float:
    if judged.variance <= 0:
        return 0.0
    share = labels.shares
    y, f = labels.y - float((share * labels.y).sum()), labels.f - float((share * labels.f).sum())
    return _clip(float((share * y * f).sum()) / judged.variance)


def rogan_gladen(labels: Labels, judged: JudgedSample, cut: float, alpha: float = 0.05) -> CorrectedRate | None:
    """The share of good answers, corrected by both error rates with their uncertainty. Sizes are effective sizes.

    None if a rate is unknown, or the scorer is not better than chance. Only for labels that are good or bad.
    """
    rates = error_rates(labels, cut)
    if rates is None or labels.n < MIN_LABELS:
        return None
    try:
        return corrected_rate(judged.good, max(1, math.floor(judged.effective)), rates, alpha)
    except ValueError:  # not better than chance
        return None


def error_rates(labels: Labels, cut: float) -> JudgeAccuracy | None:
    """Weighted TNR and TPR, with effective sizes rounded down. None if people called nothing bad, or nothing good.

    cut: the verdict from which the scorer calls an answer good; for people it is one half.
    """
    good, called = labels.y >= 0.5, labels.f >= cut
    if not good.any() or good.all():
        return None
    (tnr, m0), (tpr, m1) = _rate(labels, ~good, ~called), _rate(labels, good, called)
    return JudgeAccuracy(tnr, m0, tpr, m1)


def _rate(labels: Labels, among: Mask, right: Mask) -> tuple[float, int]:
    """A weighted share, and the size of the simple random sample with the same uncertainty: share (1 - share) /
    variance, or Kish's size if all agree. Source: Dean & Pagano 2015, "Evaluating confidence interval methods for
    binomial proportions in clustered surveys", J. Surv. Stat. Methodol. 3, section 2.
    """
    weight = (labels.weight / labels.pi)[among]
    hits = right[among]
    share = float(weight[hits].sum() / weight.sum())
    squares = float((weight**2 * (hits - share) ** 2).sum())
    if weight.min() == weight.max():
        size = float(weight.size)
    elif squares == 0:
        size = float(weight.sum() ** 2 / (weight**2).sum())
    else:  # two more of each, with their mean weight: a few heavy labels decide, and some were not seen
        squares += 2.0 * ((weight[hits].mean() * (1.0 - share)) ** 2 + (weight[~hits].mean() * share) ** 2)
        size = share * (1.0 - share) * float(weight.sum()) ** 2 / squares
    return share, max(1, math.floor(min(float(weight.size), size) + 1e-9))


def labels_needed(estimate: Corrected, n: int, half_width: float, alpha: float = 0.05) -> int | None:
    """The total number of labels for an interval of mean ± half_width, if further labels are like these n.

    None if no number of labels is enough, because too few answers were judged.
    """
    target = (half_width / student_quantile(1.0 - alpha / 2.0, max(n - 1.0, 2.0))) ** 2 - estimate.of_judged
    if target <= 0:
        return None
    return max(n, math.ceil(n * estimate.of_labels / target)) if estimate.high - estimate.low > 2 * half_width else n


def _clip(x: float) -> float:
    return min(1.0, max(0.0, x))


@dataclass(frozen=True, slots=True)
class LabelledItem:
    id: str
    y: float
    """The mean of people's verdicts."""
    f: float
    """The scorer's verdict."""
    key: TrafficKey
    experiment: str
    plan: str | None
    pi: float
    """The probability with which the item was drawn, once judged. 0.0 if no design drew it; the label was imported."""
    by: Mapping[str, float]
    """labeller → verdict."""
    v: float = 1.0
    """1 / π of the scorer's draw."""
    unit: str = ""
    """Conversation of the answer; "" means that the answer is a conversation of its own."""


def labelled_items(scorer: str, rows: Sequence[StoredLabel]) -> list[LabelledItem]:
    """The items with at least one verdict. rows: all labels of one version of the scorer, those of skipped items
    included, because these were drawn too."""
    by_id: dict[str, list[StoredLabel]] = {}
    for row in rows:
        by_id.setdefault(row["subject_id"], []).append(row)
    first_rows = [group[0] for group in by_id.values()]
    imported = {id for id, group in by_id.items() if any(r["share"] for r in group)}
    drawn = _drawing_probabilities(scorer, first_rows, designs_of(rows), imported)
    items = (_item(by_id[row["subject_id"]], float(pi)) for row, pi in zip(first_rows, drawn, strict=True))
    return [item for item in items if item is not None]


def _item(labels: Sequence[StoredLabel], pi: float) -> LabelledItem | None:
    """The item of these labels. None if everyone skipped it."""
    by = {r["labeller"]: r["value"] for r in labels if r["value"] is not None}
    if not by:
        return None
    row = labels[0]
    key = (row["alias"], row["model"], row["arm"], row["stratum"])
    y = sum(by.values()) / len(by)
    v = row["sampled"] / row["pi"] if "sampled" in row else 1.0
    unit = row.get("unit") or ""
    return LabelledItem(row["subject_id"], y, row["judged"], key, row["experiment"], row["plan"], pi, by, v, unit)


def designs_of(rows: Iterable[StoredLabel]) -> list[SamplingDesign]:
    """The distinct designs of the labels, in the order of their horizons."""
    return sorted(
        {SamplingDesign(r["pool"], r["favour"], r["threshold"], r["share"], r["horizon"]) for r in rows},
        key=lambda d: d.horizon,
    )


def _drawing_probabilities(
    scorer: str, rows: Sequence[StoredLabel], designs: Sequence[SamplingDesign], imported: set[str]
) -> Floats:
    candidates = [LabelCandidate(r["subject_id"], r["judged"], r["created"], r["experiment"]) for r in rows]
    items = ItemArrays.of(scorer, candidates)
    known = (items.u < seen_in_order(items, designs)) | np.array([c.id in imported for c in candidates], dtype=np.bool_)
    return np.where(known, probabilities(items, designs), 0.0)


def judged_sample(cells: Mapping[TrafficKey, JudgedSums]) -> JudgedSample:
    """Combines all kinds of traffic, each with its weight."""
    weights = call_weights(cells)
    known = [(weights[key], cell) for key, cell in cells.items() if cell.scored and weights[key] > 0]
    weight = sum(w * c.weight for w, c in known)
    if weight == 0:
        return JudgedSample(0, 0.0, 0.0, 0.0, 0.0, 0.0)
    mean = sum(w * c.total for w, c in known) / weight
    squares = sum(w * c.squares for w, c in known) / weight
    return JudgedSample(
        sum(c.scored for _, c in known),
        weight,
        mean,
        max(0.0, squares - mean * mean),
        sum(w * c.good for w, c in known) / weight,
        weight**2 / sum(w * w * c.weight_squares for w, c in known),
    )


def call_weights(cells: Mapping[TrafficKey, JudgedSums]) -> dict[TrafficKey, float]:
    """The number of calls that each judged answer of a kind of traffic (alias, model, arm, stratum) represents, per
    unit of v (see JudgedSums).

    N_h / n_h with n_h = scored + not applicable, each times v. While no Tally has arrived, N_h is the sum of 1 / pi.
    """
    counted = any(cell.population for cell in cells.values())
    sizes = {k: max(c.population, c.asked) if counted else c.inverse_pi for k, c in cells.items()}
    return {k: sizes[k] / c.answered if c.responded else 0.0 for k, c in cells.items()}


def labels_in(items: Iterable[LabelledItem], weights: Mapping[TrafficKey, float]) -> Labels:
    """The drawn items of these kinds of traffic. weights: see call_weights."""
    these = [i for i in items if i.pi > 0 and weights.get(i.key, 0.0) > 0]
    rows = [(i.y, i.f, weights[i.key] * i.v, i.pi) for i in these]
    y, f, weight, pi = np.array(rows, dtype=np.float64).reshape(-1, 4).T
    return Labels.of(y, f, weight, pi, [i.unit or i.id for i in these])
