"""An answer's tokens are found at the end of the prompt, whatever the template and the tokenizer do around them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.likelihood import REFUSALS, tokens_from_json
from gateway.proxy.experiments.prompt_likelihood import LEAST, prompt_likelihood

KEY = b"k" * 16
HEAD = ["<|im_start|>", "user", "\n", "hi", "<|im_end|>", "\n", "<|im_start|>", "assistant", "\n"]


def response(tokens: Sequence[str], logprob: float = -0.5, **more: Any) -> bytes:
    """Answers as vLLM does: one entry for each token of the prompt, null for the first."""
    entries = [
        {str(i): {"logprob": logprob, "rank": 2, "decoded_token": text},
         "9999": {"logprob": -0.1, "rank": 1, "decoded_token": " the"}}
        for i, text in enumerate(tokens)
    ]  # fmt: skip
    return orjson.dumps({"choices": [], "prompt_logprobs": [None, *entries[1:]], **more})


def read(tokens: Sequence[str], answer: str, **more: Any) -> Any:
    return prompt_likelihood(response(tokens, **more), 200, answer, "served", KEY)


def texts(found: Any) -> list[str]:
    return [token.text for token in tokens_from_json(found.response)]


@pytest.mark.parametrize(
    ("tokens", "answer", "wanted"),
    [
        (["Hello", " world", "."], "Hello world.", ["Hello", " world", "."]),
        (["Hello", " world"], "  Hello world\n", ["Hello", " world"]),
        (["Hello", "world"], "Hello world", ["Hello", "world"]),
        (["a", "\n", "\n", "b"], "a\n\nb", ["a", "\n", "\n", "b"]),
        (["hi", " \ufffd", "\ufffd", "\ufffd", " you"], "hi 😀 you", ["hi", " \ufffd", "\ufffd", "\ufffd", " you"]),
        (["\ufffd", "\ufffd", "\ufffd", " you"], "😀 you", ["\ufffd", "\ufffd", "\ufffd", " you"]),
        (["\ufffd", "\ufffd", "\ufffd", "\ufffd"], "😀é", ["\ufffd", "\ufffd", "\ufffd", "\ufffd"]),
        (["hi", "\ufffd", "\ufffd"], "hié", ["hi", "\ufffd", "\ufffd"]),
        (["", "", "☐", "Some", " ", "✎", "", "🦵"], "☐Some ✎🦵", ["", "", "☐", "Some", " ", "✎", "", "🦵"]),
        (["Hi", "", " 😀", "", " ü", "!"], "Hi 😀 ü!", ["Hi", "", " 😀", "", " ü", "!"]),
    ],
)
def test_the_answer_is_the_end_of_the_prompt(tokens: list[str], answer: str, wanted: list[str]) -> None:
    found = read([*HEAD, *tokens], answer)
    assert found.likelihood.refused is None
    assert texts(found) == wanted
    assert found.likelihood.tokens == len(wanted)
    assert math.isclose(found.likelihood.nats, 0.5 * len(wanted))


def test_a_token_that_begins_before_the_answer_is_left_out() -> None:
    assert texts(read([*HEAD[:-1], "\n<Hel", "lo", " you"], "Hello you")) == ["lo", " you"]


@pytest.mark.parametrize(
    ("tokens", "answer"),
    [
        ([*HEAD, "Hello"], "Goodbye"),
        ([*HEAD, "Hello", "<|im_end|>", "\n"], "Hello"),
        ([*HEAD, "\ufffd"], "abc"),
        ([*HEAD, "x"], "   "),
        (["Hello"], "Hello Hello"),
    ],
)
def test_an_answer_that_is_not_there_is_refused(tokens: list[str], answer: str) -> None:
    assert read(["<s>", *tokens], answer).likelihood.refused == "not_aligned"


@given(
    st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\ufffd"), max_size=6), max_size=8),
    st.text(st.characters(codec="utf-8", exclude_characters="\ufffd"), max_size=8),
)
def test_any_split_of_an_answer_is_found(parts: list[str], last: str) -> None:
    answer = "".join([*parts, last])
    if not answer.split():
        return
    found = read([*HEAD, *parts, last], answer)
    assert found.likelihood.refused is None
    assert "".join("".join(texts(found)).split()) == "".join(answer.split())


@pytest.mark.parametrize(
    ("body", "status", "why"),
    [
        (b"{}", 200, "no_prompt_logprobs"),
        (b"no JSON", 200, "no_prompt_logprobs"),
        (b'{"prompt_logprobs":[null,{"1":{}}]}', 200, "no_prompt_logprobs"),
        (b'{"prompt_logprobs":[null,{}]}', 200, "no_prompt_logprobs"),
        (b'{"prompt_logprobs":[null,null]}', 200, "no_prompt_logprobs"),
        (b'{"error":{}}', 400, "rejected"),
    ],
)
def test_an_engine_without_log_probabilities_is_refused(body: bytes, status: int, why: str) -> None:
    found = prompt_likelihood(body, status, "Hello", "served", KEY)
    assert (found.likelihood.refused, found.response) == (why, b"")
    assert why in REFUSALS


def test_the_prompts_own_token_is_the_one_that_the_engine_names() -> None:
    entry = {"7": {"logprob": -0.1, "rank": 1, "decoded_token": " the"},
             "8": {"logprob": -3.0, "rank": 9, "decoded_token": " a"}}  # fmt: skip
    raw = {"prompt_logprobs": [None, entry], "prompt_token_ids": [1, 8]}
    [token] = tokens_from_json(prompt_likelihood(orjson.dumps(raw), 200, "a", "s", KEY).response)
    assert (token.text, token.logprob, token.rank, token.best) == (" a", -3.0, 9, " the")


def test_a_token_that_is_ruled_out_does_not_decide_the_mean() -> None:
    assert read([*HEAD, "Hello"], "Hello", logprob=-9999.0).likelihood.nats == -LEAST


def test_other_tokens_have_another_digest_and_other_keys_too() -> None:
    one, other = read([*HEAD, "Hel", "lo"], "Hello"), read([*HEAD, "Hello"], "Hello")
    assert one.likelihood.ids != other.likelihood.ids
    again = prompt_likelihood(response([*HEAD, "Hello"]), 200, "Hello", "served", b"j" * 16)
    assert again.likelihood.ids != other.likelihood.ids
    assert read([*HEAD, "Hello"], "Hello") == other


def test_digests_say_nothing_across_answers() -> None:
    """The same most likely token at two places, or in two calls, has another digest."""
    found = read([*HEAD, "a", "b"], "ab").likelihood.best
    assert len(found) == 8
    assert found[:4] != found[4:]
    elsewhere = prompt_likelihood(response([*HEAD, "a", "b"]), 200, "ab", "another", KEY).likelihood.best
    assert elsewhere != found
