"""Lua scripts that the stream server runs; each describes its KEYS and ARGV in its first lines."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from gateway.stream.connect import Client


def run_script(client: Client, name: str, keys: Sequence[str], *arguments: Any) -> Awaitable[Any]:
    """Runs NAME.lua as a whole: no other command of the server takes effect in between."""
    reply: Awaitable[Any] = client.eval(_text(name), len(keys), *keys, *arguments)
    return reply


@cache
def _text(name: str) -> str:
    return (Path(__file__).parent / f"{name}.lua").read_text()
