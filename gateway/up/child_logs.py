"""The logs of `gateway up`: one file for all of its programs, with warnings on the terminal, and a file per engine."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from logging.handlers import RotatingFileHandler
from pathlib import Path

from gateway.runtime.child import CHILDREN

_MAX_BYTES = 10_000_000
_BACKUPS = 3


class _Source(logging.Filter):
    """Gives each record the name of the program that wrote it."""

    def filter(self, record: logging.LogRecord) -> bool:
        child = record.name.startswith(f"{CHILDREN}.")
        record.source = record.name.removeprefix(f"{CHILDREN}.") if child else "up"
        return True


@contextmanager
def shared_log(path: Path, verbose: bool, max_bytes: int = _MAX_BYTES) -> Iterator[None]:
    """Writes the lines of all programs to one file of bounded size.

    verbose: everything also goes to the terminal, not only warnings and errors.
    """
    file = RotatingFileHandler(path, maxBytes=max_bytes, backupCount=_BACKUPS, encoding="utf-8")
    terminal = logging.StreamHandler()
    terminal.setLevel(logging.INFO if verbose else logging.WARNING)
    root = logging.getLogger("gateway")
    before = root.level, root.propagate
    root.setLevel(logging.INFO)
    root.propagate = False
    for handler in (file, terminal):
        handler.addFilter(_Source())
        handler.setFormatter(logging.Formatter("%(asctime)s %(source)s | %(message)s"))
        root.addHandler(handler)
    try:
        yield
    finally:
        root.setLevel(before[0])
        root.propagate = before[1]
        for handler in (file, terminal):
            root.removeHandler(handler)
            handler.close()


@contextmanager
def child_log(child: str, path: Path) -> Iterator[None]:
    """Writes the lines of one program to a file of its own as well."""
    file = RotatingFileHandler(path, maxBytes=_MAX_BYTES, backupCount=1, encoding="utf-8")
    file.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logger = logging.getLogger(f"{CHILDREN}.{child}")
    logger.addHandler(file)
    try:
        yield
    finally:
        logger.removeHandler(file)
        file.close()
