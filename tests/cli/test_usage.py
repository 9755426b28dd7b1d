"""`gateway usage`, as it is typed."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.core.exchange import Tally
from gateway.core.usage import UsageCell, UsageCount, UsageSums
from gateway.evals.store import engine
from gateway.evals.store.write import ScoredBatch, write

Run = Callable[..., subprocess.CompletedProcess[str]]
CELL = UsageCell("2026-11-26", "k1", "web", "search", "", "", "chat", "openai", "gpt-x", "", "", "")


@pytest.fixture
def filled(gateway: Run, tmp_path: Path) -> Run:
    """The command, in a directory whose store has the usage of two teams."""
    gateway("migrate")
    sums = UsageSums(2, 0, 0, 100, 40, 20, 5, 1_500_000)
    tally = Tally("g1", 1.0, 0, usage=(UsageCount(CELL, sums), UsageCount(CELL._replace(team="ads"), sums)))
    opened = engine.writer(engine.default_url(tmp_path / ".gateway"))
    with opened.begin() as connection:
        write(connection, ScoredBatch({}, tallies=[("1-0", tally)]), 1.0)
    opened.dispose()
    return gateway


def test_usage_is_summed_filtered_and_exported(filled: Run) -> None:
    period = ("--since", "2026-11-01", "--until", "2026-11-30")
    table = filled("usage", *period).stdout
    assert [line.split()[:2] for line in table.splitlines()[2:]] == [
        ["client", "ads"],
        ["client", "search"],
        ["total", "4"],
    ]
    found = json.loads(filled("usage", *period, "--by", "team,day", "--where", "team=search", "--json").stdout)
    assert [(row["team"], row["day"], row["usd"]) for row in found["rows"]] == [("search", "2026-11-26", 0.0015)]
    lines = filled("usage", *period, "--by", "key", "--csv").stdout.splitlines()
    assert lines == [
        "key,key_name,calls,unpriced_calls,estimated_calls,input_tokens,cached_input_tokens,output_tokens,"
        "reasoning_tokens,usd",
        "k1,web,4,0,0,200,80,40,10,0.003",
    ]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--by", "teem"], 'no dimension "teem"; did you mean "team"'),
        (["--where", "team"], "no condition; write team=search"),
        (["--since", "yesterday"], "neither a day nor a time span"),
        (["--csv", "--json"], "give --csv or --json"),
    ],
)
def test_a_mistake_is_a_usage_error(gateway: Run, options: list[str], expected: str) -> None:
    gateway("migrate")
    result = gateway("usage", *options)
    assert (result.returncode, result.stdout) == (2, "")
    assert expected in " ".join(result.stderr.replace("│", " ").split())
