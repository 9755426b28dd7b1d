"""Every test of this room runs on Valkey and on Redis, where Redis is installed."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.stream import Corridor


@pytest.fixture(scope="session", params=["valkey", "redis"])
def program(request: pytest.FixtureRequest, servers: Any) -> str:
    """The server's executable, Valkey's and Redis's in turn; skipped where it is not installed."""
    found = servers.programs()[request.param]
    if found is None:
        pytest.skip("redis-server is not installed (Debian: apt-get install redis-server)")
    return str(found)


def _running(program: str, servers: Any, server_type: Any) -> Iterator[Any]:
    with servers.directory() as directory:
        server = server_type(directory, program)
        server.start()
        yield server
        server.kill()


@pytest.fixture(scope="session")
def shared_stream_server(program: str, servers: Any, stream_server_type: Any) -> Iterator[Any]:
    """One server of each program for all tests of the folder. No test may stop it."""
    yield from _running(program, servers, stream_server_type)


@pytest.fixture
def stream_server(program: str, servers: Any, stream_server_type: Any) -> Iterator[Any]:
    """A server of each program of the test's own, which it may stop or kill."""
    yield from _running(program, servers, stream_server_type)


@pytest.fixture(scope="session")
def flows() -> Any:
    """The module flow.py: clients, a gateway and a consumer as separate programs."""
    path = Path(__file__).with_name("flow.py")
    spec = importlib.util.spec_from_file_location("flow", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["flow"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
async def corridor(stream_url: str, stream_name: str) -> AsyncIterator[Corridor]:
    """A corridor of the test's own on the shared server."""
    opened = Corridor(stream_url, stream_name)
    yield opened
    await opened.aclose()
