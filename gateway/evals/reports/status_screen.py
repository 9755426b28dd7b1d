"""`gateway status` on one screen. Pure: what was seen → what rich draws."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gateway.core.sanitize import plain
from gateway.evals.reports.status import SILENT_S, Status, StreamStatus
from gateway.evals.store.loss_accounting import STATUSES, Delivery

_MOST = 12  # rows of one table: it is one screen


def page(status: Status) -> RenderableType:
    return Group(*_head(status), *(_stream(status.stream) if status.stream else ()), *_stood(status.delivery))


def _head(status: Status) -> Iterator[RenderableType]:
    when = datetime.fromtimestamp(status.at).astimezone().isoformat(" ", "seconds")
    yield _safe(f"{when}  stream server {status.server}", "dim")
    if not status.problems:
        yield _safe("all is well", "bold green")
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
    for g in stream.gateways[:_MOST]:
        rates = [f"{g.rates.get(name, 0.0):.1f}" for name in ("seen", "sampled", "enqueued", "dropped")]
        cells = (f"{g.host}/{g.pid}", *rates, _n(g.waiting), _age(g.up_s), f"{_age(g.age_s)} ago")
        drawn.add_row(*map(_safe, cells), style="red" if g.age_s > SILENT_S else "")
    if len(stream.gateways) > 1:
        alive = [g for g in stream.gateways if g.age_s <= SILENT_S]
        sums = [f"{sum(g.rates.get(n, 0.0) for g in alive):.1f}" for n in ("seen", "sampled", "enqueued", "dropped")]
        drawn.add_row(f"all {len(alive)}", *sums, _n(sum(g.waiting for g in alive)), "", "", style="bold")
    yield drawn if stream.gateways else _line("gateways", "none lives")


def _consumers(stream: StreamStatus) -> Iterator[RenderableType]:
    if not stream.consumers:
        yield _line("consumers", "none lives")
        return
    yield Text()
    drawn = _table("consumer", "heartbeat", "blocked scorers")
    for c in stream.consumers[:_MOST]:
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
    for s in stream.spent[:_MOST]:
        limit = "no limit" if s.limit is None else f"{s.limit:g}"
        share = "" if not s.limit else f"{s.spent / s.limit:.0%}"
        over = s.limit is not None and s.spent >= s.limit
        cells = (f"{s.kind} {s.name}", f"{s.spent:.4g} {s.unit}", limit, share)
        drawn.add_row(*map(_safe, cells), style="red" if over else "")
    yield drawn


def _stood(stood: Delivery | None) -> Iterator[RenderableType]:
    if stood is None:
        return
    yield Text()
    yield _line("seen", f"{_n(stood.seen)} = sampled {_n(stood.sampled)}" + _plus("unsampled", stood.unsampled))
    waiting = f" + buffered {_n(stood.waiting)}" if stood.waiting else ""
    lost = {name: n for name, n in stood.lost.items() if name == "gateway_lost"}
    yield _line(
        "sampled", f"{_n(stood.sampled)} = enqueued {_n(stood.enqueued)}{waiting}" + _plus("dropped", stood.dropped)
        + _plus("lost", lost),
    )  # fmt: skip
    lost = {name: n for name, n in stood.lost.items() if name != "gateway_lost"}
    yield _line(
        "enqueued", f"{_n(stood.enqueued)} = stored or buried {_n(stood.settled)} + in flight {_n(stood.in_flight)}"
        + _plus("lost", lost) + f" + unaccounted {_n(stood.unaccounted)}",
    )  # fmt: skip
    if stood.scores:
        yield Text()
        drawn = _table("scorer", *(s.replace("_", " ") for s in STATUSES))
        for scorer, n in sorted(stood.scores.items())[:_MOST]:
            drawn.add_row(*map(_safe, (scorer, *(_n(n.get(status, 0)) for status in STATUSES))))
        yield drawn


def _table(first: str, *others: str) -> Table:
    drawn = Table(box=None, pad_edge=False, header_style="bold")
    drawn.add_column(first, no_wrap=True)
    for name in others:
        drawn.add_column(name, justify="right")
    return drawn


def _line(name: str, said: str) -> Text:
    return Text.assemble((f"{name:<13}", "bold"), plain(said))


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
