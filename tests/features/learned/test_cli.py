"""`gateway learn`, as it is typed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fixtures.json_outputs import conforms
from typer.testing import CliRunner, Result

from gateway.cli import app
from gateway.config.loading import parse
from gateway.features.learned.rows import save_state
from gateway.features.learned.trees.features import FeatureExtractor
from gateway.scoring.registry import build
from gateway.statistics.change_detection import ChangeDetector
from gateway.store import engine
from gateway.store.location import default_url

CONFIG = """
open: true
upstreams: {a: {kind: fake}}
models: {chat: {targets: [{upstream: a, model: m}]}}
scorers: {refusal: {}}
"""
Learn = Callable[..., Result]


@pytest.fixture
def learn(tmp_path: Path) -> Learn:
    """Runs `gateway learn` with these words and this predictor."""

    def run(*words: str, predictor: str = "predictor: {target: refusal, min_rows: 50}") -> Result:
        (tmp_path / "gateway.yaml").write_text(CONFIG + predictor)
        place = ("--config", str(tmp_path / "gateway.yaml"), "--data", str(tmp_path / "data"))
        return CliRunner().invoke(app, ["learn", *words, *place])

    return run


def fill(tmp_path: Path, n: int) -> None:
    """Rows as a consumer writes them; these commands read a few of the columns."""
    import numpy as np

    refusal = build(parse(CONFIG).scorers)["refusal"]
    opened = engine.writer(default_url(tmp_path / "data"))
    with opened.begin() as connection:
        for i in range(n):
            x = np.random.default_rng(i).normal(size=len(FeatureExtractor.names)).astype("<f4")
            x[0] = i % 2
            values: dict[str, Any] = {
                "exchange_id": f"e{i:03}", "scorer": "refusal", "version": "", "pi": 0.5, "judged": True,
                "received": float(i), "alias": "chat", "model": "a/m", "stratum": "default",
                "feature_set": FeatureExtractor.set, "features": x.tobytes(),
            }  # fmt: skip
            score = {
                "score_id": f"s{i}", "exchange_id": f"e{i:03}", "subject": "exchange", "scorer": "refusal",
                "version": refusal.scorer.version, "config_hash": refusal.config_hash, "repeat": 0, "kind": "code",
                "direction": "minimise", "data_type": "numeric", "status": "scored", "value01": float(i % 2), "pi": 0.5,
                "stratum": "default", "seconds": 0.0, "answered": 0.0, "created": 0.0,
            }  # fmt: skip
            for table, row in (("predictions", values), ("scores", score)):
                names = ", ".join(row)
                places = ", ".join("?" * len(row))
                connection.exec_driver_sql(f"INSERT INTO {table} ({names}) VALUES ({places})", tuple(row.values()))  # noqa: S608
    opened.dispose()


def test_a_model_is_trained_shown_and_explained(learn: Learn, tmp_path: Path) -> None:
    fill(tmp_path, 30)
    few = learn("train")
    assert few.exit_code == 1
    assert "30 exchanges have a value of refusal; a training needs 50 (min_rows)" in few.stderr
    assert "no model yet" in learn("status").stdout

    (tmp_path / "data" / "gateway.db").unlink()
    fill(tmp_path, 80)
    trained = conforms("learn train", learn("train", "--json").stdout)
    assert trained["rows"] == 80
    status = conforms("learn status", learn("status", "--json").stdout)
    assert status["model"]["version"] == trained["version"]
    assert "trained on 80 exchanges" in learn("status").stdout
    importances = conforms("learn explain", learn("explain", "--json").stdout)
    assert importances["features"][0]["feature"] == FeatureExtractor.names[0]
    assert FeatureExtractor.names[0] in learn("explain").stdout
    one = conforms("learn explain", learn("explain", "--id", "e001", "--json").stdout)
    assert (one["pi"], one["judged"], one["features"][0]["feature"]) == (0.5, True, FeatureExtractor.names[0])
    assert "probability of being judged 0.500: drawn" in learn("explain", "--id", "e001").stdout


def test_a_new_usual_range_is_accepted_by_name_or_for_all(learn: Learn, tmp_path: Path) -> None:
    detector = ChangeDetector([0.4], [0.6], 1e-4)
    detector.add([[0.0]] * 60)
    state = {"at": 1.0, "feature_set": "f", "version": "1", "quality": detector.state(), "input": None, "edges": []}
    opened = engine.writer(default_url(tmp_path / "data"))
    with opened.begin() as connection:
        for alias in ("chat", "fast"):
            save_state(connection, "refusal", alias, json.dumps(state), 1.0)
    opened.dispose()
    assert learn("accept").exit_code == learn("accept", "chat", "--all").exit_code == 2
    assert learn("accept", "chat", "--kind", "qualty").exit_code == 2
    assert learn("accept", "chat", "--kind", "input").exit_code == 1
    accepted = learn("accept", "chat")
    assert accepted.exit_code == 0
    assert "chat: the usual range of quality is forgotten; its alarm was on (10.4 of 9.2)" in accepted.stdout
    (left,) = conforms("learn accept", learn("accept", "--all", "--json").stdout)
    assert (left["alias"], left["kind"], left["alarm"]) == ("fast", "quality", True)
    nothing = learn("accept", "--all")
    assert (nothing.exit_code, nothing.stderr) == (1, "no alarm of these model names had a usual range\n")


def test_a_config_without_a_predictor_is_refused(learn: Learn) -> None:
    refused = learn("status", predictor="")
    assert refused.exit_code != 0
    assert "has no section predictor" in str(refused.exception or refused.output)
