"""Datasets of Hugging Face: on disk here, since no hub can be asked; and the messages without library or network."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from gateway.core.errors import CannotRun
from gateway.features.replay.datasets.datasets import scan
from gateway.features.replay.datasets.huggingface import HuggingFaceDataset
from gateway.features.replay.datasets.row_formats import column_map

ROWS = {"dialogue": ["A: hi", "A: bye"], "summary": ["a greeting", "a farewell"], "label": [0, 1]}
MAP = column_map(["question=dialogue,reference=summary"])


@pytest.fixture
def datasets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """The library datasets, without network; skipped where it is not installed."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    return pytest.importorskip("datasets", reason="the library datasets is not installed (extra datasets)")


def test_a_split_on_disk_is_read(datasets, tmp_path: Path) -> None:
    data = datasets.Dataset.from_dict(ROWS)
    datasets.DatasetDict({"train": data.select([0]), "test": data}).save_to_disk(tmp_path / "saved")
    dataset = scan(HuggingFaceDataset(f"{tmp_path}/saved:test", MAP))
    assert [(i.example(), i.reference) for i in dataset.items()] == [("A: hi", "a greeting"), ("A: bye", "a farewell")]
    assert dataset.ignored == ("label",)
    assert dataset.name.endswith("saved-test")
    with pytest.raises(CannotRun, match="it has several splits; add one of :train, :test"):
        scan(HuggingFaceDataset(f"{tmp_path}/saved", MAP))
    with pytest.raises(CannotRun, match="no split dev; add one of :train, :test"):
        scan(HuggingFaceDataset(f"{tmp_path}/saved:dev", MAP))


def test_a_dataset_without_splits_is_read_and_numbers_are_text(datasets, tmp_path: Path) -> None:
    datasets.Dataset.from_dict({"question": ["q"], "answer": [7]}).save_to_disk(tmp_path / "one")
    [item] = scan(HuggingFaceDataset(str(tmp_path / "one"))).items()
    assert (item.example(), item.reference) == ("q", "7")


def test_columns_that_do_not_fit_are_named(datasets, tmp_path: Path) -> None:
    datasets.Dataset.from_dict(ROWS).save_to_disk(tmp_path / "one")
    with pytest.raises(CannotRun, match="found dialogue, summary, label; name the columns with --map"):
        scan(HuggingFaceDataset(str(tmp_path / "one")))
    with pytest.raises(CannotRun, match="no column text for question"):
        scan(HuggingFaceDataset(str(tmp_path / "one"), column_map(["question=text"])))


def test_a_name_on_a_hub_that_cannot_be_reached_is_one_line(datasets, tmp_path: Path) -> None:
    """Runs in a process of its own, since the library reads HF_HUB_OFFLINE when it is imported."""
    import subprocess

    code = """
import sys
from gateway.core.errors import CannotRun
from gateway.features.replay.datasets.huggingface import HuggingFaceDataset
try:
    list(HuggingFaceDataset(sys.argv[1]).rows())
except CannotRun as error:
    print(error)
"""
    address = "owner/name/config:test"
    run = subprocess.run([sys.executable, "-c", code, address], capture_output=True, text=True, check=True)
    assert run.stdout.startswith(f"hf://{address}: cannot be loaded: ")
    assert run.stdout.count("\n") == 1


def test_a_name_of_the_hub_never_means_a_directory_here(
    datasets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "acme" / "eval").mkdir(parents=True)
    (tmp_path / "acme" / "eval" / "data.jsonl").write_text('{"question": "q", "answer": "a"}\n')
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CannotRun, match=r"write hf://\./acme/eval to read that one"):
        list(HuggingFaceDataset("acme/eval:train").rows())
    assert list(HuggingFaceDataset("./acme/eval:train").rows())


def test_a_missing_directory_is_an_error(datasets, tmp_path: Path) -> None:
    with pytest.raises(CannotRun, match="cannot be loaded: no directory"):
        scan(HuggingFaceDataset(str(tmp_path / "gone")))


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(CannotRun, match=r'hf://a/b: needs datasets: pip install "\.\[datasets\]"'):
        list(HuggingFaceDataset("a/b").rows())


@pytest.mark.parametrize("address", ["", ":test", "a:b:c"])
def test_an_address_that_is_none_is_refused(datasets, address: str) -> None:
    with pytest.raises(CannotRun, match="expected hf://NAME"):
        list(HuggingFaceDataset(address).rows())
