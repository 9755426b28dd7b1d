"""Finds keys, card and account numbers, addresses and telephone numbers in a text, and users' own patterns. Pure.

It is stricter than the scorer that counts secrets: a value missed here has left the process. So the forms are wider,
repeats have no upper bound, and a number is also tried without its continuation. Each search looks for matches that
begin in a window of the text and is linear in it: it starts only at a fixed word, a digit or an @.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from string import ascii_letters, digits
from typing import Any, Protocol

from gateway.config.privacy import RedactionConfig, compile_pattern
from gateway.core.secret_patterns import luhn, mod97
from gateway.proxy.recording.redaction.plain_text import DISGUISES, PlainText, joins

Span = tuple[int, int]
Reached = dict[str, int]
"""Ends of the last values that a search has read in a text, by kind. A value is as long as its text allows: one that
begins within another of its kind ends with it, and reading it again in every window would take quadratic time."""


class Search(Protocol):
    def __call__(self, text: str, low: int, high: int, reached: Reached | None = None, /) -> Iterator[Span]:
        """Yields the spans that begin in [low, high), or a little earlier. reached: of the windows before."""
        ...


_WHOLE = ("AKIA", "ASIA", "AIza", "eyJ")
_BEFORE_UNDERSCORE = (
    "gho", "ghp", "ghr", "ghs", "ghu", "github", "gsk", "hf", "npm", "pk_live", "pk_test", "rk_live", "rk_test",
    "sk_live", "sk_test", "whsec",
)  # fmt: skip
_BEFORE_DASH = ("glpat", "pypi", "sk", "xai", "xapp", "xoxa", "xoxb", "xoxe", "xoxo", "xoxp", "xoxr", "xoxs")
_BEFORE_DOT = ("xoxe",)
_BEGINNINGS = (("_", _BEFORE_UNDERSCORE), ("-", _BEFORE_DASH), (".", _BEFORE_DOT))


def _behind(sign: str, words: tuple[str, ...]) -> re.Pattern[str]:
    """The sign after one of these words: the search runs from sign to sign, which are rarer than letters."""
    lengths = sorted({len(word) for word in words})
    ends = "".join(sorted({word[-1] for word in words}))
    of_length = ("|".join(f"{word}{re.escape(sign)}" for word in words if len(word) == n) for n in lengths)
    return re.compile(f"{re.escape(sign)}(?<=[{ends}].)(?:{'|'.join(f'(?<={each})' for each in of_length)})")


_KINDS = {  # of keys, by the characters that continue them
    "AKIA": "upper", "ASIA": "upper", "AIza": "word-", "eyJ": "jwt", "github": "word", "whsec": "base64",
    **dict.fromkeys(("glpat", "pypi", "sk", "xai", "xapp"), "word-"),
    **dict.fromkeys((word for word in _BEFORE_DASH if word.startswith("xox")), "word."),
}  # fmt: skip
_BEHIND_WORDS = tuple((_behind(sign, words), words) for sign, words in _BEGINNINGS)
_LONGEST_BEGINNING = 7
_START = re.compile(
    r"A(?:KIA|SIA)|AIza|eyJ|gh[oprsu]_|github_pat_|glpat-|gsk_|hf_|npm_|pypi-|[prs]k_(?:live|test)_|sk-|whsec_|xai-|"
    r"xapp-|xox[abeoprs][.-]",
    re.ASCII,
)
_KEY = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"A(?:KIA|SIA)[A-Z0-9]{12,}+"
    r"|AIza[\w-]{30,}+"
    r"|(?<![\w-])eyJ[\w-]{8,}+\.[\w-]{8,}+(?:\.[\w-]*+){0,3}"  # a JSON Web Token, also encrypted or unsigned
    r"|gh[oprsu]_[A-Za-z0-9]{20,}+|github_pat_\w{20,}+|glpat-[\w-]{16,}+|(?:gsk|hf)_[A-Za-z0-9]{20,}+"
    r"|npm_[A-Za-z0-9]{20,}+|pypi-[\w-]{20,}+|sk-[\w-]{16,}+|[prs]k_(?:live|test)_[A-Za-z0-9]{12,}+"
    r"|whsec_[\w+/=]{16,}+|xai-[\w-]{20,}+|xapp-[\w-]{10,}+|xox[abeoprs][\w.-]{10,}+"
    r")",
    re.ASCII,
)
_REST_OF_LINE = re.compile(r"[\w.~+/=-]{1,200}", re.ASCII)
_WRAPPED = re.compile(  # a line that holds nothing but what may be the next piece of a key
    r"[ \t]{0,3}\r?\n[ \t>|]{0,8}((?=[\w.~+/=-]{0,200}\d)(?=[\w.~+/=-]{0,200}[A-Za-z])[\w.~+/=-]{4,200})"
    r"(?=[\"'`,;)}\]]{0,3}[ \t]{0,3}(?:[\r\n]|\Z))",
    re.ASCII,
)
_MOST_LINES = 64
_BLOCK = re.compile(r"-----BEGIN (?:[A-Z0-9]{2,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----")
_BEARER = re.compile(r"(?i:bearer|token)\s{1,4}((?=[\w.~+/=-]{0,64}\d)[\w.~+/=-]{16,}+)", re.ASCII)
_BASIC = re.compile(r"(?i:basic)\s{1,4}((?=[A-Za-z]{0,40}[0-9+/=])[A-Za-z0-9+/]{12,}+={0,2})", re.ASCII)
_SCHEMES = (("earer", _BEARER), ("EARER", _BEARER), ("oken ", _BEARER), ("asic ", _BASIC))  # without their first letter
_IN_URL = re.compile(r"://[^\s/:@\"']{0,100}:([^\s/@\"']{1,200})@")
# Endings of names of members and variables whose values are secret, whatever they look like; without - and _.
_NAMES = (
    "apikey", "apikeys", "secretkey", "accesskey", "accesskeyid", "clientsecret", "secret", "password", "passwd",
    "passphrase", "pwd", "authtoken", "accesstoken", "refreshtoken", "idtoken", "sessiontoken", "bearertoken",
    "privatekey", "authorization", "credential", "credentials", "passwort", "kennwort", "mot de passe", "motdepasse",
)  # fmt: skip
_LAST = "ydstenlYDSTENL"  # letters of _NAMES
_LAST_TWO = "(?i:ey|ys|id|et|rd|wd|se|en|on|al|ls|rt)"
_QUOTE = r"[ \t\"'\\]"  # may follow a name


def _named(sign: str) -> re.Pattern[str]:
    """The sign after a possible name of _NAMES, in which - and _ do not occur: most signs need no closer look."""
    two, quoted = (rf"{_LAST_TWO}", rf"[-_][{_LAST}]"), (r"[ \t\"'\\_-]",)
    before = [*two, *(each + _QUOTE for each in (*two, *quoted))]
    return re.compile(f"{sign}(?:{'|'.join(f'(?<={each}.)' for each in before)})")


_SIGNS = (_named("="), _named(":"))
_NO_DASHES = str.maketrans("", "", "-_")
_VALUE = re.compile(
    r"\s{0,3}(?:\"([^\"\\\n]{6,200})\"|'([^'\\\n]{6,200})'|(?:\\{0,8}[\"'])?([^\s\"'\\,;(){}\[\]<>]{6,}))", re.ASCII
)
_UNQUOTED = 3  # the group of _VALUE that has no longest match
_LONGEST_NAME = 48

_LOCAL = re.compile(r"[\w.%+'’-]{1,64}\Z")
_DOMAIN = re.compile(r"(?:[^\W_][\w-]{0,62}+\.){1,10}(?:xn--[\w-]{2,59}|[^\W\d_]{2,24})")

_NUMBER = re.compile(r"\d[\d ()./+\u00a0-]{6,}")
_ASCII_NUMBER = re.compile(r"[0-9][0-9 ()./+-]{6,}")
_ALNUM = frozenset(ascii_letters + digits)
_CARD = re.compile(r"(?<![\d.])[2-6]\d{3}(?:[ .\u00a0-]{0,2}\d){8,20}", re.ASCII)
_PHONE = re.compile(
    r"(?<![\w+.])(?:"
    r"(?:\+|00)[1-9]\d{0,2}[ ./\u00a0-]{0,2}(?:\(\d{1,4}\)[ ./\u00a0-]{0,2})?\d{1,4}(?:[ ./\u00a0-]?\d{2,5}){1,6}"
    r"|\(0?\d{2,5}\)[ \u00a0]?\d{2,5}(?:[ .\u00a0-]?\d{2,5}){1,3}"
    r"|(?:1[ .-])?[2-9]\d{2}([.\u00a0 -])\d{3}\1\d{4}"  # North America
    r"|0[1-9]\d{0,4}[ /\u00a0]\d{2,8}(?:[ \u00a0]\d{2,5}){0,4}|0[1-9]\d{1,4}-\d{3,8}|0\d{1,4}-\d{2,4}-\d{4}"
    r")(?![\w]|[.-]\d)",
    re.ASCII,
)
_IBAN_DIGITS = re.compile(r"\d(?<=[A-Za-z]{2}\d)(?<![A-Za-z0-9_]...)\d", re.ASCII)  # begins with what is rare
_IBAN = re.compile(r"[A-Za-z]{2}\d{2}(?:[ -]?[A-Za-z0-9]){11,30}", re.ASCII)


def keys(text: str, low: int, high: int, reached: Reached | None = None) -> Iterator[Span]:
    """Providers' keys, tokens, key blocks, and values whose name says that they are secret."""
    reached = {} if reached is None else reached
    start = end = -1
    before = dict(reached)  # in a window, beginnings do not come in their order
    for at, kind in _beginnings(text, low, high):
        if start <= at < end or at < before.get(kind, 0):
            continue
        if end_of_key := _key_end(text, at):
            start, end = at, end_of_key
            reached[kind] = max(end, reached.get(kind, 0))
            yield start, end
    for word, pattern in _SCHEMES:
        for at in _positions(text, word, low, high):
            if found := pattern.match(text, max(0, at - 1)):
                yield found.start(1), _over_lines(text, found.end(1))
    yield from _blocks(text, low, high, reached)
    for at in _positions(text, "://", low, high):
        if found := _IN_URL.match(text, at):
            yield found.span(1)
    for sign in _SIGNS:
        yield from _assigned(text, low, high, sign, reached)


def _key_end(text: str, at: int) -> int:
    """End offset of the key starting here (may span lines); 0 if none."""
    if found := _KEY.match(text, at):
        return _over_lines(text, found.end())
    line = _REST_OF_LINE.match(text, at)
    end = _over_lines(text, line.end()) if line else 0
    if line is None or end == line.end():
        return 0
    before = text[at - 1 : at]  # the form looks at it
    whole = before + "".join(text[at:end].replace(">", "").replace("|", "").split())
    return end if _KEY.match(whole, len(before)) else 0


def _over_lines(text: str, end: int) -> int:
    """The end of a value that continues on lines of its own."""
    for _ in range(_MOST_LINES):
        more = _WRAPPED.match(text, end)
        if more is None:
            break
        end = more.end()
    return end


def _beginnings(text: str, low: int, high: int) -> Iterator[tuple[int, str]]:
    """Offset at which a provider's key may begin, and its kind. Searches for the sign within it, which is rarer in most
    texts."""
    for word in _WHOLE:
        for at in _positions(text, word, low, high):
            yield at, _KINDS[word]
    for pattern, words in _BEHIND_WORDS:
        for found in pattern.finditer(text, low, high):
            before = text[max(0, found.start() - _LONGEST_BEGINNING) : found.start()]
            word = max((w for w in words if before.endswith(w)), key=len)
            yield found.start() - len(word), _KINDS.get(word, "letters")


def _assigned(text: str, low: int, high: int, sign: re.Pattern[str], reached: Reached) -> Iterator[Span]:
    after, read = low, reached.get(sign.pattern, 0)
    for sign_found in sign.finditer(text, low, high):
        at = sign_found.start()
        if at < after or at + 1 < read or not says_secret(text[max(0, at - _LONGEST_NAME) : at]):
            continue
        found = _VALUE.match(text, at + 1)
        if found:
            after = found.end()
            if found.lastindex == _UNQUOTED:
                reached[sign.pattern] = after
            yield found.span(found.lastindex or 0)


def _positions(text: str, word: str, low: int, high: int) -> Iterator[int]:
    at = text.find(word, low, high)
    while at >= 0:
        yield at
        at = text.find(word, at + len(word), high)


def _blocks(text: str, low: int, high: int, reached: Reached) -> Iterator[Span]:
    """Private keys, from the first line to the last; to the end of the text if that is missing."""
    begin = max(low, reached.get("block", 0))
    at = text.find("-----BEGIN ", begin, high) if begin < high else -1
    while at >= 0:
        end = at + 1
        if _BLOCK.match(text, at):
            closing = text.find("-----END ", at)
            closed = text.find("-----", closing + 9) if closing >= 0 else -1
            end = reached["block"] = closed + 5 if closed >= 0 else len(text)
            yield at, end
        at = text.find("-----BEGIN ", end, high) if end < high else -1


def emails(text: str, low: int, high: int, _: Reached | None = None) -> Iterator[Span]:
    for sign in ("@", "%40"):
        for at in _positions(text, sign, low, high):
            domain = _DOMAIN.match(text, at + len(sign))
            local = _LOCAL.search(text[max(0, at - 64) : at]) if domain else None
            if domain and local:
                yield at - len(local[0]), domain.end()


def numbers(text: str, low: int, high: int) -> Iterator[Span]:
    """Runs of digits and separators, each with two characters before it."""
    pattern = _ASCII_NUMBER if text.isascii() else _NUMBER
    for found in pattern.finditer(text, low, min(len(text), high + 64)):
        yield max(0, found.start() - 2), found.end()


def cards(text: str, low: int, high: int, _: Reached | None = None) -> Iterator[Span]:
    for start, end in numbers(text, low, high):
        at = start
        while (found := _CARD.search(text, at, end)) is not None:
            stop = _longest(text, *found.span(), 13, 19, luhn)
            if stop:
                yield found.start(), stop
            at = stop or _next_group(text, *found.span())


def ibans(text: str, low: int, high: int, _: Reached | None = None) -> Iterator[Span]:
    for first in _IBAN_DIGITS.finditer(text, low, min(len(text), high + 3)):
        found = _IBAN.match(text, first.start() - 2)
        stop = _longest(text, *found.span(), 15, 34, mod97) if found else 0
        if found and stop:
            yield found.start(), stop


def _longest(text: str, start: int, end: int, least: int, most: int, passes: Callable[[str], bool]) -> int:
    """The end of the longest run of complete groups that passes the check; 0 if no run does.

    least, most: letters and digits in the run.
    """
    compact = ""
    stops: list[tuple[int, int]] = []
    for at in range(start, end):
        if text[at] in _ALNUM:
            compact += text[at]
            if len(compact) > most:
                break
            if len(compact) >= least and text[at + 1 : at + 2] not in _ALNUM:
                stops.append((len(compact), at + 1))
    compact = compact.upper()
    return next((stop for length, stop in reversed(stops) if passes(compact[:length])), 0)


def _next_group(text: str, start: int, end: int) -> int:
    at = start
    while at < end and text[at].isdigit():
        at += 1
    return at + 1


def phones(text: str, low: int, high: int, _: Reached | None = None) -> Iterator[Span]:
    for start, end in numbers(text, low, high):
        for found in _PHONE.finditer(text, start, min(len(text), end + 2)):
            if found.end() <= end and 9 - (found[0][0] in "+(") <= sum(c.isdigit() for c in found[0]) <= 16:
                yield found.span()


FORMS: Mapping[str, Search] = {"key": keys, "card": cards, "iban": ibans, "email": emails, "phone": phones}


def says_secret(name: str) -> bool:
    """Whether the name of a member, or the text before a sign, says that its value is a secret."""
    return name.rstrip(" \t\"'\\")[-_LONGEST_NAME:].lower().translate(_NO_DASHES).endswith(_NAMES)


def unfinished(text: str) -> int:
    """Offset of a secret that the end of a cut text may break off; len(text) if none."""
    run = max(text.rfind(c) for c in " \n\t\r") + 1
    begun = _START.search(text, run)
    starts = [begun.start()] if begun else []
    if "@" in text[run:] or "%40" in text[run:]:
        starts.append(run)
    back = max(0, len(text) - 64)
    for pattern in _OPEN:
        found = pattern.search(text, back)
        starts += [found.start()] if found else []
    sign = max(text.rfind("=", back), text.rfind(":", back))
    if sign >= 0 and says_secret(text[max(0, sign - _LONGEST_NAME) : sign]):
        starts.append(sign + 1)
    return min(starts, default=len(text))


_OPEN = (
    re.compile(r"[+(]?\d[\d ()./+\u00a0-]{3,}\Z"),
    re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}\d{2}[A-Za-z0-9 -]*\Z"),
    re.compile(r"(?i:bearer|token|basic)\s+\S*\Z|-----BEGIN[A-Z -]*\Z|://[^\s/@]*\Z"),
)


WINDOW = 8_192  # characters searched at once
_LEAST = 6  # no form is shorter
_REACH = 128  # characters around a window in which a wrapped number may go on


@dataclass(frozen=True, slots=True)
class Match:
    """`rule` has found text[start:end], which `mark` replaces."""

    start: int
    end: int
    rule: str
    mark: str


@dataclass(frozen=True, slots=True)
class CustomPattern:
    name: str
    mark: str
    pattern: Any
    """Compiled by google-re2, which runs in linear time."""


class Finder:
    """The rules and patterns of one config."""

    def __init__(self, config: RedactionConfig) -> None:
        self._forms: list[tuple[str, Search]] = [(rule, FORMS[rule]) for rule in FORMS if rule in config.rules]
        self._own = [
            CustomPattern(p.name, p.replace or f"[{p.name}]", compile_pattern(p.regex)) for p in config.patterns
        ]

    def hits(self, text: str) -> Iterator[list[Match]]:
        """The matches, window by window, so that the event loop can run between two of them."""
        if len(text) >= _LEAST:
            reached: Reached = {}
            for low in range(0, len(text), WINDOW):
                yield [Match(a, b, rule, f"[{rule}]") for rule, a, b in self._found(text, low, reached)]
            if DISGUISES.search(text):
                plain, reached = PlainText(text), {}
                for low in range(0, len(plain.text), WINDOW):
                    found = self._found(plain.text, low, reached)
                    yield [Match(*plain.span(a, b), rule, f"[{rule}]") for rule, a, b in found]
                for wrapped in self._wrapped(plain.text):
                    yield [Match(*plain.span(a, b), rule, f"[{rule}]") for rule, a, b in wrapped]
            else:
                for wrapped in self._wrapped(text):
                    yield [Match(a, b, rule, f"[{rule}]") for rule, a, b in wrapped]
        for own in self._own:
            spans = (found.span() for found in own.pattern.finditer(text))
            yield [Match(start, end, own.name, own.mark) for start, end in spans if end > start]

    def hits_across(self, text: str, ends: Sequence[int]) -> Iterator[list[Match]]:
        """The matches that begin in one part of a text and end in another. ends: of the parts, in order."""
        for window in self.hits(text):
            yield [hit for hit in window if bisect_right(ends, hit.start) < bisect_left(ends, hit.end)]

    def _wrapped(self, text: str) -> Iterator[list[tuple[str, int, int]]]:
        """Finds values that show only if line breaks are read over, window by window."""
        for low in range(0, len(text), WINDOW) if "\n" in text else ():
            start = max(0, low - _REACH)
            piece = text[start : low + WINDOW + _REACH]
            if changes := joins(piece):
                yield [(rule, start + a, start + b) for rule, a, b in self._over(PlainText(piece, changes))]

    def _over(self, joined: PlainText) -> Iterator[tuple[str, int, int]]:
        """Finds values that span a join. A telephone number has to begin with a +, as columns of numbers look like
        others."""
        reached: Reached = {}
        for low in range(0, len(joined.text), WINDOW):
            for rule, a, b in self._found(joined.text, low, reached):
                across = bisect_right(joined.changed, a) < bisect_left(joined.changed, b)
                if across and (rule != "phone" or joined.text[a] == "+"):
                    yield rule, *joined.span(a, b)

    def _found(self, text: str, low: int, reached: Reached) -> Iterator[tuple[str, int, int]]:
        high = min(len(text), low + WINDOW)
        return ((rule, a, b) for rule, form in self._forms for a, b in form(text, low, high, reached))


def merge_overlaps(hits: Sequence[Match]) -> list[Match]:
    """The matches in order; those that overlap become one, under the rule of the longest."""
    merged: list[Match] = []
    longest = 0
    for hit in sorted(hits, key=lambda h: (h.start, -h.end)):
        if merged and hit.start < merged[-1].end:
            last = merged[-1]
            named = hit if hit.end - hit.start > longest else last
            merged[-1] = Match(last.start, max(last.end, hit.end), named.rule, named.mark)
        else:
            merged.append(hit)
            named = hit
        longest = max(named.end - named.start, longest) if named is not hit else hit.end - hit.start
    return merged
