"""Detection of spans that describe calls already taken, also from other requests of the last ten minutes.

A framework's span around the span of the client that it uses describes the same call. Of such spans the innermost is
taken; where the outer one came first, and was taken, those below it are not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from gateway.features.traces.model import SpanKey, SpanRecord, TracedCall, spans_around, spans_within
from gateway.stream.shared_state import SharedState

KEPT_S = 600
"""Seconds for which a late span is joined to the others of its trace."""
_DEEPEST = 100
"""Levels of spans of earlier requests that are looked for."""


@dataclass(slots=True)
class _Trees:
    """The spans of one request, with the known facts about those around them."""

    records: Mapping[SpanKey, SpanRecord]
    parents: dict[SpanKey, str] = field(default_factory=dict)
    inner: set[SpanKey] = field(default_factory=set)
    """Spans with a call below them."""
    taken: set[SpanKey] = field(default_factory=set)
    """Spans that were taken as calls."""


class SeenSpans:
    """The spans that all receivers of this stream server have seen lately."""

    def __init__(self, state: SharedState) -> None:
        self._state = state

    async def choose(self, records: Sequence[SpanRecord]) -> tuple[list[TracedCall], dict[str, str]]:
        """The calls to take, and the marks to keep once they are stored. Raises StreamDown."""
        trees = _Trees({(each.trace, each.span): each for each in records})
        trees.parents.update({key: each.parent for key, each in trees.records.items() if each.parent})
        await self._recall(trees)
        calls = {key: each.call for key, each in trees.records.items() if each.call is not None}
        trees.inner |= spans_around(trees.parents, [*trees.inner, *calls])
        left = trees.inner | spans_within(trees.parents, trees.taken)
        chosen = {key: call for key, call in calls.items() if key not in left}
        return list(chosen.values()), _marks(trees, chosen)

    async def remember(self, marks: Mapping[str, str]) -> None:
        """Raises StreamDown."""
        await self._state.remember_all(marks, KEPT_S)

    async def _recall(self, trees: _Trees) -> None:
        """Reads the parents of spans of earlier requests, level by level, and then the known facts about all of
        them."""
        known = trees.records.keys() | spans_around(trees.parents, trees.records)
        unknown = [key for key in known if key not in trees.parents]
        for _ in range(_DEEPEST):
            if not unknown:
                break
            values = await self._state.recall_all([_name(key, "parent") for key in unknown])
            found = {key: value for key, value in zip(unknown, values, strict=True) if value}
            trees.parents.update(found)
            new = spans_around(trees.parents, found, known) - known
            known |= new
            unknown = [key for key in new if key not in trees.parents]
        keys = list(known)
        for kind, marked in (("inner", trees.inner), ("taken", trees.taken)):
            values = await self._state.recall_all([_name(key, kind) for key in keys])
            marked.update(key for key, value in zip(keys, values, strict=True) if value)


def _marks(trees: _Trees, chosen: Iterable[SpanKey]) -> dict[str, str]:
    """Marks that later requests must know. A call that is not taken marks nothing around it."""
    below = {*chosen, *(trees.inner & trees.records.keys())}
    inner = spans_around(trees.parents, below)
    return {
        **{_name(key, "parent"): each.parent for key, each in trees.records.items() if each.parent},
        **{_name(key, "inner"): "1" for key in inner},
        **{_name(key, "taken"): "1" for key in chosen},
    }


def _name(key: SpanKey, kind: str) -> str:
    return f"trace:{key[0]}:{key[1]}:{kind}"
