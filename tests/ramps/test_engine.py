"""The engine of ramps with a subject of which nothing is known but its evidence."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import orjson
import pytest

from gateway.core.ramp import CONTROLLER, RampChange, RampDesign, RampPace, RampRecord, paused, resumed, started
from gateway.ramps.engine import RampEngine, RampStanding
from gateway.ramps.evidence import RampEvidence
from gateway.ramps.subject import RampLook, RampSubject
from gateway.store.store import Store

DESIGN = RampDesign((0.25, 1.0), 60.0, 10)
BEGUN = started("swap", "p1", RampChange(1_000.0, CONTROLLER, "begun"))
SAFE = RampEvidence(2_000.0, verdict="ship", sentence="not worse", newest=2_000.0)


@dataclass
class Subject:
    """A subject whose evidence the test sets."""

    found: RampEvidence | None = SAFE
    resting: str | None = None
    pace: RampPace = field(default_factory=lambda: RampPace("auto"))
    name: str = "swap"
    looks: list[RampLook] = field(default_factory=list)

    def amended(self, known: RampRecord | None, now: float) -> RampRecord | None:
        return BEGUN if known is None else None

    def design(self, record: RampRecord) -> RampDesign | None:
        return DESIGN

    def rests(self, record: RampRecord) -> str | None:
        return self.resting

    async def evidence(self, look: RampLook) -> RampEvidence | None:
        self.looks.append(look)
        return self.found


Round = Callable[[RampSubject], Any]


@pytest.fixture
async def step(room: Any) -> AsyncIterator[Round]:
    """Takes one round of the engine: the audit is drained, and the subject looked at with the record in force."""
    async with Store(room.store_url) as store:
        engine = RampEngine(store, room.corridor, lambda: 2_000.0)

        async def once(subject: RampSubject) -> RampStanding | None:
            await engine.drain_events()
            return await engine.step(subject, (await room.corridor.ramps.records()).get(subject.name))

        yield once


async def test_a_record_is_made_first_and_then_moved(step: Round, room: Any) -> None:
    subject = Subject()
    assert await step(subject) is None, "it has just been made"
    assert subject.looks == []
    standing = await step(subject)
    assert (standing.decision.action, standing.record.state, standing.record.step) == ("advance", "ramp", 0)
    (look,) = subject.looks
    assert look.record == BEGUN
    assert [event.kind for event in look.events] == ["shadowing"]
    stored = orjson.loads(await room.corridor.ramps.evidence("swap"))
    assert stored["decision"] == {"action": "advance", "reason": standing.decision.reason}


async def test_a_subject_adds_what_it_waits_for_and_its_own_figures(step: Round, room: Any) -> None:
    subject = Subject(replace(SAFE, waits=("the guard is late",), own={"newest": 5.0, "block_rate": 0.1}))
    await step(subject)
    standing = await step(subject)
    assert (standing.decision.action, standing.decision.reason) == ("hold", "the guard is late")
    stored = orjson.loads(await room.corridor.ramps.evidence("swap"))
    assert (stored["newest"], stored["block_rate"]) == (5.0, 0.1)


@pytest.mark.parametrize("resting", [None, "the experiment is stopped"])
async def test_without_evidence_nothing_moves(step: Round, room: Any, resting: str | None) -> None:
    subject = Subject(None, resting)
    await step(subject)
    standing = await step(subject)
    assert (standing and standing.decision.reason) == resting
    assert (await room.corridor.ramps.records())["swap"] == BEGUN
    assert await room.corridor.ramps.evidence("swap") == b"{}"


async def test_a_step_that_a_person_resumed_is_not_paused_again(step: Round, room: Any) -> None:
    """A sample ratio that does not fit pauses a step once."""
    subject = Subject()
    await step(subject)
    ramps = room.corridor.ramps
    ramping = replace(BEGUN, version=2, state="ramp", step=0, since=1_500.0)
    assert await ramps.change((await ramps.records())["swap"], ramping, b"{}")
    subject.found = replace(SAFE, newest=None, ratio="the units do not fit")
    standing = await step(subject)
    assert (standing.decision.action, standing.record.paused) == ("pause", True)
    assert standing.record == paused(ramping, RampChange(2_000.0, CONTROLLER, "the units do not fit"))
    known = (await ramps.records())["swap"]
    assert await ramps.change(known, resumed(known, RampChange(2_000.0, "mia", "looked at it")), b"{}")
    standing = await step(subject)
    assert (standing.decision.action, standing.record.paused) == ("hold", False)


async def test_a_change_by_somebody_else_wins(step: Round, room: Any) -> None:
    subject = Subject()
    await step(subject)
    held = paused(BEGUN, RampChange(2_000.0, "mia", "lunch"))

    class Meanwhile(Subject):
        """A person pauses the ramp while its evidence is read."""

        async def evidence(self, look: RampLook) -> RampEvidence | None:
            assert await room.corridor.ramps.change(look.record, held, b"{}")
            return self.found

    assert await step(Meanwhile()) is None
    assert (await room.corridor.ramps.records())["swap"] == held
