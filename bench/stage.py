"""Programs on free ports in a temporary directory, and how they all end. Knows none of them by name."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import load

from gateway.runtime.child import Leash
from gateway.runtime.embedded_redis import binary

ROOT = Path(__file__).resolve().parents[1]
START_S = 120.0  # LiteLLM takes 14 s on a quiet machine, four times as long on a busy one

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_DIRECTORY = re.compile(r"(?<![:\w/])(?:file://)?/\S*/(?=[\w-]+\.\w)")  # of a file's path, and not what is in a URL


class Failed(Exception):
    """One system did not start or answered wrong; the message says which and how. The others are still measured."""


@dataclass(frozen=True, slots=True)
class Spot:
    """The place where one system runs. upstream: the port of its upstream; 0 if it has none."""

    stage: Stage
    port: int
    upstream: int

    def write(self, name: str, text: str, shown: str | None = None) -> str:
        """A config file in the stage's directory; returns its path. shown: how the report quotes it."""
        path = self.stage.directory / f"{self.port}-{name}"
        path.write_text(text)
        self.stage.written.setdefault(self.port, {})[name] = shown or text
        return str(path)


@dataclass(frozen=True, slots=True)
class System:
    """A program that answers chat requests. argv: its command line, once its files are written. probe: a whole HTTP
    request, as bytes for a port, that it answers with 200 when it is ready.

    slow: an answer costs so much that a run needs more time to have many of them. headers: what a request to it must
    carry besides, for the port of its upstream.
    """

    name: str
    version: str
    argv: Callable[[Spot], list[str]]
    probe: Callable[[int], bytes]
    slow: bool = False
    headers: Callable[[int], Mapping[str, str]] = lambda upstream: {}


@dataclass(frozen=True, slots=True)
class Running:
    name: str
    port: int
    pid: int
    slow: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    ready_s: float = 0.0
    """Seconds from its start until it answered its probe."""


@dataclass(slots=True)
class Stage:
    """Leaving it, normally or by an error, ends what it started.

    configurations: filled with what was started, for the report.
    pin: systems that have an upstream run on the first core, all else on the others.

    The directory's name is short: a unix socket's path holds 107 bytes.
    """

    configurations: dict[str, Any] = field(default_factory=dict)
    pin: bool = False
    directory: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="gwb")))
    written: dict[int, dict[str, str]] = field(default_factory=dict)
    _leash: Leash = field(default_factory=Leash)
    _programs: list[subprocess.Popen[bytes]] = field(default_factory=list)
    _stream: str = ""
    _cores: list[int] = field(default_factory=lambda: sorted(os.sched_getaffinity(0)))

    def __enter__(self) -> Self:
        if self.pin:
            os.sched_setaffinity(0, self._cores[1:])  # what is started inherits it
        return self

    def __exit__(self, *_: object) -> None:
        for program in reversed(self._programs):
            program.terminate()
        deadline = time.monotonic() + 3
        for program in self._programs:
            with contextlib.suppress(subprocess.TimeoutExpired):
                program.wait(max(0.0, deadline - time.monotonic()))
        self._leash.release()
        for program in self._programs:
            program.wait()
        shutil.rmtree(self.directory, ignore_errors=True)
        os.sched_setaffinity(0, self._cores)

    def start(
        self, system: System, upstream: Running | None = None, probe: Callable[[int], bytes] | None = None
    ) -> Running:
        """Returns when it answers its probe, or the one given. Raises Failed."""
        headers = system.headers(upstream.port if upstream else 0)
        probe = probe or system.probe
        spot = Spot(self, load.free_port(), upstream.port if upstream else 0)
        argv = system.argv(spot)
        began = time.monotonic()
        with self._place(upstream is not None):
            program = self.run(f"{spot.port}", argv)
        files = {name: self._public(text) for name, text in self.written.get(spot.port, {}).items()}
        shown = {"version": system.version, "argv": [self._public(word) for word in argv], "files": files}
        self.configurations.setdefault(system.name, shown)

        def ready() -> bool:
            self._still_runs(program, system.name, spot.port)
            return load.answers(spot.port, load.with_headers(probe(spot.port), headers))

        until(ready, START_S, lambda: f"{system.name}: not ready after {START_S:g} s: {self._said(spot.port)}", 0.01)
        return Running(system.name, spot.port, program.pid, system.slow, headers, time.monotonic() - began)

    @contextlib.contextmanager
    def _place(self, measured: bool) -> Iterator[None]:
        """Starts a system on the first core, where it is measured; from its birth: it may count cores for threads."""
        if self.pin and measured:
            os.sched_setaffinity(0, self._cores[:1])
        yield
        if self.pin:
            os.sched_setaffinity(0, self._cores[1:])

    def run(self, log_name: str, argv: Sequence[str]) -> subprocess.Popen[bytes]:
        """A program of this stage, in a process group of its own: Ctrl-C is for us, and we end the group in order."""
        ours = {"PYTHONPATH": str(ROOT), "GATEWAY_DATA": str(self.directory / "data")}
        with (self.directory / f"{log_name}.log").open("wb") as log:
            program = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.directory,
                env=os.environ | ours,
                process_group=self._leash.group,
            )
        self._programs.append(program)
        return program

    @property
    def group(self) -> int:
        """The process group that ends with this stage, for a program that run() does not start."""
        return self._leash.group

    @property
    def stream(self) -> str:
        """The URL of this stage's Valkey, started when first asked for."""
        if not self._stream:
            path = self.directory / "v.sock"
            self.run("valkey", [str(binary()), "--port", "0", "--unixsocket", str(path), "--save", ""])
            until(lambda: _accepts(path), 10, lambda: f"valkey: it did not start: {self._said('valkey')}")
            self._stream = f"unix://{path}"
        return self._stream

    def _still_runs(self, program: subprocess.Popen[bytes], name: str, port: int) -> None:
        if program.poll() is not None:
            raise Failed(f"{name}: it ended with code {program.returncode}: {self._said(port)}")

    def _said(self, log_name: str | int) -> str:
        """Last output of a program, in one line without colours and directories."""
        output = (self.directory / f"{log_name}.log").read_text(errors="replace")
        return _DIRECTORY.sub("", " ".join(_COLOUR.sub("", output).split()))[-400:] or "(no output)"

    def _public(self, text: str) -> str:
        """The text without this machine's paths, and programs by their names."""
        text = text.replace(str(self.directory), "$TMP").replace(sys.executable, "python")
        return re.sub(r"^/\S*/(?=[^/\s]+$)", "", text)


def until(holds: Callable[[], bool], seconds: float, otherwise: Callable[[], str], every_s: float = 0.05) -> None:
    """Raises Failed, with what otherwise() says, when it does not hold in time."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise Failed(otherwise())
        time.sleep(every_s)


def _accepts(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as s:
        return s.connect_ex(str(path)) == 0
