"""Exports what a wish names, exchange by exchange. A file is whole or not there."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from gateway.core.errors import CannotRun
from gateway.evals.reports.export.forms import Form, writer
from gateway.evals.reports.export.rows import NotExportable
from gateway.evals.store.export import ExportSource
from gateway.evals.store.query import ExchangeFilter

Show = Callable[[int, int], None]
"""(done, of all)"""


@dataclass(frozen=True, slots=True)
class ExportResult:
    """left_out: why, and how many."""

    written: int
    left_out: Mapping[str, int]


def form_of(path: Path | None) -> Form:
    """By the file's name; what says nothing is jsonl."""
    named: Mapping[str, Form] = {".parquet": "parquet", ".csv": "csv"}
    return "jsonl" if path is None else named.get(path.suffix.lower(), "jsonl")


def export(url: str, wish: ExchangeFilter, form: Form, file: IO[bytes], show: Show) -> ExportResult:
    """Raises NoStore, QueryError, CannotRun. wish.limit: the most that is looked at, the oldest first; 0: all."""
    written, left_out = 0, Counter[str]()
    with closing(ExportSource(url, wish, time.time())) as source:
        most = min(source.count, wish.limit or source.count)
        out = writer(form, file, source.scorers)
        for found in (each for batch in source.batches() for each in batch):
            done = written + left_out.total()
            if done >= most:
                break
            try:
                out.add(found)
                written += 1
            except NotExportable as why:
                left_out[str(why)] += 1
            show(done + 1, most)
        out.close()
    return ExportResult(written, left_out)


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A file for its owner only, which takes its name when all is written. Raises CannotRun."""
    part = path.with_name(f"{path.name}.part")
    try:
        part.unlink(missing_ok=True)
        file = os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
    except OSError as error:
        raise CannotRun(f"{path} cannot be written: {error.strerror}") from error
    try:
        with file:
            yield file
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
