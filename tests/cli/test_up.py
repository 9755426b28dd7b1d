from __future__ import annotations

from pathlib import Path
from typing import Any

from gateway.cli.up import usage
from gateway.up.up import RunningGateway, StartedEngine


def nothing(program: str) -> None:
    """No program is installed."""


def gateway(tmp_path: Path, **changes: Any) -> RunningGateway:
    values: dict[str, Any] = {
        "base_url": "http://127.0.0.1:8000/v1",
        "key": "sk-assay-x",
        "keys": ("up",),
        "models": ("smollm2", "other"),
        "metrics_urls": ("http://127.0.0.1:8000/metrics", "http://127.0.0.1:9101/metrics"),
        "admin_url": "http://127.0.0.1:9102/admin",
        "login_url": "http://127.0.0.1:9102/console/login?link=x",
        "config": Path("gateway.yaml"),
        "data": Path(".gateway"),
        "log": Path(".gateway/gateway.log"),
    }
    return RunningGateway(**{**values, **changes})


def test_the_examples_use_the_key_and_the_first_model(tmp_path: Path) -> None:
    text = usage(gateway(tmp_path))
    assert "key        sk-assay-x" in text
    assert 'curl http://127.0.0.1:8000/v1/chat/completions -H "authorization: Bearer sk-assay-x"' in text
    assert '"model": "smollm2"' in text
    assert "--config" not in text
    assert "console    http://127.0.0.1:9102/console/login?link=x" in text
    assert "once, within 15 minutes" in text


def test_the_users_own_keys_are_named_and_not_shown(tmp_path: Path) -> None:
    assert "one of yours: web, app" in usage(gateway(tmp_path, key=None, keys=("web", "app")))
    assert "none is needed" in usage(gateway(tmp_path, key=None, keys=()))


def test_other_locations_are_in_the_samples_command(tmp_path: Path) -> None:
    text = usage(gateway(tmp_path, config=Path("f.yaml"), data=Path("d")))
    assert "samples --config f.yaml --data d" in text
    assert "http://127.0.0.1:9102/admin  (" in text
    assert "keys create NAME --data d)" in text


def test_each_engine_has_a_line_with_its_address_and_log(tmp_path: Path) -> None:
    engine = StartedEngine("local", "http://127.0.0.1:5/v1", "smollm2", Path("engine-local.log"))
    text = usage(gateway(tmp_path, engines=(engine,)))
    assert "engine     local: smollm2 at http://127.0.0.1:5/v1, log engine-local.log" in text


def test_the_commands_of_installed_agents_are_printed(tmp_path: Path) -> None:
    assert "codex" not in usage(gateway(tmp_path), nothing)
    text = usage(gateway(tmp_path), lambda program: f"/bin/{program}" if program in ("codex", "aider") else None)
    assert "# Codex\nGATEWAY_KEY=sk-assay-x codex -c" in text
    assert "# aider\nOPENAI_API_BASE=http://127.0.0.1:8000/v1 OPENAI_API_KEY=sk-assay-x aider" in text
    assert "claude" not in text
