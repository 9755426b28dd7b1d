"""Catalogue of the metrics of the three programs, as metrics.toml declares them."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from gateway.core.did_you_mean import did_you_mean

Kind = Literal["counter", "gauge", "histogram"]
Program = Literal["gateway", "consumer", "console"]
_CLASSES: Mapping[Kind, type[Counter] | type[Gauge] | type[Histogram]] = {
    "counter": Counter,
    "gauge": Gauge,
    "histogram": Histogram,
}


@dataclass(frozen=True, slots=True)
class MetricSpec:
    name: str  # as in PromQL; a histogram's without _bucket, _sum and _count
    kind: Kind
    labels: tuple[str, ...]
    help: str
    program: Program
    options: Mapping[str, Any] = field(default_factory=dict)
    """Additional arguments of its class in prometheus_client."""

    @property
    def series(self) -> tuple[str, ...]:
        """The names of its series in PromQL."""
        if self.kind == "histogram":
            return tuple(f"{self.name}_{part}" for part in ("bucket", "sum", "count"))
        return (self.name,)

    def build(self, registry: CollectorRegistry) -> Counter | Gauge | Histogram:
        return _CLASSES[self.kind](self.name, self.help, self.labels, registry=registry, **self.options)


@functools.cache
def metric_tables(program: Program) -> dict[str, dict[str, Any]]:
    """The tables of one program in metrics.toml, by attribute; those of the consumer by group."""
    tables = tomllib.loads((files("gateway.observability") / "metrics.toml").read_text("utf-8"))
    found: dict[str, dict[str, Any]] = tables[program]
    return found


def specs(program: Literal["gateway", "console"]) -> dict[str, MetricSpec]:
    """The metrics of the gateway or the console by attribute, in the order in which they are declared."""
    return {attribute: _spec(program, **table) for attribute, table in metric_tables(program).items()}


def _spec(program: Program, help: str, labels: tuple[str, ...] = (), **table: Any) -> MetricSpec:
    kind = next(kind for kind in _CLASSES if kind in table)
    name = table.pop(kind)
    return MetricSpec(name, kind, tuple(labels), help, program, table)


def _consumer_specs() -> Iterator[MetricSpec]:
    for group in metric_tables("consumer").values():
        for name, text in group["metrics"].items():
            kind: Kind = "histogram" if "histogram" in group else "counter" if name.endswith("_total") else "gauge"
            yield MetricSpec(name, kind, tuple(group["labels"]), text, "consumer")


def catalogue() -> list[MetricSpec]:
    """Returns all metrics, the gateway's first, in the order in which they are declared."""
    return [*specs("gateway").values(), *_consumer_specs(), *specs("console").values()]


def unknown(names: set[str]) -> list[str]:
    """The names that are not exported, each with a did-you-mean hint."""
    known = {series for each in catalogue() for series in each.series}
    return [f"{name}{did_you_mean(name, known)}" for name in sorted(names - known)]
