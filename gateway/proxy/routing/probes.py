"""Health checks, load scraping, probes of idle targets. They use endpoints that cost nothing, never a completion."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Collection, Iterable

from gateway.core.errors import TransportError
from gateway.core.exchange import Target
from gateway.proxy.http.client.transport import UpstreamRequest
from gateway.proxy.routing.target_state import TargetState, UpstreamState

log = logging.getLogger(__name__)

_TIMEOUT_S = 2.0
_MAX_BYTES = 4 << 20
_IDLE_S = 15.0  # after this time without a call, a check probes a breaker
_NO_CANDIDATES: frozenset[Target] = frozenset()


async def watch(upstreams: Iterable[UpstreamState], every_s: float | None = None) -> None:
    """Checks every upstream that has a health path, until cancelled. every_s: None: as each is configured.

    A check fails if nothing answers, or if the answer is 503, as vLLM's and llama.cpp's are while they load; any other
    status shows that the upstream is up.
    """
    watched = [u for u in upstreams if _path(u)]
    await asyncio.gather(*(_watch_one(u, every_s, n / len(watched)) for n, u in enumerate(watched)))


async def _watch_one(upstream: UpstreamState, every_s: float | None, shift: float) -> None:
    """shift: of the second check, in [0, 1) of an interval, so that the checks of many upstreams are spread over
    time."""
    every_s = upstream.config.health_check.interval_s if every_s is None else every_s
    await look(upstream)
    await asyncio.sleep(every_s * shift)
    while True:
        await look(upstream)
        await asyncio.sleep(every_s)


async def scrape(
    upstreams: Iterable[UpstreamState], target_states: Iterable[TargetState], every_s: float = 1.0
) -> None:
    """Reads the load of every upstream with `load: scrape` from its /metrics, until cancelled.

    For servers that mostly stream: the load header comes with plain answers only.
    """
    asked = {u.name: u for u in upstreams if (u.config.load or u.config.provider.load) == "scrape"}
    here = [p for p in target_states if p.target.upstream in asked]
    while asked:
        for name, upstream in asked.items():
            text = await _get(upstream, "/metrics")
            for target_state in here if text is not None else ():
                if target_state.target.upstream == name:
                    target_state.record_load_report(load_report(text or b""))
        await asyncio.sleep(every_s)


async def probe_idle(
    target_states: Callable[[], Iterable[TargetState]],
    candidates: Callable[[], Collection[Target]] = _NO_CANDIDATES.copy,
    every_s: float = 5.0,
) -> None:
    """Closes open breakers of targets that get no calls, such as fallbacks, once their upstream answers; until
    cancelled. Where calls come, they are the probes.

    target_states: at the time. candidates: targets of ramps, whose breakers only served calls close.
    """
    while True:
        spared, checked = candidates(), dict[str, bool]()
        for state in target_states():
            if state.breaker.unprobed_s() < _IDLE_S or state.upstream.down or state.target in spared:
                continue
            if state.upstream.key_refused:  # lists of models and health paths often need no key
                continue
            if state.upstream.name not in checked:
                checked[state.upstream.name] = await _answers(state.upstream)
            if checked[state.upstream.name]:
                state.breaker.record_idle_check()
        await asyncio.sleep(every_s)


async def _answers(upstream: UpstreamState) -> bool:
    """Whether the health path or else the list of models, which is free, gets HTTP 2xx; with the upstream's key."""
    path = _path(upstream)
    if path is not None:
        request = UpstreamRequest(b"GET", upstream.dialect.origin, path.encode())
    else:
        request = upstream.dialect.raw(UpstreamRequest(b"GET", "", b"/models"))
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            reply = await upstream.transport.send(request, _TIMEOUT_S)
            reply.close()
    except (TransportError, TimeoutError):
        return False
    return 200 <= reply.status < 300


def load_report(exposition: bytes) -> bytes:
    """Converts a server's metrics into the load report that its plain answers would carry, summed over its engines.

    vLLM has renamed its cache gauge; both names are read.
    """
    waiting = sum(float(v) for v in _WAITING.findall(exposition))
    cache = [float(v) for v in _CACHE.findall(exposition)]
    mean = sum(cache) / len(cache) if cache else 0.0
    return b"num_requests_waiting=%f kv_cache_usage_perc=%f" % (waiting, mean)


_VALUE = rb"(?:\{[^}\n]*\})? ([0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,2})?)\s"
_WAITING = re.compile(rb"^vllm:num_requests_waiting" + _VALUE, re.M)
_CACHE = re.compile(rb"^vllm:(?:gpu|kv)_cache_usage_perc" + _VALUE, re.M)


async def look(upstream: UpstreamState, timeout_s: float | None = None) -> None:
    """Checks one upstream and notes whether it is down. timeout_s: None: as it is configured."""
    path, config = _path(upstream), upstream.config.health_check
    if path is None:
        return
    failed = await _get(upstream, path, config.timeout_s if timeout_s is None else timeout_s) is None
    upstream.health_row = upstream.health_row + 1 if failed != upstream.down else 0
    wanted = config.successes if upstream.down else config.failures if upstream.checked else 1
    upstream.checked = upstream.checked or not failed
    if upstream.health_row < wanted:
        return
    upstream.down, upstream.health_row = failed, 0
    log.warning("upstream %s is %s", upstream.name, f"down: {path} does not answer" if failed else "up again")
    if upstream.on_health is not None:
        upstream.on_health(failed)


async def _get(upstream: UpstreamState, path: str, timeout_s: float = _TIMEOUT_S) -> bytes | None:
    """The body at a path of the upstream's root; None if nothing answers, or the status is 503."""
    request = UpstreamRequest(b"GET", upstream.dialect.origin, path.encode())
    try:
        async with asyncio.timeout(timeout_s):
            reply = await upstream.transport.send(request, timeout_s)
            body = b""
            try:
                while (data := await reply.chunk()) and len(body) < _MAX_BYTES:
                    body += data
            finally:
                reply.close()
    except (TransportError, TimeoutError):
        return None
    return None if reply.status == 503 else body


def _path(upstream: UpstreamState) -> str | None:
    return upstream.config.health or upstream.config.provider.health
