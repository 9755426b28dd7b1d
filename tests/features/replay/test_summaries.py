"""A CSV of the shape that Lumigator takes, and the columns that it publishes for it."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from gateway.features.replay.datasets.datasets import scan
from gateway.features.replay.options import ReplayOptions
from gateway.features.replay.replay import replay

# Lumigator computes them by Hugging Face's `evaluate`: rouge_score without stemming, and nltk's METEOR. Its synonyms
# would need WordNet's data; without them nltk's is this one.
ORACLE = """
import json, re, sys
sys.modules["sklearn"] = None  # which nltk would import, if it is there
from nltk.stem.porter import PorterStemmer
from nltk.translate.meteor_score import single_meteor_score
from rouge_score.rouge_scorer import RougeScorer
scorer = RougeScorer(["rouge1", "rouge2", "rougeL", "rougeLsum"], use_stemmer=False)
stemmer = PorterStemmer(mode=PorterStemmer.ORIGINAL_ALGORITHM)
class NoWordNet:
    def synsets(self, word): return []
for rows in json.load(sys.stdin):
    columns = {"meteor": []}
    for reference, answer in rows:
        for name, value in scorer.score(reference, answer).items():
            columns.setdefault(name, []).append(value.fmeasure)
        words = [re.findall(r"\\w+", text.lower()) for text in (reference, answer)]
        columns["meteor"].append(single_meteor_score(*words, stemmer=stemmer, wordnet=NoWordNet()))
    print(json.dumps({name: sum(values) / len(values) for name, values in columns.items()}))
"""
COLUMNS = {"rouge_1": "rouge1", "rouge_2": "rouge2", "rouge_l": "rougeL", "rouge_lsum": "rougeLsum", "meteor": "meteor"}
WHO, WHAT = ("Ada", "Ben", "Cleo"), ("the report", "two tickets", "some cakes", "a new lock")
WHEN = ("on Monday", "before lunch", "after the meeting")


def dialogue(i: int) -> str:
    who, what, when = WHO[i % 3], WHAT[i % 4], WHEN[i % 3]
    return f'#Person1#: {who}, did you get {what} for room {i}?\n#Person2#: No, "later", {when}.\n#Person1#: Call.'


def summary(i: int) -> str:
    return f"{WHO[i % 3]} has not got {WHAT[i % 4]} yet.\nIt will be done {WHEN[i % 3]}, and a call follows."


def answer(i: int) -> str:
    return f"{WHO[i % 3]} will be getting {WHAT[(i + i // 5) % 4]} {WHEN[i % 3]}.\nThey call later."


def published(tables: list[list[list[str]]]) -> list[dict[str, float]]:
    """The columns of each table. Computes in a process of its own: the imports take 80 MB."""
    run = subprocess.run(
        [sys.executable, "-c", ORACLE], input=json.dumps(tables), capture_output=True, text=True, check=True
    )
    return [json.loads(line) for line in run.stdout.splitlines()]


@pytest.fixture
def dialogues(tmp_path: Path) -> Path:
    """Columns examples,ground_truth with dialogues of several lines, and two rows whose summary is missing or left
    out.
    """
    path = tmp_path / "dialogsum_mini.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["examples", "ground_truth"])
        rows.writerows([dialogue(i), summary(i)] for i in range(36))
        rows.writerow([dialogue(36), ""])
        rows.writerow([dialogue(37)])
    return path


async def test_the_columns_of_lumigator_are_the_same_numbers(dialogues, named, served) -> None:
    if find_spec("rouge_score") is None or find_spec("nltk") is None:
        pytest.skip("rouge_score is not installed")
    asked = {dialogue(i): i for i in range(38)}
    served.replies(lambda r: answer(asked[r.json["messages"][-1]["content"]] + (r.json["model"] == "two")))
    dataset = scan(dialogues)
    assert (dataset.rows, dataset.references) == (38, 36)
    assert dataset.notes[0].startswith("1 rows have fewer cells than columns")
    found = await replay(dataset, ReplayOptions(("one", "two"), tuple(COLUMNS)), named, print, lambda _: None)
    tables = [[[summary(i), answer(i + shift)] for i in range(36)] for shift in range(2)]
    for target, columns in zip(found.targets, published(tables), strict=True):
        for name, column in COLUMNS.items():
            assert target.means[name].value == pytest.approx(columns[column]), name
