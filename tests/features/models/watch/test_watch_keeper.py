"""The consumer takes each hour once, stores an event for a change, and notices and reports name it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gateway.config.loading import parse
from gateway.features.models.notice_source import ModelNotices
from gateway.features.models.report import models_in_use, to_dict
from gateway.features.models.rows import (
    HOUR_S,
    MOST_WATCHED,
    newest_watched_hour,
    store_watch,
    store_watch_hour,
    stored_watch_hours,
    stored_watches,
    watched_calls,
)
from gateway.features.models.watch.cells import BASELINE_H
from gateway.features.models.watch.hourly_calls import TargetKey
from gateway.features.models.watch.monitor import WatchErrors
from gateway.features.models.watch.target_watch import TargetWatch, advanced, watch_from_json, watch_to_json
from gateway.features.models.watch.watch_keeper import WatchKeeper
from gateway.features.task import TaskContext, TaskWorker
from gateway.scoring.registry import BuiltScorers
from gateway.store.events import add_events, config_event
from gateway.store.query import reading
from gateway.store.store import Store
from tests.features.models.watch.watched_calls import FIRST, drawn, hours

CONFIG = "open: true\nupstreams: {local: {kind: fake}}\nmodels: {chat: {targets: [{upstream: local, model: small}]}}\n"
TARGET = TargetKey("chat", "local", "small")
NEXT = FIRST + BASELINE_H
NOW = (NEXT + 8) * HOUR_S + 1_800.0


async def learned(opened: Store) -> None:
    """A store whose watch has had two weeks of calls, and whose newest hour is the last of them."""
    plain = {"user": None, "scores": {}, "cached_tokens": None, "first_token_s": None, "output_tokens": 5}
    made = [
        replace(hour, cells=[replace_form(cell) for cell in hour.cells])
        for hour in hours(1, 14, n=20, longer=0.3, input_tokens=3, **plain)
    ]
    state, _ = advanced(TargetWatch(FIRST), made, WatchErrors(1, 9))

    def store(connection: Any) -> None:
        for hour in made:
            store_watch_hour(connection, TARGET, hour)
        store_watch(connection, TARGET, NEXT - 1, watch_to_json(state))
        store_watch(connection, TargetKey("", "", ""), NEXT - 1, "{}")

    await opened.run(store)


def replace_form(cell: Any) -> Any:
    """The cell with the form of the fixture's calls, whose prompts have three tokens."""
    return cell._replace(customer="web", form="chat 0")


async def test_longer_answers_are_an_event_a_notice_and_a_line(store: Any, exchange: Any) -> None:
    made = [
        exchange("1" * min(300, call.length), received=(NEXT + hour) * HOUR_S + at)
        for hour in range(8)
        for at, call in enumerate(drawn(generator(hour), 25, longer=0.8))
    ]
    store.write(*made)
    async with Store(store.url) as opened:
        await learned(opened)
        changed = config_event("4e1f00aa", NEXT * HOUR_S - 60.0)
        await opened.run(lambda connection: add_events(connection, [changed]))
        keeper = WatchKeeper(TaskWorker(opened, "one", lambda: NOW))
        other = WatchKeeper(TaskWorker(opened, "two", lambda: NOW))
        assert await keeper.take_next()
        assert not await other.take_next(), "one consumer does it"
        while await keeper.take_next():
            pass
        absent: Any = None
        config = parse(CONFIG)
        context = TaskContext(config, opened, absent, absent, BuiltScorers({}, {}), absent, "c")
        found = [notice for notice in await ModelNotices(context).look(NOW) if "week" not in notice.id]
    with reading(store.url) as connection:
        assert newest_watched_hour(connection) == NEXT + 5, "the next one has to settle"
        watch = watch_from_json(stored_watches(connection)[TARGET])
        kept = stored_watch_hours(connection, TARGET, 0)
        report = models_in_use(connection, config, NOW)
    assert [(notice.severity, notice.data["change"]) for notice in found] == [("warning", "watch")]
    assert "the length of answers rose from" in found[0].text
    assert "Probably your config: config 4e1f00 at that time." in found[0].text
    assert watch.change is not None
    assert watch.change.cause == "config"
    assert watch.begun == watch.change.since == NEXT
    assert len(kept) == BASELINE_H, "hours before the last two weeks are deleted"
    assert to_dict(report)["models"] == [], "the page is of usage, and there is none"


def generator(seed: int) -> Any:
    import numpy as np

    return np.random.default_rng(100 + seed)


async def test_calls_are_read_with_their_scores(store: Any, exchange: Any) -> None:
    store.write(exchange("123", received=NOW, pi=0.5, first_token_s=0.3), exchange("4", received=NOW, role="shadow"))
    with reading(store.url) as connection:
        [call] = list(watched_calls(connection, int(NOW // HOUR_S)))
    assert (call.target, call.weight, call.length, call.opening) == (TARGET, 2.0, 3, "123")
    assert call.values()["failures"] == 0.0


async def test_a_busy_target_is_read_in_part(store: Any, exchange: Any) -> None:
    n = 2 * MOST_WATCHED
    made = [exchange("1", received=NOW + at / n, u=0.5 * (at + 0.5) / n, pi=0.5) for at in range(n)]
    store.write(*made, exchange("2", received=NOW, alias="rare", u=0.999))
    with reading(store.url) as connection:
        calls = list(watched_calls(connection, int(NOW // HOUR_S)))
    busy = [call for call in calls if call.target == TARGET]
    assert len(busy) == MOST_WATCHED
    assert sum(call.weight for call in busy) == 2 * n, "all calls, of which half were recorded"
    assert [call.weight for call in calls if call.target.alias == "rare"] == [1.0]
