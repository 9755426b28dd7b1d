"""`gateway status`: what the gateways, the consumer and the store report, on the terminal and as JSON."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

import orjson
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gateway.core.errors import StreamDown
from gateway.core.sanitize import plain
from gateway.evals.reader_config import ReaderConfig
from gateway.evals.store.engine import StoreUnavailable
from gateway.evals.store.loss_accounting import STATUSES, Delivery, delivery
from gateway.evals.store.query import reading
from gateway.stream import Corridor, Lag
from gateway.stream.connect import described

DAY_S = 86_400
SILENT_S = 30.0  # heartbeats come every few seconds
OLD_S = 60.0


@dataclass(frozen=True, slots=True)
class GatewayStatus:
    incarnation: str
    host: str
    pid: int
    version: str
    age_s: float
    """Seconds since its last heartbeat."""
    up_s: float
    rates: Mapping[str, float]
    """Calls per second by stage (seen, sampled, enqueued, dropped), over the last few seconds."""
    waiting: int
    """Records in its buffer."""


@dataclass(frozen=True, slots=True)
class ConsumerStatus:
    name: str
    age_s: float
    """Seconds since its last heartbeat."""
    blocked: Mapping[str, str] = field(default_factory=dict)
    """Scorers that the consumer does not run at the moment → the reason."""


@dataclass(frozen=True, slots=True)
class BudgetStatus:
    """What has been spent of today's budget (UTC)."""

    kind: str  # scorer or shadow
    name: str
    unit: str  # usd or tokens
    spent: float
    limit: float | None
    """None: there is no limit."""


@dataclass(frozen=True, slots=True)
class StreamStatus:
    lag: Lag
    shards: int
    shards_away: int
    trimmed_unread: int
    letters: Mapping[str, int]
    """The number of dead letters by reason."""
    gateways: tuple[GatewayStatus, ...] = ()
    consumers: tuple[ConsumerStatus, ...] = ()
    spent: tuple[BudgetStatus, ...] = ()
    evicts: str | None = None
    """A maxmemory-policy under which the server may delete the stream. None: a safe one, or unknown."""


@dataclass(frozen=True, slots=True)
class Status:
    at: float
    """Unix seconds."""
    server: str
    """The address of the stream server, without credentials."""
    stream: StreamStatus | None
    """None: the server cannot be reached; problems says why."""
    delivery: Delivery | None
    """None: there is no store; problems says why."""
    problems: tuple[str, ...] = ()
    """What needs attention, one sentence each."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


async def look(around: ReaderConfig, corridor: Corridor, now: float | None = None) -> Status:
    """now: Unix time in seconds; None: the current time. An unreachable server or store is a problem in the result."""
    now = time.time() if now is None else now
    problems: list[str] = []
    stream, delivered = None, None
    try:
        stream = await _read_stream(around, corridor, now)
    except StreamDown as error:
        problems.append(str(error))
    try:
        with reading(around.store) as connection:
            delivered = delivery(connection)
    except StoreUnavailable as error:
        problems.append(str(error))
    problems += _stream_problems(stream) if stream else []
    problems += _delivery_problems(delivered) if delivered else []
    return Status(now, described(around.url), stream, delivered, tuple(problems))


async def _read_stream(around: ReaderConfig, corridor: Corridor, now: float) -> StreamStatus:
    lag = await corridor.lag(now)
    seen = await corridor.reachable()
    return StreamStatus(
        lag=lag,
        shards=len(corridor.shards),
        shards_away=len(corridor.shards) - seen,
        trimmed_unread=await corridor.trimmed_unread(),
        letters=await corridor.dead_letters.by_reason(),
        gateways=await _read_gateways(corridor, now),
        consumers=await _read_consumers(corridor, now),
        spent=await _read_budgets(around, corridor, now),
        evicts=await _evicts(corridor),
    )


async def _evicts(corridor: Corridor) -> str | None:
    try:
        return await corridor.evicting()
    except StreamDown:  # the command may be forbidden
        return None


async def _read_gateways(corridor: Corridor, now: float) -> tuple[GatewayStatus, ...]:
    found = [
        GatewayStatus(
            incarnation, str(beat["host"]), int(beat["pid"]), str(beat.get("version", "")),
            max(0.0, now - beat["at"]), max(0.0, now - beat["started"]), dict(beat["rates"]), int(beat["waiting"]),
        )
        for incarnation, beat in (await corridor.state.gateways()).items()
    ]  # fmt: skip
    return tuple(sorted(found, key=lambda g: (g.age_s > SILENT_S, g.host, g.pid)))


async def _read_consumers(corridor: Corridor, now: float) -> tuple[ConsumerStatus, ...]:
    found = []
    for name, at in sorted((await corridor.state.consumers()).items()):
        blocked = orjson.loads(await corridor.state.recall(f"blocked:{name}") or "{}")
        found.append(ConsumerStatus(name, max(0.0, now - at), blocked))
    return tuple(found)


async def _read_budgets(around: ReaderConfig, corridor: Corridor, now: float) -> tuple[BudgetStatus, ...]:
    judges = await corridor.state.sums(f"spent:{time.strftime('%Y-%m-%d', time.gmtime(now))}")
    shadows = await corridor.state.sums(f"spent:{int(now // DAY_S)}")
    found = [_budget("scorer", field_, n, _limits(around.scorers.get(_name(field_)))) for field_, n in judges.items()]
    for field_, n in shadows.items():
        budget = around.budgets.get(_name(field_))
        limits = {"usd": budget.usd_per_day, "tokens": budget.tokens_per_day} if budget else {}
        found.append(_budget("shadow", field_, n, limits))
    return tuple(sorted((s for s in found if s.spent or s.limit is not None), key=lambda s: (s.kind, s.name, s.unit)))


def _limits(scorer: Any) -> dict[str, float | None]:
    return {"usd": scorer.budget_usd, "tokens": scorer.budget_tokens} if scorer is not None else {}


def _name(field_: str) -> str:
    return field_.rpartition(":")[0]


def _budget(kind: str, field_: str, n: float, limits: Mapping[str, float | None]) -> BudgetStatus:
    name, _, unit = field_.rpartition(":")
    return BudgetStatus(kind, name, unit, max(0.0, n), limits.get(unit))


def _stream_problems(stream: StreamStatus) -> list[str]:
    lag = stream.lag
    silent = [c.name for c in stream.consumers if c.age_s > SILENT_S]
    gone = [f"{g.host}/{g.pid}" for g in stream.gateways if g.age_s > SILENT_S]
    alive = len(stream.consumers) - len(silent)
    slow = alive and lag.oldest_s > OLD_S
    trimmed = stream.trimmed_unread
    found = {
        f"{stream.shards_away} of {stream.shards} shards of the stream cannot be reached": stream.shards_away,
        f"no consumer is running: {lag.waiting + lag.pending} entries are waiting": not alive and lag.waiting,
        f"consumers without a heartbeat: {', '.join(silent)}; others claim their entries": silent,
        f"gateways without a heartbeat: {', '.join(gone)}": gone,
        f"the oldest entry has been waiting for {lag.oldest_s:.0f} s: run more consumers": slow,
        f"{trimmed} entries were trimmed before they were read: raise stream.max_mb": trimmed,
        f"{sum(stream.letters.values())} dead letters: `gateway dead list`": stream.letters,
        f"maxmemory-policy {stream.evicts} may delete the stream: set noeviction": stream.evicts,
    }
    blocked = {scorer: why for c in stream.consumers for scorer, why in c.blocked.items()}
    return [
        *(text for text, holds in found.items() if holds),
        *(f"scorer {scorer} is blocked: {why}" for scorer, why in blocked.items()),
        *(
            f"{s.kind} {s.name} has spent today's {s.limit:g} {s.unit}"
            for s in stream.spent
            if s.limit is not None and s.spent >= s.limit
        ),
    ]


def _delivery_problems(delivered: Delivery) -> list[str]:
    lost = ", ".join(f"{reason} {n}" for reason, n in delivered.lost.items())
    found = {f"{delivered.unaccounted} exchanges are missing, and no known loss explains it": delivered.unaccounted,
             f"exchanges were lost on the way: {lost}": lost}  # fmt: skip
    return [text for text, holds in found.items() if holds]


_MAX_ROWS = 12  # of one table, so that all fits on one screen


def to_terminal(status: Status) -> RenderableType:
    return Group(*_head(status), *(_stream(status.stream) if status.stream else ()), *_delivery(status.delivery))


def _head(status: Status) -> Iterator[RenderableType]:
    when = datetime.fromtimestamp(status.at).astimezone().isoformat(" ", "seconds")
    yield _safe(f"{when}  stream server {status.server}", "dim")
    if not status.problems:
        yield _safe("no problems", "bold green")
    for problem in status.problems:
        yield _safe(f"! {problem}", "bold red")


def _stream(stream: StreamStatus) -> Iterator[RenderableType]:
    lag = stream.lag
    yield Text()
    yield _line(
        "stream", f"{_n(lag.waiting)} waiting, {_n(lag.pending)} with consumers, oldest {_age(lag.oldest_s)}; "
        f"{_n(lag.length)} entries held" + (f" on {stream.shards} shards" if stream.shards > 1 else ""),
    )  # fmt: skip
    yield _line("dead letters", _reasons(stream.letters) or "none")
    yield from _gateways(stream)
    yield from _consumers(stream)
    yield from _spent(stream)


def _gateways(stream: StreamStatus) -> Iterator[RenderableType]:
    yield Text()
    drawn = _table("gateway", "calls/s", "sampled/s", "recorded/s", "dropped/s", "buffered", "up", "seen")
    for g in stream.gateways[:_MAX_ROWS]:
        rates = [f"{g.rates.get(name, 0.0):.1f}" for name in ("seen", "sampled", "enqueued", "dropped")]
        cells = (f"{g.host}/{g.pid}", *rates, _n(g.waiting), _age(g.up_s), f"{_age(g.age_s)} ago")
        drawn.add_row(*map(_safe, cells), style="red" if g.age_s > SILENT_S else "")
    if len(stream.gateways) > 1:
        alive = [g for g in stream.gateways if g.age_s <= SILENT_S]
        sums = [f"{sum(g.rates.get(n, 0.0) for g in alive):.1f}" for n in ("seen", "sampled", "enqueued", "dropped")]
        drawn.add_row(f"all {len(alive)}", *sums, _n(sum(g.waiting for g in alive)), "", "", style="bold")
    yield drawn if stream.gateways else _line("gateways", "none is running")


def _consumers(stream: StreamStatus) -> Iterator[RenderableType]:
    if not stream.consumers:
        yield _line("consumers", "none is running")
        return
    yield Text()
    drawn = _table("consumer", "heartbeat", "blocked scorers")
    for c in stream.consumers[:_MAX_ROWS]:
        drawn.add_row(
            *map(_safe, (c.name, f"{_age(c.age_s)} ago", "; ".join(f"{s}: {why}" for s, why in c.blocked.items()))),
            style="red" if c.age_s > SILENT_S else "",
        )
    drawn.columns[2].justify = "left"
    yield drawn


def _spent(stream: StreamStatus) -> Iterator[RenderableType]:
    if not stream.spent:
        return
    yield Text()
    drawn = _table("budget of today", "spent", "of", "")
    for s in stream.spent[:_MAX_ROWS]:
        limit = "no limit" if s.limit is None else f"{s.limit:g}"
        share = "" if not s.limit else f"{s.spent / s.limit:.0%}"
        over = s.limit is not None and s.spent >= s.limit
        cells = (f"{s.kind} {s.name}", f"{s.spent:.4g} {s.unit}", limit, share)
        drawn.add_row(*map(_safe, cells), style="red" if over else "")
    yield drawn


def _delivery(delivered: Delivery | None) -> Iterator[RenderableType]:
    if delivered is None:
        return
    yield Text()
    d = delivered
    yield _line("seen", f"{_n(d.seen)} = sampled {_n(d.sampled)}{_plus('unsampled', d.unsampled)}")
    waiting = f" + buffered {_n(d.waiting)}" if d.waiting else ""
    before = {name: n for name, n in d.lost.items() if name == "gateway_lost"}
    after = {name: n for name, n in d.lost.items() if name != "gateway_lost"}
    losses = f"{_plus('dropped', d.dropped)}{_plus('lost', before)}"
    yield _line("sampled", f"{_n(d.sampled)} = enqueued {_n(d.enqueued)}{waiting}{losses}")
    settled = f"stored or dead-lettered {_n(d.settled)} + in flight {_n(d.in_flight)}"
    rest = f"{_plus('lost', after)} + unaccounted {_n(d.unaccounted)}"
    yield _line("enqueued", f"{_n(d.enqueued)} = {settled}{rest}")
    if delivered.scores:
        yield Text()
        drawn = _table("scorer", *(s.replace("_", " ") for s in STATUSES))
        for scorer, n in sorted(delivered.scores.items())[:_MAX_ROWS]:
            drawn.add_row(*map(_safe, (scorer, *(_n(n.get(status, 0)) for status in STATUSES))))
        yield drawn


def _table(first: str, *others: str) -> Table:
    drawn = Table(box=None, pad_edge=False, header_style="bold")
    drawn.add_column(first, no_wrap=True)
    for name in others:
        drawn.add_column(name, justify="right")
    return drawn


def _line(name: str, text: str) -> Text:
    return Text.assemble((f"{name:<13}", "bold"), plain(text))


def _plus(name: str, reasons: Mapping[str, int]) -> str:
    total = sum(reasons.values())
    return f" + {name} {_n(total)} ({_reasons(reasons)})" if total else ""


def _reasons(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {_n(n)}" for name, n in sorted(reasons.items(), key=lambda each: -each[1]))


def _n(n: int) -> str:
    return f"{n:,}".replace(",", "\u202f")


def _age(seconds: float) -> str:
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.1f} s"


def _safe(text: str, style: str = "") -> Text:
    return Text(plain(text), style)
