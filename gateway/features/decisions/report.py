"""Plans and certificates on the terminal and as JSON. Pure."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, TypedDict

from rich.console import Group as Lines
from rich.console import RenderableType
from rich.text import Text

from gateway.features.decisions.plan import FIRST_LABELS, CertificatePlan, LabelPrice
from gateway.reports.terminal import plain_table


class PlanOutput(TypedDict):
    """The price of a certificate in labels."""

    wrong: float
    """The largest share that may be wrong."""
    confidence: float
    first_labels: int
    """Labels over all traffic that calibrate the probability."""
    prices: list[LabelPrice]


def plan_to_dict(found: CertificatePlan) -> dict[str, Any]:
    """The members of PlanOutput."""
    return {
        "wrong": found.claim.bound,
        "confidence": 1.0 - found.claim.delta,
        "first_labels": FIRST_LABELS,
        "prices": [asdict(price) for price in found.prices],
    }


def plan_text(found: CertificatePlan) -> RenderableType:
    table = plain_table(
        ("true error in the zone", "labels, any look", "one look"), right=("labels, any look", "one look")
    )
    for price in found.prices:
        table.add_row(f"{price.true_error:.2%}", *map(_labels, (price.any_look, price.one_look)))
    claim = found.claim
    promise = f"at most {claim.bound:.1%} wrong from the threshold on, with {1 - claim.delta:.0%} confidence"
    first = f"first {FIRST_LABELS} labels over all traffic, then in the zone, with 80 % probability of a certificate:"
    return Lines(Text(promise, "bold"), Text(first), table)


def _labels(n: int | None) -> str:
    return "too many" if n is None else str(n)
