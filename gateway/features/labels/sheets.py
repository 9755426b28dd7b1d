"""Labels as CSV and JSONL: blind sheets to be filled in elsewhere, and exports. Pure but for the files."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import orjson

from gateway.core.errors import CannotRun
from gateway.core.sanitize import cell, to_json
from gateway.features.labels.blind import BlindItem, LabelVerdict, parse_verdict, question_text
from gateway.features.labels.rows import Subject

Form = Literal["csv", "jsonl"]
MAX_BYTES = 256 << 20
MAX_ERRORS = 20
_ID_COLUMNS = ("id", "subject_id", "exchange_id")


@dataclass(frozen=True, slots=True)
class SheetRow:
    """A row with a verdict."""

    id: str
    verdict: LabelVerdict
    labeller: str = ""
    """"": the person who imports the sheet."""


def blind_sheet(items: Iterable[BlindItem], form: Form) -> str:
    """A row for each item: id, question, the answers, and an empty column for the verdict."""
    rows = []
    for item in items:
        names = ("answer",) if len(item.answers) == 1 else ("answer_1", "answer_2")
        answers = dict(zip(names, item.answers, strict=True))
        rows.append({"id": item.id, "question": question_text(item), **answers, "verdict": "", "comment": ""})
    return sheet(rows, form)


def sheet(rows: Sequence[Mapping[str, Any]], form: Form) -> str:
    """CSV with a header, or one JSON object per line. The columns are those of the first row."""
    if form == "jsonl":
        return "".join(f"{to_json(dict(row), indent=False)}\n" for row in rows)
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow(rows[0] if rows else ("id", "verdict", "comment"))
    out.writerows([_cell(value) for value in row.values()] for row in rows)
    return text.getvalue()


def form_of(path: Path | None) -> Form:
    """The form that the file's name ends in; CSV by default."""
    return "jsonl" if path is not None and path.suffix.lower() in (".jsonl", ".ndjson") else "csv"


def read(path: Path, subject: Subject, swapped: Callable[[str], bool], known: Callable[[str], bool]) -> list[SheetRow]:
    """Every row with a verdict. swapped: whether the sheet shows this pair's second answer first. known: whether the
    scorer has judged this id. Raises CannotRun with every error."""
    rows: list[SheetRow] = []
    errors: list[str] = []
    for line, values in _lines(path):
        try:
            row = _row(values, subject, swapped, known)
        except ValueError as error:
            errors.append(f"{path.name}, line {line}: {error}")
        else:
            rows += [] if row is None else [row]
    if errors:
        more = [f"… and {len(errors) - MAX_ERRORS} more"] if len(errors) > MAX_ERRORS else []
        raise CannotRun("\n".join([*errors[:MAX_ERRORS], *more]))
    return rows


def _row(
    values: Mapping[str, Any], subject: Subject, swapped: Callable[[str], bool], known: Callable[[str], bool]
) -> SheetRow | None:
    """The column "verdict" is about the answers as shown; "value" is a number about the pair as stored."""
    id = _column(values, _ID_COLUMNS)
    written = _column(values, ("verdict",)) or _column(values, ("value",))
    if id is None:
        raise ValueError(f"there is no column {' or '.join(_ID_COLUMNS)}")
    if written is None:
        return None
    if not known(id):
        raise ValueError(f'the scorer has not judged "{cell(id)[:80]}"')
    about_shown = _column(values, ("verdict",)) is not None and subject == "pair"
    verdict = parse_verdict(written, subject if about_shown else "exchange", swapped=swapped(id))
    if verdict.stop:
        raise ValueError(f"{written!r} is not a verdict")
    comment = _column(values, ("comment",)) or verdict.comment
    return SheetRow(id, replace(verdict, comment=comment), _column(values, ("labeller",)) or "")


def _column(values: Mapping[str, Any], names: Sequence[str]) -> str | None:
    """The first of these columns that is not empty."""
    for name in names:
        value = values.get(name)
        if value is not None and str(value).strip():
            return str(value).strip()
    return None


def _lines(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """(line, values) of each row. The header of a CSV file is line 1."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise CannotRun(f"{path} is larger than {MAX_BYTES >> 20} MB")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise CannotRun(f"{path} cannot be read: {error}") from error
    return _objects(path, text) if form_of(path) == "jsonl" else _table(path, text)


def _objects(path: Path, text: str) -> list[tuple[int, dict[str, Any]]]:
    found = []
    for line, each in enumerate(text.split("\n"), 1):
        if not each.strip():
            continue
        try:
            value = orjson.loads(each)
        except orjson.JSONDecodeError as error:
            raise CannotRun(f"{path.name}, line {line}: invalid JSON: {error}") from None
        if not isinstance(value, dict):
            raise CannotRun(f"{path.name}, line {line}: not a JSON object")
        found.append((line, value))
    return found


def _table(path: Path, text: str) -> list[tuple[int, dict[str, Any]]]:
    """CSV with commas, or with semicolons as spreadsheets write it in many locales."""
    header = text.partition("\n")[0]
    delimiter = ";" if header.count(";") > header.count(",") else ","
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        return [(reader.line_num, {str(k).strip().lower(): v for k, v in row.items()}) for row in reader]
    except csv.Error as error:
        raise CannotRun(f"{path.name}, line {reader.line_num}: {error}") from None


def _cell(value: Any) -> Any:
    return cell(value) if isinstance(value, str) else value
