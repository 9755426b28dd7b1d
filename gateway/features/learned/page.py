"""The page Predictor: the card of the learned model, what it has judged, and what it saves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from gateway.console.filters import moment
from gateway.console.frame import Page, PageRoute, render, services_of
from gateway.features.learned.card import predictor_off
from gateway.features.learned.charts import calibration_chart, ratio_chart
from gateway.features.learned.drift import saved_figures
from gateway.observability.eval_metrics import DriftFigures
from gateway.store.predictor_history import JudgedShare, TrainedModel, judged_share, trained_models
from gateway.store.query import Reading

PATH = "/console/predictor"
DAY_S = 86_400.0
MODELS_SHOWN = 40
SHIFTED = 0.2
"""Of a PSI: by custom, the population of a feature has changed."""


@dataclass(frozen=True, slots=True)
class PredictorState:
    """What is known of the predictor in force."""

    models: list[TrainedModel]
    """The newest first."""
    share: JudgedShare
    """Of the last 24 hours."""
    alarms: Sequence[DriftFigures]
    """By model name and kind."""

    @property
    def newest(self) -> TrainedModel | None:
        return self.models[0] if self.models else None

    @property
    def card(self) -> dict[str, Any]:
        return {} if self.newest is None else dict(self.newest.card)

    @property
    def state(self) -> tuple[str, str]:
        """A word for it, and its tone."""
        if not self.card.get("held_out"):
            return "no model yet", "open"
        return ("off", "bad") if predictor_off(self.card) else ("on", "good")

    def shifts(self) -> list[tuple[str, float]]:
        """(feature, PSI), the largest first."""
        return sorted(self.card.get("psi", {}).items(), key=lambda each: (-each[1], each[0]))


async def show(request: Request) -> Response:
    services = services_of(request)
    config = services.admin.config().predictor
    if config is None:
        return render(request, "predictor.html.jinja", config=None, found=None)
    since = services.admin.clock() - DAY_S

    def reading(connection: Reading) -> PredictorState:
        models = trained_models(connection, config.target, MODELS_SHOWN)
        share, alarms = judged_share(connection, config.key, since), saved_figures(connection, config.key)
        return PredictorState(models, share, alarms)

    found = await services.admin.store.read(reading)
    return render(
        request, "predictor.html.jinja", config=config, found=found, shifted=SHIFTED,
        calibration=calibration_chart(found.card.get("reliability") or ()),
        course=ratio_chart(found.models, lambda at: moment(at)[5:16]),
    )  # fmt: skip


PAGE = Page(PATH, "Predictor", (PageRoute(PATH, show),))
