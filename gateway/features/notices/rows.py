"""SQL of deliveries: one message for one receiver, from before its first attempt until it is accepted or given up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Connection, delete, func, select, update

from gateway.core.notice import Priority
from gateway.store.engine import insert
from gateway.store.query import Reading
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
    priority: int = Priority.LIMITED


def add_deliveries(connection: Connection, deliveries: Iterable[WebhookDelivery]) -> None:
    """Adds those that are not there yet; one that is there stays as it is."""
    for each in deliveries:
        values = {name: getattr(each, name) for name in WebhookDelivery.__dataclass_fields__}
        connection.execute(insert(connection.dialect, webhook_deliveries).values(values).on_conflict_do_nothing())


def first_deliveries(connection: Connection) -> Mapping[str, float]:
    """Unix time of each receiver's first delivery; receivers without one are left out."""
    query = select(_T.webhook, func.min(_T.created)).group_by(_T.webhook)
    return {webhook: float(created) for webhook, created in connection.execute(query)}


def due_deliveries(connection: Connection, webhooks: Iterable[str], now: float, most: int) -> list[WebhookDelivery]:
    """Deliveries to these receivers that are due: by priority, then in the order in which they were made."""
    query = select(webhook_deliveries).where(_T.state == "pending", _T.due <= now, _T.webhook.in_(sorted(webhooks)))
    rows = connection.execute(query.order_by(_T.priority, _T.created, _T.event, _T.webhook).limit(most)).mappings()
    return [WebhookDelivery(**row) for row in rows]


def save_delivery(connection: Connection, delivery: WebhookDelivery) -> None:
    """Stores the outcome of a pending delivery; an ended one is never changed."""
    changed = {name: getattr(delivery, name) for name in ("state", "attempts", "due", "ended", "error")}
    pending = (_T.event == delivery.event, _T.webhook == delivery.webhook, _T.state == "pending")
    connection.execute(update(webhook_deliveries).where(*pending).values(changed))


def save_deliveries(connection: Connection, deliveries: Iterable[WebhookDelivery]) -> None:
    for each in deliveries:
        save_delivery(connection, each)


def count_deliveries(connection: Connection) -> Mapping[tuple[str, str], int]:
    """Number of deliveries by receiver and state."""
    query = select(_T.webhook, _T.state, func.count()).group_by(_T.webhook, _T.state)
    return {(webhook, state): n for webhook, state, n in connection.execute(query)}


def sent_since(connection: Connection, webhook: str, at: float, priority: int) -> int:
    """Messages of one priority that a receiver accepted since a time; those that were sent together ended at the same
    moment."""
    query = select(func.count(func.distinct(_T.ended))).where(
        _T.webhook == webhook, _T.state == "delivered", _T.ended >= at, _T.priority == priority
    )
    return int(connection.execute(query).scalar_one())


def waiting_above(connection: Connection, webhook: str, priority: int) -> bool:
    """Whether a delivery that is sent before those of this priority is pending."""
    query = select(_T.event).where(_T.webhook == webhook, _T.state == "pending", _T.priority < priority)
    return connection.execute(query.limit(1)).first() is not None


def forget_ended(connection: Connection, prefix: str, before: float) -> None:
    """Deletes ended deliveries to receivers whose names begin so."""
    ours = _T.webhook.startswith(prefix, autoescape=True)
    connection.execute(delete(webhook_deliveries).where(ours, _T.state != "pending", _T.ended < before))


@dataclass(frozen=True, slots=True)
class HeldBack:
    """Messages that are not sent yet because of `per_hour`, or because information is gathered."""

    webhook: str
    warnings: int
    information: int

    @property
    def text(self) -> str:
        parts = f"{self.warnings} above per_hour, {self.information} of the next digest"
        return f"held back: {self.warnings + self.information} for {self.webhook} ({parts})"


def held_back(connection: Reading, prefix: str, before: float) -> list[HeldBack]:
    """Messages that wait since a time without an attempt. prefix: begins the receivers' names in the store."""
    waits = (_T.state == "pending") & (_T.attempts == 0) & (_T.created < before) & (_T.priority > Priority.AT_ONCE)
    ours = _T.webhook.startswith(prefix, autoescape=True)
    query = select(_T.webhook, _T.priority, func.count()).where(waits, ours).group_by(_T.webhook, _T.priority)
    counts: dict[str, dict[int, int]] = {}
    for webhook, priority, n in connection.execute(query):
        counts.setdefault(webhook, {})[priority] = n
    return [
        HeldBack(name, by.get(Priority.LIMITED, 0), by.get(Priority.DIGEST, 0)) for name, by in sorted(counts.items())
    ]


@dataclass(frozen=True, slots=True)
class ReceiverTrouble:
    """A receiver that does not accept its messages."""

    webhook: str
    dead: int
    """Messages that were given up since a time."""
    failing: int
    """Messages that are waiting after a failure."""
    error: str
    """The newest failure."""


def receivers_in_trouble(connection: Connection, since: float) -> list[ReceiverTrouble]:
    """Receivers that gave up a message since a time, or fail now."""
    dead = (_T.state == "dead") & (_T.ended >= since)
    failing = (_T.state == "pending") & (_T.attempts > 0)
    query = select(_T.webhook, _T.state, _T.error).where(dead | failing).order_by(_T.due)
    found: dict[str, list[tuple[str, str]]] = {}
    for webhook, state, error in connection.execute(query):
        found.setdefault(webhook, []).append((state, error or ""))
    return [
        ReceiverTrouble(name, sum(s == "dead" for s, _ in rows), sum(s == "pending" for s, _ in rows), rows[-1][1])
        for name, rows in sorted(found.items())
    ]
