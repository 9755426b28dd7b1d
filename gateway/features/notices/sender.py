"""Sends stored deliveries: by the one consumer that holds the lease, repeated until they are accepted, given up after a
day. Outages and critical ones go first and at once, then no more warnings in an hour than a receiver wants, and
information as one digest an hour.

A receiver sees each message once; if a consumer dies between an answer and the note of it, twice with the same id.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from gateway.core.notice import Priority
from gateway.features.notices.receivers import GONE
from gateway.features.notices.rows import WebhookDelivery, due_deliveries, save_deliveries, sent_since, waiting_above
from gateway.features.task import PeriodicWork, TaskWorker
from gateway.store.engine import Transaction

log = logging.getLogger(__name__)

RETRY_S = (5.0, 60.0, 300.0, 1_800.0, 7_200.0, 18_000.0, 36_000.0)
"""Seconds to wait after each failure; after one more, the delivery is dead."""
HOUR_S = 3_600.0
GATHER_S = 60.0
"""Seconds for which information is gathered, so that what comes together is one digest."""
_EVERY_S = 1.0
_KEEP_S = 90.0  # a lease outlives the slowest receiver
_AT_ONCE = 20
_MOMENT_S = 1e-4
_GATHERED = 500  # deliveries that one message may gather


class DeliveryReceiver(Protocol):
    """A receiver of deliveries."""

    @property
    def per_hour(self) -> int | None:
        """Warnings in 60 minutes, above which several deliveries become one message; None means that each delivery is a
        message, whatever its priority."""

    async def send(self, id: str, deliveries: Sequence[WebhookDelivery], at: float) -> str | None:
        """One attempt. Returns None if it was accepted, else what went wrong, without a secret."""


@dataclass(frozen=True, slots=True)
class _OutgoingMessage:
    receiver: str
    deliveries: tuple[WebhookDelivery, ...]

    @property
    def id(self) -> str:
        """Message id: the same for the same deliveries."""
        if len(self.deliveries) == 1:
            return self.deliveries[0].event
        return "several-" + hashlib.sha256("\n".join(each.event for each in self.deliveries).encode()).hexdigest()[:32]


class DeliverySender:
    """The deliveries to some receivers."""

    def __init__(self, worker: TaskWorker, receivers: Mapping[str, DeliveryReceiver], lease: str) -> None:
        """receivers: by the name in the store. lease: its name."""
        self._worker, self._store, self._clock = worker, worker.store, worker.clock
        self._receivers, self._lease = receivers, lease
        self.information_waits = False
        """Whether causes of more importance may be unknown at the moment, because a source cannot be read."""

    def periodic(self, look: Callable[[], Awaitable[object]]) -> PeriodicWork:
        return PeriodicWork(look, _EVERY_S, close=lambda: self._worker.release(self._lease))

    def holds_lease(self, connection: Transaction) -> bool:
        """Whether this consumer holds the lease; if not, another one sends."""
        return self._worker.holds(connection, self._lease, _KEEP_S)

    async def send_due(self) -> int:
        """Tries what is due. Returns how many deliveries were tried."""
        messages = await self._store.run(self._messages)
        await asyncio.gather(*(self._deliver(each, nth) for nth, each in enumerate(messages)))
        return sum(len(each.deliveries) for each in messages)

    def _messages(self, connection: Transaction) -> list[_OutgoingMessage]:
        now, found = self._clock(), list[_OutgoingMessage]()
        for name, receiver in self._receivers.items():
            if receiver.per_hour is None:
                due = due_deliveries(connection, [name], now, _AT_ONCE)
                found += [_OutgoingMessage(name, (delivery,)) for delivery in due]
            else:
                found += self._by_priority(connection, name, receiver.per_hour)
        return found

    def _by_priority(self, connection: Transaction, name: str, per_hour: int) -> list[_OutgoingMessage]:
        """The messages of the highest priority that may be sent: those of one turn arrive in any order."""
        now = self._clock()
        due = due_deliveries(connection, [name], now, _GATHERED)
        at_once, limited, digest = ([d for d in due if d.priority == priority] for priority in Priority)
        if at_once:
            return list(_gathered(name, at_once, _AT_ONCE))
        room = per_hour - sent_since(connection, name, now - HOUR_S, Priority.LIMITED) if limited else 0
        if room > 0:
            return list(_gathered(name, limited, room))
        if digest and self._digest_is_due(connection, name, digest[0].created):
            return [_OutgoingMessage(name, tuple(digest))]
        return []

    def _digest_is_due(self, connection: Transaction, name: str, oldest: float) -> bool:
        """Whether information may be sent: once an hour, after everything above it, for which it waits at most an
        hour. oldest: when the first of it was made."""
        now, hour_ago = self._clock(), self._clock() - HOUR_S
        if oldest > now - GATHER_S or sent_since(connection, name, hour_ago, Priority.DIGEST):
            return False
        behind = self.information_waits or waiting_above(connection, name, Priority.DIGEST)
        return not behind or oldest <= hour_ago

    async def _deliver(self, message: _OutgoingMessage, nth: int) -> None:
        """nth: index among those that are sent together. Each ends at a different time, by which messages are
        counted."""
        error = await self._receivers[message.receiver].send(message.id, message.deliveries, self._clock())
        now = self._clock() + nth * _MOMENT_S
        ended = [_ended(each, error, now) for each in message.deliveries]
        if error is not None:
            _log_failure(message, ended[0])
        await self._store.run(lambda connection: save_deliveries(connection, ended))


def _gathered(name: str, due: Sequence[WebhookDelivery], room: int) -> Iterator[_OutgoingMessage]:
    """Groups deliveries: one message each up to the hourly limit, and the last message takes all that remain. At the
    limit, they wait."""
    room = min(room, _AT_ONCE)
    if room <= 0:
        return
    alone = due if len(due) <= room else due[: room - 1]
    yield from (_OutgoingMessage(name, (each,)) for each in alone)
    if len(alone) < len(due):
        yield _OutgoingMessage(name, tuple(due[len(alone) :]))


def _ended(delivery: WebhookDelivery, error: str | None, now: float) -> WebhookDelivery:
    attempts = delivery.attempts + 1
    if error is None:
        return replace(delivery, state="delivered", attempts=attempts, ended=now, error=None)
    if attempts > len(RETRY_S) or error == GONE:
        return replace(delivery, state="dead", attempts=attempts, ended=now, error=error)
    return replace(delivery, attempts=attempts, due=now + RETRY_S[attempts - 1], error=error)


def _log_failure(message: _OutgoingMessage, ended: WebhookDelivery) -> None:
    what = f"webhook={ended.webhook} event={message.id} attempts={ended.attempts}"
    if ended.state == "dead":
        log.error("webhook given up: %s error=%s", what, ended.error)
    else:
        wait_s = RETRY_S[ended.attempts - 1]
        log.warning("webhook failed; retrying: %s retry_in_s=%g error=%s", what, wait_s, ended.error)
