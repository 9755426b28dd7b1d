from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.sanitize import cell, plain, to_json


@pytest.mark.parametrize(
    ("said", "seen"),
    [
        ("\x1b[2J\x1b]0;owned\x07hi", "[2J]0;ownedhi"),
        ("\x9b31mred", "31mred"),
        ("a\r\nb\tc\x7f", "a\nb\tc"),
        ("\u202eevil\u2066", "evil"),
        ("a\ud800b", "ab"),
        ("Grüße, 世界 🎉", "Grüße, 世界 🎉"),
    ],
)
def test_what_would_move_the_cursor_is_gone(said, seen):
    assert plain(said) == seen


@given(st.text())
def test_json_keeps_everything_and_shows_no_control_character(text):
    shown = to_json({"text": text, "raw": text.encode()})
    assert orjson.loads(shown) == {"text": text, "raw": text}
    assert plain(shown) == shown


def test_bytes_that_are_no_text_are_shown_as_far_as_they_are():
    assert orjson.loads(to_json(b"a\xffb")) == "a\ufffdb"
    with pytest.raises(TypeError):
        to_json(object())


@pytest.mark.parametrize("said", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\x1b=1", "\uff1dA1"])
def test_a_cell_is_never_a_formula(said):
    assert cell(said) == "'" + plain(said)


@pytest.mark.parametrize("said", ["", "1 = 1", "a@b.example", "Grüße"])
def test_other_text_stays_as_it_is_in_a_cell(said):
    assert cell(said) == said


def test_json_may_stand_on_one_line():
    assert to_json({"a": "x\u202e\n"}, indent=False) == '{"a":"x\\u202e\\n"}'
