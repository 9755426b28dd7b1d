"""A console as it runs: a real socket, a real stream server and a real store."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from gateway.config.loading import load_for_console
from gateway.console.access import Actor
from gateway.console.app import ConsoleApp
from gateway.console.directory import Admin
from gateway.console.publisher import Publisher
from gateway.console.store import ConsoleStore
from gateway.evals.store import engine
from gateway.proxy.http.server.uvicorn_server import BoundedApp, GatewayServer, page_settings
from gateway.runtime.tasks import Tasks
from gateway.stream import Corridor

TOKENS = {role: f"token-of-{role}" for role in ("viewer", "operator", "owner")}
NAMES = {"viewer": "vera", "operator": "otto", "owner": "ada"}


def digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def a_config(**sections: Any) -> dict[str, Any]:
    tokens = [{"name": NAMES[role], "sha256": digest(token), "role": role} for role, token in TOKENS.items()]
    return {
        "upstreams": {"local": {"kind": "vllm", "base_url": "http://127.0.0.1:1/v1"}},
        "models": {name: {"targets": [{"upstream": "local", "model": "m"}]} for name in ("chat", "small")},
        "keys": [{"name": "static", "sha256": "a" * 64, "team": "filed"}],
        "teams": {"filed": {}},
        "admin": {"tokens": tokens},
        **sections,
    }


@dataclass
class RunningConsole:
    """A console, with a client for each role."""

    admin: Admin
    corridor: Corridor
    url: str
    clients: dict[str, httpx2.AsyncClient]

    @property
    def owner(self) -> httpx2.AsyncClient:
        return self.clients["owner"]

    async def made(self, kind: str, **body: Any) -> dict[str, Any]:
        """A record that the owner has made."""
        answer = await self.owner.post(f"/{kind}s", json=body)
        assert answer.status_code == 201, answer.text
        found: dict[str, Any] = answer.json()
        return found


@pytest.fixture
def ada() -> Actor:
    return Actor("ada", "owner")


@pytest.fixture
async def corridor(stream_url: str, stream_name: str) -> AsyncIterator[Corridor]:
    opened = Corridor(stream_url, stream_name)
    yield opened
    await opened.aclose()


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with its tables and nothing in them: quicker to copy than to migrate."""
    path = tmp_path_factory.mktemp("store") / "gateway.db"
    engine.writer(f"sqlite:///{path}").dispose()
    return path


@pytest.fixture
async def opened(tmp_path: Path, empty_store: Path) -> AsyncIterator[Callable[..., Any]]:
    """Opens stores of consoles, and closes them after the test."""
    own = tmp_path / "gateway.db"
    shutil.copyfile(empty_store, own)
    async with contextlib.AsyncExitStack() as stack:

        async def go(url: str | None = None, **options: Any) -> ConsoleStore:
            store = ConsoleStore(url or f"sqlite:///{own}", **{"deadline_s": 60.0, **options})
            await store.open()
            stack.push_async_callback(store.close)
            return store

        yield go


@pytest.fixture
async def admin(opened: Any, corridor: Corridor, tmp_path: Path) -> Admin:
    """What the functions of the console work with."""
    return await an_admin(await opened(), corridor, tmp_path)


async def an_admin(store: ConsoleStore, corridor: Corridor, tmp_path: Path, **options: Any) -> Admin:
    path = tmp_path / "gateway.yaml"
    path.write_text(yaml.safe_dump(a_config()))
    config = load_for_console(path)
    publisher = Publisher(corridor.directory, store, **options)
    await publisher.look()
    return Admin(store, publisher, lambda: config, corridor)


@pytest.fixture
def admin_of(corridor: Corridor, tmp_path: Path) -> Callable[..., Any]:
    """What they work with on a store of the test's choice."""
    return lambda store: an_admin(store, corridor, tmp_path)


@pytest.fixture
def serving() -> Callable[..., Any]:
    return _serving


@contextlib.asynccontextmanager
async def _serving(admin: Admin, corridor: Corridor, **options: Any) -> AsyncIterator[RunningConsole]:
    app = ConsoleApp(admin, **options).app()
    settings = page_settings(BoundedApp(app))
    server = GatewayServer(settings, announced=False)
    async with contextlib.AsyncExitStack() as stack, Tasks() as tasks:
        with contextlib.closing(settings.bind_socket()) as sock:
            running = tasks.start(server._serve([sock]), "console")
            while not server.started:
                await asyncio.sleep(0.005)
                assert not running.done()
            url = f"http://127.0.0.1:{sock.getsockname()[1]}"
            clients = {
                role: await stack.enter_async_context(
                    httpx2.AsyncClient(
                        base_url=f"{url}/admin/v1", headers={"authorization": f"Bearer {token}"}, timeout=30
                    )
                )
                for role, token in TOKENS.items()
            }
            yield RunningConsole(admin, corridor, url, clients)
            server.should_exit = True
            await running


@pytest.fixture
async def console(admin: Admin, corridor: Corridor) -> AsyncIterator[RunningConsole]:
    async with _serving(admin, corridor) as running:
        yield running
