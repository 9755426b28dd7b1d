"""A stream or a store that lasts less than a day is warned of."""

from __future__ import annotations

import time

import pytest
from fixtures.retirements import config_of
from fixtures.stores import Ledgerbook
from sqlalchemy import update

from gateway.features.status.capacity import config_findings
from gateway.features.status.rows import RecordedBytes, recorded_bytes
from gateway.scoring.registry import build_all
from gateway.store.tables import exchanges

BODY = b'{"messages":[{"role":"user","content":"' + b"x" * 500_000 + b'"}]}'


def cautions(stored: Ledgerbook, **sections: object) -> list[str]:
    config = config_of(**sections)
    return list(config_findings(config, build_all(config.scorers), stored.url).cautions)


def test_nothing_is_said_without_calls(store: Ledgerbook) -> None:
    assert cautions(store, stream={"max_mb": 0.001}, store={"max_gb": 0.000001}) == []


@pytest.mark.parametrize(("processes", "expected"), [(1, "the stream lasts 12 hours"), (2, "")])
def test_the_stream_of_a_process_is_measured_against_its_records(
    store: Ledgerbook, exchange, processes, expected
) -> None:
    now = time.time()
    store.write(
        *(exchange(request=BODY, received=now - at * 1800, incarnation=f"g{at % processes}") for at in range(1, 5))
    )
    # 2 MB in 2 hours are 24 MB a day.
    found = cautions(store, stream={"max_mb": 12.1})
    assert len(found) == bool(expected)
    assert all(expected in each and each.startswith("stream.max_mb: at the mean") for each in found)


def test_the_store_keeps_at_least_the_hour_that_is_never_deleted(store: Ledgerbook, exchange) -> None:
    store.write(*(exchange(request=BODY, received=time.time() - at * 1800) for at in range(1, 5)))
    assert [c.rpartition(", ")[2] for c in cautions(store, store={"max_gb": 0.006})] == ["the store keeps 6 hours"]
    assert cautions(store, store={"max_gb": 0.0001})[0].endswith("keeps 1 hours")
    assert cautions(store, store={"max_gb": 0.03}) == []
    store.write(exchange(request=BODY, received=time.time() - 90_000))  # not of the last day
    assert cautions(store, store={"max_gb": 0.03}) == []


@pytest.mark.dialect
def test_the_mean_begins_with_the_first_call_that_has_its_texts(store: Ledgerbook, exchange) -> None:
    now = time.time()
    emptied, *kept = (exchange(request=BODY, received=now - at * 3600) for at in (12, 6, 3))
    store.write(emptied, *kept)
    store.run(lambda c: c.execute(update(exchanges).where(exchanges.c.id == emptied.id).values(bytes=0)))
    found = store.run(lambda c: recorded_bytes(c, now - 86_400, now))
    assert found == RecordedBytes(pytest.approx(4 * 2 * 503_000, rel=0.01), 1)
