"""The cost of request bodies of real sizes: CPU by size, the loop's longest stall, and the answers to odd bodies.

    python bench/bodies.py            # three tables in Markdown, for docs/contributing/performance.md
    python bench/bodies.py --quick    # the same with small bodies, in a second

Requests run through hot.py, without sockets, so all that is measured is the gateway's own work. A body must cost one
pass of the JSON parser over its bytes: the stall is given as a ratio to that pass, measured between the requests.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from statistics import median

import agent_bodies
import hot
import systems
from msgspec import Raw
from msgspec.json import Decoder

BIG_COUNT = 50
_FIRST_READ, _READ = 64 * 1024, 256 * 1024  # bytes of a read of the socket, as uvloop does it
_PASS = Decoder(dict[str, Raw])


def big() -> bytes:
    """A coding agent's request of more than 10 MB."""
    asked = json.loads(agent_bodies.body("5.9 MB"))
    return json.dumps({**asked, "messages": asked["messages"] * 2}, ensure_ascii=False).encode()


def reads(body: bytes) -> list[bytes]:
    """A whole HTTP request in the pieces in which a socket gives it."""
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {systems.KEY}\r\n"
    whole = head.encode() + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    cuts = [0, *range(_FIRST_READ, len(whole), _READ), len(whole)]
    return [whole[a:b] for a, b in pairwise(cuts)]


@dataclass(slots=True)
class Asked:
    """The result of one request."""

    status: int
    pieces: list[bytes]
    """The body of a large request as it was written for the upstream; []: it got none."""
    longest_s: float
    """CPU seconds of the loop's longest callback."""
    total_s: float


async def ask(running: hot.Hot, pieces: list[bytes], answer: bytes) -> Asked:
    """One request through the gateway; each turn of the loop is timed."""
    running.client.take(), running.upstream.take()
    turns: list[float] = []
    began = time.process_time()

    async def turn() -> None:
        nonlocal began
        await asyncio.sleep(0)
        now = time.process_time()
        turns.append(now - began)
        began = time.process_time()

    for piece in pieces:
        running.protocol.data_received(piece)
        await turn()
    while not (running.upstream.written or running.client.written):
        await turn()
    sent = []
    if running.upstream.written:
        sent = running.upstream.body()
        began = time.process_time()
        running.connection.data_received(answer)
    while not running.client.written:
        await turn()
    status = int(running.client.take().split(b" ", 2)[1])
    while running.protocol._request is not None:
        await turn()
    running.recorder._waiting.clear()
    running.recorder._room = 1 << 40
    return Asked(status, sent, max(turns), sum(turns))


def one_pass_s(body: bytes) -> float:
    """CPU seconds of the parser's pass over a body."""
    began = time.process_time()
    _PASS.decode(body)
    return time.process_time() - began


def by_size(bodies: Sequence[bytes], cpu_s: float) -> Iterator[str]:
    """CPU of a request by the size of its body; each is asked for about `cpu_s` seconds."""
    yield "| body | µs CPU a request | with limits | recorded | one pass of the parser |"
    yield "|---:|---:|---:|---:|---:|"
    for body in bodies:
        pieces, answer = reads(body), hot.plain()[1][0]
        found = []
        for rate, limits in ((0.0, False), (0.0, True), (1.0, False)):
            found.append(
                asyncio.run(
                    hot.driven(
                        rate,
                        partial(_cpu, pieces=pieces, answer=answer, cpu_s=cpu_s),
                        systems.with_limits if limits else None,
                    )
                )
            )
        passed = median(one_pass_s(body) for _ in range(5))
        yield f"| {len(body):,} | " + " | ".join(f"{1e6 * s:,.0f}" for s in (*found, passed)) + " |"


async def _cpu(running: hot.Hot, pieces: list[bytes], answer: bytes, cpu_s: float) -> float:
    await ask(running, pieces, answer)
    found, until = [], time.process_time() + cpu_s
    while time.process_time() < until or len(found) < 3:
        found.append((await ask(running, pieces, answer)).total_s)
    return median(found)


def stalls(body: bytes, count: int) -> Iterator[str]:
    """The longest callback while large bodies arrive, next to the parser's pass over the same bytes in the same run."""
    pieces, answer = reads(body), hot.plain()[1][0]

    async def drive(running: hot.Hot) -> list[tuple[float, float]]:
        return [((await ask(running, pieces, answer)).longest_s, one_pass_s(body)) for _ in range(count)]

    pairs = asyncio.run(hot.driven(0.0, drive))
    ratio = median(longest / passed for longest, passed in pairs)
    yield f"{count} bodies of {len(body):,} bytes: the longest callback took {1e3 * median(a for a, _ in pairs):.1f} ms"
    yield f"of CPU, the parser's pass {1e3 * median(b for _, b in pairs):.1f} ms: {ratio:.2f} times it."


CHAT = b'{"model":"%b","messages":[{"role":"user","content":%%b}]%%b}' % systems.MODEL.encode()
Odd = Callable[[int], bytes]
ODD: dict[str, Odd] = {
    "one string": lambda size: CHAT % (b'"' + b"x" * size + b'"', b""),
    "a file in base64": lambda size: CHAT % (b'"data:;base64,' + b"QUJD" * (size // 4) + b'"', b""),
    "text that is not ASCII": lambda size: CHAT % (b'"' + "ä值".encode() * (size // 5) + b'"', b""),
    "escapes alone": lambda size: CHAT % (b'"' + rb"\u00e4" * (size // 6) + b'"', b""),
    "one number": lambda size: CHAT % (b'""', b',"seed":' + b"9" * size),
    "empty arrays": lambda size: CHAT % (b"[" + b"[]," * (size // 3) + b"0]", b""),
    "messages of 20 bytes": lambda size: CHAT % (b'""},' + b'{"role":"x","a":123},' * (size // 21) + b'{"a":1', b""),
    "members": lambda size: CHAT % (b'""', b"".join(b',"m%06d":1' % n for n in range(size // 12))),
    "a member that comes twice": lambda size: CHAT % (b'"' + b"x" * size + b'"', b',"model":"m"'),
    "nested 100 000 deep": lambda size: CHAT % (b"[" * 100_000 + b"]" * 100_000, b',"x":"' + b"y" * size + b'"'),
    "nested 500 deep": lambda size: CHAT % (b"[" * 500 + b"]" * 500, b',"x":"' + b"y" * size + b'"'),
    "bytes that are not UTF-8": lambda size: CHAT % (b'"' + b"x" * size + b'\xff"', b""),
    "half a surrogate pair": lambda size: CHAT % (b'"' + b"x" * size + rb'\ud83d"', b""),
    "NaN": lambda size: CHAT % (b'"' + b"x" * size + b'"', b',"temperature":NaN'),
    "1e99999": lambda size: CHAT % (b'"' + b"x" * size + b'"', b',"temperature":1e99999'),
    "bytes behind the end": lambda size: CHAT % (b'"' + b"x" * size + b'"', b"") + b"{}",
    "no end": lambda size: (CHAT % (b'"' + b"x" * size + b'"', b""))[:-1],
    "a list": lambda size: b'["' + b"x" * size + b'"]',
}
"""Bodies of about that many bytes, by what is odd about them."""


def odd_bodies(sizes: tuple[int, ...]) -> Iterator[str]:
    """The status of the answer to each, and the loop's longest callback in ms for each MB of the body."""
    yield "| body | " + " | ".join(f"{size / 1e6:g} MB" for size in sizes) + " |"
    yield "|---|" + "---:|" * len(sizes)
    answer = hot.plain()[1][0]
    for kind, make in ODD.items():
        cells = []
        for size in sizes:
            pieces = reads(make(size))
            asked = asyncio.run(hot.driven(0.0, partial(ask, pieces=pieces, answer=answer)))
            cells.append(f"{asked.status}: {1e3 * asked.longest_s / (size / 1e6):.1f} ms/MB")
        yield f"| {kind} | " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small bodies, a second in all")
    quick = parser.parse_args().quick
    sizes = [systems.body(), *map(agent_bodies.body, agent_bodies.SIZES)]
    if quick:
        tables = by_size(sizes[:2], 0.05), stalls(sizes[2], 2), odd_bodies((20_000,))
    else:
        tables = by_size(sizes, 2.0), stalls(big(), BIG_COUNT), odd_bodies((10**5, 10**6, 3 * 10**7))
    for table in tables:
        print(*table, "", sep="\n")  # noqa: T201


if __name__ == "__main__":
    main()
