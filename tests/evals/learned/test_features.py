"""Features are numbers of the right shape for anything that is recorded, and see what they claim to see."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.core.completion import completion_of
from gateway.core.exchange import Exchange, Target
from gateway.evals.learned.features import FEATURES, REQUEST_FEATURES, FeatureExtractor, feature_set, prompt_of
from gateway.evals.scoring.types import Subject

Make = Callable[..., Exchange]
NAMES = [f.name for f in FEATURES]


def subject(e: Exchange) -> Subject:
    body = orjson.loads(e.request)
    return Subject(e, body if isinstance(body, dict) else {}, completion_of(e))


def row(e: Exchange) -> dict[str, float]:
    return dict(zip(NAMES, FeatureExtractor().matrix([subject(e)])[0].tolist(), strict=True))


def test_names_are_unique_and_those_of_the_request_come_first() -> None:
    assert len(set(NAMES)) == len(NAMES)
    assert FEATURES[: len(REQUEST_FEATURES)] == REQUEST_FEATURES
    assert {f.part for f in REQUEST_FEATURES} == {"request"}
    assert {f.part for f in FEATURES[len(REQUEST_FEATURES) :]} == {"answer"}
    assert feature_set(["a", "b"]) != feature_set(["b", "a"])
    assert FeatureExtractor.set == feature_set(NAMES)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    texts=st.lists(st.text(max_size=60), min_size=1, max_size=5),
    request=st.dictionaries(
        st.sampled_from(["messages", "input", "prompt", "tools", "temperature", "max_tokens", "system"]),
        st.none() | st.floats() | st.text(max_size=5) | st.lists(st.none() | st.dictionaries(
            st.sampled_from(["content", "role"]), st.none() | st.text(max_size=9) | st.lists(st.none(), max_size=2))),
    ),
)  # fmt: skip
def test_anything_that_is_recorded_has_features(exchange: Make, texts: list[str], request: dict[str, Any]) -> None:
    subjects = []
    for text in texts:
        e = exchange("x")
        subjects.append(Subject(e, request, completion_of(exchange(text))))
    x = FeatureExtractor().matrix(subjects)
    assert x.shape == (len(texts), len(FEATURES))
    assert x.dtype == np.float32
    assert not np.isinf(x).any()


def test_a_row_does_not_depend_on_the_rest_of_the_batch(exchange: Make) -> None:
    """Texts of a batch are padded to one length, and counted a few at a time."""
    sent = [exchange("word " * n + "é漢字" * (n % 3)) for n in (0, 1, 2, 500, 30, 7) * 10]
    whole = FeatureExtractor().matrix([subject(e) for e in sent])
    for e, found in zip(sent[:9], whole, strict=False):
        alone = FeatureExtractor().matrix([subject(e)])[0]
        np.testing.assert_array_equal(np.delete(found, NAMES.index("repeats")),
                                      np.delete(alone, NAMES.index("repeats")))  # fmt: skip


def test_shares_of_a_text_add_up_to_one(exchange: Make) -> None:
    found = row(exchange("Hello, wörld! 漢字 Привет"))
    assert sum(v for name, v in found.items() if name.startswith("answer_gram_")) == pytest.approx(1.0)
    classes = {
        k: v for k, v in found.items() if k.startswith("answer_") and k not in ("answer_log", "answer_to_prompt_log")
    }
    classes = {k: v for k, v in classes.items() if "gram" not in k}
    assert sum(classes.values()) == pytest.approx(1.0)
    for script in ("latin", "greek_cyrillic", "cjk"):
        assert classes[f"answer_{script}"] > 0
    empty = row(exchange(""))
    assert all(v == 0 for k, v in empty.items() if k.startswith("answer_gram_"))


@pytest.mark.parametrize(
    ("text", "feature", "value"),
    [
        ("I'm sorry, but I can't help with that.", "refusal_marks", 2),
        ("Perhaps it is so.", "hedge_marks", 1),
        ('{"a": 1}', "json", 1),
        ('{"a": ', "json", 0),
        ("[1, 2]", "json", 1),
        ("plain", "json", math.nan),
        ("A sentence.", "complete_sentence", 1),
        ("A sentence that was cut in the", "complete_sentence", 0),
        ("a a a a", "distinct_words", 0.25),
        ("der die das und nicht", "german", 5),
        ("the and of", "english", 3),
    ],
)
def test_marks_of_an_answer_are_seen(exchange: Make, text: str, feature: str, value: float) -> None:
    assert row(exchange(text))[feature] == pytest.approx(value, nan_ok=True)


def test_what_is_known_of_the_call_is_seen(exchange: Make) -> None:
    body = {"messages": [{"role": "system", "content": "x"}, {"role": "user", "content": "why? how?"}],
            "tools": [{}, {}], "temperature": 0.5, "response_format": {"type": "json_object"}}  # fmt: skip
    found = row(exchange("1", request=orjson.dumps(body), first_token_s=0.003, status=502, outcome="timeout"))
    expected = {"messages": 2, "system": 1, "tools": 2, "temperature": 0.5, "wants_json": 1, "question_marks": 2,
                "first_token_log": math.log(4), "status": 5.02, "outcome": 3, "finish_reason": 0}  # fmt: skip
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert math.isnan(found["max_tokens_log"])
    assert math.isnan(found["mean_logprob"])


def test_categories_are_told_apart_by_one_of_two_numbers(exchange: Make) -> None:
    places = {
        (row(e)["target_a"], row(e)["target_b"]) for e in (exchange(target=Target("u", f"m{i}")) for i in range(20))
    }
    assert len(places) == 20


@pytest.mark.parametrize(
    ("request_body", "prompt"),
    [
        ({"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]}, "b"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url"}]}]}, "a"),
        ({"input": "c"}, "c"),
        ({"input": [{"role": "user", "content": [{"type": "input_text", "text": "d"}]}]}, "d"),
        ({"prompt": "e"}, "e"),
        ({"prompt": ["f", "g"]}, "g"),
        ({}, ""),
    ],
)
def test_the_prompt_is_the_last_message_in_every_api(request_body: dict[str, Any], prompt: str) -> None:
    assert prompt_of(request_body) == prompt
