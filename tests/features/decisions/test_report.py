"""Plans on the terminal and as JSON."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
from rich.console import Console

from gateway.features.decisions.certification import Evidence, examine
from gateway.features.decisions.labelled import LabelledCalls
from gateway.features.decisions.model import CertificateFinding, Promise
from gateway.features.decisions.plan import CertificatePlan, LabelPrice
from gateway.features.decisions.report import calibration_lines, plan_text, plan_to_dict, sentences, table
from gateway.statistics.risk_control import RiskClaim


def test_a_price_that_nobody_pays_is_said_in_words() -> None:
    plan = CertificatePlan(RiskClaim(0.05, 0.1), (LabelPrice(0.04, None, 1300),))
    console = Console(width=100)
    with console.capture() as capture:
        console.print(plan_text(plan))
    assert "too many" in capture.get()
    assert plan_to_dict(plan)["prices"] == [{"true_error": 0.04, "any_look": None, "one_look": 1300}]


def examined(n: int, gives: bool = True) -> CertificateFinding:
    """A calibrated scorer with n labels, nearly all of them good."""
    random = np.random.default_rng(51)
    p = random.beta(8.0, 0.3, n).clip(0.001, 0.999)
    y = (random.random(n) < p).astype(float)
    calls = LabelledCalls(p, y, np.ones(n), np.arange(n) * 1.0, tuple(map(str, range(n))), tuple({"ada": v} for v in y))
    promise = Promise("refund", "s", 0.1, 0.9, "threshold")
    return examine(Evidence(promise, "q", calls, (p, np.ones(n)), (), None, float(n), gives=gives))


def test_two_sentences_say_how_true_and_how_much() -> None:
    text = sentences(examined(500))
    first, second = (
        r"refund: says 0\.\d\d where people say 0\.\d\d \(500 labels\)\.",
        r"\d+% may be automated at ≤ 10\.0%",
    )
    assert re.fullmatch(rf"{first} {second} wrong \(90% confidence, \d+ labels in the zone\)\.", text), text


def test_without_a_certificate_the_sentence_says_why() -> None:
    assert "Nothing is automated: " in sentences(examined(500, gives=False))
    assert "fewer than 30 labels say nothing of its probability" in sentences(examined(20))
    assert "80 more labels over all traffic choose a zone" in sentences(examined(20))


def test_every_line_of_a_calibration_has_its_labels() -> None:
    bias, error = calibration_lines(examined(500).truth)
    assert "any look" in bias
    assert "500 labels" in bias
    assert "one look" in error


def test_names_of_certificates_are_no_markup() -> None:
    found = examined(500)
    console = Console(width=160)
    with console.capture() as capture:
        console.print(table([replace(found, promise=replace(found.promise, name="a[bold]b", labelled_as="[red]s"))]))
    assert "a[bold]b" in capture.get()
    assert "[red]s" in capture.get()
