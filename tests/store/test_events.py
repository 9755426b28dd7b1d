"""Events of a deployment: each once, newest last, at most as many as asked for."""

from __future__ import annotations

from gateway.store.events import DeploymentEvent, add_events, config_event, events_since, forget_events, newest_event
from gateway.store.query import reading
from gateway.store.store import Store

AT = 1_764_000_000.0


async def test_an_event_is_stored_once_and_the_newest_are_read(store):
    made = [DeploymentEvent(f"deploy:{i}", AT + i, "deploy", str(i), f"gateway {i}") for i in range(5)]
    same = config_event("aa11bb22", AT + 9), config_event("aa11bb22", AT + 11)
    async with Store(store.url) as opened:
        await opened.run(lambda c: add_events(c, [*made, *same, made[0]]))
        with reading(store.url) as connection:
            assert [e.subject for e in events_since(connection, AT, 3)] == ["3", "4", "aa11bb22"]
            assert [e.subject for e in events_since(connection, AT + 4, 9)] == ["4", "aa11bb22"]
            assert newest_event(connection, "deploy") == made[4]
            assert newest_event(connection, "ramp") is None
        await opened.run(lambda c: forget_events(c, AT + 4))
        with reading(store.url) as connection:
            assert len(events_since(connection, 0.0, 99)) == 2
