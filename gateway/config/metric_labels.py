"""The label values of metrics that follow from the config: which aliases and targets have series of their own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Self

from gateway.config.config import Config, Model
from gateway.config.derive import refs_of_model, target_of, target_refs
from gateway.core.wildcards import STAR

OTHER = "other"
HISTOGRAM_UPSTREAMS = 50
"""Upstreams with histograms of their own, the first of the file: a pair of alias and upstream is 15 KB of a scrape."""
HISTOGRAM_ALIASES = 20
"""Aliases with histograms of their own, the first of the file."""
SCORED_ALIASES = 200
"""Aliases with scores of their own: those with objectives for scores, then the first of the file."""

TargetLabels = tuple[str, str]
"""The labels `upstream` and `model` of a target."""


@dataclass(frozen=True, slots=True)
class MetricLabels:
    """The closed sets of one config. A value outside them is "other"."""

    aliases: frozenset[str]
    targets: Mapping[str, TargetLabels]
    """Labels by "upstream/model"."""
    patterns: Mapping[str, tuple[TargetLabels, ...]]
    """The targets whose model the client completes, by alias."""
    histogram_aliases: frozenset[str]
    histogram_upstreams: frozenset[str]
    scored_aliases: frozenset[str]

    @classmethod
    def of(cls, config: Config) -> Self:
        return cls(
            frozenset(config.models),
            {str(target): (target.upstream, target.label) for target in map(target_of, target_refs(config))},
            {alias: tuple(_completed(config, model)) for alias, model in config.models.items()},
            frozenset(islice(config.models, HISTOGRAM_ALIASES)),
            frozenset(islice(config.upstreams, HISTOGRAM_UPSTREAMS)),
            frozenset(islice(_scored_first(config), SCORED_ALIASES)),
        )

    def alias(self, alias: str) -> str:
        return alias if alias in self.aliases else OTHER

    def target(self, alias: str, name: str) -> TargetLabels | None:
        """The labels of a target, whose model is the one that the config writes, with its variant.

        name: "upstream/model". None if the config has no such target.
        """
        known = self.targets.get(name)
        if known is not None:
            return known
        behind = self.patterns.get(alias, ())
        return next((labels for labels in behind if name.startswith(f"{labels[0]}/")), None)

    def model(self, alias: str, name: str) -> str:
        """The label `model` of a target. name: "upstream/model"."""
        labels = self.target(alias, name)
        return OTHER if labels is None else labels[1]

    def histograms(self, alias: str, upstream: str) -> tuple[str, str]:
        """The labels `upstream` and `alias` of histograms."""
        return (
            upstream if upstream in self.histogram_upstreams else OTHER,
            alias if alias in self.histogram_aliases else OTHER,
        )


def _scored_first(config: Config) -> list[str]:
    return sorted(config.models, key=lambda alias: not config.models[alias].score_objectives)


def _completed(config: Config, model: Model) -> Iterator[TargetLabels]:
    for target in map(target_of, refs_of_model(config, model)):
        if STAR in target.model:
            yield target.upstream, target.label


def without_histograms(config: Config) -> list[str]:
    """The aliases whose latencies are shown together, as "other"."""
    return list(islice(config.models, HISTOGRAM_ALIASES, None))
