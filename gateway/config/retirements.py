"""The targets of a config that their providers retire: `retires` of a target, else the list that ships."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

from gateway.config.config import Config, RetiringTargetRef
from gateway.config.derive import refs_of_model, target_of
from gateway.config.upstreams import TargetRef
from gateway.core.exchange import Target
from gateway.core.retirements import Retirement, retirement_of

NOTICE_DAYS = 60
"""Days before a retirement from which it is announced; the first alert has the same number."""


@dataclass(frozen=True, slots=True)
class RetiringTarget:
    """A target of a model name, and when it ends."""

    alias: str
    target: Target
    retirement: Retirement
    served: bool = True
    """Whether it is one of the alias's targets; False: only a fallback."""


@dataclass(frozen=True, slots=True)
class RetiringModel:
    """A model of one upstream, with every target that has it."""

    upstream: str
    model: str
    retirement: Retirement
    targets: tuple[RetiringTarget, ...]

    @property
    def name(self) -> str:
        return f"{self.upstream}/{self.model}"

    @property
    def aliases(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(each.alias for each in self.targets))

    def announced(self, today: date) -> str:
        """The line in the log, where the traffic is not known."""
        successor = self.retirement.successor
        count = f"{len(self.aliases)} alias{'' if len(self.aliases) == 1 else 'es'}"
        return (
            f"{self.name} {self.retirement.when(today)}; {count}: {', '.join(self.aliases)}; "
            f"successor: {successor or 'none is listed'}; `gateway ab draft {self.name}"
            f"{'' if successor else ' --successor NAME'}` writes the experiment against it (source: "
            f"{self.retirement.source})"
        )


class ListedRetirements:
    """The list that ships, for the upstreams of a config that are at their provider's own address."""

    def __init__(self, config: Config) -> None:
        self._known: dict[str, Mapping[str, Retirement]] = {
            name: config.lists.retirements_of(upstream.kind)
            for name, upstream in config.upstreams.items()
            if upstream.at_provider
        }

    def of(self, target: Target) -> Retirement | None:
        return retirement_of(target.model, self._known.get(target.upstream, {}))


def retiring_targets(config: Config) -> tuple[RetiringTarget, ...]:
    """The targets with a date, each once for an alias."""
    known = ListedRetirements(config)
    found: dict[tuple[str, Target], RetiringTarget] = {}
    for alias, model in config.models.items():
        for ref in refs_of_model(config, model):
            each = _retiring(alias, ref, known, ref not in model.fallback)
            if each is not None:
                found.setdefault((alias, each.target), each)
    return tuple(found.values())


def _retiring(alias: str, ref: TargetRef, known: ListedRetirements, served: bool) -> RetiringTarget | None:
    target = target_of(ref)
    row = known.of(target)
    if isinstance(ref, RetiringTargetRef) and "retires" in ref.model_fields_set:
        row = None if ref.retires is None else Retirement(ref.retires, None if row is None else row.successor)
    return None if row is None else RetiringTarget(alias, target, row, served)


def retiring_models(targets: Sequence[RetiringTarget]) -> list[RetiringModel]:
    """The targets by upstream, model and day, the first day first."""
    groups: dict[tuple[date, str, str], list[RetiringTarget]] = {}
    for each in targets:
        groups.setdefault((each.retirement.day, each.target.upstream, each.target.model), []).append(each)
    return [
        RetiringModel(upstream, model, members[0].retirement, tuple(members))
        for (_, upstream, model), members in sorted(groups.items())
    ]


def due(models: Sequence[RetiringModel], today: date) -> Iterator[RetiringModel]:
    """Yields the models whose retirement is announced on this day."""
    return (each for each in models if each.retirement.days(today) <= NOTICE_DAYS)


def day_of(unix_s: float) -> date:
    """The UTC day of a time."""
    return datetime.fromtimestamp(unix_s, UTC).date()
