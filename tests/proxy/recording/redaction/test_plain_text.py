"""What is found although it is written with characters that look alike, or do not show."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.privacy import RedactionConfig
from gateway.proxy.recording.redaction.finder import Finder, merge_overlaps
from gateway.proxy.recording.redaction.plain_text import PlainText

CARD = ["4111", "1111", "1111", "1111"]
FINDER = Finder(RedactionConfig())


def redacted(text: str) -> str:
    hits = merge_overlaps([hit for window in FINDER.hits(text) for hit in window])
    for hit in reversed(hits):
        text = text[: hit.start] + hit.mark + text[hit.end :]
    return text


FULL_WIDTH = str.maketrans("0123456789@", "\uff10\uff11\uff12\uff13\uff14\uff15\uff16\uff17\uff18\uff19\uff20")
ARABIC = str.maketrans("0123456789", "\u0660\u0661\u0662\u0663\u0664\u0665\u0666\u0667\u0668\u0669")

DISGUISED = {
    "narrow blanks": ("\u202f".join(CARD), "[card]"),
    "nothing that shows": ("\u200b".join(CARD), "[card]"),
    "en dashes": ("\u2013".join(CARD), "[card]"),
    "three blanks": ("   ".join(CARD), "[card]"),
    "blanks of a URL": ("%20".join(CARD), "[card]"),
    "full-width digits": (" ".join(CARD).translate(FULL_WIDTH), "[card]"),
    "Arabic digits": (" ".join(CARD).translate(ARABIC), "[card]"),
    "an address with a zero-width space": ("ada\u200b@example.org", "[email]"),
    "an address with a soft hyphen": ("ada@exam\u00adple.org", "[email]"),
    "a full-width sign": ("ada\uff20example.org", "[email]"),
    "an entity": ("ada&#64;example.org", "[email]"),
    "a key in two": ("sk-proj-abcdefgh\u200bijklmnop0123456789", "[key]"),
    "a telephone number": ("+49\u201330\u20131234567", "[phone]"),
    "a German name": ("Passwort: sommer2024", "Passwort: [key]"),
    "a French name": ("mot de passe: soleil2024", "mot de passe: [key]"),
    "a quoted secret of words": ('password = "correct horse battery"', 'password = "[key]"'),
}


@pytest.mark.parametrize(("text", "wanted"), DISGUISED.values(), ids=DISGUISED.keys())
@pytest.mark.parametrize("around", ["{}", "Straße 5 \u2013 {} \u2013 and so on", "a\u200bb {}, c"])
def test_a_disguise_hides_nothing(text: str, wanted: str, around: str) -> None:
    assert redacted(around.format(text)) == around.format(wanted)


@pytest.mark.parametrize(
    "text", ["1990\u20131995, 2001\u20132005", "a\u200bb", "pages 3   4", "100%20of", "\uff21\uff22\uff23"]
)
def test_what_only_looks_unusual_is_left(text: str) -> None:
    assert redacted(text) == text


@given(st.text("ab1 \u200b\u2013\uff11\u00ad%20@", max_size=60))
def test_each_character_leads_back_to_where_it_stood(text: str) -> None:
    plain = PlainText(text)
    last = 0
    for at in range(len(plain.text)):
        start, end = plain.span(at, at + 1)
        assert last <= start < end <= len(text)
        last = start
        if plain.text[at] in "ab":
            assert text[start:end] == plain.text[at]
