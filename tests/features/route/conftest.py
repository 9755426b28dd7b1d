"""An experiment whose pairs are in a store: the small target loses where a request is about code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from fixtures.cascades import CASCADE, cascade_section
from fixtures.route_worlds import SHARES, TEXTS
from typer.testing import CliRunner

from gateway.cli import app
from gateway.config.derive import plans_of
from gateway.config.loading import load
from gateway.core.exchange import Exchange
from gateway.core.plan import REPEAT, Plan
from gateway.core.randomization import draw
from gateway.core.segments import CallSegments

SCORER = "valid_json"
"""A scorer that a config may name; the room gives it to one that scores an answer by the number in it."""
SWAP: dict[str, Any] = {
    "model": "chat", "control": {"upstream": "u0", "model": "model-u0"},
    "candidate": {"upstream": "u1", "model": "small"},
    "shadow": 1.0, "repeat_control": 0.0, "aa": "proof", "primary": SCORER, "margin": 0.1, "min_hours": 0,
    "method": "anytime", "start": "manual", "after_verdict": "continue",
}  # fmt: skip
CONFIG: dict[str, Any] = {
    "open": True,
    "upstreams": {"u0": {"kind": "fake"}, "u1": {"kind": "fake"}},
    "models": {"chat": {"targets": [{"upstream": "u0", "model": "model-u0"}]}},
    "scorers": {SCORER: {}},
}


class Experiment:
    """A gateway.yaml with an experiment, and its pairs."""

    def __init__(self, room: Any, paired: Callable[..., list[Exchange]], folder: Path) -> None:
        self.room, self._paired, self.path = room, paired, folder / "gateway.yaml"
        self._sent = 0

    def configure(self, *, cascades: bool = False, **experiment: Any) -> Plan:
        """Writes gateway.yaml. cascades: with one that is written by hand. experiment: changes; None removes a key."""
        swap = {key: value for key, value in {**SWAP, **experiment}.items() if value is not None}
        store: dict[str, Any] = {"store": {"url": self.room.store_url}}
        if cascades:
            store["cascades"] = {CASCADE: cascade_section(primary=SCORER)}
        self.path.write_text(yaml.safe_dump({**CONFIG, **store, "experiments": {"swap": swap}}))
        return plans_of(load(self.path))["swap"]

    async def send(
        self, plan: Plan, n: int, *, lost: float = 0.6, always: bool = False, hedged: float = 0.0, **more: Any
    ) -> None:
        """n more pairs, a minute apart, through a consumer. lost: by the small target, on requests for code, or on all
        of them. hedged: in a quarter of the small target's answers, which hedge."""
        records = []
        for i in range(self._sent, self._sent + n):
            u, total, kind = draw("kind", str(i)), 0.0, ""
            for kind, share in SHARES.items():  # noqa: B007 - the one at which the loop ends is used
                total += share
                if u < total:
                    break
            text = TEXTS[kind][i % len(TEXTS[kind])]
            body = orjson.dumps({"model": "model-u0", "messages": [{"role": "user", "content": text}]})
            score = 0.8 + 0.1 * draw("control", str(i))
            other = score - (lost if always or kind == "code" else 0.0) + 0.05 * (draw("small", str(i)) - 0.5)
            unsure = bool(hedged) and draw("hedges", str(i)) < 0.25
            other -= hedged if unsure else 0.0
            fields = {"request": body, "client_bytes": len(body), "received": 1.7e9 + 60 * i, **more}
            if plan.segments is not None:
                product = plan.segments.of({"metadata.product": kind})
                fields["segments"] = CallSegments(product).to_json()
            repeats = {REPEAT: f"{0.8 + 0.1 * draw('repeat', str(i)):.3f}"} if plan.repeat_control else {}
            said = f"{other:.3f}" + (" maybe" if unsure else "")
            records += self._paired(plan, f"{score:.3f}", {"candidate": said, **repeats}, **fields)
        self._sent += n
        async with self.room.consuming():
            await self.room.send(*records)
            await self.room.until_settled(self._sent)


@pytest.fixture
def experiment(
    room: Any,
    paired: Callable[..., list[Exchange]],
    stated_scorer: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Experiment:
    """A room whose consumer scores the pairs of an experiment, and its gateway.yaml in the current folder."""
    monkeypatch.chdir(tmp_path)
    room.scorers = {SCORER: stated_scorer(name=SCORER)}
    return Experiment(room, paired, tmp_path)


@pytest.fixture
def run() -> Callable[..., str]:
    """Runs `gateway route …` in the current folder and returns what it says, notes included."""

    def go(*words: str, code: int = 0) -> str:
        found = CliRunner().invoke(app, ["route", *words])
        assert found.exit_code == code, (found.output, found.exception)
        return found.output

    return go


@pytest.fixture
def refused() -> Callable[..., str]:
    """Runs `gateway route …`, which refuses, and returns the reason."""

    def go(*words: str) -> str:
        found = CliRunner().invoke(app, ["route", *words])
        assert found.exit_code != 0
        usage = isinstance(found.exception, SystemExit)
        return found.output if usage else str(found.exception)

    return go
