"""Tells receivers of each transition of a ramp: signed, repeated until it is accepted, given up after a day.

Sent from the audit by the one consumer that holds the lease. A receiver sees each transition once; if a consumer dies
between an answer and the note of it, twice with the same `webhook-id`, as Standard Webhooks allows.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import logging
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import orjson

from gateway.config.webhook import WebhookConfig, signing_key
from gateway.core.ramp import RampEvent
from gateway.features.experiments.short_names import shortened
from gateway.features.experiments.verdict_sentence import ENDED, MOST, ended_sentence
from gateway.features.ramp.rows import (
    WebhookDelivery,
    add_deliveries,
    due_deliveries,
    first_deliveries,
    ramp_events_since,
    save_delivery,
)
from gateway.features.task import TaskContext
from gateway.scoring.http_client import HttpConnections, Unreachable
from gateway.store.engine import Transaction
from gateway.store.plans import hold_lease, release_lease
from gateway.store.store import Store, StoreDown

log = logging.getLogger(__name__)

LEASE = "webhooks"
RETRY_S = (5.0, 60.0, 300.0, 1_800.0, 7_200.0, 18_000.0, 36_000.0)
"""Seconds to wait after each failure; after one more, the delivery is dead."""
_EVERY_S = 1.0
_KEEP_S = 90.0  # a lease outlives the slowest receiver
_AT_ONCE = 20
_NEW_S = 3_600.0  # a receiver that had nothing yet gets the transitions of the last hour
_KNOWN_S = 7 * 86_400.0  # one that had some: those since then, unless they are older than this
_GONE = 410
_MOST_REPLY_BYTES = 1 << 16
_RECORD_FIELDS = ("experiment", "plan", "version", "state", "step", "paused", "overridden", "by", "reason")


def signature(key: bytes, id: str, at: int, body: bytes) -> str:
    """`v1,` and the HMAC-SHA256 of `ID.TIMESTAMP.BODY` in base64. Source: Standard Webhooks 1.0."""
    signed = b".".join((id.encode(), str(at).encode(), body))
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def body_of(event: RampEvent) -> str:
    """The JSON that every receiver of this event gets."""
    data = {"id": event.id, "kind": event.kind, "before": event.before, "evidence": event.evidence}
    data |= {name: getattr(event.record, name) for name in _RECORD_FIELDS}
    data["sentence"] = sentence_of(event)
    at = datetime.fromtimestamp(event.record.at, UTC).isoformat(timespec="milliseconds")
    return orjson.dumps({"type": f"ramp.{event.kind}", "timestamp": at, "data": data}).decode()


def sentence_of(event: RampEvent) -> str:
    """The event in at most 90 characters: how the ramp ended, else the verdict on the pairs as it was."""
    if event.record.state in ENDED:
        return ended_sentence(event.record.state, event.record.reason)
    return str(event.evidence.get("headline") or shortened(event.record.reason, MOST))


class WebhookSender:
    """Sends what is due. name: of this consumer, in the lease. clock: Unix seconds."""

    def __init__(
        self,
        store: Store,
        connections: HttpConnections,
        webhooks: Mapping[str, WebhookConfig],
        name: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store, self._connections, self._webhooks = store, connections, webhooks
        self._keys = {each: signing_key(webhook.secret) for each, webhook in webhooks.items()}
        self._name, self._clock = name, clock
        self._failure_logged = False

    async def run(self) -> None:
        """Runs until cancelled."""
        try:
            while True:
                await self._survive()
                await asyncio.sleep(_EVERY_S)
        finally:
            await self._release()

    async def _release(self) -> None:
        try:
            await self._store.run(lambda connection: release_lease(connection, LEASE, self._name))
        except StoreDown as error:
            log.debug("the lease of webhooks ends by itself: %s", error)

    async def _survive(self) -> None:
        try:
            await self.look()
            self._failure_logged = False
        except StoreDown:
            return  # the reader of the stream logs it
        except Exception:  # what breaks one delivery must not end all
            if not self._failure_logged:
                log.exception("webhooks: a look failed; retrying", extra={"retry_in_s": _EVERY_S})
            self._failure_logged = True

    async def look(self) -> int:
        """Makes the deliveries of new events, and tries those that are due. Returns how many were tried."""
        if not await self._store.run(self._prepare):
            return 0
        now = self._clock()
        due = await self._store.run(lambda connection: due_deliveries(connection, self._webhooks, now, _AT_ONCE))
        await asyncio.gather(*(self._deliver(each) for each in due))
        return len(due)

    def _prepare(self, connection: Transaction) -> bool:
        """Makes the deliveries of new events. False: another consumer sends."""
        now = self._clock()
        if not hold_lease(connection, LEASE, self._name, now, _KEEP_S):
            return False
        first = first_deliveries(connection)
        for name, webhook in self._webhooks.items():
            since = max(first.get(name, now) - _NEW_S, now - _KNOWN_S)
            events = (e for e in ramp_events_since(connection, since) if webhook.wants(e.record.experiment))
            made = (WebhookDelivery(f"ramp_{e.id}", name, e.record.experiment, body_of(e), now, now) for e in events)
            add_deliveries(connection, made)
        return True

    async def _deliver(self, delivery: WebhookDelivery) -> None:
        error = await self._send(delivery)
        now, attempts = self._clock(), delivery.attempts + 1
        if error is None:
            ended = replace(delivery, state="delivered", attempts=attempts, ended=now, error=None)
        elif attempts > len(RETRY_S) or error == f"HTTP {_GONE}":
            what = f"webhook={delivery.webhook} event={delivery.event} attempts={attempts} error={error}"
            log.error("webhook given up: %s", what)
            ended = replace(delivery, state="dead", attempts=attempts, ended=now, error=error)
        else:
            wait_s = RETRY_S[attempts - 1]
            what = f"webhook={delivery.webhook} event={delivery.event} attempts={attempts} retry_in_s={wait_s:g}"
            log.warning("webhook failed; retrying: %s error=%s", what, error)
            ended = replace(delivery, attempts=attempts, due=now + wait_s, error=error)
        await self._store.run(lambda connection: save_delivery(connection, ended))

    async def _send(self, delivery: WebhookDelivery) -> str | None:
        """Sends one event. Returns None if accepted, else what went wrong, without the secret."""
        webhook, body, at = self._webhooks[delivery.webhook], delivery.body.encode(), int(self._clock())
        headers = {
            "content-type": "application/json",
            "user-agent": "assay-gateway",
            "webhook-id": delivery.event,
            "webhook-timestamp": str(at),
            "webhook-signature": signature(self._keys[delivery.webhook], delivery.event, at, body),
        }
        try:
            reply = await self._connections.send(
                "POST", webhook.url, body, deadline_s=webhook.timeout_s, headers=headers, most_bytes=_MOST_REPLY_BYTES
            )
        except Unreachable as error:
            return str(error)[:500]
        return None if 200 <= reply.status < 300 else f"HTTP {reply.status}"


def webhooks_task(context: TaskContext) -> Coroutine[Any, Any, None] | None:
    """The task that sends; None: the config has no receivers."""
    if not context.config.webhooks:
        return None
    return WebhookSender(context.store, context.connections, context.config.webhooks, context.name).run()
