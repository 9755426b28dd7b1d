"""Facts that the processes of a gateway share: what one has noted, another finds, and the oldest are forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from gateway.proxy.routing.shared_notes import NoteKind, SharedNotes
from gateway.runtime.tasks import Tasks
from gateway.stream import Corridor

HOME, RUN = NoteKind("home", "an upstream", 60), NoteKind("chain", "a run", 60)
MOST = 3


async def test_another_process_finds_a_fact_of_the_same_kind_alone(stream_url: str, stream_name: str) -> None:
    here, there = Corridor(stream_url, stream_name), Corridor(stream_url, stream_name)
    async with Tasks() as tasks:
        SharedNotes(HOME, here.state, tasks, MOST).note("d1", "u1")
        async with asyncio.timeout(60):
            while len(tasks):
                await asyncio.sleep(0.002)
        assert await SharedNotes(RUN, there.state, tasks, MOST).find("d1") is None
        found = SharedNotes(HOME, there.state, tasks, MOST)
        async with asyncio.timeout(60):  # the server may be slower than a call waits for it
            while await found.find("d1") is None:
                await asyncio.sleep(0.002)
        assert await found.find("d1") == "u1"
    await here.aclose()
    await there.aclose()


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), max_size=40))
async def test_in_any_order_the_least_recently_used_are_forgotten(steps: Sequence[tuple[bool, int]]) -> None:
    known: dict[str, str] = {}  # the model: least recently used first
    async with Tasks() as tasks:
        notes = SharedNotes(HOME, None, tasks, MOST)
        for n, (noted, number) in enumerate(steps):
            digest = f"d{number}"
            if noted:
                notes.note(digest, f"fact {n}")
                known.pop(digest, None)
                known[digest] = f"fact {n}"
                for oldest in list(known)[:-MOST]:
                    del known[oldest]
            else:
                assert await notes.find(digest) == known.get(digest)
                if digest in known:
                    known[digest] = known.pop(digest)
