"""`gateway label` and `gateway judge`."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]


def test_a_blind_sheet_needs_the_name_of_a_scorer(gateway: Run) -> None:
    result = gateway("label", "export", "--next", "3")
    assert (result.returncode, result.stdout) == (2, "")
    assert "name the scorer with --scorer" in result.stderr


@pytest.mark.parametrize("arguments", [["export"], ["next", "--scorer", "helpful"]])
def test_without_a_store_there_is_nothing_to_label(gateway: Run, arguments: list[str]) -> None:
    result = gateway("label", *arguments)
    assert (result.returncode, result.stdout) == (1, "")
    assert "no store at" in result.stderr


def test_only_its_owner_can_read_a_sheet(gateway: Run, tmp_path: Path) -> None:
    gateway("migrate")
    (tmp_path / "sheet.csv").write_text("an older one")
    (tmp_path / "sheet.csv").chmod(0o644)
    assert gateway("label", "export", "sheet.csv").returncode == 0
    assert (tmp_path / "sheet.csv").stat().st_mode & 0o777 == 0o600


def test_a_sheet_that_does_not_exist_is_a_usage_error(gateway: Run) -> None:
    assert gateway("label", "import", "gone.csv", "--scorer", "helpful").returncode == 2


def test_without_a_store_nothing_is_calibrated(gateway: Run) -> None:
    result = gateway("judge", "calibrate", "helpful")
    assert (result.returncode, result.stdout) == (1, "")
    assert "no store at" in result.stderr


def test_a_threshold_outside_0_to_1_is_a_usage_error(gateway: Run) -> None:
    assert gateway("judge", "calibrate", "helpful", "--cut", "2").returncode == 2


def test_without_a_store_no_judges_are_compared(gateway: Run) -> None:
    result = gateway("judge", "compare", "helpful", "cheap")
    assert (result.returncode, result.stdout) == (1, "")
    assert "no store at" in result.stderr


def test_a_guard_is_compared_with_nothing(gateway: Run) -> None:
    result = gateway("judge", "compare", "guard mails", "helpful")
    assert result.returncode == 2
    assert "mails is a guard" in result.stderr
