"""Erases one caller, one end user or one exchange: from the stream, from its dead letters and from the store.

The stream comes first, so that nothing there can be delivered again once the store is empty. Every step is idempotent,
so an interrupted erasure is simply run again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field

import orjson

from gateway.core.chunked import chunked
from gateway.core.exchange import Exchange, Feedback, from_fields, user_digest
from gateway.features.calls.rows import erase as rows
from gateway.features.calls.rows.erase import ErasureRequest
from gateway.store.engine import empty_log
from gateway.store.query import reading
from gateway.store.store import Store
from gateway.store.write import DeadLetterRow
from gateway.stream import Corridor
from gateway.stream.dead_letters import DeadLetter
from gateway.stream.types import StreamEntry, exchange_in

log = logging.getLogger(__name__)

_STEP = 200
Watch = Callable[[int, int], None]
"""Called with the number of exchanges of the store that are done, and their total."""


@dataclass(slots=True)
class ErasureResult:
    """Counts of the records found or erased, by kind."""

    counts: Counter[str] = field(default_factory=Counter)
    audit: str | None = None
    """The id of the audit's line; None: a dry run."""
    arrived: int = 0
    """Exchanges that were stored meanwhile, and are left for another run."""
    rewriting: bool | None = None
    """Whether the stream server rewrites its append-only file, which holds erased words until then. False if it does
    not, or had begun before. None if there is no such file.
    """


async def preview(store_url: str, corridor: Corridor, request: ErasureRequest) -> ErasureResult:
    """Counts what `run` would erase now. Raises StoreUnavailable, StreamDown."""
    result = ErasureResult()
    with reading(store_url) as connection:
        result.counts.update(rows.count(connection, request).n)
    result.counts["stream entries"] += sum([len(page) async for page in _entries(corridor, request)])
    result.counts["dead letters"] += len(await _letters(corridor, request))
    return result


async def run(
    store: Store, store_url: str, corridor: Corridor, request: ErasureRequest, actor: str, watch: Watch
) -> ErasureResult:
    """Erases, and writes the audit's line. Raises StoreDown, StoreUnavailable, StreamDown.

    actor: who does it, for the audit.
    """
    result = ErasureResult()
    await _erase_stream(store, corridor, request, result.counts)
    with reading(store_url) as connection:
        ids = list(rows.find(connection, request))
    watch(0, len(ids))
    for i, chunk in enumerate(chunked(ids, _STEP)):
        result.counts.update((await store.run(lambda c, chunk=chunk: rows.erase(c, chunk, time.time()))).n)  # type: ignore[misc]
        watch(min(len(ids), (i + 1) * _STEP), len(ids))
    loose = await store.run(lambda c: rows.erase_loose_feedback(c, request))
    result.counts["feedback without an exchange"] += loose
    result.rewriting = await corridor.rewrite_append_only_files()
    if not await asyncio.to_thread(empty_log, store_url):
        log.warning("the store's write-ahead log was in use and may hold erased words until it is overwritten")
    result.audit = await store.run(lambda c: rows.note_erasure(c, request, actor, result.counts, time.time()))
    with reading(store_url) as connection:
        result.arrived = sum(1 for _ in rows.find(connection, request))
    return result


async def _erase_stream(store: Store, corridor: Corridor, request: ErasureRequest, counts: Counter[str]) -> None:
    """Erases entries of the stream. They count as dead letters in the ledger: they arrived, and will not be stored."""
    async for page in _entries(corridor, request):
        now = time.time()
        letters = [DeadLetterRow(entry.id, "erased", rows.ERASED, now, exchange_in(entry)) for entry in page]
        await store.add_dead_letters(letters)
        counts["stream entries"] += await corridor.delete([entry.id for entry in page])
    counts["dead letters"] += await corridor.dead_letters.purge(await _letters(corridor, request))


async def _entries(corridor: Corridor, request: ErasureRequest) -> AsyncIterator[Sequence[StreamEntry]]:
    """The entries of the stream that are to be erased, a page at a time."""
    async for page in corridor.pages():
        if found := [entry for entry in page if _is_meant(entry.fields, request)]:
            yield found


async def _letters(corridor: Corridor, request: ErasureRequest) -> list[DeadLetter]:
    return [each async for each in corridor.dead_letters.all() if _is_meant(each.fields, request)]


def _is_meant(fields: Mapping[bytes, bytes], request: ErasureRequest) -> bool:
    """Tells whether the record in these fields is to be erased."""
    try:
        record = from_fields(fields)
    except ValueError:
        return _names_unread(fields, request)
    if isinstance(record, Exchange):
        return _is_of(record, request)
    return isinstance(record, Feedback) and request.value == _named(record, request)


def _names_unread(fields: Mapping[bytes, bytes], request: ErasureRequest) -> bool:
    """Tells whether a record that cannot be read, because it is cut or of an unknown version, names the subject of the
    erasure.

    Quotation marks within a JSON text are escaped, so no text of another caller looks like a member of the head.
    """
    if request.of == "user":
        members = {"user_digest": user_digest(request.value)}
    elif request.of == "caller":
        members = {"caller": request.value}
    else:
        members = {"id": request.value, "pair": request.value}
    head = fields.get(b"head", b"")
    named = any(b'"%b":%b' % (name.encode(), orjson.dumps(value)) in head for name, value in members.items())
    return named or (request.of == "user" and rows.names_user(fields.get(b"req", b""), request.value))


def _is_of(record: Exchange, request: ErasureRequest) -> bool:
    if request.of == "caller":
        return record.caller == request.value
    if request.of == "exchange":
        return request.value in (record.id, record.pair)
    return record.user_digest == user_digest(request.value) or rows.names_user(record.request, request.value)


def _named(record: Feedback, request: ErasureRequest) -> str | None:
    return {"caller": record.caller, "exchange": record.id}.get(request.of)
