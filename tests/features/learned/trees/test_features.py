"""The features of an exchange. Embeddings are in test_embedding.py."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import numpy as np
import orjson
import pytest
from fixtures.examples import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.core.completion import Completion, completion_of
from gateway.core.exchange import Exchange, Target
from gateway.features.learned.trees.features import (
    FEATURES,
    MARKS,
    WORD_FEATURES,
    FeatureExtractor,
    feature_set,
    prompt_of,
    word_columns,
)
from gateway.scoring.types import Subject


def columns(text: str) -> dict[str, float]:
    return dict(zip(WORD_FEATURES, word_columns([text.encode()])[0].tolist(), strict=True))


def test_words_are_counted_whatever_their_case_and_punctuation() -> None:
    found = columns("SORRY! I can’t — (unfortunately), not: désolé")
    assert (found["refusal_marks"], found["distinct_words"]) == (4, 1)
    assert columns("A-b a-B, 'c' \"c\"")["distinct_words"] == 0.75
    assert np.isnan(columns("?!")["distinct_words"])


def test_every_word_that_is_looked_for_is_found() -> None:
    """None shares its slot of the table with another."""
    for name, words in MARKS.items():
        for word in words.split():
            assert columns(word)[name] == 1, word


@given(st.lists(st.text("aAbB'ü .,\n\0", max_size=30), min_size=1, max_size=20))
def test_the_share_of_different_words_is_that_of_python(texts: list[str]) -> None:
    expected = []
    for text in texts:
        words = re.findall("[abü']+", text.lower())
        expected.append(len(set(words)) / len(words) if words else np.nan)
    np.testing.assert_array_equal(word_columns([t.encode() for t in texts])[:, 0], np.array(expected, dtype=np.float32))


Make = Callable[..., Exchange]
NAMES = list(FEATURES)


def subject(e: Exchange) -> Subject:
    body = orjson.loads(e.request)
    return Subject(e, body if isinstance(body, dict) else {}, completion_of(e))


def row(e: Exchange) -> dict[str, float]:
    return dict(zip(NAMES, FeatureExtractor().matrix([subject(e)])[0].tolist(), strict=True))


def test_names_are_unique_and_their_order_counts() -> None:
    assert len(set(NAMES)) == len(NAMES)
    assert feature_set(["a", "b"]) != feature_set(["b", "a"])
    assert FeatureExtractor.set == feature_set(NAMES)


@settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
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


ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=400) | st.sampled_from(
    [
        "",
        "\0\0\0",
        "\ud800",
        "a\udfff" * 90,
        "{",
        '["\ud800"]',
        "the and " * 300,
        "漢字" * 200,
        "\N{ZERO WIDTH JOINER}" * 193,
    ]
)


@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    texts=st.lists(st.tuples(ANY_TEXT, ANY_TEXT), min_size=1, max_size=30),
    total_s=st.floats(0, 1e6),
    first_token_s=st.none() | st.floats(-1, 1e6),
)
def test_a_row_is_the_same_alone_and_in_any_batch(
    exchange: Make, texts: list[tuple[str, str]], total_s: float, first_token_s: float | None
) -> None:
    """Bit for bit: a model is trained on rows that were stored in other batches."""
    batch = [
        Subject(
            exchange("", total_s=total_s / (at + 1), first_token_s=first_token_s), {"input": prompt}, Completion(answer)
        )
        for at, (prompt, answer) in enumerate(texts)
    ]
    extractor = FeatureExtractor()
    whole = extractor.matrix(batch)
    alone = [FeatureExtractor().matrix([each]).tobytes() for each in batch]
    assert [row.tobytes() for row in whole] == alone
    assert extractor.matrix(batch[::-1])[::-1].tobytes() == whole.tobytes()


def test_many_texts_are_counted_a_few_at_a_time(exchange: Make) -> None:
    sent = [exchange("word " * n + "é漢字" * (n % 3)) for n in (0, 1, 2, 500, 30, 7) * 60]
    whole = FeatureExtractor().matrix([subject(e) for e in sent])
    for e, found in zip(sent[:6], whole[-6:], strict=True):
        assert FeatureExtractor().matrix([subject(e)]).tobytes() == found.tobytes()


def test_more_combinations_of_categories_than_are_remembered(exchange: Make) -> None:
    extractor, made = FeatureExtractor(known=3), [exchange(alias=f"a{i % 7}") for i in range(30)]
    found = extractor.matrix([subject(e) for e in made])
    assert found.tobytes() == FeatureExtractor().matrix([subject(e) for e in made]).tobytes()


def test_a_feature_that_changes_its_meaning_changes_its_name(exchange: Make) -> None:
    """Models and rows of the old meaning would be used otherwise. If this fails, rename the changed feature, then
    update.
    """
    body = {
        "messages": [{"role": "system", "content": "x"}, {"role": "user", "content": "Grüße? 你好, мир"}],
        "max_tokens": 9,
    }
    e = exchange("Perhaps **not**; sorry, 1 + 1 = 3.\nThe end of it", request=orjson.dumps(body), first_token_s=0.25)
    text = " ".join(f"{value:.3g}" for value in FeatureExtractor().matrix([subject(e)])[0].tolist())
    assert (FeatureExtractor.set, sha256(text.encode()).hexdigest()[:12]) == ("a8c3be329e9e", "f9930e15401e")


def test_shares_of_a_text_add_up_to_one(exchange: Make) -> None:
    found = row(exchange("Hello, wörld! 漢字 Привет"))
    assert sum(v for name, v in found.items() if name.startswith("request_gram_")) == pytest.approx(1.0)
    classes = {
        k: v for k, v in found.items() if k.startswith("answer_") and k not in ("answer_log", "answer_to_prompt_log")
    }
    classes = {k: v for k, v in classes.items() if "gram" not in k}
    assert sum(classes.values()) == pytest.approx(1.0)
    for script in ("latin", "greek_cyrillic", "cjk"):
        assert classes[f"answer_{script}"] > 0
    empty = row(exchange("", request=b"{}"))
    assert all(v == 0 for k, v in empty.items() if k.startswith("request_gram_") or k in classes)


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


def test_facts_of_the_call_are_features(exchange: Make) -> None:
    body = {"messages": [{"role": "system", "content": "x"}, {"role": "user", "content": "why? how?"}],
            "tools": [{}, {}], "temperature": 0.5, "response_format": {"type": "json_object"}}  # fmt: skip
    found = row(exchange("1", request=orjson.dumps(body), first_token_s=0.003, status=502, outcome="timeout"))
    expected = {"messages": 2, "system": 1, "tools": 2, "temperature": 0.5, "wants_json": 1, "question_marks": 2,
                "first_token_log": math.log(4), "status": 5.02, "outcome": 3, "finish_reason": 0}  # fmt: skip
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert math.isnan(found["max_tokens_log"])
    assert math.isnan(found["mean_logprob"])


def test_categories_are_distinguished_by_one_of_two_numbers(exchange: Make) -> None:
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
