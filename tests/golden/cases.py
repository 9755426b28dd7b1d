"""A case of a recording, and the parts of gateway.yaml that cases share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from golden.stopped_time import START, Clock, StoppedSleeps
from golden.world import World

TIMEOUTS = {"connect_s": 2, "first_token_s": 10, "answer_s": 20, "idle_s": 10, "total_s": 30}
STATED = {"use": "golden.stated_scores:StatedScore"}


class Case:
    """The results of one case, by name."""

    def __init__(self, name: str, folder: Path, stream_url: str, clock: Clock, sleeps: StoppedSleeps) -> None:
        self.name, self.results = name, dict[str, Any]()
        self._folder, self._stream_url, self._clock, self._sleeps = folder, stream_url, clock, sleeps

    def world(self, name: str) -> World:
        """A deployment of its own, at the beginning of time."""
        self._clock.now = START
        return World(name, self._folder, self._stream_url, self._clock, self._sleeps)

    def keep(self, name: str, *results: Any) -> None:
        if name in self.results:
            raise ValueError(f"{self.name}: {name} is kept twice")
        self.results[name] = results[0] if len(results) == 1 else list(results)

    def reports(self, prefix: str, world: World, experiment: str, *, html: bool = False) -> None:
        """The report of an experiment as JSON. html: as text and as a page too, and its status."""
        self.keep(f"{prefix}report as JSON", world.verb("report", experiment, "--json"))
        if html:
            self.keep(f"{prefix}report", world.verb("report", experiment, "--full"))
            self.keep(f"{prefix}report as HTML", world.page("report", experiment))
            self.keep(f"{prefix}status as JSON", world.verb("ab", "status", experiment, "--json"))
            self.keep(f"{prefix}status", world.verb("ab", "status", experiment))


SECRET = "whsec_" + "b" * 32
NOBODY = "http://127.0.0.1:1/hook"
NOTIFIED = {
    "notify": {"targets": {"ops": {"kind": "webhook", "url": NOBODY, "secret": SECRET}}},
    "webhooks": {"ci": {"url": NOBODY, "secret": SECRET}},
}
"""Receivers that do not exist: what they would get stays in the store."""
Make = Callable[[Case], None]


def basic(scorers: dict[str, Any], *, prices: dict[str, Any] | None = None, **experiments: Any) -> dict[str, Any]:
    """gateway.yaml with a model `chat` of one target, and experiments on it."""
    return {
        "open": True,
        "upstreams": {"local": {"kind": "vllm", "base_url": "http://127.0.0.1:1/v1"}},
        "models": {"chat": {"targets": [{"upstream": "local", "model": "small"}], "timeouts": TIMEOUTS}},
        "scorers": {"stated": STATED, **scorers},
        **NOTIFIED,
        **({"prices": prices} if prices else {}),
        "experiments": experiments,
    }


def experiment(**changes: Any) -> dict[str, Any]:
    """An experiment that asks the candidate about every call. changes: None removes a key."""
    section = {
        "model": "chat", "control": {"upstream": "local", "model": "small"},
        "candidate": {"upstream": "local", "model": "new"}, "shadow": 1.0, "primary": "stated", "margin": 0.1,
        "start": "manual", **changes,
    }  # fmt: skip
    return {name: value for name, value in section.items() if value is not None}
