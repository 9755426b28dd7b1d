"""The differences between two recordings, each with its case and its place."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import takewhile
from typing import Any

from golden.recorded_file import Recording

MOST_SHOWN = 40
_LONGEST, _CONTEXT = 300, 60


def differences(before: Any, after: Any, place: str = "", *, exact: bool = False) -> Iterator[str]:
    """One line for each value that differs. exact: numbers too must be equal to their last digit."""
    if isinstance(before, dict) and isinstance(after, dict):
        for name in [*before, *(new for new in after if new not in before)]:
            yield from _member(before, after, name, f"{place}/{name}", exact=exact)
    elif isinstance(before, list) and isinstance(after, list):
        for n in range(max(len(before), len(after))):
            at = f"{place}[{n}]"
            if n >= len(before) or n >= len(after):
                yield f"{at}: {_text(before[n:])} → {_text(after[n:])}"
                return
            yield from differences(before[n], after[n], at, exact=exact)
    elif not _alike(before, after, exact=exact):
        yield f"{place}: {' → '.join(_texts(before, after))}"


def _texts(before: Any, after: Any) -> tuple[str, str]:
    """Both values; of long texts, what begins shortly before the first difference."""
    if not (isinstance(before, str) and isinstance(after, str)):
        return _text(before), _text(after)
    equal = takewhile(lambda pair: pair[0] == pair[1], zip(before, after, strict=False))
    start = max(sum(1 for _ in equal) - _CONTEXT, 0)
    return _text(before[start:]), _text(after[start:])


def _member(before: Any, after: Any, name: str, place: str, *, exact: bool) -> Iterator[str]:
    if name not in before:
        yield f"{place}: new: {_text(after[name])}"
    elif name not in after:
        yield f"{place}: gone: {_text(before[name])}"
    else:
        yield from differences(before[name], after[name], place, exact=exact)


def _alike(before: Any, after: Any, *, exact: bool) -> bool:
    """Another processor may compute other last digits."""
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (before, after))
    if numbers and not exact:
        return math.isclose(before, after, rel_tol=1e-9, abs_tol=1e-9)
    return type(before) is type(after) and bool(before == after)


def _text(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def explained(before: Recording, after: Recording, *, exact: bool = False) -> str:
    """The first differences, a line each; "" if there is none."""
    found = list(differences(before, after, exact=exact))
    more = [f"… and {len(found) - MOST_SHOWN} more"] if len(found) > MOST_SHOWN else []
    return "\n".join([*found[:MOST_SHOWN], *more])
