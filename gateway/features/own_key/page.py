"""The page of a key, for the holder of its secret: what it has used, what is left, and a new secret.

The secret is sent in a form, once, and becomes a session whose cookie goes to this page alone: no address and no log
has it, and no other page of the console knows the session.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from gateway.config.reserved_names import KEY_ACTOR
from gateway.console.errors import AdminError, NoToken, NotPermitted, NotThere, StreamAway, TooManyFailures
from gateway.console.filters import count, usd
from gateway.console.forms import check_key_form, check_origin, read_form
from gateway.console.frame import (
    KEY_COOKIE,
    KEY_ROOT,
    Page,
    PageRoute,
    PageServices,
    key_session_of,
    redirect,
    render,
    services_of,
    set_key_session,
)
from gateway.features.keys.limits_used import amount_text
from gateway.features.own_key.holder import (
    KeyHolder,
    OwnKey,
    digest_of,
    holder_by_secret,
    holder_of,
    read_own_key,
    rotate_own_key,
    rotated_view,
    self_service,
    why_not_rotated,
)
from gateway.features.runs.live import RunCeilingUse
from gateway.features.runs.notice_source import end_text
from gateway.features.runs.operations import extend_by, read_asking

LOGIN = f"{KEY_ROOT}/login"


async def show_login(request: Request) -> Response:
    self_service(services_of(request).admin)
    return render(request, "own_key_login.html.jinja", trouble="")


async def sign_in(request: Request) -> Response:
    services = services_of(request)
    self_service(services.admin)
    check_origin(request)
    secret = (await read_form(request)).get("key", [""])[-1].strip()
    try:
        holder = await holder_by_secret(services.admin, secret, services.login.address_of(request))
    except (NoToken, NotPermitted, TooManyFailures) as error:
        return _refused(request, error)
    response = redirect(request, KEY_ROOT)
    await _begin(request, response, holder.digest, holder)
    return response


def _refused(request: Request, error: AdminError) -> Response:
    response = render(request, "own_key_login.html.jinja", error.status, trouble=error.message)
    if error.retry_after_s is not None:
        response.headers["retry-after"] = str(error.retry_after_s)
    return response


async def _begin(request: Request, response: Response, digest: str, holder: KeyHolder) -> None:
    cookie = await services_of(request).sessions.begin_of_key(digest, holder.key.name)
    set_key_session(request, response, cookie)


async def show(request: Request) -> Response:
    services = services_of(request)
    try:
        holder = await _holder(request, services)
    except (NoToken, NotPermitted, NotThere):
        return await sign_out_now(request)
    return await _page(request, services, holder)


async def _holder(request: Request, services: PageServices) -> KeyHolder:
    """The holder now: the key may have changed since the session began. Raises NoToken, NotPermitted, NotThere."""
    return await holder_of(services.admin, key_session_of(request).digest, services.login.address_of(request))


async def _page(
    request: Request, services: PageServices, holder: KeyHolder, *, error: AdminError | None = None
) -> Response:
    own = await read_own_key(services.admin, holder)
    return render(
        request,
        "own_key.html.jinja",
        200 if error is None else error.status,
        own=own,
        headline=headline(own),
        view=own.to_dict(),
        csrf=key_session_of(request).csrf,
        asking=await _asking(services, holder),
        limits=[
            (each, amount_text(each.limit, each.limit.amount), amount_text(each.limit, each.left))
            for each in own.limits
        ],
        not_rotated=why_not_rotated(services.admin, holder, holder.key),
        grace_h=self_service(services.admin).grace_h,
        error=error,
    )


async def _asking(services: PageServices, holder: KeyHolder) -> list[tuple[RunCeilingUse, str]]:
    """Runs of the key that wait for somebody to add to their ceiling, with how they ended."""
    if services.corridor is None:
        return []
    try:
        uses = await read_asking(services.corridor, holder.key.id)
    except StreamAway:
        return []
    return [(use, end_text(use)) for use in uses]


async def more(request: Request) -> Response:
    """Adds the original amount to the ceiling of a run of this key that waits for it."""
    form, services = await check_key_form(request), services_of(request)
    holder, named = await _holder(request, services), form.get("run", [""])[-1]
    try:
        uses = [] if services.corridor is None else await read_asking(services.corridor, holder.key.id)
        by = (f"{KEY_ACTOR}{holder.key.name}", "key")
        now = await extend_by(services.admin, by, [use for use in uses if use.run_id == named])
    except AdminError as error:
        return await _page(request, services, holder, error=error)
    return redirect(request, KEY_ROOT, f"The run may use {now} now")


def headline(own: OwnKey) -> str:
    """The page in a sentence: the use of this month, and what is left of the limit of which the most is used."""
    total = own.used.total
    calls = total.sums.calls
    head = f"{count(calls)} call{'s' * (calls != 1)} this month" if calls else "No call this month"
    if calls and total.usd is not None:
        head += f", {'at least ' if total.sums.unpriced_calls else ''}{usd(total.usd)}"
    first = next((each for each in own.limits if each.resets_at is not None), None)
    if first is None:
        return head
    whose = "" if first.scope.kind == "key" else f", {first.scope}"
    return f"{head}; {amount_text(first.limit, first.left)} left of {first.limit.name.replace('_', ' ')}{whose}"


async def rotate(request: Request) -> Response:
    """Answers with the new secret itself: no redirect, so that it is shown this once and never again."""
    await check_key_form(request)
    services = services_of(request)
    holder = await _holder(request, services)
    try:
        changed = await rotate_own_key(services.admin, holder)
    except AdminError as error:
        return await _page(request, services, holder, error=error)
    response = render(request, "own_key_rotated.html.jinja", rotated=rotated_view(changed))
    await services.sessions.end(request.cookies.get(KEY_COOKIE, ""))
    await _begin(request, response, digest_of(changed.secret or ""), holder)
    return response


async def sign_out(request: Request) -> Response:
    await check_key_form(request)
    return await sign_out_now(request)


async def sign_out_now(request: Request) -> Response:
    await services_of(request).sessions.end(request.cookies.get(KEY_COOKIE, ""))
    response = redirect(request, LOGIN)
    response.delete_cookie(KEY_COOKIE, path=KEY_ROOT)
    return response


PAGE = Page(
    path=KEY_ROOT,
    title="Your key",
    routes=(
        PageRoute(LOGIN, show_login, audience="anyone"),
        PageRoute(LOGIN, sign_in, methods=("POST",), audience="anyone"),
        PageRoute(KEY_ROOT, show, audience="key"),
        PageRoute(f"{KEY_ROOT}/more", more, methods=("POST",), audience="key"),
        PageRoute(f"{KEY_ROOT}/rotate", rotate, methods=("POST",), audience="key"),
        PageRoute(f"{KEY_ROOT}/logout", sign_out, methods=("POST",), audience="key"),
    ),
)
