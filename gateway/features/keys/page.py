"""The page Keys and cost: usage and cost by key and team, keys near a limit, and the keys and teams that can be changed
here.

The limits used are those that the gateways count on the stream server.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any
from urllib.parse import quote, urlencode

from starlette.requests import Request
from starlette.responses import Response

from gateway.config.derive import directory_of
from gateway.console.admin import Admin
from gateway.console.errors import AdminError, Conflict, InvalidBody, NotThere
from gateway.console.filters import percent, shortened, usd
from gateway.console.forms import Form, form_actor
from gateway.console.frame import Page, PageRoute, PageServices, redirect, render, services_of, visitor_of
from gateway.core.errors import StreamDown
from gateway.core.keys import AnyRecord, KeyRecord, LimitedRecord, TeamRecord, record_kind, with_defaults
from gateway.core.limits import LimitScope
from gateway.core.wildcards import is_unknown
from gateway.features.keys import directory
from gateway.features.keys.directory import Changed
from gateway.features.keys.limits_used import UsedLimit, amount_text, scope_of, used_limits
from gateway.features.keys.settings import view_of
from gateway.features.usage import summary as usage
from gateway.features.usage.summary import UsageReport
from gateway.reports.charts import Chart
from gateway.reports.time_charts import DayBars, day_chart
from gateway.store.directory import DirectoryPage, DirectoryRow, Kind, find_row, limited_records, list_rows
from gateway.store.query import Reading
from gateway.store.usage import UsageRow

HOME = "/console/keys"
KEYS_OF_A_PAGE = 50
MOST_TEAMS = 200
MOST_LIMITED = 500
MOST_NEAR = 20
MEASURED = (
    *(f"{measure}_per_{window}" for measure in ("requests", "tokens") for window in ("minute", "day", "month")),
    "usd_per_day",
    "usd_per_month",
    "gpu_seconds_per_day",
    "gpu_seconds_per_month",
    "concurrency",
)
"""The limits that the form has; the others are kept as they are."""


@dataclass(frozen=True, slots=True)
class _Overview:
    """The figures that the page reads from the store, at once."""

    keys: list[DirectoryRow]
    teams: list[DirectoryRow]
    limited: list[AnyRecord]
    by_team: UsageReport
    by_key: UsageReport
    by_day: UsageReport


@dataclass(frozen=True, slots=True)
class ShownKey:
    id: str
    name: str
    team: str
    state: str
    """State: in force, disabled, expired, or revoked."""
    limits: str
    usage: UsageRow | None
    url: str
    """Path of its page; "" if it is in gateway.yaml, which this page does not change."""


@dataclass(frozen=True, slots=True)
class ShownTeam:
    id: str
    organization: str
    disabled: bool
    limits: str
    url: str


async def list_page(request: Request) -> Response:
    services = services_of(request)
    after, team = request.query_params.get("after", ""), request.query_params.get("team", "")
    since, until = _month(services)
    page = DirectoryPage(after, KEYS_OF_A_PAGE + 1, team=team or None)

    def read(connection: Reading) -> _Overview:
        return _Overview(
            list_rows(connection, "key", page),
            list_rows(connection, "team", DirectoryPage(limit=MOST_TEAMS)),
            limited_records(connection, MOST_LIMITED),
            usage.report(connection, ("source", "team"), since, until),
            usage.report(connection, ("key",), since, until),
            usage.report(connection, ("day",), since, until),
        )

    found = await services.admin.store.read(read)
    static = directory_of(services.admin.config())
    groups = (static.keys, static.people, static.teams, static.organizations)
    records: list[LimitedRecord] = [record for group in groups for record in group.values()]
    stored = {(record_kind(each), each.id): each for each in (*found.limited, *(row.record for row in found.keys))}
    both = (*records, *stored.values())
    limited = [scope_of(with_defaults(static, each) if isinstance(each, KeyRecord) else each) for each in both]
    used, trouble = await _used(services, limited)
    by_key = {row.by["key"]: row for row in found.by_key.rows}
    shown = found.keys[:KEYS_OF_A_PAGE]
    now = services.admin.clock()
    names = _names([*static.keys.values(), *(row.record for row in found.keys), *found.limited])
    limits = [_limit(each, names) for each in used[:MOST_NEAR]]
    following = shown[-1].record.id if len(found.keys) > len(shown) else ""
    keys = [] if after or team else [(key, "") for key in static.keys.values()]
    keys += [(row.record, url_of("key", row.record.id)) for row in shown if isinstance(row.record, KeyRecord)]
    teams: list[tuple[AnyRecord, str]] = [(each, "") for each in static.teams.values()]
    teams += [(row.record, url_of("team", row.record.id)) for row in found.teams]
    return render(
        request,
        "keys.html.jinja",
        since=since.isoformat(),
        until=until.isoformat(),
        total=found.by_team.total,
        headline=headline(found.by_team.total, limits),
        chart=_cost_chart(found.by_day, since, until),
        by_team=found.by_team.rows,
        days=_days(found.by_day),
        near=[each for each in used if each.near],
        limits=limits,
        trouble=trouble,
        keys=[_key(key, by_key, now, url) for key, url in keys],
        teams=[_team(team, url) for team, url in teams],
        team=team,
        next_url=f"{HOME}?{urlencode({'after': following, 'team': team})}" if following else "",
        first_url=HOME if after else "",
    )


def headline(total: UsageRow, limits: Sequence[Mapping[str, Any]]) -> str:
    """The page in a sentence: what the month has cost, and the limit of which the most is used.

    limits: the most used first."""
    if not total.sums.calls:
        return "No usage in this month"
    least = "At least " if total.sums.unpriced_calls else ""
    head = f"{'An unknown amount' if total.usd is None else f'{least}{usd(total.usd)}'} this month"
    first = next((each for each in limits if each["resets_at"] is not None), None)
    if first is None:
        return f"{head}; nobody has a limit"
    return f"{head}; {shortened(first['scope'], 24)} has used {percent(first['share'])} of {first['limit']}"


def _cost_chart(by_day: UsageReport, since: date, until: date) -> Chart | None:
    cost = {row.by["day"]: row.usd or 0.0 for row in by_day.rows}
    days = [(since + timedelta(days=n)).isoformat() for n in range((until - since).days + 1)]
    return day_chart(DayBars("cost", "Cost by day", [(day, cost.get(day, 0.0)) for day in days], usd))


def url_of(kind: Kind, id: str) -> str:
    return f"{HOME}/{kind}/{quote(id, safe='')}"


def _month(services: PageServices) -> tuple[Any, Any]:
    """The current month until today, in UTC."""
    return usage.days(None, None, datetime.fromtimestamp(services.admin.clock(), UTC))


def _days(report: UsageReport) -> list[dict[str, Any]]:
    """The usage of each day, with the height of its bar in percent of the costliest."""
    most = max((row.usd or 0.0 for row in report.rows), default=0.0)
    return [
        {"day": row.by["day"], "row": row, "height": 100 * (row.usd or 0.0) / most if most else 0.0}
        for row in report.rows
    ]


async def _used(services: PageServices, scopes: Iterable[LimitScope]) -> tuple[list[UsedLimit], str]:
    """Returns the used limits, and why they are unknown."""
    if services.corridor is None:
        return [], "this console has no stream server, so the used amounts of limits are unknown"
    try:
        return await used_limits(services.corridor, scopes, services.admin.clock()), ""
    except StreamDown as error:
        return [], f"{error}; the used amounts of limits are unknown"


def _limit(used: UsedLimit, names: Mapping[str, str]) -> dict[str, Any]:
    name = names.get(used.scope.id, used.scope.id) if used.scope.kind == "key" else used.scope.id
    return {
        "scope": f"{used.scope.kind} {name}",
        "limit": used.limit.name,
        "amount": amount_text(used.limit, used.limit.amount),
        "spent": amount_text(used.limit, used.spent),
        "share": used.share,
        "near": used.near,
        "resets_at": used.resets_at,
    }


def _names(records: Iterable[AnyRecord]) -> dict[str, str]:
    return {record.id: record.name for record in records if isinstance(record, KeyRecord)}


def _key(record: KeyRecord, by_key: Mapping[str, UsageRow], now: float, url: str) -> ShownKey:
    expired = record.expires is not None and record.expires <= now
    state = "disabled" if record.disabled else "expired" if expired else "in force"
    return ShownKey(record.id, record.name, record.team or "", state, limits_text(record), by_key.get(record.id), url)


def _team(record: AnyRecord, url: str) -> ShownTeam:
    organization = getattr(record, "organization", None) or ""
    return ShownTeam(record.id, organization, record.disabled, limits_text(record), url)


def limits_text(record: AnyRecord) -> str:
    """The limits as in "requests_per_minute 60, usd_per_month 500"."""
    return ", ".join(f"{limit.name} {limit.amount:g}" for limit in scope_of(record).limits)


async def record_page(
    request: Request, kind: Kind, *, changed: Changed | None = None, error: AdminError | None = None
) -> Response:
    """A key or a team. changed: a change that was just made; a new secret is in it, and is on this page alone."""
    services, scope = services_of(request), visitor_of(request).actor.scope
    id = changed.row.record.id if changed else request.path_params["id"]
    since, until = _month(services)

    def read(connection: Reading) -> tuple[DirectoryRow | None, UsageReport, list[DirectoryRow]]:
        row = find_row(connection, kind, id)
        used = usage.report(connection, ("day", "model"), since, until, {kind: id})
        members = list_rows(connection, "key", DirectoryPage(team=id)) if kind == "team" else []
        return row, used, members

    row, used, members = await services.admin.store.read(read)
    if row is None:
        raise NotThere(f'there is no {kind} "{id[:200]}"')
    limits, trouble = await _used(services, [scope_of(row.record)])
    names = _names([row.record])
    return render(
        request,
        "key_page.html.jinja",
        status=200 if error is None else error.status,
        kind=kind,
        row=row,
        view=view_of(row),
        name=getattr(row.record, "name", row.record.id),
        limits=[_limit(each, names) for each in limits],
        trouble=trouble,
        usage=used,
        members=[{"name": getattr(m.record, "name", ""), "url": url_of("key", m.record.id)} for m in members],
        given_limits={name: row.record.limits.get(name) for name in MEASURED},
        other_limits=sorted(set(row.record.limits) - set(MEASURED)),
        changeable=kind == "key" or scope is None or scope.kind == "organization",
        secret=None if changed is None else changed.secret,
        published=changed is None or changed.published,
        error=error,
    )


async def new_page(
    request: Request, kind: Kind, *, given: Mapping[str, str] | None = None, error: AdminError | None = None
) -> Response:
    """The form of a new key or team. given, error: the values that were sent, and what is wrong with them."""
    services = services_of(request)
    page = DirectoryPage(limit=MOST_TEAMS)
    teams, organizations = await services.admin.store.read(
        lambda c: (list_rows(c, "team", page), list_rows(c, "organization", page))
    )
    config = services.admin.config()
    static = directory_of(config)
    limited = services.admin.whole is not None
    fields = ("name", "id", "team", "person", "organization", "models", "expires", *MEASURED)
    return render(
        request,
        "key_new.html.jinja",
        status=200 if error is None else error.status,
        kind=kind,
        given={name: (given or {}).get(name, "") for name in fields},
        measured=MEASURED,
        teams=[*([] if limited else [("", "no team")]), *_choices(static.teams, teams)],
        organizations=[*([] if limited else [("", "none")]), *_choices(static.organizations, organizations)],
        people=[] if limited or not config.people else [("", "nobody"), *((name, name) for name in config.people)],
        models=_offered_models(services.admin, [*static.teams.values(), *(row.record for row in teams)]),
        error=error,
    )


def _offered_models(admin: Admin, teams: Iterable[AnyRecord]) -> list[str]:
    """The models that a new key may name; with limited rights, those that one of the teams may use."""
    if admin.whole is None:
        return list(admin.config().models)
    allowed = [team.models for team in teams if isinstance(team, TeamRecord)]
    aliases = admin.whole.config().models
    return [each for each in aliases if any(models is None or not is_unknown(each, models) for models in allowed)]


def _choices(of_file: Iterable[str], stored: Iterable[DirectoryRow]) -> list[tuple[str, str]]:
    return [(id, id) for id in (*of_file, *(row.record.id for row in stored))]


async def make_key(request: Request) -> Response:
    """Answers with the new key's page itself: no redirect, so that its secret is shown this once and never again."""
    form = await form_actor(request, "operator", "make keys")
    try:
        body: dict[str, Any] = {"name": form.get("name"), "limits": _limits(form)}
        body |= {"team": form.get("team")} if form.get("team") else {}
        body |= {"person": form.get("person")} if form.get("person") else {}
        body |= {"models": form.all("models")} if form.all("models") else {}
        body |= {"expires": f"{form.get('expires')}T00:00:00Z"} if form.get("expires") else {}
        changed = await directory.create_record(services_of(request).admin, form.actor, "key", body)
    except AdminError as error:
        return await new_page(request, "key", given=_given(form), error=error)
    return await record_page(request, "key", changed=changed)


async def make_team(request: Request) -> Response:
    form = await form_actor(request, "owner", "make teams")
    try:
        body: dict[str, Any] = {"id": form.get("id"), "limits": _limits(form)}
        body |= {"organization": form.get("organization")} if form.get("organization") else {}
        changed = await directory.create_record(services_of(request).admin, form.actor, "team", body)
    except AdminError as error:
        return await new_page(request, "team", given=_given(form), error=error)
    return redirect(request, url_of("team", changed.row.record.id), f"the team {form.get('id')} is made")


def _given(form: Form) -> dict[str, str]:
    return {name: form.get(name) for name in form.values if name != "csrf"}


def _limits(form: Form) -> dict[str, Any]:
    """The limits that were filled in. Raises InvalidBody."""
    return {name: value for name, value in _limit_patch(form).items() if value is not None}


def _limit_patch(form: Form) -> dict[str, Any]:
    """Every limit of the form; None if the field is empty. Raises InvalidBody."""
    found: dict[str, Any] = {}
    for name in MEASURED:
        text = form.get(name).replace("\u202f", "").replace(" ", "")
        try:
            value = float(text) if text else None
        except ValueError:
            raise InvalidBody(f"{name}: expected a number, got {text[:40]!r}") from None
        whole = value is not None and value.is_integer() and not name.startswith(("usd", "gpu_seconds"))
        found[name] = int(value) if whole and value is not None else value
    return found


async def change_limits(request: Request) -> Response:
    kind = _kind_of(request)
    form = await form_actor(request, "operator", f"change {kind}s")
    id = request.path_params["id"]
    try:
        patch = {"limits": _limit_patch(form)}
        await directory.change_record(services_of(request).admin, form.actor, kind, id, patch)
    except NotThere:
        raise
    except AdminError as error:
        return await record_page(request, kind, error=error)
    return redirect(request, url_of(kind, id), "the limits are in force on every gateway within a second")


async def switch(request: Request) -> Response:
    """Disables or enables a key or a team."""
    kind = _kind_of(request)
    form = await form_actor(request, "operator", f"disable {kind}s")
    id, off = request.path_params["id"], form.get("disabled") == "1"
    await directory.change_record(services_of(request).admin, form.actor, kind, id, {"disabled": off})
    return redirect(request, url_of(kind, id), f"the {kind} is {'disabled' if off else 'enabled'}")


async def rotate(request: Request) -> Response:
    """Rotate a key; as with make_key, the new secret is on this page alone."""
    form = await form_actor(request, "operator", "rotate keys")
    try:
        overlap_s = round(3600 * float(form.get("overlap_h") or 24))
    except ValueError:
        raise InvalidBody(f"overlap: expected hours, got {form.get('overlap_h')[:40]!r}") from None
    changed = await directory.rotate_key(
        services_of(request).admin, form.actor, request.path_params["id"], {"overlap_s": overlap_s}
    )
    return await record_page(request, "key", changed=changed)


async def revoke(request: Request) -> Response:
    form = await form_actor(request, "operator", "revoke keys")
    if form.get("sure") != "yes":
        raise Conflict("a revoked key cannot be put in force again: tick the box to confirm")
    changed = await directory.revoke_key(
        services_of(request).admin, form.actor, request.path_params["id"], end_streams=form.checked("end_streams")
    )
    name = getattr(changed.row.record, "name", "")
    return redirect(request, HOME, f"the key {name} is revoked")


async def delete_team(request: Request) -> Response:
    form = await form_actor(request, "owner", "delete teams")
    await directory.delete_record(services_of(request).admin, form.actor, "team", request.path_params["id"])
    return redirect(request, HOME, f"the team {request.path_params['id']} is deleted")


def _kind_of(request: Request) -> Kind:
    return "team" if request.scope["path"].startswith(f"{HOME}/team/") else "key"


PAGE = Page(
    path=HOME,
    title="Keys and cost",
    routes=(
        PageRoute(HOME, list_page, scoped=True),
        PageRoute(f"{HOME}/new", partial(new_page, kind="key"), role="operator", scoped=True),
        PageRoute(f"{HOME}/new", make_key, methods=("POST",), role="operator", scoped=True),
        PageRoute(f"{HOME}/new-team", partial(new_page, kind="team"), role="owner", scoped=True),
        PageRoute(f"{HOME}/new-team", make_team, methods=("POST",), role="owner", scoped=True),
        PageRoute(f"{HOME}/key/{{id}}", partial(record_page, kind="key"), scoped=True),
        PageRoute(f"{HOME}/key/{{id}}/limits", change_limits, methods=("POST",), role="operator", scoped=True),
        PageRoute(f"{HOME}/key/{{id}}/switch", switch, methods=("POST",), role="operator", scoped=True),
        PageRoute(f"{HOME}/key/{{id}}/rotate", rotate, methods=("POST",), role="operator", scoped=True),
        PageRoute(f"{HOME}/key/{{id}}/revoke", revoke, methods=("POST",), role="operator", scoped=True),
        PageRoute(f"{HOME}/team/{{id}}", partial(record_page, kind="team"), scoped=True),
        PageRoute(f"{HOME}/team/{{id}}/limits", change_limits, methods=("POST",), role="owner", scoped=True),
        PageRoute(f"{HOME}/team/{{id}}/switch", switch, methods=("POST",), role="operator", scoped=True),
        PageRoute(f"{HOME}/team/{{id}}/delete", delete_team, methods=("POST",), role="owner", scoped=True),
    ),
)
