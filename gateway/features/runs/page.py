"""The pages of runs: the list, the worst first by a scorer of runs, and one run as a timeline of its calls."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response

from gateway.console.errors import NotThere, StreamAway
from gateway.console.filters import count, shortened, usd
from gateway.console.forms import form_actor
from gateway.console.frame import Page, PageRoute, PageServices, redirect, render, services_of, visitor_of
from gateway.core.run_ceilings import NEAR_END
from gateway.core.time_span import seconds_of
from gateway.features.calls.page import SPANS, PageSearch, parsed_after, target_text
from gateway.features.runs.live import RunCeilingUse, by_burn
from gateway.features.runs.operations import extend_by, read_ceilings, read_live, stop_by
from gateway.features.runs.report import first_failure, readable_run
from gateway.features.runs.rows import RunFilter, RunPage, full_run, list_runs, scorers_of_runs
from gateway.reports import number_format as say
from gateway.reports.charts import Drawing, amount_bar
from gateway.reports.model import Estimate
from gateway.store.query import Reading

PATH = "/console/runs"
SHOWN_LIVE = 200
"""Ceilings on the page of live runs."""
_ID = re.compile(r"run_[0-9a-f]{24}")


@dataclass(frozen=True, slots=True)
class ShownCeiling:
    """A ceiling of a run as the pages draw it."""

    use: RunCeilingUse
    key: str
    """Name of the key."""
    used: str
    of: str
    per_hour: str
    bar: Drawing | None


def shown(use: RunCeilingUse, now: float) -> ShownCeiling:
    key, minutes = use.run.partition("/")[0], use.ended == "minutes" and use.endless
    total = 1.0 if minutes else min(1.0, use.share)
    bar = amount_bar(Estimate(total), 1.0, "candidate" if total >= NEAR_END else "control")
    if minutes:
        text = f"{use.minutes + use.minutes_added:g} minutes"
        return ShownCeiling(use, key, text, text, "", bar)
    used = use.spent + use.reserved
    return ShownCeiling(use, key, _text(use, used), _text(use, use.amount), _text(use, use.per_hour(now)), bar)


def _text(use: RunCeilingUse, amount: float) -> str:
    return usd(amount) if use.ceiling == "usd" else f"{count(amount)} {use.ceiling}"


@dataclass(frozen=True, slots=True)
class RunSearch(PageSearch):
    """The filters of runs."""

    path: ClassVar[str] = PATH

    caller: str = ""
    since: str = ""
    worst: str = ""
    after: str = ""

    def filter(self, now: float) -> RunFilter:
        """Raises ValueError for a time span or a page that does not exist."""
        since = now - seconds_of(self.since) if self.since else None
        return RunFilter(self.caller, since, self.worst, parsed_after(self.after) if self.after else None)


async def list_page(request: Request) -> Response:
    search, services = RunSearch.of(request.query_params), services_of(request)
    trouble, page = "", RunPage((), None)

    def reading(connection: Reading) -> RunPage:
        return list_runs(connection, wanted)

    try:
        wanted = search.filter(services.admin.clock())
        page = await services.admin.store.read(reading)
    except ValueError as error:
        trouble = str(error)
    scorers = await services.admin.store.read(scorers_of_runs)
    return render(
        request,
        "runs.html.jinja",
        400 if trouble else 200,
        search=search,
        page=page,
        headline=headline(search, page),
        next="" if page.next is None else search.address(after=f"{page.next[0]!r}~{page.next[1]}"),
        first=search.address(after="") if search.after else "",
        trouble=trouble,
        scorers=sorted({*scorers, *([search.worst] if search.worst else [])}),
        spans=SPANS,
    )


def headline(search: RunSearch, page: RunPage) -> str:
    """The list in a sentence: how many runs, and how many of them had a call that failed."""
    n, failed = len(page.runs), sum(bool(run["failed"]) for run in page.runs)
    if not n:
        return "No run meets these conditions" if search.address(after="") != PATH else "No run yet"
    order = f", the worst by {shortened(search.worst, 30)}" if search.worst else ""
    which = "Further" if search.after else "The newest" if page.next and not order else ""
    words = f"{which} {say.counted(n, 'run')}".strip()
    return f"{words}{order}; {failed or 'none'} had a call that failed"


async def run_page(request: Request) -> Response:
    services, id = services_of(request), request.path_params["id"]
    found = await services.admin.store.read(lambda connection: full_run(connection, id))
    whole = not visitor_of(request).limited
    ceilings = await _ceilings(services, id) if found is not None or whole else []
    if found is None and ceilings:
        return render(request, "run_ceilings.html.jinja", run_id=id, ceilings=ceilings)
    if found is None:
        raise NotThere(f"no run {id[:60]} is in the store: none of its calls was sampled, or they were deleted")
    run = readable_run(found)
    return render(
        request,
        "run_timeline.html.jinja",
        run=run,
        ceilings=ceilings,
        run_id=id,
        failure=first_failure(run),
        content=visitor_of(request).actor.content,
        target_text=target_text,
    )


async def _ceilings(services: PageServices, id: str) -> list[ShownCeiling]:
    """The ceilings of a run; none while the stream server does not answer: the calls are in the store."""
    if services.corridor is None:
        return []
    try:
        uses = await read_ceilings(services.corridor, id)
    except StreamAway:
        return []
    return [shown(use, services.admin.clock()) for use in uses if not use.endless or use.ended]


async def live_page(request: Request) -> Response:
    """The live runs with a ceiling, the dearest an hour first."""
    services = services_of(request)
    if services.corridor is None:
        raise NotThere("this console has no stream server, where ceilings of runs are counted")
    now = services.admin.clock()
    uses = [use for use in by_burn(await read_live(services.corridor), now) if not use.endless or use.ended]
    return render(
        request,
        "runs_live.html.jinja",
        ceilings=[shown(use, now) for use in uses[:SHOWN_LIVE]],
        more=max(0, len(uses) - SHOWN_LIVE),
        headline=live_headline(uses),
    )


def live_headline(uses: Sequence[RunCeilingUse]) -> str:
    runs, asking = {use.run_id for use in uses}, {use.run_id for use in uses if use.asks}
    if not runs:
        return "No run with a ceiling had a call in the last day"
    head = f"{say.counted(len(runs), 'run')} with a ceiling had a call in the last day"
    return f"{head}; {say.counted(len(asking), 'run')} wait{'s' * (len(asking) == 1)} for a person" if asking else head


async def stop(request: Request) -> Response:
    form = await form_actor(request, "operator", "stop runs")
    id = form.get("run")
    await _require_own(request, id)
    await stop_by(services_of(request).admin, (form.actor.name, form.actor.title), id)
    return redirect(request, f"{PATH}/{quote(id, safe='')}", "The run is stopped: its further calls are refused")


async def more(request: Request) -> Response:
    form = await form_actor(request, "operator", "add to the ceiling of a run")
    id, services = form.get("run"), services_of(request)
    await _require_own(request, id)
    uses = [] if services.corridor is None else await read_ceilings(services.corridor, id)
    now = await extend_by(services.admin, (form.actor.name, form.actor.title), uses)
    return redirect(request, f"{PATH}/{quote(id, safe='')}", f"The run may use {now} now")


async def _require_own(request: Request, id: str) -> None:
    """Raises NotThere for an id that is none of a run, or of a run that the visitor may not see."""
    services = services_of(request)
    if not _ID.fullmatch(id):
        raise NotThere("there is no run with this id")
    if visitor_of(request).limited and await services.admin.store.read(lambda c: full_run(c, id)) is None:
        raise NotThere("no run of your team or organization in the store has this id")


PAGE = Page(
    PATH,
    "Runs",
    (
        PageRoute(PATH, list_page, scoped=True),
        PageRoute(f"{PATH}/live", live_page),
        PageRoute(f"{PATH}/stop", stop, ("POST",), "operator", scoped=True),
        PageRoute(f"{PATH}/more", more, ("POST",), "operator", scoped=True),
        PageRoute(f"{PATH}/{{id}}", run_page, scoped=True),
    ),
)
