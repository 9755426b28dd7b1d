"""`gateway decisions` as a user runs it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures.json_outputs import conforms
from typer.testing import CliRunner

from gateway.cli import app
from gateway.core.errors import CannotRun
from gateway.features.labels.blind import LabelVerdict
from gateway.features.labels.desk import Desk, LabelRequest, save_labels
from gateway.store.query import reading


def test_a_plan_is_priced_before_anybody_labels() -> None:
    done = CliRunner().invoke(app, ["decisions", "plan", "--wrong", "0.05", "--confidence", "0.9"])
    assert done.exit_code == 0, done.output
    assert "at most 5.0% wrong from the threshold on, with 90% confidence" in done.stdout
    assert "first 100 labels over all traffic" in done.stdout


def test_a_plan_for_programs_has_prices_that_rise_with_the_error() -> None:
    found = conforms("decisions plan", CliRunner().invoke(app, ["decisions", "plan", "--json"]).stdout)
    prices = [price["any_look"] for price in found["prices"]]
    assert prices == sorted(prices)
    assert (found["wrong"], found["confidence"], found["first_labels"]) == (0.05, 0.9, 100)


@pytest.fixture
def run(keep: Callable[..., str], exchange: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """Runs the verb on a store with 150 answers, of which people labelled 120."""
    random = np.random.default_rng(51)
    p = random.random(150).round(4)
    good = random.random(150) < p
    url = keep([exchange(f"{x} {int(y)}", id=str(at)) for at, (x, y) in enumerate(zip(p, good, strict=True))])
    given = []
    with reading(url) as connection:
        desk = Desk(connection, LabelRequest("stated", "ada"))
        for _ in range(120):
            drawn = desk.next(connection)
            assert drawn is not None
            given.append(desk.label(drawn, LabelVerdict(float(drawn.blind.answers[0].split()[1]))))
    save_labels(url, given)
    path = tmp_path / "gateway.yaml"
    path.write_text(
        f"open: true\nupstreams: {{local: {{kind: vllm, base_url: 'http://127.0.0.1:1/v1'}}}}\n"
        f"models: {{chat: {{targets: [{{upstream: local, model: small}}]}}}}\nstore: {{url: '{url}'}}\n"
        "scorers: {stated: {use: valid_json}}\ndecisions: {certificates: {auto: {scorer: stated, wrong: 0.1}}}\n"
    )
    return lambda *words: CliRunner().invoke(app, ["decisions", *words, "--config", str(path)])


def test_a_certificate_that_is_not_shown_exits_with_1(run: Callable[..., Any]) -> None:
    done = run("certify", "auto")
    assert done.exit_code == 1, done.output
    assert "auto: at most 10.0% wrong from the threshold on, with 90% confidence" in done.stdout
    assert "more labels in the zone" in done.stdout
    assert "unknown: no answer has the labels of two people" in done.stdout
    assert "gateway label next --scorer stated --favour 0.01" in done.stderr
    found = conforms("decisions certify", run("certify", "auto", "--json").stdout)
    assert (found["state"], found["labels"], found["people"]) == ("open", 120, None)
    assert found["zones"]


def test_certificates_are_listed_with_their_labels(run: Callable[..., Any]) -> None:
    done = run("certificates")
    assert done.exit_code == 0, done.output
    assert "auto" in done.stdout
    [found] = conforms("decisions certificates", run("certificates", "--json").stdout)
    assert (found["name"], found["state"], found["threshold"]) == ("auto", "open", None)


def test_a_plan_of_a_certificate_says_where_its_labels_stand(run: Callable[..., Any]) -> None:
    done = run("plan", "auto")
    assert done.exit_code == 0, done.output
    assert "at most 10.0% wrong" in done.stdout
    assert "120 labels" in done.stdout


def test_a_name_that_the_config_lacks_is_refused(run: Callable[..., Any]) -> None:
    done = run("certify", "autos")
    assert isinstance(done.exception, CannotRun)
    assert 'did you mean "auto"' in str(done.exception)


def test_calibrate_asks_whether_a_score_is_a_probability(run: Callable[..., Any], tmp_path: Path) -> None:
    words = ["judge", "calibrate", "stated", "--config", str(tmp_path / "gateway.yaml")]
    done = CliRunner().invoke(app, [*words, "--probability"])
    assert "probability: says 0." in done.stdout
    assert "any look); 120 labels" in done.stdout
    found = conforms("judge calibrate", CliRunner().invoke(app, [*words, "--probability", "--json"]).stdout)
    assert found["probability"]["n"] == 120
    assert "probability" not in conforms("judge calibrate", CliRunner().invoke(app, [*words, "--json"]).stdout)
