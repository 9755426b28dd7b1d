"""The consumer counts each hour once, stores an event for a new model, and notices name it once."""

from __future__ import annotations

from typing import Any

from gateway.config.loading import parse
from gateway.core.notice import Notice
from gateway.features.models.notice_source import ModelNotices
from gateway.features.models.origins import BASELINE_H
from gateway.features.models.rows import HOUR_S, stored_counts
from gateway.features.models.work import ModelHourKeeper
from gateway.features.task import TaskContext, TaskWorker
from gateway.scoring.registry import BuiltScorers
from gateway.store.query import reading
from gateway.store.store import Store

NOW = 1_764_001_800.0
HOUR = int(NOW // HOUR_S)
CONFIG = "open: true\nupstreams: {a: {kind: fake}}\nmodels: {m: {targets: [{upstream: a, model: m}]}}\n"


def week(exchange: Any) -> list[Any]:
    """Calls of nine days, every eighth hour; since a few hours ago, another model answers."""
    old = [
        exchange("1", received=(HOUR - hours) * HOUR_S + 60.0 + at, model_returned="m-1", fingerprint="fp_1")
        for hours in range(8, BASELINE_H + 48, 8)
        for at in range(2)
    ]
    new = {"model_returned": "m-2", "fingerprint": "fp_1"}
    return [*old, *(exchange("1", received=(HOUR - 2) * HOUR_S + at, **new) for at in range(30))]


async def notices(opened: Store, now: float) -> list[Notice]:
    absent: Any = None
    context = TaskContext(parse(CONFIG), opened, absent, absent, BuiltScorers({}, {}), absent, "c")
    return list(await ModelNotices(context).look(now))


async def test_a_new_model_is_an_event_and_a_notice(store: Any, exchange: Any) -> None:
    made = week(exchange)
    store.write(*made, exchange("1", received=NOW - 60))
    async with Store(store.url) as opened:
        keeper = ModelHourKeeper(TaskWorker(opened, "one", lambda: NOW))
        other = ModelHourKeeper(TaskWorker(opened, "two", lambda: NOW))
        assert await keeper.count_next()
        assert not await other.count_next(), "one consumer does it"
        while await keeper.count_next():
            pass
        found = await notices(opened, NOW)
        assert [notice.id for notice in await notices(opened, NOW + 3600)] == [notice.id for notice in found]
    with reading(store.url) as connection:
        assert max(stored_counts(connection, 0)) == HOUR - 1
    named = [notice for notice in found if not notice.id.startswith("model:week")]
    assert [notice.severity for notice in named] == ["warning"]
    assert "model returned m-2, before m-1" in named[0].text


async def test_an_hour_waits_until_its_calls_are_stored(store: Any, exchange: Any) -> None:
    store.write(exchange("1", received=NOW - 2 * HOUR_S, model_returned="m-1"))
    async with Store(store.url) as opened:
        assert not await ModelHourKeeper(TaskWorker(opened, "one", lambda: NOW)).count_next()
        later = NOW + 21 * HOUR_S
        assert await ModelHourKeeper(TaskWorker(opened, "one", lambda: later)).count_next(), "it waits 20 hours at most"


async def test_a_week_without_a_change_is_a_sentence(store: Any, exchange: Any) -> None:
    store.write(exchange("1", received=NOW - 7 * 86_400, model_returned="m-1"), exchange("1", received=NOW))
    async with Store(store.url) as opened:
        assert await notices(opened, NOW) == [], "a week that nobody watched is not summed up"
        keeper = ModelHourKeeper(TaskWorker(opened, "one", lambda: NOW))
        while await keeper.count_next():
            pass
        [weekly] = await notices(opened, NOW)
    assert (weekly.severity, weekly.data["changes"]) == ("info", 0)
    assert weekly.text.startswith("Nothing changed")
