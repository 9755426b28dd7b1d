"""`gateway learn`: the learned model that selects what a judge sees."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from gateway.cli.options import AsJson, ConfigOptions, command_line, example, grouped, note, progress, show

if TYPE_CHECKING:
    from gateway.features.learned.trainer import TrainingJob
    from gateway.store.query import Reading

verbs = typer.Typer()
learn = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
verbs.add_typer(
    learn,
    name="learn",
    help="See, train and explain the model that chooses what a judge sees; accept drift.",
    epilog=example("gateway learn status"),
)
T = TypeVar("T")


@learn.callback()
def _group() -> None:
    """Show, train and explain the model that selects what a judge sees."""


@learn.command("status", epilog=example("gateway learn status --json"))
@grouped
def status(options: ConfigOptions, as_json: AsJson = False) -> None:
    """Show the model's card, the values it could be trained on, and what was drawn in the last 24 hours."""
    import time

    from gateway.core.sanitize import to_json
    from gateway.features.learned import inspect
    from gateway.features.learned import report as reports

    found = _read(_job(options), lambda c, job: inspect.status(c, job, time.time()))
    show(to_json(reports.status_dict(found)) if as_json else reports.status_text(found))


@learn.command("train", epilog=example("gateway learn train"))
@grouped
def train(options: ConfigOptions, as_json: AsJson = False) -> None:
    """Train a model now; consumers use it within 15 seconds. Exit code 1: there are too few values."""
    from gateway.core.sanitize import to_json
    from gateway.features.learned.trainer import train_from_store
    from gateway.features.learned.trees.training import STEPS

    job, done = _job(options), 0
    with progress("train") as drawn:

        def step() -> None:
            nonlocal done
            done += 1
            drawn(done, STEPS)

        outcome = train_from_store(job, step)
    if as_json:
        show(to_json({"rows": outcome.rows, "version": outcome.version or None, "cpu_s": outcome.seconds}))
    elif outcome.version:
        show(f"model {outcome.version[:12]} trained on {outcome.rows} exchanges in {outcome.seconds:.1f} s of CPU time")
    if not outcome.version:
        note(f"{outcome.rows} exchanges have a value of {job.target}; a training needs {job.min_rows} (min_rows)")
        raise typer.Exit(1)


@learn.command("explain", epilog=example("gateway learn explain --id 0199c0de-0000-7000-8000-000000000000"))
@grouped
def explain(
    options: ConfigOptions,
    id_: Annotated[str | None, typer.Option("--id", help="Explain the prediction of this call.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show which features the model relies on, or with --id what decided one prediction."""
    from gateway.core.sanitize import to_json
    from gateway.features.learned import inspect
    from gateway.features.learned import report as reports

    job = _job(options)
    if id_ is None:
        found = _read(job, inspect.explain_all)
        show(to_json(reports.importances_dict(found)) if as_json else reports.importances_text(found))
    else:
        one = _read(job, lambda c, job: inspect.explain_one(c, job, id_))
        show(to_json(reports.explanation_dict(one)) if as_json else reports.explanation_text(one))


@learn.command("accept", epilog=example("gateway learn accept chat --kind quality"))
@grouped
def accept(
    options: ConfigOptions,
    aliases: Annotated[list[str] | None, typer.Argument(metavar="[ALIAS]...", help="Model names.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every model name.")] = False,
    kind: Annotated[str | None, typer.Option(help="Only quality, or only input (default: both).")] = None,
    as_json: AsJson = False,
) -> None:
    """Make the drift alarms accept the present state as the usual one.

    They learn it from the exchanges that arrive from now on, 500 judged ones for quality and 1 000 for input, and are
    silent until then. The discarded state is printed, and kept in the audit. Exit code 1: there was nothing to discard.
    """
    from gateway.core.sanitize import to_json
    from gateway.features.learned import drift
    from gateway.features.learned import report as reports
    from gateway.store.query import writing

    if bool(aliases) == every:
        raise typer.BadParameter("give model names, or --all", param_hint="ALIAS")
    kinds = tuple(each for each in drift.KINDS if kind in (None, each))
    if not kinds:
        raise typer.BadParameter(f'no kind "{kind}"; expected {" or ".join(drift.KINDS)}', param_hint="--kind")
    job = _job(options)
    with writing(job.store) as connection:
        forgotten = drift.accept(connection, job.key, aliases or None, kinds, command_line())
    show(to_json(reports.forgotten_dicts(forgotten)) if as_json else reports.forgotten_text(forgotten))
    if not forgotten:
        note("no alarm of these model names had a usual range")
        raise typer.Exit(1)


def _job(options: ConfigOptions) -> TrainingJob:
    from gateway.core.errors import CannotRun
    from gateway.features.learned.trainer import training_job
    from gateway.scoring.asker import ExternalServices
    from gateway.scoring.http_client import HttpConnections
    from gateway.scoring.registry import build

    of = options.load()
    config = of.config
    if config.predictor is None:
        raise CannotRun(f"{of.path.name} has no section predictor; docs/judges-and-labels.md describes it")
    guided = config.predictor.guided
    needed = {name: section for name, section in config.scorers.items() if name == guided}
    scorers = build(needed, ExternalServices(HttpConnections(), directory=of.path.parent))
    return training_job(config, of.store, scorers)


def _read(job: TrainingJob, work: Callable[[Reading, TrainingJob], T]) -> T:
    from gateway.store.query import reading

    with reading(job.store) as connection:
        return work(connection, job)
