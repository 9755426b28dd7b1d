"""Notices of verdicts and stops for harm: one for each candidate of a plan, and each verdict that it gets."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.core.notice import SEVERITIES, Notice
from gateway.features.task import TaskContext
from gateway.observability.eval_metrics import ExperimentFigures

_WORDS = {"ship": "ship it", "reject": "reject it", "ship_except": "ship it except for some segments"}


class VerdictNotices:
    """The verdicts of the figures that this consumer shows. The one that computes them may be another than the one that
    sends, so every consumer looks."""

    everywhere = True

    def __init__(self, context: TaskContext) -> None:
        self._figures = context.figures

    async def look(self, now: float) -> Sequence[Notice]:
        figures = self._figures()
        verdicts = [_notice(found, now) for found in figures if found.verdict != "hold"]
        return [*verdicts, *(_harm(found, now) for found in figures if found.harm)]


def _notice(found: ExperimentFigures, now: float) -> Notice:
    title = f"experiment {found.experiment}: {_WORDS.get(found.verdict, found.verdict)}"
    text = f"{found.candidate}: {found.sentence or f'verdict {found.verdict} after {found.pairs} pairs'}"
    data = {"experiment": found.experiment, "candidate": found.candidate, "verdict": found.verdict}
    id = f"verdict:{found.plan}:{found.candidate}:{found.verdict}"
    path = f"/console/experiments/{found.experiment}"
    severity = SEVERITIES[f"verdict.{found.verdict}"]
    return Notice(id, "verdict", title, text, now, path, severity, data | {"pairs": found.pairs})


def _harm(found: ExperimentFigures, now: float) -> Notice:
    data = {"experiment": found.experiment, "candidate": found.candidate, "pairs": found.pairs}
    path, id = f"/console/experiments/{found.experiment}", f"harm:{found.plan}:{found.candidate}"
    title = f"experiment {found.experiment}: stopped for harm"
    severity = SEVERITIES["verdict.reject"]
    return Notice(id, "verdict", title, f"{found.candidate}: {found.harm}", now, path, severity, data)
