"""OpenAI's grader JSON: what is accepted, and how mistakes are reported."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.completion import Completion, ToolCall
from gateway.scorers.grader_json import (
    MAX_COMPARED,
    Formula,
    LabelModel,
    MissingVariable,
    MultiGrader,
    ScoreModel,
    StringCheck,
    TextSimilarity,
    check_variables,
    fill,
    gleu,
    parse_grader,
    similarity,
    variables_of,
)
from gateway.scoring.options import InvalidOptions

CHECK = {"type": "string_check", "name": "c", "input": "{{sample.output_text}}", "reference": "x", "operation": "eq"}
SCORE = {"type": "score_model", "name": "s", "model": "m", "input": [{"role": "user", "content": "Grade"}]}
LABEL = {**SCORE, "type": "label_model", "labels": ["good", "bad"], "passing_labels": ["good"]}


def test_every_type_is_taken():
    similar = {"type": "text_similarity", "name": "t", "input": "a", "reference": "b", "evaluation_metric": "rouge_l"}
    multi = {"type": "multi", "name": "m", "graders": {"c": CHECK}, "calculate_output": "c"}
    kinds = [type(parse_grader(each)) for each in (CHECK, similar, SCORE, LABEL, multi)]
    assert kinds == [StringCheck, TextSimilarity, ScoreModel, LabelModel, MultiGrader]


def test_a_message_may_be_text_or_parts():
    parts = [{"type": "input_text", "text": "one"}, "two", {"type": "output_text", "text": "three"}]
    made = parse_grader({**SCORE, "input": [{"role": "developer", "type": "message", "content": parts}]})
    assert made.input[0].text == "one\ntwo\nthree"
    made = parse_grader({**SCORE, "input": [{"role": "user", "content": {"type": "input_text", "text": "one"}}]})
    assert made.input[0].text == "one"


def test_sampling_params_become_members_of_a_chat_request():
    given = {"temperature": 0.5, "top_p": 1, "seed": 3, "max_completions_tokens": 50}
    made = parse_grader({**SCORE, "sampling_params": given})
    assert made.sampling_params.params() == {"temperature": 0.5, "top_p": 1.0, "seed": 3, "max_completion_tokens": 50}


@pytest.mark.parametrize(
    ("raw", "line"),
    [
        (3, '.grader: expected a grader object with a "type", as {type: string_check, …}'),
        ({"type": "strin_check"}, '.grader.type: no grader type "strin_check"; did you mean "string_check"?'),
        (
            {"type": "python"},
            '.grader.type: "python" graders are not supported: code in a config is not run; write a scorer and '
            "configure it with `use: package.module:Class`",
        ),
        ({**CHECK, "operation": "is"}, ".grader.operation: input should be 'eq', 'ne', 'like' or 'ilike'"),
        ({**CHECK, "inptu": "x"}, ".grader.inptu: extra inputs are not permitted"),
        ({**SCORE, "range": [5, 1]}, ".grader.range: [5.0, 1.0] is not a range: expected [low, high]"),
        ({**LABEL, "passing_labels": ["great"]}, ".grader.passing_labels: great: not among labels"),
        (
            {**SCORE, "input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]},
            '.grader.input[0].content: only text can be graded, not "input_image"',
        ),
        (
            {"type": "text_similarity", "input": "a", "reference": "b", "evaluation_metric": "meteor"},
            ".grader.evaluation_metric: meteor needs a dictionary of synonyms and is not supported",
        ),
    ],
)
def test_a_mistake_names_its_path(raw, line):
    with pytest.raises(InvalidOptions) as caught:
        parse_grader(raw)
    assert caught.value.lines == (line,)


def test_a_multi_grader_holds_no_other():
    with pytest.raises(InvalidOptions, match=r"x\.type: a multi grader cannot contain another one"):
        parse_grader({"type": "multi", "graders": {}, "calculate_output": "1"}, "x", nested=True)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a", 0.5), ("(a + b) / 2", 0.375), ("0.7 * a + 0.3 * b", 0.425), ("a^2", 0.25), ("-a + 1", 0.5), ("+b", 0.25),
        ("min(a, b)", 0.25), ("max(a, b, 1)", 1.0), ("abs(b - a)", 0.25), ("floor(a)", 0.0), ("ceil(a)", 1.0),
        ("sqrt(b)", 0.5), ("exp(0)", 1.0), ("log(1)", 0.0), ("a - b", 0.25), ("2 ** 3", 8.0),
    ],
)  # fmt: skip
def test_arithmetic(text, value):
    assert math.isclose(Formula(text, {"a": 1, "b": 1}).value({"a": 0.5, "b": 0.25}), value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a +", "is not a formula"),
        ("", "is not a formula"),
        ("c", 'no grader "c"; known: a, b'),
        ("__import__('os')", "is not allowed in a formula"),
        ("a.real", "is not allowed in a formula"),
        ("a if b else 1", "is not allowed in a formula"),
        ("[a]", "is not allowed in a formula"),
        ("'x' * 9", "is not allowed in a formula"),
        ("True", "is not allowed in a formula"),
        ("a < b", "is not allowed in a formula"),
        ("lambda: a", "is not allowed in a formula"),
        ("pow(a, b)", "is not allowed in a formula"),
        ("min(a, key=b)", "is not allowed in a formula"),
        ("a" * 3000, "longer than 2000"),
        ("+".join("a" * 200), "more than 300 parts"),
        ("-" * 1500 + "a", "formula|parts"),
        ("(" * 999 + "a", "is not a formula"),
    ],
)
def test_anything_else_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        Formula(text, {"a": 1, "b": 1})


@pytest.mark.parametrize("text", ["a / (b - b)", "sqrt(0 - a)", "log(0)", "exp(1000)", "9 ^ 9 ^ 9", "min(a)"])
def test_where_it_has_no_value_that_is_said(text):
    with pytest.raises(ValueError, match="has no value here"):
        Formula(text, {"a": 1, "b": 1}).value({"a": 0.5, "b": 0.25})


REQUEST = {"messages": [{"role": "user", "content": "Where?"}], "metadata": {"city": "Rome", "list": [{"a": 1}]}}
SAID = Completion('{"a": [10, 20]}', tool_calls=(ToolCall("1", "f", "{}"),), finish_reason="stop", model="m")


@pytest.fixture
def values(subject):
    """The variables of one subject with a reference."""
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
def test_a_variable_represents_its_value(values, text, expected):
    assert fill(text, values) == expected


def test_a_value_that_looks_like_a_variable_is_text(subject):
    values = variables_of(subject("{{item.city}}", REQUEST))
    assert fill("{{sample.output_text}}", values) == "{{item.city}}"


@pytest.mark.parametrize("name", ["item.nothing", "sample.output_json.b", "sample.output_tools[5]", "item.list[9].a"])
def test_an_item_without_a_value_is_lacking(values, name):
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


PAIRS = [
    ("the cat sat on the mat", "the cat is on the mat"),
    ("The quick brown fox jumps.", "A quick brown dog jumped over it, quickly."),
    ("same words", "same words"),
    ("nothing", "in common here"),
    ("", "empty answer"),
]
WORDS = st.lists(st.sampled_from(["a", "b", "c", "d", "the"]), min_size=1, max_size=12)


@pytest.mark.parametrize(("answer", "reference"), PAIRS)
@pytest.mark.parametrize("metric", ["rouge_1", "rouge_2", "rouge_3", "rouge_l"])
def test_rouge_is_rouge_scores(metric, answer, reference):
    from rouge_score.rouge_scorer import RougeScorer

    name = metric.replace("_", "").replace("rougel", "rougeL")
    expected = RougeScorer([name], use_stemmer=False).score(reference, answer)[name].fmeasure
    assert math.isclose(similarity(metric, answer, reference), expected, abs_tol=1e-9)


@given(WORDS, WORDS)
def test_gleu_is_nltks(answer, reference):
    from nltk.translate.gleu_score import sentence_gleu

    assert math.isclose(gleu(answer, reference), sentence_gleu([reference], answer), abs_tol=1e-12)


@pytest.mark.parametrize("metric", ["fuzzy_match", "bleu", "gleu", "rouge_1", "rouge_5", "rouge_l"])
def test_the_same_is_1_and_nothing_in_common_0(metric):
    text = "one two three four five six"
    assert math.isclose(similarity(metric, text, text), 1.0)
    assert similarity(metric, "xxyy", "abcd") == 0.0
    assert 0.0 <= similarity(metric, "", "") <= 1.0


def test_fuzzy_match_is_an_edit_ratio():
    assert math.isclose(similarity("fuzzy_match", "this is a test", "this is a test!"), 28 / 29)


def test_only_so_much_of_a_text_is_read():
    assert similarity("fuzzy_match", "a" * (MAX_COMPARED + 5), "a" * MAX_COMPARED) == 1.0
