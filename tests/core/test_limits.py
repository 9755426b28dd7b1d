"""Limits by name, and calendar windows: their names, their beginnings and ends, across time zones and clock changes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.limits import WINDOWS, Limit, LimitScope, Window, limits_of, window_end, window_name, window_start

ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Pacific/Apia", "Australia/Lord_Howe"]


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def test_limits_have_the_names_of_their_settings() -> None:
    settings = {"requests_per_minute": 60, "usd_per_month": 500, "concurrency": 4, "time_zone": "Europe/Berlin"}
    limits = limits_of(settings | {"tokens_per_day": None, "on_outage": "closed"})
    assert [limit.name for limit in limits] == ["requests_per_minute", "usd_per_month", "concurrency"]
    assert {limit.zone for limit in limits} == {"Europe/Berlin"}
    assert {limit.on_outage for limit in limits} == {"closed"}
    assert [limit.heals_with_time for limit in limits] == [True, False, True]
    assert limits_of({}) == ()


def test_a_scope_is_named_with_its_kind() -> None:
    assert str(LimitScope("team", "search", (Limit("requests", 5, "minute"),))) == "team search"


@pytest.mark.parametrize(
    ("window", "zone", "now", "name", "ends"),
    [
        ("minute", "UTC", "2026-11-26T09:41:59.9Z", "2026-11-26T09:41", "2026-11-26T09:42:00Z"),
        ("hour", "Asia/Kolkata", "2026-11-26T09:41:00Z", "2026-11-26T09", "2026-11-26T10:00:00Z"),
        ("day", "Europe/Berlin", "2026-11-26T23:30:00Z", "2026-11-27", "2026-11-28T00:00:00+01:00"),
        ("day", "Europe/Berlin", "2026-03-29T12:00:00Z", "2026-03-29", "2026-03-30T00:00:00+02:00"),  # 23 hours
        ("day", "America/New_York", "2026-11-01T12:00:00Z", "2026-11-01", "2026-11-02T00:00:00-05:00"),  # 25 hours
        ("week", "UTC", "2026-11-29T12:00:00Z", "2026-11-23", "2026-11-30T00:00:00Z"),
        ("month", "UTC", "2026-02-28T12:00:00Z", "2026-02", "2026-03-01T00:00:00Z"),
        ("month", "Europe/Berlin", "2026-12-31T23:30:00Z", "2027-01", "2027-02-01T00:00:00+01:00"),
    ],
)
def test_a_window_follows_the_calendar_of_its_zone(window: Window, zone: str, now: str, name: str, ends: str) -> None:
    assert window_name(window, zone, at(now)) == name
    assert window_end(window, zone, at(now)) == at(ends)


@given(
    st.sampled_from(WINDOWS),
    st.sampled_from(ZONES),
    st.floats(min_value=datetime(2020, 1, 2, tzinfo=UTC).timestamp(), max_value=4e9),
)
def test_windows_follow_each_other_without_gap_or_overlap(window: Window, zone: str, now: float) -> None:
    start, end = window_start(window, zone, now).timestamp(), window_end(window, zone, now)
    assert start <= now < end
    assert window_start(window, zone, end).timestamp() == end
    assert window_name(window, zone, end) != window_name(window, zone, now)
    assert window_name(window, zone, start) == window_name(window, zone, now)
    assert end - start <= timedelta(days=32).total_seconds()


def test_a_day_that_the_calendar_left_out_ends_the_previous_one() -> None:
    # Samoa had no 30 December 2011.
    now = datetime(2011, 12, 29, 12, tzinfo=ZoneInfo("Pacific/Apia")).timestamp()
    assert window_end("day", "Pacific/Apia", now) == at("2011-12-31T00:00:00+14:00")
