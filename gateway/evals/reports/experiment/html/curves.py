"""Latency: for each arm, the share of answers that had come by then. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway.evals.experiments import wording as say
from gateway.evals.experiments.report import ArmLatency
from gateway.evals.reports.experiment.html.markup import Markup, joined, tag
from gateway.evals.reports.experiment.html.plot import WIDE, Chart, Frame, Scale, line, path, ticks

MOST_POINTS = 200
_SHOWN = 0.99  # the slowest of a hundred would leave no room for the others
_HEIGHT = 300


@dataclass(frozen=True, slots=True)
class LatencyCurves:
    """Of one measure. look: the name of an arm's colour, by arm."""

    id: str
    title: str
    arms: Sequence[ArmLatency]
    look: Mapping[str, str]

    def figure(self, *caption: Markup | str) -> Markup | None:
        """None: no arm has a curve yet."""
        if not any(_curve(arm) for arm in self.arms):
            return None
        says = "; ".join(f"{a.arm}: half by {_s(a.p50.value)}, 95 % by {_s(a.p95.value)}" for a in self.arms)
        return Chart(self.id, self.title, says, _HEIGHT, self._drawn).figure(*caption)

    def _drawn(self, width: int) -> Markup:
        longest = max(_reach(arm) for arm in self.arms)
        x = Scale(0, longest, 58, width - 18)
        y = Scale(0, 1, _HEIGHT - 52, 14)
        places = say.digits(longest / 2)
        of_x = tuple((v, say.number(v, places)) for v in ticks(0, longest, 8 if width == WIDE else 4))
        of_y = tuple((v, f"{v:.0%}") for v in (0.0, 0.25, 0.5, 0.75, 1.0))
        axes = Frame(x, y, of_x, of_y, "seconds").drawn()
        half, late = (line(x.start, y(v), x.end, y(v), "quantile") for v in (0.5, 0.95))
        return joined(axes, half, late, (self._curve(arm, x, y) for arm in self.arms))

    def _curve(self, arm: ArmLatency, x: Scale, y: Scale) -> Markup:
        look = f"{self.look.get(arm.arm, 'other')}{'' if arm.comparable else ' apart'}"
        marks = ((arm.p50.value, 0.5), (arm.p95.value, 0.95))
        return joined(
            tag("path", d=path(_steps(_curve(arm), x, y)), class_=f"curve {look}") if _curve(arm) else None,
            (tag("circle", cx=x(s), cy=y(q), r=3.5, class_=f"mark {look}") for s, q in marks if s is not None),
        )


def _curve(arm: ArmLatency) -> Sequence[tuple[float, float]]:
    return say.thinned([p for p in arm.curve if all(map(math.isfinite, p))], MOST_POINTS)


def _reach(arm: ArmLatency) -> float:
    """By when 99 of 100 answers had come, with some air."""
    curve = _curve(arm)
    until = next((s for s, part in curve if part >= _SHOWN), curve[-1][0] if curve else 0)
    return 1.05 * max(until, arm.p95.value or 0) or 1.0


def _steps(curve: Sequence[tuple[float, float]], x: Scale, y: Scale) -> list[tuple[float, float]]:
    """A share holds until the next answer comes."""
    drawn, before = [(x(0), y(0))], 0.0
    for seconds, part in curve:
        drawn += [(x(seconds), y(before)), (x(seconds), y(part))]
        before = part
    return drawn


def _s(seconds: float | None) -> str:
    return f"{say.number(seconds, say.digits(seconds))} s"
