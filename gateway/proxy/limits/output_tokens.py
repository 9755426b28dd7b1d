"""Reads what the consumer has learned about outputs from the shared state, twice a minute, off the hot path."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from gateway.core.errors import StreamDown
from gateway.core.output_tokens import SHARED_NAME, Tables, tables_from_json
from gateway.proxy.limits.limiter import Limiter

log = logging.getLogger(__name__)

EVERY_S = 30.0


class OutputTokenPoller:
    """Keeps the estimates of the config in force up to date."""

    def __init__(self, recall: Callable[[str], Awaitable[str | None]], limiter: Callable[[], Limiter]) -> None:
        """recall: of the shared state. limiter: of the config in force."""
        self._recall = recall
        self._limiter = limiter
        self._rejected = ""

    async def run(self) -> None:
        """Runs until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(EVERY_S)

    async def look(self) -> None:
        """While the stream server is unreachable, the last known tables stay in force."""
        limiter = self._limiter()
        if not limiter.estimates_by_request:
            return
        try:
            text = await self._recall(SHARED_NAME)
        except StreamDown:
            return
        tables = {} if text is None else self._read(text)
        for alias, estimate in limiter.estimates.items():
            estimate.by_kind = tables.get(alias, {})

    def _read(self, text: str) -> Tables:
        try:
            return tables_from_json(text)
        except ValueError as error:
            if text != self._rejected:
                log.warning("learned outputs cannot be read; each model's own quantile is reserved: %s", error)
            self._rejected = text
            return {}
