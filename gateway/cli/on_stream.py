"""Where the verbs of experiments work: the stream server and the store of a config."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from gateway.config.config import Config
    from gateway.stream import Corridor

T = TypeVar("T")


def on_stream(config: Config, data: Path | None, work: Callable[[Corridor], Awaitable[T]]) -> T:
    """Runs work on the stream server. Raises CannotRun if it cannot be reached."""
    import asyncio

    from gateway.config.loading import data_directory
    from gateway.core.errors import CannotRun, StreamDown
    from gateway.runtime.embedded_socket import stream_url
    from gateway.stream import Corridor

    async def run() -> T:
        corridor = Corridor.of(config.stream, stream_url(config.stream.address, data_directory(data)))
        try:
            return await work(corridor)
        finally:
            await corridor.aclose()

    try:
        return asyncio.run(run())
    except StreamDown as error:
        raise CannotRun(f"{error}. Is a gateway of this config running? The embedded server runs with it") from error


def store_url(config: Config, data: Path | None) -> str:
    from gateway.config.loading import data_directory
    from gateway.store.engine import default_url

    return config.store.url or default_url(data_directory(data))
