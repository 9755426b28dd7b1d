"""What the terminal and the page take from a report: each metric once, the two arms that may be compared. Pure."""

from __future__ import annotations

from typing import Literal

from gateway.core.plan import REPEAT
from gateway.evals.experiments.report import Arm, ArmLatency, Comparison, Report, State, Verdict

Part = Literal["control", "candidate", "repeat", "other"]
MOODS: dict[Verdict, State] = {"ship": 1, "hold": 0, "reject": -1}


def comparisons(report: Report) -> list[Comparison]:
    """The primary, the guardrails, the others; a metric that is named twice stands where it decides."""
    found: dict[str, Comparison] = {}
    for c in (*([report.primary] if report.primary else []), *report.guardrails, *report.metrics):
        found.setdefault(c.metric, c)
    return list(found.values())


def arms_compared(report: Report) -> tuple[Arm, Arm] | None:
    """The control and the candidate; None: one of them is not there."""
    candidate = next((arm for arm in report.arms if arm.arm == report.candidate), None)
    control = next((arm for arm in report.arms if arm.arm not in (report.candidate, REPEAT)), None)
    return (control, candidate) if control and candidate else None


def latency_compared(report: Report) -> tuple[ArmLatency, ArmLatency] | None:
    """Whole answers: of the arm that was asked by the candidate's own path, and of the candidate."""
    fair = [each for each in report.latency if each.measure == "total_s" and each.comparable]
    candidate = next((each for each in fair if each.arm == report.candidate), None)
    other = next((each for each in fair if each.arm != report.candidate), None)
    return (other, candidate) if other and candidate else None


def parts_played(report: Report) -> dict[str, Part]:
    """By arm; its colour follows from it."""
    played: dict[str, Part] = {report.candidate: "candidate", REPEAT: "repeat"}
    for arm in (*(each.arm for each in report.arms), *(each.arm for each in report.latency)):
        if arm not in played:
            played[arm] = "other" if "control" in played.values() else "control"
    return played


def drawn(report: Report) -> int:
    """Pairs with a comparison and withheld ones together."""
    return report.pairs + sum(n for _, n in report.withheld)
