from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

Run = Callable[..., subprocess.CompletedProcess[str]]


def test_calls_are_followed_in_forms_that_files_can_be_cut_in(gateway: Run, tmp_path: Path) -> None:
    result = gateway("follow", "to", "--format", "csv")
    assert (result.returncode, result.stdout) == (2, "")
    assert 'no form "csv"; expected jsonl or parquet' in " ".join(result.stderr.split())
    assert not (tmp_path / "to").exists()
