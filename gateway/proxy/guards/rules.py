"""The rules that the gateway's own process evaluates: each finds spans of a text, in time linear in it. Pure.

A rule also gives the end of a text that may be the beginning of a longer match, so that a stream is released only up to
there.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from tomllib import loads
from typing import Any, Protocol

from gateway.config.guards import GuardConfig
from gateway.config.privacy import RedactionConfig, RedactionPattern, RuleName, compile_pattern
from gateway.core.open_match import beginnings
from gateway.proxy.recording.redaction.finder import WINDOW, Finder, Match, merge_overlaps, says_secret, unfinished
from gateway.proxy.recording.redaction.plain_text import DISGUISES, PlainText

_LOOK_BACK = 600  # characters of an end that are looked at for what is broken off
_RUN = re.compile(r"\S*(?:[ \t]{0,3}\r?\n[ \t>|]{0,8}\S*)*\Z")
"""A word at the end of a text, also over lines: the finder reads a wrapped value as one."""
_NUMBER = re.compile(r"(?:[+(]\s?){0,2}\d[\d\s()./+\u00a0\u00ad\u200b-\u200d\u2010-\u2015\u2060\u2212-]*\Z")
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}\d{2}[A-Za-z0-9\s-]*\Z")
_SIGN = re.compile(r"[=:]")
_OPEN_VALUE = re.compile(r"\s{0,3}(?:\\{0,8}\"[^\"\n]*|\\{0,8}'[^'\n]*|[^\s\"'\\,;(){}\[\]<>]*)\Z")
_LONGEST_NAME = 48
_MOST_DISGUISES = 8
"""Characters for each one that shows, up to which the end of a stream's text is read without those that do not."""
_UUID = re.compile(
    r"(?<![0-9A-Za-z])(?=[0-9-]*[a-fA-F])[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"
    r"(?![0-9A-Za-z])"
)


class SpanRule(Protocol):
    """Finds places in a text."""

    @property
    def secret_members(self) -> bool:
        """Whether the value of a JSON member whose name says that it is a secret is a match."""

    def find(self, text: str) -> Sequence[Match]:
        """The matches in order, none of which overlap."""

    def open_from(self, text: str) -> int:
        """Offset from which the end of the text may belong to a longer match; the text's length: none may."""


class FormRule:
    """The redactor's forms of secrets or of personal data."""

    def __init__(self, kinds: Iterable[RuleName]) -> None:
        kinds = tuple(kinds)
        self.secret_members = "key" in kinds
        self._finder = Finder(RedactionConfig(rules=kinds))

    def find(self, text: str) -> Sequence[Match]:
        found = [match for window in self._finder.hits(text) for match in window]
        return merge_overlaps(_outside_ids(text, found)) if found else found

    def open_from(self, text: str) -> int:
        return _open_in_plain(text, _LOOK_BACK, _open_form)


def _open_form(end: str) -> int:
    starts = [unfinished(end)]
    for pattern in (_RUN, _NUMBER, _IBAN):
        if found := pattern.search(end):
            starts.append(found.start())
    return min([*starts, *_open_values(end)])


def _outside_ids(text: str, found: list[Match]) -> list[Match]:
    """The matches without telephone numbers that are groups of a UUID: one UUID of 250 looks like one."""
    if all(match.rule != "phone" for match in found):
        return found
    spans = [uuid.span() for uuid in _UUID.finditer(text)]
    starts = [start for start, _ in spans]
    return [match for match in found if match.rule != "phone" or not _within(match, spans, starts)]


def _within(match: Match, spans: Sequence[tuple[int, int]], starts: Sequence[int]) -> bool:
    at = bisect_right(starts, match.start) - 1
    return at >= 0 and match.end <= spans[at][1]


def _in_plain(text: str, matches: Callable[[str], list[Match]]) -> list[Match]:
    """The matches in a text as a reader sees it."""
    plain = PlainText(text)
    return [Match(*plain.span(m.start, m.end), m.rule, m.mark) for m in matches(plain.text) if m.end > m.start]


def _open_in_plain(text: str, look_back: int, open_from: Callable[[str], int]) -> int:
    """Offset from which the end of a text may belong to a longer match, also where it is read without disguises."""
    back = max(0, len(text) - look_back)
    start = back + open_from(text[back:])
    if DISGUISES.search(text, back) is None:
        return start
    back = max(0, len(text) - look_back * _MOST_DISGUISES)
    plain = PlainText(text[back:])
    end = max(0, len(plain.text) - look_back)
    at = end + open_from(plain.text[end:])
    return min(start, back + plain.span(at, at + 1)[0]) if at < len(plain.text) else start


def _open_values(text: str) -> Iterator[int]:
    """Offsets of values at the end of a text whose name says that they are secrets."""
    for sign in _SIGN.finditer(text):
        named = says_secret(text[max(0, sign.start() - _LONGEST_NAME) : sign.start()])
        if named and _OPEN_VALUE.match(text, sign.end()):
            yield sign.end()


@dataclass(frozen=True, slots=True)
class _Pattern:
    name: str
    mark: str
    pattern: Any
    """Compiled by google-re2, which runs in linear time."""
    begun: Any
    """Matches an end of a text where a match of `pattern` may have begun."""


class PatternRule:
    """Patterns of the config."""

    secret_members = False

    def __init__(self, patterns: Iterable[RedactionPattern]) -> None:
        self._patterns = [
            _Pattern(p.name, p.replace or f"[{p.name}]", compile_pattern(p.regex), compile_pattern(beginnings(p.regex)))
            for p in patterns
        ]

    def find(self, text: str) -> Sequence[Match]:
        found = self._matches(text)
        if DISGUISES.search(text) is not None:
            found += _in_plain(text, self._matches)
        return merge_overlaps(found) if found else found

    def open_from(self, text: str) -> int:
        return _open_in_plain(text, len(text), self._begun)

    def _matches(self, text: str) -> list[Match]:
        return [
            Match(match.start(), match.end(), each.name, each.mark)
            for each in self._patterns
            for match in each.pattern.finditer(text)
        ]

    def _begun(self, text: str) -> int:
        begun = (each.begun.search(text) for each in self._patterns)
        return min((found.start() for found in begun if found is not None), default=len(text))


class PhraseRule:
    """Phrases by which texts try to take over a model: injection.toml. Variants with a word more or less do not
    match."""

    secret_members = False
    _MARK = "[instruction]"

    def __init__(self, phrases: dict[str, list[str]]) -> None:
        """phrases: patterns by name, without unbounded repeats, a blank for any white space."""
        self._patterns = [
            (name, re.compile("|".join(f"(?:{each.replace(' ', _BLANK)})" for each in listed), re.I))
            for name, listed in phrases.items()
        ]

    @classmethod
    def packaged(cls) -> PhraseRule:
        return cls(loads(files(__package__).joinpath("injection.toml").read_text("utf-8"))["phrases"])

    def find(self, text: str) -> Sequence[Match]:
        found = self._matches(text)
        if DISGUISES.search(text) is not None:
            found += _in_plain(text, self._matches)
        return merge_overlaps(found) if found else found

    def open_from(self, text: str) -> int:
        return _open_in_plain(text, LONGEST_PHRASE, lambda _: 0)

    def _matches(self, text: str) -> list[Match]:
        """Searches window by window: other threads run between two of them."""
        return [
            Match(*match.span(), name, self._MARK)
            for low in range(0, len(text), WINDOW)
            for name, pattern in self._patterns
            for match in pattern.finditer(text, low, low + WINDOW + LONGEST_PHRASE)
        ]


_BLANK = r"\s{1,4}"
LONGEST_PHRASE = 160
"""Characters of the longest match of a phrase."""


_MAKERS: dict[str, Callable[[GuardConfig], SpanRule]] = {
    "secrets": lambda _: FormRule(("key",)),
    "personal_data": lambda config: FormRule(config.kinds),
    "patterns": lambda config: PatternRule(config.patterns),
    "prompt_injection": lambda _: PhraseRule.packaged(),
}


def span_rule(config: GuardConfig) -> SpanRule | None:
    """The rule of a guard that finds spans; None means that it is judged otherwise. Raises ValueError for a pattern
    that is not valid.
    """
    make = _MAKERS.get(config.scorer)
    return None if make is None else make(config)
