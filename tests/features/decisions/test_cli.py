"""`gateway decisions` as a user runs it."""

from __future__ import annotations

from fixtures.json_outputs import conforms
from typer.testing import CliRunner

from gateway.cli import app


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
