"""Rows of every kind of file, each with its place, and an error that names the place and what was expected."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from gateway.core.errors import CannotRun
from gateway.features.row_files import DatasetRow, TableColumns, read_rows


def refusal(names: Sequence[str]) -> str | None:
    return None if "examples" in names else f"no column examples, found {', '.join(names)}"


COLUMNS = TableColumns("examples,ground_truth", refusal, frozenset({"examples", "ground_truth"}))


def rows(path: Path) -> Iterator[DatasetRow]:
    return read_rows(path, COLUMNS)


def values(path: Path) -> list[object]:
    return [row.values for row in rows(path)]


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


TWO = [{"examples": "a, b", "ground_truth": "1"}, {"examples": 'say "hi"\nnow', "ground_truth": None}]


@pytest.mark.parametrize(
    "content",
    [
        b'examples,ground_truth\n"a, b",1\n"say ""hi""\nnow",\n',
        b'\xef\xbb\xbfexamples;ground_truth\r\na, b;1\r\n"say ""hi""\nnow";\r\n',
        b'\n\nexamples\tground_truth\na, b\t1\n"say ""hi""\nnow"\t\n',
        'examples,ground_truth\n"a, b",1\n"say ""hi""\nnow",\n'.encode("utf-16"),
        b' examples , ground_truth ,\n"a, b",1,\n"say ""hi""\nnow",,',
    ],
    ids=["plain", "a spreadsheet's", "tabs", "utf-16", "an empty column"],
)
def test_csv_is_read_as_spreadsheets_write_it(tmp_path: Path, content: bytes) -> None:
    assert values(written(tmp_path / "d.csv", content)) == TWO


def test_a_rows_place_is_its_first_line(tmp_path: Path) -> None:
    path = written(tmp_path / "d.csv", 'examples\n"a\nb"\n\nc\n')
    assert [(r.place, r.values) for r in rows(path)] == [
        ("line 2", {"examples": "a\nb"}), ("line 4", None), ("line 5", {"examples": "c"}),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty; expected a first line"),
        (b"dialogue,answer\na,b\n", "line 1: no column examples, found dialogue, answer"),
        (b"examples,examples\n", "line 1: column examples appears twice"),
        (b"examples\nok\n\xff\xfe\n", "line 3: not UTF-8 text"),
    ],
)
def test_a_file_that_is_not_a_table_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(CannotRun, match=message):
        list(rows(written(tmp_path / "d.csv", content)))


def test_a_row_with_too_many_cells_is_one_error(tmp_path: Path) -> None:
    path = written(tmp_path / "d.csv", "examples,ground_truth\na,b,c\nd,e\n")
    wrong, fine = rows(path)
    assert wrong.error == "3 cells for 2 columns; quote cells that hold the delimiter"
    assert fine.values == {"examples": "d", "ground_truth": "e"}
    [open_quote] = rows(written(tmp_path / "q.csv", 'examples\n"a\n'))
    assert open_quote.error is not None
    assert "not CSV" in open_quote.error


def test_jsonl_has_one_object_per_line(tmp_path: Path) -> None:
    path = written(tmp_path / "d.jsonl", b'\xef\xbb\xbf{"a": 1}\n\n[2]\n{"b":\n')
    first, blank, array, broken = rows(path)
    assert first.values == {"a": 1}
    assert (blank.values, blank.error) == (None, None)
    assert array.error == "expected a JSON object, got list"
    assert broken.place == "line 4"
    assert "not JSON" in str(broken.error)


def test_parquet_columns_that_nothing_reads_are_not_decoded(tmp_path: Path) -> None:
    """A small file can hold gigabytes in one."""
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    values = {"examples": ["a", "b"], "notes": ["x" * 1000] * 2, "q": ["c", "d"]}
    path = tmp_path / "d.parquet"
    parquet.write_table(arrow.table(values), path)
    assert [r.values for r in rows(path)] == [{"examples": text, "notes": "", "q": ""} for text in "ab"]
    parquet.write_table(arrow.table({"notes": ["x"]}), path)
    assert [r.values for r in rows(path)] == [{"notes": ""}]


def test_parquet_has_the_same_rows(tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.Table.from_pylist(TWO), tmp_path / "d.parquet")
    assert [(r.place, r.values) for r in rows(tmp_path / "d.parquet")] == [("row 1", TWO[0]), ("row 2", TWO[1])]
    with pytest.raises(CannotRun, match="not Parquet"):
        list(rows(written(tmp_path / "x.parquet", b"examples\n")))


@pytest.mark.parametrize(
    ("name", "message"), [("d.json", r"a file with one JSON object per line is .jsonl"), ("d.xls", "expected .csv")]
)
def test_another_kind_of_file_is_refused_with_the_known_kinds(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(CannotRun, match=message):
        list(rows(written(tmp_path / name, "")))


def test_a_file_that_cannot_be_opened_is_reported(tmp_path: Path) -> None:
    with pytest.raises(CannotRun, match="cannot be read: No such file"):
        list(rows(tmp_path / "gone.csv"))
