"""The page Routes: learned routes by leaf, the curve that each was chosen from, and a form that learns another one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from gateway.config.config import Config
from gateway.config.derive import plans_of
from gateway.config.routes import is_route, route_path, watch_name, write_route
from gateway.console.errors import InvalidBody
from gateway.console.filters import percent, shortened
from gateway.console.forms import form_actor
from gateway.console.frame import Page, PageRoute, redirect, render, services_of
from gateway.core.errors import CannotRun
from gateway.core.learned_route import NAMES, Kind, LearnedRoute, RouteLeaf
from gateway.core.plan import UNBOUNDED_METRICS
from gateway.features.route.curve import curve_chart
from gateway.features.route.experiment import pairs_of, terms_of
from gateway.features.route.learning import learn
from gateway.features.route.model import LearnedChoice, RouteTerms
from gateway.features.route.report import yaml_lines
from gateway.features.route.rows import LeafCalls, leaf_calls, watched_pairs
from gateway.features.route.watch.alarm import WatchedLeaf, watched_leaves
from gateway.features.route.work import returned_leaves
from gateway.reports.charts import Chart
from gateway.reports.number_format import counted
from gateway.store.query import Reading

HOME = "/console/routes"
_KINDS = {
    "tree": "tree: groups that people can read",
    "boosted": "boosted trees: needs the extra learn",
    "cascade": "cascade: the cheaper model answers plain calls first, and its answer decides as well",
}
DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class LeafRow:
    """One leaf, as the page shows it."""

    number: int
    leaf: RouteLeaf
    calls: LeafCalls | None
    watched: WatchedLeaf | None
    returned: bool


@dataclass(frozen=True, slots=True)
class RouteView:
    route: LearnedRoute
    rows: tuple[LeafRow, ...]
    unlike: LeafCalls | None
    chart: Chart | None


async def show(request: Request, error: str = "", status: int = 200) -> Response:
    services = services_of(request)
    config, since = services.admin.config(), services.admin.clock() - DAY_S
    views = await services.admin.store.read(lambda c: [_view(c, each.route, since) for each in config.routes.values()])
    experiment, kind = request.query_params.get("experiment", ""), request.query_params.get("kind", "tree")
    learned: tuple[RouteTerms, LearnedChoice] | None = None
    if experiment and not error:
        found = await services.admin.store.read(lambda c: _tried(c, config, experiment, kind))
        if isinstance(found, str):
            error, status = found, 400
        else:
            learned = found
    shown: dict[str, Any] = {
        "headline": headline(views),
        "views": views,
        "experiments": [(name, name) for name in _learnable(config)],
        "kinds": list(_KINDS.items()),
        "experiment": experiment,
        "kind": kind,
        "error": error,
        "learned": None if learned is None else learned[1],
        "terms": None if learned is None else learned[0],
        "chart": None if learned is None else curve_chart(learned[1].evidence),
    }
    return render(request, "routes.html.jinja", status=status, **shown)


def headline(views: Sequence[RouteView]) -> str:
    """The page in a sentence: the share of requests that the routes move, and how many groups were taken back."""
    if not views:
        return "No learned route yet"
    taken = sum(row.returned for view in views for row in view.rows)
    back = f"; {counted(taken, 'group')} taken back" if taken else ""
    first, share = views[0].route, sum(row.leaf.share for row in views[0].rows if row.leaf.moved and not row.returned)
    names = f"{shortened(first.name, 16)} moves {percent(share)} of {shortened(first.alias, 16)}"
    more = f"; {counted(len(views), 'route')} in all" if len(views) > 1 else ""
    return f"{names} to {shortened(first.moved.target.model, 16)}{back}{more}"


def _view(connection: Reading, route: LearnedRoute, since: float) -> RouteView:
    calls = {each.label: each for each in leaf_calls(connection, route.name, since)}
    pairs = watched_pairs(connection, watch_name(route.name), str(route.evidence["primary"]))
    watched = {leaf.leaf: leaf for leaf in watched_leaves(route, pairs)}
    returned = returned_leaves(connection, route.digest)
    rows = tuple(
        LeafRow(i, leaf, calls.get(f"{route.name}/{i}"), watched.get(i), i in returned)
        for i, leaf in enumerate(route.leaves)
    )
    return RouteView(route, rows, calls.get(f"{route.name}/unlike"), curve_chart(route.evidence))


def _learnable(config: Config) -> list[str]:
    """Experiments whose pairs may teach a route, as far as the config says."""
    found: Mapping[str, Any] = plans_of(config)
    return [
        name
        for name, plan in found.items()
        if plan.primary and plan.primary not in UNBOUNDED_METRICS and plan.shadow and not plan.likelihood
        and not plan.guarded and not any(is_route(target) for _, target in plan.candidates)
    ]  # fmt: skip


def _tried(connection: Reading, config: Config, experiment: str, kind: str) -> tuple[RouteTerms, LearnedChoice] | str:
    """Shows what was learned, or the reason why nothing can be."""
    wanted: Kind = "boosted" if kind == "boosted" else "tree"
    try:
        terms = replace(terms_of(connection, config, experiment), kind=wanted, cascade=kind == "cascade")
        return terms, learn(terms, pairs_of(connection, terms))
    except CannotRun as why:
        return str(why)


async def freeze(request: Request) -> Response:
    """Learns the route again, and writes its file next to gateway.yaml."""
    form = await form_actor(request, "owner", "freeze learned routes")
    services, config = services_of(request), services_of(request).admin.config()
    experiment, name = form.get("experiment"), form.get("name")
    if not NAMES.fullmatch(name):
        raise InvalidBody(f"name: {name[:80]!r}: expected letters, digits, `_`, `-` and `.`, up to 64")
    found = await services.admin.store.read(lambda c: _tried(c, config, experiment, form.get("kind", "tree")))
    if isinstance(found, str):
        return await show(request, found, 400)
    terms, choice = found
    if choice.route is None:
        return await show(request, "no share can be moved at this margin, so there is nothing to freeze", 400)
    named = replace(choice.route, name=name, digest="")
    try:
        write_route(route_path(services.config_path, name), named)
    except CannotRun as why:
        return await show(request, str(why), 400)
    written = yaml_lines(named, str(terms.plan.primary), terms.margin)
    return redirect(
        request, HOME, f"gateway.route.{name}.json is written. Its experiment, for gateway.yaml:\n{written}"
    )


PAGE = Page(
    path=HOME,
    title="Routes",
    routes=(PageRoute(HOME, show), PageRoute(HOME, freeze, methods=("POST",), role="owner")),
)
