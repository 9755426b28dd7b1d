"""The hint that every message of the gateway adds to an unknown name."""

from __future__ import annotations

from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[object]) -> str:
    """`; did you mean "chat"?` for the known name most like `name`, or "" if none is similar."""
    from difflib import get_close_matches  # a megabyte that a program without mistakes never needs

    close = get_close_matches(name, [str(each) for each in known], n=1, cutoff=0.6)
    return f'; did you mean "{close[0]}"?' if close else ""
