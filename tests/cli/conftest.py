from __future__ import annotations

import json
import os
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


@pytest.fixture(scope="session")
def verb_server() -> Iterator[Callable[..., int]]:
    """Runs a verb in a process of its own and returns its exit code; see verb_server.py."""
    command = [sys.executable, str(Path(__file__).with_name("verb_server.py"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        requests, codes = server.stdin, server.stdout

        def run(**request: object) -> int:
            requests.write(json.dumps(request) + "\n")
            requests.flush()
            return int(codes.readline())

        yield run


@pytest.fixture
def gateway(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, verb_server: Callable[..., int]) -> Run:
    """Runs a verb as a user does, in an empty directory."""
    environ = {k: v for k, v in os.environ.items() if k != "GATEWAY_DATA"} | {"COLUMNS": "100"}
    out, err = (tmp_path_factory.mktemp("output") / name for name in ("out", "err"))

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        code = verb_server(arguments=arguments, cwd=str(tmp_path), environ=environ, out=str(out), err=str(err))
        return subprocess.CompletedProcess(arguments, code, out.read_text(), err.read_text())

    return run


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
