"""The page Guards: what each guard does, how often it is wrong, and whether it has changed; and one page for each.

Figures come from the hours that a consumer has summed, so that no page searches decisions. No text of a call is shown
here, and never what a rule matched: a recent hit is a link to its call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote, urlencode

from starlette.requests import Request
from starlette.responses import Response

from gateway.config.config import Config
from gateway.config.guards import GuardConfig
from gateway.console.errors import AdminError, InvalidBody, NotThere
from gateway.console.filters import pair
from gateway.console.forms import form_actor
from gateway.console.frame import Page, PageRoute, PageServices, redirect, render, services_of
from gateway.core.errors import StreamDown
from gateway.core.guard_ramp import STRICTNESS
from gateway.core.guards import GuardAction
from gateway.core.json_values import as_object, as_text
from gateway.features.guards.evidence import GuardEvidence, GuardRecords, estimated
from gateway.features.guards.hourly.charts import RateChart, RatePoint, rate_chart, rate_points
from gateway.features.guards.hourly.hours import DAY_S
from gateway.features.guards.hourly.usual_range import GuardDrift, drift_of, drift_sentence
from gateway.features.guards.operations import ROLE, change_guard_ramp, list_guard_ramps, read_guard
from gateway.features.guards.ramp.commands import GUARD_RAMP_VERBS, GuardRampOutput
from gateway.features.guards.ramp.view import ShownRamp, guard_ramp_events, shown_ramp
from gateway.features.guards.report import notes, sentence
from gateway.features.guards.rows import RecentHit, guards_summed, recent_hits, stored_hours, watched
from gateway.features.labels.rows import OF_GUARD, labels_of_guard, version_of
from gateway.reports import number_format
from gateway.reports.charts import Chart
from gateway.store.query import Reading

HOME = "/console/guards"
SPANS: Mapping[str, float] = {"24h": DAY_S, "7d": 7 * DAY_S, "30d": 30 * DAY_S}
MOST = 90
"""Characters of the headline."""
MOST_GUARDS = 20
"""Guards of which the list draws a chart: with more, those of the config come first."""
MOST_HITS = 50
_ALIVE_S = 30.0
_LIVE_WAIT_S = 2.0


@dataclass(frozen=True, slots=True)
class LiveGuard:
    """One guard, as the gateways report it now."""

    failing: str = ""
    """Reason why its last decisions have all failed; "" if they have not."""
    breaker_open: bool = False
    gateways: int = 0
    """Gateway processes that report it."""
    applied: tuple[str, ...] = ()
    """Actions that they apply by its ramp, each once: "block for 25 % of the units, flag for the others". Several: not
    all have heard of the newest step."""


@dataclass(frozen=True, slots=True)
class GuardView:
    """One guard, as the pages show it."""

    name: str
    config: GuardConfig | None
    """Section of the config; None if it was removed."""
    evidence: GuardEvidence | None
    """Counts of the guard; None if it has judged no recorded call within the time."""
    points: Sequence[RatePoint]
    chart: Chart | None
    drift: GuardDrift | None
    """Drift; None while its usual range is unknown."""
    live: LiveGuard
    ramp: ShownRamp | None = None
    """Ramp; None if none has begun, or the stream server does not answer."""

    @property
    def url(self) -> str:
        return url_of(self.name)

    @property
    def label_url(self) -> str:
        return f"/console/label/queue?{urlencode({'scorer': OF_GUARD + self.name})}"

    @property
    def action(self) -> GuardAction | None:
        """Action in force for the newest call, or as the config has it."""
        found = None if self.evidence is None else self.evidence.action
        return found or (None if self.config is None else self.config.action)

    @property
    def sentence(self) -> str:
        if self.evidence is None:
            return "it has judged no recorded call in this time"
        return sentence(self.evidence)

    @property
    def changed(self) -> str:
        """The change of the guard; "" if nothing has changed, as far as is known."""
        return drift_sentence(self.drift) if self.drift is not None and self.drift.alarm else ""

    @property
    def state(self) -> tuple[str, str]:
        """The state in a word, and its tone."""
        if self.config is None:
            return "not in the config", ""
        if self.live.failing or self.live.breaker_open:
            return "✕ fails", "bad"
        if self.changed:
            return "✕ has changed", "bad"
        return ("✓ decides", "good") if self.live.gateways else ("? no gateway reports it", "open")

    @property
    def rank(self) -> tuple[bool, bool, float]:
        """The key by which guards are sorted, the most urgent first."""
        hit = self.evidence.hit if self.evidence is not None else None
        return not self.live.failing, not self.changed, -(0.0 if hit is None else hit.share)


def url_of(guard: str) -> str:
    return f"{HOME}/of/{quote(guard, safe='')}"


async def show(request: Request) -> Response:
    services = services_of(request)
    span, since, now = _span(request, services)
    config, live = services.admin.config(), await _live(services)
    names = await services.admin.store.read(lambda c: _names(c, config, since))
    views = await services.admin.store.read(
        lambda c: [_view(c, name, config, live, _Window(since, now, small=True)) for name in names[:MOST_GUARDS]]
    )
    ramps = await _ramps(services)
    views = [replace(view, ramp=ramps.get(view.name)) for view in views]
    views.sort(key=lambda view: (view.rank, view.name))
    return render(
        request,
        "guards.html.jinja",
        views=views,
        left_out=names[MOST_GUARDS:],
        headline=headline(views),
        span=span,
        spans=list(SPANS),
        as_of=now,
    )


async def show_one(request: Request) -> Response:
    services, name = services_of(request), request.path_params["name"]
    span, since, now = _span(request, services)
    config, live = services.admin.config(), await _live(services)

    def read(connection: Reading) -> tuple[GuardView, list[RecentHit]]:
        view = _view(connection, name, config, live, _Window(since, now))
        return view, recent_hits(connection, name, MOST_HITS)

    view, hits = await services.admin.store.read(read)
    if view.config is None and view.evidence is None and not hits:
        raise NotThere(f"{name[:80]!r} is not a guard of the config, and has judged no recorded call in this time")
    shown: dict[str, Any] = {"view": view, "hits": hits, "span": span, "spans": list(SPANS), "as_of": now}
    shown["notes"] = [] if view.evidence is None else list(notes(view.evidence))
    shown["ramp"] = await _ramp(services, name)
    shown["stricter"] = [] if view.config is None else stricter(view.config.action)
    acts = view.config is None or view.config.action in ("redact", "block")
    shown["experiment_url"] = "" if acts else f"/console/experiments/new?{urlencode({'guard': name, 'share': 100})}"
    return render(request, "guard.html.jinja", **shown)


async def _ramp(services: PageServices, name: str) -> ShownRamp | None:
    """Ramp of a guard; None if the guard is not in the config, or the stream server does not answer."""
    try:
        output = await read_guard(services.admin, name)
    except AdminError:
        return None
    events = await services.admin.store.read(lambda c: guard_ramp_events(c, name))
    return shown_ramp(output, events, services.admin.clock())


async def _ramps(services: PageServices) -> dict[str, ShownRamp]:
    """The ramps that have begun, by guard; none, where the stream server does not answer."""
    try:
        found = await list_guard_ramps(services.admin)
    except AdminError:
        return {}
    return {of["guard"]: shown_ramp(of, (), services.admin.clock()) for of in found if of["state"] is not None}


def stricter(action: GuardAction) -> list[tuple[str, str]]:
    """The actions that a guard with this one may be promoted to, as options of a choice."""
    return [pair(each) for each in STRICTNESS[STRICTNESS.index(action) + 1 :]]


async def command(request: Request) -> Response:
    """Runs a command on a guard's ramp: promote, pause, resume or rollback, each with a reason."""
    form = await form_actor(request, ROLE, "change how far a guard is promoted")
    name, verb = form.get("name"), next((each for each in GUARD_RAMP_VERBS if each == form.get("verb")), None)
    if verb is None:
        raise InvalidBody(f"a guard's ramp has no command {form.get('verb')[:40]!r}")
    body: dict[str, Any] = {"reason": form.get("reason")}
    if verb == "promote" and form.get("to"):
        body["to"] = form.get("to")
    changed = await change_guard_ramp(services_of(request).admin, form.actor, name, verb, body)
    return redirect(request, f"{url_of(name)}#ramp", f"{name}: {verb} is done; {_in_force(changed)}")


def _in_force(of: GuardRampOutput) -> str:
    return shown_ramp(of, (), 0.0).sentence


def _span(request: Request, services: PageServices) -> tuple[str, float, float]:
    """(the name of the time that is shown, its beginning, now), in Unix seconds. Raises InvalidBody."""
    span, now = request.query_params.get("since", "7d"), services.admin.clock()
    if span not in SPANS:
        raise InvalidBody(f"since: {span[:20]!r} is not one of {', '.join(SPANS)}")
    return span, now - SPANS[span], now


def _names(connection: Reading, config: Config, since: float) -> list[str]:
    """Names of the config first, then those that are only in the store."""
    return [*config.guards, *(name for name in guards_summed(connection, since) if name not in config.guards)]


@dataclass(frozen=True, slots=True)
class _Window:
    """The time that is shown, in Unix seconds, and how."""

    since: float
    now: float
    small: bool = False


def _view(connection: Reading, name: str, config: Config, live: Mapping[str, LiveGuard], shown: _Window) -> GuardView:
    version = version_of(connection, OF_GUARD + name)
    state, unsampled = watched(connection, name)
    drift = drift_of(name, state)
    hours = {begin: of for begin, of in stored_hours(connection, name, shown.since).items() if of}
    evidence: GuardEvidence | None = None
    points: list[RatePoint] = []
    if version is not None and hours:
        labels = labels_of_guard(connection, version, min(hours))
        evidence = estimated(GuardRecords(version, hours, labels, unsampled, drift))
        points = rate_points(hours, (version.version, version.config_hash), shown.since, shown.now)
    marks = [drift.since] if drift is not None and drift.since is not None and drift.since >= shown.since else []
    title = f"Share of calls with a hit of {name}"
    drawn = rate_chart(RateChart(_id(name), title, points, shown.since, shown.now, shown.small, marks))
    return GuardView(name, config.guards.get(name), evidence, points, drawn, drift, live.get(name, LiveGuard()))


def _id(name: str) -> str:
    """An id of an element: names of guards have characters of their own."""
    return "rate-" + "".join(c if c.isalnum() else f"_{ord(c):x}" for c in name)


async def _live(services: PageServices) -> dict[str, LiveGuard]:
    """Reports of the gateways; none, where the stream server does not answer."""
    if services.corridor is None:
        return {}
    try:
        async with asyncio.timeout(_LIVE_WAIT_S):
            beats = await services.corridor.state.gateways()
    except (StreamDown, TimeoutError):
        return {}
    now = services.admin.clock()
    return live_guards([beat for beat in beats.values() if now - float(beat.get("at", 0.0)) <= _ALIVE_S])


def live_guards(beats: Sequence[Mapping[str, Any]]) -> dict[str, LiveGuard]:
    """beats: the heartbeats of gateways that are alive."""
    found: dict[str, LiveGuard] = {}
    for beat in beats:
        for name, row in as_object(beat.get("guards")).items():
            of, before = as_object(row), found.get(name, LiveGuard())
            found[name] = LiveGuard(
                before.failing or as_text(of.get("failing")),
                before.breaker_open or of.get("breaker_open") is True,
                before.gateways + 1,
                tuple(dict.fromkeys((*before.applied, *_applied(as_object(of.get("ramp")))))),
            )
    return found


def _applied(ramp: Mapping[str, Any]) -> Iterator[str]:
    """ramp: as a heartbeat has it; empty: there is none."""
    part = ramp.get("share")
    if isinstance(part, int | float):
        action, before = as_text(ramp.get("action")), as_text(ramp.get("before"))
        others = f", {before} for the others" if part < 1 else ""
        yield f"{action} for {number_format.share(part)} of the units{others}"


def headline(views: Sequence[GuardView]) -> str:
    """The page in a sentence of at most 90 characters. views: the most urgent first."""
    if not views:
        return "No guard is configured."
    texts = _headlines(views[0])
    return next((f"{text}." for text in texts if len(text) < MOST), f"{texts[-1]}.")


def _headlines(of: GuardView) -> Sequence[str]:
    """Sentences on the most urgent guard, the most informative first; the last always fits."""
    if of.live.failing:
        return f"The guard {of.name} gives no decision: {of.live.failing}", "A guard gives no decision"
    if of.changed:
        return f"{of.name}: {of.changed}", f"The guard {of.name} has changed", "A guard has changed"
    return f"{of.name} {of.sentence}", f"{of.name} {of.sentence.rpartition(';')[0]}", "Every guard decides"


PAGE = Page(
    path=HOME,
    title="Guards",
    routes=(
        PageRoute(HOME, show),
        PageRoute(f"{HOME}/of/{{name}}", show_one),
        PageRoute(f"{HOME}/ramp", command, methods=("POST",), role=ROLE),
    ),
)
