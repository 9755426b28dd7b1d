"""Values are found although they are disguised or broken over lines."""

from __future__ import annotations

import runpy
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.privacy import RedactionConfig
from gateway.proxy.recording.redaction.finder import Finder, merge_overlaps
from gateway.proxy.recording.redaction.plain_text import PlainText, joins

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
def test_unusual_texts_are_left(text: str) -> None:
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


A = runpy.run_path(str(Path(__file__).parent / "planted.py"))["A"]


JWT = "eyJ" + "hbGciOiJIUzI1NiJ9.eyJ" + "zdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"
WRAPPED = {
    "a card, group by group": ("4111\n1111\n1111\n1111", "[card]"),
    "a card in two lines": ("4111 1111 \r\n  1111 1111", "[card]"),
    "a card without groups": ("41111111\n11111111", "[card]"),
    "a card in quoted mail": ("4111 1111\n> 1111 1111", "[card]"),
    "a card with narrow blanks": ("4111\u202f1111\n1111\u202f1111", "[card]"),
    "a card before other numbers": ("4111 1111 1111\n1111\n12\n123", "[card]\n12\n123"),
    "an account": ("DE89 3704 0044\n0532 0130 00", "[iban]"),
    "an account broken at letters": ("GB82\nWEST 1234 5698 7654 32", "[iban]"),
    "a telephone number": ("+44 20\n7946 0958", "[phone]"),
    "an address after its sign": ("ada@\nexample.org", "[email]"),
    "an address in its domain": ("ada@exam\n  ple.org", "[email]"),
    "an address before its end": ("ada@example.\norg", "[email]"),
    "quoted-printable": ("ada.love=\nlace@example.org", "[email]"),
    "a shell's line": ("ada.lovelace@exam\\\nple.org", "[email]"),
    "a key in its midst": ("sk-" + f"proj-{A[:30]}\n{A[30:48]}", "[key]"),
    "a key at its beginning": ("sk-" + f"pro\nj-{A[:40]}", "[key]"),
    "a key on many lines": ("sk-" + "\n  ".join(A[i : i + 10] for i in range(0, 60, 10)), "[key]"),
    "a token": ("\n".join(JWT[i : i + 32] for i in range(0, len(JWT), 32)), "[key]"),
    "a bearer's token": (f"Bearer {A[:20]}\n{A[:12]}", "Bearer [key]"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "wanted"), WRAPPED.values(), ids=WRAPPED.keys())
@pytest.mark.parametrize("around", ["{}", "It is\n{}\nand so on.", "see: {}\n\n- next"])
def test_wrapped_values_are_found_on_all_their_lines(text: str, wanted: str, around: str) -> None:
    assert redacted(around.format(text)) == around.format(wanted)


@pytest.mark.parametrize(
    "text",
    [
        "\n".join(str(year) for year in range(2000, 2030)),
        "01\n02\n03\n04\n05\n06",
        "212\n555\n1234",
        "\n".join(["4111", "1111", "1111", "1111"] * 3),
        "def f():\n    pass\n@pytest.mark.skip\nclass A",
        "see @ada\nexample.org",
        "the task-\nrunner and sk-learn\nuse numpy\nversion2\n",
        "ABCD\nEFGH\nIJKL\nMNOP",
        "a = b\\\nc",
    ],
)
def test_lines_that_only_follow_each_other_are_left(text: str) -> None:
    assert redacted(text) == text


def test_a_word_after_a_key_is_left() -> None:
    assert redacted("sk-" + f"{A[:40]}\nthen go on\nversion2 of it") == "[key]\nthen go on\nversion2 of it"


def test_a_complete_address_at_the_end_of_a_line_ends_there() -> None:
    assert redacted("ada@example.org\nSee you") == "[email]\nSee you"


@given(st.integers(0, 300), st.integers(0, 40))
def test_a_wrapped_card_is_found_wherever_a_window_ends(before: int, behind: int) -> None:
    text = f"{'word ' * (1600 + before // 5)}{'x' * (before % 5)} 4111 1111\n1111 1111 {'y' * behind}"
    assert "[card]" in redacted(text)


@given(st.text("4 1\n\r\t>=\\@a.A", max_size=80))
def test_joins_are_in_order_and_hold_a_line_break(text: str) -> None:
    last = 0
    for start, end, _ in joins(text):
        assert last <= start < end <= len(text)
        assert "\n" in text[start:end]
        last = end


HOSTILE = [
    "1\n" * 100_000, "4111\n" * 40_000, "=\n" * 100_000, "a=\n" * 66_000, "@a\n" * 66_000, "AA11\n" * 40_000,
    " \n" * 100_000, "1" + " " * 200_000, ("sk-" + "a1b2\n") * 25_000, "sk-\n" * 50_000, "1\n>>>>>>>>" * 20_000,
    ("4" * 24 + "\n") * 8_000, "@" + "a-" * 100_000 + "\n", "sk-" + "a1\n" * 66_000,
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE, ids=lambda t: repr(t[:8]))
def test_two_hundred_kilobytes_of_lines_take_linear_time(text: str) -> None:
    began = time.thread_time()
    longest = last = 0.0
    for _ in FINDER.hits(text):
        now = time.thread_time() - began
        longest, last = max(longest, now - last), now
    assert last < 8
    assert longest < 0.5, "one window holds the loop"
