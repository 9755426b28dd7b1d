"""The reasons that processes give at their own /health, while the stream server with their heartbeats is away."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import orjson

from gateway.scoring.http_client import DeadlinePassed, HttpConnections, Unreachable

USUAL = ("http://127.0.0.1:8000", "http://127.0.0.1:9101")
"""The addresses of `gateway serve` and `gateway evaluate` by default."""
_TIMEOUT_S = 2.0
_MOST_BYTES = 1 << 20


async def health_problems(urls: Sequence[str]) -> list[str]:
    """One sentence for each reason, with the processes that give it. urls: of processes, without /health; none: the
    usual ones on this machine, of which one that does not answer is not a problem."""
    async with HttpConnections() as connections:
        pages = await asyncio.gather(*(_page(connections, url) for url in urls or USUAL))
    by_reason: dict[str, list[str]] = {}
    for url, page in zip(urls or USUAL, pages, strict=True):
        for reason in _reasons(page, asked=bool(urls)):
            by_reason.setdefault(reason, []).append(urlsplit(url).netloc.rpartition("@")[2])
    return [f"{reason} (at {', '.join(at)})" for reason, at in by_reason.items()]


async def _page(connections: HttpConnections, url: str) -> Mapping[str, Any] | None:
    """The page at /health; None if nothing answers, or what answers is not a process of ours."""
    address = f"{url.rstrip('/')}/health"
    try:
        reply = await connections.send("GET", address, b"", deadline_s=_TIMEOUT_S, headers={}, most_bytes=_MOST_BYTES)
        page = orjson.loads(reply.body)
    except (Unreachable, DeadlinePassed, ValueError):
        return None
    return page if isinstance(page, dict) and isinstance(page.get("reasons"), list) else None


def _reasons(page: Mapping[str, Any] | None, *, asked: bool) -> list[str]:
    if page is None:
        return ["/health does not answer"] if asked else []
    return [str(reason) for reason in page["reasons"]]
