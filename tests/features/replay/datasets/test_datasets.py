"""Datasets: every form of file and row, every error with its place, and the same hash for the same rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import CannotRun
from gateway.features.replay.datasets.datasets import DatasetFile, DatasetItem, bare, columns_of, item_of, rows, scan
from gateway.features.replay.datasets.row_formats import column_map
from gateway.features.row_files import read_rows


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_a_table_without_a_column_of_questions_is_refused(tmp_path: Path) -> None:
    message = "line 1: no column examples; expected examples,.*, found dialogue, answer; .* --map question=COLUMN"
    with pytest.raises(CannotRun, match=message):
        list(rows(written(tmp_path / "d.csv", b"dialogue,answer\na,b\n")))


def test_uneven_rows_are_named_and_the_others_asked(tmp_path: Path) -> None:
    path = written(tmp_path / "d.csv", "id,examples,ground_truth\n1,q1,a1\n2,q2\n3,q,3,a3\n4,q4,\n")
    dataset = scan(path)
    assert [(i.example(), i.reference) for i in dataset.items()] == [("q1", "a1"), ("q2", None), ("q4", None)]
    assert dataset.notes == (
        f"left out: {path}: line 4: 4 cells for 3 columns; quote cells that hold the delimiter",
        "1 rows have fewer cells than columns, and the last ones are empty: line 3",
    )
    with pytest.raises(CannotRun, match="line 2: 2 cells for 1 columns"):
        scan(written(tmp_path / "all.csv", "examples\na,b\n"))


def test_columns_may_be_named(tmp_path: Path) -> None:
    path = written(tmp_path / "d.csv", "id,dialogue,summary\n1,A: hi,a greeting\n")
    columns = column_map(["question=dialogue,reference=summary"])
    dataset = scan(DatasetFile(path, columns))
    [item] = dataset.items()
    assert (item.example(), item.reference, dataset.ignored) == ("A: hi", "a greeting", ("id",))
    with pytest.raises(CannotRun, match="line 1: no column text for question; found id, dialogue, summary"):
        scan(DatasetFile(path, column_map(["question=text"])))


def test_parquet_columns_that_map_names_are_decoded(tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "d.parquet"
    parquet.write_table(arrow.table({"examples": ["a", "b"], "notes": ["x"] * 2, "q": ["c", "d"]}), path)
    assert [r.values for r in rows(path)] == [{"examples": text, "notes": "", "q": ""} for text in "ab"]
    mapped = [r.values for r in read_rows(path, columns_of(column_map(["question=q"])))]
    assert [row and row["q"] for row in mapped] == ["c", "d"]


USER = {"role": "user", "content": "hi"}
TURNS = st.lists(st.fixed_dictionaries({"role": st.sampled_from(["user", "system"]), "content": st.text()}), min_size=1)


def test_a_row_has_a_question_and_its_answer() -> None:
    read = item_of({"examples": "2 + 2?", "ground_truth": "4"}, 7)
    assert (read.item.number, read.item.api, read.item.reference) == (7, "chat", "4")
    assert read.item.request == {"messages": [{"role": "user", "content": "2 + 2?"}]}
    assert read.item.example() == "2 + 2?"
    assert read.ignored == frozenset()


def test_a_last_assistant_message_is_the_reference_by_default() -> None:
    turns = [USER, {"role": "assistant", "content": "hello", "weight": 1}]
    assert item_of({"messages": turns}, 1).item.reference == "hello"
    assert item_of({"messages": turns}, 1).item.request == {"messages": [USER]}
    given = item_of({"messages": turns, "reference": "good day"}, 1).item
    assert given.reference == "good day"
    assert len(given.request["messages"]) == 2


def test_parameters_are_sent_and_unknown_members_are_named() -> None:
    read = item_of({"messages": [USER], "temperature": 0, "tools": None, "topic": "greetings"}, 1)
    assert read.item.request == {"messages": [USER], "temperature": 0}
    assert read.ignored == {"topic"}


def test_members_about_one_call_are_not_sent_again() -> None:
    body = {"model": "m", "stream": True, "stream_options": {}, "user": "u", "metadata": {}, "messages": [USER], "n": 1}
    assert bare(body) == {"messages": [USER], "n": 1}
    logged = item_of({"request": body, "api": "chat", "id": "x", "cluster": 4}, 1).item
    assert logged.request == {"messages": [USER], "n": 1}
    assert logged.cluster == "4"


def test_the_same_question_twice_is_one_cluster() -> None:
    one, two, other = (item_of({"examples": q}, n).item for n, q in enumerate(["a", "a", "b"], 1))
    assert one.cluster == two.cluster != other.cluster


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({}, "expected `examples`, `messages` or `request`, found nothing"),
        ({"question": "?"}, "found question"),
        ({"examples": None}, "examples is empty; expected a question"),
        ({"examples": "  "}, "examples is empty"),
        ({"examples": 4}, "examples must be text, not a number"),
        ({"examples": "a", "ground_truth": ["b"]}, "ground_truth must be text, not a list"),
        ({"examples": "a", "ground_truth": "b", "reference": "c"}, "differ; give one of them"),
        ({"examples": "a", "cluster": []}, "cluster must be text, not a list"),
        ({"messages": []}, "messages must be a non-empty list"),
        ({"messages": ["hi"]}, r"messages\[0\] must be an object with a role"),
        ({"request": [], "api": "chat"}, "request must be an object, not a list"),
        ({"request": {"prompt": "x"}, "api": "chat"}, "request has no messages"),
        ({"request": {"input": "x"}, "api": "embeddings"}, "api 'embeddings' cannot be replayed; expected one of chat"),
    ],
)
def test_an_error_names_the_expected_form(row: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        item_of(row, 1)


def test_requests_of_other_apis_are_sent_unchanged() -> None:
    assert item_of({"request": {"input": "x", "instructions": "y"}, "api": "responses"}, 1).item.api == "responses"
    assert item_of({"request": {"prompt": "x"}, "api": "completions"}, 1).item.example() is None


@given(TURNS, st.none() | st.text(min_size=1), st.none() | st.text(min_size=1))
def test_the_canonical_form_is_read_back_as_the_same_item(
    turns: list[dict[str, str]], reference: str | None, cluster: str | None
) -> None:
    row = {"request": {"messages": turns}, "reference": reference, "cluster": cluster}
    item = item_of(row, 3).item
    again: DatasetItem = item_of(orjson.loads(item.canonical()), 3).item
    assert again == item
    assert again.canonical() == item.canonical()


def test_the_same_rows_have_the_same_hash_in_every_format(tmp_path: Path) -> None:
    csv = scan(written(tmp_path / "a.csv", "examples,ground_truth,topic\nq1,a1,x\n,,\nq2,,\n"))
    lines = '{"ground_truth":"a1","examples":"q1"}\n{"messages":[{"role":"user","content":"q2"}]}\n'
    jsonl = scan(written(tmp_path / "b.jsonl", lines))
    assert csv.hash == jsonl.hash
    assert (csv.rows, csv.references, csv.blank, csv.ignored) == (2, 1, 1, ("topic",))
    assert [i.reference for i in csv.items()] == ["a1", None]
    assert [i.number for i in jsonl.items()] == [1, 2]
    other = scan(written(tmp_path / "c.csv", "examples,ground_truth\nq1,a1\nq2,a2\n"))
    assert other.hash != csv.hash


def test_the_first_ten_errors_are_reported_with_their_lines(tmp_path: Path) -> None:
    path = written(tmp_path / "d.csv", "examples,ground_truth\n" + "a,b,c\n" + "ok,\n" + ",x\n" * 12)
    with pytest.raises(CannotRun) as error:
        scan(path)
    lines = str(error.value).splitlines()
    assert lines[0] == f"{path}: line 2: 3 cells for 2 columns; quote cells that hold the delimiter"
    assert lines[1] == f"{path}: line 4: examples is empty; expected a question"
    assert lines[-1] == f"{path}: and 3 more"
    assert len(lines) == 11


def test_a_file_without_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CannotRun, match="no rows; expected at least one question"):
        scan(written(tmp_path / "d.jsonl", "\n\n"))


@pytest.mark.parametrize("now", ["examples\na\nc\n", "examples\na\n"], ids=["changed", "shorter"])
def test_a_file_that_changes_meanwhile_stops_the_replay(tmp_path: Path, now: str) -> None:
    dataset = scan(written(tmp_path / "d.csv", "examples\na\nb\n"))
    written(dataset.path, now)
    with pytest.raises(CannotRun, match="changed during the replay"):
        list(dataset.items())


def test_rows_added_meanwhile_stop_the_replay(tmp_path: Path) -> None:
    dataset = scan(written(tmp_path / "d.csv", "examples\na\nb\n"))
    written(dataset.path, "examples\na\nb\nc\n")
    assert [item.number for item in dataset.items()] == [1, 2]
    assert scan(dataset.path).hash != dataset.hash
