"""Which upstreams are there: asks only endpoints that cost nothing, never a completion."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from gateway.errors import TransportError
from gateway.proxy.places import UpstreamState
from gateway.proxy.transports import UpstreamRequest

log = logging.getLogger(__name__)

_LIMIT_S = 2.0


async def watch(upstreams: Iterable[UpstreamState], every_s: float = 5.0) -> None:
    """Looks at every upstream that has a health path, for ever. An upstream is down when nothing answers there, or
    503 does (vLLM and llama.cpp say that while they load); any other status is somebody being there."""
    watched = [u for u in upstreams if _path(u)]
    while watched:
        await asyncio.gather(*(look(u) for u in watched))
        await asyncio.sleep(every_s)


async def look(upstream: UpstreamState) -> None:
    path = _path(upstream)
    if path is None:
        return
    down = not await _answers(upstream, path)
    if down != upstream.down:
        log.warning("upstream %s is %s", upstream.name, "down" if down else "up again")
    upstream.down = down


async def _answers(upstream: UpstreamState, path: str) -> bool:
    request = UpstreamRequest(b"GET", upstream.dialect.origin, path.encode())
    try:
        async with asyncio.timeout(_LIMIT_S):
            reply = await upstream.transport.send(request, _LIMIT_S)
            try:
                while await reply.chunk():
                    pass
            finally:
                reply.close()
    except (TransportError, TimeoutError):
        return False
    return reply.status != 503


def _path(upstream: UpstreamState) -> str | None:
    return upstream.config.health or upstream.config.vendor.health
