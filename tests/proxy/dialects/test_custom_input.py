"""The input of a custom tool, read from arguments in pieces: any split gives the text of the whole."""

from __future__ import annotations

import json
from itertools import pairwise

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.proxy.dialects.client_tools import input_text
from gateway.proxy.dialects.custom_input import CustomInput

TEXTS = st.text(max_size=30) | st.text(alphabet='"\\{}\n\t/ud834🦜é', max_size=12)


def read(arguments: str, cuts: list[int]) -> tuple[list[str], str]:
    """The pieces returned before the end, and the whole text."""
    reader = CustomInput()
    places = sorted({0, len(arguments), *(cut % (len(arguments) + 1) for cut in cuts)})
    given = [reader.feed(arguments[a:b]) for a, b in pairwise(places)]
    last = reader.end()
    assert "".join((*given, last)) == reader.text
    return given, reader.text


@given(TEXTS, st.lists(st.integers(0, 200), max_size=12), st.booleans())
def test_any_split_gives_the_text(text: str, cuts: list[int], escaped: bool) -> None:
    arguments = json.dumps({"input": text}, ensure_ascii=escaped)
    given, whole = read(arguments, cuts)
    assert whole == text
    assert "".join(given) == text, "all of it is certain before the end"


@given(st.text(max_size=40), st.lists(st.integers(0, 200), max_size=8))
def test_arguments_of_any_form_are_read_at_the_end(arguments: str, cuts: list[int]) -> None:
    _, whole = read(arguments, cuts)
    _, at_once = read(arguments, [])
    assert whole == at_once


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ("*** Begin Patch", "*** Begin Patch"),
        ('{"patch": "a"}', "a"),
        ('{"patch": "a", "more": "b"}', '{"patch": "a", "more": "b"}'),
        ('{"input": 7}', '{"input": 7}'),
        (' { "input" : "a\\u00e9" } ', "aé"),
        ('{"input": "cut of', "cut of"),
        ('{"input": "cut \\u00', "cut "),
        ("", ""),
    ],
)
def test_arguments_of_other_forms_are_the_input(arguments: str, text: str) -> None:
    for cuts in ([], list(range(len(arguments)))):
        assert read(arguments, cuts)[1] == text


def test_half_a_surrogate_pair_is_kept() -> None:
    assert read('{"input":"\\ud83e!"}', [10, 12, 16])[1] == "\ud83e!"


def test_pieces_come_before_the_end() -> None:
    reader = CustomInput()
    assert [reader.feed(piece) for piece in ('{"inp', 'ut": "*** Be', "gin\\", 'n"}')] == ["", "*** Be", "gin", "\n"]
    assert reader.end() == ""


def test_the_whole_of_complete_arguments() -> None:
    assert input_text(orjson.dumps({"input": "a"}).decode()) == "a"
