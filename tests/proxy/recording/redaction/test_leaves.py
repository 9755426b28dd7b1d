"""A document and the list of its texts say the same, and what is JSON within is opened and stays JSON."""

from __future__ import annotations

import orjson
from hypothesis import given
from hypothesis import strategies as st

from gateway.proxy.recording.redaction.leaves import Leaves, Rebuilding, unescape

json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


def changed(document, change):
    leaves = Leaves()
    gathered = leaves.gather(document)
    return Rebuilding(leaves.found, [change(leaf) for leaf in leaves.found]).of(gathered)


@given(json)
def test_unchanged_leaves_are_equal(document):
    assert changed(document, lambda leaf: leaf.text) == document


@given(json)
def test_unchanged_inner_json_is_kept_to_the_letter(document):
    text = orjson.dumps(document, option=orjson.OPT_INDENT_2).decode()
    assert changed([text], lambda leaf: leaf.text) == [text]


def test_texts_are_found_in_names_and_in_json_within_json():
    inner = orjson.dumps({"deep": orjson.dumps(["deeper", 4111111111111111]).decode()}).decode()
    leaves = Leaves()
    leaves.gather({"a": ["b", {"c": inner}], "n": 4111111111111111, "small": 7, "t": True})
    found = [leaf.text for leaf in leaves.found]
    assert found == ["a", "b", "c", "deep", "deeper", "4111111111111111", "n", "4111111111111111", "small", "t"]


def test_changes_within_json_leave_json():
    document = {"arguments": orjson.dumps({"who": "ada", "n": [1, {"x": "y"}]}).decode()}
    output = changed(document, lambda leaf: leaf.text.replace("ada", '"[x]\n'))
    assert orjson.loads(output["arguments"]) == {"who": '"[x]\n', "n": [1, {"x": "y"}]}


def test_a_number_that_becomes_a_mark_becomes_a_text():
    assert changed({"n": 4111111111111111}, lambda leaf: leaf.text.replace("4111111111111111", "[card]")) == {
        "n": "[card]"
    }


def test_members_that_hold_secrets_say_so():
    leaves = Leaves()
    leaves.gather({"password": "x", "content": "y", "credentials": ["z", {"n": "w"}]})
    named = {leaf.text: leaf.secret for leaf in leaves.found}
    assert named == {"password": False, "x": True, "content": False, "y": False, "credentials": False, "z": True,
                     "n": False, "w": False}  # fmt: skip


def test_escapes_are_read_however_often_they_are_escaped():
    assert unescape(r"a\u0040b\\u0040c\/d\\\"e\nf") == 'a@b@c/d"e\nf'


def test_escaped_texts_carry_their_unescaped_form():
    leaves = Leaves()
    leaves.gather(['{"a": "x\\u0040y'])
    assert leaves.found[0].unescaped == '{"a": "x@y'
