"""`gateway judge`: how far a scorer may be trusted."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.cli.options import AsJson, Data, MaybeConfig, example, show, where_to_read

verbs = typer.Typer()
judge = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
verbs.add_typer(
    judge, name="judge", help="How far a scorer may be trusted.", epilog=example("gateway judge calibrate helpful")
)


@judge.callback()
def _group() -> None:
    """How far a scorer may be trusted."""


@judge.command("calibrate", epilog=example("gateway judge calibrate helpful"))
def calibrate(
    scorer: Annotated[str, typer.Argument(help="A name of the `scorers` section.")],
    experiment: Annotated[str | None, typer.Option(help="Only what this experiment asked.")] = None,
    cut: Annotated[float, typer.Option(min=0, max=1, help="From which verdict on it calls an answer good.")] = 0.5,
    half_width: Annotated[float, typer.Option(min=1e-4, max=0.5, help="How near the corrected mean is wanted.")] = 0.05,
    alpha: Annotated[float, typer.Option(min=1e-6, max=0.5, help="The error of each interval.")] = 0.05,
    as_json: AsJson = False,
    config: MaybeConfig = None,
    data: Data = None,
) -> None:
    """Set a scorer's verdicts against people's (`gateway label next`).

    Kappa, both error rates, position bias of a pairwise judge, and its means as people correct them, with intervals.
    """
    from gateway.core.sanitize import to_json
    from gateway.evals.annotation.calibrate import CalibrationOptions, read
    from gateway.evals.reports.calibration import to_dict, to_terminal

    found = read(where_to_read(config, data).store, CalibrationOptions(scorer, experiment, cut, half_width, alpha))
    show(to_json(to_dict(found)) if as_json else to_terminal(found))
