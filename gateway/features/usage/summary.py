"""`gateway usage`: tokens and costs of calls, as a table, CSV or JSON, each with its total."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gateway.core.did_you_mean import did_you_mean
from gateway.core.keys import record_kind
from gateway.core.sanitize import cell, plain
from gateway.core.time_span import InvalidDuration, seconds_of
from gateway.core.usage import UsageSums
from gateway.store.directory import all_rows
from gateway.store.query import Reading
from gateway.store.usage import DIMENSIONS, UsageRow, read_usage
from gateway.store.where import QueryError

_IN_NANO = frozenset({"nano_usd", "nano_gpu_seconds"})
_LAST = ("usd", "gpu_seconds", "tiered_calls")
NUMBERS = (*(name for name in UsageSums._fields if name not in {*_IN_NANO, *_LAST}), *_LAST)
"""The columns after the dimensions, in CSV and JSON. usd: None where no call's cost is known."""

_HEADS = ("calls", "input", "cached", "output", "reasoning", "USD")
_IN_GPU = "GPU s"


@dataclass(frozen=True, slots=True)
class UsageReport:
    """Usage of a number of days, summed by some dimensions."""

    since: date
    until: date
    """The last day."""
    by: tuple[str, ...]
    rows: Sequence[UsageRow]
    total: UsageRow
    """Sums of the calls that match the filters, each call counted once."""


def report(
    reading: Reading, by: Sequence[str], since: date, until: date, filters: Mapping[str, str] | None = None
) -> UsageReport:
    """Arguments as in read_usage. Raises QueryError."""
    chosen = dict(filters or {})
    [total] = read_usage(reading, (), since, until, **chosen)
    return UsageReport(since, until, tuple(by), read_usage(reading, by, since, until, **chosen), total)


_UNCHECKED = ("day", "month", "source")
"""Dimensions without names: a day without calls is not a mistake."""
_MOST_LISTED = 5


def resolved_filters(reading: Reading, filters: Mapping[str, str]) -> dict[str, str]:
    """The filters with ids in place of names of keys. Raises QueryError for a name of several keys, and for a value
    that neither usage nor the directory ever had; "" stands for usage without one."""
    return {
        name: value if name in _UNCHECKED or name not in DIMENSIONS or not value else _resolved(reading, name, value)
        for name, value in filters.items()
    }


def _resolved(reading: Reading, dimension: str, value: str) -> str:
    seen = {row.by[dimension]: row.by.get("key_name", "") for row in _ever(reading, dimension)}
    records = [row.record for row in all_rows(reading, deleted_since=0.0)[1] if record_kind(row.record) == dimension]
    seen |= {record.id: getattr(record, "name", "") for record in records}
    if value in seen:
        return value
    ids = sorted(id for id, name in seen.items() if name == value)
    if len(ids) > 1:
        raise QueryError(f"{len(ids)} keys have the name {value}; write the id of one: {', '.join(ids)}")
    if ids:
        return ids[0]
    known = sorted({text for pair in seen.items() for text in pair if text})
    hint = did_you_mean(value, known)
    listed = f"; there are {', '.join(known[:_MOST_LISTED])}" if known else ""
    more = f" and {len(known) - _MOST_LISTED} more" if len(known) > _MOST_LISTED else ""
    raise QueryError(f"no usage of {dimension}={value} was ever recorded{hint or listed + more}")


def _ever(reading: Reading, dimension: str) -> list[UsageRow]:
    return read_usage(reading, (dimension,), date.min, date.max)


def days(since: str | None, until: str | None, now: datetime) -> tuple[date, date]:
    """The first and the last day (UTC) of "2026-11-01", of a span such as "7d" before today, or of nothing: the current
    month until today. Raises InvalidDuration."""
    today = now.astimezone(UTC).date()
    first = today.replace(day=1) if since is None else _day(since, today)
    return first, today if until is None else _day(until, today)


def _day(text: str, today: date) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        pass
    try:
        return today - timedelta(seconds=seconds_of(text))
    except (InvalidDuration, OverflowError):
        raise InvalidDuration(f"{text!r} is neither a day nor a time span; write 2026-11-01, 7d or 2w") from None


def as_json(report: UsageReport) -> dict[str, Any]:
    return {
        "since": report.since.isoformat(),
        "until": report.until.isoformat(),
        "by": list(report.by),
        "rows": [{**row.by, **numbers(row)} for row in report.rows],
        "total": numbers(report.total),
    }


def as_csv(report: UsageReport) -> str:
    """Writes a line for each row, without the total. A text that could run as a formula gets an apostrophe."""
    names = [each for name in report.by for each in ((name, "key_name") if name == "key" else (name,))]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*names, *NUMBERS])
    for row in report.rows:
        figures = numbers(row)  # the writer leaves the place of None empty
        writer.writerow([*(cell(row.by[name]) for name in names), *(figures[name] for name in NUMBERS)])
    return out.getvalue()


def numbers(row: UsageRow) -> dict[str, int | float | None]:
    """The members of NUMBERS."""
    figures = {name: n for name, n in row.sums._asdict().items() if name not in _IN_NANO}
    return {**figures, "usd": row.usd, "gpu_seconds": row.gpu_seconds}


def table(report: UsageReport) -> RenderableType:
    """The rows and their total, for people."""
    drawn = Table(box=None, pad_edge=False, header_style="bold", show_footer=bool(report.by))
    for i, name in enumerate(report.by):
        drawn.add_column(name, footer="total" if i == 0 else "")
    in_gpu = report.total.sums.nano_gpu_seconds > 0
    heads = (*_HEADS, _IN_GPU) if in_gpu else _HEADS
    for head, total in zip(heads, _figures(report.total, in_gpu), strict=True):
        drawn.add_column(head, footer=total if report.by else "", justify="right", no_wrap=True)
    for row in report.rows if report.by else [report.total]:
        drawn.add_row(*(_shown(name, row.by) for name in report.by), *_figures(row, in_gpu))
    return Group(Text(f"{report.since} to {report.until} (UTC)"), drawn, *_notes(report))


def _shown(dimension: str, by: Mapping[str, str]) -> Text:
    value, name = by[dimension], by.get("key_name", "")
    if dimension == "key" and name not in ("", value):
        value = f"{value} ({name})"
    return Text(plain(value) or "–")


def _figures(row: UsageRow, in_gpu: bool) -> list[str]:
    s = row.sums
    tokens = (s.calls, s.input_tokens, s.cached_input_tokens, s.output_tokens, s.reasoning_tokens)
    counted = [*(f"{n:,}".replace(",", " ") for n in tokens), _usd(row)]
    return [*counted, f"{row.gpu_seconds:,.1f}".replace(",", " ")] if in_gpu else counted


def _usd(row: UsageRow) -> str:
    """A sum that leaves calls out is not shown as if it were complete."""
    if row.usd is None:
        return "unknown"
    return f"{'≥ ' if row.sums.unpriced_calls else ''}{row.usd:.4f}"


def _notes(report: UsageReport) -> list[Text]:
    sums, found = report.total.sums, []
    if sums.unpriced_calls:
        found.append(
            f"{sums.unpriced_calls} calls have no known cost, because a price is missing; "
            "add their models to `prices` (see --by model)."
        )
    if sums.estimated_calls:
        n = sums.estimated_calls
        found.append(f"The tokens of {n} calls are partly estimated (client gone, or no usage reported).")
    if sums.tiered_calls:
        found.append(f"{sums.tiered_calls} calls went to a cheaper target, because a budget was nearly used up.")
    if "tag" in report.by:
        found.append("A call of several tags counts under each of them; the total counts it once.")
    return [Text(line) for line in found]
