"""The choice of columns, and valid scores."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from fixtures.score_tables import Rows, write_table

from gateway.core.errors import CannotRun
from gateway.features.compare.score_files import open_scores
from gateway.features.compare.scores import ModelScores, ScoreOptions, WrongColumns, choose, read_scores
from gateway.verdict.items.scores import Columns


def chosen(folder: Path, *tables: Rows, **options: Any) -> Columns:
    wanted = ScoreOptions(**options)
    files = [open_scores(write_table(folder / f"{i}.jsonl", rows), wanted.wanted) for i, rows in enumerate(tables)]
    return choose(files, wanted)


def read(folder: Path, rows: Sequence[dict[str, Any]], **options: Any) -> ModelScores:
    wanted = ScoreOptions(**options)
    file = open_scores(write_table(folder / "a.csv", rows), wanted.wanted)
    return read_scores(file, choose([file], wanted), wanted)


def test_usual_names_are_taken_in_their_order(tmp_path: Path) -> None:
    row = {"id": "run-7", "item_id": 7, "seconds": 1.5, "accuracy": 1, "score": 0.5}
    assert chosen(tmp_path, [row], [row]) == Columns("item_id", "score", None, ("id", "score"))
    assert chosen(tmp_path, [row], [{k: v for k, v in row.items() if k not in ("item_id", "score")}]) == Columns(
        "id", "accuracy", None, ("id", "score")
    )
    assert chosen(tmp_path, [row], [row], id="id", score="seconds", cluster="id") == Columns("id", "seconds", "id", ())


def test_the_only_column_of_numbers_is_the_score(tmp_path: Path) -> None:
    row = {"question": "why", "bleu": 0.25, "epoch": 1, "answer": "because"}
    assert chosen(tmp_path, [row], [row]).score == "bleu"


@pytest.mark.parametrize(
    ("rows", "options", "option", "words"),
    [
        ([{"a": 1, "b": 2}], {}, "--id", "has none of the usual columns of ids; it has a, b"),
        ([{"id": 1, "b": 2, "c": 3}], {}, "--score", "several columns may be the score: b, c; name one"),
        ([{"id": 1, "b": "good"}], {}, "--score", "no column that all files have holds numbers; they share id, b"),
        ([{"id": 1, "score": 2}], {"id": "idx"}, "--id", 'has no column idx; did you mean "id"?; it has id, score'),
        ([{"id": 1, "score": 2}], {"cluster": "doc"}, "--cluster", "has no column doc; it has id, score"),
    ],
)
def test_columns_that_do_not_fit_name_the_option(
    tmp_path: Path, rows: Rows, options: dict[str, Any], option: str, words: str
) -> None:
    with pytest.raises(WrongColumns) as caught:
        chosen(tmp_path, rows, rows, **options)
    assert caught.value.option == option
    assert words in str(caught.value)


def test_values_are_numbers_as_tables_write_them(tmp_path: Path) -> None:
    rows = [{"id": i, "score": value} for i, value in enumerate(["1", " 0.5 ", "true", "FALSE", "1e-1", "-2"])]
    assert [v for runs in read(tmp_path, rows).runs.values() for v in runs] == [1.0, 0.5, 1.0, 0.0, 0.1, -2.0]


@pytest.mark.parametrize(
    ("value", "options", "words"),
    [
        ("", {}, "line 3: no score in score (empty or NaN); --missing 0 counts such items as 0, --missing drop"),
        ("NaN", {}, "line 3: no score in score (empty or NaN)"),
        ("good", {}, 'line 3: score: "good" is not a number; map words to numbers'),
        ("0,5", {}, 'line 3: score: "0,5" is not a number; write a decimal point'),
        ("inf", {}, "line 3: score is inf; expected a finite number"),
        ("7", {"bounds": (0.0, 1.0)}, "line 3: score 7 is outside 0 … 1; correct it, or give another --range LOW,HIGH"),
    ],
)
def test_a_bad_score_names_file_line_value_and_remedy(
    tmp_path: Path, value: str, options: dict[str, Any], words: str
) -> None:
    rows = [{"id": "a", "score": "1"}, {"id": "b", "score": value}, *({"id": f"c{i}", "score": "0"} for i in range(3))]
    with pytest.raises(CannotRun) as caught:
        read(tmp_path, rows, **options)
    assert str(caught.value).startswith(f"{tmp_path / 'a.csv'}: {words}")


def test_only_the_first_errors_are_shown(tmp_path: Path) -> None:
    rows = [{"id": i, "score": "1" if i % 2 else "x"} for i in range(40)]
    with pytest.raises(CannotRun) as caught:
        read(tmp_path, rows, score="score")
    lines = str(caught.value).splitlines()
    assert len(lines) == 6
    assert lines[-1].endswith("and 15 more rows")


def test_a_missing_score_is_dropped_or_a_number_if_asked(tmp_path: Path) -> None:
    rows = [{"id": "a", "score": "1"}, {"id": "b", "score": ""}]
    dropped, filled = read(tmp_path, rows, missing="drop"), read(tmp_path, rows, missing=0.0)
    assert (dropped.runs, dropped.dropped) == ({"a": [1.0]}, ["line 3"])
    assert (filled.runs, filled.filled) == ({"a": [1.0], "b": [0.0]}, 1)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"id": "", "score": "1", "doc": "x"}, "line 3: no id in column id; every row needs one"),
        ({"id": "b", "score": "1", "doc": ""}, "line 3: no cluster in column doc; every row needs one"),
        ({"id": "a", "score": "1", "doc": "y"}, "line 3: item a is in cluster x and in y"),
        (
            {"id": "b" * 3000, "score": "1", "doc": "y"},
            "line 3: no id in column id: a text of 3,000 characters is not an id",
        ),
    ],
)
def test_ids_and_clusters_are_checked(tmp_path: Path, row: dict[str, str], words: str) -> None:
    with pytest.raises(CannotRun) as caught:
        read(tmp_path, [{"id": "a", "score": "1", "doc": "x"}, row], cluster="doc")
    assert words in str(caught.value)


def test_decimals_of_parquet_are_numbers(tmp_path: Path) -> None:
    path = write_table(tmp_path / "a.parquet", [{"id": i, "score": Decimal("0.25")} for i in range(2)])
    file, options = open_scores(path, ScoreOptions().wanted), ScoreOptions()
    assert read_scores(file, choose([file], options), options).runs == {"0": [0.25], "1": [0.25]}


def test_an_id_is_the_same_as_a_number_and_as_text(tmp_path: Path) -> None:
    for i, rows in enumerate(([{"id": 7, "score": 1}], [{"id": 7.0, "score": 1}], [{"id": "7", "score": 1}])):
        file = open_scores(write_table(tmp_path / f"{i}.jsonl", rows), frozenset())
        options = ScoreOptions()
        assert list(read_scores(file, choose([file], options), options).runs) == ["7"]
