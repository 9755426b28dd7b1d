"""Sets up a program's log on stderr: one JSON object a line, or text for people."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from gateway.config.types import LogConfig
from gateway.core.sanitize import plain, to_json

TEXT_FORMAT = "%(asctime)s %(levelname)s %(message)s"
UVICORN = "uvicorn.error"  # the logger of all that uvicorn says, errors or not
VERBOSE = ("alembic", "httpx2", "httpcore2", "opentelemetry")  # they log every request, or every table


class JsonFormatter(logging.Formatter):
    """Formats a record as a JSON object: time, level, logger, message and, for an exception, its traceback."""

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": timestamp(record.created),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage().encode("utf-8", "replace").decode(),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return to_json(entry, indent=False)


class TextFormatter(logging.Formatter):
    """Formats a record for people. Lines after the first are indented, so that they cannot pass for another record."""

    def __init__(self) -> None:
        super().__init__(TEXT_FORMAT)

    def format(self, record: logging.LogRecord) -> str:
        return plain(super().format(record)).replace("\n", "\n    ")


class UvicornFilter(logging.Filter):
    """Keeps the lines of uvicorn that are of use to an operator, once each, under the name `uvicorn`.

    "Uvicorn running on" is left out: with several workers the parent says so seconds before one of them listens. The
    gateway's server has a line of its own.
    """

    _NOISE = (
        "Uvicorn running on",
        "Started parent process",
        "Stopping parent process",
        "Waiting for child process",
        "Waiting for application ",
        "Application shutdown complete",
    )
    _ONCE = ("Started server process", "Finished server process")  # the listener of `metrics.bind` is a server too

    def __init__(self) -> None:
        super().__init__()
        self._seen: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        if record.levelno <= logging.INFO and (message.startswith(self._NOISE) or message in self._seen):
            return False
        if message.startswith(self._ONCE):
            self._seen.add(message)
        record.name = "uvicorn"
        return True


def timestamp(at: float) -> str:
    """Unix seconds as RFC 3339 in UTC, to the millisecond."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def is_json(log: LogConfig) -> bool:
    return log.format == "json" or (log.format == "auto" and not sys.stderr.isatty())


def begin(log: LogConfig) -> None:
    """Sends everything that this process logs from now on to stderr, in the configured format."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if is_json(log) else TextFormatter())
    logging.basicConfig(level=log.level.upper(), handlers=[handler], force=True)
    uvicorn = logging.getLogger(UVICORN)
    if not any(isinstance(each, UvicornFilter) for each in uvicorn.filters):
        uvicorn.addFilter(UvicornFilter())
    for name in VERBOSE:
        logging.getLogger(name).setLevel(logging.WARNING)


@contextmanager
def handled_by(*handlers: logging.Handler) -> Iterator[None]:
    """Sends the log of the package to these handlers alone while the context is open."""
    root = logging.getLogger("gateway")
    level, propagate = root.level, root.propagate
    root.setLevel(logging.INFO)
    root.propagate = False
    for handler in handlers:
        root.addHandler(handler)
    try:
        yield
    finally:
        for handler in handlers:
            root.removeHandler(handler)
            handler.close()
        root.setLevel(level)
        root.propagate = propagate


@contextmanager
def to_file(path: Path) -> Iterator[None]:
    """Writes the log of the package to the file, and not to the terminal, while the context is open."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
    with handled_by(handler):
        yield
