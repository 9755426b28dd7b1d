"""OpenAI's grader JSON: what is accepted, and how mistakes are reported."""

from __future__ import annotations

import pytest

from gateway.scorers.grading.grader_json import (
    LabelModel,
    MultiGrader,
    ScoreModel,
    StringCheck,
    TextSimilarity,
    parse_grader,
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
