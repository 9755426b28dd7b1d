"""`gateway runs`: live runs and their ceilings; stop one, or add to its ceiling."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.options import AsJson, ConfigOptions, StoreOptions, command_line, example, grouped, show

Named = Annotated[str, typer.Argument(metavar="id", help="The client's id, KEY/ID, or our id (run_…).")]
_ROLE = "operator"
runs = typer.Typer(help="List runs and their ceilings; stop a run, or add to its ceiling.")
verbs = typer.Typer()
verbs.add_typer(runs, name="runs", epilog=example("gateway runs --live"))


@runs.callback(invoke_without_command=True)
@grouped
def listed(
    context: typer.Context,
    store: StoreOptions,
    live: Annotated[
        bool, typer.Option("--live", help="Those of the last day with a ceiling, by cost an hour.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List the newest recorded runs, or those with a ceiling."""
    if context.invoked_subcommand is not None:
        return
    import time

    from gateway.core.sanitize import to_json
    from gateway.features.runs import report
    from gateway.features.runs.live import by_burn, live_ceilings

    deployment, now = ConfigOptions(store.config or Path("gateway.yaml"), store.data).load(), time.time()
    if live:
        uses = by_burn(deployment.on_stream(live_ceilings), now)
        show(to_json(report.ceilings_as_json(uses, now)) if as_json else report.ceilings_table(uses, now))
    else:
        newest = report.newest_runs(deployment.store)
        show(to_json(newest) if as_json else report.runs_table(newest))


@runs.command(epilog=example("gateway runs stop task-42"))
@grouped
def stop(run: Named, options: ConfigOptions) -> None:
    """End a run: every gateway refuses its next call. An answer that has begun is not cut."""
    import time

    from gateway.features.runs.live import found_run, live_ceilings, stop_run
    from gateway.features.runs.operations import stop_row, write_audit

    deployment = options.load()
    run_id = found_run(deployment.on_stream(live_ceilings), run)
    deployment.on_stream(lambda corridor: stop_run(corridor, run_id))
    write_audit(deployment.store, stop_row(time.time(), (command_line(), _ROLE), run_id), f"{run} is stopped")
    show(f"{run} is stopped: its further calls are refused")


@runs.command(epilog=example("gateway runs more task-42"))
@grouped
def more(run: Named, options: ConfigOptions) -> None:
    """Add the original amount to the ceilings of a run that are used up, once; minutes, too."""
    import time
    from functools import partial

    from gateway.core.errors import CannotRun
    from gateway.features.runs.live import extend_run, found_run, live_ceilings
    from gateway.features.runs.operations import grown_row, may_use, write_audit

    deployment = options.load()
    uses = deployment.on_stream(live_ceilings)
    run_id = found_run(uses, run)
    full = [use for use in uses if use.run_id == run_id and (use.can_grow or use.added or use.minutes_added)]
    if not full:
        raise CannotRun(f"no ceiling of {run} is nearly used up")
    added = [use for use in full if use.can_grow and deployment.on_stream(partial(extend_run, use=use))]
    if not added:
        raise CannotRun(f"the amount was added to {run} before; that is possible once")
    done = f"{run} may use {may_use(added)} now"
    write_audit(deployment.store, grown_row(time.time(), (command_line(), _ROLE), added), done)
    show(done)
