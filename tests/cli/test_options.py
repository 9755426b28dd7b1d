from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.parametrize("verb", ["samples", "status", "export", "report"])
def test_a_config_that_does_not_exist_is_a_usage_error(gateway: Run, verb: str) -> None:
    name = ["swap"] if verb == "report" else []
    result = gateway(verb, *name, "--config", "gone.yaml")
    assert (result.returncode, result.stdout) == (2, "")
    assert "gone.yaml" in result.stderr


def test_the_config_here_is_read_without_an_option(gateway: Run, tmp_path: Path) -> None:
    (tmp_path / "gateway.yaml").write_text("store: {url: 'sqlite:///elsewhere.db'}\n")
    assert gateway("migrate").returncode == 0
    assert (tmp_path / "elsewhere.db").exists()


def test_the_data_option_chooses_the_store(gateway: Run, tmp_path: Path) -> None:
    assert gateway("migrate", "--data", "d").returncode == 0
    assert (tmp_path / "d" / "gateway.db").exists()


def test_a_table_is_not_folded_into_a_pipe(gateway: Run) -> None:
    gateway("migrate")
    assert len(gateway("samples").stdout.splitlines()) == 1


def test_help_says_where_config_and_data_default_to(gateway: Run) -> None:
    text = " ".join(gateway("samples", "--help").stdout.split())
    assert "Path to gateway.yaml (default: ./gateway.yaml if it exists)." in text
    assert "Data directory (default: $GATEWAY_DATA, else ./.gateway)." in text
