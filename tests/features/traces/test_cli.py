"""`gateway ingest` as a user runs it."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import orjson
import pytest
from fixtures import traces
from fixtures.json_outputs import conforms

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def stored(tmp_path: Path) -> Callable[[str], list[tuple[object, ...]]]:
    """Queries the store of the verb's own data directory."""

    def query(sql: str) -> list[tuple[object, ...]]:
        [path] = tmp_path.rglob("gateway.db")
        with closing(sqlite3.connect(path)) as connection:
            return connection.execute(sql).fetchall()

    return query


def test_a_file_is_stored_scored_and_found_once(
    run_verb: Run, tmp_path: Path, stored: Callable[[str], list[tuple[object, ...]]]
) -> None:
    (tmp_path / "t.json").write_bytes(orjson.dumps(traces.chats(3)))
    first = run_verb("ingest", "t.json")
    assert (first.returncode, first.stdout.splitlines()[:2]) == (
        0, ["3 calls in 3 spans: gpt-x 3", "3 stored, 0 were stored before"],
    )  # fmt: skip
    assert "length 3" in first.stdout
    assert "the probability with which their traces were kept is unknown" in first.stderr
    rows = stored("SELECT * FROM exchanges"), stored("SELECT * FROM scores ORDER BY score_id")
    assert len(rows[1]) >= 3
    again = conforms("ingest", run_verb("ingest", "t.json", "--json").stdout)
    assert (again["stored"], again["stored_before"]) == (0, 3)
    assert (stored("SELECT * FROM exchanges"), stored("SELECT * FROM scores ORDER BY score_id")) == rows
    assert stored("SELECT role, pi FROM exchanges") == [("imported", None)] * 3
    assert stored("SELECT count(*) FROM score_cells") == stored("SELECT count(*) FROM counters") == [(0,)]
    listed = conforms("samples", run_verb("samples", "--where", "role=imported", "--json").stdout)
    assert len(listed) == 3
    shown = run_verb("samples", "--id", listed[0]["id"]).stdout
    assert "Capital of France?" in shown
    assert "sampled with π unknown in stratum imported" in shown
    exported = run_verb("export", "--where", "role=imported").stdout.splitlines()
    assert [json.loads(line)["pi"] for line in exported] == [None] * 3


def test_imports_are_frozen_for_a_replay_apart_from_served_calls(run_verb: Run, tmp_path: Path) -> None:
    (tmp_path / "t.json").write_bytes(orjson.dumps(traces.chats(2)))
    (tmp_path / "gateway.yaml").write_text(
        'open: true\nupstreams: {u: {kind: vllm, base_url: "http://127.0.0.1:1/v1"}}\n'
        "models: {gpt-x: {targets: [{upstream: u, model: m}]}}\n"
    )
    assert run_verb("ingest", "t.json").returncode == 0
    served = run_verb("replay", "a.jsonl", "--from-log", "gpt-x")
    assert (served.returncode, "has no call" in served.stderr) == (1, True)
    frozen = run_verb("replay", "b.jsonl", "--from-log", "gpt-x", "--imported")
    assert frozen.returncode == 0, frozen.stderr
    assert len((tmp_path / "b.jsonl").read_text().splitlines()) == 2
    assert run_verb("replay", "b.jsonl", "--imported").returncode == 2


def test_imports_are_labelled_apart_from_served_calls(run_verb: Run, tmp_path: Path) -> None:
    (tmp_path / "t.json").write_bytes(orjson.dumps(traces.chats(3)))
    assert run_verb("ingest", "t.json").returncode == 0
    words = ("label", "export", "--scorer", "refusal", "--next", "2")
    assert run_verb(*words).stdout.count("Capital of France?") == 0
    assert run_verb(*words, "--imported").stdout.count("Capital of France?") == 2


def test_a_dry_run_stores_nothing(run_verb: Run, tmp_path: Path) -> None:
    (tmp_path / "t.json").write_bytes(orjson.dumps(traces.chats(2)))
    done = run_verb("ingest", "t.json", "--dry-run")
    assert (done.returncode, done.stdout) == (0, "2 calls in 2 spans: gpt-x 2\n")
    assert "nothing was stored" in done.stderr
    assert not list(tmp_path.rglob("gateway.db"))


def test_a_file_that_is_not_there_exits_with_2(run_verb: Run) -> None:
    done = run_verb("ingest", "nofile")
    assert (done.returncode, done.stdout) == (2, "")
    assert "nofile: there is no such file or directory. Nothing was stored" in " ".join(done.stderr.split())


def test_one_broken_line_stores_nothing_of_any_file(run_verb: Run, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(orjson.dumps(traces.chats(2)))
    (tmp_path / "b.jsonl").write_bytes(orjson.dumps(traces.chats(1)) + b"\n{broken")
    done = run_verb("ingest", "a.json", "b.jsonl")
    assert done.returncode == 2
    assert "b.jsonl: line 2: not JSON" in done.stderr
    assert "Nothing was stored" in done.stderr
    assert not list(tmp_path.rglob("gateway.db"))


def test_calls_that_are_left_out_are_counted_with_the_remedy(run_verb: Run, tmp_path: Path) -> None:
    whole = traces.chat_attributes(**{"gen_ai.input.messages": "[]"})
    (tmp_path / "t.json").write_bytes(orjson.dumps(traces.export(traces.span("bare", attributes=whole))))
    done = run_verb("ingest", "t.json")
    assert (done.returncode, done.stdout) == (1, "0 calls in 1 spans\n")
    assert "1 left out: has no prompt" in done.stderr
    assert "t.json: line 1: span" in done.stderr


def test_a_judge_is_named_with_the_command_that_runs_it(run_verb: Run, tmp_path: Path) -> None:
    (tmp_path / "gateway.yaml").write_text(
        'open: true\nupstreams: {u: {kind: vllm, base_url: "http://127.0.0.1:1/v1"}}\n'
        "models: {chat: {targets: [{upstream: u, model: m}]}}\n"
        "scorers: {length: {}, helpful: {use: judge, model: chat, criterion: helpful}}\n"
    )
    (tmp_path / "t.json").write_bytes(orjson.dumps(traces.chats(1)))
    done = run_verb("ingest", "t.json")
    assert done.returncode == 0, done.stderr
    assert "gateway score --scorers helpful --where 'role=imported'" in done.stderr
    assert "scored: length 1" in done.stdout
