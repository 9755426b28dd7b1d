"""Training from the store, and the process that trains."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from fixtures.program_command import module_command

from gateway.config.loading import parse
from gateway.core.exchange import Exchange, Feedback
from gateway.features.labels.rows import Label, save_labels
from gateway.features.learned.model import read_model
from gateway.features.learned.trainer import TrainingJob, matrix_of, train_from_store, training_job
from gateway.features.learned.trees.features import FeatureExtractor
from gateway.store.predictions import Prediction, TargetOf, mean_cost, newest_model, newest_predictions, target_values

Make = Callable[..., Exchange]
WIDTH = len(FeatureExtractor.names)


def prediction(i: int, **fields: Any) -> Prediction:
    x = np.random.default_rng(i).normal(size=WIDTH).astype("<f4")
    x[0] = i % 2
    plain: dict[str, Any] = {"scorer": "stated", "version": "", "predicted": None, "residual": None, "pi": 0.5,
                             "judged": True, "feature_set": FeatureExtractor.set, "features": x.tobytes()}  # fmt: skip
    return Prediction(**{**plain, **fields})


def job(store: Any, **fields: Any) -> TrainingJob:
    plain: dict[str, Any] = {"target": "stated", "key": "stated", "pi_min": 0.05, "share": 0.4, "min_rows": 60,
                             "max_rows": 100, "version": "1", "config_hash": "c1", "budget_usd": None,
                             "budget_tokens": None, "adaptive": True}  # fmt: skip
    return TrainingJob(store=store.url, **{**plain, **fields})


def fill(store: Any, exchange: Make, n: int) -> list[Exchange]:
    """The verdict h is the parity of the exchange's number, and so is its first feature. They arrive a minute apart."""
    sent = [exchange(str(i % 2), received=1e6 + 60.0 * i) for i in range(n)]
    store.predictions.update({e.id: prediction(i) for i, e in enumerate(sent)})
    store.write(*sent)
    return sent


def test_a_model_of_the_newest_values_is_stored_with_its_card(store: Any, exchange: Make) -> None:
    sent = fill(store, exchange, 130)
    steps: list[int] = []
    outcome = train_from_store(job(store), lambda: steps.append(1))
    assert outcome.rows == 100
    stored = store.run(lambda c: newest_model(c, "stated"))
    assert (stored.version, stored.rows, stored.features) == (outcome.version, 100, FeatureExtractor.names)
    assert (stored.trained_from, stored.trained_to) == (sent[30].received, sent[-1].received)
    assert stored.card["mae"] < 0.5 * stored.card["mae_of_mean"]
    assert (stored.card["share"], stored.card["asked_share"]) == (0.4, 0.4)
    g, _ = read_model(stored).predict(matrix_of([prediction(i).features for i in (2, 3)], FeatureExtractor.names))
    assert g[1] - g[0] > 0.5
    assert steps


def test_a_budget_lowers_the_share(store: Any, exchange: Make) -> None:
    """An exchange a minute makes 1 440 a day; a call costs 1 USD, so 144 USD pay for a tenth."""
    fill(store, exchange, 100)
    store.sql("UPDATE scores SET cost_usd = 1.0, tokens = 50 RETURNING 1")
    assert store.run(lambda c: mean_cost(c, "stated")) == (1.0, 50.0)
    train_from_store(job(store, budget_usd=144.0))
    card = store.run(lambda c: newest_model(c, "stated")).card
    assert card["share"] == pytest.approx(0.1, rel=0.02)
    assert card["asked_share"] == 0.4


def test_fewer_values_than_needed_give_no_model(store: Any, exchange: Make) -> None:
    fill(store, exchange, 59)
    assert train_from_store(job(store)).rows == 59
    assert store.run(lambda c: newest_model(c, "stated")) is None


def test_only_values_of_this_judge_and_these_features_count(store: Any, exchange: Make) -> None:
    sent = fill(store, exchange, 6)
    of = job(store).of_target
    store.sql(f"UPDATE scores SET version = '0' WHERE exchange_id = '{sent[0].id}' RETURNING 1")  # noqa: S608
    store.sql(f"UPDATE predictions SET feature_set = '' WHERE exchange_id = '{sent[1].id}' RETURNING 1")  # noqa: S608
    found = store.run(lambda c: target_values(c, of, 10))
    assert [v.received for v in found] == [e.received for e in sent[2:]]
    assert [v.value for v in found] == [0.0, 1.0, 0.0, 1.0]
    assert {v.pi for v in found} == {0.5}
    assert [v.received for v in store.run(lambda c: target_values(c, of, 2))] == [e.received for e in sent[4:]]
    window = store.run(lambda c: newest_predictions(c, of, 3))
    assert window.features[0] == prediction(5).features
    assert window.a_day == pytest.approx(3 * 86_400 / 120)


def test_several_feedback_values_count_as_their_mean(store: Any, exchange: Make) -> None:
    one, other = fill(store, exchange, 2)
    labels = [
        Label("stated", "exchange", one.id, who, value, None, None, "1", "c1", "", 1.0, None, None, 0.0, 1.0)
        for who, value in (("ada", 1.0), ("bob", 0.5), ("zoe", None))
    ]
    store.run(lambda c: save_labels(c, labels))
    found = store.run(lambda c: target_values(c, TargetOf("stated", "labels", "", "", FeatureExtractor.set), 10))
    assert [(v.value, v.pi) for v in found] == [(0.75, 1.0)]
    store.sql("UPDATE predictions SET scorer = 'feedback:thumb' RETURNING 1")
    store.write(Feedback(other.id, "f", "web", 1.0, "thumb", 1.0))
    of = job(store, target="feedback:thumb", key="feedback:thumb").of_target
    assert of.kind == "feedback"
    found = store.run(lambda c: target_values(c, of, 10))
    assert [(v.value, v.pi) for v in found] == [(1.0, 1.0)]


def test_a_job_is_made_of_the_config(stated_scorer: Any) -> None:
    text = ("open: true\nupstreams: {a: {kind: fake}}\nmodels: {c: {targets: [{upstream: a, model: m}]}}\n"
            "scorers: {stated: {use: length, share: 0.3, budget_usd: 5}}\n")  # fmt: skip
    made = training_job(parse(text + "predictor: {target: stated}"), "sqlite:///x", {"stated": stated_scorer()})
    assert (made.key, made.share, made.budget_usd, made.version, made.config_hash) == ("stated", 0.3, 5.0, "1", "c1")
    assert made.of_target.kind == "scores"
    people = training_job(parse(text + "predictor: {target: 'feedback:thumb'}"), "sqlite:///x", {})
    assert (people.key, people.share, people.version) == ("feedback:thumb", 1.0, "")
    with pytest.raises(ValueError, match="no section predictor"):
        training_job(parse(text), "sqlite:///x", {})


def run(job: TrainingJob) -> subprocess.CompletedProcess[bytes]:
    argv = module_command("gateway.features.learned.trainer")
    return subprocess.run(argv, input=job.to_json(), capture_output=True, check=False, env={})


def small_job(store: str) -> TrainingJob:
    return TrainingJob(store, "judge", "judge", 0.05, 0.4, 60, 1000, "1", "c", None, None)


def test_the_outcome_comes_back_as_json(tmp_path: Path) -> None:
    done = run(small_job(f"sqlite:///{tmp_path / 'gateway.db'}"))
    assert done.returncode == 0, done.stderr
    assert orjson.loads(done.stdout) == {"rows": 0, "version": "", "seconds": 0.0}
