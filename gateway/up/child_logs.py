"""The logs of `gateway up`: one file for all of its programs, with warnings on the terminal, and a file per engine."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from logging.handlers import RotatingFileHandler
from pathlib import Path

from gateway.observability.logging import handled_by
from gateway.runtime.child import CHILDREN

_MAX_BYTES = 10_000_000
_BACKUPS = 3


class _Source(logging.Filter):
    """Gives each record the name of the program that wrote it."""

    def filter(self, record: logging.LogRecord) -> bool:
        child = record.name.startswith(f"{CHILDREN}.")
        record.source = record.name.removeprefix(f"{CHILDREN}.") if child else "up"
        return True


class _LogFile(RotatingFileHandler):
    """A log file that survives a full disk: standard error gets one line when writing begins to fail, and the file gets
    one when it works again. `logging` itself would print a traceback for each line."""

    def __init__(self, path: Path, max_bytes: int, backups: int) -> None:
        super().__init__(path, maxBytes=max_bytes, backupCount=backups, encoding="utf-8")
        self._failed = 0
        """Consecutive lines that could not be written."""

    def emit(self, record: logging.LogRecord) -> None:
        before = self._failed
        super().emit(record)
        if before and self._failed == before:
            self._failed = 0
            said = "the log is written again; lines are missing before this one: about %d"
            self.handle(logging.LogRecord("gateway", logging.WARNING, "", 0, said, (before,), None))

    def handleError(self, record: logging.LogRecord) -> None:
        """Called in the `except` of `emit`."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
            return
        self._failed += 1
        if self._failed == 1 and sys.stderr is not None:
            sys.stderr.write(f"{self.baseFilename} cannot be written: {error.strerror}; retried with each line\n")

    def close(self) -> None:
        """Closes the file. Lines that did not fit on a full disk are lost; that was reported."""
        try:
            super().close()
        except OSError:
            self.stream = None


@contextmanager
def shared_log(path: Path, verbose: bool, max_bytes: int = _MAX_BYTES) -> Iterator[None]:
    """Writes the lines of all programs to one file of bounded size.

    verbose: everything also goes to the terminal, not only warnings and errors.
    """
    file = _LogFile(path, max_bytes, _BACKUPS)
    terminal = logging.StreamHandler()
    terminal.setLevel(logging.INFO if verbose else logging.WARNING)
    for handler in (file, terminal):
        handler.addFilter(_Source())
        handler.setFormatter(logging.Formatter("%(asctime)s %(source)s | %(message)s"))
    with handled_by(file, terminal):
        yield


@contextmanager
def child_log(child: str, path: Path) -> Iterator[None]:
    """Writes the lines of one program to a file of its own as well."""
    file = _LogFile(path, _MAX_BYTES, 1)
    file.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logger = logging.getLogger(f"{CHILDREN}.{child}")
    logger.addHandler(file)
    try:
        yield
    finally:
        logger.removeHandler(file)
        file.close()
