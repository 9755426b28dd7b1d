"""The list of all metrics, for docs/metrics.md and for the tests of dashboards and alerts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from prometheus_client import CollectorRegistry, Metric

from gateway.core.did_you_mean import did_you_mean
from gateway.observability.eval_metrics import EvalMetrics
from gateway.observability.proxy_metrics import MetricDeclaration, console_declarations, declarations

Kind = Literal["counter", "gauge", "histogram"]
Room = Literal["gateway", "consumer", "console"]


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """One metric."""

    name: str  # as in PromQL; a histogram's without _bucket, _sum and _count
    kind: Kind
    labels: tuple[str, ...]
    help: str
    room: Room

    @property
    def series(self) -> tuple[str, ...]:
        """The names of its series in PromQL."""
        if self.kind == "histogram":
            return tuple(f"{self.name}_{part}" for part in ("bucket", "sum", "count"))
        return (self.name,)


def catalogue() -> list[MetricSpec]:
    """All metrics, the gateway's first, in the order in which they are declared."""
    consumers = (_of(family) for family in EvalMetrics(CollectorRegistry()).collect())
    return [*_declared("gateway", declarations()), *consumers, *_declared("console", console_declarations())]


def _declared(room: Room, found: Iterable[tuple[str, MetricDeclaration[Any]]]) -> Iterator[MetricSpec]:
    kinds: dict[str, Kind] = {"Counter": "counter", "Histogram": "histogram"}
    for _, each in found:
        kind = kinds.get(each.kind.__name__, "gauge")
        yield MetricSpec(each.name + "_total" * (kind == "counter"), kind, each.labels, each.help, room)


def _of(family: Metric) -> MetricSpec:
    kind: Kind = "counter" if family.type == "counter" else "histogram" if family.type == "histogram" else "gauge"
    labels: tuple[str, ...] = getattr(family, "_labelnames", ())  # no public attribute has the labels
    return MetricSpec(family.name + "_total" * (kind == "counter"), kind, labels, family.documentation, "consumer")


def unknown(names: set[str]) -> list[str]:
    """The names that are not exported, each with a did-you-mean hint."""
    known = {series for each in catalogue() for series in each.series}
    return [f"{name}{did_you_mean(name, known)}" for name in sorted(names - known)]
