"""Reads the ramps of guards from the stream server, twice a second, off the hot path.

A worker that has never read a ramp applies the guard's action in the config. While the server is unreachable, what was
read last stays in force; a server that has lost its newest changes can only take units away. A ramp that was begun with
another config of its guard is not applied: its evidence is about other hits.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from gateway.config.config import Config
from gateway.config.guards import GuardConfig
from gateway.core.errors import StreamDown
from gateway.core.guard_ramp import GuardRampDesign, design_of, ramp_in_force, ramp_name
from gateway.core.guards import GuardRamp
from gateway.core.ramp import RampRecord
from gateway.observability.proxy_metrics import ProxyMetrics
from gateway.proxy.routing.assignment import KnownSecret
from gateway.stream.ramps import RampStream
from gateway.stream.shared_state import SharedState

log = logging.getLogger(__name__)

GUARD_RAMPS_EVERY_S = 0.5


@dataclass
class GuardRampPoller:
    """One process's view of the ramps of its guards. It outlives configs, so that a reload moves no unit."""

    shared: SharedState
    ramps: RampStream
    config: Callable[[], Config]
    """The config in force."""
    applied: dict[str, GuardRamp]
    """Receives what is in force, by the guards' names."""
    secret: KnownSecret
    """Receives the secret that keys draws."""
    metrics: ProxyMetrics
    trouble: str = field(default="", init=False)
    """Reason why the last known ramps stay in force; "" if they are read."""
    _known: dict[str, RampRecord] = field(default_factory=dict, init=False)

    async def look(self) -> None:
        config = self.config()
        stale = frozenset[str]()
        if config.guards:
            try:
                stale = await self._read(config)
                self.trouble = ""
            except StreamDown as error:
                if not self.trouble:
                    log.warning("%s; guards continue with the last known steps of their ramps", error)
                self.trouble = str(error)
                stale = frozenset(self._known)
        self._apply(config, stale)

    async def _read(self, config: Config) -> frozenset[str]:
        """Returns the guards whose record was not taken over."""
        records = await self.ramps.records()
        here = {name: record for name in config.guards if (record := records.get(ramp_name(name))) is not None}
        if any(record.design is not None for record in here.values()):
            self.secret.value = await self.shared.draw_secret() or self.secret.value
        for name, record in here.items():
            if _supersedes(record, self._known.get(name)):
                self._known[name] = record
        return frozenset(
            name for name, known in self._known.items() if name in config.guards and known != here.get(name)
        )

    def _apply(self, config: Config, stale: frozenset[str]) -> None:
        found: dict[str, GuardRamp] = {}
        for name, record in self._known.items():
            design = design_of(record)
            if design is None or name not in config.guards:
                continue
            begun = _begun_as(design, config, name)
            ramp = None if begun is None else ramp_in_force(record, design, self.secret.value or b"")
            if ramp is not None:
                found[name] = replace(ramp, passes_late=begun is not config.guards[name])
            self.metrics.ramp_share.labels(ramp_name(name)).set(_share(ramp, design))
            self.metrics.ramp_stale.labels(ramp_name(name)).set(name in stale)
        if found != self.applied:
            self.applied.clear()
            self.applied.update(found)


def _begun_as(design: GuardRampDesign, config: Config, guard: str) -> GuardConfig | None:
    """The guard as the ramp began with it; None if it began with another config."""
    own = config.guards[guard]
    return own.begun_as(config.scorers, design.config) if design.before == own.action else None


def _share(ramp: GuardRamp | None, design: GuardRampDesign) -> float:
    """The share of units with the ramp's last action."""
    return ramp.share if ramp is not None and ramp.action == design.to else 0.0


def _supersedes(record: RampRecord, known: RampRecord | None) -> bool:
    """Whether a record is newer. A server that has lost its last changes counts again from an older one: what was
    decided there later can only take units away."""
    if known is None or record.version > known.version:
        return True
    return record.at > known.at and _acted_on(record) < _acted_on(known)


def _acted_on(record: RampRecord) -> float:
    design = design_of(record)
    return 0.0 if design is None else _share(ramp_in_force(record, design), design)
