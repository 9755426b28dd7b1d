"""Hooks of features in a running consumer: figures of one that raises stay, and those of the others go on."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from fixtures.rooms import QUICK

from gateway.consumer.consumer import Consumer
from gateway.features.hooks import Figures, Hooks, ShownFigures, joined
from gateway.store.store import Store


class Readings:
    """Shows how often it was read; every reading but the first raises where `faulty`."""

    def __init__(self, *, faulty: bool) -> None:
        self.n, self.faulty = 0, faulty

    async def __call__(self, _: Store) -> ShownFigures:
        self.n += 1
        if self.faulty and self.n > 1:
            raise RuntimeError("planted")
        n, field = self.n, "length" if self.faulty else "waiting"
        return lambda figures, _: replace(figures, **{field: 1000 + n})


async def test_figures_of_a_hook_that_raises_stay_and_the_others_go_on(room: Any) -> None:
    faulty, fine = Readings(faulty=True), Readings(faulty=False)
    parts = [Hooks(figures=(Figures(name, 0.0, read),)) for name, read in (("faulty", faulty), ("fine", fine))]
    async with room.opened() as (_, context), asyncio.TaskGroup() as tasks:
        consumer = Consumer(replace(context, hooks=joined(parts)), "c1", QUICK)
        running = tasks.create_task(consumer.run())
        await room.until(lambda: faulty.n > 2 and context.metrics.figures.waiting > 1002)
        assert context.metrics.figures.length == 1001
        consumer.stop()
        await running


async def test_a_hook_that_shows_nothing_changes_no_figures(room: Any) -> None:
    readings = []

    async def read(_: Store) -> None:
        readings.append(1)

    async with room.opened() as (_, context):
        consumer = Consumer(replace(context, hooks=Hooks(figures=(Figures("silent", 0.0, read),))), "c1", QUICK)
        consumer.stop()
        await consumer.run()
    assert readings == [1]
    assert context.metrics.figures.duplicates == 0


def test_a_hook_of_which_there_is_one_is_not_lost_to_another_feature() -> None:
    one, other = Hooks(scored=lambda _: None), Hooks(scored=lambda _: None)
    assert joined([Hooks(), one]).scored is one.scored
    with pytest.raises(ValueError, match="2 features have this hook"):
        joined([one, other])
