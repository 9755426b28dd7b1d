"""A ramp as one word, for pipelines that ask whether they may continue: success, failure or inconclusive. Pure."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

from gateway.core.ramp import DAY_S, RampAction, RampMode, RampPace, RampState
from gateway.features.ramp.served import switch_line
from gateway.ramps.commands import RampView
from gateway.reports.model import Verdict

GateStatus = Literal["success", "failure", "inconclusive"]


class HoldoutOutput(TypedDict):
    share: float
    """The share of the units that stays with the control."""
    until: float
    """Unix seconds."""


class _SegmentsOutput(TypedDict):
    kept: NotRequired[list[str]]
    """Segments that stay with the control; only of ramps of plans with segments."""
    without: NotRequired[list[str]]
    """Segments without which the next step could be taken."""


class RampGateOutput(_SegmentsOutput):
    """Whether a ramp may continue, in one word."""

    status: GateStatus
    experiment: str
    plan: str
    """The hash of the plan."""
    state: RampState | Literal["draft"]
    step: int
    """The index of the step in force; -1: none."""
    steps: list[float]
    share: float
    """The share of the units that the candidate serves now."""
    holdout: HoldoutOutput | None
    switch: list[str]
    """Results of the served answers before and after the switch, one sentence each."""
    paused: bool
    overridden: bool
    mode: RampMode
    verdict: Verdict | None
    pairs: int | None
    action: RampAction | None
    reason: str
    also: list[str]
    """Other conditions that it waits for."""
    since: float | None
    """Unix seconds of the last change."""
    at: float | None
    """Unix seconds of the newest evidence."""


def gate_of(view: RampView, pace: RampPace, now: float) -> RampGateOutput:
    """JSON-able. now: Unix seconds.

    success: the next step is shown to be safe, or all of them were taken. failure: rolled back, or about to be.
    inconclusive: everything else, also without evidence or with evidence that is too old.
    """
    status, reason = _status(view, pace, now)
    record, decision = view.record, view.decision
    return {
        "status": status,
        "experiment": view.plan.plan.name,
        "plan": view.plan.plan.hash,
        "state": "draft" if record is None else record.state,
        "step": -1 if record is None else record.step,
        "steps": list(view.design.steps),
        "share": view.share if view.plan.running else 0.0,
        "holdout": _holdout(view),
        "switch": [switch_line(each) for each in view.evidence.get("switch") or []],
        "paused": record is not None and record.paused,
        "overridden": record is not None and record.overridden,
        "mode": pace.mode,
        "verdict": view.evidence.get("verdict"),
        "pairs": view.evidence.get("pairs"),
        "action": None if decision is None else decision.action,
        "reason": reason,
        "also": list(decision.also) if decision is not None and reason == decision.reason else [],
        "since": None if record is None else record.since,
        "at": view.evidence.get("at"),
        **_by_segment(view),
    }


def _by_segment(view: RampView) -> _SegmentsOutput:
    found: _SegmentsOutput = {}
    if view.record and view.record.kept:
        found["kept"] = list(view.record.kept)
    if view.decision and view.decision.without:
        found["without"] = list(view.decision.without)
    return found


def _holdout(view: RampView) -> HoldoutOutput | None:
    """The holdout in force; None if there is none, or it has ended."""
    record, design = view.record, view.design
    if record is None or not view.plan.running or not record.holds_out(design):
        return None
    return {"share": design.holdout, "until": record.since + design.holdout_days * DAY_S}


def _status(view: RampView, pace: RampPace, now: float) -> tuple[GateStatus, str]:
    record, decision = view.record, view.decision
    if record is not None and record.state == "rolled_back":
        return "failure", record.reason
    if not view.plan.running or (record is not None and record.state == "stopped"):
        return "inconclusive", "it is stopped"
    if decision is None:
        return "inconclusive", "there is no evidence yet: is a consumer running?"
    if decision.action == "roll_back":
        return "failure", decision.reason
    if record is not None and record.state == "promoted":
        return "success", record.reason or "promoted"
    age_s = now - float(view.evidence.get("at") or 0.0)
    if age_s > pace.stale_s:
        return "inconclusive", f"the newest evidence is {age_s:.0f} s old: is a consumer running?"
    if record is not None and record.paused:
        return "inconclusive", f"it is paused: {record.reason}"
    return ("success" if decision.suffices else "inconclusive"), decision.reason
