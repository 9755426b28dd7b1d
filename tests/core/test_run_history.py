"""The chain of a conversation's messages: what extends it, what changes it, and what does not."""

from __future__ import annotations

import itertools
from typing import Any

import orjson
from fixtures.run_histories import growing, message
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.run_history import LOOK_BACK, links_of

ASKED = [message("user", 80, 1)]
CALLED = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{}"}}],
}
RETURNED = {"role": "tool", "tool_call_id": "c", "content": "done"}


def test_each_call_of_a_run_extends_the_one_before() -> None:
    links = [links_of(orjson.loads(body)["messages"]) for body in growing(8, 40_000)]
    assert links[0].prefixes == ()
    for before, after in itertools.pairwise(links):
        assert after.prefixes[0].asked == before.whole
    assert len(links[-1].prefixes) == LOOK_BACK


def test_an_answer_of_several_items_is_one_answer() -> None:
    """The responses API has an answer's reasoning, text and calls as items of their own."""
    items: list[Any] = [{"type": "reasoning", "id": "r"}, {"type": "message", "role": "assistant", "content": "x"},
                        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}]  # fmt: skip
    returned = {"type": "function_call_output", "call_id": "c", "output": "y"}
    [prefix] = links_of([*ASKED, *items, returned]).prefixes
    assert prefix.asked == links_of(ASKED).whole
    assert prefix.answered == links_of([*ASKED, items[0]]).whole


def test_marks_of_a_cache_and_the_form_of_a_text_do_not_count() -> None:
    marked = [{"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}}]
    assert links_of([{"content": marked, "role": "user"}]) == links_of([{"role": "user", "content": "hi"}])


def test_another_answer_is_another_way_to_go_on() -> None:
    one, other = (links_of([*ASKED, {**CALLED, "content": text}, RETURNED]).prefixes[0] for text in ("a", "b"))
    assert (one.asked == other.asked, one.answered == other.answered) == (True, False)


_JSON = st.recursive(st.none() | st.booleans() | st.text(max_size=3) | st.integers(0, 9),
                     lambda part: st.lists(part, max_size=3) | st.dictionaries(st.text(max_size=5), part, max_size=3),
                     max_leaves=8)  # fmt: skip


@given(st.lists(_JSON, max_size=6))
def test_messages_of_any_form_have_a_chain(messages: list[Any]) -> None:
    assert links_of(messages) == links_of(orjson.loads(orjson.dumps(messages)))
