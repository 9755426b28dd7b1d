"""Items are paired by id; reports name what is left out or averaged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from gateway.core.errors import CannotRun
from gateway.features.compare.pairing import pair
from gateway.features.compare.score_files import ScoreFile
from gateway.features.compare.scores import ModelScores, ScoreOptions
from gateway.verdict.items.scores import Columns, PairedScores

Runs = Mapping[str, Sequence[float]]


def model(path: str, runs: Runs, clusters: Mapping[str, str] | None = None, name: str = "") -> ModelScores:
    file = ScoreFile(Path(path), "CSV", lambda: iter(()), model=name)
    return ModelScores(file, {item: list(values) for item, values in runs.items()}, dict(clusters or {}))


def paired(*models: ModelScores, cluster: str | None = None, guessed: tuple[str, ...] = ()) -> PairedScores:
    return pair(models, Columns("id", "score", cluster, guessed), ScoreOptions())


def test_items_of_every_file_are_compared_in_the_order_of_the_first() -> None:
    found = paired(model("a.csv", {"x": [1], "y": [0], "z": [1]}), model("b.csv", {"z": [0], "x": [0.5], "w": [1]}))
    assert found.items == ("x", "z")
    assert [means.tolist() for means in found.means] == [[1, 1], [0.5, 0]]
    assert "a.csv: 1 item of 3 not in every file, left out (first: y)." in found.notes
    assert "b.csv: 1 item of 3 not in every file, left out (first: w)." in found.notes
    assert found.cautions[0].startswith("Only 67% of the items of a.csv are in every file")


def test_ids_that_do_not_match_are_shown() -> None:
    with pytest.raises(CannotRun) as caught:
        paired(model("a.csv", {"a1": [1], "a2": [1]}), model("b.csv", {"b1": [1]}), guessed=("id",))
    assert str(caught.value) == (
        "no id is in all files (the column was guessed): a.csv has a1, a2, …; b.csv has b1, …. Name the column of the "
        "ids with --id"
    )


def test_repeats_in_one_file_are_averaged_and_said() -> None:
    found = paired(model("a.csv", {"x": [1, 0], "y": [1]}), model("b.csv", {"x": [1], "y": [0]}))
    assert [means.tolist() for means in found.means] == [[0.5, 1], [1, 0]]
    assert found.repeated
    [note] = [note for note in found.notes if "several rows" in note]
    assert note == (
        "a.csv: 1 item with several rows (first: x): they count as runs of one item, and their mean is compared. "
        "The other file has one run."
    )


def test_a_cluster_may_be_in_one_file_and_must_not_differ() -> None:
    runs = {"x": [1], "y": [0]}
    found = paired(model("a.csv", runs, {"x": "d1", "y": "d2"}), model("b.csv", runs), cluster="doc")
    assert found.clusters == ("d1", "d2")
    with pytest.raises(CannotRun, match=r"item x is in cluster d1 in a.csv and d9 in b.csv"):
        paired(
            model("a.csv", runs, {"x": "d1", "y": "d2"}), model("b.csv", runs, {"x": "d9", "y": "d2"}), cluster="doc"
        )
    with pytest.raises(CannotRun, match=r"item y has no doc in any file"):
        paired(model("a.csv", runs, {"x": "d1"}), model("b.csv", runs), cluster="doc")


@pytest.mark.parametrize(
    ("models", "names"),
    [
        ((("r/a.csv", ""), ("r/b.csv", "")), ("a", "b")),
        ((("r/1.eval", "m/old"), ("r/2.eval", "m/new")), ("m/old", "m/new")),
        ((("r/1.eval", "m"), ("r/2.eval", "m")), ("1", "2")),
        ((("old/s.csv", ""), ("new/s.csv", "")), ("s (old)", "s (new)")),
        ((("x/old/s.csv", ""), ("y/old/s.csv", "")), ("s (x)", "s (y)")),
        (
            (("x/old/s.csv", ""), ("y/old/s.csv", ""), ("x/new/s.csv", "")),
            ("x/old/s.csv", "y/old/s.csv", "x/new/s.csv"),
        ),
        ((("hot/out/m/1.json", "m"), ("cold/out/m/1.json", "m")), ("m (hot)", "m (cold)")),
        ((("hot/1.eval", "m"), ("cold/2.eval", "m")), ("m (hot)", "m (cold)")),
    ],
)
def test_a_model_has_a_short_name_of_its_own(models: Sequence[tuple[str, str]], names: tuple[str, ...]) -> None:
    assert paired(*(model(path, {"x": [1]}, name=name) for path, name in models)).names == names


def test_guesses_are_named() -> None:
    found = paired(model("a.csv", {"x": [1]}), model("b.csv", {"x": [1]}), guessed=("id", "score"))
    assert found.notes[0] == (
        "Columns taken: id as the id (--id names another), score as the score (--score names another)."
    )
