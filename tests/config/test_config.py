from __future__ import annotations

from datetime import date
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from gateway.config.config import (
    Config,
    FeedbackConfig,
    ImplicitLanguage,
    ModelPrice,
    PriceList,
    RuleCondition,
    Sampling,
    StoreConfig,
)
from gateway.config.loading import parse
from gateway.config.upstreams import Upstream
from gateway.features.feedback.implicit import ImplicitFeedback

MINIMAL = "upstreams: {u: {kind: openai}}\nmodels: {m: {targets: [{upstream: u, model: a}]}}\n"


def test_the_summary_counts_sections_and_describes_experiments() -> None:
    text = f"""
keys: [{{name: web, sha256: "{"0" * 64}"}}]
upstreams: {{local: {{kind: fake}}, openai: {{kind: openai}}}}
models: {{chat: {{targets: [{{upstream: openai, model: gpt-x}}]}}}}
scorers: {{valid_json: {{}}, refusal: {{}}}}
experiments:
  swap:
    {{model: chat, control: {{upstream: openai, model: gpt-x}}, candidate: {{upstream: local, model: s}}, shadow: 0.2}}
"""
    assert parse(text, environ={}).summary() == (
        "2 upstreams, 1 model, 1 key, 2 scorers, 1 experiment (swap: shadow on 20%); 10% of traffic sampled. Ready."
    )
    assert parse(MINIMAL, environ={}).summary() == "1 upstream, 1 model, no keys; 10% of traffic sampled. Ready."


def test_transports_are_listed_without_a_proxys_password() -> None:
    options = {
        "lean": {},
        "two": {"http2": True},
        "out": {"proxy": "http://me:secret@proxy.example:3128", "http2": True},
        "chosen": {"transport": "httpx"},
    }
    upstreams = {name: Upstream.model_validate({"kind": "openai", **each}) for name, each in options.items()}
    assert Config.model_construct(upstreams=upstreams).transports_summary() == (
        "transports: lean http1; two httpx (HTTP/2); out httpx (HTTP/2, by proxy.example:3128); chosen httpx"
    )


@pytest.mark.parametrize(
    ("of_model", "policy"),
    [
        ("", "error"),
        (", fallback: [{upstream: u, model: b}]", "continue"),
        (", fallback: [{upstream: u, model: b}], on_cut: off", "off"),
        (", on_cut: continue", "continue"),
    ],
)
def test_a_cut_stream_continues_where_there_is_a_fallback(of_model: str, policy: str) -> None:
    text = MINIMAL.replace("model: a}]", f"model: a}}]{of_model}")
    assert parse(text, environ={}).models["m"].cut_policy == policy


def test_a_fallback_is_tried_for_the_failures_in_its_on() -> None:
    text = MINIMAL.replace(
        "model: a}]", "model: a}], fallback: [{upstream: u, model: b, on: [timeout]}, {upstream: u, model: c}]"
    )
    first, second = parse(text, environ={}).models["m"].fallback
    assert first.on == ("timeout",)
    assert second.on == ("error", "timeout", "rate_limit", "context_length")


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ({"rate": 0.0001}, "rate 0.0001 is below pi_min 0.001"),
        ({"rules": [{"when": {"alias": "m"}, "rate": 0.0001}]}, r"rules\[0\].rate 0.0001 is below pi_min"),
    ],
)
def test_a_rate_below_pi_min_is_refused(section: dict[str, object], expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        Sampling.model_validate(section)


def test_a_rate_of_zero_is_allowed() -> None:
    assert Sampling(rate=0).rate == 0


@pytest.mark.parametrize(
    ("condition", "head"),
    [
        ({}, True),
        ({"alias": "m", "key": "k", "api": "chat", "stream": True}, True),
        ({"alias": "m", "outcome": "error"}, False),
        ({"finish_reason": "length"}, False),
        ({"min_total_s": 1}, False),
        ({"min_first_token_s": 1}, False),
    ],
)
def test_conditions_on_the_answer_wait_for_its_end(condition: dict[str, object], head: bool) -> None:
    assert RuleCondition.model_validate(condition).head is head


def test_the_stores_retention_has_lower_bounds() -> None:
    store = StoreConfig.model_validate({"keep_days": 30, "max_gb": 5})
    assert (store.keep_days, store.max_gb) == (30, 5)
    with pytest.raises(ValidationError) as caught:
        StoreConfig.model_validate({"keep_days": 0.5, "max_gb": -1, "keep_hours": 3})
    assert [e["loc"] for e in caught.value.errors()] == [("keep_days",), ("max_gb",), ("keep_hours",)]


def test_prices_are_given_by_model_with_their_date() -> None:
    section = PriceList.model_validate({"as_of": "2026-11-01", "models": {"a/m": {"input": 1, "output": 2}}})
    assert section.as_of == date(2026, 11, 1)
    assert section.models == {"a/m": ModelPrice(input=1, output=2)}


@pytest.mark.parametrize(
    ("section", "at", "expected"),
    [
        ({"models": {}}, "as_of", "Field required"),
        ({"as_of": "soon"}, "as_of", "valid date"),
        ({"models": {"a": {"input": 1}}}, "models.a.output", "Field required"),
        ({"models": {"a": {"input": -1, "output": 1}}}, "models.a.input", "greater than or equal to 0"),
        ({"models": {"a": {"input": float("nan"), "output": 1}}}, "models.a.input", "greater than or equal to 0"),
        ({"models": {"a": {"input": "1", "output": 1}}}, "models.a.input", "expected a number, got '1'"),
        ({"models": {"a": {"input": 1, "output": 2.5e-6}}}, "models.a.output", "looks like a price per token"),
        ({"models": {"a": {"input": 1, "output": 1, "ouput": 1}}}, "models.a.ouput", "Extra inputs"),
    ],
)
def test_prices_that_cannot_be_right_are_refused(section: dict[str, Any], at: str, expected: str) -> None:
    given = section if at == "as_of" else {"as_of": "2026-11-01", **section}
    with pytest.raises(ValidationError) as caught:
        PriceList.model_validate(given)
    (error,) = caught.value.errors()
    assert ".".join(map(str, error["loc"])) == at
    assert expected in error["msg"]


def test_implicit_feedback_is_off_by_default():
    assert FeedbackConfig().implicit == ()


def test_every_language_has_rules():
    for language in get_args(ImplicitLanguage):
        assert ImplicitFeedback(FeedbackConfig(implicit=(language,)).implicit).signs("") == ()
    with pytest.raises(ValidationError, match="implicit"):
        FeedbackConfig(implicit=("xx",))


def test_a_range_is_two_rising_numbers():
    assert FeedbackConfig(range={"stars": [1, 5]}).range == {"stars": (1.0, 5.0)}
    for wrong in ([1, 1], [5, 1], [0, float("inf")]):
        with pytest.raises(ValidationError, match="two numbers that rise"):
            FeedbackConfig(range={"stars": wrong})
    with pytest.raises(ValidationError, match="pattern"):
        FeedbackConfig(range={"two words": [0, 1]})
