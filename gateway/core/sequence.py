"""The record of a sequence: its key, its increments by pair, its interval over time, and the changes of one run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

State = Mapping[str, Any]
_KEY = ("plan", "candidate", "metric", "identity")


@dataclass(frozen=True, slots=True, order=True)
class SequenceName:
    """Key of a sequence. candidate: the arm that is compared; identity: of the scorer."""

    plan: str
    candidate: str
    metric: str
    identity: str

    @property
    def values(self) -> dict[str, str]:
        return {name: getattr(self, name) for name in _KEY}


@dataclass(frozen=True, slots=True)
class _NamedRow:
    """A row of a table that belongs to a sequence; each further field is a column."""

    name: SequenceName

    @property
    def row(self) -> dict[str, Any]:
        return self.name.values | {field.name: getattr(self, field.name) for field in fields(self)[1:]}


@dataclass(frozen=True, slots=True)
class Increment(_NamedRow):
    """Values that a pair added to a sequence."""

    pair: str
    place: int
    cluster: str | None
    a: float
    b: float
    difference: float


@dataclass(frozen=True, slots=True)
class TrailPoint(_NamedRow):
    """The interval after n pairs."""

    n: int
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class SequenceChanges:
    """Changes of a run of pairs. states: (number of pairs, state) of the sequences that moved."""

    states: Mapping[SequenceName, tuple[int, State]]
    increments: Sequence[Increment]
    withheld: Mapping[tuple[SequenceName, str, str], int]
    points: Sequence[TrailPoint]
