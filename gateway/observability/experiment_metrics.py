"""What Prometheus reads of experiments: the same numbers as `gateway report`, by experiment, candidate and metric."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

VERDICTS = ("ship", "reject", "hold")
_EACH = ("experiment", "candidate")


@dataclass(frozen=True, slots=True)
class MetricFigures:
    """One metric of one candidate. difference: positive is better for it; None, as of a bound: not there yet. margin:
    None: it has none. pairs: what the difference is made of (units in a split)."""

    metric: str
    difference: float | None
    low: float | None
    high: float | None
    margin: float | None
    log_evalue: float | None
    pairs: int


@dataclass(frozen=True, slots=True)
class ExperimentFigures:
    """One candidate of one experiment. pairs: settled with at least one answer. withheld: pairs without a comparison,
    by reason. gates: −1 red, 0 unknown, 1 green. srm_p: None: nothing is split."""

    experiment: str
    candidate: str
    verdict: str
    pairs: int
    metrics: tuple[MetricFigures, ...] = ()
    gates: tuple[tuple[str, int], ...] = ()
    withheld: tuple[tuple[str, int], ...] = ()
    srm_p: float | None = None

    @property
    def labels(self) -> list[str]:
        return [self.experiment, self.candidate]


def families(figures: Sequence[ExperimentFigures]) -> Iterator[Metric]:
    yield from _of_metrics(figures)
    pairs = CounterMetricFamily("gateway_experiment_pairs", "Pairs settled", labels=["experiment"])
    for experiment, n in {each.experiment: each.pairs for each in figures}.items():
        pairs.add_metric([experiment], n)
    withheld = CounterMetricFamily(
        "gateway_experiment_withheld", "Pairs drawn and without a comparison, by reason", labels=[*_EACH, "reason"]
    )
    verdict = GaugeMetricFamily(
        "gateway_experiment_verdict", "1 for the verdict as it stands, 0 for the others", labels=[*_EACH, "verdict"]
    )
    gate = GaugeMetricFamily(
        "gateway_experiment_gate", "What a verdict needs: -1 red, 0 unknown, 1 green", labels=[*_EACH, "gate"]
    )
    srm = GaugeMetricFamily(
        "gateway_experiment_srm_p", "Of the sample-ratio test, valid at any time; small: not the shares", labels=_EACH
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


_HELP = {
    "difference": "Candidate against control; positive is better for the candidate",
    "difference_low": "Lower end of its interval, valid at any time",
    "difference_high": "Upper end of the same",
    "margin": "What may be lost of the metric",
    "log_evalue": "ln of the evidence against no difference at all",
    "metric_pairs": "What the difference is made of: pairs, in a split units",
}


def _of_metrics(figures: Sequence[ExperimentFigures]) -> Iterator[Metric]:
    found = {
        name: GaugeMetricFamily(f"gateway_experiment_{name}", said, labels=[*_EACH, "metric"])
        for name, said in _HELP.items()
    }
    for each in figures:
        for m in each.metrics:
            values = (m.difference, m.low, m.high, m.margin, m.log_evalue, float(m.pairs))
            for family, value in zip(found.values(), values, strict=True):
                if value is not None:
                    family.add_metric([*each.labels, m.metric], value)
    yield from found.values()
