"""What `gateway label` does, run as a user runs it."""

from __future__ import annotations

import csv
import io
import json

import pytest
from typer.testing import CliRunner

from gateway.cli import app
from gateway.evals.annotation.desk import LabelRequest
from gateway.evals.annotation.record import desk_at, given, taken, to_fill
from gateway.evals.annotation.sheets import SheetError

HOSTILE = "1 \x1b]0;owned\x07\x1b[2J<script>alert(1)</script>=cmd"


@pytest.fixture
def label(tmp_path, keep, exchange, monkeypatch):
    """Runs `gateway label …` on a store of ten judged answers."""
    keep([exchange(HOSTILE if i == 0 else f"{i % 2} answer {i}") for i in range(10)])
    data = tmp_path / "kept"
    (tmp_path / "gateway.yaml").write_text("scorers: {said: {use: length, criterion: It is a number.}}")
    monkeypatch.chdir(tmp_path)
    url = f"sqlite:///{data / 'gateway.db'}"

    def run(*arguments, input=None):
        return CliRunner().invoke(app, ["label", *arguments, "--data", str(data)], input=input)

    run.url = url
    return run


def test_verdicts_are_taken_one_by_one_until_the_labeller_stops(label):
    said = label("next", "--scorer", "said", "--as", "ada", input="g\nwhat?\nb it is short\ns\nq\n")
    assert said.exit_code == 0
    assert "10 judged, 10 of them open to ada" in said.stderr
    assert "'what?' is no verdict" in said.stderr
    assert "stopped after 3" in said.stderr
    assert "a number?" in said.stdout
    assert "criterion: It is a number." in said.stdout
    rows = list(csv.DictReader(io.StringIO(label("export").stdout)))
    assert {(r["value"], r["comment"], r["labeller"]) for r in rows} == {
        ("1.0", "", "ada"), ("0.0", "it is short", "ada"), ("", "", "ada"),
    }  # fmt: skip
    assert "7 of them open to ada" in label("next", "--scorer", "said", "--as", "ada", input="").stderr


def test_no_escape_of_an_answer_reaches_the_terminal_or_a_sheet(label):
    every = label("next", "--scorer", "said", "--as", "ada", input="g\n" * 10)
    sheet = label("export", "--scorer", "said", "--next", "10", "--as", "bob")
    assert "<script>alert(1)</script>" in every.stdout, "text is text"
    for said in (every.stdout, every.stderr, sheet.stdout):
        assert [c for c in ("\x1b", "\x07") if c in said] == []


def test_a_sheet_goes_out_is_filled_and_comes_back(label, tmp_path):
    assert "wrote" in label("export", "fill.csv", "--scorer", "said", "--next", "4").stderr
    rows = list(csv.DictReader(io.StringIO((tmp_path / "fill.csv").read_text())))
    with (tmp_path / "filled.csv").open("w") as file:
        out = csv.DictWriter(file, rows[0])
        out.writeheader()
        out.writerows({**row, "verdict": "good"} for row in rows)
    assert "4 labels taken" in label("import", "filled.csv", "--scorer", "said", "--as", "ada").stderr
    assert "6 of them open" in label("next", "--scorer", "said", "--as", "ada", input="q\n").stderr
    assert label("export", "out.jsonl", "--scorer", "said").exit_code == 0
    out = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert {(o["value"], o["labeller"], o["threshold"] > 0, o["judged"] in (0.0, 1.0)) for o in out} == {
        (1.0, "ada", True, True)
    }


def test_a_sheet_with_a_mistake_is_not_taken_at_all(label, tmp_path):
    text = to_fill(label.url, LabelRequest("said", "ada"), 2, "jsonl")
    rows = [json.loads(line) for line in text.splitlines()]
    path = tmp_path / "bad.jsonl"
    path.write_text("\n".join(json.dumps({**r, "verdict": v}) for r, v in zip(rows, ("g", "great"), strict=True)))
    with pytest.raises(SheetError, match=r"bad\.jsonl, line 2: 'great' is no verdict"):
        taken(label.url, path, LabelRequest("said", "ada"), None)
    assert given(label.url, None, "jsonl") == ""
    said = label("import", str(path), "--scorer", "said")
    assert said.exit_code != 0


def test_wrong_questions_are_told(label, tmp_path):
    (tmp_path / "f.csv").write_text("id,verdict\n")
    assert "above 0" in label("import", "f.csv", "--scorer", "said", "--share", "2").stderr
    assert "--scorer" in label("export", "--next", "3").stderr
    assert desk_at(label.url, LabelRequest("said", "ada")).knows("nobody") is False
