from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway.cli import up
from gateway.up.up import RunningGateway, StartedEngine, UpOptions


def shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], running: RunningGateway) -> str:
    """What the verb prints once everything runs. The programs themselves are tested in tests/up."""

    async def run(options: UpOptions, say: Any, ready: Any) -> None:
        ready(running)

    monkeypatch.setattr("gateway.up.up.run", run)
    up.up()
    return capsys.readouterr().out


def gateway(tmp_path: Path, **changes: Any) -> RunningGateway:
    values: dict[str, Any] = {
        "base_url": "http://127.0.0.1:8000/v1",
        "key": "sk-assay-x",
        "keys": ("up",),
        "models": ("smollm2", "other"),
        "metrics_urls": ("http://127.0.0.1:8000/metrics", "http://127.0.0.1:9101/metrics"),
        "config": Path("gateway.yaml"),
        "data": Path(".gateway"),
        "log": Path(".gateway/gateway.log"),
    }
    return RunningGateway(**{**values, **changes})


def test_the_examples_use_the_key_and_the_first_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = shown(monkeypatch, capsys, gateway(tmp_path))
    assert "key        sk-assay-x" in text
    assert 'curl http://127.0.0.1:8000/v1/chat/completions -H "authorization: Bearer sk-assay-x"' in text
    assert '"model": "smollm2"' in text
    assert "--config" not in text


def test_the_users_own_keys_are_named_and_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "one of yours: web, app" in shown(monkeypatch, capsys, gateway(tmp_path, key=None, keys=("web", "app")))
    assert "none is needed" in shown(monkeypatch, capsys, gateway(tmp_path, key=None, keys=()))


def test_other_locations_are_in_the_samples_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = shown(monkeypatch, capsys, gateway(tmp_path, config=Path("f.yaml"), data=Path("d")))
    assert "samples --config f.yaml --data d" in text


def test_each_engine_has_a_line_with_its_address_and_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = StartedEngine("local", "http://127.0.0.1:5/v1", "smollm2", Path("engine-local.log"))
    text = shown(monkeypatch, capsys, gateway(tmp_path, engines=(engine,)))
    assert "engine     local: smollm2 at http://127.0.0.1:5/v1, log engine-local.log" in text
