"""The verbs that run one program each, as a user runs them."""

from __future__ import annotations

import signal
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from fixtures.program_command import gateway_command

Run = Callable[..., subprocess.CompletedProcess[str]]
GOOD = "open: true\nupstreams: {a: {kind: fake}}\nmodels: {m: {targets: [{upstream: a, model: m}]}}\nredaction: {}\n"


@pytest.mark.parametrize("verb", ["serve", "evaluate", "up"])
def test_a_program_stops_with_all_mistakes_of_its_file(gateway: Run, verb: str, tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_text(GOOD + "sampelng: {}\nmodles: {}\n")
    result = gateway(verb, "--config", "f.yaml")
    assert result.returncode == 1
    assert result.stderr.splitlines() == [
        'f.yaml: modles: unknown key; did you mean "models"?',
        'f.yaml: sampelng: unknown key; did you mean "sampling"?',
    ]


def test_the_fake_upstream_serves_until_sigterm() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = gateway_command("fake", "--port", str(port), "--tokens", "3")
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert f"http://127.0.0.1:{port}/v1" in process.stderr.readline()
        assert b"fake-model" in listed(port)
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 0


def listed(port: int) -> bytes:
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models") as answer:
                return bytes(answer.read())
        except (ConnectionError, urllib.error.URLError):
            continue
