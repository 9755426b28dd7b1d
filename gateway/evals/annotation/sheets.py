"""Labels as CSV and JSONL: blind sheets to be filled by others, and what was said. Pure but for the files."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import orjson

from gateway.core.errors import CannotRun
from gateway.core.sanitize import cell, to_json
from gateway.evals.annotation.blind import BlindItem, question
from gateway.evals.annotation.verdict_words import LabelVerdict, verdict
from gateway.evals.store.labels import Subject

Form = Literal["csv", "jsonl"]
Given = tuple[str, LabelVerdict, str]  # id, verdict, labeller; "": whoever brings the sheet
MOST_BYTES, MOST_CELL = 256 << 20, 1 << 20
MOST_MISTAKES = 20
_ID = ("id", "subject_id", "exchange_id")


class SheetError(CannotRun):
    """A sheet that cannot be taken; every mistake in it, with its line."""


def blind_sheet(items: Iterable[BlindItem], form: Form) -> str:
    """id, question, the answers, and an empty column for the verdict."""
    rows = []
    for each in items:
        answers = {"answer": each.answers[0]} if len(each.answers) == 1 else dict(
            zip(("answer_1", "answer_2"), each.answers, strict=True)
        )  # fmt: skip
        rows.append({"id": each.id, "question": question(each), **answers, "verdict": "", "comment": ""})
    return sheet(rows, form)


def sheet(rows: Sequence[Mapping[str, Any]], form: Form) -> str:
    """CSV with a header, or a JSON object a line. Columns are the first row's."""
    if form == "jsonl":
        return "".join(f"{to_json(dict(row), indent=False)}\n" for row in rows)
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow(rows[0] if rows else ("id", "verdict", "comment"))
    out.writerows([_cell(value) for value in row.values()] for row in rows)
    return text.getvalue()


def form_of(path: Path | None) -> Form:
    """By the name's ending; CSV where it says nothing."""
    return "jsonl" if path is not None and path.suffix.lower() in (".jsonl", ".ndjson") else "csv"


def read(path: Path, subject: Subject, turned: Callable[[str], bool], known: Callable[[str], bool]) -> list[Given]:
    """Every row with a verdict. turned: whether a pair stood the other way round in the sheet. known: ids that may be
    labelled. Raises BadSheet, with every mistake."""
    rows = _rows(path)
    given: list[Given] = []
    wrong: list[str] = []
    for line, row in rows:
        try:
            said = _given(row, subject, turned, known)
        except ValueError as error:
            wrong.append(f"{path.name}, line {line}: {error}")
        else:
            given += [] if said is None else [said]
    if wrong:
        more = [f"… and {len(wrong) - MOST_MISTAKES} more"] if len(wrong) > MOST_MISTAKES else []
        raise SheetError("\n".join([*wrong[:MOST_MISTAKES], *more]))
    return given


def _given(
    row: Mapping[str, Any], subject: Subject, turned: Callable[[str], bool], known: Callable[[str], bool]
) -> Given | None:
    """verdict: in words, of the answers as they were shown. value: a number, of the pair as it is in the store."""
    id = _column(row, _ID)
    said = _column(row, ("verdict",)) or _column(row, ("value",))
    if id is None:
        raise ValueError(f"no column {' or '.join(_ID)}")
    if said is None:
        return None
    if not known(id):
        raise ValueError(f'the scorer has judged no "{cell(id)[:80]}"')
    comment = _column(row, ("comment",))
    worded = _column(row, ("verdict",)) is not None and subject == "pair"
    found = verdict(said, subject if worded else "exchange", turned=turned(id))
    if found.stop:
        raise ValueError(f"{said!r} is no verdict")
    return id, replace(found, comment=comment or found.comment), _column(row, ("labeller",)) or ""


def _column(row: Mapping[str, Any], names: Sequence[str]) -> str | None:
    """The first of these columns that holds something."""
    for name in names:
        value = row.get(name)
        if value is not None and str(value).strip():
            return str(value).strip()
    return None


def _rows(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """Each row with its line, the header's being 1."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise SheetError(f"{path} is larger than {MOST_BYTES >> 20} MB")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SheetError(f"{path} cannot be read: {error}") from error
    return _objects(path, text) if form_of(path) == "jsonl" else _table(path, text)


def _objects(path: Path, text: str) -> list[tuple[int, dict[str, Any]]]:
    found = []
    for line, each in enumerate(text.split("\n"), 1):
        if not each.strip():
            continue
        try:
            value = orjson.loads(each)
        except orjson.JSONDecodeError as error:
            raise SheetError(f"{path.name}, line {line}: no JSON: {error}") from None
        if not isinstance(value, dict):
            raise SheetError(f"{path.name}, line {line}: no JSON object")
        found.append((line, value))
    return found


def _table(path: Path, text: str) -> list[tuple[int, dict[str, Any]]]:
    """Also with semicolons, as spreadsheets of many countries write it."""
    first = text.partition("\n")[0]
    reader = csv.DictReader(
        io.StringIO(text, newline=""), delimiter=";" if first.count(";") > first.count(",") else ","
    )
    try:
        return [(reader.line_num, {str(k).strip().lower(): v for k, v in row.items()}) for row in reader]
    except csv.Error as error:
        raise SheetError(f"{path.name}, line {reader.line_num}: {error}") from None


def _cell(value: Any) -> Any:
    return cell(value) if isinstance(value, str) else value
