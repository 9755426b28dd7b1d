"""Measures in which phase of a request the gateway spends its own CPU time: hot.py's requests, sampled every few
milliseconds.

Samples cost nothing between them, unlike a profiler's hooks at every call, and no timed round runs at the same time.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Mapping, Sequence

import hot
from sampler import Sampler

PHASES: Mapping[str, Sequence[str]] = {
    "the client's HTTP": ("proxy/http/server/", "proxy/http/write_batching", "proxy/app"),
    "parse": ("proxy/request/", "proxy/endpoints/"),
    "route": ("proxy/routing/", "proxy/experiments/", "proxy/limits/"),
    "upstream": ("proxy/http/", "proxy/dialects/"),
    "relay": ("proxy/relay/",),
    "record": ("proxy/recording/",),
    "settle": ("proxy/settle", "observability/"),
}
PLAIN, RECORDED, STREAM = "plain", "recorded", "stream"
_KINDS = {PLAIN: (hot.plain, 0.0), RECORDED: (hot.plain, 1.0), STREAM: (hot.stream, 0.0)}


def by_phase(kind: str, cpu_s: float) -> dict[str, float]:
    """CPU µs of one request by phase, sampled for `cpu_s` seconds of CPU time. kind: PLAIN, RECORDED or STREAM."""
    make, rate = _KINDS[kind]
    request, answer = make()
    each_s, counts = asyncio.run(hot.driven(rate, lambda h: _run(h, request, answer, cpu_s)))
    ours = {phase: n for phase, n in counts.items() if phase != "other"}  # the rest is hot.py's own
    return {phase: each_s * 1e6 * ours.get(phase, 0) / sum(counts.values()) for phase in PHASES}


async def _run(running: hot.Hot, request: bytes, answer: list[bytes], cpu_s: float) -> tuple[float, Mapping[str, int]]:
    """(CPU seconds of a request, the looks by phase)."""
    n = 50
    await running.run(n, request, answer)
    began = time.process_time()
    await running.run(n, request, answer)
    each_s = (time.process_time() - began) / n
    sampler = Sampler(PHASES, every_s=0.002)
    sampler.start()
    try:
        until, asked, began = time.process_time() + cpu_s, 0, time.process_time()
        while time.process_time() < until:
            await running.run(n, request, answer)
            asked += n
        each_s = min(each_s, (time.process_time() - began) / asked)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return each_s, sampler.counts
