"""Every Prometheus metric of the consumer: the figures, and the table that declares what is exported of them.

The gateway's metrics are in proxy_metrics.py. Label values are closed sets: names from the config, or "other".
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from gateway.core.ramp import RampState

VERDICTS = ("ship", "reject", "hold")
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


@dataclass(frozen=True, slots=True)
class Scrape:
    """The values of one scrape."""

    figures: EvalFigures
    failing_parts: int
    age_s: float | None  # None: the figures were not read yet


Row = tuple[Sequence[str], Sequence[float | None]]
"""Values of a group's labels, and of its metrics in order; None: this metric has none."""


@dataclass(frozen=True, slots=True)
class _Group:
    """Metrics with the same labels: their help by name, as in PromQL. Counters end in _total; the others are gauges."""

    labels: tuple[str, ...]
    rows: Callable[[Scrape], Iterable[Row]]
    metrics: Mapping[str, str]

    def collect(self, scrape: Scrape) -> Iterator[Metric]:
        families = [
            (CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily)(name, text, labels=self.labels)
            for name, text in self.metrics.items()
        ]
        for labels, values in self.rows(scrape):
            for family, value in zip(families, values, strict=True):
                if value is not None:
                    family.add_metric(labels, float(value))
        yield from families


def _named(values: Mapping[str, float]) -> Iterator[Row]:
    return (([name], [value]) for name, value in values.items())


def _states(current: str, states: Iterable[str], *labels: str) -> Iterator[Row]:
    """1 for the current state, 0 for the others."""
    return (([*labels, state], [current == state]) for state in states)


def _delivery(scrape: Scrape) -> Row:
    f = scrape.figures
    backlog = (f.unaccounted, f.oldest_unscored_s, f.length, f.waiting, f.pending)
    return (), (f.trimmed_unread, f.duplicates, *backlog, f.consumers, 1, 0, scrape.failing_parts, scrape.age_s)


def _score(e: ScoreFigures) -> Row:
    return e.labels, (e.weighted_sum, e.weight, *e.closed_units, e.span, e.mean, e.low, e.high, e.effective_n)


def _difference(e: ExperimentFigures, m: MetricFigures) -> Row:
    return [*e.labels, m.metric], (m.difference, m.low, m.high, m.margin, m.log_evalue, m.pairs)


def _needed(e: ExperimentFigures) -> Row:
    return e.labels, (e.requests_needed, None if e.days_needed is None else 86_400.0 * e.days_needed)


def _card(target: str, card: Mapping[str, Any]) -> Row:
    psi = max(card["psi"].values()) if card.get("psi") else None
    return [target], (*(card.get(name) for name in _OF_CARD), psi)


def _model(p: PredictorFigures) -> Row:
    return [p.target], (p.trained_at, p.rows, p.off, p.inclusion, p.exchanges, p.cpu_s)


def _histogram(scrape: Scrape) -> Metric:
    family = HistogramMetricFamily(
        "gateway_eval_score", "Distribution of scores, each weighted by the calls that it represents", labels=_SCORE
    )
    for each in scrape.figures.scores:
        total, cumulative = 0.0, []
        for bound, weight in each.buckets:
            total += weight
            cumulative.append((bound, total))
        family.add_metric(each.labels, cumulative, each.weighted_sum)
    return family


_SCORE = ("scorer", "model", "arm")
_EACH = ("experiment", "candidate")
_OF_CARD = (
    "held_out", "mae", "mae_of_mean", "auc", "slope", "variance_ratio", "variance_ratio_low", "variance_ratio_high",
    "trained_to",
)  # fmt: skip
_SCORES = (
    _Group(
        (*_SCORE, "status"),
        lambda s: (([*e.labels, status], [n]) for e in s.figures.scores for status, n in e.by_status.items()),
        {"gateway_eval_scores_total": "Scores, by status"},
    ),
    _Group(
        _SCORE,
        lambda s: map(_score, s.figures.scores),
        {
            "gateway_eval_score_weighted_sum_total": (
                "Weighted sum of scores; divided by _weight, it gives the mean over any window"
            ),
            "gateway_eval_score_weight_total": "Calls that the scores represent",
            "gateway_eval_score_unit_weight_squares_total": (
                "Squared weights of independent units (conversations); for the interval of a window"
            ),
            "gateway_eval_score_unit_products_total": (
                "Weights of independent units times their weighted sums of scores; for the interval of a window"
            ),
            "gateway_eval_score_unit_squares_total": (
                "Squared weighted sums of scores of independent units; for the interval of a window"
            ),
            "gateway_eval_score_range": "Largest minus smallest possible score; 0 for scorers without such bounds",
            "gateway_eval_score_mean": "Weighted mean score, an estimate over all traffic",
            "gateway_eval_score_mean_low": "Lower end of the mean's anytime-valid 95 % interval",
            "gateway_eval_score_mean_high": "Upper end of the mean's anytime-valid 95 % interval",
            "gateway_eval_score_effective_samples": (
                "Effective sample size: equally weighted scores with the same information"
            ),
        },
    ),
)
_OTHERS = (
    _Group(
        ("reason",),
        lambda s: _named(s.figures.dead_letters),
        {
            "gateway_eval_dead_letters_total": (
                "Dead letters: stream entries that could not be read or stored, by reason"
            ),
        },
    ),
    _Group(
        ("stratum", "reason"),
        lambda s: ((["other", reason], [n]) for reason, n in s.figures.lost.items()),
        {
            "gateway_eval_dropped_total": "Sampled exchanges that were lost before they were stored, by reason",
        },
    ),
    _Group(
        (),
        lambda s: [_delivery(s)],
        {
            "gateway_eval_trimmed_unread_total": "Entries that were trimmed from the stream before they were read",
            "gateway_eval_duplicates_total": "Exchanges that arrived again after they were stored",
            "gateway_eval_unaccounted": (
                "Exchanges enqueued by a gateway that are neither stored, nor dead letters, nor in progress"
            ),
            "gateway_eval_oldest_unscored_seconds": "Age of the oldest exchange not yet scored",
            "gateway_eval_stream_entries": "Entries in the stream",
            "gateway_eval_stream_waiting": "Entries not yet delivered to a consumer",
            "gateway_eval_stream_pending": "Entries delivered to a consumer and not yet stored",
            "gateway_eval_consumers": "Consumers with a recent heartbeat",
            WORKERS: "Worker processes of this consumer that answer",
            WORKER_RESTARTS: "Workers that died and were replaced, since the consumer started",
            FAILING_PARTS: "Parts of the consumer that are paused or fail: /health names them",
            "gateway_eval_shown_age_seconds": "Seconds since this consumer last updated these figures",
        },
    ),
    _Group(
        ("scorer",),
        lambda s: _named({name: why is not None for name, why in s.figures.blocked.items()}),
        {BLOCKED: "1 while a scorer is blocked: it was denied access, or missed too many deadlines in a row"},
    ),
    _Group(
        _SCORE,
        lambda s: (([e.scorer, e.model, e.arm], (e.mean, e.low, e.high, e.labels)) for e in s.figures.corrected),
        {
            "gateway_eval_score_corrected_mean": "Weighted mean score, corrected by human labels; 1 is best",
            "gateway_eval_score_corrected_mean_low": (
                "Lower end of the corrected mean's 95 % interval, valid at any look"
            ),
            "gateway_eval_score_corrected_mean_high": (
                "Upper end of the corrected mean's 95 % interval, valid at any look"
            ),
            "gateway_eval_score_labels": "Human labels that the corrected mean is based on",
        },
    ),
    _Group(
        ("scorer",),
        lambda s: _named(s.figures.cost_usd),
        {"gateway_eval_cost_usd_total": "USD that scorers have spent, as far as prices are known"},
    ),
    _Group(
        ("scorer",),
        lambda s: _named(s.figures.tokens),
        {"gateway_eval_tokens_total": "Tokens that scorers have used"},
    ),
    _Group(
        ("scorer",),
        lambda s: _named(s.figures.budget_used),
        {"gateway_eval_budget_used_ratio": "Share of the day's budget that a scorer has used, 0 to 1"},
    ),
    _Group(
        (*_EACH, "metric"),
        lambda s: (_difference(e, m) for e in s.figures.experiments for m in e.metrics),
        {
            "gateway_experiment_difference": (
                "Difference between candidate and control; positive is better for the candidate"
            ),
            "gateway_experiment_difference_low": "Lower end of the difference's anytime-valid interval",
            "gateway_experiment_difference_high": "Upper end of the difference's anytime-valid interval",
            "gateway_experiment_margin": "Non-inferiority margin of the metric",
            "gateway_experiment_log_evalue": "ln of the e-value against no difference",
            "gateway_experiment_metric_pairs": "Pairs that the difference is based on; in a split, units",
        },
    ),
    _Group(
        (*_EACH, "kind", "condition"),
        lambda s: (
            ([*e.labels, c.kind, c.name], (c.pairs_needed, c.low, c.high, c.values))
            for e in s.figures.experiments
            for c in e.conditions
        ),
        {
            "gateway_experiment_pairs_needed": (
                "Estimated number of further settled pairs that close this open condition of a verdict"
            ),
            "gateway_experiment_condition_low": (
                "Lower end of an open condition's interval; for the gate aa, of the control against itself"
            ),
            "gateway_experiment_condition_high": "Upper end of an open condition's interval",
            "gateway_experiment_condition_pairs": "Pairs with a value for an open condition",
        },
    ),
    _Group(
        _EACH,
        lambda s: map(_needed, s.figures.experiments),
        {
            "gateway_experiment_requests_needed": (
                "Estimated number of further eligible requests until the verdict; 0: it has been reached"
            ),
            "gateway_experiment_seconds_needed": "Estimated time until the verdict, at the pace so far",
        },
    ),
    _Group(
        (*_EACH, "metric", "arm"),
        lambda s: (
            ([*e.labels, f.metric, f.arm], (f.mean, f.answered, f.answers))
            for e in s.figures.experiments
            for f in e.feedback
        ),
        {
            "gateway_experiment_feedback_mean": "Weighted mean of people's feedback on one arm of a split",
            "gateway_experiment_feedback_answered_ratio": (
                "Weighted share of an arm's answers that people gave this feedback on in time"
            ),
            "gateway_experiment_feedback_answers": "An arm's answers whose window for feedback has closed",
        },
    ),
    _Group(
        ("experiment",),
        lambda s: _named({e.experiment: e.pairs for e in s.figures.experiments}),
        {"gateway_experiment_pairs_total": "Settled pairs"},
    ),
    _Group(
        (*_EACH, "reason"),
        lambda s: (([*e.labels, reason], [n]) for e in s.figures.experiments for reason, n in e.withheld),
        {"gateway_experiment_withheld_total": "Sampled pairs without a comparison, by reason"},
    ),
    _Group(
        (*_EACH, "verdict"),
        lambda s: (row for e in s.figures.experiments for row in _states(e.verdict, VERDICTS, *e.labels)),
        {"gateway_experiment_verdict": "1 for the current verdict, 0 for the others"},
    ),
    _Group(
        (*_EACH, "gate"),
        lambda s: (([*e.labels, name], [state]) for e in s.figures.experiments for name, state in e.gates),
        {"gateway_experiment_gate": "Conditions for a verdict: -1 red, 0 unknown, 1 green"},
    ),
    _Group(
        _EACH,
        lambda s: ((e.labels, [e.srm_p]) for e in s.figures.experiments),
        {
            "gateway_experiment_srm_p": (
                "Anytime-valid p-value of the sample-ratio test; a small value means wrong shares"
            ),
        },
    ),
    _Group(
        ("experiment", "state"),
        lambda s: (row for r in s.figures.ramps for row in _states(r.state, get_args(RampState), r.experiment)),
        {"gateway_ramp_state": "1 for the state that a ramp is in, 0 for the others"},
    ),
    _Group(
        ("experiment",),
        lambda s: (([r.experiment], (r.share, r.since)) for r in s.figures.ramps),
        {
            "gateway_ramp_decided_share": "Share of the units that the candidate of a ramp is to serve",
            "gateway_ramp_since_timestamp_seconds": "Unix time at which a ramp's state or step began",
        },
    ),
    _Group(
        ("experiment", "kind"),
        lambda s: (([r.experiment, kind], [n]) for r in s.figures.ramps for kind, n in r.transitions.items()),
        {"gateway_ramp_transitions_total": "Changes of a ramp in its audit, by what they were"},
    ),
    _Group(
        ("webhook", "state"),
        lambda s: ((of, [n]) for of, n in s.figures.webhooks.items()),
        {"gateway_webhook_deliveries": "Webhooks in the store: pending, delivered or dead"},
    ),
    _Group(
        ("target",),
        lambda s: (_card(*item) for item in s.figures.cards.items()),
        {
            "gateway_eval_predictor_rows": (
                "Judged answers that a predictor's model was assessed on before it was trained on them"
            ),
            "gateway_eval_predictor_error": "Mean absolute error of a predictor on answers that it had not seen",
            "gateway_eval_predictor_error_of_mean": (
                "Mean absolute error of always predicting the mean, on the same answers"
            ),
            "gateway_eval_predictor_auc": (
                "Probability that a predictor ranks a good answer above a poor one; 0.5: it cannot tell"
            ),
            "gateway_eval_predictor_slope": "Slope of verdicts on predictions; 1: they are calibrated",
            "gateway_eval_predictor_variance_ratio": (
                "Variance of a guided mean over that without a predictor; below 1: it saves"
            ),
            "gateway_eval_predictor_variance_ratio_low": "Lower end of the variance ratio's 95 % interval",
            "gateway_eval_predictor_variance_ratio_high": "Upper end of the variance ratio's 95 % interval",
            "gateway_eval_predictor_trained_timestamp_seconds": (
                "Unix time of the newest answer that a predictor was trained on"
            ),
            "gateway_eval_predictor_psi": (
                "Largest population stability index of a predictor's features; above 0.2: its inputs have changed"
            ),
        },
    ),
    _Group(
        ("target", "alias", "kind"),
        lambda s: (([d.scorer, d.alias, d.kind], (d.alarm, d.statistic)) for d in s.figures.drift),
        {
            "gateway_eval_drift": "1 while verdicts (quality) or features (input) are outside their usual range",
            "gateway_eval_drift_log_evalue": (
                "ln of the evidence for drift; the alarm is on from 9.2 (quality) or 11.5 (input)"
            ),
        },
    ),
    _Group(
        ("target",),
        lambda s: [] if s.figures.predictor is None else [_model(s.figures.predictor)],
        {
            "gateway_eval_predictor_created_timestamp_seconds": "Unix time at which the model in use was trained",
            "gateway_eval_predictor_training_rows": "Values that the model in use was trained on",
            "gateway_eval_predictor_off": "1 when the model does harm and is not followed",
            "gateway_eval_predictor_inclusion_mean": "Mean probability of being judged, over the newest exchanges",
            "gateway_eval_predictor_exchanges_total": "Exchanges that this consumer has predicted",
            "gateway_eval_predictor_cpu_seconds_total": "Processor time that the predictions of this consumer took",
        },
    ),
)


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
        scrape = Scrape(self.figures, self.failing_parts(), self._age())
        for group in _SCORES:
            yield from group.collect(scrape)
        yield _histogram(scrape)
        for group in _OTHERS:
            yield from group.collect(scrape)

    def _age(self) -> float | None:
        return None if self.figures.at is None else self._clock() - self._set_at
