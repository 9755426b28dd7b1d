"""The consumer keeps the sums of past hours, the newest first, also after their exchanges are gone."""

from __future__ import annotations

from gateway.features.task import TaskWorker
from gateway.features.today.changes import HOURS
from gateway.features.today.rows import HOUR_S, stored_begins, stored_hours
from gateway.features.today.work import SETTLED_H, HourHistoryKeeper
from gateway.store.query import reading
from gateway.store.store import Store

NOW = 1_764_001_800.0
SETTLED = NOW // HOUR_S * HOUR_S - SETTLED_H * HOUR_S


async def test_each_hour_is_stored_once_it_is_settled(store, exchange):
    at = (SETTLED + 60, SETTLED - HOUR_S + 60, SETTLED + HOUR_S)
    store.write(*(exchange("1", received=received) for received in at))
    async with Store(store.url) as opened:
        keeper = HourHistoryKeeper(TaskWorker(opened, "one", lambda: NOW), days=1)
        other = HourHistoryKeeper(TaskWorker(opened, "two", lambda: NOW), days=1)
        assert await keeper.store_one()
        assert not await other.store_one(), "one consumer does it"
        while await keeper.store_one():
            pass
    with reading(store.url) as connection:
        begins = stored_begins(connection, 0.0)
        found = stored_hours(connection, [SETTLED, SETTLED - HOUR_S])
    assert (len(begins), max(begins)) == (HOURS, SETTLED)
    assert [cells["chat", "local/small"].errors.n for cells in found.values()] == [1, 1]
