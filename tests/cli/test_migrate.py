from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

Run = Callable[..., subprocess.CompletedProcess[str]]


def test_a_second_migration_changes_nothing(gateway: Run, tmp_path: Path) -> None:
    first, second = gateway("migrate"), gateway("migrate")
    assert (first.returncode, second.returncode) == (0, 0)
    assert second.stderr == first.stderr.rstrip("\n") + " already\n"
    assert (tmp_path / ".gateway" / "gateway.db").exists()
