"""A scorer's file next to gateway.yaml is found, and never stands in for an installed module."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.scoring.own_modules import reach_modules

PAGE = Path(__file__).parents[2] / "docs" / "scorers.md"
CONFIG = """
open: true
upstreams: {a: {kind: fake}}
models: {m: {targets: [{upstream: a, model: m}]}}
scorers: {polite: {use: "polite:Polite", word: thank%s}}
"""


def checked(folder: Path, *, elsewhere: Path) -> subprocess.CompletedProcess[str]:
    """`gateway check` of the config in this folder, from another one."""
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [Path(sys.executable).with_name("gateway"), "check", folder / "gateway.yaml"],
        cwd=elsewhere, env={**environ, "GATEWAY_DATA": str(elsewhere / "data")}, capture_output=True, text=True,
        check=False, timeout=100,
    )  # fmt: skip


@pytest.mark.parametrize("more", ["", ", isolate: true"])
def test_a_class_next_to_the_config_is_found(more: str, tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "config", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    (folder / "gateway.yaml").write_text(CONFIG % more)
    refused = checked(folder, elsewhere=elsewhere)
    assert refused.returncode == 1
    if not more:
        assert "it is neither installed nor in the folder of gateway.yaml" in refused.stdout
    code = PAGE.read_text().partition("## Write a scorer")[2].partition("```python\n")[2].partition("```")[0]
    (folder / "polite.py").write_text(code)
    accepted = checked(folder, elsewhere=elsewhere)
    assert accepted.returncode == 0, accepted.stdout + accepted.stderr


def test_the_folder_is_last_and_added_only_for_its_own_modules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: Callable[[str, str], None]
) -> None:
    module("installed_already", "")
    monkeypatch.setattr(sys, "path", [*sys.path])
    before, folder = [*sys.path], tmp_path / "config"
    (folder / "mine").mkdir(parents=True)
    for name in ("json.py", "gateway.py", "installed_already.py", "mine/__init__.py"):
        (folder / name).write_text("")
    reach_modules(("json", "gateway.scorers", "installed_already", "no_such_module"), folder)
    assert sys.path == before
    for _ in range(2):
        reach_modules(("mine.scorers",), folder)
    assert sys.path == [*before, str(folder.resolve())]
