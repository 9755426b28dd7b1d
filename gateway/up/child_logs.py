"""The log of `gateway up`: what all its programs say, in a file of bounded size; warnings on the terminal too."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from logging.handlers import RotatingFileHandler
from pathlib import Path

from gateway.runtime.child import CHILDREN

MAX_BYTES, KEPT = 10_000_000, 3


class _Source(logging.Filter):
    """Gives each record the name of the program that said it."""

    def filter(self, record: logging.LogRecord) -> bool:
        child = record.name.startswith(f"{CHILDREN}.")
        record.source = record.name.removeprefix(f"{CHILDREN}.") if child else "up"
        return True


@contextmanager
def one_log(path: Path, verbose: bool) -> Iterator[None]:
    """verbose: everything on the terminal, not only warnings and errors."""
    file = RotatingFileHandler(path, maxBytes=MAX_BYTES, backupCount=KEPT, encoding="utf-8")
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
def own_log(child: str, path: Path) -> Iterator[None]:
    """What one program says, also in a file of its own, as it says it."""
    file = RotatingFileHandler(path, maxBytes=MAX_BYTES, backupCount=1, encoding="utf-8")
    file.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    said = logging.getLogger(f"{CHILDREN}.{child}")
    said.addHandler(file)
    try:
        yield
    finally:
        said.removeHandler(file)
        file.close()
