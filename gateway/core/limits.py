"""Limits of keys, people, teams and organizations: what is limited, over which calendar window, and when a window ends.
Pure.

Both sides of a limit read this module: the gateway that enforces it and the admin API that stores it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Literal, get_args
from zoneinfo import ZoneInfo

Measure = Literal["requests", "tokens", "usd", "concurrency", "gpu_seconds"]
CalendarWindow = Literal["minute", "hour", "day", "week", "month"]
Window = Literal["minute", "hour", "day", "week", "month", "run"]
"""A calendar window, or the calls of one run."""
OnOutage = Literal["bounded", "closed", "split"]
ScopeKind = Literal["key", "person", "team", "organization", "upstream", "model", "tag", "user", "run"]
UnknownPrice = Literal["refuse", "count_tokens", "free"]

MEASURES: tuple[Measure, ...] = get_args(Measure)
WINDOWS: tuple[CalendarWindow, ...] = get_args(CalendarWindow)
_NANO = 1_000_000_000
_MANY = {"user": "u", "run": "r"}
"""Kinds of scopes of which there are many, and what begins the names of their counters."""


@dataclass(frozen=True, slots=True)
class Limit:
    measure: Measure
    amount: float
    """Requests, tokens, US dollars or GPU-seconds in one window; for `concurrency`, calls in flight in the whole
    fleet."""
    window: Window | None = None
    """Window of the amount; None for `concurrency`, which has no window."""
    zone: str = "UTC"
    """IANA time zone in which days, weeks (from Monday) and months begin."""
    on_outage: OnOutage = "bounded"
    """Rule while the stream server is unreachable: `bounded` allows its share of what was left; `closed`, nothing;
    `split`, of end users: this worker's part of the limit where the server has promised nothing."""
    carried: float = 0.0
    """Part of the amount that was used elsewhere, before the caller came here; it counts in every window until
    `carried_until`."""
    carried_until: float = 0.0
    """Unix seconds."""

    @property
    def name(self) -> str:
        """Name as in gateway.yaml: `requests_per_minute`, `usd_per_month`, `concurrency`."""
        return self.measure if self.window is None else f"{self.measure}_per_{self.window}"

    @property
    def scale(self) -> int:
        """The whole units in one of the amount, as counters have it: billionths of dollars and GPU-seconds."""
        return _NANO if self.measure in ("usd", "gpu_seconds") else 1

    def text(self, amount: float) -> str:
        """An amount for people: `$12.50`, `3,600.0 GPU-seconds`, `1,000 tokens`."""
        if self.measure == "usd":
            return f"${amount:,.2f}"
        return f"{amount:,.1f} GPU-seconds" if self.measure == "gpu_seconds" else f"{amount:,.0f} {self.measure}"

    @property
    def heals_with_time(self) -> bool:
        """Whether waiting helps soon (rate limits); False if it is a budget of money or of a longer window."""
        return self.measure == "concurrency" or self.window == "minute"


@dataclass(frozen=True, slots=True)
class LimitScope:
    """A key, a person, a team, an organization or an upstream, or those of their calls to one model, with one tag, of
    one end user or of one run, with the limits that these calls share."""

    kind: ScopeKind
    id: str
    """Stable: a rename or a rotated key keeps the amounts used. `team-search/chat` for calls of a team to a model."""
    limits: tuple[Limit, ...]
    name: str = field(default="", compare=False)
    """Name for people, where the id says nothing to them: of a key of the console, and its calls; else ""."""

    def __str__(self) -> str:
        return f"{self.kind} {self.name} ({self.id})" if self.name else f"{self.kind} {self.id}"


def limits_of(settings: Mapping[str, Any]) -> tuple[Limit, ...]:
    """The limits in a mapping such as `{"requests_per_minute": 60, "usd_per_month": 500}`.

    The settings have been validated by config.limits.LimitsConfig; values that are None are left out.
    """
    zone: str = settings.get("time_zone") or "UTC"
    on_outage: OnOutage = settings.get("on_outage") or "bounded"
    carried: Mapping[str, Any] = settings.get("carried") or {}
    found = []
    for measure in MEASURES:
        for window in (None,) if measure == "concurrency" else WINDOWS:
            name = measure if window is None else f"{measure}_per_{window}"
            amount = settings.get(name)
            if amount is not None:
                found.append(Limit(measure, float(amount), window, zone, on_outage, *_carried(carried.get(name))))
    return tuple(found)


def _carried(settings: Mapping[str, Any] | None) -> tuple[float, float]:
    """The amount that was used elsewhere, and until when it counts (Unix seconds)."""
    if settings is None:
        return 0.0, 0.0
    return float(settings["amount"]), datetime.fromisoformat(settings["until"]).timestamp()


@lru_cache(maxsize=512)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def window_start(window: Window, zone: str, now: float) -> datetime:
    """The beginning of the calendar window that holds `now` (Unix seconds), in its time zone.

    Days, weeks and months follow the zone's calendar, so a day may have 23 or 25 hours; minutes and hours follow UTC.
    """
    if window in ("minute", "hour"):
        moment = datetime.fromtimestamp(now, UTC).replace(second=0, microsecond=0)
        return moment if window == "minute" else moment.replace(minute=0)
    local = datetime.fromtimestamp(now, _zone(zone))
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    if window == "day":
        return midnight
    return midnight - timedelta(days=midnight.weekday()) if window == "week" else midnight.replace(day=1)


def window_name(window: Window, zone: str, now: float) -> str:
    """Names the window that holds `now` (Unix seconds): `2026-11`, `2026-11-23` for a day or the Monday of a week,
    `2026-11-26T09` for an hour, `2026-11-26T09:41` for a minute."""
    form = {"minute": "%Y-%m-%dT%H:%M", "hour": "%Y-%m-%dT%H", "month": "%Y-%m"}.get(window, "%Y-%m-%d")
    return window_start(window, zone, now).strftime(form)


def counter_name(scope: LimitScope, limit: Limit, now: float, window: str | None = None) -> str:
    """The name of one limit's counter, in the window that holds `now`: `team:search:usd_per_month:2026-11`; of an end
    user or a run, a digest of the scope.

    window: the name of that window, where it is known; None means that it is computed.
    """
    if scope.kind in _MANY:  # a digest, the shorter one; the id of a run is one
        whole = scope.kind == "run" and "/" not in scope.id
        digest = scope.id if whole else blake2b(scope.id.encode(), digest_size=12).hexdigest()
        name = f"{_MANY[scope.kind]}:{digest.removeprefix('run_')}:{limit.name}"
    else:
        name = f"{scope.kind}:{scope.id}:{limit.name}"
    if limit.window is None or limit.window == "run":
        return name
    return f"{name}:{window or window_name(limit.window, limit.zone, now)}"


def window_end(window: Window, zone: str, now: float) -> float:
    """The Unix time at which the window that holds `now` ends and the next one begins."""
    start = window_start(window, zone, now)
    if window in ("minute", "hour"):
        return (start + timedelta(**{f"{window}s": 1})).timestamp()
    if window == "month":
        later = start + timedelta(days=32)
        return later.replace(day=1).timestamp()
    return (start + timedelta(days=1 if window == "day" else 7)).timestamp()
