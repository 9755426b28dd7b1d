"""Signs that a text was cut off: an open code fence, and JSON that ends inside a bracket or a string."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.cut_text import ends_inside_fence, ends_inside_json


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        ("no fence", False),
        ("```\ncode\n```", False),
        ("```\ncode", True),
        ("~~~\ncode\n```", True),
        ("````\n```\n````", False),
        ("````\n```\n```", True),
        ("```py\na\n```\ntext\n```js\nb", True),
        ("use ```x``` inline", False),
        ("```x``` alone on a line", False),
        ("   ```\ncode\n   ```", False),
        ("```\ncode\n```  ", False),
        ("```\n``` not the end\n", True),
    ],
)
def test_a_fence_is_open_as_commonmark_says(text, inside):
    assert ends_inside_fence(text) is inside


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet='ab"\\{}[]ü\n'),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(alphabet='a"{\\', max_size=3), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(st.dictionaries(st.text(alphabet='a"\\', min_size=1, max_size=3), VALUES, min_size=1), st.data())
def test_every_beginning_of_an_object_is_unfinished(value, data):
    text = json.dumps(value, ensure_ascii=False)
    assert not ends_inside_json(text)
    assert ends_inside_json(text[: data.draw(st.integers(1, len(text) - 1))])


@pytest.mark.parametrize("text", ['"' * 100_000, '\\"' * 50_000, '{"' + '\\"' * 50_000, "[" * 100_000, '"\\' * 50_000])
def test_hostile_text_takes_linear_time(text):
    ends_inside_json(text)
    ends_inside_fence(text.replace("[", "```\n"))
