"""Decides the next step of a ramp from the evidence. Pure.

An alarm rolls back at once, whatever else holds: a pause, a freeze window, `advise`. A step forward needs all of these:
the verdict, fresh evidence, the soak time, the units. A missing, undecided or stale condition holds the ramp.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from gateway.core.guard_ramp import ramped_guard
from gateway.core.ramp import (
    CONTROLLER,
    RampChange,
    RampDecision,
    RampDesign,
    RampPace,
    RampRecord,
    RampRefused,
    advanced,
    paused,
    rolled_back,
    stopped,
)
from gateway.ramps.evidence import RampEvidence
from gateway.verdict.decision import SHIPS

ASSUMED = (
    "the plan does not say whether calls are independent, and there are too few users and keys to check it: send "
    "x-gateway-user or metadata.conversation_id, set `unit: request` or `population: these`, or take the steps by hand "
    "with `mode: advise`"
)


def decide_ramp(
    record: RampRecord, design: RampDesign, evidence: RampEvidence, now: float, pace: RampPace
) -> RampDecision:
    """Decides what to do now, with the reason that the audit keeps. now: Unix seconds."""
    if record.state in ("rolled_back", "stopped"):
        return RampDecision("hold", f"the ramp is {record.state.replace('_', ' ')}: {record.reason}")
    if evidence.alarms:
        return RampDecision("roll_back", "; ".join(alarm.says() for alarm in evidence.alarms))
    if evidence.breakers.broken is not None and record.state != "shadow":
        return RampDecision("roll_back", evidence.breakers.broken)
    if record.state == "promoted":
        share = record.share(design)
        held = "" if share == 1.0 else f" but a holdout of {1.0 - share:.3g}"
        return RampDecision("hold", f"the candidate serves everything{held}")
    if evidence.verdict == "reject" and not record.overridden:
        return RampDecision("roll_back", evidence.sentence)
    exposed = _exposed(design, evidence) if record.state == "ramp" and not record.overridden else None
    if exposed is not None:
        return RampDecision("stop", exposed)
    if evidence.ratio is not None and record.state == "ramp" and not record.paused:
        return RampDecision("pause", evidence.ratio)
    reasons = tuple(_holds(record, design, evidence, now, pace))
    if reasons:
        without = () if _agreed(record, evidence) else evidence.excepted
        return RampDecision("hold", reasons[0], reasons[1:], without)
    last = record.state == "ramp" and record.step + 1 >= len(design.steps)
    words = "everything holds" if last else f"everything holds for {_next_share(record, design):.3g} of the units"
    if evidence.hours is not None and _before_all(record, design) and (unknown := evidence.hours.unknown()):
        words = f"{words}; {unknown}"
    if pace.mode == "advise":
        return RampDecision("ready", f"{words}: waits for `{promoting(record)}`")
    return RampDecision("promote" if last else "advance", words)


def next_step(
    record: RampRecord, design: RampDesign, evidence: RampEvidence, now: float, pace: RampPace
) -> tuple[RampDecision, RampRecord]:
    """The decision, and the record after it: the same one where nothing changes. now: Unix seconds."""
    decision = decide_ramp(record, design, evidence, now, pace)
    if decision.action in ("hold", "ready"):
        return decision, record
    try:
        return decision, follow(record, design, decision, now, pace)
    except RampRefused as refused:
        return RampDecision("hold", str(refused)), record


def promoting(record: RampRecord) -> str:
    """The command that takes the next step."""
    guard = ramped_guard(record.experiment)
    return f"gateway ab promote {record.experiment}" if guard is None else f"gateway guard promote {guard}"


def follow(record: RampRecord, design: RampDesign, decision: RampDecision, at: float, pace: RampPace) -> RampRecord:
    """The record after a decision that changes it. Raises RampRefused, and ValueError for one that does not."""
    change = RampChange(at, CONTROLLER, decision.reason)
    if decision.action == "roll_back":
        return rolled_back(record, change, pace.cooldown_s)
    if decision.action == "stop":
        return stopped(record, change)
    if decision.action == "pause":
        return paused(record, change)
    if decision.action in ("advance", "promote"):
        return advanced(record, design, change)
    raise ValueError(f"{decision.action} changes nothing")


def _next_share(record: RampRecord, design: RampDesign) -> float:
    """The share of the units after the next step; the promotion changes it no more."""
    step = record.step + 1 if record.state == "ramp" else 0
    return min(design.steps[min(step, len(design.steps) - 1)], 1.0 - design.holdout)


def _exposed(design: RampDesign, evidence: RampEvidence) -> str | None:
    """Reason why the candidate must not serve any more: its exposure is used up, and there has been no verdict."""
    most, usd = design.largest_exposure_requests, design.largest_exposure_usd
    if evidence.decided or evidence.verdict in SHIPS:
        return None
    if most is not None and evidence.requests >= most:
        served = f"{evidence.requests} requests that the candidate served"
        return f"no verdict after {served}; the largest exposure is {most}"
    if usd is not None and evidence.usd >= usd:
        return f"no verdict after ${evidence.usd:.4g} that the candidate cost; the largest exposure is ${usd:g}"
    return None


def _holds(record: RampRecord, design: RampDesign, evidence: RampEvidence, now: float, pace: RampPace) -> Iterator[str]:
    """Reasons why the next step cannot be taken now, the most important one first."""
    if record.paused:
        yield f"paused by {record.by}: {record.reason}"
    yield from _of_one_caller(record, evidence)
    first_of_feedback = record.state == "shadow" and evidence.served_primary
    if evidence.verdict == "ship_except" and not _agreed(record, evidence):
        agree = " ".join(f"--except {name}" for name in evidence.excepted)
        yield f"{evidence.sentence} With `gateway ab promote {record.experiment} {agree}` the rest goes on"
    elif evidence.verdict not in SHIPS and not first_of_feedback:
        yield evidence.sentence or "there is no verdict"
    yield from _weak_spot(record, design, evidence)
    if evidence.independence == "assumed" and pace.mode == "auto":
        yield ASSUMED
    yield from _stale(evidence, now, pace)
    yield from (each for each in (evidence.breakers.holds, evidence.late) if each is not None)
    if now < record.cooling_until:
        yield f"cools down after a rollback for another {math.ceil(record.cooling_until - now)} s"
    if record.state == "ramp":
        yield from _too_early(record, design, evidence, now)
    if pace.frozen(now):
        yield "a freeze window holds"
    yield from evidence.waits


SEARCHED_FROM = 0.25
"""Share of the units from which on a step waits for the search for weak spots."""


def _agreed(record: RampRecord, evidence: RampEvidence) -> bool:
    """Whether every segment that does not hold stays with the control already."""
    return set(evidence.excepted) <= set(record.kept)


def _weak_spot(record: RampRecord, design: RampDesign, evidence: RampEvidence) -> Iterator[str]:
    found = evidence.weak_spot
    if found is None or _next_share(record, design) < SEARCHED_FROM:
        return
    if found.alarm:
        yield (
            f"a weak spot: the candidate is worse where {found.where}; declare it in `segments`, or look at it and "
            "override"
        )
    elif found.pairs < found.needed:
        yield f"the search for weak spots has seen {found.pairs} of {found.needed} pairs"


def _stale(evidence: RampEvidence, now: float, pace: RampPace) -> Iterator[str]:
    if evidence.newest is None:
        yield "no data: the candidate has answered nothing yet"
    elif now - evidence.newest > pace.stale_s:
        yield f"stale: the candidate's newest answer is {now - evidence.newest:.0f} s old"
    if now - evidence.at > pace.stale_s or evidence.lag_s > pace.stale_s:
        yield f"stale: the evidence is {max(now - evidence.at, evidence.lag_s):.0f} s behind"
    if evidence.lost_gateways:
        yield f"{evidence.lost_gateways} gateway processes stopped reporting; what they serve is not known"


def _of_one_caller(record: RampRecord, evidence: RampEvidence) -> Iterator[str]:
    then = "" if ramped_guard(record.experiment) is not None else ", then roll back or override"
    for each in evidence.served:
        if each.rests_on:
            yield (
                f"{each.metric} is worse in the calls of {each.rests_on} alone, which roll nothing back; look at "
                f"them{then}"
            )


def _too_early(record: RampRecord, design: RampDesign, evidence: RampEvidence, now: float) -> Iterator[str]:
    left = design.soak_s - (now - record.since)
    if left > 0:
        yield f"soaks for another {math.ceil(left)} s"
    if evidence.units < design.min_units:
        unit = f" (a unit is {evidence.unit})" if evidence.unit else ""
        yield f"{evidence.units} of {design.min_units} units at this step{unit}"
    if evidence.blind:
        yield "too few units at this step: if the candidate failed every time, no alarm could tell yet"
    if _before_all(record, design):
        yield from _unproven(evidence)


def _before_all(record: RampRecord, design: RampDesign) -> bool:
    """Whether the next step gives the candidate all traffic."""
    following = record.step + 1
    return record.state == "ramp" and following < len(design.steps) and design.steps[following] == 1.0


def _unproven(evidence: RampEvidence) -> Iterator[str]:
    missing = () if evidence.hours is None else evidence.hours.missing
    if evidence.hours is not None and missing:
        yield evidence.hours.waits()
    for proof in evidence.unproven:
        if not (proof.so_far and set(proof.hours) <= set(missing)):  # the line above says it
            yield proof.missing()
