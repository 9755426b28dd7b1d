"""The rules of one config, and all that they find in a text. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.config.privacy import RedactionConfig, compile_pattern
from gateway.proxy.recording.redaction.forms import FORMS, Search

WINDOW = 8_192  # characters searched at once
_LEAST = 6  # no form is shorter


@dataclass(frozen=True, slots=True)
class Match:
    """text[start:end] is what `rule` looks for; mark stands in its place."""

    start: int
    end: int
    rule: str
    mark: str


@dataclass(frozen=True, slots=True)
class CustomPattern:
    """A user's pattern. pattern: google-re2's."""

    name: str
    mark: str
    pattern: Any


class Finder:
    """What one config looks for."""

    def __init__(self, config: RedactionConfig) -> None:
        self._forms: list[tuple[str, Search]] = [(rule, FORMS[rule]) for rule in FORMS if rule in config.rules]
        self._own = [
            CustomPattern(p.name, p.replace or f"[{p.name}]", compile_pattern(p.regex)) for p in config.patterns
        ]

    def hits(self, text: str) -> Iterator[list[Match]]:
        """What is found, window by window: between two of them others may have their turn."""
        if len(text) >= _LEAST:
            for low in range(0, len(text), WINDOW):
                high = min(len(text), low + WINDOW)
                yield [Match(a, b, rule, f"[{rule}]") for rule, form in self._forms for a, b in form(text, low, high)]
        for own in self._own:
            spans = (found.span() for found in own.pattern.finditer(text))
            yield [Match(start, end, own.name, own.mark) for start, end in spans if end > start]


def apart(hits: Sequence[Match]) -> list[Match]:
    """Hits that overlap become one, under the rule of the longest."""
    merged: list[Match] = []
    longest = 0
    for hit in sorted(hits, key=lambda h: (h.start, -h.end)):
        if merged and hit.start < merged[-1].end:
            last = merged[-1]
            said = hit if hit.end - hit.start > longest else last
            merged[-1] = Match(last.start, max(last.end, hit.end), said.rule, said.mark)
        else:
            merged.append(hit)
            said = hit
        longest = max(said.end - said.start, longest) if said is not hit else hit.end - hit.start
    return merged
