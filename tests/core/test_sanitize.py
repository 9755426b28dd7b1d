from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.sanitize import cell, line, plain, to_json


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("\x1b[2J\x1b]0;owned\x07hi", "[2J]0;ownedhi"),
        ("\x9b31mred", "31mred"),
        ("a\r\nb\tc\x7f", "a\nb\tc"),
        ("\u202eevil\u2066", "evil"),
        ("a\ud800b", "ab"),
        ("\u061cright\U000e0041\U000e007f", "right"),
        ("Grüße, 世界 🎉", "Grüße, 世界 🎉"),
    ],
)
def test_control_characters_are_removed(text, seen):
    assert plain(text) == seen


@given(st.text())
def test_json_escapes_control_characters_and_loses_nothing(text):
    shown = to_json({"text": text, "raw": text.encode()})
    assert orjson.loads(shown) == {"text": text, "raw": text}
    assert plain(shown) == shown


def test_invalid_bytes_are_replaced():
    assert orjson.loads(to_json(b"a\xffb")) == "a\ufffdb"
    with pytest.raises(TypeError):
        to_json(object())


@pytest.mark.parametrize(
    "text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\x1b=1", "\uff1dA1", " =1", "\u00a0\u3000+1", "\ufeff=1", "  @A1"]
)
def test_a_cell_is_never_a_formula(text):
    assert cell(text) == "'" + plain(text)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("a;=1+1", "a;'=1+1"),
        ('a;"=1+1', "a;\"'=1+1"),
        ("a\t@SUM(1)", "a\t'@SUM(1)"),
        ("a; =1+1", "a; '=1+1"),
        ('a; " =1+1', "a; \" '=1+1"),
        ("a\n  \u00a0+1", "a\n  \u00a0'+1"),
        ("a\n=1", "a\n'=1"),
        ("a\r\n+1", "a\n'+1"),
        ("a\n-1+cmd|' /C calc'!A0", "a\n'-1+cmd|' /C calc'!A0"),
        ("a|\uff1d1", "a|'\uff1d1"),
    ],
)
def test_a_formula_within_a_cell_is_none_for_another_separator(text: str, kept: str) -> None:
    """A spreadsheet whose separator is a semicolon splits there, whatever stands in quotes."""
    assert cell(text) == kept


@pytest.mark.parametrize("text", ["a\n- one\n- two", "so ;-) it is", "a; b", "x\n---\ny", "1 | = | 2"])
def test_lists_and_rules_within_a_cell_are_unchanged(text: str) -> None:
    assert cell(text) == text


def test_a_line_is_one_line() -> None:
    assert line("HTTP 400 x\n2026 ERROR\u2028forged\x1b[31m\x85") == "HTTP 400 x 2026 ERROR forged[31m"


@pytest.mark.parametrize("text", ["", "1 = 1", "a@b.example", "Grüße"])
def test_other_text_in_a_cell_is_unchanged(text):
    assert cell(text) == text


def test_json_can_be_one_line():
    assert to_json({"a": "x\u202e\n"}, indent=False) == '{"a":"x\\u202e\\n"}'
