"""The files that ship with the package are written complete, and never over a user's own."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

import gateway
from gateway.cli import app

ROOT = Path(gateway.__file__).parent.parent


def written(verb: str, out: Path, *more: str) -> str:
    result = CliRunner().invoke(app, [verb, "--out", str(out), *more])
    assert result.exit_code == 0, result.stderr
    return result.stderr


def test_dashboards_come_with_what_grafana_needs_to_load_them(tmp_path: Path) -> None:
    written("dashboards", tmp_path / "grafana")
    names = sorted(p.name for p in (tmp_path / "grafana" / "dashboards").iterdir())
    assert names == sorted(p.name for p in (ROOT / "grafana" / "dashboards").iterdir())
    for path in (tmp_path / "grafana" / "dashboards").iterdir():
        assert json.loads(path.read_text())["panels"]
    assert list((tmp_path / "grafana" / "provisioning").rglob("*.y*ml"))


def test_alerts_are_the_rules_that_prometheus_reads(tmp_path: Path) -> None:
    written("alerts", tmp_path)
    rules = yaml.safe_load((tmp_path / "gateway.yml").read_text())
    assert rules["groups"]


def test_what_compose_mounts_is_written_where_it_expects_it(tmp_path: Path) -> None:
    written("deploy", tmp_path)
    compose = yaml.safe_load((tmp_path / "deploy" / "compose.yaml").read_text())
    for service in compose["services"].values():
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            assert not source.startswith(".") or (tmp_path / "deploy" / source).exists(), volume
    assert not list(tmp_path.rglob("*.py"))


def test_a_file_that_exists_is_left_unless_forced(tmp_path: Path) -> None:
    own = tmp_path / "gateway.yml"
    own.write_text("mine")
    assert "left as it is" in written("alerts", tmp_path)
    assert own.read_text() == "mine"
    written("alerts", tmp_path, "--force")
    assert own.read_text() != "mine"


def test_every_tree_that_is_written_is_in_the_wheel() -> None:
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    included = wheel["force-include"]
    assert all(target == f"gateway/packaged/{source}" for source, target in included.items())
    trees = {"grafana/dashboards", "grafana/provisioning", "grafana/alerts", "deploy"}
    assert trees == set(included)


@pytest.mark.long
def test_a_wheel_outside_any_checkout_writes_them_too(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet", "-w", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", wheel], check=True)
    subprocess.run([python, "-m", "gateway", "deploy", "--out", "assay"], check=True, cwd=tmp_path)
    assert (tmp_path / "assay" / "deploy" / "compose.yaml").exists()
    assert (tmp_path / "assay" / "grafana" / "dashboards" / "traffic.json").exists()
