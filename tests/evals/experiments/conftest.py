"""Reports as experiments and replays make them, without an experiment: to ship, to hold, to reject, and of nothing."""

from __future__ import annotations

import importlib.util
import math
import random
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from gateway.evals.experiments.report import (
    Arm,
    Comparison,
    Estimate,
    Example,
    Gate,
    Latency,
    Likeness,
    Report,
    Stratum,
    Strength,
    Trail,
    Wins,
)

Made = Callable[..., Report]


def _trail(metric: str, mean: float, spread: float, pairs: int, rng: random.Random) -> Trail:
    total, points = 0.0, []
    for n in range(1, pairs + 1):
        total += rng.gauss(mean, spread)
        half = 1.9 * spread * math.sqrt((math.log(20) + math.log(1 + n)) / n)
        points.append((n, total / n, total / n - half, total / n + half))
    return Trail(metric, tuple(points))


def _curve(median: float, spread: float, n: int, rng: random.Random) -> tuple[tuple[float, float], ...]:
    seconds = sorted(rng.lognormvariate(math.log(median), spread) for _ in range(n))
    return tuple((s, (i + 1) / n) for i, s in enumerate(seconds))


def _metrics() -> tuple[Comparison, ...]:
    low = "empirical-Bernstein confidence sequence"
    return (
        Comparison("helpfulness", "", "primary", Estimate(0.731, 0.716, 0.746), Estimate(0.735, 0.72, 0.75),
                   Estimate(0.004, -0.011, 0.019), Estimate(0.001, -0.008, 0.01), 1240, 1198.4, 0.02, "unclear",
                   "equivalent", None, 3.1, Estimate(0.006, -0.014, 0.026), low),
        Comparison("error_rate", "", "guardrail", Estimate(0.008), Estimate(0.006), Estimate(0.002, -0.004, 0.008),
                   None, 1240, 1240.0, 0.01, "unclear", "equivalent", None, 2.2, None, low),
        Comparison("refusal", "", "guardrail", Estimate(0.021), Estimate(0.03), Estimate(-0.009, -0.017, -0.001),
                   Estimate(0.0, -0.006, 0.006), 1240, 1198.4, 0.02, "worse", "non_inferior", None, 2.9, None, low),
        Comparison("cost_per_1k", "USD per 1k", "guardrail", Estimate(2.41, 2.3, 2.52), Estimate(0.7, 0.66, 0.74),
                   Estimate(1.71, 1.59, 1.83), None, 1240, 1240.0, 0.0, "better", "non_inferior", None, 210.0, None,
                   "asymptotic confidence sequence"),
        Comparison("total_s", "s", "other", Estimate(1.31), Estimate(0.98), Estimate(0.33, 0.21, 0.45),
                   Estimate(0.01, -0.08, 0.1), 310, 305.0, None, "better", "unclear", None, None, None,
                   "asymptotic confidence sequence"),
        Comparison("length", "tokens", "other", Estimate(212.0), Estimate(188.0), Estimate(24.0, None, None), None,
                   3, 3.0, None, "unclear", "unclear"),
    )  # fmt: skip


def _latency(rng: random.Random) -> tuple[Latency, ...]:
    def of(arm: str, median: float, comparable: bool, n: int) -> Latency:
        curve = _curve(median, 0.45, n, rng)
        half, late = curve[n // 2][0], curve[int(0.95 * n)][0]
        p50, p95 = Estimate(half, half * 0.96, half * 1.05), Estimate(late, late * 0.9, late * 1.2)
        return Latency(arm, "total_s", n, p50, p95, curve, comparable)

    return of("control", 1.15, False, 1240), of("repeat", 1.2, True, 310), of("llama", 0.9, True, 1240)


_EXAMPLES = (
    Example("01a21079-7ac5-75dc-a455-7225d7e418f1", "01a21079-7b01-7a3c-9a41-9c1f4be0b1c2",
            "largest loss on helpfulness", "How do I boil an egg so that the yolk stays soft?",
            "Bring water to a boil, lower the egg in gently, and cook it for six minutes. Then put it into cold water.",
            "Bring water to a boil, lower the egg in, and cook it for twelve minutes. Then peel it under cold water.",
            (("helpfulness", 0.92, 0.31), ("refusal", 0.0, 0.0)), 0.41),
    Example("01a21079-8ac5-75dc-a455-7225d7e418f2", "01a21079-8b01-7a3c-9a41-9c1f4be0b1c3",
            "only the candidate answers", "Name the three largest moons of Saturn, as JSON.",
            "I cannot help with that.", '{"moons": ["Titan", "Rhea", "Iapetus"]}',
            (("helpfulness", 0.05, 0.97), ("refusal", 1.0, 0.0)), 0.93),
    Example("01a21079-9ac5-75dc-a455-7225d7e418f4", "01a21079-9b01-7a3c-9a41-9c1f4be0b1c5",
            "near the middle of all pairs", "Was ist die Hauptstadt von Australien?",
            "Die Hauptstadt von Australien ist Canberra.", "Canberra ist die Hauptstadt von Australien.",
            (("helpfulness", 0.9, 0.9),), 0.12),
)  # fmt: skip


def _ship() -> Report:
    rng = random.Random(7)
    metrics = _metrics()
    return Report(
        experiment="swap", plan="3fa2b1c09d7e4f58", candidate="llama", verdict="ship", direction="unclear",
        margin="equivalent",
        sentence="Switching chat from openai/gpt-x to local/llama-y: not worse by more than 0.02 on helpfulness "
        "(difference +0.004, interval \N{MINUS SIGN}0.011 … +0.019, 1 240 pairs), 71 % cheaper, p95 0.6 s lower. "
        "Guardrails hold. Ship.",
        reasons=(), primary=metrics[0], guardrails=metrics[1:4], metrics=metrics,
        gates=(Gate("a/a", 1, "the control against itself differs by +0.001 (−0.008 … +0.010), inside ±0.02", 0.001),
               Gate("corridor", 1, "0.3 % of the control's and 0.4 % of the candidate's answers were lost", 0.001),
               Gate("judge", 1, "0.1 % and 0.2 % of the verdicts failed", 0.001)),
        arms=(Arm("control", "openai/gpt-x", 1240, 10, 1240, Estimate(2.41, 2.3, 2.52), 412.0, 212.0),
              Arm("repeat", "openai/gpt-x", 310, 3, 0, Estimate(2.39, 2.2, 2.6), 412.0, 210.0),
              Arm("llama", "local/llama-y", 1240, 8, 0, Estimate(0.7, 0.66, 0.74), 431.0, 188.0)),
        pairs=1240, withheld=(("not offered: busy", 31), ("not offered: budget", 6), ("judge failed", 4), ("lost", 2)),
        trails=(_trail("helpfulness", 0.004, 0.075, 1240, rng), _trail("error_rate", 0.002, 0.03, 1240, rng),
                _trail("refusal", -0.009, 0.04, 1240, rng), _trail("cost_per_1k", 1.71, 0.9, 1240, rng)),
        wins=Wins(356, 566, 318, 0.083, 0.517), latency=_latency(rng),
        strata=(Stratum("stream", 804, Estimate(0.006, -0.012, 0.024)), Stratum("plain", 436, Estimate(0, -0.03, 0.03)),
                Stratum("key web", 1013, Estimate(0.007, -0.01, 0.024)),
                Stratum("key batch", 227, Estimate(-0.031, -0.058, -0.004))),
        examples=_EXAMPLES,
        limits=("One turn is compared, not the conversation that would have followed.",
                "Answers that never came are counted as failures, not left out.",
                "The judge is of the candidate's family.",
                "The difference is the average over the pairs so far, not a promise for other traffic."),
        design=(("mode", "shadow on 20 % of eligible requests; control asked again for 25 % of those"),
                ("primary", "helpfulness, margin 0.02"), ("error", "α = 0.05 over all looks")),
        versions=(("gateway", "0.3.0"), ("judge", "3"), ("python", "3.11")),
        first=1764000000.0, last=1764066000.0, created=1764067200.0,
        command="gateway report swap --candidate llama --html report.html",
        likeness=(Likeness("edit_distance", 310, 0.021, 0.34), Likeness("embedding", 310, 0.148, 0.0004)),
        strengths=(Strength("control", 0.0, 0.0), Strength("llama", 0.11, 0.07), Strength("qwen", -0.3, 0.08)),
        first_place=0.07,
    )  # fmt: skip


def _hold() -> Report:
    ship = _ship()
    c = replace(ship.metrics[0], difference=Estimate(-0.004, -0.048, 0.04), a=Estimate(0.73, 0.69, 0.77),
                b=Estimate(0.726, 0.68, 0.77), margin_found="unclear", pairs_needed=1900, pairs=143, effective_n=143.0,
                corrected=None)  # fmt: skip
    gates = (replace(ship.gates[0], state=0, says="41 pairs; about 160 more until the interval can lie inside ±0.02"),
             ship.gates[1],
             Gate("judge", -1, "9.1 % of the candidate's verdicts failed, 0.7 % of the control's"))  # fmt: skip
    return replace(
        ship, verdict="hold", margin="unclear", primary=c, metrics=(c, *ship.metrics[1:]), gates=gates, pairs=143,
        sentence="Switching chat from openai/gpt-x to local/llama-y: undecided on helpfulness (difference −0.004, "
        "interval −0.048 … +0.040, 143 pairs). Hold.",
        reasons=("The gate judge is red.", "The gate a/a is not known yet.", "helpfulness: about 1 900 pairs more."),
        trails=(replace(ship.trails[0], points=ship.trails[0].points[:143]),), wins=None, strata=(), latency=(),
    )  # fmt: skip


def _reject() -> Report:
    ship = _ship()
    c = replace(ship.metrics[0], difference=Estimate(-0.061, -0.081, -0.041), b=Estimate(0.67, 0.655, 0.685),
                direction_found="worse", margin_found="inferior", corrected=None)  # fmt: skip
    bad = replace(ship.metrics[1], b=Estimate(0.061), difference=Estimate(-0.053, -0.07, -0.036),
                  direction_found="worse", margin_found="inferior")  # fmt: skip
    return replace(
        ship, verdict="reject", direction="worse", margin="inferior", primary=c, guardrails=(bad, *ship.guardrails[1:]),
        metrics=(c, bad, *ship.metrics[2:]),
        sentence="Switching chat from openai/gpt-x to local/llama-y: worse by more than 0.02 on helpfulness "
        "(difference −0.061, interval −0.081 … −0.041, 1 240 pairs). Reject.",
        reasons=("helpfulness is worse by more than 0.02.", "error_rate is worse by more than 0.01."),
        trails=(_trail("helpfulness", -0.061, 0.09, 1240, random.Random(3)),),
    )  # fmt: skip


def _nothing() -> Report:
    return Report(
        experiment="new", plan="0" * 16, candidate="candidate", verdict="hold", direction="unclear", margin="unclear",
        sentence="No pair yet. Hold.", reasons=(), primary=None, guardrails=(), metrics=(), gates=(), arms=(), pairs=0,
        withheld=(), trails=(), wins=None, latency=(), strata=(), examples=(), limits=(), design=(), versions=(),
        first=None, last=None, created=1764067200.0, command="gateway report new --html report.html",
    )  # fmt: skip


HOSTILE = (
    "</style></title><script>alert(1)</script><img src=x onerror=alert(2)>\" onload='alert(3)' &lt;b&gt; "
    "\x1b]0;owned\x07\x1b[31mred\x1b[0m \x00 \u202egnp.exe\u2066 \ud800 javascript:alert(4) {{7*7}} [bold]x[/bold]"
)


def _hostile(value: Any) -> Any:
    """The same report, with every text of it replaced but the words that decide."""
    if isinstance(value, str):
        return HOSTILE
    if isinstance(value, tuple):
        return tuple(_hostile(each) for each in value)
    if hasattr(value, "__dataclass_fields__"):
        kept = {"role", "direction_found", "margin_found", "verdict", "direction", "margin", "measure", "state"}
        names = [name for name in value.__dataclass_fields__ if name not in kept]
        return replace(value, **{name: _hostile(getattr(value, name)) for name in names})
    return value


@pytest.fixture
def report() -> Made:
    """kind: ship, hold, reject, nothing or hostile. Fields as given."""
    kinds = {"ship": _ship, "hold": _hold, "reject": _reject, "nothing": _nothing, "hostile": lambda: _hostile(_ship())}
    return lambda kind="ship", **fields: replace(kinds[kind](), **fields)


@pytest.fixture
def hostile() -> str:
    return HOSTILE


@pytest.fixture(scope="session")
def simulation() -> ModuleType:
    """The module simulated.py: experiments without a gateway."""
    spec = importlib.util.spec_from_file_location("simulated", Path(__file__).with_name("simulated.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["simulated"] = module
    spec.loader.exec_module(module)
    return module
