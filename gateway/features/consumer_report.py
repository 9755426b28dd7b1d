"""The report in a consumer's heartbeat: the reason why it is paused, the scorers that fail or are blocked, and its
config."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import orjson

from gateway.core.reasons import Reason
from gateway.core.score import ScoreResult
from gateway.features.isolation import StoppedWork

SILENT_S = 30.0
"""Heartbeats come every few seconds; a process whose last one is older is gone, or hangs."""
WINDOW_S = 600.0
_STEP_S = 60.0
FEWEST_FAILED = 3
FAILED_SHARE = 0.1
"""Share of a scorer's newest results, as in the alert GatewayScorerSilent."""
MOST_REASON = 300
"""Characters of a reason."""


@dataclass(frozen=True, slots=True)
class FailingScorer:
    failed: int
    of: int
    reason: str
    """Reason of the newest failure."""


@dataclass(frozen=True, slots=True)
class ConsumerReport:
    """The parts of a consumer that do not work as they should."""

    paused: str = ""
    """Reason why nothing is read and scored now; "" if it is."""
    failing: Mapping[str, FailingScorer] = field(default_factory=dict)
    """Counts by scorer, over the last ten minutes."""
    config: str = ""
    """Digest of the config in force; "" if unknown."""
    config_refused: str = ""
    """Reason why the newest config is not in force; "" if it is."""
    started: float = 0.0
    """Unix seconds; 0 if unknown."""
    stopped: Mapping[str, StoppedWork] = field(default_factory=dict)
    """Work of features that has stopped itself, by name."""
    store: str = ""
    """Reason why the store takes no writes; "" if it does."""

    def reasons(self, blocked: Mapping[str, str | None]) -> list[Reason]:
        """The parts for /health. blocked: scorer → why it is not run now, or None. An error of a scorer may quote an
        answer, so it is left to `gateway status`."""
        paused = [Reason("scoring is paused", self.paused)] if self.paused else []
        if self.store and self.store != self.paused:
            paused.append(Reason("the store takes no writes", self.store))
        refused = (
            [Reason("the newest gateway.yaml is not in force", self.config_refused)] if self.config_refused else []
        )
        return [
            *paused,
            *refused,
            *(Reason(f"{name} is stopped", f"{of.kind}; {of.resume}") for name, of in sorted(self.stopped.items())),
            *(Reason(f"scorer {name} is blocked", why) for name, why in blocked.items() if why is not None),
            *(
                Reason(f"scorer {name} failed on {of.failed} of {of.of} answers within ten minutes")
                for name, of in self.failing.items()
                if blocked.get(name) is None
            ),
        ]

    def to_json(self) -> str:
        return orjson.dumps(asdict(self)).decode()

    @classmethod
    def from_json(cls, text: str | None) -> ConsumerReport:
        """Members that this version does not know are left out. An empty text: a consumer that reports nothing."""
        found: dict[str, Any] = orjson.loads(text) if text else {}
        failing = {
            name: FailingScorer(int(of["failed"]), int(of["of"]), str(of["reason"]))
            for name, of in found.get("failing", {}).items()
        }
        stopped = {
            name: StoppedWork(str(of["why"]), str(of["kind"]), str(of["resume"]), float(of["at"]))
            for name, of in found.get("stopped", {}).items()
        }
        texts = {name: str(found.get(name, "")) for name in ("paused", "config", "config_refused", "store")}
        started = float(found.get("started", 0.0))
        return cls(texts["paused"], failing, texts["config"], texts["config_refused"], started, stopped, texts["store"])


def silent_consumers(beats: Mapping[str, float], started: Mapping[str, float], now: float) -> list[str]:
    """Consumers that are gone and not replaced, by name. Each consumer that started after the last heartbeat of one
    that is gone replaces one, on whichever machine it runs.

    beats: last heartbeats. started: when each started, as far as it is known. Unix seconds.
    """
    newest = sorted((started.get(name, 0.0) for name, at in beats.items() if now - at <= SILENT_S), reverse=True)
    left = []
    for at, name in sorted(((at, name) for name, at in beats.items() if now - at > SILENT_S), reverse=True):
        if newest and newest[0] > at:
            newest.pop(0)
        else:
            left.append(name)
    return sorted(left)


@dataclass(slots=True)
class _FailureCounts:
    failed: int = 0
    of: int = 0


class ScorerFailures:
    """Counts the failures of each scorer within the last ten minutes."""

    def __init__(self) -> None:
        self._steps: deque[tuple[float, dict[str, _FailureCounts]]] = deque()
        self._reasons: dict[str, str] = {}

    def count(self, results: Iterable[ScoreResult], now: float) -> None:
        """now: monotonic seconds."""
        step = now // _STEP_S
        if not self._steps or self._steps[-1][0] != step:
            self._steps.append((step, {}))
        counts = self._steps[-1][1]
        for result in results:
            of = counts.get(result.scorer)
            if of is None:
                of = counts[result.scorer] = _FailureCounts()
            of.of += 1
            if result.status in ("error", "timeout"):
                of.failed += 1
                self._reasons[result.scorer] = (result.explanation or result.status)[:MOST_REASON]

    def failing(self, now: float) -> dict[str, FailingScorer]:
        """The scorers that fail often, by name."""
        while self._steps and self._steps[0][0] * _STEP_S < now - WINDOW_S:
            self._steps.popleft()
        total: dict[str, _FailureCounts] = {}
        for _, counts in self._steps:
            for name, of in counts.items():
                sums = total.setdefault(name, _FailureCounts())
                sums.failed += of.failed
                sums.of += of.of
        return {
            name: FailingScorer(of.failed, of.of, self._reasons.get(name, ""))
            for name, of in sorted(total.items())
            if of.failed >= max(FEWEST_FAILED, FAILED_SHARE * of.of)
        }
