"""A row in any of its forms becomes one question; what is wrong is said with what was expected."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.evals.replay.items import DatasetItem, bare, item_of

USER = {"role": "user", "content": "hi"}
TURNS = st.lists(st.fixed_dictionaries({"role": st.sampled_from(["user", "system"]), "content": st.text()}), min_size=1)


def test_a_question_and_its_answer() -> None:
    read = item_of({"examples": "2 + 2?", "ground_truth": "4"}, 7)
    assert (read.item.number, read.item.api, read.item.reference) == (7, "chat", "4")
    assert read.item.request == {"messages": [{"role": "user", "content": "2 + 2?"}]}
    assert read.item.example() == "2 + 2?"
    assert read.ignored == frozenset()


def test_a_last_message_of_the_assistant_is_the_reference_unless_one_is_given() -> None:
    turns = [USER, {"role": "assistant", "content": "hello", "weight": 1}]
    assert item_of({"messages": turns}, 1).item.reference == "hello"
    assert item_of({"messages": turns}, 1).item.request == {"messages": [USER]}
    given = item_of({"messages": turns, "reference": "good day"}, 1).item
    assert given.reference == "good day"
    assert len(given.request["messages"]) == 2


def test_parameters_of_a_request_are_asked_and_notes_are_named() -> None:
    read = item_of({"messages": [USER], "temperature": 0, "tools": None, "topic": "greetings"}, 1)
    assert read.item.request == {"messages": [USER], "temperature": 0}
    assert read.ignored == {"topic"}


def test_what_belongs_to_one_sending_is_not_asked_again() -> None:
    body = {"model": "m", "stream": True, "stream_options": {}, "user": "u", "metadata": {}, "messages": [USER], "n": 1}
    assert bare(body) == {"messages": [USER], "n": 1}
    logged = item_of({"request": body, "api": "chat", "id": "x", "cluster": 4}, 1).item
    assert logged.request == {"messages": [USER], "n": 1}
    assert logged.cluster == "4"


def test_the_same_question_twice_is_one_cluster() -> None:
    one, two, other = (item_of({"examples": q}, n).item for n, q in enumerate(["a", "a", "b"], 1))
    assert one.cluster == two.cluster != other.cluster


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({}, "expected `examples`, `messages` or `request`, found nothing"),
        ({"question": "?"}, "found question"),
        ({"examples": None}, "examples is empty; expected a question"),
        ({"examples": "  "}, "examples is empty"),
        ({"examples": 4}, "examples must be text, not a number"),
        ({"examples": "a", "ground_truth": ["b"]}, "ground_truth must be text, not a list"),
        ({"examples": "a", "ground_truth": "b", "reference": "c"}, "differ; give one of them"),
        ({"examples": "a", "cluster": []}, "cluster must be text, not a list"),
        ({"messages": []}, "messages must be a list with something in it"),
        ({"messages": ["hi"]}, r"messages\[0\] must be an object with a role"),
        ({"request": [], "api": "chat"}, "request must be an object, not a list"),
        ({"request": {"prompt": "x"}, "api": "chat"}, "request has no messages"),
        ({"request": {"input": "x"}, "api": "embeddings"}, "api 'embeddings' cannot be replayed; expected one of chat"),
    ],
)
def test_a_mistake_is_said_with_what_was_expected(row: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        item_of(row, 1)


def test_requests_of_other_apis_are_asked_as_they_are() -> None:
    assert item_of({"request": {"input": "x", "instructions": "y"}, "api": "responses"}, 1).item.api == "responses"
    assert item_of({"request": {"prompt": "x"}, "api": "completions"}, 1).item.example() is None


@given(TURNS, st.none() | st.text(min_size=1), st.none() | st.text(min_size=1))
def test_its_canonical_form_is_a_row_that_reads_as_the_same_item(
    turns: list[dict[str, str]], reference: str | None, cluster: str | None
) -> None:
    row = {"request": {"messages": turns}, "reference": reference, "cluster": cluster}
    item = item_of(row, 3).item
    again: DatasetItem = item_of(orjson.loads(item.canonical()), 3).item
    assert again == item
    assert again.canonical() == item.canonical()
