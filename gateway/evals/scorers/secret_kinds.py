"""What of the forms of secrets an answer holds. Pure; the forms themselves are words of both rooms."""

from __future__ import annotations

from collections.abc import Iterator

from gateway.core.secret_patterns import KINDS, Kind

READ = 200_000  # characters


def found_in(text: str, kinds: tuple[Kind, ...]) -> Iterator[Kind]:
    """The kind of each thing found, as often as it is found."""
    text = text[:READ]
    for kind in kinds:
        pattern, needs, true = KINDS[kind]
        if needs is not None and needs not in text:
            continue
        for match in pattern.finditer(text):
            if true(match[0]):
                yield kind
