"""The turns of recorded runs after their replay: the stored answers of all targets next to those that were recorded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from gateway.core.completion import Completion, assemble
from gateway.features.replay.datasets.datasets import DatasetItem
from gateway.features.replay.results.by_run import RunPrice
from gateway.features.replay.results.findings import NOT_VISIBLE, ReportScope
from gateway.features.replay.results.parting import ComparedTurn, RunParting, parting_of, same_step
from gateway.features.replay.rows import responses
from gateway.features.replay.sending.logged_answers import recorded_answer
from gateway.features.replay.sending.run import ReplayJob
from gateway.store.missing_scores import stored_exchanges
from gateway.store.query import reading

_CHUNK = 100  # turns whose answers are read at once


@dataclass(frozen=True, slots=True)
class RunsReplayed:
    """The calls of a replay of recorded runs, and how far its targets part. It decides nothing."""

    runs: int
    turns: int
    calls: int
    """The price: calls of all targets."""
    partings: tuple[RunParting, ...]
    """One for each candidate."""
    not_visible: tuple[str, ...] = NOT_VISIBLE
    """The properties of an agent that recorded turns cannot show."""


def runs_replayed(job: ReplayJob, price: RunPrice, question: ReportScope, store: str) -> RunsReplayed:
    control, *candidates = (target.name for target in job.design.targets)
    turns: dict[str, list[ComparedTurn]] = {name: [] for name in candidates}
    place = Counter[str]()
    for item, answers, before in _answered(job, control, store):
        place[item.cluster] += 1
        now = answers.get(control)
        for name in candidates:
            apart = _parted(now, answers.get(name))
            turns[name].append(ComparedTurn(item.cluster, place[item.cluster], apart, _parted(now, before)))
    alpha = question.alpha / max(1, len(candidates))
    partings = tuple(parting_of(name, compared, alpha) for name, compared in turns.items())
    return RunsReplayed(price.runs, price.turns, price.calls, partings)


def _answered(
    job: ReplayJob, control: str, store: str
) -> Iterator[tuple[DatasetItem, Mapping[str, Completion], Completion | None]]:
    """Yields each turn with the targets' answers, and with the control's answer that was recorded."""
    for chunk in job.chunks(_CHUNK):
        ids = [item.exchange_id for item in chunk if item.exchange_id is not None]
        with reading(store) as connection:
            bodies = responses(connection, job.name, [item.number for item in chunk])
            recorded = {s.exchange.id: recorded_answer(s.exchange, control) for s in stored_exchanges(connection, ids)}
        for item in chunk:
            own = {t: assemble(item.api, False, body) for (n, t), body in bodies.items() if n == item.number}
            yield item, own, recorded.get(item.exchange_id or "")


def _parted(one: Completion | None, other: Completion | None) -> bool | None:
    return None if one is None or other is None else not same_step(one, other)
