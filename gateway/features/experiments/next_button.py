"""The buttons after a verdict: what a person does next, as the page of an experiment offers it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlencode

import yaml

from gateway.config.config import Config
from gateway.core.plan import Plan, PlanState, guard_of
from gateway.reports.model import Report

_SHIPS = ("ship", "ship_except")


@dataclass(frozen=True, slots=True)
class NextButtons:
    ramp_form: str = ""
    """Query of the form for a new experiment that makes this one a ramp; "" if no ramp is the next step."""
    switch: str = ""
    """The lines of gateway.yaml with which the candidate answers every call; "" if the verdict does not allow it."""
    keeps_control: bool = False
    """Whether the next step is to stop, so that the control stays."""


def next_buttons(report: Report | None, state: PlanState | None, config: Config) -> NextButtons:
    """The next step of a running plan without a ramp; a ramp has its own buttons."""
    if report is None or state is None or state.plan.ramp is not None or not state.running:
        return NextButtons()
    if report.verdict == "reject":
        return NextButtons(keeps_control=True)
    if report.verdict not in _SHIPS or state.plan.name not in config.experiments:
        return NextButtons()
    target = state.plan.target(report.candidate)
    if target.variant or guard_of(target) is not None:
        return NextButtons()  # the form and a target of `models` are of plain models
    switch = _switch(state.plan, report.candidate) if report.verdict == "ship" else ""
    return NextButtons(_ramp_form(state.plan, report.candidate), switch)


def _switch(plan: Plan, candidate: str) -> str:
    target = plan.target(candidate)
    lines = {"models": {plan.model: {"targets": [{"upstream": target.upstream, "model": target.model}]}}}
    text: str = yaml.safe_dump(lines, sort_keys=False, allow_unicode=True)
    return f"# in place of the target {plan.control}\n{text}"


def _ramp_form(plan: Plan, candidate: str) -> str:
    target = plan.target(candidate)
    fields = [
        ("name", f"{plan.name}-ramp"),
        ("control", f"{plan.model} {plan.control}"),
        ("upstream", target.upstream),
        ("candidate_model", target.model),
        ("share", f"{100 * (plan.shadow or plan.split or 0.1):g}"),
        ("primary", plan.primary or ""),
        ("margin", f"{plan.margin:g}"),
        ("ramp", "1"),
    ]
    for guardrail in plan.guardrails[:2]:
        fields += [("guardrail", guardrail.metric), ("guardrail_margin", f"{guardrail.margin:g}")]
    return urlencode([(name, value) for name, value in fields if value])
