"""The drawings of a predictor's card: is it calibrated, and what did each training save. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from gateway.reports.charts import NARROW, WIDE, Axes, Chart, Scale, Shape, Variant, line, shape, ticks
from gateway.store.predictor_history import TrainedModel

_HEIGHT = 260
_FEW = 4  # the largest number of labels below a narrow chart
_RATIO_SHOWN = 1.5  # of the variance without a predictor


def calibration_chart(reliability: Sequence[Sequence[float]]) -> Chart | None:
    """reliability: (mean prediction, mean verdict, n) by tenth of the predictions. None: there are none."""
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
    return Chart("calibration", "Verdicts by prediction", description, _HEIGHT, _variants(draw))


def ratio_chart(models: Sequence[TrainedModel], moment: Callable[[float], str]) -> Chart | None:
    """The variance ratio of each training with its interval. models: the newest first. None: fewer than two know it."""
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
    return Chart("variance", "Variance ratio over time", description, _HEIGHT, _variants(draw))


def _interval(x: float, y: Scale, model: TrainedModel) -> tuple[Shape, ...]:
    ratio, low, high = (model.card[f"variance_ratio{end}"] for end in ("", "_low", "_high"))
    return line(x, y(low), x, y(high), "trail"), shape("circle", cx=x, cy=y(ratio), r=4.0, look="dot")


def _variants(draw: Callable[[int], tuple[Shape, ...]]) -> tuple[Variant, ...]:
    return Variant("wide", WIDE, draw(WIDE)), Variant("narrow", NARROW, draw(NARROW))
