from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

Run = Callable[..., subprocess.CompletedProcess[str]]


def test_an_experiment_without_evidence_is_named(gateway: Run) -> None:
    gateway("migrate")
    result = gateway("report", "swap")
    assert (result.returncode, result.stdout) == (1, "")
    assert '"swap"' in result.stderr


def test_without_a_store_there_is_no_report(gateway: Run, tmp_path: Path) -> None:
    result = gateway("report", "swap", "--html", "swap.html")
    assert (result.returncode, result.stdout) == (1, "")
    assert not (tmp_path / "swap.html").exists()
