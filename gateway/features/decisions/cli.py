"""`gateway decisions`: find the reading of a model, and price, give and list certificates of thresholds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.options import (
    AsJson,
    ConfigOptions,
    StoreOptions,
    example,
    grouped,
    note,
    progress,
    show,
    usage_errors,
)

verbs = typer.Typer()
decisions = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
verbs.add_typer(
    decisions,
    name="decisions",
    help="See whether a probability is more than noise and true, and from which threshold on nobody needs to look.",
    epilog=example("gateway decisions plan --wrong 0.05"),
)
Named = Annotated[str, typer.Argument(metavar="NAME", help="A certificate of gateway.yaml.")]


@decisions.callback()
def _group() -> None:
    """Find the reading of a model, and price, give and list certificates of thresholds."""


@decisions.command("probe", epilog=example("gateway decisions probe triage --states tickets.txt"))
@grouped
def probe(
    alias: Annotated[str, typer.Argument(metavar="ALIAS", help="A model name of gateway.yaml.")],
    options: ConfigOptions,
    states: Annotated[
        Path | None,
        typer.Option(help="File of what is asked about: a text or JSON a line (default: recorded calls)."),
    ] = None,
    most: Annotated[int, typer.Option("--limit", min=8, help="At most this many questions about a state.")] = 24,
    gateway: Annotated[
        str | None, typer.Option(help="URL of a running gateway (default: the config's, else start one).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure which reading of a chat engine's log-probabilities is more than noise, on the model's own questions.

    Each question is asked by every reading, with the options in two orders. A line of --states may give right answers:
    {"state": "…", "answers": {"QUESTION": "OPTION"}}. Exit code 1: nothing is recommended.
    """
    import asyncio
    from datetime import UTC, datetime

    from gateway.config.environment import data_directory
    from gateway.core.sanitize import to_json
    from gateway.features.decisions.probe.report import to_dict, to_terminal
    from gateway.features.decisions.probe.work import ReadingProbe
    from gateway.features.decisions.probe.work import probe as probed
    from gateway.features.gateway_choice import GatewayLocation
    from gateway.observability.logging import to_file

    place = GatewayLocation(options.config, options.load().config, data_directory(options.data), gateway)
    with usage_errors(), to_file(place.data / "probe.log"), progress("probe") as shown:
        result = asyncio.run(probed(ReadingProbe(alias, states, most), place, note, shown))
    today = datetime.now(UTC).date()
    show(to_json(to_dict(result, today)) if as_json else to_terminal(result, today))
    if result.recommended is None:
        raise typer.Exit(1)


@decisions.command("plan", epilog=example("gateway decisions plan --wrong 0.05 --confidence 0.9"))
@grouped
def plan(
    store: StoreOptions,
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="A certificate of gateway.yaml (default: the promise below).")
    ] = None,
    wrong: Annotated[float, typer.Option(min=0.001, max=0.49, help="Largest share that may be wrong.")] = 0.05,
    confidence: Annotated[float, typer.Option(min=0.5, max=0.999, help="Confidence of the promise.")] = 0.9,
    as_json: AsJson = False,
) -> None:
    """Print what a certificate costs in labels, before anybody labels; with NAME, also the state of its labels."""
    import time

    from gateway.core.sanitize import to_json
    from gateway.features.decisions.plan import prices
    from gateway.features.decisions.report import plan_text, plan_to_dict, to_terminal
    from gateway.features.decisions.work import look, promise_named
    from gateway.statistics.risk_control import RiskClaim
    from gateway.store.query import reading

    claim, standing = RiskClaim(wrong, round(1.0 - confidence, 12)), None
    if name is not None:
        deployment = ConfigOptions(store.config or Path("gateway.yaml"), store.data).load()
        promise = promise_named(deployment.config, name)
        claim = promise.claim
        with reading(deployment.store) as connection:
            standing = look(connection, promise, time.time())
    found = prices(claim)
    show(to_json(plan_to_dict(found)) if as_json else plan_text(found))
    if standing is not None and not as_json:
        show(to_terminal(standing))


@decisions.command("certify", epilog=example("gateway decisions certify refund"))
@grouped
def certify(name: Named, options: ConfigOptions, as_json: AsJson = False) -> None:
    """Give the certificate if people's labels show it. Exit code 1: they do not, or not yet.

    The first 100 labels over all traffic choose two thresholds; later ones in their zones test them, at any look.
    """
    import time

    from gateway.core.sanitize import to_json
    from gateway.features.decisions import work
    from gateway.features.decisions.report import to_dict, to_terminal
    from gateway.store.query import writing

    deployment = options.load()
    promise = work.promise_named(deployment.config, name)
    with writing(deployment.store) as connection:
        found = work.certify(connection, promise, time.time())
    show(to_json(to_dict(found)) if as_json else to_terminal(found))
    if found.certified is None:
        if not found.refused:
            note(f"`gateway label next --scorer {promise.labelled_as} --favour 0.01` labels where it pays")
        raise typer.Exit(1)


@decisions.command("certificates", epilog=example("gateway decisions certificates"))
@grouped
def certificates(options: ConfigOptions, as_json: AsJson = False) -> None:
    """List the certificates of the config with their states and the labels behind them."""
    import time

    from gateway.core.sanitize import to_json
    from gateway.features.decisions.report import table, to_dict
    from gateway.features.decisions.work import findings, promises_of
    from gateway.store.query import reading

    deployment = options.load()
    with reading(deployment.store) as connection:
        found = list(findings(connection, promises_of(deployment.config), time.time()))
    show(to_json([to_dict(each) for each in found]) if as_json else table(found))
