"""What a page does with characters that nobody would see."""

from __future__ import annotations

import pytest

from gateway.console.visible import visible


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
def test_what_has_no_shape_is_written_out(given, shown):
    assert visible(given) == shown
