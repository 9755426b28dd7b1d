"""Every Prometheus metric of the consumer, and the text of a scrape. The gateway's are in proxy_metrics.py.

Label values are closed sets: names from the config, or "other".
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from prometheus_client import CollectorRegistry, Metric, disable_created_metrics, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from gateway.core.ramp import RampState
from gateway.observability.proxy_metrics import ProxyMetrics as ProxyMetrics
from gateway.observability.worker_metrics import WorkerMetrics

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
VERDICTS = ("ship", "reject", "hold")
_EACH = ("experiment", "candidate")
BLOCKED = "gateway_eval_scorer_blocked"
FAILING_PARTS = "gateway_eval_failing_parts"
WORKERS, WORKER_RESTARTS = "gateway_eval_workers", "gateway_eval_worker_restarts"


@dataclass(frozen=True, slots=True)
class MetricFigures:
    """One metric of one candidate."""

    metric: str
    difference: float | None  # candidate minus control; positive is better for the candidate; None: no data yet
    low: float | None
    high: float | None
    margin: float | None  # None: the metric has none
    log_evalue: float | None
    pairs: int  # in a split: units


@dataclass(frozen=True, slots=True)
class FeedbackFigures:
    """People's feedback on one arm of a split."""

    metric: str
    arm: str  # control or candidate
    mean: float | None  # None: none was given
    answered: float  # share of the answers with feedback
    answers: int  # whose window has closed


@dataclass(frozen=True, slots=True)
class ConditionFigures:
    """One condition of a verdict that is still open."""

    kind: str  # primary, guardrail or gate
    name: str
    low: float | None
    high: float | None
    values: int  # pairs that have a value of it
    pairs_needed: int | None  # settled pairs until it is closed, from now; None: unknown


@dataclass(frozen=True, slots=True)
class ExperimentFigures:
    """One candidate of one experiment."""

    experiment: str
    candidate: str
    verdict: str
    pairs: int  # that are settled and have at least one answer
    metrics: tuple[MetricFigures, ...] = ()
    gates: tuple[tuple[str, int], ...] = ()  # by name: −1 red, 0 unknown, 1 green
    withheld: tuple[tuple[str, int], ...] = ()  # pairs without a comparison, by reason
    srm_p: float | None = None  # p-value of the sample-ratio test; None: the experiment has no split
    conditions: tuple[ConditionFigures, ...] = ()  # that are open
    requests_needed: int | None = None  # eligible requests until the verdict; 0: there is one; None: unknown
    days_needed: float | None = None
    feedback: tuple[FeedbackFigures, ...] = ()  # of a split

    @property
    def labels(self) -> list[str]:
        return [self.experiment, self.candidate]


@dataclass(frozen=True, slots=True)
class RampFigures:
    """The ramp of one experiment, as its audit has it."""

    experiment: str
    state: str
    share: float
    since: float  # Unix seconds
    transitions: Mapping[str, int]  # by kind


def ramp_families(figures: EvalFigures) -> Iterator[Metric]:
    one = ["experiment"]
    state = GaugeMetricFamily(
        "gateway_ramp_state", "1 for the state that a ramp is in, 0 for the others", labels=[*one, "state"]
    )
    share = GaugeMetricFamily(
        "gateway_ramp_decided_share", "Share of the units that the candidate of a ramp is to serve", labels=one
    )
    since = GaugeMetricFamily(
        "gateway_ramp_since_timestamp_seconds", "Unix time at which a ramp's state or step began", labels=one
    )
    transitions = CounterMetricFamily(
        "gateway_ramp_transitions", "Changes of a ramp in its audit, by what they were", labels=[*one, "kind"]
    )
    webhooks = GaugeMetricFamily(
        "gateway_webhook_deliveries", "Webhooks in the store: pending, delivered or dead", labels=["webhook", "state"]
    )
    for each in figures.ramps:
        for name in get_args(RampState):
            state.add_metric([each.experiment, name], float(each.state == name))
        share.add_metric([each.experiment], each.share)
        since.add_metric([each.experiment], each.since)
        for kind, n in each.transitions.items():
            transitions.add_metric([each.experiment, kind], n)
    for (webhook, ended), n in figures.webhooks.items():
        webhooks.add_metric([webhook, ended], n)
    yield from (state, share, since, transitions, webhooks)


def experiment_families(figures: Sequence[ExperimentFigures]) -> Iterator[Metric]:
    yield from _of_metrics(figures)
    yield from _of_conditions(figures)
    yield from _of_feedback(figures)
    pairs = CounterMetricFamily("gateway_experiment_pairs", "Settled pairs", labels=["experiment"])
    for experiment, n in {each.experiment: each.pairs for each in figures}.items():
        pairs.add_metric([experiment], n)
    withheld = CounterMetricFamily(
        "gateway_experiment_withheld",
        "Sampled pairs without a comparison, by reason",
        labels=[*_EACH, "reason"],
    )
    verdict = GaugeMetricFamily(
        "gateway_experiment_verdict", "1 for the current verdict, 0 for the others", labels=[*_EACH, "verdict"]
    )
    gate = GaugeMetricFamily(
        "gateway_experiment_gate",
        "Conditions for a verdict: -1 red, 0 unknown, 1 green",
        labels=[*_EACH, "gate"],
    )
    srm = GaugeMetricFamily(
        "gateway_experiment_srm_p",
        "Anytime-valid p-value of the sample-ratio test; a small value means wrong shares",
        labels=_EACH,
    )
    for each in figures:
        for reason, n in each.withheld:
            withheld.add_metric([*each.labels, reason], n)
        for name in VERDICTS:
            verdict.add_metric([*each.labels, name], float(each.verdict == name))
        for name, state in each.gates:
            gate.add_metric([*each.labels, name], state)
        if each.srm_p is not None:
            srm.add_metric(each.labels, each.srm_p)
    yield from (pairs, withheld, verdict, gate, srm)


_CONDITION_HELP = {
    "pairs_needed": "Estimated number of further settled pairs that close this open condition of a verdict",
    "condition_low": "Lower end of an open condition's interval; for the gate aa, of the control against itself",
    "condition_high": "Upper end of an open condition's interval",
    "condition_pairs": "Pairs with a value for an open condition",
}


def _of_conditions(figures: Sequence[ExperimentFigures]) -> Iterator[Metric]:
    found = {
        name: GaugeMetricFamily(f"gateway_experiment_{name}", text, labels=[*_EACH, "kind", "condition"])
        for name, text in _CONDITION_HELP.items()
    }
    requests = GaugeMetricFamily(
        "gateway_experiment_requests_needed",
        "Estimated number of further eligible requests until the verdict; 0: it has been reached",
        labels=_EACH,
    )
    seconds = GaugeMetricFamily(
        "gateway_experiment_seconds_needed", "Estimated time until the verdict, at the pace so far", labels=_EACH
    )
    for each in figures:
        for c in each.conditions:
            values = (c.pairs_needed, c.low, c.high, c.values)
            for family, value in zip(found.values(), values, strict=True):
                if value is not None:
                    family.add_metric([*each.labels, c.kind, c.name], float(value))
        if each.requests_needed is not None:
            requests.add_metric(each.labels, each.requests_needed)
        if each.days_needed is not None:
            seconds.add_metric(each.labels, 86_400.0 * each.days_needed)
    yield from (*found.values(), requests, seconds)


_FEEDBACK_HELP = {
    "feedback_mean": "Weighted mean of people's feedback on one arm of a split",
    "feedback_answered_ratio": "Weighted share of an arm's answers that people gave this feedback on in time",
    "feedback_answers": "An arm's answers whose window for feedback has closed",
}


def _of_feedback(figures: Sequence[ExperimentFigures]) -> Iterator[Metric]:
    found = {
        name: GaugeMetricFamily(f"gateway_experiment_{name}", text, labels=[*_EACH, "metric", "arm"])
        for name, text in _FEEDBACK_HELP.items()
    }
    for each in figures:
        for f in each.feedback:
            values = (f.mean, f.answered, float(f.answers))
            for family, value in zip(found.values(), values, strict=True):
                if value is not None:
                    family.add_metric([*each.labels, f.metric, f.arm], value)
    yield from found.values()


_EXPERIMENT_HELP = {
    "difference": "Difference between candidate and control; positive is better for the candidate",
    "difference_low": "Lower end of the difference's anytime-valid interval",
    "difference_high": "Upper end of the difference's anytime-valid interval",
    "margin": "Non-inferiority margin of the metric",
    "log_evalue": "ln of the e-value against no difference",
    "metric_pairs": "Pairs that the difference is based on; in a split, units",
}


def _of_metrics(figures: Sequence[ExperimentFigures]) -> Iterator[Metric]:
    found = {
        name: GaugeMetricFamily(f"gateway_experiment_{name}", help_text, labels=[*_EACH, "metric"])
        for name, help_text in _EXPERIMENT_HELP.items()
    }
    for each in figures:
        for m in each.metrics:
            values = (m.difference, m.low, m.high, m.margin, m.log_evalue, float(m.pairs))
            for family, value in zip(found.values(), values, strict=True):
                if value is not None:
                    family.add_metric([*each.labels, m.metric], value)
    yield from found.values()


def exposition(registry: CollectorRegistry, workers: WorkerMetrics | None = None) -> bytes:
    """The text of one scrape.

    workers: the metrics of all workers, dead ones included; None: only this process counts.
    """
    if workers is not None:
        return workers.text()
    disable_created_metrics()  # type: ignore[no-untyped-call]  # a line more for each series, which nobody reads
    return generate_latest(registry)


@dataclass(frozen=True, slots=True)
class ScoreFigures:
    """One scorer on one model in one arm."""

    scorer: str
    model: str
    arm: str
    by_status: Mapping[str, int]  # scores of all versions of the scorer
    mean: float | None  # None, like low and high: no mean yet
    low: float | None
    high: float | None
    weighted_sum: float
    weight: float
    buckets: tuple[tuple[str, float], ...]  # (upper bound, weight), not cumulative; the last bound is "+Inf"
    effective_n: float = 0.0  # the number of equally weighted scores with the same information
    # Over independent units, each of weight w and with a weighted sum t: Σ w², Σ w t and Σ t².
    closed_units: tuple[float, float, float] = (0.0, 0.0, 0.0)
    span: float = 0.0  # the largest minus the smallest possible score; 0.0: without such bounds

    @property
    def labels(self) -> list[str]:
        return [self.scorer, self.model, self.arm]


@dataclass(frozen=True, slots=True)
class CorrectedFigures:
    """A scorer's mean, corrected by human labels; on [0, 1], 1 is best."""

    scorer: str
    model: str
    arm: str
    mean: float
    low: float
    high: float
    labels: int  # how many the correction is based on


@dataclass(frozen=True, slots=True)
class DriftFigures:
    """One drift alarm of one model name."""

    scorer: str  # the predictor's key
    alias: str
    kind: Literal["quality", "input"]
    statistic: float  # ln of the e-detector
    limit: float  # the alarm is on from here
    what: str  # what moved most and where: "down" or "up"; of input, with the index of the feature before it

    @property
    def alarm(self) -> bool:
        return self.statistic >= self.limit


@dataclass(frozen=True, slots=True)
class PredictorFigures:
    """The learned model of this consumer."""

    target: str
    trained_at: float | None  # Unix seconds; None: there is no model
    rows: int  # that it was trained on
    off: bool  # it does harm, and is not followed
    inclusion: float | None  # mean probability of being judged, over the newest exchanges; None: there were none
    exchanges: int  # predicted since the start
    cpu_s: float  # of the same


def _model_families(predictor: PredictorFigures | None) -> Iterator[Metric]:
    of = ["target"]
    trained = GaugeMetricFamily(
        "gateway_eval_predictor_created_timestamp_seconds", "Unix time at which the model in use was trained", labels=of
    )
    rows = GaugeMetricFamily(
        "gateway_eval_predictor_training_rows", "Values that the model in use was trained on", labels=of
    )
    off = GaugeMetricFamily("gateway_eval_predictor_off", "1 when the model does harm and is not followed", labels=of)
    share = GaugeMetricFamily(
        "gateway_eval_predictor_inclusion_mean",
        "Mean probability of being judged, over the newest exchanges",
        labels=of,
    )
    exchanges = CounterMetricFamily(
        "gateway_eval_predictor_exchanges", "Exchanges that this consumer has predicted", labels=of
    )
    cpu = CounterMetricFamily(
        "gateway_eval_predictor_cpu_seconds", "Processor time that the predictions of this consumer took", labels=of
    )
    if predictor is not None:
        values = (
            (trained, predictor.trained_at), (rows, predictor.rows), (off, float(predictor.off)),
            (share, predictor.inclusion), (exchanges, predictor.exchanges), (cpu, predictor.cpu_s),
        )  # fmt: skip
        for family, value in values:
            if value is not None:
                family.add_metric([predictor.target], value)
    yield from (trained, rows, off, share, exchanges, cpu)


@dataclass(frozen=True, slots=True)
class EvalFigures:
    """The values of all the consumer's metrics, at one moment."""

    scores: tuple[ScoreFigures, ...] = ()
    dead_letters: Mapping[str, int] = field(default_factory=dict)  # by reason
    duplicates: int = 0
    unaccounted: int = 0
    lost: Mapping[str, int] = field(default_factory=dict)  # by reason
    trimmed_unread: int = 0
    oldest_unscored_s: float = 0.0
    length: int = 0  # entries in the stream
    waiting: int = 0  # entries not yet delivered to a consumer
    pending: int = 0  # entries delivered and not acknowledged
    experiments: tuple[ExperimentFigures, ...] = ()
    blocked: Mapping[str, str | None] = field(default_factory=dict)  # reason by scorer; None: not blocked
    corrected: tuple[CorrectedFigures, ...] = ()
    cost_usd: Mapping[str, float] = field(default_factory=dict)  # by scorer
    tokens: Mapping[str, int] = field(default_factory=dict)  # by scorer
    budget_used: Mapping[str, float] = field(default_factory=dict)  # share of the day's budget, by scorer with one
    consumers: int = 0  # with a recent heartbeat
    ramps: tuple[RampFigures, ...] = ()
    webhooks: Mapping[tuple[str, str], int] = field(default_factory=dict)  # deliveries by receiver and state
    cards: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # of the newest model, by predictor's target
    drift: tuple[DriftFigures, ...] = ()
    predictor: PredictorFigures | None = None
    at: float | None = None  # Unix time of these values; None: not read yet


class EvalMetrics(Collector):
    """Exports the consumer's metrics. The totals come from the store, so they continue after a restart.

    Consumers that share a store all export the same totals: aggregate them with max, never with sum.
    """

    def __init__(self, registry: CollectorRegistry, clock: Callable[[], float] = time.monotonic) -> None:
        """clock: monotonic seconds, because a wall clock that is set back would make old figures look new."""
        self._clock = clock
        self.failing_parts: Callable[[], int] = int
        """Returns how many parts of the consumer are paused or fail; called for each scrape, on its thread."""
        self.figures = EvalFigures()
        registry.register(self)

    @property
    def figures(self) -> EvalFigures:
        """What is exported."""
        return self._figures

    @figures.setter
    def figures(self, figures: EvalFigures) -> None:
        self._figures, self._set_at = figures, self._clock()

    def collect(self) -> Iterator[Metric]:
        figures = self.figures
        yield from _score_families(figures.scores)
        yield _histogram(figures.scores)
        letters = CounterMetricFamily(
            "gateway_eval_dead_letters",
            "Dead letters: stream entries that could not be read or stored, by reason",
            labels=["reason"],
        )
        for reason, n in figures.dead_letters.items():
            letters.add_metric([reason], n)
        yield letters
        lost = CounterMetricFamily(
            "gateway_eval_dropped",
            "Sampled exchanges that were lost before they were stored, by reason",
            labels=["stratum", "reason"],
        )
        for reason, n in figures.lost.items():
            lost.add_metric(["other", reason], n)
        yield lost
        yield CounterMetricFamily(
            "gateway_eval_trimmed_unread",
            "Entries that were trimmed from the stream before they were read",
            figures.trimmed_unread,
        )
        yield CounterMetricFamily(
            "gateway_eval_duplicates", "Exchanges that arrived again after they were stored", figures.duplicates
        )
        for name, text, value in (
            (
                "unaccounted",
                "Exchanges enqueued by a gateway that are neither stored, nor dead letters, nor in progress",
                figures.unaccounted,
            ),
            ("oldest_unscored_seconds", "Age of the oldest exchange not yet scored", figures.oldest_unscored_s),
            ("stream_entries", "Entries in the stream", figures.length),
            ("stream_waiting", "Entries not yet delivered to a consumer", figures.waiting),
            ("stream_pending", "Entries delivered to a consumer and not yet stored", figures.pending),
            ("consumers", "Consumers with a recent heartbeat", figures.consumers),
            ("workers", "Worker processes of this consumer that answer", 1),
            ("worker_restarts", "Workers that died and were replaced, since the consumer started", 0),
            (
                "failing_parts",
                "Parts of the consumer that are paused or fail: /health names them",
                self.failing_parts(),
            ),
            ("shown_age_seconds", "Seconds since this consumer last updated these figures", self._age()),
        ):
            yield GaugeMetricFamily(f"gateway_eval_{name}", text, value)
        blocked = GaugeMetricFamily(
            BLOCKED,
            "1 while a scorer is blocked: it was denied access, or missed too many deadlines in a row",
            labels=["scorer"],
        )
        for name, why in figures.blocked.items():
            blocked.add_metric([name], float(why is not None))
        yield blocked
        yield from _corrected_families(figures.corrected)
        yield from _spent_families(figures)
        yield from experiment_families(figures.experiments)
        yield from ramp_families(figures)
        yield from _predictor_families(figures)
        yield from _model_families(figures.predictor)

    def _age(self) -> float | None:
        return None if self.figures.at is None else self._clock() - self._set_at


_SCORE = ("scorer", "model", "arm")
_UNIT_HELP = {
    "weight_squares": "Squared weights of independent units (conversations)",
    "products": "Weights of independent units times their weighted sums of scores",
    "squares": "Squared weighted sums of scores of independent units",
}


def _score_families(scores: Sequence[ScoreFigures]) -> Iterator[Metric]:
    counts = CounterMetricFamily("gateway_eval_scores", "Scores, by status", labels=[*_SCORE, "status"])
    sums = CounterMetricFamily(
        "gateway_eval_score_weighted_sum",
        "Weighted sum of scores; divided by _weight, it gives the mean over any window",
        labels=_SCORE,
    )
    weights = CounterMetricFamily("gateway_eval_score_weight", "Calls that the scores represent", labels=_SCORE)
    mean = GaugeMetricFamily(
        "gateway_eval_score_mean", "Weighted mean score, an estimate over all traffic", labels=_SCORE
    )
    low = GaugeMetricFamily(
        "gateway_eval_score_mean_low", "Lower end of the mean's anytime-valid 95 % interval", labels=_SCORE
    )
    high = GaugeMetricFamily(
        "gateway_eval_score_mean_high", "Upper end of the mean's anytime-valid 95 % interval", labels=_SCORE
    )
    size = GaugeMetricFamily(
        "gateway_eval_score_effective_samples",
        "Effective sample size: equally weighted scores with the same information",
        labels=_SCORE,
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
    yield from (counts, sums, weights, *_window_families(scores), mean, low, high, size)


def _window_families(scores: Sequence[ScoreFigures]) -> Iterator[Metric]:
    """What the interval of a window's mean needs in addition to its weighted sum and weight."""
    for at, (name, text) in enumerate(_UNIT_HELP.items()):
        sums = CounterMetricFamily(
            f"gateway_eval_score_unit_{name}", f"{text}; for the interval of a window", labels=_SCORE
        )
        for each in scores:
            sums.add_metric(each.labels, each.closed_units[at])
        yield sums
    text = "Largest minus smallest possible score; 0 for scorers without such bounds"
    span = GaugeMetricFamily("gateway_eval_score_range", text, labels=_SCORE)
    for each in scores:
        span.add_metric(each.labels, each.span)
    yield span


def _corrected_families(means: Sequence[CorrectedFigures]) -> Iterator[Metric]:
    name, text = "gateway_eval_score_corrected_mean", "Weighted mean score, corrected by human labels; 1 is best"
    mean = GaugeMetricFamily(name, text, labels=_SCORE)
    low = GaugeMetricFamily(
        f"{name}_low", "Lower end of the corrected mean's 95 % interval, valid at any look", labels=_SCORE
    )
    high = GaugeMetricFamily(
        f"{name}_high", "Upper end of the corrected mean's 95 % interval, valid at any look", labels=_SCORE
    )
    labels = GaugeMetricFamily(
        "gateway_eval_score_labels", "Human labels that the corrected mean is based on", labels=_SCORE
    )
    for each in means:
        of = [each.scorer, each.model, each.arm]
        for family, value in ((mean, each.mean), (low, each.low), (high, each.high), (labels, each.labels)):
            family.add_metric(of, value)
    yield from (mean, low, high, labels)


_CARD_HELP = {
    "held_out": ("rows", "Judged answers that a predictor's model was assessed on before it was trained on them"),
    "mae": ("error", "Mean absolute error of a predictor on answers that it had not seen"),
    "mae_of_mean": ("error_of_mean", "Mean absolute error of always predicting the mean, on the same answers"),
    "auc": ("auc", "Probability that a predictor ranks a good answer above a poor one; 0.5: it cannot tell"),
    "slope": ("slope", "Slope of verdicts on predictions; 1: they are calibrated"),
    "variance_ratio": ("variance_ratio", "Variance of a guided mean over that without a predictor; below 1: it saves"),
    "variance_ratio_low": ("variance_ratio_low", "Lower end of the variance ratio's 95 % interval"),
    "variance_ratio_high": ("variance_ratio_high", "Upper end of the variance ratio's 95 % interval"),
    "trained_to": ("trained_timestamp_seconds", "Unix time of the newest answer that a predictor was trained on"),
}


def _predictor_families(figures: EvalFigures) -> Iterator[Metric]:
    for key, (name, text) in _CARD_HELP.items():
        family = GaugeMetricFamily(f"gateway_eval_predictor_{name}", text, labels=["target"])
        for target, card in figures.cards.items():
            if card.get(key) is not None:
                family.add_metric([target], float(card[key]))
        yield family
    shift = GaugeMetricFamily(
        "gateway_eval_predictor_psi",
        "Largest population stability index of a predictor's features; above 0.2: its inputs have changed",
        labels=["target"],
    )
    for target, card in figures.cards.items():
        if card.get("psi"):
            shift.add_metric([target], max(card["psi"].values()))
    yield shift
    yield from _drift_families(figures.drift)


def _drift_families(drift: Sequence[DriftFigures]) -> Iterator[Metric]:
    labels = ["target", "alias", "kind"]
    text = "1 while verdicts (quality) or features (input) are outside their usual range"
    alarm = GaugeMetricFamily("gateway_eval_drift", text, labels=labels)
    text = "ln of the evidence for drift; the alarm is on from 9.2 (quality) or 11.5 (input)"
    evidence = GaugeMetricFamily("gateway_eval_drift_log_evalue", text, labels=labels)
    for each in drift:
        of = [each.scorer, each.alias, each.kind]
        alarm.add_metric(of, float(each.alarm))
        evidence.add_metric(of, each.statistic)
    yield from (alarm, evidence)


def _spent_families(figures: EvalFigures) -> Iterator[Metric]:
    usd = CounterMetricFamily(
        "gateway_eval_cost_usd", "USD that scorers have spent, as far as prices are known", labels=["scorer"]
    )
    tokens = CounterMetricFamily("gateway_eval_tokens", "Tokens that scorers have used", labels=["scorer"])
    for scorer, spent in figures.cost_usd.items():
        usd.add_metric([scorer], spent)
    for scorer, n in figures.tokens.items():
        tokens.add_metric([scorer], n)
    used = GaugeMetricFamily(
        "gateway_eval_budget_used_ratio", "Share of the day's budget that a scorer has used, 0 to 1", labels=["scorer"]
    )
    for scorer, share in figures.budget_used.items():
        used.add_metric([scorer], share)
    yield from (usd, tokens, used)


def _histogram(scores: Sequence[ScoreFigures]) -> Metric:
    family = HistogramMetricFamily(
        "gateway_eval_score", "Distribution of scores, each weighted by the calls that it represents", labels=_SCORE
    )
    for each in scores:
        total, cumulative = 0.0, []
        for bound, weight in each.buckets:
            total += weight
            cumulative.append((bound, total))
        family.add_metric(each.labels, cumulative, each.weighted_sum)
    return family
