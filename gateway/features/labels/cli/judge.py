"""`gateway judge`: how far a scorer agrees with people."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.cli.options import AsJson, Data, MaybeConfig, example, show, where_to_read

verbs = typer.Typer()
judge = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
verbs.add_typer(
    judge,
    name="judge",
    help="Measure how far a scorer agrees with people.",
    epilog=example("gateway judge calibrate helpful"),
)


@judge.callback()
def _group() -> None:
    """Measure how far a scorer agrees with people."""


@judge.command("calibrate", epilog=example("gateway judge calibrate helpful"))
def calibrate(
    scorer: Annotated[str, typer.Argument(help="Name of the scorer in gateway.yaml.")],
    experiment: Annotated[str | None, typer.Option(help="Only answers of this experiment.")] = None,
    cut: Annotated[float, typer.Option(min=0, max=1, help="Score from which an answer counts as good.")] = 0.5,
    half_width: Annotated[
        float, typer.Option(min=1e-4, max=0.5, help="Wanted half-width of the corrected mean's interval.")
    ] = 0.05,
    alpha: Annotated[float, typer.Option(min=1e-6, max=0.5, help="Error probability of each interval.")] = 0.05,
    as_json: AsJson = False,
    config: MaybeConfig = None,
    data: Data = None,
) -> None:
    """Compare a scorer's verdicts with people's labels (`gateway label next`).

    Prints kappa, both error rates, the position bias of a pairwise judge, and means corrected by the labels, with
    intervals.
    """
    from gateway.core.sanitize import to_json
    from gateway.features.labels.calibration import CalibrationOptions, read
    from gateway.features.labels.report import to_dict, to_terminal

    found = read(where_to_read(config, data).store, CalibrationOptions(scorer, experiment, cut, half_width, alpha))
    show(to_json(to_dict(found)) if as_json else to_terminal(found))
