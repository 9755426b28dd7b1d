"""The day on which a model ends, and the list that ships."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from importlib.resources import files

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.providers import PROVIDERS
from gateway.core.retirements import Retirement, listed, retirement_of

TABLE = orjson.loads(files("gateway.core").joinpath("list_retirements.json").read_bytes())
DAY = date(2027, 1, 9)


@pytest.mark.parametrize(
    ("today", "said"),
    [
        (date(2026, 11, 29), "retires in 41 days (2027-01-09)"),
        (date(2027, 1, 8), "retires in 1 day (2027-01-09)"),
        (DAY, "retires today (2027-01-09)"),
        (date(2027, 1, 10), "retired 1 day ago (2027-01-09)"),
        (date(2027, 2, 9), "retired 31 days ago (2027-01-09)"),
    ],
)
def test_the_days_are_counted_from_today(today: date, said: str) -> None:
    assert Retirement(DAY).when(today) == said


@given(st.dates(date(1990, 1, 1), date(2090, 1, 1)), st.integers(-9999, 9999))
def test_a_day_begins_at_midnight_in_utc(day: date, days: int) -> None:
    found = Retirement(day)
    assert datetime.fromtimestamp(found.unix_s, UTC) == datetime(day.year, day.month, day.day, tzinfo=UTC)
    assert found.days(day - timedelta(days=days)) == days


def test_the_exact_name_wins_over_the_longest_star() -> None:
    short, long, exact = (Retirement(DAY, name) for name in ("short", "long", "exact"))
    known = {"ft:*": short, "ft:gpt-x:*": long, "ft:gpt-x:own": exact, "gpt-x": exact}
    assert retirement_of("ft:gpt-x:own", known) == exact
    assert retirement_of("ft:gpt-x:other", known) == long
    assert retirement_of("ft:gpt-y:own", known) == short
    assert retirement_of("gpt-x-2027-01-01", known) is None
    assert retirement_of("ft:*", {"gpt-x": exact}) is None


@pytest.mark.parametrize("kind", TABLE["retirements"])
def test_every_kind_is_a_provider_with_a_source(kind: str) -> None:
    assert PROVIDERS[kind].base_url
    assert not PROVIDERS[kind].local, "nobody but its owner retires a model of a local engine"
    assert all(re.fullmatch(r"https://[\w.-]+/\S+", url) for url in (TABLE["sources"][kind], *TABLE["evidence"][kind]))
    assert TABLE["evidence"][kind]
    assert all(
        row.source == f"{TABLE['sources'][kind]}, by the list of {TABLE['date']}" for row in listed(kind).values()
    )


def test_every_row_has_a_day_and_perhaps_a_successor() -> None:
    assert date.fromisoformat(TABLE["date"]) >= date(2026, 11, 29)
    assert set(TABLE["sources"]) == set(TABLE["evidence"]) == set(TABLE["retirements"])
    for kind, rows in TABLE["retirements"].items():
        assert list(rows) == sorted(rows), f"{kind}: sort the rows, so that a renewed list shows as a diff"
        for model, row in listed(kind).items():
            assert model.count("*") == model.endswith("*"), model
            assert row.successor is None or retirement_of(row.successor, {model: row}) is None, model


def test_no_successor_retires_before_what_it_succeeds() -> None:
    for kind in TABLE["retirements"]:
        known = listed(kind)
        for model, row in known.items():
            then = None if row.successor is None else retirement_of(row.successor, known)
            assert then is None or then.day > row.day, model


def test_a_published_retirement_is_listed() -> None:
    found = listed("openai")["gpt-4o-mini"]
    assert (found.day, found.successor) == (date(2027, 1, 14), "gpt-6-luna")
    assert retirement_of("ft:gpt-4o-mini-2024-07-18:acme::x", listed("openai")) == found
    assert listed("vllm") == {}
