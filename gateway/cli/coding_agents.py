"""The commands that start coding agents on a gateway, without a file of their own. `gateway up` prints some of them.

docs/clients.md has the same commands, and the settings of programs without a command line.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class GatewayAccess:
    """Address, key and model that an agent needs to use a gateway."""

    base_url: str
    """The base URL up to and including /v1."""
    key: str
    model: str


def _claude(access: GatewayAccess) -> str:
    models = {"ANTHROPIC_MODEL": access.model, "ANTHROPIC_DEFAULT_HAIKU_MODEL": access.model}
    base_url = access.base_url.removesuffix("/v1")
    return _line({"ANTHROPIC_BASE_URL": base_url, "ANTHROPIC_AUTH_TOKEN": access.key, **models}, "claude")


def _codex(access: GatewayAccess) -> str:
    members = {"name": "gateway", "base_url": access.base_url, "env_key": "GATEWAY_KEY", "wire_api": "responses"}
    provider = ", ".join(f"{name} = {json.dumps(value)}" for name, value in members.items())
    settings = {
        "model": json.dumps(access.model),
        "model_provider": '"gateway"',
        "model_providers.gateway": f"{{{provider}}}",
    }
    words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    return _line({"GATEWAY_KEY": access.key}, "codex", *words)


def _opencode(access: GatewayAccess) -> str:
    options = {"baseURL": access.base_url, "apiKey": access.key}
    provider = {"npm": "@ai-sdk/openai-compatible", "name": "gateway", "options": options}
    named = f"gateway/{access.model}"
    config = {
        "provider": {"gateway": {**provider, "models": {access.model: {}}}},
        "model": named,
        "small_model": named,
    }
    return _line({"OPENCODE_CONFIG_CONTENT": json.dumps(config)}, "opencode")


def _aider(access: GatewayAccess) -> str:
    words = ("--model", f"openai/{access.model}")
    return _line({"OPENAI_API_BASE": access.base_url, "OPENAI_API_KEY": access.key}, "aider", *words)


def _line(environ: Mapping[str, str], *words: str) -> str:
    return " ".join([*(f"{name}={shlex.quote(value)}" for name, value in environ.items()), shlex.join(words)])


AGENTS: Mapping[str, tuple[str, Callable[[GatewayAccess], str]]] = MappingProxyType({
    "claude": ("Claude Code", _claude),
    "codex": ("Codex", _codex),
    "opencode": ("opencode", _opencode),
    "aider": ("aider", _aider),
})  # fmt: skip
"""(title, command line for a POSIX shell) by the name of the program."""


def command(program: str, access: GatewayAccess) -> str:
    """The command line that starts this agent; further arguments may follow."""
    return AGENTS[program][1](access)


def installed_agents(access: GatewayAccess, which: Callable[[str], str | None]) -> str:
    """A paragraph with the commands of the agents on this machine; "" if there is none. which: shutil.which."""
    found = [f"# {title}\n{line(access)}" for program, (title, line) in AGENTS.items() if which(program)]
    return "".join(f"\n\n{text}" for text in found)
