"""Files → rows, one at a time: CSV as spreadsheets write it, JSONL, Parquet. A mistake is said by its line."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any

import orjson

from gateway.core.errors import CannotRun, NotInstalled

COLUMNS = ("examples", "ground_truth", "cluster")
_FIELD_CHARACTERS = 1 << 27
_BATCH_ROWS = 1024


class DatasetError(CannotRun):
    """A dataset cannot be used; one line for each mistake, with its place."""


@dataclass(frozen=True, slots=True)
class Row:
    """place: "line 7". values: None: a blank line. mistake: why there are no values; None: there are."""

    place: str
    values: Mapping[str, Any] | None
    mistake: str | None = None


def rows(path: Path) -> Iterator[Row]:
    """Raises DatasetError for a file that is none of these, or cannot be opened, or has no usable header."""
    read = READERS.get(path.suffix.lower())
    if read is None:
        instead = "; one JSON object a line is .jsonl" if path.suffix.lower() == ".json" else ""
        raise DatasetError(f"{path}: no dataset; expected {', '.join(READERS)}{instead}")
    try:
        yield from read(path)
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror or error}") from error


# ── CSV ──


def _csv(path: Path) -> Iterator[Row]:
    csv.field_size_limit(_FIELD_CHARACTERS)
    with path.open(encoding=_encoding(path), newline="") as file:
        lines = _Lines(path, iter(file))
        first = _header_line(path, lines)
        reader = csv.reader(itertools.chain(first, lines), delimiter=_delimiter(first[0]), strict=True)
        names = _header(path, reader)
        before = reader.line_num
        while True:
            place = f"line {before + 1}"
            try:
                cells = next(reader, None)
            except csv.Error as error:
                yield Row(place, None, f"not CSV: {error}; a quote within a quoted cell is doubled")
                return
            if cells is None:
                return
            before = reader.line_num
            yield _of_cells(place, names, cells)


class _Lines:
    """The lines of a text, with the place of bytes that are none."""

    def __init__(self, path: Path, lines: Iterator[str]) -> None:
        self._path, self._lines = path, lines

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        try:
            return next(self._lines)
        except UnicodeDecodeError as error:
            place = f"{self._path}: line {_bad_line(self._path)}"
            raise DatasetError(f"{place}: not UTF-8 text; save it as UTF-8") from error


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


def _header_line(path: Path, lines: Iterator[str]) -> list[str]:
    for line in lines:
        if line.strip():
            return [line]
    raise DatasetError(f"{path}: empty; expected a first line with the columns examples,ground_truth")


def _delimiter(header: str) -> str:
    """Spreadsheets of half the world write semicolons."""
    return max(",;\t", key=header.count)


def _header(path: Path, reader: Iterator[list[str]]) -> list[str]:
    try:
        names = [name.strip() for name in next(reader)]
    except csv.Error as error:
        raise DatasetError(f"{path}: line 1: not CSV: {error}") from error
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise DatasetError(f"{path}: line 1: column {', '.join(twice)} stands twice; one of each is expected")
    if "examples" not in names:
        found = ", ".join(names[:8])
        raise DatasetError(f"{path}: line 1: no column examples; expected examples,ground_truth, found {found}")
    return names


def _of_cells(place: str, names: list[str], cells: list[str]) -> Row:
    if not any(cell.strip() for cell in cells):
        return Row(place, None)
    if len(cells) != len(names):
        return Row(place, None, f"{len(cells)} cells, and {len(names)} columns; quote cells that hold the delimiter")
    return Row(place, {n: v if n == "examples" else v or None for n, v in zip(names, cells, strict=True) if n})


# ── JSON, one object a line ──


def _jsonl(path: Path) -> Iterator[Row]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            line = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
            yield _of_line(f"line {number}", line.strip())


def _of_line(place: str, line: bytes) -> Row:
    if not line:
        return Row(place, None)
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        return Row(place, None, f"not JSON: {error}")
    if not isinstance(value, dict):
        return Row(place, None, f"expected a JSON object, got {type(value).__name__}")
    return Row(place, value)


# ── Parquet, as Hugging Face's datasets are kept ──


def _parquet(path: Path) -> Iterator[Row]:
    try:
        parquet: Any = import_module("pyarrow.parquet")
    except ModuleNotFoundError as error:
        raise NotInstalled(f'{path}: Parquet needs pyarrow: pip install "assay-gateway[parquet]"') from error
    arrow: Any = import_module("pyarrow")
    try:
        with parquet.ParquetFile(path) as file:
            number = 0
            for batch in file.iter_batches(_BATCH_ROWS):
                for values in batch.to_pylist():
                    number += 1
                    yield Row(f"row {number}", values)
    except (arrow.ArrowInvalid, arrow.ArrowNotImplementedError) as error:
        raise DatasetError(f"{path}: not Parquet: {error}") from error


READERS: Mapping[str, Callable[[Path], Iterator[Row]]] = MappingProxyType(
    {".csv": _csv, ".tsv": _csv, ".jsonl": _jsonl, ".ndjson": _jsonl, ".parquet": _parquet}
)
