"""Prepared exchanges, put into the stream as a gateway does, for `gateway evaluate` to score."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Sequence
from dataclasses import replace

from load import Wrong

from gateway.core.exchange import Count, Exchange, Fields, Tally, Target, Usage, new_id
from gateway.stream import Corridor

_BATCH = 256
_BATCH_BYTES = 4_000_000
_PATIENCE_S = 120.0
_TARGET = Target("up", "small")
PROSE = """the of and to in is that it for was on are as with they be at this from have or by one had not but what all
were when we there can an your which their said if do will each about how up out them then she many some so these would
other into has more her two like him see time could no make than first been its who now people my made over"""


def send_and_wait(url: str, name: str, n: int, request: bytes | None = None) -> None:
    """Returns when all n are scored, stored and acknowledged. Raises Wrong when they are not within two minutes.

    request: the body that each has; None: one of 1 KB, another each time.
    """
    asyncio.run(_send_and_wait(url, name, n, request))


async def _send_and_wait(url: str, name: str, n: int, request: bytes | None) -> None:
    corridor = Corridor(url, name)
    incarnation = new_id()
    try:
        size = _BATCH if request is None else max(1, min(_BATCH, _BATCH_BYTES // len(request)))
        spans = [range(start, min(start + size, n)) for start in range(0, n, size)]
        # Made before the first is sent: a consumer takes less time for an exchange than making it does.
        batches = [[*_exchanges(incarnation, span, request), _tally(incarnation, span.stop)] for span in spans]
        for batch in batches:
            await corridor.append(batch)
        await _until_read(corridor)
    finally:
        await corridor.aclose()


async def _until_read(corridor: Corridor) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        lag = await corridor.lag()
        if not lag.waiting and not lag.pending:
            break
        if time.monotonic() > deadline:
            raise Wrong(f"{lag.waiting + lag.pending} exchanges were not scored within {_PATIENCE_S:g} s")
        await asyncio.sleep(0.05)
    async for letter in corridor.dead_letters.all():
        raise Wrong(f"an exchange became a dead letter: {letter.error}")


def _exchanges(incarnation: str, seqs: Sequence[int], request: bytes | None) -> list[Fields]:
    chance = random.Random(seqs[0])
    made = (_exchange(incarnation, seq + 1, chance) for seq in seqs)
    return [(each if request is None else replace(each, request=request)).to_fields() for each in made]


def _exchange(incarnation: str, seq: int, chance: random.Random) -> Exchange:
    id = new_id()
    text = " ".join(chance.choices(PROSE.split(), k=210))[:1000] + "."
    answer = {"role": "assistant", "content": text}
    choices = [{"index": 0, "message": answer, "finish_reason": "stop"}]
    usage = {"prompt_tokens": 200, "completion_tokens": 210, "total_tokens": 410}
    response = {"id": id, "object": "chat.completion", "created": 1, "model": "small", "choices": choices}
    question = " ".join(chance.choices(PROSE.split(), k=200))
    return Exchange(
        id=id, received=time.time(), caller="bench", api="chat", alias="chat", target=_TARGET, stream=False,
        request=json.dumps({"model": "small", "messages": [{"role": "user", "content": question}]}).encode(),
        response=json.dumps(response | {"usage": usage}).encode(), status=200, outcome="ok", total_s=0.5, unit=id,
        u=chance.random() / 10, pi=0.1, stratum="default", incarnation=incarnation, seq=seq, usage=Usage(200, 210),
    )  # fmt: skip


def _tally(incarnation: str, n: int) -> Fields:
    """The gateway's counts so far: with them the consumer closes its ledger, as it does in production."""

    def count(n: int, reason: str = "") -> tuple[Count, ...]:
        return (Count("default", "chat", "up/small", "", n, reason),)

    return Tally(
        incarnation, time.time(), n, seen=count(10 * n), unsampled=count(9 * n, "rate"), sampled=count(n),
        enqueued=count(n),
    ).to_fields()  # fmt: skip
