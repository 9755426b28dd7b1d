"""`gateway samples`, `export`, `follow` and `erase`."""

from __future__ import annotations

import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml
from fixtures.json_outputs import conforms

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--since", "yesterday"], "Invalid value for --since: 'yesterday'"),
        (["--where", "("], "Invalid value for --where: at 2: expected a comparison"),
    ],
)
def test_an_unreadable_filter_is_a_usage_error(gateway: Run, options: list[str], expected: str) -> None:
    gateway("migrate")
    result = gateway("samples", *options)
    assert (result.returncode, result.stdout) == (2, "")
    assert expected in " ".join(result.stderr.split())


def test_an_empty_store_has_no_samples(gateway: Run) -> None:
    gateway("migrate")
    assert conforms("samples", gateway("samples", "--json").stdout) == []
    missing = gateway("samples", "--id", "nope")
    assert missing.returncode == 1
    assert "no exchange nope in the store" in missing.stderr


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--format", "xml"], 'no form "xml"; expected one of jsonl, openai-chat, openai-evals, dpo, csv, parquet'),
        (["--format", "parquet"], "parquet is binary: give a file"),
    ],
)
def test_a_format_that_cannot_be_written_is_a_usage_error(gateway: Run, options: list[str], expected: str) -> None:
    result = gateway("export", *options)
    assert (result.returncode, result.stdout) == (2, "")
    assert expected in " ".join(result.stderr.split())


def test_without_a_store_nothing_is_exported(gateway: Run, tmp_path: Path) -> None:
    result = gateway("export", "--out", "calls.jsonl")
    assert (result.returncode, result.stdout) == (1, "")
    assert "no store at" in result.stderr
    assert not (tmp_path / "calls.jsonl").exists()


def test_calls_are_followed_in_forms_that_files_can_be_cut_in(gateway: Run, tmp_path: Path) -> None:
    result = gateway("follow", "to", "--format", "csv")
    assert (result.returncode, result.stdout) == (2, "")
    assert 'no form "csv"; expected jsonl or parquet' in " ".join(result.stderr.split())
    assert not (tmp_path / "to").exists()


BODIES = (b"{}", b'{"user":"zoe"}')


@pytest.fixture
def recorded(tmp_path: Path, stream_url: str, stream_name: str, filled_store: Callable[[Path], None]) -> Path:
    """A folder with a gateway.yaml and a store with calls of ada and bob."""
    url = f"sqlite:///{tmp_path / 'data' / 'gateway.db'}"
    (tmp_path / "gateway.yaml").write_text(
        yaml.safe_dump({"stream": {"url": stream_url, "name": stream_name}, "store": {"url": url}})
    )
    filled_store(tmp_path / "data" / "gateway.db")
    return tmp_path


@pytest.fixture
def filled_store() -> Callable[[Path], None]:
    """Fills a store in a data directory with exchanges of several callers."""
    from gateway.core.completion import completion_of
    from gateway.core.exchange import Exchange, Target, new_id
    from gateway.store import engine, write
    from gateway.store.rows import ScoredExchange
    from gateway.store.write import ScoredBatch

    def made(n: int, caller: str) -> Exchange:
        id_ = new_id()
        return Exchange(
            id_, 1.0, caller, "chat", "chat", Target("local", "m"), False, BODIES[n], b"{}", 200,
            "ok", 0.5, id_, 0.1, 1.0, "default", f"g-{caller}", n + 1,
        )  # fmt: skip

    def fill(path: Path) -> None:
        opened = engine.writer(f"sqlite:///{path}")
        calls = [made(n, caller) for caller in ("ada", "bob") for n in range(2)]
        batch = ScoredBatch({}, [ScoredExchange(e, completion_of(e), []) for e in calls], [], [])
        with opened.begin() as connection:
            write.write(connection, batch, 1000.0)
        opened.dispose()

    return fill


def callers(folder: Path) -> list[str]:
    with closing(sqlite3.connect(folder / "data" / "gateway.db")) as connection:
        return sorted(row[0] for row in connection.execute("SELECT caller FROM exchanges"))


def test_a_dry_run_is_the_default(gateway: Run, recorded: Path) -> None:
    result = gateway("erase", "--caller", "ada")
    assert (result.returncode, result.stdout) == (0, "2 exchanges\n")
    assert "dry run: nothing was erased" in result.stderr
    assert callers(recorded) == ["ada", "ada", "bob", "bob"]


def test_erasing_names_the_places_that_it_does_not_reach(gateway: Run, recorded: Path) -> None:
    result = gateway("erase", "--caller", "ada", "--yes")
    assert (result.returncode, result.stdout) == (0, "2 exchanges deleted\n")
    assert "not reached: files of `gateway export`" in result.stderr
    assert "append-only file" in result.stderr
    assert "audit line" in result.stderr
    assert callers(recorded) == ["bob", "bob"]
    again = gateway("erase", "--caller", "ada")
    assert again.stdout == "nothing is recorded\n"


def test_a_user_is_erased_over_all_callers(gateway: Run, recorded: Path) -> None:
    result = gateway("erase", "--user", "zoe", "--yes", "--json")
    found: dict[str, Any] = conforms("erase", result.stdout)
    assert found["erased"] is True
    assert found["counts"] == {"exchanges deleted": 2}
    assert callers(recorded) == ["ada", "bob"]


@pytest.mark.parametrize("options", [[], ["--caller", "a", "--user", "b"]])
def test_exactly_one_selection_is_needed(gateway: Run, options: list[str]) -> None:
    result = gateway("erase", *options)
    assert (result.returncode, result.stdout) == (2, "")
    assert "give one of --caller, --user and --exchange" in result.stderr


def test_without_a_stream_server_nothing_is_erased(gateway: Run, tmp_path: Path, filled_store: Any) -> None:
    filled_store(tmp_path / ".gateway" / "gateway.db")
    result = gateway("erase", "--caller", "ada", "--yes")
    assert result.returncode == 1
    assert "nothing more was erased" in result.stderr
