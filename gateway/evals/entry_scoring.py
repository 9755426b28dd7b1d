"""Entries of the stream to records, to judged exchanges, to a batch for the store. No I/O but the scorers' own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import orjson

from gateway.core.completion import completion_of
from gateway.core.exchange import Exchange, Feedback, Record, Tally, from_fields
from gateway.core.prices import Prices
from gateway.core.randomization import draw
from gateway.evals.scoring.registry import RegisteredScorer
from gateway.evals.scoring.run import StartedScores, score_later, score_now
from gateway.evals.scoring.threads import ScoringThreads
from gateway.evals.scoring.types import Subject
from gateway.evals.store.ledger import position
from gateway.evals.store.rows import ScoredExchange
from gateway.evals.store.write import ScoredBatch
from gateway.stream import StreamEntry

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ReadEntry:
    """An entry that can be read. judged: what was said of it, for an exchange."""

    entry: StreamEntry
    record: Record
    judged: ScoredExchange | None = None


@dataclass(frozen=True, slots=True)
class UnreadableEntry:
    """An entry that cannot be read, or whose answer cannot, and why."""

    entry: StreamEntry
    reason: str


@dataclass(frozen=True, slots=True)
class SortedEntries:
    read: list[ReadEntry] = field(default_factory=list)
    unreadable: list[UnreadableEntry] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _PendingScores:
    """An exchange of which some scorers have still to say something. judged: with what was said at once."""

    entry: StreamEntry
    judged: ScoredExchange
    begun: StartedScores


class EntryScorer:
    """Reads entries and asks every scorer about each exchange. prices: None: none are known."""

    def __init__(
        self, scorers: Mapping[str, RegisteredScorer], threads: ScoringThreads, prices: Prices | None = None
    ) -> None:
        self._scorers = scorers
        self._prices = prices or Prices()
        self._threads = threads

    async def read(self, entries: Sequence[StreamEntry]) -> SortedEntries:
        """Never raises for what stands in an entry: one bad entry must not stop the others."""
        found = [self._begin(entry) for entry in entries]
        waiting = [at for at, each in enumerate(found) if isinstance(each, _PendingScores)]
        ended = await asyncio.gather(*(self._end(each) for each in found if isinstance(each, _PendingScores)))
        for at, each in zip(waiting, ended, strict=True):
            found[at] = each
        return SortedEntries(
            read=[f for f in found if isinstance(f, ReadEntry)],
            unreadable=[f for f in found if isinstance(f, UnreadableEntry)],
        )

    def _begin(self, entry: StreamEntry) -> ReadEntry | UnreadableEntry | _PendingScores:
        try:
            record = from_fields(entry.fields)
            if not isinstance(record, Exchange):
                return ReadEntry(entry, record)
            judged, begun = self._judge(record, position(entry.id))
        except ValueError as error:
            return UnreadableEntry(entry, str(error))
        except Exception as error:  # whatever a strange record breaks, the others go on; it is counted as a dead letter
            return _broken(entry, error)
        return _PendingScores(entry, judged, begun) if begun.waiting else ReadEntry(entry, record, judged)

    async def _end(self, begun: _PendingScores) -> ReadEntry | UnreadableEntry:
        try:
            results = await score_later(begun.begun, self._threads)
        except Exception as error:  # the same
            return _broken(begun.entry, error)
        return ReadEntry(begun.entry, begun.judged.exchange, replace(begun.judged, results=results))

    def _judge(self, exchange: Exchange, place: str) -> tuple[ScoredExchange, StartedScores]:
        """What can be said at once, and what is still to be asked."""
        completion = completion_of(exchange)
        request = _object(exchange.request)
        cost_usd = self._prices.of_call(exchange.target, completion.usage or exchange.usage, exchange.attempts)
        reference = exchange.reference or _reference(request)
        subject = Subject(exchange, request, completion, reference, cost_usd)
        begun = score_now(self._scorers, subject, partial(draw, unit=exchange.unit))
        said = [r for r in begun.results if r is not None]
        return ScoredExchange(exchange, completion, said, cost_usd, place), begun


def _broken(entry: StreamEntry, error: Exception) -> UnreadableEntry:
    log.error("entry %s cannot be read", entry.id, exc_info=error)
    return UnreadableEntry(entry, f"{type(error).__name__}: {error}")


def batch_of(scorers: Mapping[str, RegisteredScorer], read: Iterable[ReadEntry]) -> ScoredBatch:
    read = list(read)
    return ScoredBatch(
        scorers,
        judged=[r.judged for r in read if r.judged is not None],
        tallies=[(r.entry.id, r.record) for r in read if isinstance(r.record, Tally)],
        feedback=[r.record for r in read if isinstance(r.record, Feedback)],
    )


def exchange_in(entry: StreamEntry) -> Exchange | None:
    """The exchange of an entry, so that its dead letter settles the ledger; None where there is none to be read."""
    try:
        record = from_fields(entry.fields)
    except ValueError:
        return None
    return record if isinstance(record, Exchange) else None


def _object(body: bytes) -> Mapping[str, Any]:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def _reference(request: Mapping[str, Any]) -> str | None:
    """The right answer, where the client gave one: `metadata: {"reference": "…"}`."""
    metadata = request.get("metadata")
    given = metadata.get("reference") if isinstance(metadata, dict) else None
    return given if isinstance(given, str) else None
