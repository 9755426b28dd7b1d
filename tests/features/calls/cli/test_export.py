from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--format", "xml"], 'no form "xml"; expected one of jsonl, openai-chat, openai-evals, dpo, csv, parquet'),
        (["--format", "parquet"], "parquet is binary: give a file"),
    ],
)
def test_a_format_that_cannot_be_written_is_a_usage_error(gateway: Run, options: list[str], expected: str) -> None:
    result = gateway("export", *options)
    assert (result.returncode, result.stdout) == (2, "")
    assert expected in " ".join(result.stderr.split())


def test_without_a_store_nothing_is_exported(gateway: Run, tmp_path: Path) -> None:
    result = gateway("export", "--out", "calls.jsonl")
    assert (result.returncode, result.stdout) == (1, "")
    assert "no store at" in result.stderr
    assert not (tmp_path / "calls.jsonl").exists()
