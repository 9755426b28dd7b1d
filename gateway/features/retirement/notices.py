"""Notices of models that their providers retire: aliases, successor, calls a day, and the draft of the experiment."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

from gateway.config.config import Config
from gateway.config.retirements import (
    ListedRetirements,
    RetiringModel,
    RetiringTarget,
    due,
    retiring_models,
    retiring_targets,
)
from gateway.core.exchange import Target
from gateway.core.wildcards import STAR
from gateway.features.retirement.draft import ExperimentDraft, NoDraft, ReplacedTarget, draft_of
from gateway.features.retirement.traffic import DailyCalls, daily_calls
from gateway.reports.number_format import count
from gateway.store.engine import StoreUnavailable
from gateway.store.query import reading


@dataclass(frozen=True, slots=True)
class RetirementNotice:
    """One model that retires, for readers."""

    upstream: str
    model: str
    retires: str
    """The day (UTC), as in "2027-01-14"."""
    days: int
    """Days until then; negative: it has retired."""
    successor: str | None
    source: str
    aliases: tuple[str, ...]
    calls_a_day: float | None
    """Calls of clients that it answers; None if no store can be read."""
    sentence: str
    """The notice without the draft."""
    draft: ExperimentDraft | None
    """The draft for the alias with the most calls; None: `no_draft` says why."""
    no_draft: str = ""

    @property
    def name(self) -> str:
        return f"{self.upstream}/{self.model}"

    @property
    def text(self) -> str:
        if self.draft is None:
            return f"{self.sentence} No draft: {self.no_draft}"
        return f"{self.sentence} {self.draft.summary}: gateway ab draft {self.name}"


def notices(config: Config, traffic: DailyCalls | None, today: date) -> list[RetirementNotice]:
    """Notices of all models with a date, the first day first. traffic: None if no store can be read."""
    models = retiring_models((*retiring_targets(config), *_of_wildcards(config, traffic)))
    return [_notice(config, each, traffic, today) for each in models]


def due_notices(config: Config, traffic: DailyCalls | None, today: date) -> list[RetirementNotice]:
    """Notices of the models that are announced today."""
    models = retiring_models((*retiring_targets(config), *_of_wildcards(config, traffic)))
    return [_notice(config, each, traffic, today) for each in due(models, today)]


class NoticeCache:
    """The notices of one process. A draft comes with a forecast of its price, which takes 60 ms: they are made again
    when the config, the calls a day or the day have changed."""

    def __init__(self) -> None:
        self._kept: dict[bool, tuple[Config, DailyCalls | None, date, list[RetirementNotice]]] = {}

    def get(
        self, config: Config, traffic: DailyCalls | None, today: date, *, due: bool = False
    ) -> list[RetirementNotice]:
        """due: of the models that are announced today alone."""
        kept = self._kept.get(due)
        if kept is not None and kept[0] is config and kept[1:3] == (traffic, today):
            return kept[3]
        found = (due_notices if due else notices)(config, traffic, today)
        self._kept[due] = (config, traffic, today, found)
        return found


def _of_wildcards(config: Config, traffic: DailyCalls | None) -> Iterator[RetiringTarget]:
    """Models that clients name behind a target with a star, as far as calls have named them."""
    known = ListedRetirements(config)
    starred = {
        (alias, ref.upstream) for alias, model in config.models.items() for ref in model.targets if STAR in ref.model
    }
    for alias, upstream, model in traffic.by_target if traffic else ():
        target = Target(upstream, model)
        if (alias, upstream) in starred and (row := known.of(target)) is not None:
            yield RetiringTarget(alias, target, row)


def _notice(config: Config, of: RetiringModel, traffic: DailyCalls | None, today: date) -> RetirementNotice:
    calls = None if traffic is None else sum(traffic.of(each.alias, each.target) for each in _once(of))
    days, successor = of.retirement.days(today), of.retirement.successor
    draft, why = _draft(config, of, traffic, days)
    return RetirementNotice(
        upstream=of.upstream,
        model=of.model,
        retires=of.retirement.day.isoformat(),
        days=days,
        successor=successor,
        source=of.retirement.source,
        aliases=of.aliases,
        calls_a_day=calls,
        sentence=_sentence(of, calls, today),
        draft=draft,
        no_draft=why,
    )


def _once(of: RetiringModel) -> list[RetiringTarget]:
    """The targets without further variants of one alias, whose calls are counted together."""
    return list({each.alias: each for each in reversed(of.targets)}.values())


def _sentence(of: RetiringModel, calls: float | None, today: date) -> str:
    aliases = f"{count(len(of.aliases))} alias{'' if len(of.aliases) == 1 else 'es'}"
    used = "" if calls is None else f", {count(round(calls))} calls a day"
    successor = of.retirement.successor
    then = f"Successor: {successor}." if successor else "No successor is listed."
    return f"{of.name} {of.retirement.when(today)}. {aliases} ({', '.join(of.aliases)}){used}. {then}"


def _draft(
    config: Config, of: RetiringModel, traffic: DailyCalls | None, days: int
) -> tuple[ExperimentDraft | None, str]:
    chosen = busiest(of, traffic)
    try:
        return draft_of(config, replaced(chosen, days), traffic.of(chosen.alias, chosen.target) if traffic else 0.0), ""
    except NoDraft as why:
        return None, str(why)


def replaced(retiring: RetiringTarget, days_left: int) -> ReplacedTarget:
    return ReplacedTarget(retiring.alias, retiring.target, retiring.retirement.successor, days_left)


def busiest(of: RetiringModel, traffic: DailyCalls | None) -> RetiringTarget:
    """The target of the alias that is decided soonest: one that serves, with the most calls."""
    return max(of.targets, key=lambda each: (each.served, traffic.of(each.alias, each.target) if traffic else 0.0))


def read_daily_calls(store: str, today: date) -> DailyCalls | None:
    """store: its URL. None if it cannot be read."""
    with contextlib.suppress(StoreUnavailable), reading(store) as connection:
        return daily_calls(connection, today)
    return None
