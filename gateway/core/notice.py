"""A notice for people, with one cause. Its severity comes from one table, by its cause."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import IntEnum
from types import MappingProxyType
from typing import Any, Literal

import orjson

Subject = Literal[
    "budget",
    "verdict",
    "ramp",
    "retirement",
    "config",
    "store",
    "guard",
    "upstream",
    "consumer",
    "feature",
    "model",
]
Severity = Literal["info", "warning", "critical"]

SEVERITIES: Mapping[str, Severity] = MappingProxyType(
    {
        "store.unreachable": "critical",
        "store.full": "critical",
        "store.stream_unreachable": "critical",
        "config.refused": "warning",
        "upstream.key_refused": "critical",
        "consumer.silent": "warning",
        "feature.stopped": "warning",
        "budget.all": "critical",
        "budget.most": "warning",
        "budget.half": "info",
        "budget.run_asks": "warning",
        "budget.run_ended": "info",
        "guard.changed": "warning",
        "verdict.reject": "warning",
        "verdict.ship": "info",
        "verdict.ship_except": "info",
        "ramp.back": "warning",
        "ramp.forward": "info",
        "retirement.soon": "warning",
        "retirement.later": "info",
        "model.returned": "warning",
        "model.fingerprint": "info",
        "model.probe": "warning",
        "model.moved": "warning",
        "model.week": "info",
    }
)
"""Severities by SUBJECT.CAUSE. docs/operations.md has this table, and a test compares them."""
OUTAGES: frozenset[Subject] = frozenset({"config", "store", "upstream", "consumer", "feature"})
"""Subjects that say what is broken in the service itself."""


class Priority(IntEnum):
    """The order in which notices are sent; lower numbers are sent first."""

    AT_ONCE = 0
    """Outages, and all that is critical: no limit on messages holds them back."""
    LIMITED = 1
    """Warnings: as many messages in an hour as the receiver takes."""
    DIGEST = 2
    """Information: gathered into one message an hour, once nothing above it waits."""


@dataclass(frozen=True, slots=True)
class Notice:
    """Description of the event, and where to look."""

    id: str
    """Id of the cause: the same cause has the same id, however often and by whichever process it is found."""
    subject: Subject
    title: str
    """One line."""
    text: str
    at: float
    """Unix seconds."""
    path: str
    """Path of the console's page about it."""
    severity: Severity
    """One of `SEVERITIES`."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """The figures, for programs."""

    @property
    def priority(self) -> Priority:
        if self.severity == "critical" or (self.subject in OUTAGES and self.severity == "warning"):
            return Priority.AT_ONCE
        return Priority.DIGEST if self.severity == "info" else Priority.LIMITED


def notice_to_json(notice: Notice) -> str:
    return orjson.dumps(asdict(notice)).decode()


def notice_from_json(text: str) -> Notice:
    return Notice(**orjson.loads(text))
