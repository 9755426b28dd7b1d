"""Maximum length of a match, and the ends of a text that may be the beginning of one."""

from __future__ import annotations

import re

import pytest
import re2
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.open_match import NotReadable, beginnings, longest_match

PATTERNS = {
    "EMP-[0-9]{6}": "EMP-123456",
    "(?i)project (?:falcon|osprey)": "Project Osprey",
    "a{1,3}b?c": "aaabc",
    "[a-z]{2,10}@example\\.org": "someone@example.org",
    "(ab|abc)d{0,2}": "abcdd",
    "x(?:y(?:z|w){2,4}){1,2}": "xyzwyww",
    "[^ ]{3}\\d\\D": "ab?7x",
    ".{2}é": "aàé",
}


@pytest.mark.parametrize(("regex", "match"), PATTERNS.items())
def test_every_beginning_of_a_match_is_open(regex: str, match: str) -> None:
    """A match is open at the end of a text, from where it begins or from earlier."""
    begun = re2.compile(beginnings(regex))
    assert re.fullmatch(regex, match)
    for cut in range(1, len(match)):
        found = begun.search("before; " + match[:cut])
        assert found is not None, f"{match[:cut]!r} is not seen to be open"
        assert found.start() <= len("before; ")


@pytest.mark.parametrize(
    ("regex", "text"), [("EMP-[0-9]{6}", "nothing EMP here"), ("a{1,3}b?c", "abcd"), ("xyz", "xy ")]
)
def test_an_end_that_no_match_begins_with_is_not_open(regex: str, text: str) -> None:
    found = re2.compile(beginnings(regex)).search(text)
    assert found is None or found.start() == len(text)


@pytest.mark.parametrize(
    ("regex", "longest"),
    [("EMP-[0-9]{6}", 10), ("(ab|abc)d{0,2}", 5), ("a+", None), ("a{3,}", None), ("(?:a|b*)c", None), ("a?", 1)],
)
def test_the_longest_match_is_measured(regex: str, longest: int | None) -> None:
    assert longest_match(regex) == longest


@pytest.mark.parametrize("regex", ["[[:alpha:]]{3}\\pL", "(a)\\1", "a{1,5000}", "("])
def test_a_pattern_that_cannot_be_measured_is_refused(regex: str) -> None:
    with pytest.raises(NotReadable):
        beginnings(regex)


@given(st.sampled_from(sorted(PATTERNS)), st.data())
def test_an_open_end_never_begins_after_a_match_that_continues(regex: str, data: st.DataObject) -> None:
    text = data.draw(st.text("abcxyz EMP-0123456789@example.orgÉé", max_size=40))
    more = data.draw(st.text("abcxyz EMP-0123456789@example.orgÉé", max_size=12))
    found = re2.compile(beginnings(regex)).search(text)
    open_from = len(text) if found is None else found.start()
    for match in re2.compile(regex).finditer(text + more):
        if match.start() < len(text) < match.end():
            assert open_from <= match.start()
