"""The hint that every message of the gateway adds to an unknown name."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(name: str, known: Iterable[object]) -> str:
    """`; did you mean "chat"?` for the known name most like `name`, or "" if none is similar."""
    close = get_close_matches(name, [str(each) for each in known], n=1, cutoff=0.6)
    return f'; did you mean "{close[0]}"?' if close else ""
