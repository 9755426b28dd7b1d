"""The commands that start coding agents, as a shell reads them. tests/real/test_agents.py runs the agents with them."""

from __future__ import annotations

import json
import shlex
import tomllib

import pytest

from gateway.cli.coding_agents import AGENTS, GatewayAccess, command

ACCESS = GatewayAccess("http://127.0.0.1:8000/v1", "sk-assay-x", 'a "model"')


def words_of(program: str) -> tuple[dict[str, str], list[str]]:
    """(environment, words) of a command line."""
    words = shlex.split(command(program, ACCESS))
    at = words.index(program)
    return dict(word.split("=", 1) for word in words[:at]), words[at:]


@pytest.mark.parametrize("program", AGENTS)
def test_each_command_has_the_key_and_the_model(program: str) -> None:
    environ, words = words_of(program)
    assert words[0] == program
    given = json.dumps([environ, words])
    assert "sk-assay-x" in given
    assert "127.0.0.1:8000" in given
    assert "model" in given


def test_codex_reads_toml() -> None:
    environ, words = words_of("codex")
    assert environ == {"GATEWAY_KEY": "sk-assay-x"}
    settings = tomllib.loads("\n".join(words[2::2]))
    assert (settings["model"], settings["model_provider"]) == (ACCESS.model, "gateway")
    assert settings["model_providers"]["gateway"] == {
        "name": "gateway", "base_url": ACCESS.base_url, "env_key": "GATEWAY_KEY", "wire_api": "responses",
    }  # fmt: skip


def test_opencode_reads_json() -> None:
    environ, _ = words_of("opencode")
    config = json.loads(environ["OPENCODE_CONFIG_CONTENT"])
    assert config["provider"]["gateway"]["options"] == {"baseURL": ACCESS.base_url, "apiKey": ACCESS.key}
    assert config["model"] == f"gateway/{ACCESS.model}"


def test_claude_gets_the_origin() -> None:
    assert words_of("claude")[0]["ANTHROPIC_BASE_URL"] == "http://127.0.0.1:8000"
