"""The page Models."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from gateway.console.background_reader import BackgroundReader
from gateway.console.frame import Page, PageRoute, render, services_of
from gateway.features.models.report import ModelsInUse, headline, models_in_use, sections_of
from gateway.store.query import Reading

PATH = "/console/models"
_KEPT_S = 60.0
_WAIT_S = 0.5


async def show(request: Request) -> Response:
    services = services_of(request)
    config, now = services.admin.config(), services.admin.clock()

    def read(connection: Reading) -> ModelsInUse:
        return models_in_use(connection, config, now)

    reader: BackgroundReader = services.kept.setdefault("models", BackgroundReader(services.tasks, _KEPT_S))
    kept = await reader.get("models", services.store_url, read, _WAIT_S)
    return render(
        request,
        "models.html.jinja",
        headers={"refresh": "1"} if kept is None else {},
        reading=kept is None,
        headline="Models" if kept is None else headline(kept.value, now),
        sections=[] if kept is None else sections_of(kept.value, now),
    )


PAGE = Page(PATH, "Models", (PageRoute(PATH, show),))
