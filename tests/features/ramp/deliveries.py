"""The stored deliveries of webhooks, for assertions."""

from __future__ import annotations

from sqlalchemy import Connection, select

from gateway.features.notices.rows import WebhookDelivery
from gateway.store.tables import webhook_deliveries


def deliveries_of(connection: Connection, experiment: str) -> list[WebhookDelivery]:
    """All deliveries of one experiment, oldest first."""
    c = webhook_deliveries.c
    query = select(webhook_deliveries).where(c.experiment == experiment).order_by(c.created, c.event, c.webhook)
    return [WebhookDelivery(**row) for row in connection.execute(query).mappings()]
