"""Calls a day of each target, from the usage."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from fixtures.retirements import TODAY, use, use_week
from sqlalchemy import Connection

from gateway.core.exchange import Target
from gateway.features.retirement.traffic import DailyCalls, daily_calls
from gateway.store import engine

OLD = Target("openai", "gpt-4o-mini")


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Connection]:
    """An empty store."""
    opened = engine.writer(f"sqlite:///{tmp_path}/gateway.db")
    with opened.begin() as connection:
        yield connection
    opened.dispose()


def test_an_empty_store_has_no_calls(connection: Connection) -> None:
    assert daily_calls(connection, TODAY) == DailyCalls({})


def test_it_is_the_mean_of_the_week_before_today(connection: Connection) -> None:
    use_week(connection, TODAY, 700)
    use(connection, TODAY - timedelta(days=1), 70, alias="code")
    use(connection, TODAY, 9_999)
    use(connection, TODAY - timedelta(days=8), 9_999)
    found = daily_calls(connection, TODAY)
    assert found.of("chat", OLD) == 700
    assert found.of("code", OLD) == 10
    assert found.of("chat", Target("openai", "gpt-4o")) == 0


def test_days_before_the_first_call_do_not_count(connection: Connection) -> None:
    use(connection, TODAY - timedelta(days=2), 100)
    assert daily_calls(connection, TODAY).of("chat", OLD) == 50


def test_the_first_day_has_the_calls_so_far(connection: Connection) -> None:
    use(connection, TODAY, 40)
    assert daily_calls(connection, TODAY).of("chat", OLD) == 40


def test_only_calls_of_clients_count(connection: Connection) -> None:
    use_week(connection, TODAY, 100)
    use_week(connection, TODAY, 1_000, experiment="swap", arm="candidate")
    use_week(connection, TODAY, 1_000, scorer="quality")
    assert daily_calls(connection, TODAY).of("chat", OLD) == 100
