"""How everything stands, from gateways to scores: for `gateway status`. Reads the stream server and the store."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import orjson

from gateway.core.errors import StreamDown
from gateway.evals.reader_config import ReaderConfig
from gateway.evals.store.engine import StoreUnavailable
from gateway.evals.store.loss_accounting import Delivery, delivery
from gateway.evals.store.query import reading
from gateway.stream import Corridor, Lag
from gateway.stream.connect import described

DAY_S = 86_400
SILENT_S = 30.0  # heartbeats come every few seconds
OLD_S = 60.0


@dataclass(frozen=True, slots=True)
class GatewayStatus:
    """age_s: since it last said so. rates: a second, over the last few. waiting: records in its buffer."""

    incarnation: str
    host: str
    pid: int
    version: str
    age_s: float
    up_s: float
    rates: Mapping[str, float]
    waiting: int


@dataclass(frozen=True, slots=True)
class ConsumerStatus:
    """age_s: since its heartbeat. blocked: scorers that it does not ask now, and why."""

    name: str
    age_s: float
    blocked: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BudgetStatus:
    """Of today's budget (UTC). limit: None: none is set, and what is spent is only shown."""

    kind: str  # scorer or shadow
    name: str
    unit: str  # usd or tokens
    spent: float
    limit: float | None


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """letters: dead letters that lie there, by reason. evicts: a maxmemory-policy that may throw the stream away."""

    lag: Lag
    shards: int
    shards_away: int
    trimmed_unread: int
    letters: Mapping[str, int]
    gateways: tuple[GatewayStatus, ...] = ()
    consumers: tuple[ConsumerStatus, ...] = ()
    spent: tuple[BudgetStatus, ...] = ()
    evicts: str | None = None


@dataclass(frozen=True, slots=True)
class Status:
    """at: Unix time. server: where the stream server is, without how one enters. stream, delivery: None, with the
    reason in problems, where there is no server or no store. problems: what somebody should look at, in words."""

    at: float
    server: str
    stream: StreamStatus | None
    delivery: Delivery | None
    problems: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


async def look(around: ReaderConfig, corridor: Corridor, now: float | None = None) -> Status:
    """now: Unix time in seconds; None: the clock's. Never raises for a server or a store that is not there."""
    now = time.time() if now is None else now
    problems: list[str] = []
    stream, stood = None, None
    try:
        stream = await _stream(around, corridor, now)
    except StreamDown as error:
        problems.append(str(error))
    try:
        with reading(around.store) as connection:
            stood = delivery(connection)
    except StoreUnavailable as error:
        problems.append(str(error))
    problems += _of_stream(stream) if stream else []
    problems += _of_delivery(stood) if stood else []
    return Status(now, described(around.url), stream, stood, tuple(problems))


async def _stream(around: ReaderConfig, corridor: Corridor, now: float) -> StreamStatus:
    lag = await corridor.lag(now)
    seen = await corridor.reachable()
    return StreamStatus(
        lag=lag,
        shards=len(corridor.shards),
        shards_away=len(corridor.shards) - seen,
        trimmed_unread=await corridor.trimmed_unread(),
        letters=await corridor.dead_letters.by_reason(),
        gateways=await _gateways(corridor, now),
        consumers=await _consumers(corridor, now),
        spent=await _spent(around, corridor, now),
        evicts=await _evicts(corridor),
    )


async def _evicts(corridor: Corridor) -> str | None:
    try:
        return await corridor.evicting()
    except StreamDown:  # where it may not be asked
        return None


async def _gateways(corridor: Corridor, now: float) -> tuple[GatewayStatus, ...]:
    found = [
        GatewayStatus(
            incarnation, str(says["host"]), int(says["pid"]), str(says.get("version", "")),
            max(0.0, now - says["at"]), max(0.0, now - says["started"]), dict(says["rates"]), int(says["waiting"]),
        )
        for incarnation, says in (await corridor.state.gateways()).items()
    ]  # fmt: skip
    return tuple(sorted(found, key=lambda g: (g.age_s > SILENT_S, g.host, g.pid)))


async def _consumers(corridor: Corridor, now: float) -> tuple[ConsumerStatus, ...]:
    found = []
    for name, at in sorted((await corridor.state.consumers()).items()):
        blocked = orjson.loads(await corridor.state.recall(f"blocked:{name}") or "{}")
        found.append(ConsumerStatus(name, max(0.0, now - at), blocked))
    return tuple(found)


async def _spent(around: ReaderConfig, corridor: Corridor, now: float) -> tuple[BudgetStatus, ...]:
    judges = await corridor.state.sums(f"spent:{time.strftime('%Y-%m-%d', time.gmtime(now))}")
    shadows = await corridor.state.sums(f"spent:{int(now // DAY_S)}")
    found = [_one("scorer", field_, n, _limits(around.scorers.get(_name(field_)))) for field_, n in judges.items()]
    for field_, n in shadows.items():
        budget = around.budgets.get(_name(field_))
        limits = {"usd": budget.usd_per_day, "tokens": budget.tokens_per_day} if budget else {}
        found.append(_one("shadow", field_, n, limits))
    return tuple(sorted((s for s in found if s.spent or s.limit is not None), key=lambda s: (s.kind, s.name, s.unit)))


def _limits(scorer: Any) -> dict[str, float | None]:
    return {"usd": scorer.budget_usd, "tokens": scorer.budget_tokens} if scorer is not None else {}


def _name(field_: str) -> str:
    return field_.rpartition(":")[0]


def _one(kind: str, field_: str, n: float, limits: Mapping[str, float | None]) -> BudgetStatus:
    name, _, unit = field_.rpartition(":")
    return BudgetStatus(kind, name, unit, max(0.0, n), limits.get(unit))


def _of_stream(stream: StreamStatus) -> list[str]:
    silent = [c.name for c in stream.consumers if c.age_s > SILENT_S]
    gone = [f"{g.host}/{g.pid}" for g in stream.gateways if g.age_s > SILENT_S]
    alive = len(stream.consumers) - len(silent)
    blocked = {scorer: why for c in stream.consumers for scorer, why in c.blocked.items()}
    found = {
        f"{stream.shards_away} of {stream.shards} shards of the stream are away": stream.shards_away,
        f"no consumer lives: {stream.lag.waiting + stream.lag.pending} entries wait": not alive and stream.lag.waiting,
        f"consumers without a heartbeat: {', '.join(silent)}; what they held is claimed by the others": silent,
        f"gateways that fell silent: {', '.join(gone)}": gone,
        f"the oldest entry waits {stream.lag.oldest_s:.0f} s: too few consumers": alive and stream.lag.oldest_s > OLD_S,
        f"{stream.trimmed_unread} entries left the stream unread: raise stream.max_mb": stream.trimmed_unread,
        f"{sum(stream.letters.values())} dead letters: `gateway dead list`": stream.letters,
        f"maxmemory-policy {stream.evicts} may throw the stream away: set noeviction": stream.evicts,
        **{f"scorer {scorer} is blocked: {why}": True for scorer, why in blocked.items()},
        **{
            f"{s.kind} {s.name} has spent today's {s.limit:g} {s.unit}": True
            for s in stream.spent
            if s.limit is not None and s.spent >= s.limit
        },
    }
    return [text for text, holds in found.items() if holds]


def _of_delivery(stood: Delivery) -> list[str]:
    lost = ", ".join(f"{reason} {n}" for reason, n in stood.lost.items())
    found = {f"{stood.unaccounted} exchanges never came, and nothing explains it": stood.unaccounted,
             f"exchanges lost on the way: {lost}": lost}  # fmt: skip
    return [text for text, holds in found.items() if holds]
