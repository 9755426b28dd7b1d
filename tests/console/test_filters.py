"""Figures and times have one form on every page, and text shows every character that it has."""

from __future__ import annotations

import pytest

from gateway.console import filters
from gateway.console.filters import visible


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("count", 1234567, "1\u202f234\u202f567"),
        ("count", None, "–"),
        ("score", 0.5, "0.5"),
        ("score", 0.12345, "0.123"),
        ("score", 1.0, "1"),
        ("score", 0.0, "0"),
        ("score", float("nan"), "–"),
        ("percent", 0.0123, "1.23 %"),
        ("percent", 0.5, "50.0 %"),
        ("percent", 0.0, "0.0 %"),
        ("usd", 0.0, "$0.00"),
        ("usd", 12.345, "$12.35"),
        ("usd", 0.00123, "$0.00123"),
        ("usd", 0.000001, "$1.0e-06"),
        ("usd", None, "–"),
        ("seconds", 0.1234, "123 ms"),
        ("seconds", 2.5, "2.50 s"),
        ("seconds", 250.0, "250 s"),
        ("moment", 0.0, "1970-01-01 00:00:00"),
        ("hour", 3600.0, "01:00"),
        ("shortened", "a  b\nc", "a b c"),
        ("shortened", None, ""),
        ("pair", "x", ("x", "x")),
    ],
)
def test_a_figure_becomes_words(name, value, words):
    assert filters.FILTERS[name](value) == words


def test_a_long_text_keeps_its_beginning():
    assert filters.shortened("x" * 500, 10) == "x" * 9 + "…"


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("plain\ttext\nline", "plain\ttext\nline"),
        ("\x1b[31mred\x07", "␛[31mred␇"),
        ("abc\u202egnp.exe\u2066", "abc⟨U+202E⟩gnp.exe⟨U+2066⟩"),
        ("ze\u200bro", "ze⟨U+200B⟩ro"),
        ("a\u200db", "a⟨U+200D⟩b"),
        ("\U0001f468\u200d\U0001f469", "\U0001f468\u200d\U0001f469"),
        ("نامه\u200cای", "نامه\u200cای"),
        ("\ud800", "⟨U+D800⟩"),
        ("tag\U000e0041", "tag⟨U+E0041⟩"),
        ("\x7f\x85\xad\ufeff", "␡⟨U+0085⟩⟨U+00AD⟩⟨U+FEFF⟩"),
        ("line\r\nline\r", "line\nline␍"),
        ("\0", "␀"),
    ],
)
def test_values_without_a_shape_are_written_out(given, shown):
    assert visible(given) == shown
