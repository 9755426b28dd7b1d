"""{{item.…}} and {{sample.…}}: what they stand for, and that they are put in once."""

from __future__ import annotations

import pytest

from gateway.core.completion import Completion, ToolCall
from gateway.scorers.grading.variables import MissingVariable, check_variables, fill, variable_names, variables_of
from gateway.scoring.options import InvalidOptions

REQUEST = {"messages": [{"role": "user", "content": "Where?"}], "metadata": {"city": "Rome", "list": [{"a": 1}]}}
SAID = Completion('{"a": [10, 20]}', tool_calls=(ToolCall("1", "f", "{}"),), finish_reason="stop", model="m")


@pytest.fixture
def values(subject):
    return variables_of(subject(SAID, REQUEST, "the reference"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{item.city}}", "Rome"),
        ("{{ item.list[0].a }}", "1"),
        ("{{item.input}}", "[user]\nWhere?"),
        ("{{item.reference}} {{item.reference_answer}}", "the reference the reference"),
        ("{{sample.output_text}}", '{"a": [10, 20]}'),
        ("{{sample.output_json.a[1]}}", "20"),
        ("{{sample.output_json}}", '{"a":[10,20]}'),
        ("{{sample.output_tools[0].function.name}}", "f"),
        ("{{sample.choices[0].message.content}}", '{"a": [10, 20]}'),
        ("{{sample.finish_reason}} of {{sample.model}}", "stop of m"),
        ("no variable { } {{}", "no variable { } {{}"),
    ],
)
def test_a_variable_stands_for_its_value(values, text, expected):
    assert fill(text, values) == expected


def test_a_value_that_looks_like_a_variable_is_text(subject):
    values = variables_of(subject("{{item.city}}", REQUEST))
    assert fill("{{sample.output_text}}", values) == "{{item.city}}"


@pytest.mark.parametrize("name", ["item.nothing", "sample.output_json.b", "sample.output_tools[5]", "item.list[9].a"])
def test_what_has_no_value_is_lacking(values, name):
    with pytest.raises(MissingVariable) as caught:
        fill(f"{{{{{name}}}}}", values)
    assert caught.value.name == name


def test_each_value_may_be_wrapped(values):
    assert fill("{{item.city}}!", values, lambda name, text: f"<{name}:{text}>") == "<item.city:Rome>!"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{city}}", r"x: \{\{city\}\}: expected \{\{item.NAME\}\} or \{\{sample.NAME\}\}"),
        ("{{item}}", "expected"),
        ("{{sample.text}}", "sample has output_text"),
    ],
)
def test_variables_that_nothing_can_have_are_mistakes(text, message):
    with pytest.raises(InvalidOptions, match=message):
        check_variables(text, "x")


def test_names_are_found():
    assert variable_names("{{ item.a }} and {{sample.output_text}}") == ["item.a", "sample.output_text"]
    check_variables("{{item.a}} {{sample.choices[0].message}}", "x")
