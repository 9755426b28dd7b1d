"""The consumer's task: finds the notices for people, one for each cause, and sends them.

A notice is written to the store before it is sent, under the id of its cause, so that it is sent once, whichever
consumer finds it and however often. While the store takes no writes, outages alone are sent, without it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from gateway.config.config import Config
from gateway.config.derive import console_address
from gateway.config.notify import NotifyTarget
from gateway.core.errors import StreamDown
from gateway.core.notice import SEVERITIES, Notice, notice_from_json, notice_to_json
from gateway.features.isolation import IsolatedWork, Work
from gateway.features.notices.receivers import NoticeReceiver, receiver_of
from gateway.features.notices.rows import WebhookDelivery, add_deliveries, forget_ended
from gateway.features.notices.sender import DeliverySender
from gateway.features.notices.without_store import UnstoredNotices
from gateway.features.task import NoticeSource, PeriodicWork, TaskContext, TaskWorker
from gateway.store.engine import Transaction
from gateway.store.store import QueryMistake, StoreDown
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


class NoticeSender:
    """Finds and sends notices."""

    def __init__(
        self,
        worker: TaskWorker,
        state: SharedState,
        sources: Sequence[NoticeSource],
        receivers: Mapping[str, NotifyReceiver],
        isolated: IsolatedWork | None = None,
    ) -> None:
        """receivers: by their names in gateway.yaml. isolated: lets no source keep the others waiting."""
        self._isolated = isolated or IsolatedWork()
        self._store, self._sources, self._clock = worker.store, sources, worker.clock
        self._receivers = {PREFIX + each: receiver for each, receiver in receivers.items()}
        self._sender = DeliverySender(worker, self._receivers, LEASE)
        self._found_at = self._forgot_at = float("-inf")
        self._unstored = UnstoredNotices(state, self._receivers)
        self._store_outage: _Outage | None = None
        self._stream_outage: _Outage | None = None

    def periodic(self) -> PeriodicWork:
        return self._sender.periodic(self.look)

    async def look(self) -> int:
        """Looks at the sources, if it is time to, and sends what is due. Returns how many deliveries were tried."""
        try:
            leads = await self._store.run(self._sender.holds_lease)
            await self._end_outage()
            if self._clock() - self._found_at >= FIND_S:
                self._found_at = self._clock()
                found = await self._find(leads=leads)
                await self._store.run(lambda connection: self._add(connection, found))
            return await self._sender.send_due() if leads else 0
        except QueryMistake:
            raise
        except StoreDown as error:
            await self._without_store(str(error))
            raise

    async def _find(self, *, leads: bool) -> list[Notice]:
        found, stream_down, hidden = list[Notice](), "", False
        for source in self._sources:
            if leads or source.everywhere:
                try:
                    looked = await self._isolated.attempt(_work_of(source), partial(source.look, self._clock()))
                    found += looked or ()
                except StreamDown as error:
                    stream_down = str(error)
                except StoreDown:
                    hidden = True
        self._sender.information_waits = hidden or bool(stream_down)
        if not stream_down:
            self._stream_outage = None
        return found + (self._stream_down(stream_down) if stream_down and leads else [])

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
        return [_outage_notice("store.stream_unreachable", "the stream server is unreachable", text, outage.since)]

    async def _without_store(self, why: str) -> None:
        """Sends outages and what is critical, beginning with the store itself. Nothing can be stored, so they are sent
        from memory, by each consumer that sees them."""
        now = self._clock()
        outage = self._store_outage = self._store_outage or _Outage(now, why)
        self._sender.information_waits = True
        if now - outage.since < DOWN_S or now - self._found_at < FIND_S:
            return
        self._found_at = now
        found = await self._find(leads=True)
        self._sender.information_waits = True
        await self._unstored.send([_store_notice(outage), *found], now)

    async def _end_outage(self) -> None:
        """Stores what was sent without the store, so that it is not sent again."""
        if self._store_outage is None:
            return
        now, sent = self._clock(), await self._unstored.end()
        ended = [
            replace(_delivery(notice, name, now), state="delivered", attempts=1, ended=now) for name, notice in sent
        ]
        await self._store.run(lambda connection: add_deliveries(connection, ended))
        self._store_outage, self._found_at = None, float("-inf")


def _work_of(source: NoticeSource) -> Work:
    return Work(f"notices of {type(source).__name__}")


def _delivery(notice: Notice, receiver: str, now: float) -> WebhookDelivery:
    body = notice_to_json(notice)
    return WebhookDelivery(notice.id, receiver, "", body, created=now, due=now, priority=notice.priority)


_DISK = ("full", "disk I/O", "No space", "readonly")


def _store_notice(outage: _Outage) -> Notice:
    text = f"{outage.why}. Nothing is scored until it is back."
    if any(words in outage.why for words in _DISK):
        return _outage_notice("store.full", "the store cannot write, because of its disk", text, outage.since)
    return _outage_notice("store.unreachable", "the store is unreachable", text, outage.since)


def _outage_notice(cause: str, title: str, text: str, since: float) -> Notice:
    """The id has the minute, so that consumers that see the same outage begin give it the same id."""
    id = f"store:{title.split()[1]}:{int(since // 60)}"
    return Notice(id, "store", title, text, since, "/console/system", SEVERITIES[cause])


def notify_receivers(config: Config, context: TaskContext) -> dict[str, NotifyReceiver]:
    if config.notify is None:
        return {}
    console_url = console_address(config)
    return {
        name: NotifyReceiver(target, receiver_of(target, context.connections, console_url))
        for name, target in config.notify.targets.items()
    }


def notices_task(context: TaskContext) -> PeriodicWork | None:
    """The task that sends; None if the config has no receivers."""
    receivers = notify_receivers(context.config, context)
    if not receivers:
        return None
    sources = [make(context) for make in context.notice_sources]
    return NoticeSender(context.worker, context.corridor.state, sources, receivers, context.isolated).periodic()
