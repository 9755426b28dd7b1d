"""`gateway usage`, as it is typed. tests/test_cli.py runs it as a program."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from fixtures.json_outputs import conforms
from typer.testing import CliRunner, Result

from gateway.cli import app
from gateway.core.exchange import Tally
from gateway.core.usage import UsageCell, UsageCount, UsageSums
from gateway.store import engine
from gateway.store.location import default_url
from gateway.store.write import ScoredBatch, write

Run = Callable[..., Result]
CELL = UsageCell("2026-11-26", "k1", "web", "search", "", "", "chat", "openai", "gpt-x", "", "", "")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory whose store has the usage of two teams."""
    data = tmp_path_factory.mktemp("usage")
    sums = UsageSums(2, 0, 0, 100, 40, 20, 5, 1_500_000)
    tally = Tally("g1", 1.0, 0, usage=(UsageCount(CELL, sums), UsageCount(CELL._replace(team="ads"), sums)))
    opened = engine.writer(default_url(data))
    with opened.begin() as connection:
        write(connection, ScoredBatch({}, tallies=[("1-0", tally)]), 1.0)
    opened.dispose()
    return data


@pytest.fixture
def usage(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command where no gateway.yaml is."""
    monkeypatch.chdir(tmp_path)
    return lambda *options: CliRunner().invoke(app, ["usage", "--data", str(store), *options])


def test_usage_is_summed_filtered_and_exported(usage: Run) -> None:
    period = ("--since", "2026-11-01", "--until", "2026-11-30")
    rows = [line.split()[:2] for line in usage(*period).stdout.splitlines()[2:]]
    assert rows == [["client", "ads"], ["client", "search"], ["total", "4"]]
    found = conforms("usage", usage(*period, "--by", "team,day", "--where", "team=search", "--json").stdout)
    assert [(row["team"], row["day"], row["usd"]) for row in found["rows"]] == [("search", "2026-11-26", 0.0015)]
    assert usage(*period, "--by", "key", "--csv").stdout.splitlines() == [
        "key,key_name,calls,unpriced_calls,estimated_calls,input_tokens,cached_input_tokens,output_tokens,"
        "reasoning_tokens,usd,gpu_seconds,tiered_calls",
        "k1,web,4,0,0,200,80,40,10,0.003,0.0,0",
    ]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--by", "teem"], 'no dimension "teem"; did you mean "team"'),
        (["--where", "team"], "not a condition; write team=search"),
        (["--since", "yesterday"], "neither a day nor a time span"),
        (["--csv", "--json"], "give --csv or --json"),
    ],
)
def test_a_mistake_is_a_usage_error(usage: Run, options: list[str], expected: str) -> None:
    result = usage(*options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert expected in " ".join(result.stderr.replace("│", " ").split())


@pytest.mark.parametrize("where", ["key=k1", "key=web"])
def test_a_key_is_found_by_its_id_and_by_its_name(usage: Run, where: str) -> None:
    period = ("--since", "2026-11-01", "--until", "2026-11-30")
    found = conforms("usage", usage(*period, "--where", where, "--json").stdout)
    assert found["total"]["calls"] == 4
    assert conforms("usage", usage("--since", "2026-12-01", "--where", where, "--json").stdout)["total"]["calls"] == 0


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("team=serch", 'no usage of team=serch was ever recorded; did you mean "search"?'),
        ("team=nosuch", "no usage of team=nosuch was ever recorded; there are ads, search"),
        ("key=wob", 'no usage of key=wob was ever recorded; did you mean "web"?'),
        ("experiment=swap", "no usage of experiment=swap was ever recorded"),
    ],
)
def test_a_value_that_was_never_seen_is_an_error(usage: Run, where: str, expected: str) -> None:
    result = usage("--since", "2026-11-01", "--where", where)
    assert (result.exit_code, result.stdout) == (2, "")
    assert expected in " ".join(result.stderr.replace("│", " ").split())
