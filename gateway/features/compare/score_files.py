"""Files with scores of one model, as rows: tables, JSON, and the results of other tools in their own forms.

A row holds the file's data for one item (or for one run of it), with each score in a column of its own. scores.py
chooses the columns.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from gateway.core.errors import CannotRun
from gateway.core.json_values import as_list, as_object, decoded
from gateway.features.compare import inspect_logs, lm_eval
from gateway.features.row_files import DatasetRow, TableColumns, read_rows

LARGEST_TABLE_BYTES = 4 << 30
LARGEST_JSON_BYTES = 512 << 20  # a JSON document is held in memory as a whole
MOST_ROWS = 2_000_000
PEEKED = 200
"""Rows of a file that are read to see which columns it has."""
_TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
SUFFIXES = (*_TABLES, ".json", ".eval")
_LISTS = ("data", "items", "content", "rows", "samples", "scores", "results")
"""Members of a JSON document that its rows may be in."""
_LONG = ("trace_id", "traceId", "observation_id", "observationId", "data_type", "dataType")
"""A table with a score's name and value, and one of these columns, has one score a row: Langfuse's form."""
_OF_SCORE = ("id", "value", "string_value", "stringValue")  # members of a score that are not columns of its item
_WORDS = ("CATEGORICAL", "TEXT")  # data types whose value is an index, or has no meaning
FEEDBACK = "feedback_scores"
"""The member of an Opik item with its scores: [{"name", "value", …}]."""


@dataclass(frozen=True, slots=True)
class ScoreFile:
    """A file, and how its rows are read."""

    path: Path
    form: str
    """The name of its form, as reports show it: "CSV", "Langfuse scores"."""
    read: Callable[[], Iterator[DatasetRow]]
    long: bool = False
    """Rows without the chosen score belong to another score, and are left out."""
    model: str = ""
    """The model, where the file names it."""
    notes: tuple[str, ...] = ()
    lower: frozenset[str] = frozenset()
    """Scores of which the file says that lower is better."""

    def rows(self) -> Iterator[DatasetRow]:
        """The rows with values. Raises CannotRun for an error in the file, and for more than MOST_ROWS."""
        number = 0
        for row in self.read():
            if row.error is not None:
                raise CannotRun(f"{self.path}: {row.place}: {row.error}")
            if row.values is None:
                continue
            number += 1
            if number > MOST_ROWS:
                raise CannotRun(f"{self.path}: more than {MOST_ROWS:,} rows; compare a part of them")
            yield row

    def peek(self) -> list[Mapping[str, Any]]:
        return [row.values for row in itertools.islice(self.rows(), PEEKED) if row.values is not None]


def open_scores(path: Path, wanted: frozenset[str]) -> ScoreFile:
    """wanted: the columns of Parquet that are decoded. Raises CannotRun."""
    suffix = path.suffix.lower()
    if suffix == ".eval":
        return _of_inspect(path)
    if suffix == ".json":
        return _of_json(path)
    _bounded(path, LARGEST_TABLE_BYTES)
    columns = TableColumns("id,score", lambda _: None, wanted)
    form = {".csv": "CSV", ".tsv": "TSV", ".parquet": "Parquet"}.get(suffix, "JSONL")
    file = ScoreFile(path, form, lambda: read_rows(path, columns))
    if suffix == ".jsonl" and (task := lm_eval.task_of(path)) is not None and _first(file).keys() >= lm_eval.MEMBERS:
        return ScoreFile(path, "lm-eval samples", lambda: lm_eval.samples(path, task), long=True)
    return _recognized(file)


def _recognized(file: ScoreFile) -> ScoreFile:
    """Converts a file in one of the forms that have no columns of scores: the scores of each row get columns of their
    own."""
    values = _first(file)
    if "name" in values and "value" in values and any(column in values for column in _LONG):
        return ScoreFile(file.path, "Langfuse scores", _widened(file, _langfuse), long=True, notes=file.notes)
    if FEEDBACK in values:
        return ScoreFile(file.path, "Opik items", _widened(file, _opik), notes=file.notes)
    return file


def _first(file: ScoreFile) -> Mapping[str, Any]:
    first = next(iter(file.rows()), None)
    return first.values if first is not None and first.values is not None else {}


def _widened(
    file: ScoreFile, widen: Callable[[Mapping[str, Any]], Mapping[str, Any]]
) -> Callable[..., Iterator[DatasetRow]]:
    def read() -> Iterator[DatasetRow]:
        for row in file.rows():
            yield DatasetRow(row.place, widen(row.values or {}))

    return read


def _langfuse(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """A row of Langfuse's scores with the score in a column of its name.

    Source: langfuse.com/docs/api-and-data-platform/features/blob-storage-export-fields (snake case: CSV, JSON, JSONL
    and Parquet of the blob storage export) and the responses of GET /api/public/v2/scores (camel case).
    """
    kind = row.get("data_type") or row.get("dataType")
    value = (row.get("string_value") or row.get("stringValue")) if kind in _WORDS else row.get("value")
    return {**{name: v for name, v in row.items() if name not in _OF_SCORE}, str(row["name"]): value}


def _opik(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """An item of an Opik experiment with each feedback score in a column of its name.

    Source: comet.com/docs/opik, "Exporting experiment results", and the REST type ExperimentItemCompare.
    """
    scores = {
        str(score["name"]): score.get("value")
        for score in as_list(decoded(row[FEEDBACK]))
        if "name" in as_object(score)
    }
    left_out = {FEEDBACK, "id"} if "dataset_item_id" in row else {FEEDBACK}
    return {**{name: v for name, v in row.items() if name not in left_out}, **scores}


def _of_inspect(path: Path) -> ScoreFile:
    model, notes = inspect_logs.header_of(path)
    return ScoreFile(path, "inspect log", lambda: inspect_logs.samples(path), model=model, notes=notes)


def _of_json(path: Path) -> ScoreFile:
    _bounded(path, LARGEST_JSON_BYTES)
    try:
        document = orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError as error:
        raise CannotRun(f"{path}: not JSON: {error}") from error
    found = as_object(document)
    if inspect_logs.is_log(found):
        return _of_inspect(path)
    if lm_eval.is_results(found):
        read, model = lm_eval.of_results(path, found), lm_eval.model_of(found)
        return ScoreFile(path, "lm-eval results", read, long=True, model=model, lower=lm_eval.lower_metrics(found))
    rows = (
        document
        if isinstance(document, list)
        else next((found[m] for m in _LISTS if isinstance(found.get(m), list)), None)
    )
    if rows is None:
        raise CannotRun(
            f"{path}: expected a list of objects, alone or as one of {', '.join(_LISTS)}; found "
            f"{', '.join(list(found)[:8]) or type(document).__name__}"
        )
    return _recognized(ScoreFile(path, "JSON", lambda: _objects(rows), notes=tuple(_pages(path, found))))


def _objects(rows: list[Any]) -> Iterator[DatasetRow]:
    for number, value in enumerate(rows, 1):
        wrong = None if isinstance(value, dict) else f"expected a JSON object, got {type(value).__name__}"
        yield DatasetRow(f"item {number}", value if isinstance(value, dict) else None, wrong)


def _pages(path: Path, document: Mapping[str, Any]) -> Iterator[str]:
    """The note on a document that is one page of several, such as an API's answer."""
    meta = as_object(document.get("meta"))
    pages, total = meta.get("totalPages"), document.get("total", meta.get("totalItems"))
    rows: list[Any] = next((document[m] for m in _LISTS if isinstance(document.get(m), list)), [])
    if (isinstance(pages, int) and pages > 1) or (isinstance(total, int) and total > len(rows)):
        yield f"{path} is one page of an API's answer: {len(rows)} of {total} entries; the others are not compared"


def _bounded(path: Path, most: int) -> None:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise CannotRun(f"{path}: cannot be read: {error.strerror}") from error
    if size > most:
        raise CannotRun(
            f"{path}: {size / 2**20:,.0f} MB; at most {most >> 20:,} MB are read: keep only the ids and scores"
        )
