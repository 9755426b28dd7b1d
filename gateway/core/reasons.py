"""Reasons why a part of a program does not work as it should, for heartbeats and every /health."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

MOST_WHY = 500
"""Characters of a cause."""


@dataclass(frozen=True, slots=True)
class Reason:
    """One part that is paused or fails. Neither text holds a secret, or content of a call."""

    what: str
    """Name of the part, for everyone who reaches the page: no address and no name of a file."""
    why: str = ""
    """Cause, for those who may read metrics; "" if there is no more to say."""

    def __str__(self) -> str:
        return f"{self.what}: {self.why[:MOST_WHY]}" if self.why else self.what


def on_page(reasons: Iterable[Reason], *, causes: bool) -> list[str]:
    """The `reasons` of /health. causes: with the cause of each."""
    return [str(reason) if causes else reason.what for reason in reasons]


def one_line(error: Exception) -> str:
    """The text of an error on one line; its class if it has none."""
    lines = (line.strip() for line in str(error).splitlines())
    return "; ".join(line for line in lines if line)[:MOST_WHY] or type(error).__name__
