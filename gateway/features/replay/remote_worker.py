"""What a replay does elsewhere: one worker of a cluster sends requests to the gateway and scores answers.

It keeps nothing: the process of `gateway replay` has the dataset, the order, the pace, the retries, the budget and the
store. This module knows no cluster; ray_cluster.py starts it on one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway import __version__
from gateway.config.environment import replay_key
from gateway.config.scorers import ScorerConfig
from gateway.core.errors import ConfigError
from gateway.core.score import ScoreResult
from gateway.features.replay.asking import ReplayRequest, subject
from gateway.features.replay.gateway_choice import answers
from gateway.features.replay.rows import ReplayAnswer
from gateway.scoring.http_client import DeadlinePassed, GatewayClient, HttpConnections, HttpReply, Unreachable
from gateway.scoring.registry import RegisteredScorer, build
from gateway.scoring.run import score_all
from gateway.scoring.threads import ScoringThreads


@dataclass(frozen=True, slots=True)
class WorkerSetup:
    """What a worker is told when it starts. It holds no secret: scorers that call a model are not among these."""

    base_url: str
    """Of the gateway."""
    sections: Mapping[str, ScorerConfig]
    """The scorers that compute a score from an answer."""


@dataclass(frozen=True, slots=True)
class WorkerState:
    """What a worker says once it has started."""

    version: str
    """Of this package, there."""
    reachable: bool
    """Whether the gateway answers its health check there."""
    has_key: bool
    """Whether its environment has the key of the gateway."""
    scorers: Mapping[str, tuple[str, str]]
    """(version, config_hash) of the scorers that could be built there."""


@dataclass(frozen=True, slots=True)
class NoReply:
    """Why a call failed. Not an exception: some clusters cannot pass on exceptions of this package."""

    message: str
    late: bool
    """The deadline has passed."""

    def error(self) -> Unreachable:
        return DeadlinePassed(self.message) if self.late else Unreachable(self.message)


@dataclass(frozen=True, slots=True)
class GatewayKey:
    """A key on its way to a worker, which no message and no log shows."""

    value: str | None = field(repr=False)


class RemoteWorker:
    """One worker. Its methods are called from elsewhere, several at a time."""

    def __init__(self) -> None:
        self._connections = HttpConnections()
        self._threads = ScoringThreads()
        self._scorers: dict[str, RegisteredScorer] = {}
        self._client: GatewayClient | None = None
        self._base_url = ""

    async def start(self, setup: WorkerSetup) -> WorkerState:
        await self._connections.__aenter__()
        self._base_url, key = setup.base_url, replay_key()
        self._client = GatewayClient(setup.base_url, key, self._connections)
        for name, section in setup.sections.items():
            self._scorers |= _built(name, section)
        known = {name: (r.scorer.version, r.config_hash) for name, r in self._scorers.items()}
        reachable = await answers(setup.base_url.removesuffix("/v1"), self._connections)
        return WorkerState(__version__, reachable, key is not None, known)

    async def aclose(self) -> None:
        """Only needed by a worker in a process that continues: a cluster ends the process."""
        self._threads.close()
        await self._connections.__aexit__()

    async def use_key(self, key: GatewayKey) -> None:
        self._client = GatewayClient(self._base_url, key.value, self._connections)

    async def ask(
        self, path: str, body: Mapping[str, Any], deadline_s: float, headers: Mapping[str, str]
    ) -> HttpReply | NoReply:
        assert self._client is not None  # noqa: S101 - it has been started
        try:
            return await self._client.ask(path, body, deadline_s=deadline_s, headers=headers)
        except Unreachable as error:
            return NoReply(str(error), isinstance(error, DeadlinePassed))

    async def score(self, request: ReplayRequest, answer: ReplayAnswer, names: Sequence[str]) -> list[ScoreResult]:
        """The results of these scorers, in this order."""
        wanted = {name: self._scorers[name] for name in names}
        return await score_all(wanted, subject(request, answer), lambda _: 0.0, self._threads, patient=True)


def sent_away(sections: Mapping[str, ScorerConfig], scorers: Mapping[str, RegisteredScorer]) -> dict[str, ScorerConfig]:
    """Those that a worker may compute: from the answer alone, without a model, a service or a budget."""
    return {name: sections[name] for name, r in scorers.items() if r.scorer.kind == "code" and not r.waits}


def _built(name: str, section: ScorerConfig) -> dict[str, RegisteredScorer]:
    """Empty where this machine lacks what the scorer needs: a package, a file, a plug-in."""
    try:
        return build({name: section})
    except ConfigError:
        return {}
