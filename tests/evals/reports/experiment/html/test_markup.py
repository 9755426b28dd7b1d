"""No text becomes markup, whatever it is and wherever it stands."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.sanitize import plain
from gateway.evals.reports.experiment.html.markup import Markup, escape, joined, tag


@pytest.fixture(scope="module")
def anything():
    return st.text(st.characters(codec=None) | st.sampled_from("<>&\"'=/\\\x00\x1b\ud800\u202e"), max_size=60)


@given(data=st.data())
def test_any_text_is_text_again_when_it_is_read(read, anything, data):
    said, named = data.draw(anything), data.draw(anything)
    element = read(tag("p", said, title=named)).one("p")
    assert element.text == plain(said)
    assert element.attributes == {"title": plain(named)}
    assert element.all() == []


def test_what_was_formatted_or_added_is_no_markup_any_more():
    bold = tag("b", "x")
    assert joined(bold) == "<b>x</b>"
    for text in (f"{bold}", bold + bold, bold.upper(), bold[:], "%s" % bold):  # noqa: UP031
        assert not isinstance(text, Markup)
        assert "<" not in joined(text)


def test_children_may_be_nested_numbers_or_none():
    assert tag("p", ["a", None, (tag("b", 3), ("c",))], (str(n) for n in range(2))) == "<p>a<b>3</b>c01</p>"


def test_attributes_are_named_as_html_names_them_and_left_out_where_there_is_none():
    made = tag(
        "x", class_="a", aria_label="b", viewBox="0 0 1 1", hidden=True, open=False, id=None, width=1.006, y=-0.5
    )
    assert made == '<x class="a" aria-label="b" viewBox="0 0 1 1" hidden width="1.01" y="-0.5"></x>'
    assert tag("meta", name="n") == '<meta name="n">'


def test_quotes_are_escaped():
    assert escape("\"'<&>") == "&quot;&#x27;&lt;&amp;&gt;"
