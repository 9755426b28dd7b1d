"""Finds the target that a person means who names a model or an alias. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from gateway.config.config import Config
from gateway.config.derive import refs_of_model, target_of
from gateway.config.retirements import retiring_targets
from gateway.core.exchange import Target
from gateway.features.retirement.draft import ReplacedTarget


@dataclass(frozen=True, slots=True)
class ConfiguredTargets:
    targets: Sequence[ReplacedTarget]

    @property
    def names(self) -> list[str]:
        return list(dict.fromkeys(text for each in self.targets for text in (each.alias, each.name, each.target.model)))

    def named(self, name: str | None) -> dict[str, list[ReplacedTarget]]:
        """The targets that are meant, by upstream/model: of an alias, those with a date if one has a date.

        None if every model that has a date.
        """
        if name is None:
            return _by_model([each for each in self.targets if each.days_left is not None])
        of_alias = [each for each in self.targets if each.alias == name and each.served]
        dated = [each for each in of_alias if each.days_left is not None]
        return _by_model(dated or of_alias or [each for each in self.targets if name in (each.name, each.target.model)])


def replaceable(config: Config, today: date) -> ConfiguredTargets:
    """Every target of every alias."""
    rows = {(each.alias, each.target): each.retirement for each in retiring_targets(config)}
    found: dict[tuple[str, Target], ReplacedTarget] = {}
    for alias, model in config.models.items():
        for ref in refs_of_model(config, model):
            target = target_of(ref)
            row = rows.get((alias, target))
            successor, days_left = (None, None) if row is None else (row.successor, row.days(today))
            each = ReplacedTarget(alias, target, successor, days_left, ref not in model.fallback)
            found.setdefault((alias, target), each)
    return ConfiguredTargets(tuple(found.values()))


def _by_model(targets: Sequence[ReplacedTarget]) -> dict[str, list[ReplacedTarget]]:
    groups: dict[str, list[ReplacedTarget]] = {}
    for each in targets:
        groups.setdefault(each.name, []).append(each)
    return groups
