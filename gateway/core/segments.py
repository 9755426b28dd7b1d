"""Segments of a plan: parts of the traffic, distinguished by facts about a request that are known before it is
answered. Pure.

A segment is one value of one property. Gateways compute the values when a call arrives, and records carry them, so that
what a plan decides about a segment can be routed by the same rule. The values of a plan are frozen with it: one that is
not among them belongs to the property's segment `other`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import orjson

LENGTHS = ((1024, "under 1 KB"), (4096, "1 to 4 KB"), (16384, "4 to 16 KB"))
LONGEST = "over 16 KB"
OTHER = "other"
METADATA = "metadata."
KEY, CALLER = "key", "caller"
"""Two words for one property: reports name it after the caller."""
PROPERTIES = ("prompt", "tools", "language", CALLER, "api", "stream")
MOST_PROPERTIES = 6
MOST_VALUES = 8  # of one property
MOST_SEGMENTS = 20
TAIL_BYTES = 192  # of the messages' end, from which the language is guessed
_CUT = 40  # characters of a value
KNOWN_VALUES: Mapping[str, tuple[str, ...]] = {
    "prompt": (*(name for _, name in LENGTHS), LONGEST),
    "tools": ("no", "yes"),
    "stream": ("no", "yes"),
}
"""Properties whose values are known without any traffic."""
Values = tuple[tuple[str, tuple[str, ...]], ...]
"""(property, its values), in the order of the plan."""


@dataclass(frozen=True, slots=True)
class SegmentDesign:
    """The part of a plan that is about segments."""

    by: tuple[str, ...] = ()  # properties whose values are declared segments
    margin: float = 0.1  # of the primary within one segment
    least_share: float = 0.05  # of the pairs: a segment below it is not waited for
    weak_spots: float = 0.02  # error of the search for weak spots; 0 means that none is made
    values: Values = ()  # as the settings state them
    frozen: Values = ()  # of the properties without stated values, as the traffic before the start had them
    more: tuple[tuple[str, str, float], ...] = ()
    """(property, value, factor) of segments that are shadowed more often, so that they are decided with the rest."""

    def fields(self) -> dict[str, Any]:
        """JSON-able, without what is left at its default."""
        found: dict[str, Any] = {
            "by": list(self.by),
            "margin": self.margin,
            "least_share": self.least_share,
            "weak_spots": self.weak_spots,
        }
        for name in ("values", "frozen"):
            pairs: Values = getattr(self, name)
            found |= {name: [[prop, list(values)] for prop, values in pairs]} if pairs else {}
        return {**found, "more": [list(each) for each in self.more]} if self.more else found

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> SegmentDesign:
        """Raises TypeError, ValueError or KeyError."""
        raw = {**fields, "by": tuple(fields["by"])}
        for name in ("values", "frozen"):
            raw[name] = tuple((str(prop), tuple(map(str, values))) for prop, values in raw.get(name, ()))
        raw["more"] = tuple((str(prop), str(value), float(factor)) for prop, value, factor in raw.get("more", ()))
        found = cls(**raw)
        if not (found.margin > 0 and 0 < found.least_share <= 1 and 0 <= found.weak_spots < 1):
            raise ValueError(f"segments: {dict(fields)}")
        return found

    @property
    def as_stated(self) -> SegmentDesign:
        """The design without what was computed from traffic."""
        return replace(self, frozen=(), more=())

    @property
    def declared(self) -> Mapping[str, tuple[str, ...]]:
        """Property → the values that are distinguished."""
        known = {**dict(self.frozen), **dict(self.values)}
        return {prop: known.get(prop) or KNOWN_VALUES.get(prop, ()) for prop in self.by}

    @property
    def unknown(self) -> tuple[str, ...]:
        """Declared properties of which no value is known: all calls are one segment of each, whatever they lose."""
        return tuple(prop for prop, values in self.declared.items() if not values)

    def alike(self, other: SegmentDesign) -> bool:
        """Whether both distinguish the same values, in any order. Rates of small segments may differ."""
        return {prop: set(values) for prop, values in self.declared.items()} == {
            prop: set(values) for prop, values in other.declared.items()
        }

    @property
    def segments(self) -> tuple[tuple[str, str], ...]:
        """(property, value) of every declared segment."""
        found: list[tuple[str, str]] = []
        for prop, values in self.declared.items():
            complete = set(values) >= set(KNOWN_VALUES.get(prop, (OTHER,)))
            found += [(prop, value) for value in (*values, *(() if complete else (OTHER,)))]
        return tuple(found)

    def of(self, raw: Mapping[str, str]) -> dict[str, str]:
        """Property → the declared value, of one request. raw: its values as read."""
        return {prop: raw[prop] if raw.get(prop) in values else OTHER for prop, values in self.declared.items()}

    def factor(self, values: Mapping[str, str]) -> float:
        """Returns the factor by which a request with these declared values is shadowed more often."""
        return max((factor for prop, value, factor in self.more if values.get(prop) == value), default=1.0)

    def counts(self, segment: tuple[str, str], draw: float) -> bool:
        """Whether a call of the segment is in its mean: drawn with the segment's own rate, so that calls which another
        segment is shadowed more often for do not count more there. draw: as CallSegments has it."""
        return draw < self.factor(dict([segment]))


@dataclass(slots=True)
class Segmenter:
    """A design as a gateway applies it to each call: everything that does not depend on the call, computed once."""

    design: SegmentDesign
    reads_tail: bool = field(init=False)
    """Whether the end of the messages is read."""
    _properties: tuple[tuple[str, Callable[[RequestFacts], str], frozenset[str]], ...] = field(init=False)

    def __post_init__(self) -> None:
        declared = self.design.declared.items()
        self.reads_tail = "language" in self.design.by
        self._properties = tuple((prop, _reader(prop), frozenset(values)) for prop, values in declared)

    def values(self, facts: RequestFacts) -> dict[str, str]:
        """Property → the declared value, of one request."""
        read = [(prop, reader(facts), known) for prop, reader, known in self._properties]
        return {prop: value if value in known else OTHER for prop, value, known in read}

    def rate(self, values: Mapping[str, str], shadow: float) -> float:
        """The probability of a shadow of a call with these values. shadow: that of all calls."""
        return min(1.0, shadow * self.design.factor(values)) if self.design.more else shadow


def _reader(prop: str) -> Callable[[RequestFacts], str]:
    return _READERS[prop] if prop in _READERS else partial(_metadata, prop)


def segment_name(prop: str, value: str) -> str:
    """ "tools=yes": the name of a segment in commands, metrics and reasons."""
    return f"{prop}={value}"


def named_segment(name: str) -> tuple[str, str]:
    """(property, value) of a segment's name."""
    prop, _, value = name.partition("=")
    return (CALLER if prop.strip() == KEY else prop.strip()), value.strip()


@dataclass(frozen=True, slots=True)
class RequestFacts:
    """Facts about a request before it is answered."""

    caller: str
    api: str
    stream: bool
    size: int  # bytes of the body as the client sent it
    fields: Mapping[str, Any] = field(default_factory=dict)  # decoded members of the body; `...`: not decoded
    tail: bytes = b""  # the end of its messages, as JSON


def raw_values(by: tuple[str, ...], facts: RequestFacts) -> dict[str, str]:
    """Property → its value of this request; a property that the request lacks is left out."""
    found: dict[str, str] = {}
    for prop in by:
        if value := _reader(prop)(facts):
            found[prop] = value
    return found


def length_name(size: int) -> str:
    """The name of a length in bytes."""
    return next((name for most, name in LENGTHS if size < most), LONGEST)


def _tools(facts: RequestFacts) -> str:
    return "yes" if facts.fields.get("tools") or facts.fields.get("functions") else "no"


def _metadata(prop: str, facts: RequestFacts) -> str:
    metadata = facts.fields.get("metadata")
    value = metadata.get(prop.removeprefix(METADATA)) if isinstance(metadata, dict) else None
    return str(value)[:_CUT].replace("\0", "\ufffd") if isinstance(value, str | int | float | bool) else ""


_READERS: Mapping[str, Callable[[RequestFacts], str]] = {
    "prompt": lambda facts: length_name(facts.size),
    "tools": _tools,
    "language": lambda facts: language_of(facts.tail),
    CALLER: lambda facts: facts.caller[:_CUT],
    "api": lambda facts: facts.api,
    "stream": lambda facts: "yes" if facts.stream else "no",
}

_FUNCTION_WORDS: Mapping[str, str] = {
    "en": "the of and to is that what how you for are with can this my it be does do which please",
    "de": "der die das und ist nicht ein eine ich zu mit auf für wie was von den dem sie wir bitte",
    "fr": "le la les des et est que une dans pour pas qui vous je du sur avec quel comment sont",
    "es": "el los las de que una por para con es cómo qué del se como puedo mi cuál más está",
    "it": "il di che è un una per non con del della sono come cosa gli mi nel quale questo perché",
    "pt": "o os de que uma para com não é do da como em por você qual meu são mais está",
    "nl": "de het een van en is dat niet ik te voor met op zijn hoe wat je kan deze aan",
}
_LANGUAGES = tuple((code, frozenset(words.split())) for code, words in _FUNCTION_WORDS.items())
_SCRIPTS = (
    (0x0370, 0x03FF, "greek"),
    (0x0400, 0x052F, "cyrillic"),
    (0x0590, 0x05FF, "hebrew"),
    (0x0600, 0x06FF, "arabic"),
    (0x0900, 0x097F, "devanagari"),
    (0x0E00, 0x0E7F, "thai"),
    (0x3040, 0x30FF, "ja"),
    (0x4E00, 0x9FFF, "zh"),
    (0xAC00, 0xD7AF, "ko"),
)
_ESCAPED = re.compile(r"\\u([0-9a-fA-F]{4})")
_CONTROL = re.compile(r"\\[nrtbf]")
_WORD = re.compile(r"[^\W\d_]+")
UNKNOWN = "unknown"


def language_of(tail: bytes) -> str:
    """A guess of the language of a JSON text's end: by function words for seven languages in Latin letters, else the
    name of the script. "unknown" where there is no evidence for one of them.

    It only has to be the same for the same request, and cheap: a word or two mistaken for another language puts a
    request into another segment, which does not falsify a verdict.
    """
    text = tail[-TAIL_BYTES:].decode("utf-8", "ignore")
    if "\\" in text:
        text = _ESCAPED.sub(lambda escaped: chr(int(escaped[1], 16)), _CONTROL.sub(" ", text))
    if not text.isascii():
        scripts = Counter(name for c in text if c > "\u036f" for name in _script(ord(c)))
        if sum(scripts.values()) >= 8:
            return "ja" if scripts["ja"] else scripts.most_common(1)[0][0]
    words = set(_WORD.findall(text.lower()))
    second, best, found = 0, 1, UNKNOWN
    for code, known in _LANGUAGES:
        hits = len(words & known)
        if hits > best:
            second, best, found = best, hits, code
        elif hits > second:
            second = hits
    return found if best > second else UNKNOWN


def _script(code: int) -> tuple[str, ...]:
    return tuple(name for low, high, name in _SCRIPTS if low <= code <= high)


@dataclass(frozen=True, slots=True)
class CallSegments:
    """The declared values of one call, as its record has them."""

    values: Mapping[str, str]
    draw: float = 0.0
    """The shadow's draw in units of the plan's share, from 1 on; 0 below it."""

    @property
    def extra(self) -> bool:
        """Whether its shadow was drawn only because a segment is shadowed more often: the call then counts in no mean
        of all calls."""
        return self.draw >= 1.0

    def to_json(self) -> str:
        return orjson.dumps({"values": self.values, **({"draw": self.draw} if self.draw else {})}).decode()


def segments_from_json(text: str | None) -> CallSegments | None:
    """Segments of a record; None if it has none, or holds something else."""
    if not text:
        return None
    try:
        raw = orjson.loads(text)
        return CallSegments({str(k): str(v) for k, v in raw["values"].items()}, float(raw.get("draw", 0.0)))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
