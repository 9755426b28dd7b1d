"""Every Prometheus metric of both rooms, with its help text. Labels are closed sets: names from the config, or "other".

GenAI names and buckets follow the OpenTelemetry semantic conventions for generative AI, in Prometheus spelling.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from gateway.counting import Counts

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"

_DURATION = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_FIRST_TOKEN = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0),
)  # fmt: skip
_PER_TOKEN = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
_TOKENS = tuple(4.0**i for i in range(14))
_OVERHEAD = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)


class ProxyMetrics:
    """What room 1 counts. counts: the way to raise a counter or histogram on a call's path."""

    def __init__(self, registry: CollectorRegistry) -> None:
        r = registry
        self.counts = Counts()
        genai = ["gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model", "gen_ai_response_model"]
        self.tokens_used = Histogram(
            "gen_ai_client_token_usage", "Tokens of one call, by type", [*genai, "gen_ai_token_type"],
            buckets=_TOKENS, registry=r,
        )  # fmt: skip
        self.duration = Histogram(
            "gen_ai_server_request_duration_seconds", "From the request's arrival to the end of its answer",
            [*genai, "error_type"], buckets=_DURATION, registry=r,
        )  # fmt: skip
        self.first_token = Histogram(
            "gen_ai_server_time_to_first_token_seconds", "Streams: from the request's arrival to the first content",
            genai, buckets=_FIRST_TOKEN, registry=r,
        )  # fmt: skip
        self.per_token = Histogram(
            "gen_ai_server_time_per_output_token_seconds", "Streams: time after the first content by output token",
            genai, buckets=_PER_TOKEN, registry=r,
        )  # fmt: skip
        self.requests = Counter(
            "gateway_requests", "Calls, by how they ended", ["alias", "upstream", "outcome"], registry=r
        )
        self.refused = Counter(
            "gateway_refused", "Answers that are an error of the gateway's own", ["status", "code"], registry=r
        )
        self.overhead = Histogram(
            "gateway_overhead_seconds", "Time a call spent in the gateway and not in an upstream",
            buckets=_OVERHEAD, registry=r,
        )  # fmt: skip
        self.inflight = Gauge(
            "gateway_inflight_requests", "Calls being answered now", registry=r, multiprocess_mode="livesum"
        )
        self.attempts = Counter("gateway_attempts", "Tries at upstreams, by result", ["upstream", "result"], registry=r)
        self.upstream_inflight = Gauge(
            "gateway_upstream_inflight_requests", "Attempts under way at an upstream", ["upstream"], registry=r,
            multiprocess_mode="livesum",
        )  # fmt: skip
        self.breaker_open = Gauge(
            "gateway_breaker_open", "1 while a target is not asked because it failed", ["upstream", "model"],
            registry=r, multiprocess_mode="livemax",
        )  # fmt: skip
        self.queued = Gauge(
            "gateway_upstream_queued_requests", "Calls waiting for a place at an upstream", ["upstream"], registry=r,
            multiprocess_mode="livesum",
        )  # fmt: skip
        self.continued = Counter(
            "gateway_continued", "Streams cut upstream, by how they went on", ["alias", "how"], registry=r
        )
        self.tokens = Counter("gateway_tokens", "Tokens over all traffic", ["alias", "upstream", "type"], registry=r)
        self.cost = Counter(
            "gateway_cost_usd", "USD of calls whose usage and price are known", ["alias", "upstream"], registry=r
        )
        self.unpriced = Counter(
            "gateway_unpriced", "Calls of unknown cost: no price, or no usage", ["alias", "upstream"], registry=r
        )
        self.config_ok = Gauge(
            "gateway_config_ok", "1 when the newest gateway.yaml is in force, 0 when it was refused", registry=r,
            multiprocess_mode="livemin",
        )  # fmt: skip
        self.seen = Counter("gateway_eval_seen", "Calls that reached an upstream", ["stratum"], registry=r)
        self.unsampled = Counter("gateway_eval_unsampled", "Seen and not sampled, by reason", ["reason"], registry=r)
        self.sampled = Counter("gateway_eval_sampled", "Seen and sampled", ["stratum"], registry=r)
        self.enqueued = Counter(
            "gateway_eval_enqueued", "Sampled and acknowledged by the stream", ["stratum"], registry=r
        )
        self.dropped = Counter(
            "gateway_eval_dropped", "Sampled and not enqueued, by reason", ["stratum", "reason"], registry=r
        )
        self.redactions = Counter(
            "gateway_redactions", "What was replaced in records before they left, by rule", ["rule"], registry=r
        )
        self.redaction_failed = Counter(
            "gateway_redaction_failed", "Records whose content was dropped because redaction failed", ["reason"],
            registry=r,
        )  # fmt: skip
        self.feedback = Counter("gateway_feedback", "What people said of answers, by result", ["result"], registry=r)
        self.recorder_waiting = Gauge(
            "gateway_recorder_waiting", "Exchanges waiting to be appended to the stream", registry=r,
            multiprocess_mode="livesum",
        )  # fmt: skip
        self.shadow = Counter(
            "gateway_shadow", "Shadow requests, by what became of them; arm: \"\" where none was asked",
            ["experiment", "arm", "result"], registry=r,
        )  # fmt: skip
        self.shadow_tokens = Counter(
            "gateway_shadow_tokens", "Tokens that shadows used, input and output", ["experiment", "arm"], registry=r
        )
        self.shadow_cost = Counter(
            "gateway_shadow_cost_usd", "What shadows cost, where the model has a price", ["experiment", "arm"],
            registry=r,
        )  # fmt: skip
        self.shadow_running = Gauge(
            "gateway_shadow_running", "Shadow requests under way", ["experiment"], registry=r,
            multiprocess_mode="livesum",
        )  # fmt: skip
        self.shadow_paused = Gauge(
            "gateway_shadow_paused", "1 while shadows pause because served answers were slower beside them",
            ["experiment"], registry=r, multiprocess_mode="livemax",
        )  # fmt: skip
        self.split = Counter(
            "gateway_split", "Calls of a split, by how they ended for their arm", ["experiment", "arm", "result"],
            registry=r,
        )  # fmt: skip
        self.experiment_running = Gauge(
            "gateway_experiment_running", "1 while this gateway runs the experiment's plan", ["experiment"],
            registry=r, multiprocess_mode="livemax",
        )  # fmt: skip


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
    """One scorer on one model in one arm. mean, low, high: None while there is no mean. by_status: scores of all
    versions. buckets: (upper bound, closed weight), not cumulative, the last is "+Inf"."""

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
    blocked: Mapping[str, str | None] = field(default_factory=dict)  # by scorer that may be: why it is; None: it is not
    corrected: tuple[CorrectedFigures, ...] = ()
    cost_usd: Mapping[str, float] = field(default_factory=dict)  # by scorer
    tokens: Mapping[str, int] = field(default_factory=dict)  # by scorer


class EvalMetrics(Collector):
    """What room 2 counts, as the store has it: the counters go on where they were after a restart.

    Consumers that share one store all show its totals: take their maximum, never their sum.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.figures = EvalFigures()
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
    for each in scores:
        for status, n in each.by_status.items():
            counts.add_metric([*each.labels, status], n)
        sums.add_metric(each.labels, each.weighted_sum)
        weights.add_metric(each.labels, each.weight)
        for family, value in ((mean, each.mean), (low, each.low), (high, each.high)):
            if value is not None:
                family.add_metric(each.labels, value)
    yield from (counts, sums, weights, mean, low, high)


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
    yield from (usd, tokens)


def _histogram(scores: Sequence[ScoreFigures]) -> Metric:
    family = HistogramMetricFamily("gateway_eval_score", "Scores, each with the calls it stands for", labels=_SCORE)
    for each in scores:
        total, cumulative = 0.0, []
        for bound, weight in each.buckets:
            total += weight
            cumulative.append((bound, total))
        family.add_metric(each.labels, cumulative, each.weighted_sum)
    return family
