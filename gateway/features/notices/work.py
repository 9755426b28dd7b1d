"""The consumer's task: finds the notices for people, one for each cause, and sends them.

A notice is written to the store before it is sent, under the id of its cause, so that it is sent once, whichever
consumer finds it and however often. Only the notice of an unreachable store is sent without it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.config.config import Config
from gateway.config.notify import NotifyTarget
from gateway.core.errors import StreamDown
from gateway.core.notice import Notice, notice_from_json, notice_to_json
from gateway.features.notices.receivers import NoticeReceiver, receiver_of
from gateway.features.notices.rows import WebhookDelivery, add_deliveries, forget_ended
from gateway.features.notices.sender import DeliverySender
from gateway.features.task import NoticeSource, TaskContext, TaskWorker
from gateway.store.engine import Transaction
from gateway.store.store import StoreDown
from gateway.stream.shared_state import SharedState

log = logging.getLogger(__name__)

LEASE = "notices"
PREFIX = "notify "
"""Begins the names of these receivers in the store. Names in gateway.yaml have no spaces, so no name in `webhooks` is
the same."""
FIND_S = 15.0
"""Seconds between two looks of the sources."""
DOWN_S = 15.0
"""A store that is unreachable for less is not worth a message."""
KEEP_S = 40 * 86_400.0
"""Seconds for which ended messages are kept: longer than a window, so that nothing is sent twice in it."""
_FORGET_EVERY_S = 3_600.0
_CLAIM_S = 6 * 3_600


class NotifyReceiver:
    """A target of `notify` as the sender of deliveries sees it."""

    def __init__(self, target: NotifyTarget, receiver: NoticeReceiver) -> None:
        self.per_hour: int | None = target.per_hour
        self.on = target.on
        self._receiver = receiver

    async def send(self, id: str, deliveries: Sequence[WebhookDelivery], at: float) -> str | None:
        return await self.send_notices(id, [notice_from_json(each.body) for each in deliveries], at)

    async def send_notices(self, id: str, notices: Sequence[Notice], at: float) -> str | None:
        return await self._receiver.send(id, notices, at)


@dataclass(slots=True)
class _Outage:
    """A store or stream server that does not answer."""

    since: float
    why: str
    told: bool = False


class NoticeSender:
    """Finds and sends notices."""

    def __init__(
        self,
        worker: TaskWorker,
        state: SharedState,
        sources: Sequence[NoticeSource],
        receivers: Mapping[str, NotifyReceiver],
    ) -> None:
        """receivers: by their names in gateway.yaml."""
        self._store, self._state, self._sources, self._clock = worker.store, state, sources, worker.clock
        self._receivers = {PREFIX + each: receiver for each, receiver in receivers.items()}
        self._sender = DeliverySender(worker, self._receivers, LEASE)
        self._found_at = self._forgot_at = float("-inf")
        self._store_outage: _Outage | None = None
        self._stream_outage: _Outage | None = None

    async def run(self) -> None:
        """Runs until cancelled."""
        await self._sender.repeat(self.look)

    async def look(self) -> int:
        """Looks at the sources, if it is time to, and sends what is due. Returns how many deliveries were tried."""
        try:
            leads = await self._store.run(self._sender.holds_lease)
            if self._clock() - self._found_at >= FIND_S:
                self._found_at = self._clock()
                found = await self._find(leads=leads)
                await self._store.run(lambda connection: self._add(connection, found))
            self._store_outage = None
            return await self._sender.send_due() if leads else 0
        except StoreDown as error:
            await self._without_store(str(error))
            raise

    async def _find(self, *, leads: bool) -> list[Notice]:
        found, down = list[Notice](), ""
        for source in self._sources:
            if leads or source.everywhere:
                try:
                    found += await source.look(self._clock())
                except StreamDown as error:
                    down = str(error)
        self._sender.information_waits = bool(down)
        if not down:
            self._stream_outage = None
        return found + (self._stream_down(down) if down and leads else [])

    def _add(self, connection: Transaction, found: Sequence[Notice]) -> None:
        now = self._clock()
        for name, receiver in self._receivers.items():
            wanted = (notice for notice in found if notice.subject in receiver.on)
            add_deliveries(connection, (_delivery(notice, name, now) for notice in wanted))
        if now - self._forgot_at >= _FORGET_EVERY_S:
            self._forgot_at = now
            forget_ended(connection, PREFIX, now - KEEP_S)

    def _stream_down(self, why: str) -> list[Notice]:
        now = self._clock()
        outage = self._stream_outage = self._stream_outage or _Outage(now, why)
        if now - outage.since < DOWN_S:
            return []
        text = f"{why}. Limits hold for each worker by itself, and nothing is recorded until it is back."
        return [_outage_notice("the stream server is unreachable", text, outage.since)]

    async def _without_store(self, why: str) -> None:
        """Sends the notice about the store itself. Nothing can be stored, so this makes one attempt for each receiver,
        and others at the next looks as long as the store is unreachable."""
        now = self._clock()
        outage = self._store_outage = self._store_outage or _Outage(now, why)
        if outage.told or now - outage.since < DOWN_S:
            return
        outage.told = True
        if not await self._claim():
            return
        notice = _outage_notice("the store is unreachable", f"{why}. Nothing is scored until it is back.", outage.since)
        told = [r for r in self._receivers.values() if "store" in r.on]
        errors = await asyncio.gather(*(r.send_notices(notice.id, [notice], now) for r in told))
        for error in filter(None, errors):
            log.error("a notice of the unreachable store was not accepted: %s", error)

    async def _claim(self) -> bool:
        """Whether this is the first consumer to report the outage. Without the stream server, each of them does."""
        try:
            return await self._state.claim("notice-store-down", _CLAIM_S)
        except StreamDown:
            return True


def _delivery(notice: Notice, receiver: str, now: float) -> WebhookDelivery:
    body = notice_to_json(notice)
    return WebhookDelivery(notice.id, receiver, "", body, created=now, due=now, priority=notice.priority)


def _outage_notice(title: str, text: str, since: float) -> Notice:
    id = f"store:{title.split()[1]}:{since:.0f}"
    return Notice(id, "store", title, text, since, "/console/system", "critical")


def notify_receivers(config: Config, context: TaskContext) -> dict[str, NotifyReceiver]:
    if config.notify is None:
        return {}
    oidc = None if config.admin is None else config.admin.oidc
    console_url = config.notify.console_url or ("" if oidc is None else oidc.url)
    return {
        name: NotifyReceiver(target, receiver_of(target, context.connections, console_url))
        for name, target in config.notify.targets.items()
    }


def notices_task(context: TaskContext) -> Coroutine[Any, Any, None] | None:
    """The task that sends; None if the config has no receivers."""
    receivers = notify_receivers(context.config, context)
    if not receivers:
        return None
    sources = [make(context) for make in context.notice_sources]
    return NoticeSender(context.worker, context.corridor.state, sources, receivers).run()
