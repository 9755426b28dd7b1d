"""One gateway with an alias for each state that the target of shadows can be in, asked in short slices, in turn.

The same process serves all states, so that no two differ by where their memory lies; a slice of one begins with load
that is not counted, until nothing of the previous one is under way. Two aliases have no shadows: their ratio is noise.
"""

from __future__ import annotations

import asyncio
import json
import random
import secrets
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from statistics import quantiles

import systems
from cost import Others
from load import HOST, Clients
from stage import Running, Spot, Stage, System

from gateway import __version__
from gateway.core.randomization import SECRET_BYTES
from gateway.stream import Corridor

OFF, AGAIN = "shadow off", "off again"
HEALTHY, HANGS, FAILS, DOWN = "healthy", "hangs", "500", "down"
SOME_HANG, SOME_FAIL = "1 in 3 hangs", "1 in 3 fails"
SHADOWED = (HEALTHY, HANGS, FAILS, DOWN, SOME_HANG, SOME_FAIL)
STATES = (OFF, AGAIN, *SHADOWED)
SHARE = 0.2
CONNECTIONS, REST_S = 16, (0.01, 0.03)  # on average 800 requests a second, less what the answers take
_DEADLINE_S = 0.2  # of an answer: a target that hangs is asked again and again, not four times in all
_SLICE_S, _SETTLE_S = 0.5, 0.25  # the latter above the deadline
_RESAMPLED = 400
_QUIET = 0.05  # of the machine, for other programs


def start(stage: Stage, holds: ExitStack, kind: str) -> Running:
    """The gateway. kind: of the upstream that serves. holds: closes the ports of the targets that hang or are down."""
    served = stage.start(systems.upstream(kind))
    hangs = _port(holds, listens=True)
    ports = {
        HEALTHY: stage.start(systems.upstream("plain")).port,
        HANGS: hangs,
        FAILS: stage.start(systems.upstream("failing")).port,
        DOWN: _port(holds, listens=False),
        SOME_HANG: stage.start(systems.faulty(hangs)).port,
        SOME_FAIL: stage.start(systems.faulty(None)).port,
    }
    return stage.start(_gateway(ports), served)


def _port(holds: ExitStack, *, listens: bool) -> int:
    """Listening, the kernel accepts and nobody answers; bound alone, it refuses, and no other program takes it."""
    sock = holds.enter_context(socket.socket())
    sock.bind((HOST, 0))
    if listens:
        sock.listen(4096)
    return int(sock.getsockname()[1])


def _gateway(ports: Mapping[str, int]) -> System:
    return System("gateway", __version__, partial(_argv, ports), partial(systems.request, model=_alias(OFF)))


def _alias(state: str) -> str:
    return state.replace(" ", "-")


def _argv(ports: Mapping[str, int], spot: Spot) -> list[str]:
    """Shadows that nothing pauses: no comparison of latencies, and no budget of tokens."""
    config = systems.gateway_config(spot, 0.1)
    asyncio.run(_keyed(config["stream"]))
    control = {"upstream": "up", "model": f"{systems.MODEL}-a"}
    config["models"] |= {_alias(s): {"targets": [control], "timeouts": {"total_s": _DEADLINE_S}} for s in STATES}
    for state, port in ports.items():
        at = f"to-{_alias(state)}"
        config["upstreams"][at] = {"kind": "openai", "base_url": f"http://{HOST}:{port}/v1", "api_key": "no"}
        config["experiments"][_alias(state)] = {
            "model": _alias(state), "control": control, "candidate": {"upstream": at, "model": "better"},
            "shadow": SHARE, "repeat_control": 0, "aa": "proof", "deadline_s": _DEADLINE_S,
            "budget": {"concurrency": 64}, "gate": {"latency": False},
        }  # fmt: skip
    shown = config | {"keys": [config["keys"][0], f"… and {systems.KEYS - 1} more"]}
    path = spot.write("gateway.yaml", json.dumps(config), json.dumps(shown, ensure_ascii=False))
    return systems.gateway_argv("serve", "--config", path, "--host", HOST, "--port", str(spot.port))


async def _keyed(stream: Mapping[str, str]) -> None:
    """Puts the secret of draws on the stream server, as a consumer does; there is none here."""
    corridor = Corridor(stream["url"], stream["name"])
    await corridor.state.set_draw_secret(secrets.token_bytes(SECRET_BYTES))
    await corridor.aclose()


def labels(state: str, result: str) -> tuple[str, str]:
    """The labels of the series of /metrics that count a state's shadows. result: how it begins."""
    return f'experiment="{_alias(state)}"', f'result="{result}'


@dataclass(frozen=True, slots=True)
class Compared:
    """A percentile, in ms. ms: of all slices of a state together. than: the same of the slices without shadows just
    before and just after those. low, high: between which ratios nine of ten lie, when rounds are drawn again."""

    ms: float
    than: float
    low: float
    high: float

    @property
    def ratio(self) -> float:
        return self.ms / self.than


@dataclass(frozen=True, slots=True)
class Slice:
    """ms: latencies. others: what other programs took of the machine meanwhile."""

    ms: list[float]
    others: float


@dataclass(slots=True)
class Found:
    """The slices of each state, each with those without shadows just before and after it. disturbed: how many such
    threes are not among them, since other programs ran."""

    threes: dict[str, list[tuple[Slice, Slice, Slice]]]
    disturbed: int = 0

    def add(self, state: str, before: Slice, asked: Slice, after: Slice) -> None:
        if max(before.others, asked.others, after.others) > _QUIET:
            self.disturbed += 1
        else:
            self.threes[state].append((before, asked, after))

    def off(self, percent: int) -> float:
        return _percentile([ms for threes in self.threes.values() for b, _, a in threes for ms in b.ms + a.ms], percent)

    def compared(self, state: str, percent: int) -> Compared | None:
        """Compares a state with calls that nothing disturbed. None if there were none."""
        threes = self.threes[state]
        if not threes:
            return None
        rng = random.Random(1)
        drawn = [_both(rng.choices(threes, k=len(threes)), percent) for _ in range(_RESAMPLED)]
        ratios = [ours / theirs for ours, theirs in drawn]
        return Compared(*_both(threes, percent), _percentile(ratios, 5), _percentile(ratios, 95))


def _both(threes: Sequence[tuple[Slice, Slice, Slice]], percent: int) -> tuple[float, float]:
    ours = [ms for _, asked, _ in threes for ms in asked.ms]
    theirs = [ms for before, _, after in threes for ms in before.ms + after.ms]
    return _percentile(ours, percent), _percentile(theirs, percent)


def _percentile(values: Sequence[float], percent: int) -> float:
    return quantiles(values, n=100, method="inclusive")[percent - 1]


def measure(running: Running, states: Sequence[str], rounds: int, say: Callable[[str], None]) -> Found:
    """Each round asks every state once, between two slices without shadows: a machine that is slower for some seconds
    is so for both. Each round has an order of its own: none is always first, or always after another."""
    rng = random.Random(7)
    found = Found({s: [] for s in states})
    with Clients(running.port, CONNECTIONS, REST_S, rng) as clients:

        def slice_of(state: str) -> Slice:
            request = systems.request(running.port, model=_alias(state))
            clients.ask(request, _SETTLE_S)
            others = Others()
            ms = [1e3 * s for s in clients.ask(request, _SLICE_S)]
            return Slice(ms, others.share())

        for n in range(rounds):
            say(f"  round {n + 1} of {rounds}")
            before = slice_of(OFF)
            for state in rng.sample(states, len(states)):
                asked, after = slice_of(state), slice_of(OFF)
                found.add(state, before, asked, after)
                before = after
    return found
