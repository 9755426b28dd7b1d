"""`gateway export`: writes the selected exchanges one by one. A file appears only when it is complete."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from gateway.core.did_you_mean import did_you_mean
from gateway.core.disk_errors import is_disk_error
from gateway.core.errors import CannotRun
from gateway.features.calls.export_formats import Form, writer
from gateway.features.calls.export_rows import NotExportable
from gateway.features.calls.rows.export import ExportSource
from gateway.features.calls.rows.preferences import DEFAULT, PreferenceRule
from gateway.store.query import ExchangeFilter

Show = Callable[[int, int], None]
"""(done, total)"""


@dataclass(frozen=True, slots=True)
class ExportResult:
    written: int
    left_out: Mapping[str, int]
    """The number of exchanges, or preferences, that do not fit the form, by reason."""


def form_of(path: Path | None) -> Form:
    """The form that the file's name ends in; jsonl by default."""
    named: Mapping[str, Form] = {".parquet": "parquet", ".csv": "csv"}
    return "jsonl" if path is None else named.get(path.suffix.lower(), "jsonl")


def export(
    url: str, filter: ExchangeFilter, form: Form, file: IO[bytes], show: Show, rule: PreferenceRule | None = None
) -> ExportResult:
    """Writes the exchanges, oldest first; in the form dpo, what is known of their arms by the rule.

    filter.limit: the largest number of exchanges; 0: all. Raises StoreUnavailable, QueryError, CannotRun.
    """
    done, written, left_out = 0, 0, Counter[str]()
    with closing(ExportSource(url, filter, time.time())) as source:
        if form == "dpo":
            _check(rule or PreferenceRule(), source)
        total = min(source.count, filter.limit or source.count)
        out = writer(form, file, source.scorers)
        for batch in source.batches():
            batch = batch[: total - done]
            found = batch if form != "dpo" else source.preferences(batch, rule or PreferenceRule())
            for each in found:
                try:
                    out.add(each)
                    written += 1
                except NotExportable as reason:
                    left_out[str(reason)] += 1
                if form != "dpo":
                    done += 1
                    show(done, total)
            if form == "dpo":
                done += len(batch)
                show(done, total)
            if done >= total:
                break
        out.close()
    return ExportResult(written, left_out)


def _check(rule: PreferenceRule, source: ExportSource) -> None:
    """Raises CannotRun for a name that nothing in the store has decided by."""
    known = [*DEFAULT, *source.comparing, *source.scorers]
    for name in rule.by:
        if name not in known:
            hint = did_you_mean(name, known) or f"; expected one of {', '.join(known)}"
            raise CannotRun(f'--by: no scorer "{name}" has scored these calls{hint}')


def write_private(path: Path, text: str) -> None:
    """Writes a file with what people wrote. Raises CannotRun."""
    with complete_file(path) as file:
        file.write(text.encode())


@contextmanager
def complete_file(path: Path) -> Iterator[IO[bytes]]:
    """A file that only its owner can read, and that gets its name when it is complete. Raises CannotRun."""
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
    except OSError as error:
        if not is_disk_error(error):
            raise
        raise CannotRun(f"{path} cannot be written: {error.strerror}; what was there before is unchanged") from error
    finally:
        part.unlink(missing_ok=True)
