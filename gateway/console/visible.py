"""Texts of models and clients as a page shows them: nothing is hidden or moves what stands next to it. Pure."""

from __future__ import annotations

import re

# Control characters except tab and line feed, marks that reorder or hide text, tag characters, lone surrogates.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)


def visible(text: str) -> str:
    """The text with each character that has no shape of its own written out: ESC as ␛, an override as ⟨U+202E⟩.

    A carriage return before a line feed is a line break like any other, and is left out. Joiners stay where they join
    emoji or letters of scripts that need them: U+200C and U+200D next to characters that are not Latin.
    """
    return _HIDDEN.sub(_written, text.replace("\r\n", "\n"))


def _written(found: re.Match[str]) -> str:
    character = found[0]
    code = ord(character)
    if code in (0x200C, 0x200D) and _joins(found):
        return character
    if code < 0x20:
        return chr(0x2400 + code)
    return "\u2421" if code == 0x7F else f"⟨U+{code:04X}⟩"


def _joins(found: re.Match[str]) -> bool:
    before, after = found.string[: found.start()][-1:], found.string[found.end() :][:1]
    return bool(before) and bool(after) and ord(before) > 0x2FF and ord(after) > 0x2FF
