"""After a verdict, the page of an experiment offers the next step as a button."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs

import pytest
import yaml

from gateway.config.loading import parse
from gateway.core.exchange import Target
from gateway.core.plan import Guardrail, Plan, PlanState
from gateway.core.ramp import RampDesign
from gateway.features.experiments.next_button import NextButtons, next_buttons
from gateway.features.experiments.page import ListedExperiment, ListedVerdict

CONFIG = parse("""
open: true
upstreams: {local: {kind: fake}}
models: {chat: {targets: [{upstream: local, model: small}]}}
experiments:
  swap:
    {model: chat, control: {upstream: local, model: small}, candidate: {upstream: local, model: large}, shadow: 0.25}
""")
PLAN = Plan(
    "swap", "chat", Target("local", "small"), (("candidate", Target("local", "large")),), shadow=0.25,
    primary="valid_json", margin=0.05, guardrails=(Guardrail("error_rate", 0.01),),
)  # fmt: skip


class OfVerdict:
    """A report, as far as the buttons read it."""

    candidate = "candidate"

    def __init__(self, verdict: str) -> None:
        self.verdict = verdict


def buttons(verdict: str, plan: Plan = PLAN, **changed: Any) -> NextButtons:
    report: Any = OfVerdict(verdict)
    return next_buttons(report, replace(PlanState(plan, "running", 1.0), **changed), CONFIG)


def test_a_ship_leads_to_a_ramp_or_to_the_yaml() -> None:
    found = buttons("ship")
    assert yaml.safe_load(found.switch) == {"models": {"chat": {"targets": [{"upstream": "local", "model": "large"}]}}}
    assert "in place of the target local/small" in found.switch
    assert parse_qs(found.ramp_form) == {
        "name": ["swap-ramp"], "control": ["chat local/small"], "upstream": ["local"], "candidate_model": ["large"],
        "share": ["25"], "primary": ["valid_json"], "margin": ["0.05"], "ramp": ["1"], "guardrail": ["error_rate"],
        "guardrail_margin": ["0.01"],
    }  # fmt: skip


def test_a_ship_with_exceptions_never_switches_everything() -> None:
    found = buttons("ship_except")
    assert (found.switch, bool(found.ramp_form)) == ("", True)


def test_a_reject_keeps_the_control() -> None:
    assert buttons("reject") == NextButtons(keeps_control=True)


@pytest.mark.parametrize(
    ("verdict", "plan", "changed"),
    [
        ("hold", PLAN, {}),
        ("ship", PLAN, {"state": "stopped"}),
        ("reject", PLAN, {"state": "stopped"}),
        ("ship", replace(PLAN, ramp=RampDesign((0.5, 1.0), 0.0, 1)), {}),
        ("ship", replace(PLAN, name="not-in-the-config"), {}),
        ("ship", replace(PLAN, candidates=(("candidate", Target("local", "large", "ab12")),)), {}),
    ],
)
def test_without_a_next_step_there_is_no_button(verdict: str, plan: Plan, changed: dict[str, Any]) -> None:
    assert buttons(verdict, plan, **changed) == NextButtons()


async def test_the_form_makes_the_ramp(pages: Any) -> None:
    """The link fills in the form, and what the form sends is a ramp in which a person takes each step."""
    client = await pages.login()
    query = buttons("ship").ramp_form
    page = await pages.get(client, f"/console/experiments/new?{query}")
    assert 'name="ramp" value="1" checked' in page
    form = {**{name: values[0] for name, values in parse_qs(query).items()}, "mode": "shadow"}
    answer = await pages.send(client, "/console/experiments/new", "/console/experiments/new", form)
    assert answer.status_code == 303, answer.text
    assert pages.config[-1].experiments["swap-ramp"].ramp.mode == "advise"


def test_decided_ones_are_listed_first_then_the_newest_change() -> None:
    def row(name: str, state: str, since: float, *, decided: bool) -> ListedExperiment:
        verdict = ListedVerdict("p", "c", "t", "Hold", "", "", "", "", "", None, None, None, decided=decided)
        return ListedExperiment(name, state, since, "", "", True, False, (verdict,))

    now = time.time()
    rows = [
        row("stopped", "stopped", now, decided=True),
        row("old", "running", now - 9, decided=False),
        row("new", "running", now - 1, decided=False),
        row("decided", "running", now - 99, decided=True),
        row("harm", "stopped: harm", now - 50, decided=False),
    ]
    assert [each.name for each in sorted(rows, key=lambda each: each.order)] == [
        "harm",
        "decided",
        "new",
        "old",
        "stopped",
    ]
