"""Signing in and out: with an admin token, with the login link that `gateway up` prints, or at an identity provider.

The session's cookie is of this site only, and a browser does not send it on the way back from a provider. Hence the
page after that way: its link leads on from this site.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import replace
from hashlib import sha256
from hmac import compare_digest

from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response

from gateway.config.environment import forget_login_link
from gateway.config.reserved_names import person_name
from gateway.console.access import Actor
from gateway.console.errors import AdminError, NoToken, NotThere
from gateway.console.forms import check_origin, form_actor, read_form
from gateway.console.frame import (
    COOKIE,
    ROOT,
    PageServices,
    cookie_options,
    local_path,
    protected,
    redirect,
    render,
    services_of,
    set_session,
)
from gateway.console.identity_provider import IdentityProvider, LoginAttempt, LoginNotBegun, LoginRefused
from gateway.console.sessions import SESSION_S, oidc_token

log = logging.getLogger(__name__)

ATTEMPT_COOKIE = "assay_login"
_ATTEMPT_S = 600
_MOST_LINK = 200  # characters, more than any link has


async def show_login(request: Request) -> Response:
    """The form; or, with `?link=…`, a button that uses the link: a chat program that previews it must not."""
    given = request.query_params.get("link")
    if given is not None:
        return protected(render(request, "login_link.html.jinja", link=given[:_MOST_LINK]))
    return protected(_form(request, next=local_path(request.query_params.get("next", ROOT))))


async def sign_in(request: Request) -> Response:
    """Handles the form with a token, and the button of a login link."""
    try:
        check_origin(request)
        form = await read_form(request)
        if "link" in form:
            return protected(await _by_link(request, form["link"][-1]))
        token = form.get("token", [""])[-1].strip()
        services = services_of(request)
        actor = services.login.actor_of(request, f"Bearer {token}")
        cookie = await services.sessions.begin(actor, sha256(token.encode()).hexdigest())
    except NoToken:
        return protected(_form(request, 401, trouble="This is not an admin token of this gateway."))
    except AdminError as error:
        return _refused(request, error)
    except ClientDisconnect:
        return Response(status_code=400)
    return protected(_signed_in(request, cookie, local_path(form.get("next", [ROOT])[-1])))


async def begin_oidc(request: Request) -> Response:
    """Redirects to the identity provider."""
    try:
        attempt = LoginAttempt.new()
        response: Response = RedirectResponse(await _provider(request).address(attempt), 303)
    except AdminError as error:
        return _refused(request, error)
    options = {**cookie_options(request), "path": f"{ROOT}/login", "samesite": "lax"}
    response.set_cookie(ATTEMPT_COOKIE, attempt.cookie, **options, max_age=_ATTEMPT_S)
    return protected(response)


async def end_oidc(request: Request) -> Response:
    """Handles the browser's return from the identity provider."""
    services = services_of(request)
    try:
        address = services.login.check_failures(request)
        provider = _provider(request)
        attempt = LoginAttempt.of(request.cookies.get(ATTEMPT_COOKIE, ""))
        if attempt is None:
            raise LoginNotBegun
        actor = _distinct(services, await provider.actor(attempt, request.query_params))
        lasts_s = provider.config.session_h * 3600
        cookie = await services.sessions.begin(actor, oidc_token(provider.config), lasts_s)
    except LoginNotBegun as error:
        return _refused(request, error)
    except LoginRefused as error:
        services.login.note_failure(address)
        return _refused(request, error)
    except AdminError as error:
        return _refused(request, error)
    log.info("admin: %s (%s) signed in at the identity provider", ascii(actor.name)[1:-1], actor.role)
    response = render(request, "signed_in.html.jinja", name=actor.name)
    set_session(request, response, cookie, lasts_s)
    response.delete_cookie(ATTEMPT_COOKIE, path=f"{ROOT}/login")
    return protected(response)


def _distinct(services: PageServices, actor: Actor) -> Actor:
    """The actor for a person, under a name that no other actor has."""
    admin = services.admin.config().admin
    return actor if admin is None else replace(actor, name=person_name(actor.name, admin))


def _provider(request: Request) -> IdentityProvider:
    """The identity provider of the config in force. Raises NotThere."""
    services = services_of(request)
    config = services.admin.config()
    admin = config.admin
    if admin is None or admin.oidc is None:
        raise NotThere("no identity provider is configured; see admin.oidc")
    kept: IdentityProvider | None = services.kept.get("oidc")
    if kept is None or (kept.config, kept.egress) != (admin.oidc, config.egress):
        kept = services.kept["oidc"] = IdentityProvider(admin.oidc, config.egress)
    return kept


async def sign_out(request: Request) -> Response:
    """Ends the session. The form needs the session's own CSRF token."""
    await form_actor(request, "viewer", "sign out")
    await services_of(request).sessions.end(request.cookies.get(COOKIE, ""))
    response = redirect(request, f"{ROOT}/login")
    response.delete_cookie(COOKIE, path=ROOT)
    return response


async def _by_link(request: Request, given: str) -> Response:
    cookie = await _with_link(request, given)
    if cookie is None:
        trouble = "This login link was used before, or has expired. `gateway up` prints a new one when it starts."
        return _form(request, 401, trouble=trouble)
    return _signed_in(request, cookie, ROOT)


async def _with_link(request: Request, given: str) -> str | None:
    """The cookie of a new session; None if the link is wrong, used or expired."""
    services = services_of(request)
    address = services.login.check_failures(request)
    link = services.link
    digest = sha256(given.encode("utf-8", "surrogateescape")).hexdigest()
    if link is None or not compare_digest(digest, link.sha256):
        services.login.note_failure(address)
        return None
    cookie = await services.sessions.begin_with_link(given, link.expires, link.token_sha256)
    if cookie is not None:
        with contextlib.suppress(OSError):  # the next start prints it once more, and it opens nothing
            await asyncio.to_thread(forget_login_link, services.data)
    return cookie


def _signed_in(request: Request, cookie: str, path: str) -> Response:
    response = redirect(request, path)
    set_session(request, response, cookie, SESSION_S)
    return response


def _refused(request: Request, error: AdminError) -> Response:
    response = _form(request, error.status, trouble=error.message)
    if error.retry_after_s is not None:
        response.headers["retry-after"] = str(error.retry_after_s)
    return protected(response)


def _form(request: Request, status: int = 200, trouble: str = "", next: str = ROOT) -> Response:
    admin = services_of(request).admin.config().admin
    oidc = admin.oidc is not None if admin is not None else False
    own_keys = admin is not None and admin.self_service.enabled
    return render(request, "login.html.jinja", status, trouble=trouble, next=next, oidc=oidc, own_keys=own_keys)
