"""Moves ramps: reads the evidence of a subject, decides, changes the record, and keeps the audit.

The engine has no state: it may be killed at any moment, and another consumer continues. A change is made by
compare-and-swap, with its event, so that two controllers, or a person at the same time, cannot both make one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import orjson

from gateway.core.ramp import CONTROLLER, RampDecision, RampDesign, RampEvent, RampRecord
from gateway.ramps.decision import next_step
from gateway.ramps.subject import RampLook, RampSubject
from gateway.store.ramp_events import add_ramp_events, stored_ramp_events
from gateway.store.store import Store
from gateway.stream import Corridor

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RampStanding:
    """One ramp as the engine left it."""

    design: RampDesign
    record: RampRecord
    decision: RampDecision


class RampEngine:
    """The step of every ramp. clock: Unix seconds. Every method raises StreamDown and StoreDown."""

    def __init__(self, store: Store, corridor: Corridor, clock: Callable[[], float]) -> None:
        self._store, self._corridor, self._clock = store, corridor, clock

    async def drain_events(self) -> None:
        """Moves events from the stream server into the audit; they are removed there once they are stored."""
        while True:
            waiting = await self._corridor.ramps.waiting()
            if waiting.events:
                await self._store.run(lambda c, waiting=waiting: add_ramp_events(c, waiting.events))  # type: ignore[misc]
            await self._corridor.ramps.remove(waiting.ids)
            if not waiting.ids:
                return

    async def step(self, subject: RampSubject, known: RampRecord | None) -> RampStanding | None:
        """Takes one look. Returns None if there is nothing to decide, or the record has just been changed."""
        now = self._clock()
        events = await self._store.look(lambda connection: stored_ramp_events(connection, subject.name))
        amended = put_back(known, events[-1].record if events else None, now) or subject.amended(known, now)
        if amended is not None:
            await self.change(known, amended, await self._corridor.ramps.evidence(subject.name))
            return None
        design = None if known is None else subject.design(known)
        if known is None or design is None:
            return None
        if (why := subject.rests(known)) is not None:
            return RampStanding(design, known, RampDecision("hold", why))
        return await self._decide(subject, design, RampLook(known, _of_plan(events, known), now))

    async def _decide(self, subject: RampSubject, design: RampDesign, look: RampLook) -> RampStanding | None:
        evidence = await subject.evidence(look)
        if evidence is None:
            return None
        if was_paused(look.events, look.record):
            evidence = replace(evidence, ratio=None)
        decision, after = next_step(look.record, design, evidence, self._clock(), subject.pace)
        snapshot = orjson.dumps({**evidence.fields(), "decision": decision.fields()})
        await self._corridor.ramps.set_evidence(subject.name, snapshot)
        if after is not look.record and not await self.change(look.record, after, snapshot):
            return None
        return RampStanding(design, after, decision)

    async def change(self, before: RampRecord | None, after: RampRecord, evidence: bytes) -> bool:
        """Changes the record and logs it. False if somebody else has changed it meanwhile. evidence: JSON."""
        done = await self._corridor.ramps.change(before, after, evidence)
        if done:
            level = logging.WARNING if after.state in ("rolled_back", "stopped") else logging.INFO
            extra = {"plan": after.plan, "step": after.step, "version": after.version}
            log.log(level, "ramp of %s: %s: %s", after.experiment, after.state, after.reason, extra=extra)
        return done


def put_back(known: RampRecord | None, stored: RampRecord | None, now: float) -> RampRecord | None:
    """The record that the stream server has lost; None if it has the newest. stored: of the newest event in the
    audit.
    """
    if stored is None or (known is not None and known.version >= stored.version):
        return None
    reason = f"put back, as the stream server had lost it; before: {stored.reason}"
    return replace(stored, version=stored.version + 1, at=now, by=CONTROLLER, reason=reason, raw=b"")


def was_paused(events: Sequence[RampEvent], record: RampRecord) -> bool:
    """Whether the controller has paused this step before, so that a person has resumed it since."""
    return any(e.kind == "paused" and e.record.by == CONTROLLER and e.record.since == record.since for e in events)


def _of_plan(events: Sequence[RampEvent], record: RampRecord) -> Sequence[RampEvent]:
    return [event for event in events if event.record.plan == record.plan]
