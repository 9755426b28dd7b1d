"""`gateway import` as a user runs it: the file on stdout or in a new file, the notes on stderr."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from gateway.cli import app
from gateway.core.errors import CannotRun

CONFIG = """
model_list:
  - {model_name: m, litellm_params: {model: openai/gpt-x, metadata_tag: 1}}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
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
    assert "SageMaker's API is not spoken here" in result.stderr


def test_the_result_is_for_its_owner_alone(config: Path, tmp_path: Path) -> None:
    """It may hold keys of upstreams."""
    out = tmp_path / "gateway.yaml"
    CliRunner().invoke(app, ["import", "litellm", str(config), "--out", str(out)])
    assert stat.S_IMODE(out.stat().st_mode) == 0o600


def test_a_result_that_must_be_mended_is_a_finding(tmp_path: Path) -> None:
    broken = tmp_path / "config.yaml"
    broken.write_text("model_list:\n- {model_name: m, litellm_params: {model: openai/x, api_base: 'not an address'}}\n")
    result = CliRunner().invoke(app, ["import", "litellm", str(broken)])
    assert result.exit_code == 1
    assert "to be mended in the result: " in result.stderr
