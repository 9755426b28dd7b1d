from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

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
