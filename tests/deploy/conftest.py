"""Helpers of the tests of deploy/: its folder, and a check that the gateway accepts a command line there."""

from __future__ import annotations

import functools
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import kubernetes_validate.utils
import pytest
import typer.main

from gateway.cli import app

# It reads the definitions of a version, 2 MB, for each object that it validates.
kubernetes_validate.utils.schema_contents = functools.cache(kubernetes_validate.utils.schema_contents)

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


RENDER = """
import json, sys
import helm_python
chart, requests = sys.argv[1], json.load(sys.stdin)
answers = []
for values in requests:
    with helm_python.Chart.load(chart) as loaded:
        try:
            answers.append(loaded.render(values, name="assay", namespace="assay-gateway"))
        except helm_python.HelmError as error:
            answers.append(str(error))
lint = helm_python.lint(chart)
json.dump({"answers": answers, "lint": lint, "version": helm_python.helm_sdk_version()}, sys.stdout)
"""


@pytest.fixture(scope="session")
def render_chart(deploy: Path) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
    """Renders the chart with each of these values, by Helm's own library in a process of its own."""
    if importlib.util.find_spec("helm_python") is None:
        pytest.skip("helm-python-sdk is not installed here: pip install helm-python-sdk (Linux, macOS, Windows)")

    def render(requests: list[dict[str, Any]]) -> dict[str, Any]:
        command = [sys.executable, "-c", RENDER, str(deploy / "helm" / "assay-gateway")]
        done = subprocess.run(command, input=json.dumps(requests), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    return render
