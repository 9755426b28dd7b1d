"""What the tests of deploy/ share: its folder, and whether a command line there is one that our own takes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import click
import pytest
import typer.main

from gateway.cli import app

DEPLOY = Path(__file__).parents[2] / "deploy"
ENVIRON = {
    "WEB_KEY_SHA256": "0" * 64,
    "ADMIN_TOKEN_SHA256": "1" * 64,
    "OPENAI_API_KEY": "sk-x",
    "REDIS_PASSWORD": "red",
    "STREAM_URL": "redis://redis:6379/0",
    "STORE_URL": "postgresql://gateway@db/gateway",
}


@pytest.fixture(scope="session")
def deploy() -> Path:
    """The folder deploy/."""
    return DEPLOY


@pytest.fixture(scope="session")
def environ() -> dict[str, str]:
    """The environment variables that the example configs name."""
    return dict(ENVIRON)


@pytest.fixture(scope="session")
def parsed() -> Callable[[Sequence[str]], dict[str, object]]:
    """The options that `gateway …` reads from a command line; a file that it names is taken to exist."""

    def parse(words: Sequence[str]) -> dict[str, object]:
        verb, *rest = [sys.executable if word.startswith("/etc/") else word for word in words]
        group = typer.main.get_command(app)
        assert isinstance(group, click.Group) or hasattr(group, "commands")
        command = group.commands[verb]
        return dict(command.make_context(verb, list(rest)).params)

    return parse
