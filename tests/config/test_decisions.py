"""The section `decisions`: what a question and a certificate may say."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from gateway.config.decisions import CertificateConfig, DecisionsConfig, QuestionConfig
from gateway.config.loading import parse
from gateway.core.errors import ConfigError


def test_a_certificate_has_the_defaults_of_the_section() -> None:
    section = DecisionsConfig.model_validate(
        {"wrong": 0.1, "certificates": {"a": {"scorer": "s"}, "b": {"scorer": "s", "wrong": 0.02, "confidence": 0.95}}}
    )
    plain, own = section.certificates["a"], section.certificates["b"]
    assert (section.wrong_of(plain), section.confidence_of(plain)) == (0.1, 0.9)
    assert (section.wrong_of(own), section.confidence_of(own)) == (0.02, 0.95)


@pytest.mark.parametrize(
    "question",
    [
        {"predicate": "It is late."},
        {"choice": "Which team?", "choices": ["billing", "other"]},
        {"score": "How upset?", "levels": ["calm", "furious"]},
    ],
)
def test_a_question_is_of_one_kind(question: dict[str, Any]) -> None:
    QuestionConfig.model_validate({"model": "decide", **question})


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ({}, "got none"),
        ({"predicate": "a", "score": "b", "levels": ["x", "y"]}, "predicate and score"),
        ({"choice": "a"}, "needs it"),
        ({"predicate": "a", "levels": ["x", "y"]}, "belongs to `score`"),
        ({"choice": "a", "choices": ["x", "x"]}, "all different"),
        ({"score": "a", "levels": ["x"]}, "two or more"),
        ({"score": "a", "levels": [str(n) for n in range(11)]}, "at most 10"),
    ],
)
def test_a_question_of_no_kind_is_refused(question: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        QuestionConfig.model_validate({"model": "decide", **question})


@pytest.mark.parametrize("value", [{"wrong": 0.0}, {"wrong": 0.5}, {"confidence": 1.0}, {"confidence": 0.4}])
def test_a_promise_outside_its_range_is_refused(value: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        DecisionsConfig.model_validate(value)


CONFIG = """
open: true
upstreams: {{local: {{kind: vllm, base_url: "http://127.0.0.1:1/v1"}}}}
models: {{chat: {{targets: [{{upstream: local, model: small}}]}}}}
scorers: {{right: {{use: valid_json}}}}
decisions: {{{section}}}
"""


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (
            "certificates: {a: {scorer: rigth}}",
            r'decisions.certificates.a.scorer: no scorer "rigth"; did you mean "right"',
        ),
        ("certificates: {a: {guard: pii}}", r'decisions.certificates.a.guard: no guard "pii"'),
        ("certificates: {a: {}}", "expected one of scorer and guard"),
        (
            "questions: {q: {model: caht, predicate: x}}",
            r'decisions.questions.q.model: no model "caht"; did you mean "chat"',
        ),
    ],
)
def test_names_are_those_of_the_file(section: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(CONFIG.format(section=section))


def test_a_guard_is_labelled_under_its_own_name() -> None:
    assert CertificateConfig(guard="pii").labelled_as == "guard pii"


READS = "decisions: {reading: structured, probed: 2026-12-03, allow_one_hot: true}"


def one_hot(scorer: str, reads: str = READS, of: str = "right") -> str:
    """A config with a certificate about this scorer, and a model `sure` that is read so."""
    text = CONFIG.format(section=f"certificates: {{a: {{scorer: {of}}}}}").replace("use: valid_json", scorer)
    return text.replace("models: {", f"models: {{sure: {{targets: [{{upstream: local, model: small}}], {reads}}}, ", 1)


@pytest.mark.parametrize(
    ("scorer", "source", "of"),
    [
        ("use: judge, model: sure", "models.sure with `allow_one_hot`", "right"),
        ("use: decision, model: sure, questions: {q: {predicate: x}}", "models.sure with `allow_one_hot`", "right.q"),
        ("use: decided, reading: structured-only, question: {predicate: x}", "the reading structured-only", "right"),
    ],
)
def test_no_certificate_rests_on_answers_that_count_as_certain(scorer: str, source: str, of: str) -> None:
    message = f'certificates.a.scorer: "{of}" rests on {source}, whose answers count as certain'
    with pytest.raises(ConfigError, match=message):
        parse(one_hot(scorer, of=of))
    parse(one_hot("use: judge, model: sure", READS.replace(", allow_one_hot: true", "")))
