"""`gateway follow` with real stores: each exchange is in exactly one file, however the program ends."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path

import orjson
import pytest
from fixtures.program_command import gateway_command
from sqlalchemy import update

from gateway.core.errors import CannotRun
from gateway.core.exchange import Feedback
from gateway.features.calls.exports.follow import FileRotation, FollowDirectory, Follower, follow
from gateway.features.calls.rows.export import FollowSource
from gateway.store import retention
from gateway.store.query import ExchangeFilter
from gateway.store.tables import exchanges

PATIENCE_S = 60.0


def ids(directory: Path) -> list[str]:
    """Ids in the order of the files and of their lines."""
    files = sorted(directory.glob("exchanges-*.jsonl"))
    return [orjson.loads(line)["id"] for file in files for line in file.read_bytes().splitlines()]


class Steps:
    """A follower that is driven by hand: a file for each step."""

    def __init__(self, store, directory: Path, **filter) -> None:
        self.source = FollowSource(store.url, ExchangeFilter(**filter), 0.0)
        self.directory = FollowDirectory(directory, "jsonl")
        self.said: list[str] = []
        self.stop = threading.Event()
        self.stop.set()
        self.follower = Follower(self.source, self.directory, "jsonl", FileRotation(1, 1e9), self.said.append)

    def step(self) -> None:
        while self.follower._step():
            pass
        self.follower.run(self.stop)

    def close(self) -> None:
        self.source.close()
        self.directory.close()


def test_every_exchange_is_written_once_also_after_a_restart(store, exchange, tmp_path):
    sent = []
    for n in range(3):
        batch = [exchange("1", received=1000.0 - n) for _ in range(700)]
        store.write(*batch)
        sent += batch
        steps = Steps(store, tmp_path / "to")
        steps.step()
        steps.close()
    assert Counter(ids(tmp_path / "to")) == Counter(e.id for e in sent)


def test_a_file_that_a_kill_left_incomplete_is_written_again(store, exchange, tmp_path):
    """The part of a file, and a cursor that is older than the newest file."""
    to = tmp_path / "to"
    store.write(*(exchange("1") for _ in range(5)))
    steps = Steps(store, to)
    steps.step()
    old = (to / "cursor.json").read_bytes()
    store.write(*(exchange("1") for _ in range(5)))
    steps.step()
    steps.close()
    (to / "cursor.json").write_bytes(old)
    (to / "exchanges.part").write_bytes(b'{"id": "half')
    store.write(exchange("1"))
    steps = Steps(store, to)
    assert not (to / "exchanges.part").exists()
    steps.step()
    steps.close()
    assert sorted(Counter(ids(to)).values()) == [1] * 11


def test_retention_and_an_erased_last_row_lose_and_repeat_nothing(store, exchange, tmp_path):
    """SQLite gives the number of a deleted last row to the next one."""
    steps = Steps(store, tmp_path / "to")
    old, last, new = ([exchange("1", received=t) for _ in range(3)] for t in (1.0, 2.0, 3.0))
    store.write(*old)
    steps.step()
    store.write(*last)
    steps.step()
    store.run(lambda c: retention._remove(c, [e.id for e in (*old, *last)]))
    time.sleep(0.01)  # of the clock that `stored` is read from
    store.write(*new)
    steps.step()
    steps.close()
    assert Counter(ids(tmp_path / "to")) == Counter(e.id for e in (*old, *last, *new))


def test_feedback_that_comes_later_has_files_of_its_own(store, exchange, tmp_path):
    one = exchange("1")
    store.write(one)
    steps = Steps(store, tmp_path / "to")
    steps.step()
    store.write(Feedback(one.id, "f1", "web", 5000.0, "thumb", 1.0, comment="good"))
    steps.step()
    steps.step()
    steps.close()
    (file,) = (tmp_path / "to").glob("feedback-*.jsonl")
    (row,) = map(orjson.loads, file.read_bytes().splitlines())
    assert (row["feedback_id"], row["exchange_id"], row["value"], row["comment"]) == ("f1", one.id, 1.0, "good")


def test_a_row_names_the_model_and_the_server_of_its_answer(store, exchange, tmp_path):
    store.write(exchange("1", model_returned="m-2026-11-01", fingerprint="fp_7"))
    steps = Steps(store, tmp_path / "to")
    steps.step()
    steps.close()
    (path,) = (tmp_path / "to").glob("exchanges-*.jsonl")
    row = orjson.loads(path.read_bytes())
    assert (row["model_returned"], row["fingerprint"]) == ("m-2026-11-01", "fp_7")


def test_a_filter_narrows_the_followed_calls(store, exchange, tmp_path):
    steps = Steps(store, tmp_path / "to", alias="fast")
    for _ in range(2):
        store.write(exchange("1"), exchange("1", alias="fast"))
        steps.step()
    steps.close()
    assert len(ids(tmp_path / "to")) == 2


def test_files_belong_to_their_owner_and_parquet_is_readable(store, exchange, tmp_path):
    import pyarrow.parquet

    sent = [exchange("1"), exchange("0.5")]
    store.write(*sent, Feedback(sent[0].id, "f1", "web", 5000.0, "thumb", 1.0))
    source = FollowSource(store.url, ExchangeFilter(), 0.0)
    directory = FollowDirectory(tmp_path / "to", "parquet")
    follower = Follower(source, directory, "parquet", FileRotation(), [].append)
    follower._step()
    stop = threading.Event()
    stop.set()
    follower.run(stop)
    (file,) = directory.path.glob("exchanges-*.parquet")
    assert sorted(pyarrow.parquet.read_table(file)["score_stated"].to_pylist()) == [0.5, 1.0]
    assert file.stat().st_mode & 0o077 == 0
    (given,) = directory.path.glob("feedback-*.parquet")
    assert pyarrow.parquet.read_table(given)["exchange_id"].to_pylist() == [sent[0].id]
    source.close()
    directory.close()


def test_one_process_writes_to_a_directory(tmp_path):
    directory = FollowDirectory(tmp_path, "jsonl")
    with pytest.raises(CannotRun, match="another process exports to"):
        FollowDirectory(tmp_path, "jsonl")
    directory.close()


def test_a_transaction_that_is_still_writing_holds_the_export_back(store, exchange, tmp_path):
    """This transaction commits after another that began later: both are written, neither twice."""
    if not store.url.startswith("postgresql"):
        pytest.skip("SQLite has one writer at a time")
    early, late = exchange("1"), exchange("1")
    steps = Steps(store, tmp_path / "to")
    with store.engine.connect() as slow:
        slow.exec_driver_sql("INSERT INTO counters VALUES ('x', 1)")
        began = time.time()
        store.write(late)
        steps.step()
        assert ids(tmp_path / "to") == [], "the slow transaction is older"
        slow.exec_driver_sql("DELETE FROM counters WHERE name = 'x'")
        slow.commit()
    store.write(early)
    stored_before = update(exchanges).where(exchanges.c.id == early.id).values(stored=began)
    store.run(lambda c: c.execute(stored_before))
    steps.step()
    steps.close()
    assert Counter(ids(tmp_path / "to")) == Counter([early.id, late.id])


def test_the_program_survives_kill_9_at_any_moment(store, exchange, tmp_path):
    """Killed while exchanges arrive; every exchange is in one complete file at the end."""
    to, chance = tmp_path / "to", random.Random(5)
    words = ["follow", str(to), "--rotate-s", "1", "--settle-s", "0", "--config", str(_config(tmp_path, store.url))]
    command = gateway_command(*words)
    sent: list[str] = []
    for last in (False, True):
        program = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert program.stderr is not None
        assert program.stderr.readline(), "it says where it begins"
        for _ in range(3):
            batch = [exchange("1") for _ in range(200)]
            store.write(*batch)
            sent += [e.id for e in batch]
            time.sleep(chance.random() * 0.4)
        if not last:
            program.kill()
            program.communicate()
    deadline = time.monotonic() + PATIENCE_S
    while len(ids(to)) < len(sent) and time.monotonic() < deadline:
        time.sleep(0.1)
    program.send_signal(signal.SIGTERM)
    program.communicate(timeout=PATIENCE_S)
    assert program.returncode == 0
    assert Counter(ids(to)) == Counter(sent)


def _config(directory: Path, url: str) -> Path:
    path = directory / "gateway.yaml"
    upstreams = {"u": {"kind": "openai", "base_url": "http://x/v1"}}
    models = {"m": {"targets": [{"upstream": "u", "model": "m"}]}}
    config = {"open": True, "upstreams": upstreams, "models": models, "store": {"url": url}}
    path.write_bytes(orjson.dumps(config))
    return path


def test_stopping_completes_the_file_that_is_being_written(store, exchange, tmp_path):
    store.write(exchange("1"))
    source = FollowSource(store.url, ExchangeFilter(), 0.0)
    stop, said = threading.Event(), []
    thread = threading.Thread(target=follow, args=(source, tmp_path / "to", "jsonl", FileRotation(), said.append, stop))
    thread.start()
    deadline = time.monotonic() + PATIENCE_S
    while not (tmp_path / "to" / "exchanges.part").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    stop.set()
    thread.join(PATIENCE_S)
    source.close()
    assert len(ids(tmp_path / "to")) == 1
    assert said[0].startswith("begins with the oldest exchange")
    assert os.listdir(tmp_path / "to").count("exchanges.part") == 0
