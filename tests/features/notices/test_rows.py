"""Deliveries in the store."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gateway.features.notices.rows import (
    WebhookDelivery,
    add_deliveries,
    count_deliveries,
    due_deliveries,
    first_deliveries,
    save_delivery,
)
from tests.features.ramp.deliveries import deliveries_of

ONE = WebhookDelivery("ramp_1-0", "ops", "swap", '{"type":"ramp.advanced"}', created=10.0, due=10.0)


def test_a_delivery_is_added_once_and_kept_as_it_is(store: Any) -> None:
    store.run(lambda c: add_deliveries(c, [ONE, replace(ONE, webhook="chat")]))
    store.run(lambda c: save_delivery(c, replace(ONE, state="delivered", attempts=1, ended=11.0)))
    store.run(lambda c: add_deliveries(c, [ONE]))
    found = store.run(lambda c: deliveries_of(c, "swap"))
    assert found == [replace(ONE, webhook="chat"), replace(ONE, state="delivered", attempts=1, ended=11.0)]
    assert store.run(count_deliveries) == {("ops", "delivered"): 1, ("chat", "pending"): 1}
    assert store.run(first_deliveries) == {"ops": 10.0, "chat": 10.0}


def test_due_deliveries_are_pending_and_of_known_receivers(store: Any) -> None:
    later = replace(ONE, event="ramp_2-0", due=99.0)
    gone = replace(ONE, webhook="gone")
    store.run(lambda c: add_deliveries(c, [ONE, later, gone]))
    assert store.run(lambda c: due_deliveries(c, ["ops"], 50.0, 9)) == [ONE]
    assert store.run(lambda c: due_deliveries(c, ["ops"], 99.0, 9)) == [ONE, later]
    assert store.run(lambda c: due_deliveries(c, ["ops"], 99.0, 1)) == [ONE]


def test_an_ended_delivery_is_never_changed(store: Any) -> None:
    store.run(lambda c: add_deliveries(c, [ONE]))
    dead = replace(ONE, state="dead", attempts=8, ended=20.0, error="HTTP 500")
    store.run(lambda c: save_delivery(c, dead))
    store.run(lambda c: save_delivery(c, replace(ONE, state="delivered", attempts=9, ended=30.0)))
    assert store.run(lambda c: deliveries_of(c, "swap")) == [dead]
