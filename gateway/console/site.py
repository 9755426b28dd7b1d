"""Collects the pages of the features, in the order of the navigation, and makes them routes of the console."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.config.environment import LoginLink
from gateway.config.scorers import EvalsConfig
from gateway.console import login
from gateway.console.errors import NotThere
from gateway.console.frame import (
    ROOT,
    LoginWays,
    Page,
    PageRoute,
    PageServices,
    endpoint,
    protected,
    static_files,
    static_versions,
)
from gateway.console.sessions import Sessions
from gateway.features import FEATURES
from gateway.features.keys.directory import Admin
from gateway.features.manifest import in_order, load
from gateway.runtime.tasks import Tasks
from gateway.stream import Corridor

_TYPES = {".css": "text/css", ".js": "text/javascript", ".txt": "text/plain", ".svg": "image/svg+xml"}
_YEAR_S = 31_536_000


@dataclass(frozen=True, slots=True)
class PagesSetup:
    """Services that pages need and the admin API does not."""

    tasks: Tasks
    corridor: Corridor | None = None
    evals: Callable[[], EvalsConfig] = EvalsConfig
    """Returns how the gateway is reached, by the config in force."""
    data: Path = field(default_factory=Path)
    config_path: Path = Path("gateway.yaml")
    link: LoginLink | None = None
    read_config: Callable[[], Awaitable[None]] | None = None
    """Reads the config again at once."""


def collected_pages() -> tuple[Page, ...]:
    """The pages of all features, in the order of the navigation."""
    found = in_order(page for feature in FEATURES for page in feature.pages)
    return tuple(load(page.entry) for page in found)


def routes() -> list[Route]:
    """Every route below /console."""
    framed = [
        PageRoute(f"{ROOT}/logout", login.sign_out, ("POST",)),
        *(r for page in collected_pages() for r in page.routes),
    ]
    return [
        Route(f"{ROOT}/static/{{name}}", _static, methods=["GET"]),
        Route(f"{ROOT}/login", login.show_login, methods=["GET"]),
        Route(f"{ROOT}/login", login.sign_in, methods=["POST"]),
        Route(f"{ROOT}/login/oidc", login.begin_oidc, methods=["GET"]),
        Route(f"{ROOT}/login/callback", login.end_oidc, methods=["GET"]),
        *(Route(route.path, endpoint(route), methods=list(route.methods)) for route in framed),
    ]


def prepare(app: Starlette, admin: Admin, setup: PagesSetup, ways: LoginWays) -> None:
    """Attaches the services of the pages to the application."""
    sessions = Sessions(admin.store, admin.config, admin.clock)
    app.state.navigation = collected_pages()
    services = PageServices(
        admin=admin, sessions=sessions, login=replace(ways, link=setup.link), tasks=setup.tasks,
        corridor=setup.corridor, evals=setup.evals, data=setup.data, config_path=setup.config_path,
    )  # fmt: skip
    if setup.read_config is not None:
        services = replace(services, read_config=setup.read_config)
    app.state.pages = services


def is_page(request: Request) -> bool:
    path = request.scope["path"]
    return hasattr(request.app.state, "pages") and (path == ROOT or path.startswith(f"{ROOT}/"))


async def not_found(request: Request) -> Response:
    return await endpoint(PageRoute(ROOT, _missing))(request)


async def _missing(request: Request) -> Response:
    raise NotThere("there is no such page")


async def _static(request: Request) -> Response:
    """Static files are public: they reveal nothing about this installation."""
    name = request.path_params["name"]
    content = static_files().get(name)
    if content is None:
        return protected(Response("not found", 404, media_type="text/plain"))
    response = Response(content, media_type=_TYPES[Path(name).suffix])
    if request.query_params.get("v") == static_versions()[name]:
        response.headers["cache-control"] = f"public, max-age={_YEAR_S}, immutable"
    return protected(response)
