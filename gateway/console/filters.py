"""How figures, times and text become words on a page. Pure; the filters of the templates."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

NONE = "–"


def count(value: float | None) -> str:
    """With narrow blanks between thousands."""
    return NONE if value is None else f"{value:,.0f}".replace(",", "\u202f")


def score(value: float | None) -> str:
    return NONE if value is None or math.isnan(value) else f"{value:.3f}".rstrip("0").rstrip(".")


def percent(value: float | None) -> str:
    if value is None:
        return NONE
    return f"{100 * value:.2f} %" if 0 < abs(value) < 0.1 else f"{100 * value:.1f} %"


def usd(value: float | None) -> str:
    """Cents where there are any; small amounts keep three digits."""
    if value is None:
        return NONE
    return (
        f"${value:,.2f}"
        if value == 0 or abs(value) >= 0.1
        else f"${value:.3g}"
        if abs(value) >= 1e-4
        else f"${value:.1e}"
    )


def seconds(value: float | None) -> str:
    if value is None:
        return NONE
    return f"{1000 * value:.0f} ms" if value < 1 else f"{value:.2f} s" if value < 100 else f"{value:.0f} s"


def moment(unix: float | None) -> str:
    """2026-11-26 09:31:07, UTC."""
    return NONE if unix is None else f"{datetime.fromtimestamp(unix, UTC):%Y-%m-%d %H:%M:%S}"


def iso(unix: float) -> str:
    return datetime.fromtimestamp(unix, UTC).isoformat(timespec="seconds")


def hour(unix: float) -> str:
    """09:00, UTC."""
    return f"{datetime.fromtimestamp(unix, UTC):%H:%M}"


def shortened(text: str | None, most: int = 120) -> str:
    """The beginning, in one line."""
    line = " ".join((text or "")[: 4 * most].split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def pair(value: str) -> tuple[str, str]:
    """An option of a choice whose title is its value."""
    return value, value


def worst_first(scorer: str) -> tuple[str, str]:
    return scorer, f"worst first by {scorer}"


FILTERS: Mapping[str, Callable[..., Any]] = {
    "count": count, "score": score, "percent": percent, "usd": usd, "seconds": seconds, "moment": moment, "iso": iso,
    "hour": hour, "shortened": shortened, "pair": pair, "worst_first": worst_first,
}  # fmt: skip
