"""Verbs, exit codes, what goes to which stream; and that nothing is imported before it is needed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import redis

from gateway import __version__

GOOD = "open: true\nupstreams: {a: {kind: fake}}\nmodels: {m: {targets: [{upstream: a, model: m}]}}\n"
VERBS = ["up", "serve", "evaluate", "check", "fake", "version", "schema", "samples", "report", "ab", "replay"]
VERBS += ["label", "judge", "export", "migrate", "status", "dead"]


def gateway(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    environ = {k: v for k, v in os.environ.items() if k != "GATEWAY_DATA"} | {"COLUMNS": "100"}
    return subprocess.run(
        [sys.executable, "-m", "gateway", *arguments], capture_output=True, text=True, cwd=cwd, env=environ, check=False
    )


def test_the_help_names_every_verb_and_hides_the_engine() -> None:
    said = gateway("--help")
    assert said.returncode == 0
    lines = [line.split()[0] for line in said.stdout.partition("Commands:")[2].splitlines() if line.strip()]
    assert lines == VERBS


@pytest.mark.parametrize("verb", [*VERBS, "engine"])
def test_each_verb_has_an_example(verb: str) -> None:
    said = gateway(verb, "--help")
    assert said.returncode == 0
    assert f"Example: gateway {verb}" in said.stdout


def test_a_good_file_is_summed_up(tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_text(GOOD)
    said = gateway("check", "f.yaml", cwd=tmp_path)
    assert (said.returncode, said.stderr) == (0, "")
    assert said.stdout == "transports: a http1\n1 upstream, 1 model, no keys; 10% of traffic sampled. Ready.\n"


def test_three_mistakes_are_three_lines(tmp_path: Path) -> None:
    text = GOOD.replace("kind: fake", "kind: fake, api_key: '${NOT_SET_HERE}'").replace(
        "model: m}", "model: m, weight: half}"
    )
    (tmp_path / "f.yaml").write_text(text + "sampelng: {}\n")
    said = gateway("check", "f.yaml", cwd=tmp_path)
    assert said.returncode == 1
    assert said.stdout.splitlines() == [
        "f.yaml: models.m.targets[0].weight: expected a number, got 'half'",
        'f.yaml: sampelng: unknown key; did you mean "sampling"?',
        "f.yaml: upstreams.a.api_key: $NOT_SET_HERE is not set. Set it, or remove the value that uses it",
    ]


def test_a_stream_server_that_may_throw_the_stream_away_is_a_caution(tmp_path: Path, stream_server: Any) -> None:
    """And one that cannot be reached from here is one too; neither is a mistake of the file."""
    (tmp_path / "f.yaml").write_text(GOOD + f"stream: {{url: 'unix://{stream_server.socket}'}}\n")
    assert "caution" not in gateway("check", "f.yaml", cwd=tmp_path).stderr
    with redis.Redis(unix_socket_path=str(stream_server.socket)) as client:
        client.config_set("maxmemory-policy", "volatile-ttl")
    said = gateway("check", "f.yaml", cwd=tmp_path)
    assert (said.returncode, "maxmemory-policy is volatile-ttl" in said.stderr) == (0, True)
    stream_server.kill()
    said = gateway("check", "f.yaml", cwd=tmp_path)
    assert (said.returncode, "caution: stream server: " in said.stderr) == (0, True)


def test_the_options_of_scorers_are_checked_too(tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_text(GOOD + "scorers: {valid_jsn: {}, length: {no_such_option: 1}}\n")
    said = gateway("check", "f.yaml", cwd=tmp_path)
    assert said.returncode == 1
    lines = said.stdout.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("f.yaml: scorers.") for line in lines)


@pytest.mark.parametrize(
    "arguments",
    [
        ["check", "gone.yaml"],
        ["check"],
        ["serve", "--config", "gone.yaml"],
        ["serve", "--prot", "1"],
        ["evaluate", "--config", "gone.yaml"],
        ["up", "--config", "gone.yaml"],
        ["fake", "--fault", "no_such_fault"],
        ["no-such-verb"],
    ],
)
def test_who_asks_wrong_is_told_on_stderr_with_exit_code_2(arguments: list[str], tmp_path: Path) -> None:
    said = gateway(*arguments, cwd=tmp_path)
    assert said.returncode == 2
    assert said.stdout == ""
    assert said.stderr


@pytest.mark.parametrize("verb", ["serve", "evaluate", "up"])
def test_a_wrong_file_stops_a_program_with_all_mistakes_and_no_traceback(verb: str, tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_text(GOOD + "sampelng: {}\nmodles: {}\n")
    said = gateway(verb, "--config", "f.yaml", cwd=tmp_path)
    assert said.returncode == 1
    assert said.stderr.splitlines() == [
        'f.yaml: modles: unknown key; did you mean "models"?',
        'f.yaml: sampelng: unknown key; did you mean "sampling"?',
    ]


def test_the_version_is_printed() -> None:
    assert gateway("version").stdout == f"{__version__}\n"


def imported(script: str) -> set[str]:
    script += "; import sys; print(*{m.partition('.')[0] for m in sys.modules})"
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(said.stdout.splitlines()[-1].split())


def test_the_package_and_the_command_line_import_little() -> None:
    heavy = {"redis", "numpy", "sqlalchemy", "pydantic", "httpx2", "rich", "uvicorn", "starlette", "orjson"}
    assert not heavy & imported("import gateway")
    assert not heavy & imported("import gateway.__main__, gateway.cli")


def test_the_double_serves_until_it_is_told_to_stop() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "gateway", "fake", "--port", str(port), "--tokens", "3"]
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
