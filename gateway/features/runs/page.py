"""The pages of runs: the list, the worst first by a scorer of runs, and one run as a timeline of its calls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from starlette.requests import Request
from starlette.responses import Response

from gateway.console.errors import NotThere
from gateway.console.filters import shortened
from gateway.console.frame import Page, PageRoute, render, services_of, visitor_of
from gateway.core.time_span import seconds_of
from gateway.features.calls.page import SPANS, PageSearch, parsed_after, target_text
from gateway.features.runs.report import first_failure, readable_run
from gateway.features.runs.rows import RunFilter, RunPage, full_run, list_runs, scorers_of_runs
from gateway.reports import number_format as say
from gateway.store.query import Reading

PATH = "/console/runs"


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
    if found is None:
        raise NotThere(f"no run {id[:60]} is in the store: none of its calls was sampled, or they were deleted")
    run = readable_run(found)
    return render(
        request,
        "run_timeline.html.jinja",
        run=run,
        failure=first_failure(run),
        content=visitor_of(request).actor.content,
        target_text=target_text,
    )


PAGE = Page(PATH, "Runs", (PageRoute(PATH, list_page, scoped=True), PageRoute(f"{PATH}/{{id}}", run_page, scoped=True)))
