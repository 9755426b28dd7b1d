"""The Prometheus metrics of the consumer: its figures, and the rows that are exported of them for each metric.

metrics.toml declares the metrics, in groups with the same labels; here each group has its rows.
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
from gateway.observability.catalog import metric_tables

VERDICTS = ("ship", "reject", "hold")
BY_SEGMENT = ("ship", "ship_except", "reject", "hold")
"""Verdicts of plans that declare segments."""
BLOCKED = "gateway_eval_scorer_blocked"
FAILING_PARTS = "gateway_eval_failing_parts"
WORKERS, WORKER_RESTARTS = "gateway_eval_workers", "gateway_eval_worker_restarts"


@dataclass(frozen=True, slots=True)
class MetricFigures:
    """One metric of one candidate."""

    metric: str
    difference: (
        float | None
    )  # candidate minus control; positive is better for the candidate; None if there are no data yet
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
    pairs_needed: int | None  # settled pairs until it is closed, from now; None if unknown


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
    srm_p: float | None = None  # p-value of the sample-ratio test; None if the experiment has no split
    conditions: tuple[ConditionFigures, ...] = ()  # that are open
    requests_needed: int | None = None  # eligible requests until the verdict; 0 if there is one; None if unknown
    days_needed: float | None = None
    feedback: tuple[FeedbackFigures, ...] = ()  # of a split
    rank: int | None = None  # among candidates that are compared: 1 best, 0 compared, -1 dropped; None if they are not
    by_segment: bool = False  # the plan declares segments
    sentence: str = ""  # of the verdict; "" if there is none
    plan: str = ""  # the plan's hash

    harm: str = ""
    """The stop for harm, in a sentence; "" if there is none."""

    @property
    def verdicts(self) -> tuple[str, ...]:
        """Every verdict that it can have."""
        return BY_SEGMENT if self.by_segment else VERDICTS

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
class AliasScoreFigures:
    """One scorer on the answers of one alias at one target, in one arm."""

    alias: str
    upstream: str
    model: str  # without its upstream
    scores: ScoreFigures

    @property
    def labels(self) -> list[str]:
        return [self.alias, self.upstream, self.model, self.scores.scorer, self.scores.arm]


@dataclass(frozen=True, slots=True)
class RunScoreFigures:
    """One scorer of runs on one model in one arm."""

    scorer: str
    model: str
    arm: str
    mean: float | None  # None, like low and high: no mean yet
    low: float | None
    high: float | None
    effective_n: float


@dataclass(frozen=True, slots=True)
class RunCostFigures:
    """Costs of the runs of one alias, each weighted by the runs that it represents."""

    alias: str
    weighted_sum: float  # USD
    buckets: tuple[tuple[str, float], ...]  # (upper bound in USD, weight), not cumulative; the last bound is "+Inf"

    @property
    def labels(self) -> list[str]:
        return [self.alias]


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
class CalibrationFigures:
    """How true a scorer's probability is, by people's labels. Only the bias and the drift are valid at any look."""

    scorer: str  # or "guard NAME"
    labels: int
    bias: float | None  # mean of p - y; None: too few labels
    brier: Mapping[str, float]  # by part: score, reliability, resolution, uncertainty
    error: float | None  # root of the debiased squared error
    drift_log_evalue: float  # the alarm is on from 3.0


@dataclass(frozen=True, slots=True)
class CertificateFigures:
    """One certificate of a threshold."""

    name: str
    state: str
    states: Sequence[str]  # all that there are
    automated: float  # share of calls in which one acts, or may; 0.0 without a certificate


@dataclass(frozen=True, slots=True)
class GuardKeyFigures:
    """Findings of one guard in the calls of one key."""

    key: str  # its name, or "other"
    calls: float  # judged, recorded or not
    hits: float


@dataclass(frozen=True, slots=True)
class GuardTeamFigures:
    """Findings of one guard in the calls of one team's keys."""

    team: str  # its name, "none", or "other"
    calls: float  # judged, recorded or not
    hits: float


@dataclass(frozen=True, slots=True)
class GuardFigures:
    """One guard over the last seven days. Shares are (share, low, high); None if not known."""

    guard: str
    hits: tuple[float, float, float] | None
    precision: tuple[float, float, float] | None
    recall: tuple[float, float, float] | None
    labels: int
    drift: bool  # the alarm is on
    drift_statistic: float | None  # ln of the e-detector; None if the usual range is not known yet
    keys: tuple[GuardKeyFigures, ...] = ()
    teams: tuple[GuardTeamFigures, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelFigures:
    """One target of one alias with calls of clients."""

    alias: str
    upstream: str
    model: str
    unchanged_since: float | None  # Unix seconds of the last change, or of the first day with calls
    cached_share: float | None  # of the input tokens; None: no input


@dataclass(frozen=True, slots=True)
class PredictorFigures:
    """The learned model of this consumer."""

    target: str
    trained_at: float | None  # Unix seconds; None if there is no model
    rows: int  # that it was trained on
    off: bool  # it does harm, and is not followed
    inclusion: float | None  # mean probability of being judged, over the newest exchanges; None if there were none
    exchanges: int  # predicted since the start
    cpu_s: float  # of the same


@dataclass(frozen=True, slots=True)
class EvalFigures:
    """The values of all the consumer's metrics, at one moment."""

    scores: tuple[ScoreFigures, ...] = ()
    alias_scores: tuple[AliasScoreFigures, ...] = ()
    objectives: Mapping[tuple[str, str], float] = field(default_factory=dict)  # of scores, by alias and scorer
    runs: tuple[RunScoreFigures, ...] = ()
    run_costs: tuple[RunCostFigures, ...] = ()
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
    blocked: Mapping[str, str | None] = field(default_factory=dict)  # reason by scorer; None if not blocked
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
    calibrations: tuple[CalibrationFigures, ...] = ()
    certificates: tuple[CertificateFigures, ...] = ()
    guards: tuple[GuardFigures, ...] = ()
    models: tuple[ModelFigures, ...] = ()
    at: float | None = None  # Unix time of these values; None if not read yet


@dataclass(frozen=True, slots=True)
class Scrape:
    figures: EvalFigures
    failing_parts: int
    age_s: float | None  # None: the figures were not read yet


Row = tuple[Sequence[str], Sequence[float | None]]
"""Values of a group's labels, and of its metrics in the order of metrics.toml; None if this metric has none."""


def _named(values: Mapping[str, float]) -> Iterator[Row]:
    return (([name], [value]) for name, value in values.items())


def _states(current: str, states: Iterable[str], *labels: str) -> Iterator[Row]:
    """1 for the current state, 0 for the others."""
    return (([*labels, state], [current == state]) for state in states)


def _delivery(scrape: Scrape) -> Row:
    f = scrape.figures
    backlog = (f.unaccounted, f.oldest_unscored_s, f.length, f.waiting, f.pending)
    return (), (f.trimmed_unread, f.duplicates, *backlog, f.consumers, 1, 0, scrape.failing_parts, scrape.age_s)


def _score(labels: Sequence[str], e: ScoreFigures) -> Row:
    return labels, (e.weighted_sum, e.weight, *e.closed_units, e.span, e.mean, e.low, e.high, e.effective_n)


def _difference(e: ExperimentFigures, m: MetricFigures) -> Row:
    return [*e.labels, m.metric], (m.difference, m.low, m.high, m.margin, m.log_evalue, m.pairs)


def _needed(e: ExperimentFigures) -> Row:
    return e.labels, (e.requests_needed, None if e.days_needed is None else 86_400.0 * e.days_needed)


def _card(target: str, card: Mapping[str, Any]) -> Row:
    psi = max(card["psi"].values()) if card.get("psi") else None
    return [target], (*(card.get(name) for name in _OF_CARD), psi)


def _guard(g: GuardFigures) -> Row:
    shares = (value for of in (g.hits, g.precision, g.recall) for value in of or (None, None, None))
    return [g.guard], (*shares, g.labels, g.drift, g.drift_statistic)


def _model(p: PredictorFigures) -> Row:
    return [p.target], (p.trained_at, p.rows, p.off, p.inclusion, p.exchanges, p.cpu_s)


_OF_CARD = (
    *("held_out", "mae", "mae_of_mean", "auc", "slope"),
    *("variance_ratio", "variance_ratio_low", "variance_ratio_high", "trained_to"),
)
_ROWS: Mapping[str, Callable[[Scrape], Iterable[Row]]] = {
    "scores": lambda s: (([*e.labels, status], [n]) for e in s.figures.scores for status, n in e.by_status.items()),
    "means": lambda s: (_score(e.labels, e) for e in s.figures.scores),
    "alias_means": lambda s: (_score(e.labels, e.scores) for e in s.figures.alias_scores),
    "alias_objectives": lambda s: ((of, [least]) for of, least in s.figures.objectives.items()),
    "run_means": lambda s: (
        ([e.scorer, e.model, e.arm], (e.mean, e.low, e.high, e.effective_n)) for e in s.figures.runs
    ),
    "dead_letters": lambda s: _named(s.figures.dead_letters),
    "dropped": lambda s: ((["other", reason], [n]) for reason, n in s.figures.lost.items()),
    "delivery": lambda s: [_delivery(s)],
    "blocked": lambda s: _named({name: why is not None for name, why in s.figures.blocked.items()}),
    "corrected": lambda s: (
        ([e.scorer, e.model, e.arm], (e.mean, e.low, e.high, e.labels)) for e in s.figures.corrected
    ),
    "cost": lambda s: _named(s.figures.cost_usd),
    "tokens": lambda s: _named(s.figures.tokens),
    "budgets": lambda s: _named(s.figures.budget_used),
    "differences": lambda s: (_difference(e, m) for e in s.figures.experiments for m in e.metrics),
    "conditions": lambda s: (
        ([*e.labels, c.kind, c.name], (c.pairs_needed, c.low, c.high, c.values))
        for e in s.figures.experiments
        for c in e.conditions
    ),
    "needed": lambda s: map(_needed, s.figures.experiments),
    "feedback": lambda s: (
        ([*e.labels, f.metric, f.arm], (f.mean, f.answered, f.answers))
        for e in s.figures.experiments
        for f in e.feedback
    ),
    "pairs": lambda s: _named({e.experiment: e.pairs for e in s.figures.experiments}),
    "withheld": lambda s: (([*e.labels, reason], [n]) for e in s.figures.experiments for reason, n in e.withheld),
    "verdicts": lambda s: (row for e in s.figures.experiments for row in _states(e.verdict, e.verdicts, *e.labels)),
    "sentences": lambda s: (([*e.labels, e.sentence], [1]) for e in s.figures.experiments if e.sentence),
    "ranked": lambda s: ((e.labels, [e.rank]) for e in s.figures.experiments if e.rank is not None),
    "gates": lambda s: (([*e.labels, name], [state]) for e in s.figures.experiments for name, state in e.gates),
    "sample_ratio": lambda s: ((e.labels, [e.srm_p]) for e in s.figures.experiments),
    "ramp_states": lambda s: (
        row for r in s.figures.ramps for row in _states(r.state, get_args(RampState), r.experiment)
    ),
    "ramp_steps": lambda s: (([r.experiment], (r.share, r.since)) for r in s.figures.ramps),
    "ramp_transitions": lambda s: (
        ([r.experiment, kind], [n]) for r in s.figures.ramps for kind, n in r.transitions.items()
    ),
    "webhooks": lambda s: ((of, [n]) for of, n in s.figures.webhooks.items()),
    "predictor_cards": lambda s: (_card(*item) for item in s.figures.cards.items()),
    "drift": lambda s: (([d.scorer, d.alias, d.kind], (d.alarm, d.statistic)) for d in s.figures.drift),
    "calibration": lambda s: (
        ([c.scorer], (c.labels, c.bias, c.error, c.drift_log_evalue)) for c in s.figures.calibrations
    ),
    "calibration_brier": lambda s: (
        ([c.scorer, part], [value]) for c in s.figures.calibrations for part, value in c.brier.items()
    ),
    "certificate_states": lambda s: (row for c in s.figures.certificates for row in _states(c.state, c.states, c.name)),
    "automated": lambda s: _named({c.name: c.automated for c in s.figures.certificates}),
    "guards": lambda s: map(_guard, s.figures.guards),
    "guard_keys": lambda s: (([g.guard, k.key], (k.calls, k.hits)) for g in s.figures.guards for k in g.keys),
    "guard_teams": lambda s: (([g.guard, t.team], (t.calls, t.hits)) for g in s.figures.guards for t in g.teams),
    "models": lambda s: (
        ([m.alias, m.upstream, m.model], (m.unchanged_since, m.cached_share)) for m in s.figures.models
    ),
    "predictor": lambda s: [] if s.figures.predictor is None else [_model(s.figures.predictor)],
}
"""Rows of each group of metrics.toml but the histograms."""
_HISTOGRAMS: Mapping[str, Callable[[EvalFigures], Iterable[ScoreFigures | RunCostFigures]]] = {
    "distribution": lambda figures: figures.scores,
    "run_costs": lambda figures: figures.run_costs,
}


def _families(table: Mapping[str, Any], rows: Iterable[Row]) -> Iterator[Metric]:
    """The metrics of one group. Counters end in _total; the others are gauges."""
    families = [
        (CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily)(name, text, labels=table["labels"])
        for name, text in table["metrics"].items()
    ]
    for labels, values in rows:
        for family, value in zip(families, values, strict=True):
            if value is not None:
                family.add_metric(labels, float(value))
    yield from families


def _distribution(table: Mapping[str, Any], rows: Iterable[ScoreFigures | RunCostFigures]) -> Metric:
    ((name, text),) = table["metrics"].items()
    family = HistogramMetricFamily(name, text, labels=table["labels"])
    for row in rows:
        total, cumulative = 0.0, []
        for bound, weight in row.buckets:
            total += weight
            cumulative.append((bound, total))
        family.add_metric(row.labels, cumulative, row.weighted_sum)
    return family


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
        return self._figures

    @figures.setter
    def figures(self, figures: EvalFigures) -> None:
        self._figures, self._set_at = figures, self._clock()

    def collect(self) -> Iterator[Metric]:
        scrape = Scrape(self.figures, self.failing_parts(), self._age())
        for group, table in metric_tables("consumer").items():
            if "histogram" in table:
                yield _distribution(table, _HISTOGRAMS[group](scrape.figures))
            else:
                yield from _families(table, _ROWS[group](scrape))

    def _age(self) -> float | None:
        return None if self.figures.at is None else self._clock() - self._set_at
