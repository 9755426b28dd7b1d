"""`gateway decisions`: price, give and list certificates of thresholds."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.cli.options import AsJson, example, grouped, show

verbs = typer.Typer()
decisions = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
verbs.add_typer(
    decisions,
    name="decisions",
    help="See whether a probability is true, and from which threshold on nobody needs to look.",
    epilog=example("gateway decisions plan --wrong 0.05"),
)


@decisions.callback()
def _group() -> None:
    """Price, give and list certificates of thresholds."""


@decisions.command("plan", epilog=example("gateway decisions plan --wrong 0.05 --confidence 0.9"))
@grouped
def plan(
    wrong: Annotated[float, typer.Option(min=0.001, max=0.49, help="Largest share that may be wrong.")] = 0.05,
    confidence: Annotated[float, typer.Option(min=0.5, max=0.999, help="Confidence of the promise.")] = 0.9,
    as_json: AsJson = False,
) -> None:
    """Print what a certificate costs in labels, before anybody labels."""
    from gateway.core.sanitize import to_json
    from gateway.features.decisions.plan import prices
    from gateway.features.decisions.report import plan_text, plan_to_dict
    from gateway.statistics.risk_control import RiskClaim

    found = prices(RiskClaim(wrong, 1.0 - confidence))
    show(to_json(plan_to_dict(found)) if as_json else plan_text(found))
