from __future__ import annotations

import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gateway.cli import app
from gateway.core.errors import CannotRun

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def gateway(run_verb: Run) -> Run:
    """Runs a verb as a user does, in an empty directory."""
    return run_verb


ADMIN_TOKEN = "a-token-of-the-tests"
CONSOLE_CONFIG = f"""
upstreams: {{local: {{kind: vllm, base_url: "http://127.0.0.1:1/v1"}}}}
models: {{chat: {{targets: [{{upstream: local, model: m}}]}}, small: {{targets: [{{upstream: local, model: m}}]}}}}
admin: {{tokens: [{{name: ada, sha256: {sha256(ADMIN_TOKEN.encode()).hexdigest()}, role: owner}}]}}
"""


@pytest.fixture(scope="session")
def console_url(tmp_path_factory: pytest.TempPathFactory, servers: Any) -> Iterator[str]:
    """The URL of a running `gateway console`, with a stream server and a store of its own."""
    directory, [port] = tmp_path_factory.mktemp("console"), servers.free_ports(1)
    config = directory / "gateway.yaml"
    config.write_text(CONSOLE_CONFIG)
    words = ["console", "--config", str(config), "--data", str(directory / "data"), "--port", str(port)]
    with (directory / "log").open("wb") as log, subprocess.Popen(
        [sys.executable, "-m", "gateway", *words], stdout=log, stderr=log
    ) as running:  # fmt: skip
        url = f"http://127.0.0.1:{port}"
        _until_ready(url)
        yield url
        running.terminate()


def _until_ready(url: str) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            with urllib.request.urlopen(f"{url}/ready"):  # noqa: S310 - an address of this machine
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    raise TimeoutError(url)


@pytest.fixture
def managed(console_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a verb, in this process, as a user does whom `gateway up` has given access to its console."""
    monkeypatch.delenv("GATEWAY_DATA", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".gateway").mkdir()
    (tmp_path / ".gateway" / "admin").write_text(f"{console_url} {ADMIN_TOKEN}")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        result = CliRunner().invoke(app, arguments)
        refused = isinstance(result.exception, CannotRun)
        assert result.exception is None or refused or isinstance(result.exception, SystemExit), result.exception
        notes = f"{result.exception}\n" if refused else result.stderr
        return subprocess.CompletedProcess(arguments, result.exit_code, result.stdout, notes)

    return run
