"""Usage as people and programs read it: rows, totals, and what is not known."""

from __future__ import annotations

import csv
import io
from datetime import UTC, date, datetime

import pytest
from rich.console import Console

from gateway.core.time_span import InvalidDuration
from gateway.core.usage import UsageSums
from gateway.features.usage import summary as reports
from gateway.features.usage.summary import UsageReport
from gateway.store.usage import UsageRow

NOW = datetime(2026, 11, 26, 23, 30, tzinfo=UTC)
PRICED = UsageSums(1234567, 0, 0, 100, 40, 20, 5, 2_500_000_000)
PART = UsageSums(10, 4, 1, 100, 0, 20, 0, 1_000_000)
UNKNOWN = UsageSums(2, 2, 0, 30, 0, 4, 0, 0)


def a_report(*rows: tuple[dict[str, str], UsageSums], by: tuple[str, ...] = ("team",)) -> UsageReport:
    total = UsageSums()
    for _, sums in rows:
        total = total.plus(sums)
    found = [UsageRow(values, sums) for values, sums in rows]
    return UsageReport(date(2026, 11, 1), date(2026, 11, 30), by, found, UsageRow({}, total))


def text_of(report: UsageReport) -> str:
    out = io.StringIO()
    Console(file=out, width=160).print(reports.table(report))
    return out.getvalue()


def test_a_table_ends_with_the_total() -> None:
    shown = text_of(a_report(({"team": "search"}, PRICED), ({"team": ""}, PRICED)))
    lines = shown.splitlines()
    assert lines[0].strip() == "2026-11-01 to 2026-11-30 (UTC)"
    assert lines[1].split() == ["team", "calls", "input", "cached", "output", "reasoning", "USD"]
    assert lines[2].split() == ["search", "1", "234", "567", "100", "40", "20", "5", "2.5000"]
    assert lines[3].startswith("–")
    assert lines[4].split() == ["total", "2", "469", "134", "200", "80", "40", "10", "5.0000"]


def test_an_unknown_cost_is_never_shown_as_zero() -> None:
    shown = text_of(a_report(({"model": "own"}, UNKNOWN), ({"model": "both"}, PART), by=("model",)))
    own, both, total = (line.split() for line in shown.splitlines()[2:5])
    assert own[-1] == "unknown"
    assert both[-2:] == total[-2:] == ["≥", "0.0010"]
    assert "6 calls have no known cost" in shown
    assert "tokens of 1 calls are partly estimated" in shown


def test_a_total_alone_is_one_line() -> None:
    assert text_of(a_report(by=())).splitlines()[2].split() == ["0"] * 5 + ["0.0000"]


def test_gpu_seconds_and_moved_calls_are_shown_where_there_are_some() -> None:
    moved = PRICED._replace(nano_gpu_seconds=1_500_000_000_000, tiered_calls=7)
    found = text_of(a_report(({"team": "search"}, moved)))
    assert "GPU s" in found
    assert found.splitlines()[3].split()[-2:] == ["1", "500.0"]
    assert "7 calls went to a cheaper target, because a budget was nearly used up." in found
    assert "GPU s" not in text_of(a_report(({"team": "search"}, PRICED)))


def test_a_key_is_shown_with_its_name() -> None:
    rows = [({"key": "key_1", "key_name": "web"}, PRICED), ({"key": "batch", "key_name": "batch"}, PRICED)]
    shown = text_of(a_report(*rows, by=("key",)))
    assert "key_1 (web)" in shown
    assert "batch (batch)" not in shown


def test_json_has_rows_and_total() -> None:
    found = reports.as_json(a_report(({"team": "search"}, PART), ({"team": "ads"}, UNKNOWN)))
    assert (found["since"], found["until"], found["by"]) == ("2026-11-01", "2026-11-30", ["team"])
    assert found["rows"][0] == {
        "team": "search", "calls": 10, "unpriced_calls": 4, "estimated_calls": 1, "input_tokens": 100,
        "cached_input_tokens": 0, "output_tokens": 20, "reasoning_tokens": 0, "usd": 0.001,
        "gpu_seconds": 0.0, "tiered_calls": 0,
    }  # fmt: skip
    assert found["rows"][1]["usd"] is None
    assert (found["total"]["calls"], found["total"]["usd"]) == (12, 0.001)


def test_csv_is_read_back_and_no_formula() -> None:
    rows = [
        ({"key": "k1", "key_name": "=cmd()", "day": "2026-11-26"}, PART),
        ({"key": "k2", "key_name": "b, c", "day": ""}, UNKNOWN),
    ]
    read = list(csv.DictReader(io.StringIO(reports.as_csv(a_report(*rows, by=("key", "day"))))))
    assert list(read[0]) == ["key", "key_name", "day", *reports.NUMBERS]
    assert (read[0]["key_name"], read[1]["key_name"]) == ("'=cmd()", "b, c")
    assert (read[0]["usd"], read[1]["usd"]) == ("0.001", "")


@pytest.mark.parametrize(
    ("since", "until", "expected"),
    [
        (None, None, ("2026-11-01", "2026-11-26")),
        ("2026-10-15", "2026-10-31", ("2026-10-15", "2026-10-31")),
        ("7d", None, ("2026-11-19", "2026-11-26")),
    ],
)
def test_days_are_dates_or_spans(since: str | None, until: str | None, expected: tuple[str, str]) -> None:
    assert tuple(map(str, reports.days(since, until, NOW))) == expected


@pytest.mark.parametrize("text", ["yesterday", "2026-13-01", "", "99999999999999d"])
def test_an_invalid_day_names_the_expected_form(text: str) -> None:
    with pytest.raises(InvalidDuration, match="write 2026-11-01, 7d or 2w"):
        reports.days(text, None, NOW)
