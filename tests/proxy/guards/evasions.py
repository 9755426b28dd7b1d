"""Ways to write a text that a guard looks for: what JSON, HTTP and Unicode define, and what has been tried.

`leaks` reads bytes as the most lenient reader would.
"""

from __future__ import annotations

import base64
import gzip
import json
import re
import sys
import unicodedata
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import orjson

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

CARD = "4111 1111 1111 1111"
FILLER = "x " * 600
_IGNORED = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\U000e0000-\U000e0fff]"
)
_ESCAPED = re.compile(r"\\+u([0-9a-fA-F]{4})")


def leaks(data: bytes) -> bool:
    """Whether a reader of these bytes finds the card's number."""
    return any("4111111111111111" in _plain(text) for text in _texts(data))


def _texts(data: bytes) -> Iterator[str]:
    whole = data.decode("utf-8", "replace")
    yield _ESCAPED.sub(lambda m: chr(int(m[1], 16)), whole)
    for line in (whole, *(line.removeprefix("data:").strip() for line in whole.splitlines())):
        try:
            yield from _values(json.loads(line))
        except (ValueError, RecursionError):
            continue


def _values(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield name
            yield from _values(inner)
    elif isinstance(value, list):
        yield "".join(part["text"] for part in value if isinstance(part, dict) and isinstance(part.get("text"), str))
        for inner in value:
            yield from _values(inner)
    else:
        yield str(value)


def _plain(text: str) -> str:
    folded = unicodedata.normalize("NFKC", _IGNORED.sub("", text))
    digits = (str(unicodedata.digit(c)) if c.isdigit() else c for c in folded)
    return re.sub(r"[\s\u2010-\u2015.-]", "", "".join(digits))


def _digits(zero: int, text: str = CARD) -> str:
    return "".join(chr(zero + int(c)) if c.isdigit() else c for c in text)


def _circled(text: str = CARD) -> str:
    return "".join(chr(0x2460 + int(c) - 1) if c.isdigit() else c for c in text)


def _superscript(text: str = CARD) -> str:
    return text.translate({ord("1"): "\u00b9", ord("4"): "\u2074"})


def _between(sign: str, text: str = CARD) -> str:
    return sign.join(text)


_SIGNS = "\u00ad\u034f\u061c\u180e\u200b\u200c\u200d\u200e\u2060\u2063\u2066\u3164\ufe0f\ufeff\U000e0020\U000e0100"
FORMS: Mapping[str, str] = {
    "plain": CARD,
    "after a blank": f" \n\t{CARD}",
    "data: and a long text": f"data: {FILLER}{CARD}",
    "data: of a text": f"data:text/plain,{FILLER}{CARD}",
    "data: of base64 with more behind": f"data:image/png;base64,{'A' * 2000} {CARD}",
    "data: of base64 with more before": f"data:image/png;x={CARD};base64,{'A' * 2000}",
    "data: of base64, padded, with more behind": f"data:image/png;base64,{'A' * 2002}== {CARD}",
    "JSON": json.dumps({"a": CARD}),
    "JSON after a blank": f" {json.dumps([CARD])}",
    "JSON with a name twice": f'{{"a": "{CARD}", "a": ""}}',
    "JSON in JSON": json.dumps({"a": json.dumps({"b": json.dumps([CARD])})}),
    "JSON with the number": '{"a": 4111111111111111}',
    "JSON with the number as a fraction": '{"a": 4.111111111111111e15, "b": "4111-1111-1111-1111"}',
    "JSON with it as a name": json.dumps({CARD: 1}),
    "JSON, 500 lists deep": "[" * 500 + f'"{CARD}"' + "]" * 500,
    "JSON that is broken": f'{{"a": "{CARD}"',
    "JSON with half a surrogate": f'{{"a": "\\ud83d", "b": "{CARD}"}}',
    "escapes in the text": "".join(f"\\u{ord(c):04x}" for c in CARD),
    "escapes of escapes in the text": "the number " + "".join(f"\\\\u{ord(c):04x}" for c in CARD),
    "half a surrogate": f"\ud83d {CARD}",
    "an emoji": f"\U0001f600{CARD}\U0001f600",
    "full-width": _digits(0xFF10),
    "mathematical bold": _digits(0x1D7CE),
    "mathematical monospace": _digits(0x1D7F6),
    "circled": _circled(),
    "superscript": _superscript(),
    "Arabic digits": _digits(0x660),
    "Bengali digits": _digits(0x9E6),
    "Thai digits": _digits(0xE50),
    **{
        f"U+{ord(sign):04X} between": _between(sign)
        for sign in _SIGNS
    },
    "U+200B in many": "4\u200b\u200b\u200b111 1111 1111\u200b\u200b 1111",
    "no-break blanks": CARD.replace(" ", "\u00a0"),
    "narrow blanks": CARD.replace(" ", "\u2009"),
    "long dashes": CARD.replace(" ", "\u2013"),
    "over lines": CARD.replace(" ", "\n"),
    "NUL around": f"\0{CARD}\0",
}  # fmt: skip
"""Texts that hold the card, by their name."""

NOT_IN_STREAMS = frozenset({
    "escapes in the text", "escapes of escapes in the text", "JSON with the number as a fraction",
})  # fmt: skip
"""Forms that are found in a whole text, and not in the text of a stream: docs/guards.md lists them."""

NOT_JUDGED: Mapping[str, str] = {
    "base64": base64.b64encode(CARD.encode()).decode(),
    "hexadecimal": CARD.encode().hex(),
    "backwards": CARD[::-1],
    "in words": "four one one one " * 4,
    "rot13 and the like": _digits(ord("A"), CARD),
}
"""Encodings of a text that no rule reads: docs/guards.md lists them."""


def _escaped(body: bytes) -> bytes:
    """JSON in which each character of a text is an escape."""
    return (
        json.dumps(orjson.loads(body))
        .encode()
        .replace(CARD.encode(), "".join(f"\\u{ord(c):04x}" for c in CARD).encode())
    )


WIRES: Mapping[str, Callable[[bytes], tuple[bytes, dict[str, str]]]] = {
    "escapes of JSON": lambda body: (_escaped(body), {}),
    "gzip": lambda body: (gzip.compress(body), {"content-encoding": "gzip"}),
    "gzip in two members": lambda body: (
        gzip.compress(body[:40]) + gzip.compress(body[40:]), {"content-encoding": "gzip"}
    ),
    "x-gzip": lambda body: (gzip.compress(body), {"content-encoding": "x-gzip"}),
    "zstd": lambda body: (zstd.compress(body), {"content-encoding": "zstd"}),
    "zstd in two frames": lambda body: (
        zstd.compress(body[:40]) + zstd.compress(body[40:]), {"content-encoding": "zstd"}
    ),
    "br": lambda body: (_brotli(body), {"content-encoding": "br"}),
    "deflate": lambda body: (zlib.compress(body), {"content-encoding": "deflate"}),
    "GZIP": lambda body: (gzip.compress(body), {"content-encoding": "GZIP"}),
    "gzip twice": lambda body: (gzip.compress(gzip.compress(body)), {"content-encoding": "gzip, gzip"}),
    "identity": lambda body: (body, {"content-encoding": "identity"}),
    "a byte order mark": lambda body: (b"\xef\xbb\xbf" + body, {}),
    "UTF-16": lambda body: (body.decode().encode("utf-16"), {}),
    "blanks": lambda body: (b" \n" * 500 + body + b" \n" * 500, {}),
    "another content-type": lambda body: (body, {"content-type": "text/plain"}),
    "a charset": lambda body: (body, {"content-type": "application/json; charset=utf-16"}),
}  # fmt: skip
"""Forms of a whole request on the wire, by their name: the body, and its headers."""


def _brotli(body: bytes) -> bytes:
    import brotli  # an extra

    return bytes(brotli.compress(body))
