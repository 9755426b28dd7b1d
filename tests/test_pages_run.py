"""The commands of a page run, against a gateway with a scripted upstream behind it."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from fixtures.pages import ROOT, RUN_FILES, Block, blocks, marked
from fixtures.program_command import gateway_command
from servers import free_ports

PATIENCE_S = 30.0


@dataclass(frozen=True)
class Stack:
    """A `gateway up` with the double behind the names that pages use."""

    folder: Path
    origin: str
    key: str

    def here(self, text: str) -> str:
        text = text.replace("http://127.0.0.1:8000", self.origin).replace("sk-assay-…", self.key)
        return text.replace("upstream: local", "upstream: double")

    def environ(self) -> dict[str, str]:
        path = f"{self.folder / 'bin'}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return {**os.environ, "PATH": path, "OPENAI_BASE_URL": f"{self.origin}/v1", "OPENAI_API_KEY": self.key}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A running `gateway up` with a double behind the names that pages use."""
    folder = tmp_path_factory.mktemp("reader")
    place_gateway(folder / "bin")
    port, own = free_ports(2)
    double = subprocess.Popen(gateway_command("fake", "--port", str(port)), stderr=subprocess.DEVNULL)
    place = f"http://127.0.0.1:{port}/v1"
    aliases = {n: {"targets": [{"upstream": "double", "model": n}]} for n in ("smollm2", "chat")}
    section = {"upstreams": {"double": {"kind": "fake", "base_url": place}}, "models": aliases}
    (folder / "gateway.yaml").write_text(
        yaml.safe_dump({**section, "sampling": {"rate": 1.0}, "scorers": {"length": {}}})
    )
    command = gateway_command("up", "--port", str(own))
    with (folder / "errors").open("w") as errors:
        up = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=errors, text=True)
    assert up.stdout is not None
    printed = ""
    for line in up.stdout:
        printed += line
        if "Ctrl-C stops everything" in line:
            break
    else:
        raise RuntimeError(f"gateway up ended:\n{printed}{(folder / 'errors').read_text()}")
    values = dict(re.findall(r"^  (base_url|key) +(\S+)$", printed, re.MULTILINE))
    yield Stack(folder, values["base_url"].removesuffix("/v1"), values["key"])
    for process in (up, double):
        process.terminate()
        process.wait(30)
    up.stdout.close()


def place_gateway(folder: Path) -> None:
    """The command `gateway` that readers type, as tests start it."""
    folder.mkdir()
    program = folder / "gateway"
    program.write_text(f'#!/bin/sh\nexec {shlex.join(gateway_command())} "$@"\n')
    program.chmod(0o755)


def runnable(language: str) -> list[Block]:
    return [b for b in marked() if (b.note, b.language) == ("run", language)]


def test_only_languages_that_are_run_here_are_said_to_be() -> None:
    assert {b.language for b in marked() if b.note == "run"} <= {"sh", "python"}


def typed(stack: Stack, text: str) -> subprocess.CompletedProcess[str]:
    """Types a block. One command is typed again while it fails: the consumer stores in its own time what it shows."""
    until = time.monotonic() + PATIENCE_S
    while True:
        finished = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", stack.here(text)],  # noqa: S607 - a reader's own shell
            cwd=stack.folder, env=stack.environ(), capture_output=True, text=True, check=False, timeout=50,
        )  # fmt: skip
        if finished.returncode == 0 or len(text.splitlines()) > 1 or time.monotonic() > until:
            return finished
        time.sleep(0.3)


@pytest.mark.timeout(400)  # each block has 50 s
@pytest.mark.parametrize("page", sorted({b.page for b in runnable("sh")}))
def test_commands_of_a_page_run(page: str, stack: Stack) -> None:
    """Blocks run in the page's order, as a reader types them: one may use the files of the previous one. Pages need no
    other."""
    for block in (b for b in runnable("sh") if b.page == page):
        finished = typed(stack, block.text)
        assert finished.returncode == 0, f"block {block.number}: {finished.stderr}"
        assert finished.stdout.strip(), f"a reader sees something of block {block.number}"


# All in one process, which imports the clients once; a line of JSON for each: what it printed, and its error.
_EACH = """
import contextlib, io, json, sys, traceback
for text in json.load(sys.stdin):
    out, error = io.StringIO(), None
    with contextlib.redirect_stdout(out):
        try:
            exec(compile(text, "page", "exec"), {"__name__": "__main__"})
        except Exception:
            error = traceback.format_exc()
    print(json.dumps([out.getvalue(), error]))
"""


@pytest.fixture(scope="module")
def printed(stack: Stack) -> dict[Block, tuple[str, str | None]]:
    """The output and the error of each Python block, all run in one process."""
    pages = [*runnable("python"), *(b for b in blocks(ROOT / "README.md") if b.language == "python")]
    finished = subprocess.run(
        [sys.executable, "-c", _EACH], input=json.dumps([stack.here(b.text) for b in pages]),
        cwd=stack.folder, env=stack.environ(), capture_output=True, text=True, check=True, timeout=50,
    )  # fmt: skip
    return {b: tuple(json.loads(line)) for b, line in zip(pages, finished.stdout.splitlines(), strict=True)}


def test_python_code_of_a_page_runs(printed: dict[Block, tuple[str, str | None]]) -> None:
    assert {b.page for b in printed} >= {"README", "clients"}
    for block, (output, error) in printed.items():
        assert error is None, f"{block.page}: {error}"
        following = (b for file in RUN_FILES if file.stem == block.page for b in blocks(file))
        shown = next((b for b in following if b.number == block.number + 1), None)
        if shown is not None and shown.language == "text":
            assert output == shown.text, "what the page shows is what it prints"
        else:
            assert "token" in output, block
