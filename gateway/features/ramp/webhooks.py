"""Notifies the receivers of `webhooks` of each transition of a ramp, from the audit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import orjson

from gateway.config.webhook import WebhookConfig, signing_key
from gateway.core.ramp import RampEvent
from gateway.features.notices.receivers import JsonPoster, signed_headers
from gateway.features.notices.rows import WebhookDelivery, add_deliveries, first_deliveries
from gateway.features.notices.sender import DeliverySender
from gateway.features.task import PeriodicWork, TaskContext, TaskWorker
from gateway.reports.number_format import rfc3339
from gateway.scoring.http_client import HttpConnections
from gateway.store.engine import Transaction
from gateway.store.ramp_events import ramp_events_since
from gateway.verdict.sentence import ENDED, MOST, ended_sentence
from gateway.verdict.short_names import shortened

LEASE = "webhooks"
_NEW_S = 3_600.0  # a receiver that had nothing yet gets the transitions of the last hour
_KNOWN_S = 7 * 86_400.0  # one that had some: those since then, unless they are older than this
_RECORD_FIELDS = ("experiment", "plan", "version", "state", "step", "paused", "overridden", "by", "reason")


def body_of(event: RampEvent) -> str:
    """The JSON that every receiver of this event gets."""
    data = {"id": event.id, "kind": event.kind, "before": event.before, "evidence": event.evidence}
    data |= {name: getattr(event.record, name) for name in _RECORD_FIELDS}
    data["sentence"] = sentence_of(event)
    at = rfc3339(event.record.at)
    return orjson.dumps({"type": f"ramp.{event.kind}", "timestamp": at, "data": data}).decode()


def sentence_of(event: RampEvent) -> str:
    """The event in at most 90 characters: how the ramp ended, else the verdict on the pairs as it was."""
    headline, state = str(event.evidence.get("headline") or ""), event.record.state
    if state == "promoted" and headline.endswith(" Ship."):
        return ended_sentence(state, headline.replace(": ", ", ", 1).removesuffix(" Ship."))
    if state in ENDED:
        return ended_sentence(state, event.record.reason)
    return headline or shortened(event.record.reason, MOST)


class RampWebhook:
    """A receiver of `webhooks`. Its URL is the operator's own, so it may be a private one."""

    per_hour = None

    def __init__(self, webhook: WebhookConfig, connections: HttpConnections) -> None:
        self._post = JsonPoster(connections, webhook.url, webhook.timeout_s, private=True)
        self._key = signing_key(webhook.secret)

    async def send(self, id: str, deliveries: Sequence[WebhookDelivery], at: float) -> str | None:
        body = deliveries[0].body.encode()
        return await self._post.post(body, signed_headers(self._key, id, int(at), body))


class WebhookSender:
    """Sends what is due."""

    def __init__(self, worker: TaskWorker, connections: HttpConnections, webhooks: Mapping[str, WebhookConfig]) -> None:
        self._store, self._webhooks, self._clock = worker.store, webhooks, worker.clock
        receivers = {each: RampWebhook(webhook, connections) for each, webhook in webhooks.items()}
        self._sender = DeliverySender(worker, receivers, LEASE)

    def periodic(self) -> PeriodicWork:
        return self._sender.periodic(self.look)

    async def look(self) -> int:
        """Makes the deliveries of new events, and tries those that are due. Returns how many were tried."""
        return await self._sender.send_due() if await self._store.run(self._prepare) else 0

    def _prepare(self, connection: Transaction) -> bool:
        """Makes the deliveries of new events. False if another consumer sends."""
        now = self._clock()
        if not self._sender.holds_lease(connection):
            return False
        first = first_deliveries(connection)
        for name, webhook in self._webhooks.items():
            since = max(first.get(name, now) - _NEW_S, now - _KNOWN_S)
            events = (e for e in ramp_events_since(connection, since) if webhook.wants(e.record.experiment))
            made = (WebhookDelivery(f"ramp_{e.id}", name, e.record.experiment, body_of(e), now, now) for e in events)
            add_deliveries(connection, made)
        return True


def webhooks_task(context: TaskContext) -> PeriodicWork | None:
    """The task that sends; None if the config has no receivers."""
    if not context.config.webhooks:
        return None
    return WebhookSender(context.worker, context.connections, context.config.webhooks).periodic()
