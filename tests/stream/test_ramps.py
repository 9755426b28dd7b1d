"""Ramps on a real stream server: a record and its event are one, and of two writers the second is refused."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from gateway.core.ramp import RampChange, RampDesign, advanced, rolled_back, started

AT = RampChange(100.0, "mia", "because")
DESIGN = RampDesign((0.1, 1.0), 0.0, 1)
FIRST = started("swap", "abc", AT)


async def test_a_record_and_its_event_are_written_together(corridor):
    assert await corridor.ramps.change(None, FIRST, b'{"units": 3}')
    known = (await corridor.ramps.records())["swap"]
    assert known == FIRST
    assert await corridor.ramps.change(known, advanced(known, DESIGN, AT), b"{}")
    waiting = await corridor.ramps.waiting()
    assert [(event.kind, event.before) for event in waiting.events] == [
        ("shadowing", None),
        ("advanced", ("shadow", -1)),
    ]
    assert waiting.events[0].evidence == {"units": 3}
    await corridor.ramps.remove(waiting.ids[:1])
    assert [event.kind for event in (await corridor.ramps.waiting()).events] == ["advanced"]


async def test_the_second_of_two_writers_of_a_ramp_is_refused(corridor):
    await corridor.ramps.change(None, FIRST, b"{}")
    known = (await corridor.ramps.records())["swap"]
    changes = (advanced(known, DESIGN, AT), rolled_back(known, AT, 1.0))
    done = await asyncio.gather(*(corridor.ramps.change(known, after, b"{}") for after in changes))
    assert sorted(done) == [False, True]
    assert len((await corridor.ramps.waiting()).events) == 2, "the refused change left no event"
    assert not await corridor.ramps.change(None, FIRST, b"{}")


async def test_entries_that_are_not_ramps_are_left_out(corridor):
    await corridor.client.hset(f"{corridor.state.prefix}:ramps", "odd", b"{")
    await corridor.client.xadd(f"{corridor.state.prefix}:ramp-events", {"after": b"{"})
    assert await corridor.ramps.records() == {}
    waiting = await corridor.ramps.waiting()
    assert (waiting.events, len(waiting.ids)) == ((), 1)


async def test_the_newest_evidence_is_kept(corridor):
    assert await corridor.ramps.evidence("swap") == b"{}"
    await corridor.ramps.set_evidence("swap", b'{"verdict": "hold"}')
    assert await corridor.ramps.evidence("swap") == b'{"verdict": "hold"}'


async def test_a_record_of_another_version_is_another_record(corridor):
    await corridor.ramps.change(None, FIRST, b"{}")
    assert not await corridor.ramps.change(replace(FIRST, raw=b'{"older": 1}'), replace(FIRST, version=2), b"{}")
