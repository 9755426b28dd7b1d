"""A notice for people: one cause, said once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import orjson

Subject = Literal["budget", "verdict", "ramp", "retirement", "config", "store", "guard"]
Severity = Literal["info", "warning", "critical"]


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
    path: str = "/console"
    """Path of the console's page about it."""
    severity: Severity = "info"
    data: Mapping[str, Any] = field(default_factory=dict)
    """The figures, for programs."""


def notice_to_json(notice: Notice) -> str:
    return orjson.dumps(asdict(notice)).decode()


def notice_from_json(text: str) -> Notice:
    return Notice(**orjson.loads(text))
