"""Estimates of how long the space of stream and store lasts at the current rate of recording, for `gateway check`."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from gateway.config.config import Config
from gateway.features.manifest import ConfigFindings
from gateway.features.status.rows import RecordedBytes, recorded_bytes
from gateway.scoring.registry import BuiltScorers
from gateway.store.engine import StoreUnavailable
from gateway.store.query import reading

_DAY_S = 86_400


def config_findings(config: Config, built: BuiltScorers, store: str) -> ConfigFindings:
    """Cautions about a stream or a store that lasts less than a day at the mean of the last one. store: its URL."""
    now = time.time()
    with contextlib.suppress(StoreUnavailable), reading(store) as connection:
        recorded = recorded_bytes(connection, now - _DAY_S, now)
        if recorded is not None:
            return ConfigFindings(cautions=tuple(_cautions(config, recorded)))
    return ConfigFindings()


def _cautions(config: Config, recorded: RecordedBytes) -> Iterator[str]:
    at = f"at the mean of the last 24 hours, {recorded.a_day / 1e9:.3g} GB a day"
    streams = min(recorded.processes, config.stream.shards)
    hours = 24 * config.stream.max_mb * 1e6 * streams / recorded.a_day
    if hours < 24:
        yield f"stream.max_mb: {at}, the stream lasts {hours:.2g} hours without a consumer"
    if config.store.max_gb is None:
        return
    hours = 24 * config.store.max_gb * 1e9 / recorded.a_day
    if hours < 24:
        yield f"store.max_gb: {at}, the store keeps {max(1.0, hours):.2g} hours"
