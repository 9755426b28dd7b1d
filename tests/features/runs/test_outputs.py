"""The schema of runs; test_cli.py hands real outputs to it."""

from __future__ import annotations

from gateway.features.runs.outputs import run_schema
from gateway.features.runs.rows import CALL_COLUMNS


def test_a_call_of_a_run_has_its_columns_and_counts_of_tools() -> None:
    calls = run_schema()["properties"]["calls"]["items"]["properties"]
    assert set(calls) == {*CALL_COLUMNS.split(), "scores", "failed"}
    assert "time" in calls["tool_calls"]["items"]["required"]
