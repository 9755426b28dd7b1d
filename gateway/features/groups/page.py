"""The page Failures, and the part of Today with the largest groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from gateway.console.background_reader import BackgroundReader
from gateway.console.filters import shortened
from gateway.console.frame import Page, PageRoute, PageServices, render, services_of
from gateway.core.time_span import seconds_of
from gateway.features.calls.page import SPANS
from gateway.features.groups.finding import CUT, FailureGroup, GroupsFound
from gateway.features.groups.report import look, section_of
from gateway.features.groups.rows import CallChoice, scorers_with_failures
from gateway.reports import number_format as say
from gateway.store.query import Reading

PATH = "/console/failures"
OF_TODAY = f"{PATH}/today"
_USUAL = "7d"
_KEPT_S = 300.0
"""Seconds for which a page shows what was found."""
_WAIT_S = 0.12
_MOST_OF_TODAY = 3
_LEAST_SHARE = 0.05
_MOST = 90
"""Characters of the headline."""


@dataclass(frozen=True, slots=True)
class FailureSearch:
    """The filters in the address of the page."""

    since: str = _USUAL
    calls: str = ""

    @classmethod
    def of(cls, query: Mapping[str, str]) -> FailureSearch:
        return cls(query.get("since", "").strip() or _USUAL, query.get("calls", "").strip())


async def _found(services: PageServices, search: FailureSearch) -> list[GroupsFound] | None:
    """Groups that the search found; None while it runs in the background, since it reads thousands of requests. Raises
    InvalidDuration, StoreAway.
    """
    since = services.admin.clock() - seconds_of(search.since)
    imported = search.calls == "imported"

    def read(connection: Reading) -> list[GroupsFound]:
        names = scorers_with_failures(connection, since, CUT)
        return [look(connection, CallChoice(name, since, imported=imported), CUT) for name in names]

    reader: BackgroundReader = services.kept.setdefault("failures", BackgroundReader(services.tasks, _KEPT_S))
    kept = await reader.get(search, services.store_url, read, _WAIT_S)
    return None if kept is None else kept.value


async def show(request: Request) -> Response:
    search, trouble = FailureSearch.of(request.query_params), ""
    found: list[GroupsFound] | None = []
    try:
        found = await _found(services_of(request), search)
    except ValueError as error:
        trouble = str(error)
    return render(
        request,
        "failures.html.jinja",
        400 if trouble else 200,
        headers={"refresh": "1"} if found is None else {},
        reading=found is None,
        search=search,
        spans=[span for span in SPANS if span[0]],
        headline="Failures" if trouble or found is None else headline(found),
        sections=[(section_of(each, examples=False), each.groups) for each in found or ()],
        trouble=trouble,
    )


def headline(found: Sequence[GroupsFound]) -> str:
    """The page in a sentence: the group with the largest share of one scorer's failures."""
    if not found:
        return "No scorer found a failure"
    groups = [(each.choice.scorer, group) for each in found for group in each.groups]
    if not groups:
        return "Failures: no kind of call is shown to fail more than the others"
    scorer, group = max(groups, key=lambda pair: pair[1].estimate.share.value)
    head = f"{say.share(group.estimate.share.value)} of the failures of {shortened(scorer, 20)}: "
    return f"{head}{shortened(group.rule, _MOST - len(head))}"


async def show_of_today(request: Request) -> Response:
    """The part of Today: it is loaded once that page is there, which need not wait for it."""
    found = await _found(services_of(request), FailureSearch())
    if found is None:
        return render(request, "failures_of_today.html.jinja", headers={"refresh": "1"}, reading=True, groups=[])
    groups = [(each.choice.scorer, group) for each in found for group in each.groups]
    groups.sort(key=lambda pair: -pair[1].estimate.share.value)
    shown = [pair for pair in groups if pair[1].estimate.share.low >= _LEAST_SHARE][:_MOST_OF_TODAY]
    return render(request, "failures_of_today.html.jinja", reading=False, groups=[_line(*pair) for pair in shown])


def _line(scorer: str, group: FailureGroup) -> tuple[str, FailureGroup, str, str]:
    share = group.estimate.share
    since = "" if group.since is None else say.when(group.since)
    return scorer, group, f"{say.share(share.value)} ({say.share(share.low)} … {say.share(share.high)})", since


PAGE = Page(
    PATH,
    "Failures",
    (PageRoute(PATH, show, content=True), PageRoute(OF_TODAY, show_of_today, content=True)),
    content=True,
)
