"""Rows of CSV, TSV, JSONL and Parquet files, one at a time, each with its place in the file."""

from __future__ import annotations

import csv
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any

import orjson

from gateway.core.errors import CannotRun
from gateway.core.extras import install_command

_FIELD_CHARACTERS = 1 << 27
_BATCH_ROWS = 1024


@dataclass(frozen=True, slots=True)
class DatasetRow:
    """One row of a file, as it was read."""

    place: str
    """"line 7"."""
    values: Mapping[str, Any] | None
    """The values; None if the row is blank, or has an error."""
    error: str | None = None
    uneven: bool = False
    """True if it has more cells than there are columns, which is an error, or fewer: then the missing ones are
    empty."""


@dataclass(frozen=True, slots=True)
class TableColumns:
    """The columns that a reader of rows needs."""

    example: str
    """A first line that would do, for errors."""
    refusal: Callable[[Sequence[str]], str | None]
    """Returns the reason why a CSV file with these columns cannot be used; None if it can."""
    wanted: frozenset[str]
    """The columns of Parquet that are decoded; the others are empty texts."""


def read_rows(path: Path, columns: TableColumns) -> Iterator[DatasetRow]:
    """The rows of a CSV, TSV, JSONL or Parquet file, one at a time.

    Raises CannotRun for another kind of file, one that cannot be opened, or one without a usable header.
    """
    read = READERS.get(path.suffix.lower())
    if read is None:
        instead = "; a file with one JSON object per line is .jsonl" if path.suffix.lower() == ".json" else ""
        raise CannotRun(f"{path}: not a dataset; expected {', '.join(READERS)}{instead}")
    try:
        yield from read(path, columns)
    except OSError as error:
        raise CannotRun(f"{path}: cannot be read: {error.strerror or error}") from error


def _csv(path: Path, columns: TableColumns) -> Iterator[DatasetRow]:
    csv.field_size_limit(_FIELD_CHARACTERS)
    with path.open(encoding=_encoding(path), newline="") as file:
        lines = _Lines(path, iter(file))
        first = _header_line(path, lines, columns.example)
        reader = csv.reader(itertools.chain(first, lines), delimiter=_delimiter(first[0]), strict=True)
        names = _header(path, reader, columns)
        before = reader.line_num
        while True:
            place = f"line {before + 1}"
            try:
                cells = next(reader, None)
            except csv.Error as error:
                yield DatasetRow(place, None, f"not CSV: {error}; a quote within a quoted cell is doubled")
                return
            if cells is None:
                return
            before = reader.line_num
            yield _of_cells(place, names, cells)


class _Lines:
    """The lines of a text file. An error names the line whose bytes are not text."""

    def __init__(self, path: Path, lines: Iterator[str]) -> None:
        self._path, self._lines = path, lines

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        try:
            return next(self._lines)
        except UnicodeDecodeError as error:
            place = f"{self._path}: line {_bad_line(self._path)}"
            raise CannotRun(f"{place}: not UTF-8 text; save it as UTF-8") from error


def _encoding(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(4)
    return "utf-16" if start[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"


def _bad_line(path: Path) -> int:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return number
    return 0


def _header_line(path: Path, lines: Iterator[str], example: str) -> list[str]:
    for line in lines:
        if line.strip():
            return [line]
    raise CannotRun(f"{path}: empty; expected a first line with the columns {example}")


def _delimiter(header: str) -> str:
    """The most frequent delimiter in the header: spreadsheets write semicolons in many locales."""
    return max(",;\t", key=header.count)


def _header(path: Path, reader: Iterator[list[str]], columns: TableColumns) -> list[str]:
    try:
        names = [name.strip() for name in next(reader)]
    except csv.Error as error:
        raise CannotRun(f"{path}: line 1: not CSV: {error}") from error
    twice = sorted(name for name, n in Counter(names).items() if name and n > 1)
    if twice:
        raise CannotRun(f"{path}: line 1: column {', '.join(twice)} appears twice; expected each column once")
    if why := columns.refusal(names):
        raise CannotRun(f"{path}: line 1: {why}")
    return names


def _of_cells(place: str, names: list[str], cells: list[str]) -> DatasetRow:
    if not any(cell.strip() for cell in cells):
        return DatasetRow(place, None)
    if len(cells) > len(names):
        uneven = f"{len(cells)} cells for {len(names)} columns; quote cells that hold the delimiter"
        return DatasetRow(place, None, uneven, uneven=True)
    short = len(cells) < len(names)
    cells = cells + [""] * (len(names) - len(cells))
    values = {n: v if n == "examples" else v or None for n, v in zip(names, cells, strict=True) if n}
    return DatasetRow(place, values, uneven=short)


def _jsonl(path: Path, _: TableColumns) -> Iterator[DatasetRow]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            line = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
            yield _of_line(f"line {number}", line.strip())


def _of_line(place: str, line: bytes) -> DatasetRow:
    if not line:
        return DatasetRow(place, None)
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        return DatasetRow(place, None, f"not JSON: {error}")
    if not isinstance(value, dict):
        return DatasetRow(place, None, f"expected a JSON object, got {type(value).__name__}")
    return DatasetRow(place, value)


def _parquet(path: Path, columns: TableColumns) -> Iterator[DatasetRow]:
    """Decodes only the columns that a row can need: a small file may hold gigabytes in another one. Such a column is an
    empty text in its rows, so that it is still named among those that are ignored."""
    try:
        parquet: Any = import_module("pyarrow.parquet")
    except ModuleNotFoundError as error:
        raise CannotRun(f"{path}: Parquet needs pyarrow: {install_command('parquet')}") from error
    arrow: Any = import_module("pyarrow")
    try:
        with parquet.ParquetFile(path) as file:
            number, names = 0, file.schema_arrow.names
            read = [name for name in names if name in columns.wanted]
            unread = dict.fromkeys((name for name in names if name not in columns.wanted), "")
            for batch in file.iter_batches(_BATCH_ROWS, columns=read):
                for values in batch.to_pylist() if read else [{}] * batch.num_rows:
                    number += 1
                    yield DatasetRow(f"row {number}", {**unread, **values})
    except (arrow.ArrowInvalid, arrow.ArrowNotImplementedError) as error:
        raise CannotRun(f"{path}: not Parquet: {error}") from error


READERS: Mapping[str, Callable[[Path, TableColumns], Iterator[DatasetRow]]] = MappingProxyType(
    {".csv": _csv, ".tsv": _csv, ".jsonl": _jsonl, ".ndjson": _jsonl, ".parquet": _parquet}
)
