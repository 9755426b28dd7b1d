"""The page Today: changes within 24 hours, the most important first.

The figures come from sums by the hour. This process keeps those of five weeks: the newest hours are counted from their
exchanges, and again in the background; the others are as the consumer stored them. A page waits for them for a moment
only, and shows the progress.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response

from gateway.config.config import Config
from gateway.config.retirements import day_of
from gateway.console.errors import AdminError
from gateway.console.filters import count, hour, percent, score, seconds, shortened, usd
from gateway.console.frame import ROOT, Page, PageRoute, PageServices, render, services_of, to_html
from gateway.console.store import ConsoleStore
from gateway.core.chunked import chunked
from gateway.features.guards.evidence import GuardEvidence
from gateway.features.guards.metrics import summed_evidence
from gateway.features.guards.report import sentence as guard_sentence
from gateway.features.retirement.draft import ExperimentDraft, draft_text
from gateway.features.retirement.notices import NoticeCache, RetirementNotice
from gateway.features.retirement.traffic import DailyCalls, daily_calls
from gateway.features.today.changes import (
    ALARMS,
    DAYS,
    HOURS,
    Change,
    Hours,
    Measure,
    TodayReport,
    course_chart,
    report,
    windows,
)
from gateway.features.today.charts import series_charts, slower_calls
from gateway.features.today.rows import HOUR_S, GroupKey, HourSums, hour_sums, stored_begins, stored_hours
from gateway.features.today.series import SeriesReport, series_report
from gateway.store.events import DeploymentEvent, events_since

WAIT_S = 0.08
MOST = 90
"""Characters of the headline."""
_FRESH_S = 10.0
_UNSETTLED_H = 3  # the newest hours, whose scores are still arriving: read again with each refresh
_AGAIN_S = 600.0  # after which the others are, too
_MOST_CHARTS = 4
_STORED_AT_ONCE = 100  # hours
_MOST_EVENTS = 40


class HourCache:
    """The sums of the last five weeks, and the report on them.

    margins: returns, by scorer, the smallest difference that matters to an experiment."""

    def __init__(
        self, store: ConsoleStore, clock: Callable[[], float], margins: Callable[[], Mapping[str, float]] = dict
    ) -> None:
        self._store = store
        self._clock = clock
        self._margins = margins
        self._hours: dict[float, dict[GroupKey, HourSums]] = {}
        self._read_at: dict[float, float] = {}
        self._past: dict[float, dict[GroupKey, HourSums]] = {}
        self._past_at = float("-inf")
        self._report: TodayReport | None = None
        self._series: dict[GroupKey | None, SeriesReport] = {}
        self._shown: Hours = {}
        self._shown_at = 0.0
        self._drawn: dict[tuple[float, GroupKey | None], Markup] = {}
        self.events: Sequence[DeploymentEvent] = ()
        """Events of the last 48 hours, oldest first."""
        self.trouble = ""
        self.complete_at = 0.0
        """Unix seconds of the last complete refresh; 0: none yet."""

    @property
    def known(self) -> int:
        """Number of the 48 hours that are known."""
        today, yesterday = windows(self._clock())
        return sum(begin in self._hours or begin in self._past for begin in (*today, *yesterday))

    @property
    def fresh(self) -> bool:
        return self._clock() - self.complete_at < _FRESH_S

    def report(self) -> TodayReport:
        """Returns the report of the last complete refresh; before the first one, of the hours that there are."""
        return self._report or report(self._hours, self._clock(), self._margins())

    async def series(self, group: GroupKey | None) -> SeriesReport:
        """The 48 hours of all calls, or of one group, as of the last complete refresh."""
        if group not in self._series:
            hours, at = self._shown, self._shown_at
            found = await asyncio.to_thread(series_report, hours, at, group)
            if at != self._shown_at:
                return found
            self._series[group] = found
        return self._series[group]

    def drawn(self, group: GroupKey | None, draw: Callable[[], Markup]) -> Markup:
        """The charts of all calls, or of one group: drawn once for each complete refresh."""
        self._drawn = {key: html for key, html in self._drawn.items() if key[0] == self.complete_at}
        key = (self.complete_at, group)
        if key not in self._drawn:
            self._drawn[key] = draw()
        return self._drawn[key] if self.complete_at else self._drawn.pop(key)

    async def refresh(self) -> None:
        """Reads missing and outdated hours, the newest first."""
        now = self._clock()
        try:
            if now - self._past_at >= _AGAIN_S:
                await self._read_past(now)
                self._past_at = now
            await self._read_newest(now)
            hours: Hours = {**self._hours, **self._past}
            self._report = await asyncio.to_thread(report, hours, now, self._margins())
            self.events = await self._store.read(lambda c: events_since(c, now - 2 * HOURS * HOUR_S, _MOST_EVENTS))
            self._shown, self._shown_at, self._series = hours, now, {}
            self.trouble, self.complete_at = "", now
        except AdminError as error:
            self.trouble = error.message

    async def _read_newest(self, now: float) -> None:
        today, yesterday = windows(now)
        wanted = [begin for begin in (*reversed(today), *reversed(yesterday)) if begin not in self._past]
        for gone in self._hours.keys() - set(wanted):
            self._past.setdefault(gone, self._hours.pop(gone))
            del self._read_at[gone]
        for at, begin in enumerate(wanted):
            age = now - self._read_at.get(begin, float("-inf"))
            if age >= (_FRESH_S if at < _UNSETTLED_H else _AGAIN_S):
                self._hours[begin] = await self._store.read(lambda c, begin=begin: hour_sums(c, begin))  # type: ignore[misc]
                self._read_at[begin] = now

    async def _read_past(self, now: float) -> None:
        """Reads the hours that the consumer has stored since the last time."""
        oldest = now // HOUR_S * HOUR_S - HOUR_S * HOURS * DAYS
        for gone in [begin for begin in self._past if begin < oldest]:
            del self._past[gone]
        begins = await self._store.read(lambda c: stored_begins(c, oldest))
        for chunk in chunked(sorted(begins - self._past.keys()), _STORED_AT_ONCE):
            self._past |= await self._store.read(lambda c, chunk=chunk: stored_hours(c, chunk))  # type: ignore[misc]


@dataclass(slots=True)
class _Refreshing:
    cache: HourCache
    traffic: DailyCalls | None = None
    """Calls a day of each target; None if not read yet."""
    guards: Sequence[GuardEvidence] = ()
    """Decisions of the config's guards within 24 hours."""
    task: asyncio.Task[None] | None = None

    async def refresh(self, services: PageServices) -> None:
        now, store = services.admin.clock(), services.admin.store
        guards = tuple(services.admin.config().guards)
        try:
            self.traffic = await store.read(lambda connection: daily_calls(connection, day_of(now)))
            found = await store.read(lambda c: [summed_evidence(c, guard, now - HOURS * HOUR_S) for guard in guards])
            self.guards = [each for each in found if each is not None]
        except AdminError as error:
            self.cache.trouble = error.message
        await self.cache.refresh()


async def show(request: Request) -> Response:
    services = services_of(request)
    kept: _Refreshing = services.kept.setdefault(
        "today",
        _Refreshing(HourCache(services.admin.store, services.admin.clock, lambda: margins_of(services.admin.config()))),
    )
    if not kept.cache.fresh and (kept.task is None or kept.task.done()):
        kept.task = services.tasks.start(kept.refresh(services), "figures of today")
    if kept.task is not None and not kept.task.done():
        await asyncio.wait({kept.task}, timeout=WAIT_S)
    cache = kept.cache
    found, group, series = await _of_one_refresh(request, cache)
    first = enumerate(found.changes[:_MOST_CHARTS])
    return render(
        request,
        "today.html.jinja",
        report=found,
        headline=headline(found),
        hours=cache.drawn(group, lambda: _hours(request, cache, series, group)),
        charts=[(change, course_chart(change, f"change-{at}", _title(change), hour)) for at, change in first],
        cache=cache,
        retiring=_retiring(services, kept.traffic),
        guards=[(each, guard_sentence(each)) for each in kept.guards],
        sentence=sentence,
        say=said,
        interval=lambda figure: ends(figure.measure, figure.interval),
        alarm=lambda change: ALARMS.get(change.figure.measure, "") if change.figure.tone == "bad" else "",
        totals=_totals(found),
        failed=ends("errors", found.errors),
    )


async def _of_one_refresh(request: Request, cache: HourCache) -> tuple[TodayReport, GroupKey | None, SeriesReport]:
    """The report, the group that the address names, and its 48 hours: again, if a refresh completes meanwhile."""
    while True:
        found, at = cache.report(), cache.complete_at
        group = _chosen(request, found)
        series = await cache.series(group)
        if cache.complete_at == at:
            return found, group, series


def _hours(request: Request, cache: HourCache, series: SeriesReport, group: GroupKey | None) -> Markup:
    """The charts of 48 hours with their table; "" if there is nothing to draw."""
    found = cache.report()
    only = found.groups[0].group if len(found.groups) == 1 else group
    charts = series_charts(series, found.changes, cache.events, said_of_hour, only)
    if not charts:
        return Markup()
    shown = to_html(
        request,
        "today_hours.html.jinja",
        report=found,
        group=group,
        series=series,
        series_charts=charts,
        events=list(enumerate(cache.events, 1)),
        say_hour=said_of_hour,
    )
    return Markup(shown)  # noqa: S704 - made by a template, which escapes


def _chosen(request: Request, found: TodayReport) -> GroupKey | None:
    """The group that the address names, if there is one; None: all calls."""
    wanted = request.query_params.get("of", "")
    return next((each.group for each in found.groups if " ".join(each.group) == wanted), None)


def headline(found: TodayReport) -> str:
    """The page in a sentence of at most 90 characters."""
    bad = [change for change in found.changes if change.figure.tone == "bad"]
    if not found.groups:
        return "No calls within 48 hours."
    if not found.changes:
        calls = sum(each.calls for each in found.groups)
        return f"As usual: {count(calls)} calls within 24 hours, and no figure changed."
    change = (bad or found.changes)[0]
    more = len(bad or found.changes) - 1
    name = shortened(_measured(change), 24)
    of = f" of {shortened(change.group[0], 20)}"
    first = f"{name}{of} {sentence(change)}"
    rest = f", and {more} more {'got worse' if bad else 'changed'}" if more else ""
    return next(
        (text for text in (f"{first}{rest}.", f"{first}.", f"{name}{of} changed.") if len(text) <= MOST), first[:MOST]
    )


def _measured(change: Change) -> str:
    names: dict[Measure, str] = {"errors": "Failures", "cost": "Cost of 1k", "p95": "p95"}
    return names.get(change.figure.measure, change.figure.scorer)


@dataclass(frozen=True, slots=True)
class _Retiring:
    """A model that is announced, and the text of its draft; "" if there is none."""

    notice: RetirementNotice
    text: str
    form: str
    """Address of the form for a new experiment, filled in; "" if it has no fields for the variant of the target."""


def _retiring(services: PageServices, traffic: DailyCalls | None) -> list[_Retiring]:
    today = day_of(services.admin.clock())
    kept: NoticeCache = services.kept.setdefault("retirements", NoticeCache())
    found = kept.get(services.admin.config(), traffic, today, due=True)
    try:
        file = services.config_path.read_text(encoding="utf-8") if found else ""
    except (OSError, UnicodeDecodeError):  # the config in force is announced all the same
        file = ""
    return [
        _Retiring(each, draft_text(each.draft, file), _form(services.admin.config(), each.draft))
        if each.draft
        else _Retiring(each, "", "")
        for each in found
    ]


def _form(config: Config, draft: ExperimentDraft) -> str:
    control = config.models[draft.alias].targets[draft.position]
    if control.varied:
        return ""
    rails = draft.section({}).get("guardrails", {})
    fields = {
        "name": draft.name,
        "control": f"{draft.alias} {control.upstream}/{control.model}",
        "upstream": draft.upstream,
        "candidate_model": draft.model,
        "mode": "shadow",
        "share": f"{100 * draft.shadow:g}",
        "primary": draft.primary,
        "margin": f"{draft.margin:g}",
        "guardrail": list(rails),
        "guardrail_margin": list(rails.values()),
    }
    return f"/console/experiments/new?{urlencode(fields, doseq=True)}"


def margins_of(config: Config) -> dict[str, float]:
    """The smallest margin of an experiment that each scorer decides, by scorer."""
    found: dict[str, float] = {}
    for experiment in config.experiments.values():
        name, margin = experiment.primary, experiment.margin
        if name in config.scorers and margin > 0:
            found[name] = min(margin, found.get(name, margin))
    return found


def sentence(change: Change) -> str:
    """The change in words, as in "rose from 1 % to 7 %"."""
    figure = change.figure
    if figure.slower is not None and not figure.agrees:
        return slower_calls(figure.slower, said_of_hour)
    usual, now = said_alike(figure.measure, figure.usual, figure.now)
    return f"{figure.changed or 'changed'} from {usual} to {now}"


def said_alike(measure: str, *values: float | None) -> list[str]:
    """Values of a measure in its unit; scores with as many digits as tell them apart, and all with as many."""
    known = [value for value in values if value is not None]
    if measure != "score" or not known or max(map(abs, known)) >= 10:
        return [said(measure, value) for value in values]
    places = 2 if max(known) - min(known) >= 0.02 else 3
    return [said(measure, None) if value is None else f"{value:.{places}f}" for value in values]


def ends(measure: Measure, of: tuple[float, float] | None) -> str:
    """The ends of an interval, as in "0.79 … 0.83"; "" without one."""
    return "" if of is None else " … ".join(said_alike(measure, *of))


def said(measure: str, value: float | None) -> str:
    """A value of a measure in its unit. The cost is that of 1 000 calls."""
    if measure == "cost":
        return usd(None if value is None else 1000 * value)
    return {"score": score, "errors": percent, "p95": seconds}[measure](value)


def said_of_hour(measure: str, value: float | None) -> str:
    """A value of a series in its unit. The cost is that of an hour."""
    if measure in ("cost", "calls"):
        return usd(value) if measure == "cost" else count(value)
    return said(measure, value)


def _title(change: Change) -> str:
    names: dict[Measure, str] = {"errors": "Errors", "cost": "Cost of 1 000 calls", "p95": "p95 of the time"}
    title = names.get(change.figure.measure) or f"Score by {change.figure.scorer}"
    alias, target = change.group
    return f"{title} of {alias} by {target}"


def _totals(found: TodayReport) -> dict[str, float | None]:
    groups = found.groups
    calls, before = sum(g.calls for g in groups), sum(g.calls_before for g in groups)
    costs = [g.cost for g in groups if g.cost is not None]
    costs_before = [g.cost_before for g in groups if g.cost_before is not None]
    errors = [(g, f) for g in groups if (f := g.figure("errors")) is not None]
    return {
        "calls": calls,
        "calls_before": before,
        "cost": sum(costs) if costs else None,
        "cost_before": sum(costs_before) if costs_before else None,
        "errors": sum(g.calls * (f.now or 0) for g, f in errors) / calls if calls else None,
        "errors_before": sum(g.calls_before * (f.before or 0) for g, f in errors) / before if before else None,
        "unpriced": sum(g.unpriced for g in groups),
    }


PAGE = Page(ROOT, "Today", (PageRoute(ROOT, show),))
