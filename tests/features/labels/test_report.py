"""`gateway judge calibrate`, as a user runs it."""

from __future__ import annotations

import pytest
from fixtures.json_outputs import conforms
from typer.testing import CliRunner

from gateway.cli import app
from gateway.features.labels.blind import LabelVerdict
from gateway.features.labels.desk import Desk, LabelRequest, save_labels
from gateway.store.query import reading


@pytest.fixture
def calibrate(tmp_path, keep, exchange, monkeypatch):
    """60 answers, judged 1, 1, 0 in turn; runs the verb on them once `label` has labelled some of them."""
    url = keep([exchange(f"{int(i % 3 > 0)} number {i}", arm=("candidate" if i % 2 else None)) for i in range(60)])
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        return CliRunner().invoke(app, ["judge", "calibrate", "stated", *arguments, "--data", str(tmp_path / "kept")])

    def label(count, agree=lambda n: True, labeller="ada"):
        given = []
        with reading(url) as connection:
            desk = Desk(connection, LabelRequest("stated", labeller, again=labeller != "ada"))
            for n in range(count):
                drawn = desk.next(connection)
                judged = float(drawn.blind.answers[0].split()[0])
                given.append(desk.label(drawn, LabelVerdict(judged if agree(n) else 1 - judged)))
        save_labels(url, given)

    run.label = label
    return run


def test_the_terminal_shows_agreement_and_corrected_means(calibrate):
    calibrate.label(40, agree=lambda n: n % 8 > 0)
    result = calibrate("--half-width", "0.01")
    assert result.exit_code == 0
    text = result.stdout
    for words in ("40 labels by ada", "Cohen's kappa with people", "effective n", "TPR", "TNR", "corrected (PPI++)",
                  "Rogan–Gladen", "all", "candidate", "95 % interval"):  # fmt: skip
        assert words in text, words
    assert "0.667" in text, "the mean as judged"


def test_the_json_has_every_number_of_the_terminal(calibrate):
    calibrate.label(40, agree=lambda n: n % 8 > 0)
    calibrate.label(15, labeller="bob")
    found = conforms("judge calibrate", calibrate("--json").stdout)
    assert (found["labels"], found["labellers"], found["subject"]) == (40, ["ada", "bob"], "exchange")
    table = found["agreement"]["table"]
    assert sum(table.values()) == 40
    assert {g["name"] for g in found["groups"]} == {"all", "candidate"}
    whole = next(g for g in found["groups"] if g["name"] == "all")
    assert whole["judged"]["mean"] == pytest.approx(2 / 3)
    corrected = whole["corrected"]
    assert corrected["low"] < corrected["mean"] < corrected["high"]
    assert whole["rogan_gladen"]["low"] <= whole["rogan_gladen"]["rate"] <= whole["rogan_gladen"]["high"]
    assert -1 <= found["krippendorff_alpha"] <= 1
    assert found["flip_rate"] is None


def test_too_few_labels_name_the_command_for_more(calibrate):
    calibrate.label(3)
    text = calibrate().stdout
    assert "3 of at least 10 labels" in text
    assert "gateway label next --scorer stated" in text


def test_a_scorer_that_agrees_by_chance_has_a_warning(calibrate):
    calibrate.label(40, agree=lambda n: n % 2 == 0)
    assert "agrees little with people" in calibrate().stdout


def test_a_scorer_without_scores_is_named_with_those_that_have(tmp_path, calibrate):
    result = CliRunner().invoke(app, ["judge", "calibrate", "statd", "--data", str(tmp_path / "kept")])
    assert result.exit_code != 0
    assert "these scorers have: stated" in str(result.exception)


def test_one_labeller_is_warned_about_the_effect_of_errors(calibrate):
    calibrate.label(55, agree=lambda n: n % 8 > 0)
    text = " ".join(calibrate().stdout.split())
    found = conforms("judge calibrate", calibrate("--json").stdout)
    mean = found["groups"][0]["corrected"]["mean"]
    assert found["if_people_err"] == pytest.approx((mean - 0.05) / 0.9)
    assert "ada gave every label, so it is unknown how often people are wrong" in text
    assert f"the corrected mean is {found['if_people_err']:.3f}" in text
    calibrate.label(5, labeller="bob")
    assert "gave every label" not in calibrate().stdout
    assert conforms("judge calibrate", calibrate("--json").stdout)["if_people_err"] is None
