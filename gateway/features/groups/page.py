"""The page Failures, and the part of Today with the largest groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.responses import Response

from gateway.console.filters import shortened
from gateway.console.frame import Page, PageRoute, PageServices, render, services_of
from gateway.features.calls.page import SPANS
from gateway.features.calls.samples import seconds_of
from gateway.features.groups.finding import CUT, FailureGroup, GroupsFound
from gateway.features.groups.report import look, section_of
from gateway.features.groups.rows import CallChoice, scorers_with_failures
from gateway.reports import number_format as say
from gateway.store.query import Reading

PATH = "/console/failures"
OF_TODAY = f"{PATH}/today"
_USUAL = "7d"
_KEPT_S = 300.0
"""Duration for which a page shows a result: a search reads thousands of requests."""
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


@dataclass(slots=True)
class _FoundGroups:
    """Recent results by search, with their times."""

    found: dict[FailureSearch, tuple[float, list[GroupsFound]]] = field(default_factory=dict)


async def _found(services: PageServices, search: FailureSearch) -> list[GroupsFound]:
    """Raises InvalidDuration."""
    kept: _FoundGroups = services.kept.setdefault("failure groups", _FoundGroups())
    now = services.admin.clock()
    at, found = kept.found.get(search, (float("-inf"), []))
    if now - at < _KEPT_S:
        return found
    since = now - seconds_of(search.since)
    imported = search.calls == "imported"

    def names(connection: Reading) -> list[str]:
        return scorers_with_failures(connection, since, CUT)

    found = []
    for name in await services.admin.store.read(names):  # a transaction each, which has a deadline
        choice = CallChoice(name, since, imported=imported)
        found.append(await services.admin.store.read(lambda c, choice=choice: look(c, choice, CUT)))  # type: ignore[misc]
    kept.found = {search: (now, found), **{s: f for s, f in kept.found.items() if now - f[0] < _KEPT_S}}
    return found


async def show(request: Request) -> Response:
    search, trouble = FailureSearch.of(request.query_params), ""
    found: list[GroupsFound] = []
    try:
        found = await _found(services_of(request), search)
    except ValueError as error:
        trouble = str(error)
    return render(
        request,
        "failures.html.jinja",
        400 if trouble else 200,
        search=search,
        spans=[span for span in SPANS if span[0]],
        headline="Failures" if trouble else headline(found),
        sections=[(section_of(each, examples=False), each.groups) for each in found],
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
    groups = [(each.choice.scorer, group) for each in found for group in each.groups]
    groups.sort(key=lambda pair: -pair[1].estimate.share.value)
    shown = [pair for pair in groups if pair[1].estimate.share.low >= _LEAST_SHARE][:_MOST_OF_TODAY]
    return render(request, "failures_of_today.html.jinja", groups=[_line(*pair) for pair in shown])


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
