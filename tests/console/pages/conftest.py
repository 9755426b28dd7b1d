"""A console with its pages as it runs, on a store that has calls with scores, and browsers without JavaScript."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest
import yaml
from sqlalchemy import Engine, event

from gateway.config.environment import LoginLink
from gateway.config.loading import load_for_console
from gateway.config.models import Config
from gateway.console.app import ConsoleApp
from gateway.console.directory import Admin
from gateway.console.pages.site import PagesSetup
from gateway.console.publisher import Publisher
from gateway.console.store import ConsoleStore
from gateway.core.completion import completion_of
from gateway.core.exchange import Exchange, Feedback, Target, new_id
from gateway.core.score import Score, ScoreResult
from gateway.evals.scoring.registry import RegisteredScorer, build_all
from gateway.evals.store import write as writing
from gateway.evals.store.rows import ScoredExchange
from gateway.evals.store.write import ScoredBatch
from gateway.fake import FakeUpstream
from gateway.proxy.http.server.uvicorn_server import BoundedApp, GatewayServer, page_settings
from gateway.runtime.tasks import Tasks
from gateway.stream import Corridor

TOKENS = {role: f"token-of-{role}" for role in ("viewer", "labeller", "operator", "owner")}
NAMES = {"viewer": "vera", "labeller": "lena", "operator": "otto", "owner": "ada"}
LINK = "a-login-link"


def a_config(evals_url: str, **sections: Any) -> dict[str, Any]:
    tokens = [
        {"name": NAMES[role], "sha256": sha256(token.encode()).hexdigest(), "role": role, "content": role == "owner"}
        for role, token in TOKENS.items()
    ]
    targets = [{"upstream": "local", "model": name} for name in ("small", "large")]
    return {
        "open": True,
        "upstreams": {"local": {"kind": "vllm", "base_url": "http://127.0.0.1:1/v1"}},
        "models": {"chat": {"targets": targets}, "other": {"targets": targets[:1]}},
        "scorers": {"valid_json": {}, "length": {}},
        "evals": {"base_url": evals_url, "api_key": "sk-evals"},
        "admin": {"tokens": tokens},
        **sections,
    }


def exchange(text: str = "hello", **fields: Any) -> Exchange:
    """fields: as of Exchange; received: Unix seconds, by which the id is ordered."""
    received = fields.get("received", time.time())
    answer = {"choices": [{"index": 0, "message": {"content": text}, "finish_reason": "stop"}],
              "usage": {"prompt_tokens": 3, "completion_tokens": 5}}  # fmt: skip
    plain: dict[str, Any] = {
        "id": new_id(int(received * 1e9)), "received": received, "caller": "web", "api": "chat", "alias": "chat",
        "target": Target("local", "small"), "stream": False, "response": orjson.dumps(answer),
        "request": b'{"messages":[{"role":"user","content":"a question?"}]}', "status": 200, "outcome": "ok",
        "total_s": 0.5, "unit": "u", "u": 0.1, "pi": 1.0, "stratum": "default", "incarnation": "g1",
        "seq": next(_SEQS),
    }  # fmt: skip
    return Exchange(**{**plain, **fields})


_SEQS = itertools.count(1)


@dataclass
class PagesConsole:
    """A console over a real socket."""

    url: str
    admin: Admin
    store: ConsoleStore
    config: list[Config]
    """The last one is in force."""
    gateway: FakeUpstream
    """What stands for the gateway."""
    data: Path
    store_url: str
    scorers: dict[str, RegisteredScorer]
    clock: list[float] = field(default_factory=lambda: [0.0])
    """Seconds by which the console's clock is ahead."""
    stack: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)

    async def client(self, **headers: str) -> httpx2.AsyncClient:
        """Somebody's browser, who is not signed in."""
        made = httpx2.AsyncClient(base_url=self.url, timeout=30, headers=headers, trust_env=False)
        return await self.stack.enter_async_context(made)

    async def login(self, role: str = "owner") -> httpx2.AsyncClient:
        client = await self.client()
        answer = await client.post("/console/login", data={"token": TOKENS[role]})
        assert answer.status_code == 303, answer.text
        return client

    async def add(
        self,
        *made: Exchange,
        score: float | None = 1.0,
        cost: float | None = 0.001,
        why: str = "why",
        results: Sequence[tuple[str, float]] | None = None,
        feedback: Sequence[Feedback] = (),
    ) -> None:
        """Stores exchanges. score: by valid_json; None: no score. results: (scorer, value) in place of it."""
        given = results if results is not None else [] if score is None else [("valid_json", score)]
        judged = [ScoredExchange(e, completion_of(e), [self._result(n, v, why) for n, v in given], cost) for e in made]
        batch = ScoredBatch(self.scorers, judged, [], list(feedback))
        await self.store.run(lambda c: writing.write(c, batch, time.time()))

    def _result(self, name: str, value: float, why: str) -> ScoreResult:
        of = self.scorers[name]
        return ScoreResult(name, of.scorer.version, of.config_hash, "scored", Score(value, None, why), why, 0.1, 1.0)

    async def get(self, client: httpx2.AsyncClient, path: str) -> str:
        answer = await client.get(path)
        while "refresh" in answer.headers:  # what takes long is read in the background
            answer = await client.get(path)
        assert answer.status_code == 200, (path, answer.status_code, answer.text[:2000])
        return answer.text

    async def send(self, client: httpx2.AsyncClient, page: str, path: str, data: dict[str, Any]) -> httpx2.Response:
        """A form of a page, with the CSRF token that stands in it."""
        return await client.post(path, data={"csrf": csrf(await self.get(client, page)), **data})


def csrf(html: str) -> str:
    found = re.search(r'name="csrf" value="([0-9a-f]{40})"', html)
    assert found is not None, html[:500]
    return found[1]


@pytest.fixture
def make_exchange() -> Callable[..., Exchange]:
    return exchange


@pytest.fixture
def csrf_of() -> Callable[[str], str]:
    return csrf


@pytest.fixture
async def pages(opened: Any, corridor: Corridor, tmp_path: Path) -> AsyncIterator[PagesConsole]:
    async with contextlib.AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(FakeUpstream())
        path = tmp_path / "gateway.yaml"
        path.write_text(yaml.safe_dump(a_config(gateway.base_url)))
        configs, ahead, store = [load_for_console(path)], [0.0], await opened()
        publisher = Publisher(corridor.directory, store)
        await publisher.look()
        admin = Admin(store, publisher, lambda: configs[-1], corridor, clock=lambda: time.time() + ahead[0])
        tasks = await stack.enter_async_context(Tasks())
        link = LoginLink(sha256(LINK.encode()).hexdigest(), time.time() + 600, sha256(b"token-of-owner").hexdigest())

        async def read() -> None:
            configs.append(load_for_console(path))

        setup = PagesSetup(tasks, corridor, lambda: configs[-1].evals, tmp_path, path, link, read)
        app = ConsoleApp(admin, pages=setup).app()
        settings = page_settings(BoundedApp(app))
        server = GatewayServer(settings, announced=False)
        sock = stack.enter_context(contextlib.closing(settings.bind_socket()))
        running = tasks.start(server._serve([sock]), "console")
        while not server.started:
            await asyncio.sleep(0.005)
            assert not running.done()
        scorers = build_all({name: section for name, section in configs[0].scorers.items()}).single
        url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        store_url = f"sqlite:///{tmp_path / 'gateway.db'}"
        made = PagesConsole(url, admin, store, configs, gateway, tmp_path, store_url, scorers, ahead)
        async with made.stack:
            yield made
        server.should_exit = True
        await running


@pytest.fixture
def queries() -> Callable[[], contextlib.AbstractContextManager[list[str]]]:
    """Collects the statements that any connection runs meanwhile."""

    @contextlib.contextmanager
    def collecting() -> Iterator[list[str]]:
        seen: list[str] = []

        def note(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
            seen.append(statement)

        event.listen(Engine, "before_cursor_execute", note)
        try:
            yield seen
        finally:
            event.remove(Engine, "before_cursor_execute", note)

    return collecting
