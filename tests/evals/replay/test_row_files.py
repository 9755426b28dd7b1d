"""Files as people and programs write them; a mistake is said by its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.evals.replay.row_files import DatasetError, rows


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def values(path: Path) -> list[object]:
    return [row.values for row in rows(path)]


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
def test_csv_as_spreadsheets_write_it(tmp_path: Path, content: bytes) -> None:
    assert values(written(tmp_path / "d.csv", content)) == TWO


def test_a_row_is_placed_by_the_line_it_begins_on(tmp_path: Path) -> None:
    path = written(tmp_path / "d.csv", 'examples\n"a\nb"\n\nc\n')
    assert [(r.place, r.values) for r in rows(path)] == [
        ("line 2", {"examples": "a\nb"}), ("line 4", None), ("line 5", {"examples": "c"}),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty; expected a first line"),
        (
            b"question,answer\na,b\n",
            "line 1: no column examples; expected examples,.*, found question, answer",
        ),
        (b"examples,examples\n", "line 1: column examples stands twice"),
        (b"examples\nok\n\xff\xfe\n", "line 3: not UTF-8 text"),
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    with pytest.raises(DatasetError, match=said):
        list(rows(written(tmp_path / "d.csv", content)))


def test_a_row_that_does_not_fit_is_one_mistake(tmp_path: Path) -> None:
    path = written(tmp_path / "d.csv", "examples,ground_truth\na,b,c\nd,e\n")
    wrong, fine = rows(path)
    assert wrong.mistake == "3 cells, and 2 columns; quote cells that hold the delimiter"
    assert fine.values == {"examples": "d", "ground_truth": "e"}
    [open_quote] = rows(written(tmp_path / "q.csv", 'examples\n"a\n'))
    assert open_quote.mistake is not None
    assert "not CSV" in open_quote.mistake


def test_jsonl_is_one_object_a_line(tmp_path: Path) -> None:
    path = written(tmp_path / "d.jsonl", b'\xef\xbb\xbf{"a": 1}\n\n[2]\n{"b":\n')
    first, blank, array, broken = rows(path)
    assert first.values == {"a": 1}
    assert (blank.values, blank.mistake) == (None, None)
    assert array.mistake == "expected a JSON object, got list"
    assert broken.place == "line 4"
    assert "not JSON" in str(broken.mistake)


def test_parquet_gives_the_same_rows(tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.Table.from_pylist(TWO), tmp_path / "d.parquet")
    assert [(r.place, r.values) for r in rows(tmp_path / "d.parquet")] == [("row 1", TWO[0]), ("row 2", TWO[1])]
    with pytest.raises(DatasetError, match="not Parquet"):
        list(rows(written(tmp_path / "x.parquet", b"examples\n")))


@pytest.mark.parametrize(
    ("name", "said"), [("d.json", r"one JSON object a line is .jsonl"), ("d.xls", "expected .csv")]
)
def test_another_kind_of_file_is_named_with_what_there_is(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(DatasetError, match=said):
        list(rows(written(tmp_path / name, "")))


def test_a_file_that_cannot_be_opened_says_why(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="cannot be read: No such file"):
        list(rows(tmp_path / "gone.csv"))
