"""No scorer can stop, slow or crash another, or the consumer: raising, hanging, blocking its thread, eating memory."""

from __future__ import annotations

import pytest

from gateway.config.scorers import ScorerConfig as Section
from gateway.scoring.registry import build_all, close_all

STRANGERS = """
import asyncio, ctypes, sys, time
from dataclasses import dataclass
from gateway.scorers import Rule, Score

class Raises(Rule):
    async def score(self, subject):
        raise RuntimeError("no")
    def golden(self): return ()

class Exits(Raises):
    async def score(self, subject):
        sys.exit(3)

class Hangs(Raises):
    async def score(self, subject):
        await asyncio.Event().wait()

class Blocks(Raises):
    async def score(self, subject):
        time.sleep(3600)

class Spins(Raises):
    async def score(self, subject):
        while True: pass

class Eats(Raises):
    async def score(self, subject):
        return Score(float(len([bytearray(1 << 24) for _ in range(4000)])))

class Lies(Raises):
    async def score(self, subject):
        return Score(float("nan"), "\\x1b[2J", "x" * 10_000_000)
"""
IN_A_PROCESS = {"isolate": True, "deadline_s": 0.5, "concurrency": 4}
N = 6  # exchanges, more than a scorer takes at once; after each, `eats` and `spins` need a new process
SECTIONS = {
    "length": {},
    "raises": {"use": "strangers:Raises"},
    "exits": {"use": "strangers:Exits"},
    "hangs": {"use": "strangers:Hangs", "deadline_s": 0.2},
    "blocks": {"use": "strangers:Blocks", "deadline_s": 0.2},
    "lies": {"use": "strangers:Lies"},
    "spins": {"use": "strangers:Spins", **IN_A_PROCESS},
    "eats": {"use": "strangers:Eats", **IN_A_PROCESS, "deadline_s": 5, "memory_mb": 128},
    "refusal": {},
}


@pytest.fixture
async def hostile(room, tmp_path, monkeypatch):
    """A room with scorers that raise, hang, allocate and lie."""
    (tmp_path / "strangers.py").write_text(STRANGERS)
    monkeypatch.syspath_prepend(tmp_path)
    built = build_all({name: Section(**section) for name, section in SECTIONS.items()})
    room.scorers = built.single
    yield room
    await close_all(built)


def statuses(room) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for scorer, status, n in room.sql("SELECT scorer, status, count(*) FROM scores GROUP BY 1, 2"):
        found.setdefault(scorer, {})[status] = n
    return found


async def test_hostile_scorers_do_not_affect_the_others(hostile, exchange, tally):
    sent = [exchange(f"answer {i}") for i in range(N)]
    async with hostile.consuming():
        await hostile.send(*sent, tally(sent))
        await hostile.until_read()
        await hostile.until(lambda: any(f.unaccounted == 0 and f.scores for f in hostile.shown))
    found = statuses(hostile)
    assert found["length"] == found["refusal"] == {"scored": N}
    assert found["raises"] == found["exits"] == found["lies"] == {"error": N}
    assert found["hangs"] == {"timeout": N}
    assert set(found["blocks"]) <= {"timeout", "error"}
    assert set(found["spins"]) <= {"timeout", "error"}
    assert set(found["eats"]) <= {"timeout", "error"}
    assert all(sum(of.values()) == N for of in found.values()), "never silence"
    (explanation,) = hostile.sql("SELECT max(length(explanation)) FROM scores")
    assert explanation[0] <= 2000
