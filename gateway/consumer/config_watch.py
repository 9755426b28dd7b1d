"""Reads a changed gateway.yaml again, for a program that takes it whole or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Callable
from pathlib import Path

from gateway.config.config import Config
from gateway.config.loading import load_for_consumer
from gateway.core.errors import ConfigError

log = logging.getLogger("gateway")

CHECK_S = 1.0  # between two checks of the file


class ConfigWatch:
    """The file of the config in force. A file that is refused leaves that config in force."""

    def __init__(
        self,
        path: Path,
        config: Config,
        load: Callable[[Path], Config] = load_for_consumer,
        check_s: float = CHECK_S,
    ) -> None:
        """config: as it was read from the file."""
        self._path = path
        self._config = config
        self._load = load
        self._check_s = check_s
        self._seen = self._stamps()
        self._asked = asyncio.Event()
        self.refused = ""
        """Why the newest file is not in force; "": it is."""

    async def changed(self) -> Config:
        """Waits for another config that can be read: looks at the file each second, and at once on SIGHUP."""
        loop = asyncio.get_running_loop()
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):  # no signals in this thread
            loop.add_signal_handler(signal.SIGHUP, self._asked.set)
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._check_s):
                    await self._asked.wait()
            stamps = self._stamps()
            if stamps == self._seen and not self._asked.is_set():
                continue
            self._seen = stamps
            self._asked.clear()
            if (config := await self._read()) is not None:
                return config

    async def _read(self) -> Config | None:
        """Read the changed config; None: it is refused, or has the same content."""
        try:
            config = await asyncio.to_thread(self._load, self._path)
        except ConfigError as error:
            self.refuse(error)
            return None
        self.refused = ""
        if config.digest == self._config.digest:
            return None
        self._config = config
        return config

    def refuse(self, error: ConfigError) -> None:
        """Notes that the newest config cannot be used."""
        log.error("the new config is refused; the previous one stays in force:\n%s", error)
        self.refused = "; ".join(line.strip() for line in str(error).splitlines() if line.strip())[:500]

    def _stamps(self) -> dict[Path, tuple[int, int]]:
        """Return the times of change of the file and of those that belong to it."""
        return {path: _stamp(path) for path in (self._path, *self._config.secret_files)}


def _stamp(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return (0, 0)
    return found.st_mtime_ns, found.st_size
