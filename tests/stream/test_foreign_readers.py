"""The readers of docs/sampling-and-stream.md next to a consumer, while readers, the consumer and the stream server are
killed: each call that the server kept is there, once, for all of them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fixtures.npm import NPM_HOME, npm_package
from fixtures.pages import DOCS, blocks

from gateway.core.exchange import Exchange, from_fields
from gateway.store.loss_accounting import delivery

CALLS = 600
GROUPS = {"python": "mine", "js": "theirs"}


def page_code(language: str) -> str:
    """The reader of the page, which waits for half a second instead of a minute before it claims."""
    [text] = [b.text for b in blocks(DOCS / "sampling-and-stream.md") if (b.language, b.note) == (language, "reader")]
    assert text.count("60_000") == 1
    return text.replace("60_000", "500")


@dataclass
class Reader:
    """A reader as a process. folder: of the heads that it wrote."""

    command: list[str]
    folder: Path
    errors: Path
    process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        with self.errors.open("ab") as errors:
            self.process = await asyncio.create_subprocess_exec(*self.command, stderr=errors)

    async def kill(self) -> None:
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()

    async def restart(self) -> None:
        await self.kill()
        await self.start()

    def ids(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())


def a_reader(language: str, url: str, key: str, directory: Path) -> Reader:
    folder = directory / language
    folder.mkdir()
    if language == "js":
        code = NPM_HOME / f"reader-{directory.name}.mjs"  # next to node_modules, where node finds the package
        program = ["node", str(code)]
    else:
        code = directory / "reader.py"
        program = [sys.executable, str(code)]
    code.write_text(page_code(language))
    return Reader([*program, url, key, str(folder)], folder, directory / f"{language}.errors")


@contextlib.asynccontextmanager
async def reading(readers: list[Reader]) -> AsyncIterator[None]:
    for reader in readers:
        await reader.start()
    try:
        yield
    finally:
        for reader in readers:
            await reader.kill()


async def until(holds: Any, readers: list[Reader]) -> None:
    async with asyncio.timeout(60):
        while not holds():
            for reader in readers:
                assert reader.process is not None
                assert reader.process.returncode is None, reader.errors.read_text()
            await asyncio.sleep(0.05)


@pytest.mark.timeout(240)
async def test_foreign_readers_get_each_call_once_through_kills(program: str, servers: Any, flows: Any) -> None:
    npm_package("redis")  # before anything runs: it may skip the test
    with servers.directory() as directory:
        *ports, stream = servers.free_ports(3)
        node = servers.Node(program, stream, directory / "stream", appendfsync="no").start()
        key = f"{flows.NAME}:exchanges"
        readers = [a_reader(language, node.url, key, directory) for language in GROUPS]
        try:
            async with flows.flowing(node, {"url": node.url}, ports, directory, CALLS) as flow, reading(readers):
                await until(lambda: groups(node, key) == {*GROUPS.values(), "evals"}, readers)
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(taken_and_left(node, key))
                    tasks.create_task(flow.run({150: "consumer", 300: "server", 450: "consumer"}))
                    for at, reader in zip((100, 250), readers, strict=True):
                        tasks.create_task(restarted(flow, reader, (at, at + 250)))
                await flow.stop_gateway()
                kept = {r.id: r for r in map(from_fields, await flow.kept()) if isinstance(r, Exchange)}
                await until(lambda: all(len(reader.ids()) >= len(kept) for reader in readers), readers)
                await until(lambda: not pending(node, key), readers)
                await flow.consumer.kill()
                await flow.finish(flows.NAME, flow.store, lambda: flows.is_closed(flow.store, len(kept)))
            assert set(flow.answered) <= set(kept), "no gateway was killed, and the server lost nothing"
            for reader in readers:
                assert reader.ids() == sorted(kept), "nothing lost, and nothing of another name"
                for path in reader.folder.iterdir():
                    assert json.loads(path.read_bytes())["seq"] == kept[path.name].seq, "whole, although it was killed"
            assert {i for (i,) in flows.rows(flow.store, "SELECT id FROM exchanges")} == set(kept)
            assert flows.read(flow.store, delivery).unaccounted == 0
        finally:
            node.kill()
            (NPM_HOME / f"reader-{directory.name}.mjs").unlink(missing_ok=True)


def groups(node: Any, key: str) -> set[str]:
    with contextlib.closing(node.client) as client:
        return {group["name"].decode() for group in client.xinfo_groups(key)} if client.exists(key) else set()


def pending(node: Any, key: str) -> int:
    """Entries that a reader has and has not acknowledged."""
    with contextlib.closing(node.client) as client:
        return sum(client.xpending(key, group)["pending"] for group in GROUPS.values())


async def taken_and_left(node: Any, key: str) -> None:
    """Takes entries of each group as a reader that is killed before it has stored or acknowledged them."""
    for group in GROUPS.values():
        async with asyncio.timeout(60):
            while not await asyncio.to_thread(take, node, key, group):
                await asyncio.sleep(0.01)


def take(node: Any, key: str, group: str) -> Any:
    with contextlib.closing(node.client) as client:
        return client.xreadgroup(group, "reader-0", {key: ">"}, count=5, block=200)


async def restarted(flow: Any, reader: Reader, moments: tuple[int, ...]) -> None:
    for at in moments:
        await flow.until_answered(at)
        await reader.restart()
