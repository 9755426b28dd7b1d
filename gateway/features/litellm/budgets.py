"""LiteLLM's budgets as limits of this gateway: the calendar window that replaces a duration, and the amounts carried
over. Pure.

A budget of LiteLLM rolls: `30d` begins when the key was made. This gateway has calendar windows. The amount spent
therefore counts against the limit until LiteLLM would have reset it, in each calendar window that is open before then.
Where no window fits, the next stricter one is used.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

N = TypeVar("N", int, float)
HOUR_S, DAY_S = 3_600, 86_400
_UNITS = {"s": 1, "m": 60, "h": HOUR_S, "d": DAY_S, "w": 7 * DAY_S, "mo": 30 * DAY_S}
_DURATION = re.compile(r"(\d{1,9})(mo|[smhdw])")
_WINDOWS = (("minute", 60), ("hour", HOUR_S), ("day", DAY_S), ("week", 7 * DAY_S), ("month", 31 * DAY_S))
_SHORTEST_MONTH_S = 28 * DAY_S
NEVER = datetime(9999, 12, 31, tzinfo=UTC)
MOST_COUNT, MOST_USD = 10**15, 1e12
"""Amounts above which LiteLLM means that there is no limit."""


@dataclass(frozen=True, slots=True)
class RollingBudget:
    """A budget as LiteLLM keeps it."""

    usd: float
    duration: str | None
    """`30d`, `24h`, `1mo`; None means that it is never reset."""
    spent: float
    """US dollars, since it was last reset."""
    resets: datetime | None
    """Time of the next reset; None if LiteLLM has not set it yet."""


@dataclass(slots=True)
class CarriedLimits:
    """Limits as the admin API takes them, with what has no equal."""

    limits: dict[str, Any] = field(default_factory=dict)
    changed: list[str] = field(default_factory=list)
    closed: bool = False
    """A limit of 0 refuses everything: the record is to be disabled."""

    def count(self, name: str, amount: int | None) -> None:
        """Adds a limit of requests, tokens or calls in flight. None if there is none."""
        if amount is None or amount > MOST_COUNT:
            return
        if amount <= 0:
            self.closed = True
            self.changed.append(f"{name} of {amount} allows nothing: it is disabled")
            return
        self.limits[name] = amount

    def spend(self, budget: RollingBudget, now: datetime) -> None:
        """Adds a limit of money; of two in one window, the one with less left applies."""
        if budget.usd > MOST_USD:
            return
        if budget.usd <= 0:
            self.closed = True
            self.changed.append(f"a budget of ${budget.usd:g} allows nothing: it is disabled")
            return
        found = _calendar(budget, now)
        if found.remark:
            self.changed.append(found.remark)
        known = self.limits.get(found.name)
        if known is None or found.left < known - self._carried(found.name):
            self.limits[found.name] = found.usd
            carried = self.limits.setdefault("carried", {})
            carried.pop(found.name, None)
            if found.carried > 0:
                carried[found.name] = {"amount": found.carried, "until": found.until.strftime("%Y-%m-%dT%H:%M:%SZ")}
            if not carried:
                del self.limits["carried"]

    def soft(self, usd: float | None, duration: str | None) -> None:
        """Adds a budget that only notices know."""
        if usd is None or not 0 < usd <= MOST_USD:
            return
        length_s = seconds_of(duration or "30d") or _SHORTEST_MONTH_S
        window = "day" if length_s <= DAY_S else "week" if length_s <= 7 * DAY_S else "month"
        self.limits["soft"] = {f"usd_per_{window}": usd}

    def _carried(self, name: str) -> float:
        return float(self.limits.get("carried", {}).get(name, {}).get("amount", 0.0))


@dataclass(frozen=True, slots=True)
class _CalendarBudget:
    name: str
    """`usd_per_month`."""
    usd: float
    carried: float
    until: datetime
    remark: str = ""

    @property
    def left(self) -> float:
        return self.usd - self.carried


def _calendar(budget: RollingBudget, now: datetime) -> _CalendarBudget:
    if budget.duration is None:
        text = f"${budget.usd:g} without a period: per month here, of which ${budget.spent:.2f} stay spent in each"
        return _CalendarBudget("usd_per_month", budget.usd, max(0.0, budget.spent), NEVER, text)
    length_s = seconds_of(budget.duration)
    if length_s is None:
        text = f'the period "{budget.duration}" is unknown: ${budget.usd:g} per month here'
        return _CalendarBudget("usd_per_month", budget.usd, max(0.0, budget.spent), NEVER, text)
    until = budget.resets or datetime.fromtimestamp(now.timestamp() + length_s, UTC)
    spent = max(0.0, budget.spent) if until > now else 0.0
    window, window_s = next(((n, s) for n, s in _WINDOWS if length_s <= s), ("month", 30 * DAY_S))
    name = f"usd_per_{window}"
    if length_s > window_s:  # longer than a month: its part of a month
        usd = round(budget.usd * window_s / length_s, 6)
        left = min(usd, budget.usd - spent)
        text = f"${budget.usd:g} per {budget.duration}: ${usd:g} per month here"
        return _CalendarBudget(name, usd, max(0.0, usd - left), until, text)
    exact = length_s == window_s or (window == "month" and length_s >= _SHORTEST_MONTH_S)
    text = "" if exact else f"${budget.usd:g} per {budget.duration}: per {window} here, which allows less"
    return _CalendarBudget(name, budget.usd, spent, until, text)


def seconds_of(duration: str) -> int | None:
    """Seconds of a duration such as `30d`; None if it is none."""
    found = _DURATION.fullmatch(duration)
    return None if found is None or int(found[1]) == 0 else int(found[1]) * _UNITS[found[2]]


def limits_of_row(
    row: Mapping[str, Any], shared: Mapping[str, Any], windows: Iterable[RollingBudget], now: datetime
) -> CarriedLimits:
    """The limits of a key, team or organization.

    row: its own columns. shared: the row of the budget that it is linked to; its own values come first. windows: the
    budgets of its `budget_limits`, each with a period of its own.
    """
    found = CarriedLimits()
    for name, column in (
        ("requests_per_minute", "rpm_limit"),
        ("tokens_per_minute", "tpm_limit"),
        ("tokens_per_day", "tpd_limit"),
        ("concurrency", "max_parallel_requests"),
    ):
        found.count(name, _first(row, shared, column))
    of = row if row.get("max_budget") is not None else shared
    if of.get("max_budget") is not None:
        found.spend(
            RollingBudget(of["max_budget"], of["budget_duration"], row["spend"], utc(of["budget_reset_at"])), now
        )
    for window in windows:
        found.spend(window, now)
    found.soft(_first(row, shared, "soft_budget"), _first(row, shared, "budget_duration"))
    return found


def budgets_of_models(row: Mapping[str, Any], shared: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The budget and the rates of each model: `model_max_budget`, whose values are amounts or objects, with
    `model_rpm_limit` and `model_tpm_limit` of the metadata."""
    budgets = _object(row.get("model_max_budget")) or _object(shared.get("model_max_budget"))
    found = {name: dict(_object(of) or {"budget_limit": of}) for name, of in budgets.items()}
    for rate in ("rpm_limit", "tpm_limit"):
        for name, amount in _object(_object(row.get("metadata")).get(f"model_{rate}")).items():
            found.setdefault(name, {}).setdefault(rate, amount)
    return found


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def limits_of_model(of: Mapping[str, Any], duration: str | None, now: datetime) -> CarriedLimits:
    """The limits of calls to one model. What was spent of them is in LiteLLM's cache alone, so they count from 0.

    of: a value of budgets_of_models. duration: of the record's budget, for an amount without a period of its own.
    """
    found = CarriedLimits()
    found.count("requests_per_minute", _number(of.get("rpm_limit"), int))
    found.count("tokens_per_minute", _number(of.get("tpm_limit"), int))
    usd = _number(of.get("budget_limit", of.get("max_budget")), float)
    if usd is not None:
        period = of.get("time_period") or of.get("budget_duration") or duration
        found.spend(RollingBudget(usd, None if period is None else str(period), 0.0, None), now)
    return found


def _number(value: Any, kind: type[N]) -> N | None:
    """The number, which LiteLLM also stores as a text; None if there is none."""
    try:
        return None if value is None or isinstance(value, bool) else kind(float(value))
    except (TypeError, ValueError, OverflowError):
        return None


def _first(row: Mapping[str, Any], shared: Mapping[str, Any], column: str) -> Any:
    """The row's own value, else that of the budget it is linked to."""
    return row[column] if row.get(column) is not None else shared.get(column)


def utc(moment: datetime | None) -> datetime | None:
    """A time of LiteLLM's database, which are in UTC without saying so."""
    return None if moment is None else moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
