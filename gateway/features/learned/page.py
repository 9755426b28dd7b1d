"""The page Predictor: the card of the learned model with its drawings, the exchanges that it has judged, and its
saving."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from gateway.console.filters import moment, percent
from gateway.console.frame import Page, PageRoute, render, services_of
from gateway.features.learned.drift import saved_figures
from gateway.features.learned.rows import JudgedShare, TrainedModel, judged_share, trained_models
from gateway.observability.eval_metrics import DriftFigures
from gateway.reports.charts import WIDE, Axes, Chart, Scale, Shape, line, shape, ticks, variants_of
from gateway.store.guided_means import harmful
from gateway.store.query import Reading

_HEIGHT = 260
_FEW = 4  # the largest number of labels below a narrow chart
_RATIO_SHOWN = 1.5  # of the variance without a predictor


def calibration_chart(reliability: Sequence[Sequence[float]]) -> Chart | None:
    """Draws (mean prediction, mean verdict, n) by tenth of the predictions. None if there are none."""
    if not reliability:
        return None
    worst = max(reliability, key=lambda row: abs(row[1] - row[0]))

    def draw(width: int) -> tuple[Shape, ...]:
        x, y = Scale(0.0, 1.0, 58, width - 18), Scale(0.0, 1.0, _HEIGHT - 52, 14)
        marks = tuple((v, f"{v:g}") for v in ticks(0.0, 1.0, 5))
        return (
            *Axes(x, y, marks, marks, "predicted; dashed: perfectly calibrated").shapes(),
            shape("path", d=f"M{x(0):.1f} {y(0):.1f}L{x(1):.1f} {y(1):.1f}", look="before"),
            *(shape("circle", cx=x(g), cy=y(h), r=5.0, look="dot") for g, h, _ in reliability),
        )

    description = (
        f"Mean verdict by tenth of the predictions. The largest difference is at a prediction of {worst[0]:.2f}, "
        f"where the mean verdict is {worst[1]:.2f}."
    )
    return Chart("calibration", "Verdicts by prediction", description, _HEIGHT, variants_of(draw))


def ratio_chart(models: Sequence[TrainedModel], moment: Callable[[float], str]) -> Chart | None:
    """The variance ratio of each training with its interval. models: the newest first. None if fewer than two know
    it.
    """
    found = [m for m in reversed(models) if m.card.get("variance_ratio") is not None]
    if len(found) < 2:
        return None
    highs = [min(m.card["variance_ratio_high"], _RATIO_SHOWN) for m in found]
    top = max(1.1, *highs)

    def draw(width: int) -> tuple[Shape, ...]:
        x, y = Scale(0, len(found) - 1, 70, width - 40), Scale(0.0, top, _HEIGHT - 52, 14)
        step = math.ceil(len(found) / (2 * _FEW if width == WIDE else _FEW))
        x_ticks = tuple((float(at), moment(m.created)) for at, m in enumerate(found) if at % step == 0)
        y_ticks = tuple((v, f"{v:g}") for v in ticks(0.0, top, 5))
        return (
            *Axes(x, y, x_ticks, y_ticks, "trained (UTC); dashed: without a predictor").shapes(),
            shape("path", d=f"M{x.start:.1f} {y(1.0):.1f}L{x.end:.1f} {y(1.0):.1f}", look="before"),
            *(part for at, m in enumerate(found) for part in _interval(x(at), y, m)),
        )

    last = found[-1].card
    description = (
        f"Variance of the judge's mean, as a share of that without a predictor, at {len(found)} trainings. The last: "
        f"{last['variance_ratio']:.2f}, from {last['variance_ratio_low']:.2f} to {last['variance_ratio_high']:.2f}."
    )
    return Chart("variance", "Variance ratio over time", description, _HEIGHT, variants_of(draw))


def _interval(x: float, y: Scale, model: TrainedModel) -> tuple[Shape, ...]:
    ratio, low, high = (model.card[f"variance_ratio{end}"] for end in ("", "_low", "_high"))
    return line(x, y(low), x, y(high), "trail"), shape("circle", cx=x, cy=y(ratio), r=4.0, look="dot")


PATH = "/console/predictor"
DAY_S = 86_400.0
MODELS_SHOWN = 40
SHIFTED = 0.2
"""A PSI from which, by custom, the population of a feature has changed."""


@dataclass(frozen=True, slots=True)
class PredictorState:
    models: list[TrainedModel]
    """The newest first."""
    share: JudgedShare
    """The judged share of the last 24 hours."""
    alarms: Sequence[DriftFigures]
    """The alarms by model name and kind."""

    @property
    def newest(self) -> TrainedModel | None:
        return self.models[0] if self.models else None

    @property
    def card(self) -> dict[str, Any]:
        return {} if self.newest is None else dict(self.newest.card)

    @property
    def state(self) -> tuple[str, str]:
        """The state in a word, and its tone."""
        if not self.card.get("held_out"):
            return "no model yet", "open"
        return ("off", "bad") if harmful(self.card) else ("on", "good")

    def shifts(self) -> list[tuple[str, float]]:
        """The PSI of each feature, the largest first."""
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
    calibration = calibration_chart(found.card.get("reliability") or ())
    course = ratio_chart(found.models, lambda at: moment(at)[5:16])
    shown: dict[str, Any] = {
        "headline": headline(found),
        "config": config,
        "found": found,
        "shifted": SHIFTED,
        "calibration": calibration,
        "course": course,
    }
    return render(request, "predictor.html.jinja", **shown)


def headline(found: PredictorState) -> str:
    """The page in a sentence: whether the predictor is used, and what it saves."""
    state, ratio = found.state[0], found.card.get("variance_ratio")
    if state == "no model yet" or ratio is None:
        return f"The predictor has {state}" if state == "no model yet" else f"The predictor is {state}"
    less = "less" if ratio < 1 else "more"
    return f"The predictor is {state}: the judge's mean varies {percent(abs(1 - ratio))} {less} with it"


PAGE = Page(PATH, "Predictor", (PageRoute(PATH, show),))
