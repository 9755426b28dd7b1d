"""What the rules of one config find together, and users' own patterns: linear, or refused."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gateway.config.privacy import RedactionConfig
from gateway.proxy.recording.redaction.finder import Finder, Match, apart


def own(regex: str, **more: str) -> Finder:
    return Finder(RedactionConfig.model_validate({"rules": [], "patterns": [{"name": "own", "regex": regex, **more}]}))


spans = st.lists(st.tuples(st.integers(0, 30), st.integers(1, 8), st.sampled_from("abc")), max_size=8)


@given(spans)
def test_hits_stand_apart_and_cover_what_was_found(found):
    hits = [Match(start, start + size, rule, f"[{rule}]") for start, size, rule in found]
    said = apart(hits)
    assert all(a.end <= b.start for a, b in pairwise(said))
    assert {i for h in said for i in range(h.start, h.end)} == {i for h in hits for i in range(h.start, h.end)}


def test_of_hits_that_overlap_the_longest_gives_its_name():
    assert apart([Match(0, 3, "a", "A"), Match(2, 9, "b", "B"), Match(8, 10, "c", "C")]) == [Match(0, 10, "b", "B")]


@pytest.mark.parametrize(
    ("regex", "said"),
    [("(?=x)", "linear time"), (r"(a)\1", "linear time"), ("(", "linear time"), ("x*", "matches an empty text"),
     ("(a{1000}){1000}", "linear time")],
)  # fmt: skip
def test_what_does_not_run_in_linear_time_is_refused_with_what_is_wrong(regex, said):
    with pytest.raises(ValidationError, match=said):
        own(regex)


def test_a_pattern_that_would_take_for_ever_elsewhere_takes_no_time_here():
    began = time.thread_time()
    list(own("(a+)+$").hits("a" * 200_000 + "b"))
    assert time.thread_time() - began < 1


def test_places_are_counted_in_characters_not_in_bytes():
    *_, hits = own(r"\d+").hits("zoë 日本 12 and 345")
    assert [(h.start, h.end) for h in hits] == [(7, 9), (14, 17)]


def test_names_are_given_once_and_are_no_rules():
    for patterns in ([{"name": "email", "regex": "x"}], [{"name": "a", "regex": "x"}, {"name": "a", "regex": "y"}]):
        with pytest.raises(ValidationError, match=r"take another|stands twice"):
            RedactionConfig.model_validate({"patterns": patterns})
