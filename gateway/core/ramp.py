"""The ramp of an experiment: how a candidate's share of the traffic rises by steps, and who may change it. Pure.

A record says what is in force; each change makes the next version of it, and an event with the evidence of that moment.
The gateways apply records, the consumer and people make them. The evidence, and the decision that rests on it, are in
gateway/ramps/.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, get_args

import orjson

RampState = Literal["shadow", "ramp", "promoted", "rolled_back", "stopped"]
RampMode = Literal["advise", "auto"]
RampAction = Literal["hold", "ready", "advance", "promote", "pause", "roll_back", "stop"]
CONTROLLER = "controller"  # who made a transition that no person made
VERDICT_PART = 0.8  # of a plan's alpha, for the verdict; the rest is for the alarms on served answers
DAY_S = 86_400.0
_WEEK_S = 7 * DAY_S
_MONDAY_S = 4 * 86_400.0  # 1970-01-05 was one


@dataclass(frozen=True, slots=True)
class RampDesign:
    """The part of a ramp that belongs to the plan."""

    steps: tuple[float, ...]  # shares of units, rising, in (0, 1]; the last is 1, which means all but the holdout
    soak_s: float  # the least time at a step
    min_units: int  # the least number of units that the candidate served at a step
    largest_exposure_requests: int | None = None  # that the candidate serves before the first verdict; None: no limit
    largest_exposure_usd: float | None = None
    # The defaults from here on are those of a ramp that was stored before these fields existed.
    holdout: float = 0.0  # share of units that the control keeps after the promotion, in [0, 0.5]
    holdout_days: float = 0.0  # after which the holdout ends by itself

    def __post_init__(self) -> None:
        """Raises ValueError for steps that do not rise to 1, and for negative or empty limits."""
        rising = all(a < b for a, b in zip(self.steps, self.steps[1:], strict=False))
        if not self.steps or not rising or self.steps[0] <= 0 or self.steps[-1] != 1.0:
            raise ValueError(f"steps: {list(self.steps)}, expected rising shares above 0 that end at 1.0")
        if not 0 <= self.soak_s < math.inf or self.min_units < 1:
            raise ValueError(f"soak_s: {self.soak_s}, min_units: {self.min_units}: expected >= 0 and >= 1")
        for limit in (self.largest_exposure_requests, self.largest_exposure_usd):
            if limit is not None and limit < 0:
                raise ValueError(f"largest exposure: {limit}, expected >= 0")
        if not 0.0 <= self.holdout <= 0.5 or not 0.0 <= self.holdout_days < math.inf:
            raise ValueError(
                f"holdout: {self.holdout}, holdout_days: {self.holdout_days}: expected a share in [0, 0.5], days >= 0"
            )

    def fields(self) -> dict[str, Any]:
        """JSON-able, without a holdout where there is none, so that the hash of an older plan stays."""
        fields = asdict(self)
        if not self.holdout:
            del fields["holdout"], fields["holdout_days"]
        return fields

    def with_first_rules(self) -> RampDesign:
        """The design as versions without a holdout would have made it."""
        return replace(self, holdout=0.0, holdout_days=0.0)

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> RampDesign:
        """Raises ValueError, TypeError or KeyError."""
        return cls(**{**fields, "steps": tuple(float(step) for step in fields["steps"])})


@dataclass(frozen=True, slots=True)
class FreezeWindow:
    """A time in which no ramp advances. Weekly ones are in seconds since Monday 00:00 UTC, others in Unix seconds."""

    start: float
    end: float  # may be smaller than start in a weekly window, which then spans the end of the week
    weekly: bool = False

    def holds(self, now: float) -> bool:
        """now: Unix seconds."""
        at = (now - _MONDAY_S) % _WEEK_S if self.weekly else now
        if self.weekly and self.end < self.start:
            return at >= self.start or at < self.end
        return self.start <= at < self.end


@dataclass(frozen=True, slots=True)
class RampPace:
    """Settings that a ramp's owner may change at any time: they decide when a step is taken, not what results mean."""

    mode: RampMode = "advise"
    cooldown_s: float = 3600.0  # after a rollback, in which nothing advances
    stale_s: float = 300.0  # evidence without an answer newer than this holds
    freeze: tuple[FreezeWindow, ...] = ()

    def frozen(self, now: float) -> bool:
        return any(window.holds(now) for window in self.freeze)


@dataclass(frozen=True, slots=True)
class RampChange:
    """One change of a ramp: by whom, when (Unix seconds) and why."""

    at: float
    by: str
    reason: str


@dataclass(frozen=True, slots=True)
class RampRecord:
    """The ramp of one experiment as it is in force."""

    experiment: str
    plan: str  # the plan's hash
    version: int  # rises by 1 with each change
    state: RampState
    step: int  # an index of the design's steps; -1 if none was reached
    paused: bool
    since: float  # when this state and step began: Unix seconds
    at: float  # when this version was made
    by: str
    reason: str
    cooling_until: float = 0.0  # Unix seconds
    overridden: bool = False  # somebody took this step without the evidence for it
    kept: tuple[str, ...] = ()  # names of the segments that stay with the control
    design: Mapping[str, Any] | None = field(default=None, hash=False)
    """The design of a ramp without a plan: that of a guard (core/guard_ramp.py). None if the plan has it."""
    raw: bytes = field(default=b"", compare=False, repr=False)
    """The stored bytes; b"" for a record that was not read from the server."""

    def share(self, design: RampDesign) -> float:
        """The share of units that the candidate serves. A promoted record whose step is beyond the last one has no
        holdout any more."""
        if self.state == "promoted":
            return 1.0 if self.step >= len(design.steps) else 1.0 - design.holdout
        known = self.state == "ramp" and 0 <= self.step < len(design.steps)
        return min(design.steps[self.step], 1.0 - design.holdout) if known else 0.0

    def holds_out(self, design: RampDesign) -> bool:
        """Whether it is promoted, and the control still has its holdout."""
        return self.state == "promoted" and design.holdout > 0 and self.step < len(design.steps)

    def to_json(self) -> bytes:
        fields = asdict(self)
        del fields["raw"]
        for name in ("kept", "design"):  # older gateways read records without them
            if not fields[name]:
                del fields[name]
        return orjson.dumps(fields)


def record_from_json(text: bytes | str) -> RampRecord:
    """Raises ValueError, KeyError or TypeError if the text holds no record that this version understands."""
    raw: dict[str, Any] = orjson.loads(text)
    if "kept" in raw:
        raw["kept"] = tuple(map(str, raw["kept"]))
    found = RampRecord(**raw, raw=text.encode() if isinstance(text, str) else text)
    if found.state not in get_args(RampState) or isinstance(found.version, bool) or not isinstance(found.version, int):
        raise ValueError(f"a ramp's record with state {found.state!r} and version {found.version!r}")
    if not isinstance(found.step, int) or found.step < -1 or not isinstance(found.paused, bool):
        raise ValueError(f"a ramp's record with step {found.step!r}")
    return replace(found, since=float(found.since), at=float(found.at), cooling_until=float(found.cooling_until))


def ramp_records(fields: Mapping[bytes, bytes]) -> dict[str, RampRecord]:
    """The records by experiment. What cannot be read is left out: to a reader it is missing."""
    out: dict[str, RampRecord] = {}
    for name, raw in fields.items():
        try:
            record = record_from_json(raw)
        except (ValueError, KeyError, TypeError):
            continue
        if record.experiment == name.decode("utf-8", "replace"):
            out[record.experiment] = record
    return out


@dataclass(frozen=True, slots=True)
class RampDecision:
    """The step that the evidence asks for, and why. ready: the evidence suffices, and a person has to agree."""

    action: RampAction
    reason: str
    also: tuple[str, ...] = ()
    """Additional conditions that a hold waits for, besides its reason."""
    without: tuple[str, ...] = ()
    """Segments without which the next step could be taken; a person decides that they stay with the control."""

    @classmethod
    def of(cls, evidence: Mapping[str, Any]) -> RampDecision | None:
        """The decision in the evidence that a controller has stored; None if it has none."""
        found = evidence.get("decision")
        if not isinstance(found, dict) or "action" not in found:
            return None
        also, without = (tuple(map(str, found.get(name) or ())) for name in ("also", "without"))
        return cls(found["action"], str(found.get("reason", "")), also, without)

    @property
    def suffices(self) -> bool:
        """Whether the evidence is enough for the next step, taken by the controller or by a person."""
        return self.action in ("ready", "advance", "promote")

    def fields(self) -> dict[str, Any]:
        lists = {"also": list(self.also), "without": list(self.without)}
        named = {name: each for name, each in lists.items() if each}
        return {"action": self.action, "reason": self.reason, **named}


@dataclass(frozen=True, slots=True)
class RampEvent:
    """One change of a ramp, as the audit keeps it."""

    id: str  # of its entry in the stream of events
    record: RampRecord  # after it
    before: tuple[RampState, int] | None  # (state, step); None if there was no record
    evidence: Mapping[str, Any]  # as the controller saw it last

    @property
    def moved(self) -> bool:
        """Whether it began another state or step."""
        return self.before != (self.record.state, self.record.step)

    @property
    def override(self) -> bool:
        return self.moved and self.record.overridden

    @property
    def kind(self) -> str:
        after = self.record
        if self.before is None and after.version > 1 and after.state != "shadow":
            return "restored"
        if self.before is not None and self.before[0] == after.state == "promoted" and self.moved:
            return "holdout_ended"
        if self.override:
            return "overridden"
        if self.moved:
            begins = "begun" if after.design is not None else "shadowing"
            return {"ramp": "advanced", "shadow": begins}.get(after.state, after.state)
        return "paused" if after.paused else "resumed"


class RampRefused(ValueError):
    """A change that this ramp does not allow now; the message says why."""


def started(experiment: str, plan: str, change: RampChange, before: RampRecord | None = None) -> RampRecord:
    """Makes the record of a plan that begins: no unit is served by the candidate. before: of an earlier plan or run."""
    version = before.version + 1 if before else 1
    cooling = before.cooling_until if before and before.plan == plan else 0.0
    return RampRecord(
        experiment, plan, version, "shadow", -1, False, change.at, change.at, change.by, change.reason, cooling
    )


def advanced(record: RampRecord, design: RampDesign, change: RampChange) -> RampRecord:
    """Advances the ramp by one step: to the first step, to the next one, or from the last one to promoted. Raises
    RampRefused."""
    if record.state not in ("shadow", "ramp"):
        raise RampRefused(f"{record.experiment}: it is {described(record.state)}, so there is no next step")
    if record.paused:
        raise RampRefused(f"{record.experiment}: it is paused ({record.reason}); resume it first")
    _needs_cool_down(record, change)
    step = record.step + 1 if record.state == "ramp" else 0
    if step >= len(design.steps):
        return _moved(record, change, "promoted", record.step)
    return _moved(record, change, "ramp", step)


def promoted(record: RampRecord, design: RampDesign, change: RampChange, decision: RampDecision | None) -> RampRecord:
    """Takes the step that waits for a person. decision: the controller's newest. Raises RampRefused unless it is
    `ready`."""
    _needs_reason(record, change)
    if decision is None or not decision.suffices:
        why = decision.reason if decision else "there is no evidence yet"
        raise RampRefused(f"{record.experiment}: {why}. To go on all the same: override it, with a reason")
    return advanced(record, design, change)


def excepted(
    record: RampRecord, design: RampDesign, change: RampChange, decision: RampDecision | None, kept: Collection[str]
) -> RampRecord:
    """Takes the step that waits for a person who agrees that some segments stay with the control. kept: their names.

    decision: the controller's newest. Raises RampRefused unless nothing but these segments is waited for.
    """
    _needs_reason(record, change)
    if decision is None or not decision.without:
        why = decision.reason if decision else "there is no evidence yet"
        raise RampRefused(f"{record.experiment}: no segments are to be excepted: {why}")
    missing = sorted(set(decision.without) - set(kept))
    if missing:
        raise RampRefused(f"{record.experiment}: {', '.join(missing)} must be excepted too")
    if decision.also:
        raise RampRefused(f"{record.experiment}: it also waits: {'; '.join(decision.also)}")
    return replace(advanced(record, design, change), kept=tuple(sorted(kept)))


def overridden(record: RampRecord, design: RampDesign, change: RampChange, *, full: bool = False) -> RampRecord:
    """Advances the ramp by one step without the evidence, from any state; full: to all traffic. It stays visible in
    every report.

    Neither a verdict nor earlier alarms undo it; alarms on answers that come after it do. Raises RampRefused.
    """
    _needs_reason(record, change)
    if record.state == "promoted":
        raise RampRefused(f"{record.experiment}: it is promoted already")
    step = record.step + 1 if record.state == "ramp" else 0
    if full or step >= len(design.steps):
        return replace(_moved(record, change, "promoted", len(design.steps) - 1), overridden=True, cooling_until=0.0)
    return replace(_moved(record, change, "ramp", step), overridden=True, cooling_until=0.0)


def holdout_ended(record: RampRecord, design: RampDesign, change: RampChange) -> RampRecord:
    """Gives a promoted candidate the units that the control had kept. Raises RampRefused."""
    _needs_reason(record, change)
    if not record.holds_out(design):
        why = "it has no holdout" if record.state == "promoted" else f"it is {described(record.state)}"
        raise RampRefused(f"{record.experiment}: {why}, so there is none to end")
    return replace(_moved(record, change, "promoted", len(design.steps)), overridden=record.overridden)


def rolled_back(record: RampRecord, change: RampChange, cooldown_s: float) -> RampRecord:
    """Stops serving every unit by the candidate. Raises RampRefused if that has already happened."""
    _needs_reason(record, change)
    if record.state in ("rolled_back", "stopped"):
        raise RampRefused(f"{record.experiment}: it is {described(record.state)} already")
    return replace(_moved(record, change, "rolled_back", -1), cooling_until=change.at + cooldown_s)


def paused(record: RampRecord, change: RampChange) -> RampRecord:
    """Pauses the ramp: the share stays and nothing advances; alarms still roll back. Raises RampRefused."""
    _needs_reason(record, change)
    if record.paused or record.state not in ("shadow", "ramp"):
        state = "paused" if record.paused else described(record.state)
        raise RampRefused(f"{record.experiment}: it is {state}, so there is nothing to pause")
    return replace(_next(record, change), paused=True)


def resumed(record: RampRecord, change: RampChange) -> RampRecord:
    """Resumes a paused ramp; one that was rolled back or stopped begins again with shadows only. Raises RampRefused."""
    _needs_reason(record, change)
    if record.paused:
        return replace(_next(record, change), paused=False)
    if record.state not in ("rolled_back", "stopped"):
        raise RampRefused(f"{record.experiment}: it is {described(record.state)}, so there is nothing to resume")
    _needs_cool_down(record, change)
    return _moved(record, change, "shadow", -1)


def stopped(record: RampRecord, change: RampChange) -> RampRecord:
    """Ends the ramp without a finding against the candidate, which then serves no unit. Raises RampRefused."""
    if record.state in ("rolled_back", "stopped"):
        raise RampRefused(f"{record.experiment}: it is {described(record.state)} already")
    return _moved(record, change, "stopped", -1)


def described(state: RampState) -> str:
    return {"ramp": "at a step", "rolled_back": "rolled back", "shadow": "in its shadow phase"}.get(state, state)


def _needs_reason(record: RampRecord, change: RampChange) -> None:
    if not change.reason.strip():
        raise RampRefused(f"{record.experiment}: a reason is needed; the audit keeps it")


def _needs_cool_down(record: RampRecord, change: RampChange) -> None:
    if change.at < record.cooling_until:
        left = math.ceil(record.cooling_until - change.at)
        raise RampRefused(f"{record.experiment}: it cools down after a rollback for another {left} s")


def _next(record: RampRecord, change: RampChange) -> RampRecord:
    return replace(
        record, version=record.version + 1, at=change.at, by=change.by, reason=change.reason.strip(), raw=b""
    )


def _moved(record: RampRecord, change: RampChange, state: RampState, step: int) -> RampRecord:
    kept = record.kept if state in ("ramp", "promoted") else ()
    moved = replace(_next(record, change), state=state, step=step, since=change.at)
    return replace(moved, paused=False, overridden=False, kept=kept)
