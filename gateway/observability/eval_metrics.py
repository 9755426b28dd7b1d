"""Every Prometheus metric of room 2, with its help text, and the text of a scrape. Labels are closed sets: names from
the config, or "other". Those of room 1 are in metrics_proxy.py, experiments' in metrics_experiments.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from gateway.observability.experiment_metrics import ExperimentFigures, families
from gateway.observability.proxy_metrics import ProxyMetrics as ProxyMetrics

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"


def exposition(registry: CollectorRegistry, shared: Path | None) -> bytes:
    """The text of one scrape: of this process or, from the directory they share, of all workers, dead ones included."""
    if shared is None:
        return generate_latest(registry)
    for pid in {int(p.stem.rpartition("_")[2]) for p in shared.glob("gauge_live*_*.db")}:
        if not Path(f"/proc/{pid}").exists():
            mark_process_dead(pid, str(shared))  # type: ignore[no-untyped-call]
    merged = CollectorRegistry()
    MultiProcessCollector(merged, str(shared))  # type: ignore[no-untyped-call]
    return generate_latest(merged)


@dataclass(frozen=True, slots=True)
class ScoreFigures:
    """One scorer on one model in one arm. mean, low, high: None while there is no mean. effective_n: so many equally
    weighted scores would tell as much. by_status: scores of all versions. buckets: (upper bound, closed weight), not
    cumulative, the last is "+Inf"."""

    scorer: str
    model: str
    arm: str
    by_status: Mapping[str, int]
    mean: float | None
    low: float | None
    high: float | None
    weighted_sum: float
    weight: float
    buckets: tuple[tuple[str, float], ...]
    effective_n: float = 0.0

    @property
    def labels(self) -> list[str]:
        return [self.scorer, self.model, self.arm]


@dataclass(frozen=True, slots=True)
class CorrectedFigures:
    """The same scorer's mean as people's labels correct it, on [0, 1], 1 best. labels: how many it rests on."""

    scorer: str
    model: str
    arm: str
    mean: float
    low: float
    high: float
    labels: int


@dataclass(frozen=True, slots=True)
class EvalFigures:
    """All that room 2 shows, at one moment. length, waiting, pending: entries of the stream. lost: by reason."""

    scores: tuple[ScoreFigures, ...] = ()
    dead_letters: Mapping[str, int] = field(default_factory=dict)
    duplicates: int = 0
    unaccounted: int = 0
    lost: Mapping[str, int] = field(default_factory=dict)
    trimmed_unread: int = 0
    oldest_unscored_s: float = 0.0
    length: int = 0
    waiting: int = 0
    pending: int = 0
    experiments: tuple[ExperimentFigures, ...] = ()
    blocked: Mapping[str, str | None] = field(default_factory=dict)  # by scorer that may be: why it is; None: it is not
    corrected: tuple[CorrectedFigures, ...] = ()
    cost_usd: Mapping[str, float] = field(default_factory=dict)  # by scorer
    tokens: Mapping[str, int] = field(default_factory=dict)  # by scorer
    budget_used: Mapping[str, float] = field(default_factory=dict)  # by scorer that has one: share of the day's
    consumers: int = 0  # that gave a heartbeat of late
    at: float | None = None  # Unix time of all this; None: nothing is known yet


class EvalMetrics(Collector):
    """What room 2 counts, as the store has it: the counters go on where they were after a restart.

    Consumers that share one store all show its totals: take their maximum, never their sum.
    """

    def __init__(self, registry: CollectorRegistry, clock: Callable[[], float] = time.time) -> None:
        self.figures = EvalFigures()
        self._clock = clock
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        figures = self.figures
        yield from _score_families(figures.scores)
        yield _histogram(figures.scores)
        letters = CounterMetricFamily(
            "gateway_eval_dead_letters", "Stream entries given up, by reason", labels=["reason"]
        )
        for reason, n in figures.dead_letters.items():
            letters.add_metric([reason], n)
        yield letters
        lost = CounterMetricFamily(
            "gateway_eval_dropped", "Sampled and lost on the way, by reason", labels=["stratum", "reason"]
        )
        for reason, n in figures.lost.items():
            lost.add_metric(["other", reason], n)
        yield lost
        yield CounterMetricFamily(
            "gateway_eval_trimmed_unread", "Entries that left the stream before they were read", figures.trimmed_unread
        )
        yield CounterMetricFamily(
            "gateway_eval_duplicates", "Exchanges that came again after they were stored", figures.duplicates
        )
        for name, text, value in (
            ("unaccounted", "Enqueued by a gateway, and neither stored nor buried nor under way", figures.unaccounted),
            ("oldest_unscored_seconds", "Age of the oldest exchange not yet scored", figures.oldest_unscored_s),
            ("stream_entries", "Entries in the stream", figures.length),
            ("stream_waiting", "Entries not yet handed to a consumer", figures.waiting),
            ("stream_pending", "Entries handed to a consumer and not yet stored", figures.pending),
            ("consumers", "Consumers that gave a heartbeat of late", figures.consumers),
            ("shown_age_seconds", "Since this consumer last came round to bring all this up to date", self._age()),
        ):
            yield GaugeMetricFamily(f"gateway_eval_{name}", text, value)
        blocked = GaugeMetricFamily(
            "gateway_eval_scorer_blocked",
            "1 while a scorer is not asked: it was denied what it needs, or missed deadline after deadline",
            labels=["scorer"],
        )
        for name, why in figures.blocked.items():
            blocked.add_metric([name], float(why is not None))
        yield blocked
        yield from _corrected_families(figures.corrected)
        yield from _spent_families(figures)
        yield from families(figures.experiments)

    def _age(self) -> float | None:
        return None if self.figures.at is None else max(0.0, self._clock() - self.figures.at)


_SCORE = ("scorer", "model", "arm")


def _score_families(scores: Sequence[ScoreFigures]) -> Iterator[Metric]:
    counts = CounterMetricFamily("gateway_eval_scores", "Scores, by status", labels=[*_SCORE, "status"])
    sums = CounterMetricFamily(
        "gateway_eval_score_weighted_sum",
        "Scores by weight; over _weight, in any window: the mean",
        labels=_SCORE,
    )
    weights = CounterMetricFamily("gateway_eval_score_weight", "Calls that the scores stand for", labels=_SCORE)
    mean = GaugeMetricFamily("gateway_eval_score_mean", "Mean score as over all traffic, weighted", labels=_SCORE)
    low = GaugeMetricFamily("gateway_eval_score_mean_low", "Lower end of its 95 % interval, at any time", labels=_SCORE)
    high = GaugeMetricFamily("gateway_eval_score_mean_high", "Upper end of the same", labels=_SCORE)
    size = GaugeMetricFamily(
        "gateway_eval_score_effective_samples", "How many equally weighted scores would tell as much", labels=_SCORE
    )
    for each in scores:
        for status, n in each.by_status.items():
            counts.add_metric([*each.labels, status], n)
        sums.add_metric(each.labels, each.weighted_sum)
        weights.add_metric(each.labels, each.weight)
        size.add_metric(each.labels, each.effective_n)
        for family, value in ((mean, each.mean), (low, each.low), (high, each.high)):
            if value is not None:
                family.add_metric(each.labels, value)
    yield from (counts, sums, weights, mean, low, high, size)


def _corrected_families(means: Sequence[CorrectedFigures]) -> Iterator[Metric]:
    name, text = "gateway_eval_score_corrected_mean", "Mean score as people's labels correct it, weighted, 1 best"
    mean = GaugeMetricFamily(name, text, labels=_SCORE)
    low = GaugeMetricFamily(f"{name}_low", "Lower end of its 95 % interval, for one look", labels=_SCORE)
    high = GaugeMetricFamily(f"{name}_high", "Upper end of the same", labels=_SCORE)
    labels = GaugeMetricFamily("gateway_eval_score_labels", "Labels that the corrected mean rests on", labels=_SCORE)
    for each in means:
        of = [each.scorer, each.model, each.arm]
        for family, value in ((mean, each.mean), (low, each.low), (high, each.high), (labels, each.labels)):
            family.add_metric(of, value)
    yield from (mean, low, high, labels)


def _spent_families(figures: EvalFigures) -> Iterator[Metric]:
    usd = CounterMetricFamily("gateway_eval_cost_usd", "What scorers have paid, where it is known", labels=["scorer"])
    tokens = CounterMetricFamily("gateway_eval_tokens", "Tokens that scorers had models use", labels=["scorer"])
    for scorer, spent in figures.cost_usd.items():
        usd.add_metric([scorer], spent)
    for scorer, n in figures.tokens.items():
        tokens.add_metric([scorer], n)
    used = GaugeMetricFamily(
        "gateway_eval_budget_used_ratio", "How much of the day's budget a scorer has used, 0 to 1", labels=["scorer"]
    )
    for scorer, share in figures.budget_used.items():
        used.add_metric([scorer], share)
    yield from (usd, tokens, used)


def _histogram(scores: Sequence[ScoreFigures]) -> Metric:
    family = HistogramMetricFamily("gateway_eval_score", "Scores, each with the calls it stands for", labels=_SCORE)
    for each in scores:
        total, cumulative = 0.0, []
        for bound, weight in each.buckets:
            total += weight
            cumulative.append((bound, total))
        family.add_metric(each.labels, cumulative, each.weighted_sum)
    return family
