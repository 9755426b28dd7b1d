"""Tokens are marked by size and direction in words as well, and the terminal says the same as the page."""

from __future__ import annotations

import pytest

from gateway.reports.charts import LikelihoodBars, likelihood_chart
from gateway.reports.model import Estimate, LikelihoodBin, LikelihoodCall, LikelihoodFinding, TokenLikelihood
from gateway.verdict.report.likelihood import likelihood_lines, token_class

NONE = Estimate(None)


def found(**changes: object) -> LikelihoodFinding:
    call = LikelihoodCall("0190-x", 0.21, (TokenLikelihood(" sea", -0.1, -3.0, " lake"),), 0, ())
    fields = {
        "calls": 3, "tokens": 120, "control": Estimate(0.5), "candidate": Estimate(0.52),
        "divergence": Estimate(0.02, 0.01, 0.03), "noise": None, "noise_calls": 0, "agreement": Estimate(0.97),
        "noise_agreement": None, "perplexity_ratio": Estimate(1.02), "sampled": (("temperature 1, top_p 1", 3),),
        "estimates": "Every answer …", "distribution": (LikelihoodBin(0.0, 0.1, 3, 1),), "refused": (("why", 2),),
        "widest": (call,), **changes,
    }  # fmt: skip
    return LikelihoodFinding(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("difference", "look"),
    [
        (-3.0, "less much"), (-0.6, "less some"), (-0.2, "less little"), (0.0, ""), (0.09, ""),
        (0.2, "more little"), (2.0, "more much"),
    ],
)  # fmt: skip
def test_a_token_is_marked_by_size_and_direction(difference: float, look: str) -> None:
    assert token_class(difference) == look


def test_the_terminal_has_the_numbers() -> None:
    lines = "\n".join(likelihood_lines(found()))
    for part in ("+0.0200", "1.0200", "0.9700", "Every answer", "refused, why: 2 pairs", "0190-x: +0.2100"):
        assert part in lines
    assert likelihood_lines(found(divergence=NONE)) == ["why: 2 pairs"]
    assert likelihood_lines(None) == []


def test_the_chart_says_in_words_what_it_draws() -> None:
    chart = likelihood_chart(LikelihoodBars("c", "Calls", found().distribution, 0.02))
    assert chart is not None
    assert "3 calls" in chart.description
    assert "itself: 1 call" in chart.description
    assert likelihood_chart(LikelihoodBars("c", "Calls", (), 0.02)) is None
