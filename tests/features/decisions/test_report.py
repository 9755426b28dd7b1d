"""Plans on the terminal and as JSON."""

from __future__ import annotations

from rich.console import Console

from gateway.features.decisions.plan import CertificatePlan, LabelPrice
from gateway.features.decisions.report import plan_text, plan_to_dict
from gateway.statistics.risk_control import RiskClaim


def test_a_price_that_nobody_pays_is_said_in_words() -> None:
    plan = CertificatePlan(RiskClaim(0.05, 0.1), (LabelPrice(0.04, None, 1300),))
    console = Console(width=100)
    with console.capture() as capture:
        console.print(plan_text(plan))
    assert "too many" in capture.get()
    assert plan_to_dict(plan)["prices"] == [{"true_error": 0.04, "any_look": None, "one_look": 1300}]
