"""A first look at files of traces: nothing is stored before all can be read. The second look gives the calls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from gateway.core.exchange import Exchange
from gateway.features.traces.files import TraceFile
from gateway.features.traces.model import Nesting, SpanRecord, check_time, exchange_of, without_content

NESTED = "describes a call that another span below it describes, too"
TOO_OLD = "is older than store.keep_days, after which it would be deleted"


@dataclass(slots=True)
class LeftOut:
    """Calls that are not imported, for one reason."""

    n: int = 0
    first: str = ""
    """The place of the first one."""


@dataclass(slots=True)
class Survey:
    """Contents of the files."""

    spans: int = 0
    calls: int = 0
    """Calls that can be imported."""
    models: Counter[str] = field(default_factory=Counter)
    left_out: dict[str, LeftOut] = field(default_factory=dict)
    """Calls that cannot, by reason."""
    without_pi: int = 0
    """Calls whose trace does not say with which probability it was kept."""
    wrappers: set[tuple[str, str]] = field(default_factory=set)
    since: float = 0.0
    """Unix seconds before which calls are too old."""

    def imports(self, record: SpanRecord) -> bool:
        call = record.call
        return call is not None and (record.trace, record.span) not in self.wrappers and call.began >= self.since

    def leave_out(self, place: str, why: str) -> None:
        found = self.left_out.setdefault(why, LeftOut(first=place))
        found.n += 1


def survey(files: Sequence[TraceFile], since: float = 0.0) -> Survey:
    """Reads everything once. since: Unix seconds. Raises InvalidTrace, naming the file and the line."""
    found, nesting = Survey(since=since), Nesting()
    calls: dict[tuple[str, str], _SurveyedCall] = {}
    left: list[SpanRecord] = []
    for record in _records(files):
        found.spans += 1
        nesting.add(record)
        if record.left_out:
            left.append(record)
        elif record.call is not None:
            check_time(record.call, record.place)
            calls[record.trace, record.span] = _SurveyedCall(
                record.call.model, record.call.began, record.call.pi is None, record.place
            )
    for record in without_content(left, nesting):
        found.leave_out(record.place, record.left_out)
    found.wrappers = nesting.wrappers()
    for key, call in calls.items():
        if key in found.wrappers or call.began < since:
            found.leave_out(call.place, NESTED if key in found.wrappers else TOO_OLD)
            continue
        found.calls += 1
        found.models[call.model] += 1
        found.without_pi += call.without_pi
    return found


class _SurveyedCall(NamedTuple):
    """Facts about a call that are kept until all spans are known."""

    model: str
    began: float
    without_pi: bool
    place: str


def exchanges_in(files: Sequence[TraceFile], of: Survey) -> Iterator[Exchange]:
    """The calls to import, in the order of the files."""
    for record in _records(files):
        if of.imports(record) and record.call is not None:
            yield exchange_of(record.call)


def _records(files: Sequence[TraceFile]) -> Iterator[SpanRecord]:
    for file in files:
        yield from file.records()
