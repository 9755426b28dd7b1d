"""Imported calls are stored with the scores of all scorers that call no model; what stops it leaves whole batches."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import orjson
import pytest
from fixtures import traces

from gateway.config.scorers import ScorerConfig
from gateway.consumer.ingest import IngestTarget, ingest
from gateway.core.errors import CannotRun
from gateway.core.exchange import Exchange
from gateway.features.traces.files import records_of
from gateway.features.traces.model import exchange_of
from gateway.store.query import reading


def calls(n: int) -> list[Exchange]:
    return [exchange_of(each.call) for each in records_of(traces.chats(n), "f") if each.call is not None]


async def test_a_signal_ends_it_after_the_batch_and_a_rerun_completes_it(tmp_path: Path) -> None:
    target = IngestTarget(
        f"sqlite:///{tmp_path / 'gateway.db'}", {"length": ScorerConfig(), "valid_json": ScorerConfig()}
    )
    shown: list[int] = []

    def watch(done: int) -> None:
        shown.append(done)
        if done < 150:
            os.kill(os.getpid(), signal.SIGTERM)

    stopped = await ingest(calls(300), target, watch)
    assert stopped.stopped
    assert stopped.done == stopped.new == shown[-1] < 300
    complete = await ingest(calls(300), target, shown.append)
    assert (complete.stopped, complete.done, complete.new) == (False, 300, 300 - stopped.new)
    with reading(target.store) as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM exchanges").scalar_one() == 300
        assert connection.exec_driver_sql("SELECT count(*) FROM scores WHERE scorer = 'length'").scalar_one() == 300


async def test_a_store_that_cannot_be_opened_says_so(tmp_path: Path) -> None:
    (tmp_path / "gateway.db").write_bytes(orjson.dumps("no database") * 1000)
    with pytest.raises(CannotRun, match="cannot be opened as a store"):
        await ingest(calls(1), IngestTarget(f"sqlite:///{tmp_path / 'gateway.db'}", {}), lambda done: None)
