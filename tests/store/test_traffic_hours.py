"""The quarter-hours in which a model had calls, read from a store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from sqlalchemy import event

from gateway.core.exchange import Exchange
from gateway.store.query import reading
from gateway.store.traffic_hours import QUARTER_S, quarters_with_calls


def test_quarters_with_calls_are_found_once(keep: Callable[..., str], exchange: Callable[..., Exchange]) -> None:
    """The calls are of this alias, within the time, and served."""
    at = [100 * QUARTER_S + 1.0, 100 * QUARTER_S + 5.0, 101 * QUARTER_S, 107 * QUARTER_S + 899.0]
    records = [exchange("1", received=seconds) for seconds in at]
    records += [replace(records[0], id="other", alias="other", received=103.0 * QUARTER_S)]
    records += [replace(records[0], id="shadow", role="shadow", received=104.0 * QUARTER_S)]
    with reading(keep(records)) as connection:
        alias = records[0].alias
        assert quarters_with_calls(connection, alias, 0.0, 1e9) == [100, 101, 107]
        assert quarters_with_calls(connection, alias, 101.0 * QUARTER_S, 107.0 * QUARTER_S) == [101]
        assert quarters_with_calls(connection, "nobody", 0.0, 1e9) == []


def test_queries_are_bounded_by_quarters(keep: Callable[..., str], exchange: Callable[..., Exchange]) -> None:
    """Many calls of a quarter-hour take one query."""
    records = [exchange("1", received=100.0 * QUARTER_S + n) for n in range(200)]
    asked: list[str] = []
    with reading(keep(records)) as connection:
        event.listen(connection, "before_cursor_execute", lambda *args: asked.append(args[2]))
        assert quarters_with_calls(connection, records[0].alias, 0.0, 1e9) == [100]
    assert len(asked) == 2
