"""A body is read once and copied once, however large it is: passes and copies are counted, and no time is judged."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from msgspec import Raw

import gateway

sys.path.insert(0, str(Path(__file__).parent))  # as in test_simulator.py
import agent_bodies
import bodies
import hot
import systems

OURS = str(Path(gateway.__file__).parent)
LARGE = agent_bodies.body("570 KB")
ANSWER = hot.plain()[1][0]
READERS = frozenset(
    {"decode", "loads", "dumps", "encode", "join", "match", "search", "sub", "finditer", "update", "compress"}
)
"""C functions that may read all of an argument; methods of bytes read the object that they belong to."""
BOUNDED = frozenset({"find", "rfind", "rindex"})
"""Methods of bytes that get bounds, or find what they look for at once."""


def through(body: bytes, watch: Any = None, *, rate: float = 0.0, limits: bool = False) -> bodies.Asked:
    """The second of two requests of this body through the gateway. watch: around it."""
    pieces = bodies.reads(body)

    async def drive(running: hot.Hot) -> bodies.Asked:
        await bodies.ask(running, pieces, ANSWER)
        with watch or nullcontext():
            return await bodies.ask(running, pieces, ANSWER)

    found: bodies.Asked = asyncio.run(hot.driven(rate, drive, systems.with_limits if limits else None))
    return found


@contextmanager
def whole_bodies(size: int, found: Counter[str]) -> Iterator[None]:
    """Counts the calls of C functions by functions of the gateway that hold something of at least this size."""

    def count(frame: FrameType, event: str, called: Any) -> None:
        if event != "c_call" or not frame.f_code.co_filename.startswith(OURS):
            return
        name, owner = called.__name__, getattr(called, "__self__", None)
        given = [owner] if isinstance(owner, bytes) and name not in BOUNDED else []
        given += frame.f_locals.values() if name in READERS else ()
        given += [piece for value in given if isinstance(value, tuple) for piece in value]
        if any(isinstance(value, bytes | memoryview | Raw) and len(value) >= size for value in given):
            found[f"{frame.f_code.co_name}: {name}"] += 1

    sys.setprofile(count)
    try:
        yield
    finally:
        sys.setprofile(None)


@pytest.mark.parametrize("limits", [False, True], ids=["alone", "with limits"])
@pytest.mark.parametrize("rate", [0.0, 1.0], ids=["not recorded", "recorded"])
def test_a_large_body_is_passed_over_once_and_sent_in_slices(rate: float, limits: bool) -> None:
    """The patterns are matched at the names of the members before the edited one; messages are looked at first only.
    What is recorded is joined."""
    found: Counter[str] = Counter()
    asked = through(LARGE, whole_bodies(300_000, found), rate=rate, limits=limits)
    assert asked.status == 200
    sent = b"".join(asked.pieces)
    model = sent[:40].split(b'"')[3].decode()
    assert sent == LARGE.replace(b'"%b"' % systems.MODEL.encode(), b'"%b"' % model.encode(), 1)
    assert found == {
        "_counted: decode": 1,
        "read_object: decode": 2,  # of the members model and max_tokens
        "_check: match": 1,
        "edited_slices: match": 1,
        "encode_head: join": 1,  # of the headers
    } | ({"join: join": 1} if rate else {})


class PeakMemory:
    """The most bytes that were allocated at once, while it is entered."""

    peak = 0

    def __enter__(self) -> None:
        tracemalloc.start()

    def __exit__(self, *_: object) -> None:
        self.peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()


@pytest.mark.parametrize(("rate", "times"), [(0.0, 1), (1.0, 2)], ids=["not recorded", "recorded"])
def test_a_large_body_is_held_once_and_recorded_once(rate: float, times: int) -> None:
    """Holds it as it arrives, which is what is sent in slices; and with its edits, if they are recorded."""
    memory = PeakMemory()
    assert through(LARGE, memory, rate=rate).status == 200
    assert times * len(LARGE) < memory.peak < (times + 0.2) * len(LARGE)


def test_the_tables_are_printed() -> None:
    command = [sys.executable, str(Path(bodies.__file__)), "--quick"]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "times it." in ran.stdout
    assert {"200", "400"} == {cell.split(":")[0].strip() for cell in ran.stdout.split("|") if "ms/MB" in cell}
