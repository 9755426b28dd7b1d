"""The numbers that bound an answer, as each API reads them."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import BadRequest
from gateway.proxy.request.call import Call, Caller
from gateway.proxy.request.json_members import read_members
from gateway.proxy.request.output_limit import (
    DEFAULTED,
    GENERATES,
    answers_of,
    checked_numbers,
    default_name,
    output_limit,
)
from gateway.proxy.request.parse import read_object


def a_call(api: Any, fields: dict[str, Any]) -> Call:
    body = json.dumps(fields).encode()
    return Call("id", 0.0, 0.0, Caller("web"), api, b"POST", b"/x", "chat", False, body, read_object(body)[1])


LIMITS: list[tuple[str, dict[str, Any], int]] = [
    ("chat", {}, 0),
    ("chat", {"max_tokens": 20}, 20),
    ("chat", {"max_completion_tokens": 30}, 30),
    ("chat", {"max_tokens": 600, "max_completion_tokens": 10}, 600),
    ("chat", {"max_output_tokens": 1}, 0),  # this API does not read it
    ("chat", {"max_tokens": 0}, 0),  # as if it were absent
    ("chat", {"max_tokens": -1}, 0),  # llama.cpp's "without a limit"
    ("chat", {"max_tokens": None}, 0),
    ("chat", {"max_tokens": 2000.0}, 2000),
    ("chat", {"max_tokens": 1, "n_predict": 500}, 500),  # llama.cpp reads this one first
    ("chat", {"max_tokens": 1, "n_predict": -1}, 0),
    ("chat", {"n_predict": 5}, 0),  # other servers ignore it
    ("completions", {"max_tokens": 7, "max_completion_tokens": 900}, 7),
    ("responses", {"max_tokens": 1}, 0),
    ("responses", {"max_output_tokens": 40, "max_tokens": 1}, 40),
    ("messages", {"max_tokens": 50, "max_output_tokens": 1}, 50),
    ("chat_batch", {"max_tokens": 9}, 9),
    ("generate", {"max_tokens": 1, "sampling_params": {"max_tokens": 80}}, 80),
    ("generate", {"sampling_params": {"max_tokens": 80.0}}, 80),
    ("generate", {}, 0),
    ("generate_content", {"generationConfig": {"maxOutputTokens": 9.0}}, 9),
    ("generate_content", {"generation_config": {"max_output_tokens": 9}}, 9),
    ("generate_content", {"maxOutputTokens": 9}, 0),
    ("converse", {"inferenceConfig": {"maxTokens": 5}}, 5),
    ("invoke_model", {"max_tokens": 6}, 6),
]


@pytest.mark.parametrize(("api", "fields", "most"), LIMITS, ids=[f"{api} {fields}" for api, fields, _ in LIMITS])
def test_each_api_has_the_limit_that_it_reads(api: Any, fields: dict[str, Any], most: int) -> None:
    read = dict(fields)
    checked_numbers(read, api)
    assert output_limit(api, read) == most


@pytest.mark.parametrize("value", ["2000", 2000.5, True, [], {}, "x" * 70_000, 1e400], ids=lambda v: str(v)[:9])
@pytest.mark.parametrize(
    ("api", "name"),
    [
        ("chat", "max_tokens"), ("chat", "max_completion_tokens"), ("chat", "n"), ("completions", "best_of"),
        ("responses", "max_output_tokens"), ("messages", "max_tokens"), ("chat_batch", "max_tokens"),
    ],
)  # fmt: skip
def test_a_limit_that_is_not_a_number_is_refused_by_name(api: Any, name: str, value: Any) -> None:
    with pytest.raises(BadRequest) as refused:
        checked_numbers({name: ... if value == "x" * 70_000 else value}, api)
    assert refused.value.param == name
    assert "must be an integer" in refused.value.message


def test_a_nested_number_is_refused_with_its_path() -> None:
    with pytest.raises(BadRequest) as refused:
        checked_numbers({"sampling_params": {"max_tokens": "9"}}, "generate")
    assert refused.value.param == "sampling_params.max_tokens"
    with pytest.raises(BadRequest):
        checked_numbers({"sampling_params": ...}, "generate")


def test_limits_that_an_api_does_not_read_pass() -> None:
    fields = {"max_output_tokens": "many", "n_predict": "x"}
    checked_numbers(fields, "messages")
    assert fields == {"max_output_tokens": "many", "n_predict": "x"}


def test_numbers_beyond_all_answers_stay_finite() -> None:
    fields = {"max_tokens": 1e300}
    checked_numbers(fields, "chat")
    assert fields == {"max_tokens": 10**15}


LONG = ["word " * 3] * 900 + ["a, b"] * 600
ANSWERS: list[tuple[str, dict[str, Any], int]] = [
    ("chat", {}, 1),
    ("chat", {"n": 3}, 3),
    ("chat", {"n": -2}, 1),
    ("chat", {"n": 2, "best_of": 5}, 5),
    ("responses", {"n": 5}, 1),  # not read
    ("messages", {"n": 5}, 1),
    ("completions", {"prompt": "one"}, 1),
    ("completions", {"prompt": ["one", "two", "three"], "n": 2}, 6),
    ("completions", {"prompt": [1, 2, 3]}, 1),  # tokens of one prompt
    ("completions", {"prompt": [[1, 2], [3]]}, 2),
    ("completions", {"prompt": []}, 1),
    ("completions", {"prompt": ["x" * 100_000] * 12}, 12),  # too large to be parsed
    ("completions", {"prompt": [7] * 600_000}, 1),
    ("completions", {"prompt": ["a, b, " * 50_000] * 3}, 3),
    ("chat_batch", {"messages": [[{"role": "user", "content": "a"}]] * 20, "n": 2}, 40),
    ("chat_batch", {"messages": [[{"role": "user", "content": "a [b], [c]" * 9000}]] * 20}, 20),
    ("chat_batch", {"messages": [{"role": "user", "content": "a"}]}, 1),
    ("chat_batch", {"messages": "no"}, 1),
    ("generate", {"sampling_params": {"n": 4}}, 4),
    ("generate_content", {"generationConfig": {"candidateCount": 4}}, 4),
    ("converse", {"inferenceConfig": {"candidateCount": 4}}, 1),
]


@pytest.mark.parametrize(("api", "fields", "n"), ANSWERS, ids=[f"{api} {str(f)[:40]}" for api, f, _ in ANSWERS])
def test_each_answer_of_a_request_counts(api: str, fields: dict[str, Any], n: int) -> None:
    assert answers_of(a_call(api, fields)) == n


@given(st.lists(st.text(max_size=4), min_size=1, max_size=40), st.integers(1001, 1100))
def test_none_of_very_many_prompts_is_forgotten(some: list[str], n: int) -> None:
    prompts = (some * n)[:n]
    call = a_call("completions", {"prompt": prompts})
    call.fields["prompt"] = ...
    assert answers_of(call) >= len(prompts)


def test_a_default_has_the_name_that_the_upstream_reads() -> None:
    assert default_name("chat", "openai") == "max_completion_tokens"
    assert default_name("chat", "vllm") == "max_tokens"
    assert default_name("responses", "openai") == "max_output_tokens"
    assert default_name("messages", "anthropic") is None
    assert DEFAULTED < GENERATES


def test_counting_prompts_takes_no_more_memory_than_they_do() -> None:
    call = a_call("completions", {"prompt": [""] * 2_000_000})
    call.fields["prompt"], call.members = ..., read_members(call.body)
    tracemalloc.start()
    try:
        found, peak = answers_of(call), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert 2_000_000 <= found < 2_100_000
    assert peak < len(call.body)
