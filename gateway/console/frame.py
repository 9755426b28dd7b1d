"""The frame of all pages: who may see them, their templates and headers, and their errors. Forms are in forms.py.

A page's module has handlers and a PAGE that lists them; app.py collects them. Before a handler runs, the
frame has checked the session, the role and, where the page shows prompts and answers, the right to read them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from hashlib import sha256
from importlib.resources import files
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, unquote, urlencode

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from gateway.config.admin import Role
from gateway.config.environment import LoginLink
from gateway.config.scorers import EvalsConfig
from gateway.console import filters
from gateway.console.access import Actor
from gateway.console.admin import Admin
from gateway.console.errors import AdminError, NotPermitted
from gateway.console.filters import visible
from gateway.console.sessions import SESSION_S, KeySession, Sessions, Visitor
from gateway.reports.html import prose, style_sheet, templates
from gateway.reports.terms import TERMS
from gateway.runtime.tasks import Tasks
from gateway.store.location import default_url
from gateway.stream import Corridor

COOKIE, NOTICE_COOKIE, ROOT = "assay_console", "assay_notice", "/console"
RUNS = f"{ROOT}/playground/runs"
KEY_COOKIE, KEY_ROOT = "assay_key", f"{ROOT}/me"
_NOTICE_S = 30
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
POLICY = "default-src 'self'; base-uri 'none'; object-src 'none'; form-action 'self'; frame-ancestors 'self'"
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "SAMEORIGIN",
    "referrer-policy": "same-origin",
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "server": "assay-gateway",
}

PageHandler = Callable[[Request], Awaitable[Response]]
Audience = Literal["people", "key", "anyone"]


@dataclass(frozen=True, slots=True)
class PageRoute:
    """A path below /console. role, content: what a visitor needs."""

    path: str
    handler: PageHandler
    methods: tuple[str, ...] = ("GET",)
    role: Role = "viewer"
    content: bool = False
    """Whether the page is only for visitors who may read prompts and answers."""
    audience: Audience = "people"
    """Visitors whom the page is for. `key`: holders of a key, and nobody else; `anyone`: no session is needed."""
    scoped: bool = False
    """Whether it is also for visitors whose rights are limited to a team or an organization. The handler reads the
    store and the config of `services_of` alone, which have nothing of others."""


@dataclass(frozen=True, slots=True)
class Page:
    """An entry of the navigation, and the routes that belong to it."""

    path: str
    title: str
    routes: tuple[PageRoute, ...]
    role: Role = "viewer"
    content: bool = False
    group: str = "Look"
    """The group of the navigation; app.py takes it from the feature's manifest."""

    def is_open_to(self, visitor: Visitor) -> bool:
        """Tells whether the page itself is one that they may see."""
        own = [route for route in self.routes if route.path == self.path and route.audience == "people"]
        there = any(route.scoped or not visitor.limited for route in own)
        return there and visitor.may(self.role, self.content)


@dataclass(frozen=True, slots=True)
class LoginWays:
    """The ways in which visitors prove who they are."""

    actor_of: Callable[[Request, str], Actor]
    """The holder of the token in an Authorization header's value. Raises NoToken, TooManyFailures."""
    check_failures: Callable[[Request], str]
    """The address of a client. Raises TooManyFailures where too many attempts came from it."""
    note_failure: Callable[[str], None]
    """Counts a failed attempt of an address."""
    address_of: Callable[[Request], str]
    """The address of a client, however many attempts came from it."""


async def nothing_to_read() -> None:
    """Does nothing, in place of reading a config, where there is no file."""


@dataclass(frozen=True, slots=True)
class PagesSetup:
    """Services that pages need and the admin API does not."""

    tasks: Tasks
    """Runs work that continues after the response."""
    corridor: Corridor | None = None
    """The stream server; None if this console has none."""
    evals: Callable[[], EvalsConfig] = EvalsConfig
    """Returns how judges and replays reach the gateway."""
    data: Path = Path()
    config_path: Path = Path("gateway.yaml")
    """The gateway.yaml; file names in it are relative to its directory."""
    link: LoginLink | None = None
    """The login link that `gateway up` has printed."""
    read_config: Callable[[], Awaitable[None]] = nothing_to_read
    """Reads the config again at once, after a change of its files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PageServices(PagesSetup):
    """Services that pages work with."""

    admin: Admin
    sessions: Sessions
    login: LoginWays
    kept: dict[str, Any] = field(default_factory=dict)
    """State that pages keep between requests in this process, by the page's name."""

    @property
    def store_url(self) -> str:
        """The whole store. Raises NotPermitted where rights are limited."""
        if self.admin.whole is not None:
            raise NotPermitted("this page shows more than one team: it needs rights that are not limited to one")
        return self.admin.config().store.url or default_url(self.data)


def services_of(request: Request) -> PageServices:
    """The services for this request; of a visitor with limited rights, those that have nothing of others."""
    found: PageServices = request.app.state.pages
    visitor: Visitor | None = getattr(request.state, "visitor", None)
    if visitor is None or visitor.actor.scope is None:
        return found
    return replace(found, admin=found.admin.within(visitor.actor.scope))


def visitor_of(request: Request) -> Visitor:
    found: Visitor = request.state.visitor
    return found


def render(
    request: Request, template: str, status: int = 200, headers: Mapping[str, str] | None = None, **values: Any
) -> Response:
    """Renders templates/`template` with the values. Shows the notice of a preceding redirect once."""
    response = HTMLResponse(to_html(request, template, **values), status, headers)
    if NOTICE_COOKIE in request.cookies:
        response.delete_cookie(NOTICE_COOKIE, path=ROOT)
    return response


def to_html(request: Request, template: str, **values: Any) -> str:
    visitor: Visitor | None = getattr(request.state, "visitor", None)
    pages: Sequence[Page] = request.app.state.navigation
    shared = {
        "visitor": visitor,
        "navigation": _in_groups(page for page in pages if page.is_open_to(visitor)) if visitor else [],
        "path": request.scope["path"],
        "notice": unquote(request.cookies.get(NOTICE_COOKIE, "")),
        "versions": static_versions(),
        "grafana": grafana_address(request, visitor),
    }
    return environment().get_template(template).render(**shared, **values)


def grafana_address(request: Request, visitor: Visitor | None) -> str:
    """URL of Grafana for visitors who may see the whole deployment, else ""."""
    if visitor is None or visitor.limited:
        return ""
    admin = services_of(request).admin.config().admin
    return ((admin.grafana_url if admin else None) or "").rstrip("/")


def _in_groups(pages: Iterable[Page]) -> list[tuple[str, list[Page]]]:
    groups: dict[str, list[Page]] = {}
    for page in pages:
        groups.setdefault(page.group, []).append(page)
    return list(groups.items())


def redirect(request: Request, path: str, notice: str = "") -> Response:
    """Redirects after a form. path: of this console. notice: shown once, at the top of the next page."""
    response = RedirectResponse(path, 303)
    if notice:
        response.set_cookie(NOTICE_COOKIE, quote(notice[:800]), **cookie_options(request), max_age=_NOTICE_S)
    return response


def endpoint(route: PageRoute) -> PageHandler:
    """The handler within the frame: visitors without a session are sent to the login, and errors become pages."""

    async def answer(request: Request) -> Response:
        try:
            response = await _checked(request, route)
        except AdminError as error:
            response = render(request, "error.html.jinja", error.status, error=error)
            if error.retry_after_s is not None:
                response.headers["retry-after"] = str(error.retry_after_s)
        except ClientDisconnect:
            response = Response(status_code=400)
        return protected(response)

    return answer


async def _checked(request: Request, route: PageRoute) -> Response:
    if route.audience == "anyone":
        return await route.handler(request)
    if route.audience == "key":
        return await _checked_key(request, route)
    cookie, sessions = request.cookies.get(COOKIE, ""), services_of(request).sessions
    proxied = proxied_name(request)
    visitor = await sessions.visitor(cookie, proxied) if cookie else None
    if visitor is None and proxied is not None:
        return await _enter_by_proxy(request, proxied)
    if visitor is None:
        return _to_login(request)
    request.state.visitor = visitor
    if visitor.actor.scope is not None and not route.scoped:
        return _outside(request, visitor)
    visitor.actor.require(route.role, "see this page")
    if route.content and not visitor.actor.content:
        raise NotPermitted(
            f"{visitor.actor.name} may not read prompts and answers; their token needs `content: true` in gateway.yaml"
        )
    return await route.handler(request)


async def _checked_key(request: Request, route: PageRoute) -> Response:
    """The page of a key, for a session that its secret began."""
    cookie = request.cookies.get(KEY_COOKIE, "")
    session = await services_of(request).sessions.of_key(cookie) if cookie else None
    if session is None:
        return RedirectResponse(f"{KEY_ROOT}/login", 303)
    request.state.key_session = session
    return await route.handler(request)


def key_session_of(request: Request) -> KeySession:
    found: KeySession = request.state.key_session
    return found


def _outside(request: Request, visitor: Visitor) -> Response:
    """Answers on a page of the whole deployment: from the start page it leads on. Raises NotPermitted."""
    own = next((page.path for page in request.app.state.navigation if page.is_open_to(visitor)), None)
    if own is not None and request.method == "GET" and request.scope["path"] == ROOT:
        return RedirectResponse(own, 303)
    raise NotPermitted(
        f"the rights of {visitor.actor.name} are limited to the {visitor.actor.scope}; this page shows more than that"
    )


def proxied_name(request: Request) -> str | None:
    """The user that a trusted proxy names in exactly one header; None: no user."""
    admin = services_of(request).admin.config().admin
    login = None if admin is None else admin.proxy_login
    if login is None or request.client is None:
        return None
    given = request.headers.getlist(login.header)
    peer = ip_address(request.client.host)
    trusted = any(peer in ip_network(network) for network in login.networks)
    return given[0] if trusted and len(given) == 1 and given[0] else None


async def _enter_by_proxy(request: Request, name: str) -> Response:
    """Begins a session, so that forms have a token, and loads the page again. Raises NotPermitted."""
    sessions = services_of(request).sessions
    actor = sessions.of_proxy(name)
    if actor is None:
        raise NotPermitted(f"{name[:100]} is not one of admin.proxy_login.users")
    cookie = await sessions.begin_by_proxy(actor)
    response = RedirectResponse(_wanted(request) if request.method == "GET" else ROOT, 303)
    set_session(request, response, cookie, SESSION_S)
    return response


def _wanted(request: Request) -> str:
    query = request.scope["query_string"].decode("latin-1")
    return str(request.scope["path"]) + (f"?{query}" if query else "")


def _to_login(request: Request) -> Response:
    """Redirects to the login with the requested page, to return to it; a form that was sent is lost."""
    wanted = _wanted(request)
    suffix = "?" + urlencode({"next": wanted}) if request.method == "GET" and wanted != ROOT else ""
    return RedirectResponse(f"{ROOT}/login{suffix}", 303)


def protected(response: Response) -> Response:
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    return response


def set_session(request: Request, response: Response, cookie: str, lasts_s: float) -> None:
    response.set_cookie(COOKIE, cookie, **cookie_options(request), max_age=int(lasts_s))


def set_key_session(request: Request, response: Response, cookie: str) -> None:
    """A cookie of its own, which browsers send to the pages of the key alone."""
    options = {**cookie_options(request), "path": KEY_ROOT}
    response.set_cookie(KEY_COOKIE, cookie, **options, max_age=int(SESSION_S))


def cookie_options(request: Request) -> dict[str, Any]:
    """Options of a cookie. On this machine's own addresses it is not `Secure`: only some browsers keep such a cookie
    over plain HTTP."""
    name = request.headers.get("host", "").rpartition("@")[2]
    host = name[1:].partition("]")[0] if name.startswith("[") else name.partition(":")[0]
    return {"path": ROOT, "httponly": True, "samesite": "strict", "secure": host.lower() not in _LOOPBACK}


def local_path(text: str) -> str:
    """The path to open after a login: one of the console; anything else becomes its start page."""
    inside = text == ROOT or text.startswith((f"{ROOT}/", f"{ROOT}?"))
    return text if inside and "\\" not in text and text.isprintable() and "/login" not in text else ROOT


@cache
def environment() -> Environment:
    """The Jinja environment: every printed text is escaped, and its invisible characters are written out."""
    made = Environment(
        loader=templates("gateway.console"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalized,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(filters.FILTERS)
    made.filters["prose"] = partial(prose, shown=visible)
    made.globals["terms"] = TERMS
    return made


def _finalized(value: object) -> object:
    if value is None:
        return ""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


@cache
def static_files() -> Mapping[str, bytes]:
    """The style sheets, htmx and our own script, by name."""
    names = ("console.css", "console.js", "htmx.min.js", "htmx.LICENSE.txt", "icon.svg")
    folder = files(__package__).joinpath("static")
    found = {name: folder.joinpath(name).read_bytes() for name in names}
    styles = {"console.css": style_sheet("shared").encode() + found["console.css"]}
    return {**found, **styles, "reports.css": style_sheet("parts").encode()}


@cache
def static_versions() -> Mapping[str, str]:
    """The beginning of each file's digest. It is part of the URL, so that browsers may cache a version."""
    return {name: sha256(content).hexdigest()[:12] for name, content in static_files().items()}
