"""Files of scores, and the verb as a user runs it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from fixtures.score_tables import write_table
from typer.testing import CliRunner

from gateway.cli import app


@pytest.fixture
def table(tmp_path: Path) -> Callable[..., Path]:
    """Writes a table of scores: table("a.csv", [1, 0]), with ids q0, q1, …; further columns by name."""

    def write(name: str, scores: Sequence[Any], **columns: Sequence[Any]) -> Path:
        rows = [{"id": f"q{i}", "score": score} for i, score in enumerate(scores)]
        more = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        return write_table(
            tmp_path / name, [{**row, **extra} for row, extra in zip(rows, more or [{}] * len(rows), strict=True)]
        )

    return write


@pytest.fixture
def compare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Runs `gateway compare` in the folder of the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: Any) -> Any:
        return CliRunner().invoke(app, ["compare", *map(str, arguments)], catch_exceptions=False)

    return run
