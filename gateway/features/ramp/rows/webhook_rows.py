"""The deliveries of webhooks: which are due, and what became of them. Rows only: experiments/ramp/webhooks sends."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Connection, func, select, update

from gateway.store.engine import insert
from gateway.store.tables import webhook_deliveries

DeliveryState = Literal["pending", "delivered", "dead"]
_T = webhook_deliveries.c


@dataclass(frozen=True, slots=True)
class WebhookDelivery:
    """One event for one receiver. Times in Unix seconds."""

    event: str
    webhook: str
    """The receiver's name in gateway.yaml."""
    experiment: str
    body: str
    created: float
    due: float
    state: DeliveryState = "pending"
    attempts: int = 0
    ended: float | None = None
    error: str | None = None


def add_deliveries(connection: Connection, deliveries: Iterable[WebhookDelivery]) -> None:
    """Adds those that are not there yet; one that is there stays as it is."""
    for each in deliveries:
        values = {name: getattr(each, name) for name in WebhookDelivery.__dataclass_fields__}
        connection.execute(insert(connection.dialect, webhook_deliveries).values(values).on_conflict_do_nothing())


def first_deliveries(connection: Connection) -> Mapping[str, float]:
    """When the first delivery of each receiver was made, in Unix seconds; receivers without one are left out."""
    query = select(_T.webhook, func.min(_T.created)).group_by(_T.webhook)
    return {webhook: float(created) for webhook, created in connection.execute(query)}


def due_deliveries(connection: Connection, webhooks: Iterable[str], now: float, most: int) -> list[WebhookDelivery]:
    """Those of these receivers whose time has come, in the order in which they were made."""
    query = select(webhook_deliveries).where(_T.state == "pending", _T.due <= now, _T.webhook.in_(sorted(webhooks)))
    rows = connection.execute(query.order_by(_T.created, _T.event, _T.webhook).limit(most)).mappings()
    return [WebhookDelivery(**row) for row in rows]


def save_delivery(connection: Connection, delivery: WebhookDelivery) -> None:
    """Stores what became of one that is pending; an ended one is never changed."""
    changed = {name: getattr(delivery, name) for name in ("state", "attempts", "due", "ended", "error")}
    connection.execute(
        update(webhook_deliveries)
        .where(_T.event == delivery.event, _T.webhook == delivery.webhook, _T.state == "pending")
        .values(changed)
    )


def deliveries_of(connection: Connection, experiment: str) -> list[WebhookDelivery]:
    """All of one experiment, oldest first."""
    query = select(webhook_deliveries).where(_T.experiment == experiment).order_by(_T.created, _T.event, _T.webhook)
    return [WebhookDelivery(**row) for row in connection.execute(query).mappings()]


def count_deliveries(connection: Connection) -> Mapping[tuple[str, str], int]:
    """By receiver and state."""
    query = select(_T.webhook, _T.state, func.count()).group_by(_T.webhook, _T.state)
    return {(webhook, state): n for webhook, state, n in connection.execute(query)}
