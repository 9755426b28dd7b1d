"""Rows of other tools become questions with references, by their columns or by --map."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.features.replay.datasets.datasets import item_of
from gateway.features.replay.datasets.row_formats import ColumnMap, column_map, native

USER = {"role": "user", "content": "2 + 2?"}
NONE = ColumnMap()


@pytest.mark.parametrize(
    "row",
    [
        {"examples": "2 + 2?", "ground_truth": "4"},
        {"question": "2 + 2?", "answer": "4"},
        {"question": "2 + 2?", "answer": 4},
        {"instruction": "2 + 2?", "input": "", "output": "4"},
        {"input": "2 + 2?", "ideal": "4"},
        {"input": [USER], "ideal": ["4", "four"]},
        {"item": {"input": [USER], "ideal": "4", "pi": 0.1}, "sample": {"output_text": "5"}},
        {"item": {"question": "2 + 2?", "answer": "4"}},
        {"prompt": "2 + 2?", "chosen": "4", "rejected": "5"},
        {"prompt": [USER], "chosen": [{"role": "assistant", "content": "4"}], "rejected": []},
        {"messages": [USER, {"role": "assistant", "content": "4"}]},
        {"messages": [USER], "response": "5", "correction": "4", "alias": "chat", "pi": 1.0, "stratum": "default"},
        {"messages": json.dumps([USER]), "response": "5", "correction": None, "reference": "4", "alias": "chat",
         "pi": 1.0, "stratum": "default", "role": "served"},
    ],
    ids=lambda row: "-".join(sorted(row))[:40],
)  # fmt: skip
def test_every_form_is_the_same_question(row: dict[str, Any]) -> None:
    values = native(row, NONE)
    assert values is not None
    item = item_of(values, 1).item
    assert item.request == {"messages": [USER]}
    assert item.reference == "4"


def test_alpacas_input_follows_its_instruction() -> None:
    assert native({"instruction": "Translate.", "input": "Hallo", "output": "Hello"}, NONE) == {
        "examples": "Translate.\n\nHallo",
        "reference": "Hello",
    }


def test_an_exported_answer_of_another_arm_is_not_a_question() -> None:
    row = {"messages": [USER], "response": "5", "alias": "chat", "pi": 1.0, "stratum": "x", "role": "shadow"}
    assert native(row, NONE) is None


def test_exported_tools_and_parameters_belong_to_the_request() -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    row = {"messages": [USER], "response": "", "alias": "chat", "pi": 1.0, "stratum": "x",
           "tools": json.dumps(tools), "parameters": '{"temperature":0.5}'}  # fmt: skip
    values = native(row, NONE)
    assert values is not None
    assert item_of(values, 1).item.request == {"messages": [USER], "tools": tools, "temperature": 0.5}


@pytest.mark.parametrize(
    ("words", "row", "expected"),
    [
        (["question=q,reference=r"], {"q": "hi", "r": "ho"}, {"examples": "hi", "reference": "ho"}),
        (["question=a+b"], {"a": "hi", "b": "you", "c": 1}, {"c": 1, "examples": "hi\n\nyou"}),
        (["question=q", "reference=a.text.0"], {"q": "hi", "a": {"text": ["x"]}}, {"examples": "hi", "reference": "x"}),
        (["question=q", "reference=label"], {"q": "hi", "label": 1}, {"examples": "hi", "reference": "1"}),
        (["question=examples,reference=ref"], {"examples": "hi", "ref": None}, {"examples": "hi", "reference": None}),
        (["messages=m,cluster=c"], {"m": json.dumps([USER]), "c": "k"}, {"messages": [USER], "cluster": "k"}),
        (["question=q,system=s"], {"q": "hi", "s": "be kind"},
         {"messages": [{"role": "system", "content": "be kind"}, {"role": "user", "content": "hi"}]}),
    ],
)  # fmt: skip
def test_a_map_names_the_columns(words: list[str], row: dict[str, Any], expected: dict[str, Any]) -> None:
    assert native(row, column_map(words)) == expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["examples=q"], "expected ROLE=COLUMN with a role of question, messages, reference, cluster, system"),
        (["question="], "expected ROLE=COLUMN"),
        (["question"], "expected ROLE=COLUMN"),
        (["question=a,question=b"], "question is given twice"),
        (["reference=a"], "give question=COLUMN or messages=COLUMN as well"),
    ],
)
def test_a_map_that_cannot_be_meant_is_refused(words: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        column_map(words)


def test_a_missing_column_is_named() -> None:
    columns = column_map(["question=q,reference=a.text.0"])
    assert columns.missing(["q", "a"]) is None
    assert columns.missing(["q"]) == "no column a.text.0 for reference; found q"


def test_an_item_without_input_is_an_error() -> None:
    with pytest.raises(ValueError, match="item has no input"):
        native({"item": {"ideal": "4"}}, NONE)


COLUMNS = "examples messages item prompt input question instruction chosen ideal answer tools role alias pi response"
NAMES = st.sampled_from(COLUMNS.split(" "))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just('[{"role": "user"}]'),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(NAMES, VALUES, max_size=6))
def test_a_row_of_any_shape_is_a_question_or_a_named_error(row: dict[str, Any]) -> None:
    with contextlib.suppress(ValueError):
        values = native(row, NONE)
        if values is not None:
            item_of(values, 1)
