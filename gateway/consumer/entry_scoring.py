"""Turns stream entries into records, scored exchanges and a batch for the store. No I/O but the scorers' own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple

from gateway.core.completion import completion_of
from gateway.core.exchange import IMPORTED, Exchange, Feedback, Record, Tally, from_fields
from gateway.core.prices import Prices
from gateway.core.randomization import draw
from gateway.core.request_format import stated_reference
from gateway.core.score import ScoreResult
from gateway.features.hooks import Hooks
from gateway.scoring.large_request import reader_for
from gateway.scoring.registry import RegisteredScorer
from gateway.scoring.run import StartedScores, score_all, score_later, score_now, score_started
from gateway.scoring.text_facts import BatchTexts
from gateway.scoring.threads import ScoringThreads
from gateway.scoring.types import Subject
from gateway.store.ledger import position
from gateway.store.predictions import Prediction
from gateway.store.rows import ScoredExchange, Turn
from gateway.store.write import ScoredBatch
from gateway.stream import StreamEntry

log = logging.getLogger(__name__)


class ReadEntry(NamedTuple):
    """An entry that can be read."""

    entry: StreamEntry
    record: Record
    judged: ScoredExchange | None = None
    """The scores, where the record is an exchange."""


@dataclass(frozen=True, slots=True)
class UnreadableEntry:
    """An entry that cannot be read, or whose answer cannot, and why."""

    entry: StreamEntry
    reason: str


@dataclass(frozen=True, slots=True)
class SortedEntries:
    read: list[ReadEntry] = field(default_factory=list)
    unreadable: list[UnreadableEntry] = field(default_factory=list)


class _ParsedExchange(NamedTuple):
    """An exchange that no scorer has seen."""

    entry: StreamEntry
    subject: Subject
    turn: Turn | None

    def judged(self, results: Sequence[ScoreResult], prediction: Prediction | None) -> ReadEntry:
        entry, subject, turn = self
        e, c, place = subject.exchange, subject.completion, position(entry.id)
        results = at_its_rate(e, results)
        return ReadEntry(entry, e, ScoredExchange(e, c, results, subject.cost_usd, place, prediction, turn))


class EntryScorer:
    """Reads entries and runs every scorer on each exchange."""

    def __init__(
        self,
        scorers: Mapping[str, RegisteredScorer],
        threads: ScoringThreads,
        prices: Prices | None = None,
        hooks: Hooks | None = None,
    ) -> None:
        """Scores without hooks: each scorer sees its share of the exchanges at random."""
        hooks = hooks or Hooks()
        self._scorers = scorers
        self._before, self._scored = hooks.before, hooks.scored
        self._prices = prices or Prices()
        self._threads = threads
        self._request_of = reader_for(each.scorer for each in scorers.values())

    @property
    def scorers(self) -> Mapping[str, RegisteredScorer]:
        return self._scorers

    async def read(self, entries: Sequence[StreamEntry]) -> SortedEntries:
        """Scores one entry. Never raises for its content: one bad entry must not stop the others."""
        texts = BatchTexts()
        found = [self._parse(entry, texts) for entry in entries]
        parsed = [(at, each) for at, each in enumerate(found) if isinstance(each, _ParsedExchange)]
        predictions = await self._predictions([each.subject for _, each in parsed])
        started = self._start([each.subject for _, each in parsed], predictions)
        pending = []
        for (at, each), begun in zip(parsed, started, strict=True):
            prediction = predictions.get(each.subject.exchange.id)
            if begun.waiting:
                pending.append((at, self._end(each, begun, prediction)))
            else:
                found[at] = each.judged(begun.done(), prediction)
        ended = await asyncio.gather(*(ending for _, ending in pending))
        for (at, _), done in zip(pending, ended, strict=True):
            found[at] = done
        return SortedEntries(
            read=[f for f in found if isinstance(f, ReadEntry)],
            unreadable=[f for f in found if isinstance(f, UnreadableEntry)],
        )

    async def score_again(self, exchange: Exchange, names: Collection[str]) -> list[ScoreResult]:
        """Returns the results of those named scorers that this package contains, which are deterministic; nothing is
        stored."""
        chosen = {
            name: registered
            for name, registered in self._scorers.items()
            if name in names and registered.scorer.kind == "code" and not registered.foreign
        }
        return await score_later(score_now(chosen, self._subject(exchange), lambda _: 0.0), self._threads)

    async def score_stored(self, exchange: Exchange, cost_usd: float | None, names: Collection[str]) -> ScoredExchange:
        """An exchange of the store with the results of the named scorers, by the same draws as when it arrived.

        cost_usd: as stored; None if unknown then, and computed from today's prices.
        """
        chosen = {name: each for name, each in self._of(exchange).items() if name in names}
        subject = self._subject(exchange)
        if cost_usd is not None:
            subject = replace(subject, cost_usd=cost_usd)
        drawn = partial(draw, unit=exchange.unit)
        results = await score_all(chosen, subject, drawn, self._threads, patient=True)
        return ScoredExchange(exchange, subject.completion, at_its_rate(exchange, results), subject.cost_usd)

    def _parse(self, entry: StreamEntry, texts: BatchTexts) -> ReadEntry | UnreadableEntry | _ParsedExchange:
        try:
            record = from_fields(entry.fields)
            if not isinstance(record, Exchange):
                return ReadEntry(entry, record)
            subject = self._subject(record, texts)
            return _ParsedExchange(entry, subject, None if self._scored is None else self._scored(subject))
        except ValueError as error:
            return UnreadableEntry(entry, str(error))
        except Exception as error:  # the other entries are scored; this one becomes a dead letter
            return _broken(entry, error)

    async def _predictions(self, subjects: Sequence[Subject]) -> Mapping[str, Prediction]:
        """Predictions by exchange; empty without the hook. Imports have none: each scorer sees its share of them."""
        if self._before is None:
            return {}
        asked = [s for s in subjects if self._of(s.exchange) and s.exchange.role != IMPORTED]
        if not asked:
            return {}
        try:
            predicted = await self._before.predictions(asked)
        except Exception:  # a model must not stop the scoring
            log.exception("predictor failed; the exchanges are drawn without it: exchanges=%d", len(asked))
            predicted = self._before.without_model(asked)
        return {s.exchange.id: each for s, each in zip(asked, predicted, strict=True)}

    def _start(self, subjects: Sequence[Subject], predictions: Mapping[str, Prediction]) -> list[StartedScores]:
        """Runs the scorers that need no waiting, and starts the others."""
        scorers = self._scorers if self._before is None else self._before.unguided
        started = [StartedScores(subject, [], []) for subject in subjects]
        scored = [s for s in started if self._of(s.subject.exchange)]
        score_started(scorers, [s for s in scored if s.subject.exchange.role != IMPORTED], draw)
        score_started(self._scorers, [s for s in scored if s.subject.exchange.role == IMPORTED], draw)
        if self._before is not None and predictions:
            for each in started:
                self._add_guided(each, self._before.drawn(predictions.get(each.subject.exchange.id)))
        return started

    def _add_guided(self, started: StartedScores, scorers: Mapping[str, RegisteredScorer]) -> None:
        """scorers: whose draw is decided."""
        if scorers:
            more = score_now(scorers, started.subject, lambda _: 0.0)
            started.waiting.extend((len(started.results) + at, name, of) for at, name, of in more.waiting)
            started.results.extend(more.results)

    async def _end(
        self, parsed: _ParsedExchange, begun: StartedScores, prediction: Prediction | None
    ) -> ReadEntry | UnreadableEntry:
        try:
            return parsed.judged(await score_later(begun, self._threads), prediction)
        except Exception as error:  # as in _parse
            return _broken(parsed.entry, error)

    def _of(self, exchange: Exchange) -> Mapping[str, RegisteredScorer]:
        """The scorers of an exchange: none for a request for the likelihood of an answer, which has no answer; none for
        a copy of the served answer, which has that one's scores; none for a call that is recorded for its run only."""
        alone = exchange.likelihood is not None or exchange.tied or is_of_run_only(exchange)
        return {} if alone else self._scorers

    def _subject(self, exchange: Exchange, texts: BatchTexts | None = None) -> Subject:
        completion = completion_of(exchange)
        request = self._request_of(exchange.request)
        billed = exchange.usage is not None and exchange.usage.usd is not None
        usage = exchange.usage if billed else completion.usage or exchange.usage
        cost_usd = self._prices.of_call(exchange.target, usage, exchange.attempts)
        reference = exchange.reference or stated_reference(request)
        batch = None if texts is None else texts.add(completion.text)
        return Subject(exchange, request, completion, reference, cost_usd, batch)


def is_of_run_only(exchange: Exchange) -> bool:
    """Whether a call was recorded only because its run is, and is not scored by itself."""
    return exchange.score_rate is not None and exchange.u >= exchange.score_rate


def at_its_rate(exchange: Exchange, results: Sequence[ScoreResult]) -> Sequence[ScoreResult]:
    """The results with the probability that the call was scored, given that it was recorded."""
    if exchange.score_rate is None or exchange.pi is None:
        return results
    share = min(1.0, exchange.score_rate / exchange.pi)
    return [each._replace(pi=each.pi * share) for each in results]


def _broken(entry: StreamEntry, error: Exception) -> UnreadableEntry:
    log.error("entry cannot be read; it becomes a dead letter: entry=%s", entry.id, exc_info=error)
    return UnreadableEntry(entry, f"{type(error).__name__}: {error}")


def batch_of(scorers: Mapping[str, RegisteredScorer], read: Iterable[ReadEntry]) -> ScoredBatch:
    read = list(read)
    return ScoredBatch(
        scorers,
        judged=[r.judged for r in read if r.judged is not None],
        tallies=[(r.entry.id, r.record) for r in read if isinstance(r.record, Tally)],
        feedback=[r.record for r in read if isinstance(r.record, Feedback)],
    )
