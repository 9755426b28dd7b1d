"""How a report is presented, on the terminal and on the page alike: which metrics in which order, which arms are
compared, and what verdicts, findings and gates are called. Pure."""

from __future__ import annotations

from typing import Literal

from gateway.core.plan import REPEAT
from gateway.evals.experiments.number_format import counted
from gateway.evals.experiments.report import Arm, ArmLatency, Comparison, Direction, Margin, Report, State, Verdict

ArmColor = Literal["control", "candidate", "repeat", "other"]
STATES: dict[State, str] = {1: "green", 0: "unknown", -1: "red"}
SIGNS: dict[State, str] = {1: "✓", 0: "?", -1: "✕"}  # a reader who sees no colours reads the sign
VERDICTS: dict[Verdict, str] = {"ship": "Ship", "reject": "Reject", "hold": "Hold"}
VERDICT_STATES: dict[Verdict, State] = {"ship": 1, "hold": 0, "reject": -1}
_DIRECTION_STATES: dict[Direction, State] = {"better": 1, "unclear": 0, "worse": -1}
_MARGIN_STATES: dict[Margin, State] = {"equivalent": 1, "non_inferior": 1, "unclear": 0, "inferior": -1}


def titled(c: Comparison) -> str:
    return f"{c.metric}, {c.unit}" if c.unit else c.metric


def finding(c: Comparison) -> str:
    """What is known of a metric, in a few words: about its margin if it has one, else about its direction."""
    if c.margin is None:
        return {"better": "better", "worse": "worse", "unclear": "no difference shown"}[c.direction_found]
    margin = f"{c.margin:g}"
    if c.margin_found == "inferior":
        return f"worse by more than {margin}"
    if c.margin_found == "unclear":
        return f"undecided; about {counted(c.pairs_needed, 'pair')} more" if c.pairs_needed else "undecided"
    same = f"the same within {margin}" if c.margin_found == "equivalent" else f"not worse by more than {margin}"
    return {"better": "better", "worse": f"worse, by no more than {margin}", "unclear": same}[c.direction_found]


def finding_state(c: Comparison) -> State:
    """Whether the finding is good (1), bad (-1), or neither (0)."""
    return _DIRECTION_STATES[c.direction_found] if c.margin is None else _MARGIN_STATES[c.margin_found]


def comparisons(report: Report) -> list[Comparison]:
    """The primary, the guardrails, the others. A metric that is listed twice is shown once, in its deciding role."""
    found: dict[str, Comparison] = {}
    for c in (*([report.primary] if report.primary else []), *report.guardrails, *report.metrics):
        found.setdefault(c.metric, c)
    return list(found.values())


def arms_compared(report: Report) -> tuple[Arm, Arm] | None:
    """The control and the candidate. None: one of them is missing."""
    candidate = next((arm for arm in report.arms if arm.arm == report.candidate), None)
    control = next((arm for arm in report.arms if arm.arm not in (report.candidate, REPEAT)), None)
    return (control, candidate) if control and candidate else None


def latency_compared(report: Report) -> tuple[ArmLatency, ArmLatency] | None:
    """The latency of complete answers: of the arm that was requested on the candidate's path, and of the candidate."""
    fair = [each for each in report.latency if each.measure == "total_s" and each.comparable]
    candidate = next((each for each in fair if each.arm == report.candidate), None)
    other = next((each for each in fair if each.arm != report.candidate), None)
    return (other, candidate) if other and candidate else None


def arm_colors(report: Report) -> dict[str, ArmColor]:
    """The role by which each arm is coloured. The first arm that is neither candidate nor repeat is the control."""
    colors: dict[str, ArmColor] = {report.candidate: "candidate", REPEAT: "repeat"}
    for arm in (*(each.arm for each in report.arms), *(each.arm for each in report.latency)):
        if arm not in colors:
            colors[arm] = "other" if "control" in colors.values() else "control"
    return colors


def pairs_drawn(report: Report) -> int:
    """The number of compared and of withheld pairs together."""
    return report.pairs + sum(n for _, n in report.withheld)
