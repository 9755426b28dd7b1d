"""A dataset is read once to find every mistake and its hash, and must still be the same when it is asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.evals.replay.datasets import DatasetError, scan


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


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


def test_every_mistake_is_said_by_its_line_up_to_ten(tmp_path: Path) -> None:
    path = written(tmp_path / "d.csv", "examples,ground_truth\n" + "a,b,c\n" + "ok,\n" + ",x\n" * 12)
    with pytest.raises(DatasetError) as error:
        scan(path)
    lines = str(error.value).splitlines()
    assert lines[0] == f"{path}: line 2: 3 cells, and 2 columns; quote cells that hold the delimiter"
    assert lines[1] == f"{path}: line 4: examples is empty; expected a question"
    assert lines[-1] == f"{path}: and 3 more"
    assert len(lines) == 11


def test_no_rows_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no rows; expected at least one question"):
        scan(written(tmp_path / "d.jsonl", "\n\n"))


@pytest.mark.parametrize("now", ["examples\na\nc\n", "examples\na\n"], ids=["changed", "shorter"])
def test_a_file_that_is_changed_meanwhile_stops_the_replay(tmp_path: Path, now: str) -> None:
    dataset = scan(written(tmp_path / "d.csv", "examples\na\nb\n"))
    written(dataset.path, now)
    with pytest.raises(DatasetError, match="was changed while it was replayed"):
        list(dataset.items())


def test_rows_that_are_added_meanwhile_are_of_another_dataset(tmp_path: Path) -> None:
    dataset = scan(written(tmp_path / "d.csv", "examples\na\nb\n"))
    written(dataset.path, "examples\na\nb\nc\n")
    assert [item.number for item in dataset.items()] == [1, 2]
    assert scan(dataset.path).hash != dataset.hash
