"""`gateway samples`, `export`, `follow` and `erase`: the verbs for recorded calls."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.options import (
    Alias,
    AsJson,
    Since,
    StoreOptions,
    Where,
    command_line,
    example,
    grouped,
    note,
    progress,
    show,
    usage_errors,
)

if TYPE_CHECKING:
    from gateway.features.calls.erasure import ErasureResult
    from gateway.features.calls.exports.export import ExportResult, Form
    from gateway.features.calls.exports.follow import FollowForm
    from gateway.features.calls.rows.erase import ErasureRequest
    from gateway.features.calls.rows.export import PreferenceRule
    from gateway.store.query import ExchangeFilter, Found
    from gateway.store.reader_config import ReaderConfig

verbs = typer.Typer()


@dataclass(frozen=True, slots=True)
class _CallOutput:
    """The form of calls for programs; a table or a page for people if none is chosen."""

    as_json: AsJson = False
    as_lines: Annotated[bool, typer.Option("--jsonl", help="Print one line of JSON for each exchange.")] = False
    all_members: Annotated[
        bool, typer.Option("--all", help="JSON: keep members that are null and scores that do not apply.")
    ] = False

    def members(self, found: list[Found]) -> list[Found]:
        from gateway.features.calls.samples import compact

        return found if self.all_members else [compact(each) for each in found]


@verbs.command(epilog=example("gateway samples --where 'scorer=valid_json value<1' --since 1d"))
@grouped
def samples(
    options: StoreOptions,
    output: _CallOutput,
    one: Annotated[str | None, typer.Option("--id", help="Show one exchange in full, by its x-request-id.")] = None,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait for --id to be scored.")] = 0.0,
    run: Annotated[
        str | None, typer.Option(help="Show the calls of one run in order, by the client's id or by the gateway's.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="List at most this many, newest first.")] = 20,
    alias: Alias = None,
    since: Since = None,
    where: Where = None,
) -> None:
    """Show recorded calls and their scores.

    Without --id, it prints a list. With --id, it prints the request, the response, the attempts, and every score with
    its reason. With --run, it prints a timeline: calls, tools called, tokens, cost, the first failure, scores.
    --where compares columns of exchanges (alias, model, outcome, status, total_s, text, …) and of scores
    (scorer, value, label, …) with = != < <= > >= and ~ (contains), joined by and, or, not and brackets.
    """
    from gateway.core.sanitize import to_json
    from gateway.features.calls import samples as found
    from gateway.store.query import filter_of

    store = options.location().store
    if one is not None:
        exchange = found.find(store, one, wait)
        show(to_json(*output.members([exchange])) if output.as_json else found.to_terminal(exchange))
        return
    if run is not None:
        _show_runs(store, run, output)
        return
    with usage_errors():
        exchanges = found.list_of(store, filter_of(limit, alias, since, where))
    if output.as_lines:
        for exchange in output.members(exchanges):
            typer.echo(to_json(exchange, indent=False))
        return
    show(to_json(output.members(exchanges)) if output.as_json else found.table(exchanges))


def _show_runs(store: str, name: str, output: _CallOutput) -> None:
    from gateway.core.sanitize import to_json
    from gateway.features.runs import report

    runs = report.find_runs(store, name)
    if output.as_json:
        show(to_json(output.members(runs)))
        return
    for run in runs:
        show(report.to_terminal(run))


FORMS = ("jsonl", "openai-chat", "openai-evals", "dpo", "csv", "parquet", "runs", "otlp")


@dataclass(frozen=True, slots=True)
class _Output:
    form: Annotated[
        str | None, typer.Option("--format", help=f"{', '.join(FORMS)}; default: by the name of --out, else jsonl.")
    ] = None
    out: Annotated[Path | None, typer.Option(dir_okay=False, help="Output file (default: stdout).")] = None


@dataclass(frozen=True, slots=True)
class SelectedCalls:
    """The calls to write. Values of None do not narrow the selection."""

    where: Where = None
    since: Since = None
    alias: Alias = None
    run: Annotated[str | None, typer.Option(help="Only calls of this run, by the client's id or by the gateway's.")] = (
        None
    )

    def filter(self, limit: int = 0) -> ExchangeFilter:
        """Raises InvalidDuration, QueryError. limit: 0: none."""
        from gateway.store.query import filter_of

        return filter_of(limit, self.alias, self.since, self.where, self.run)


@dataclass(frozen=True, slots=True)
class _Preferences:
    """The rule that decides between two answers, in the form dpo."""

    by: Annotated[
        str | None,
        typer.Option(
            help="dpo: what decides: correction, label, judges, or names of scorers (default: the first three)."
        ),
    ] = None
    gap: Annotated[float, typer.Option(min=0, help="dpo: the smallest difference of two scores.")] = 0.0


@verbs.command(epilog=example("gateway export --format parquet --since 7d --out chats.parquet"))
@grouped
def export(
    output: _Output,
    selected: SelectedCalls,
    preferences: _Preferences,
    store: StoreOptions,
    limit: Annotated[int, typer.Option(min=0, help="At most this many calls, oldest first; 0: all.")] = 0,
) -> None:
    """Write recorded calls, with their scores, to a file.

    jsonl, csv and parquet have the columns messages, response, score_NAME, … and pi, the probability with which a call
    was recorded: weight by 1 / pi. openai-chat is for fine-tuning, openai-evals for evals; both use a person's
    correction instead of the answer, if there is one. dpo has the answers of a pair as prompt, chosen and rejected.
    runs has one run on each line, with its calls in order; otlp has it as a trace, with the run as the parent span.
    `gateway follow` writes calls as they arrive.
    """
    if output.form in ("runs", "otlp"):
        _export_runs(output, selected, store.location().store, limit)
        return
    form, rule = _form(output), _rule(preferences)
    if (preferences.by or preferences.gap) and form != "dpo":
        hint = "--by" if preferences.by else "--gap"
        raise typer.BadParameter("only the form dpo compares answers", param_hint=hint)
    url = store.location().store
    with usage_errors():
        done = _write(url, selected.filter(limit), form, output.out, rule)
    where = "" if output.out is None else f" in {output.out}"
    note(f"{done.written} {'preferences' if form == 'dpo' else 'exchanges'}{where}")
    if form == "dpo" and not done.written:
        words = ", ".join(rule.by)
        note(f"no preference: no selected call has two answers that {words} distinguishes; shadow an experiment,")
        note("label its pairs (gateway label next), or decide by a scorer (--by NAME)")
    for reason, n in sorted(done.left_out.items()):
        note(f"{n} left out: {reason}")


def _export_runs(output: _Output, selected: SelectedCalls, url: str, limit: int) -> None:
    from gateway.core.complete_file import complete_file
    from gateway.features.runs.export import RunForm, export_runs

    form: RunForm = "otlp" if output.form == "otlp" else "runs"
    with usage_errors(), progress("export") as shown:
        chosen = selected.filter(limit)
        if output.out is None:
            done = export_runs(url, chosen, form, sys.stdout.buffer, shown)
        else:
            with complete_file(output.out) as file:
                done = export_runs(url, chosen, form, file, shown)
    note(f"{done} runs" if output.out is None else f"{done} runs in {output.out}")


def _form(output: _Output) -> Form:
    from gateway.features.calls.exports.export import FORMS as KNOWN
    from gateway.features.calls.exports.export import form_of

    form = form_of(output.out) if output.form is None else next((each for each in KNOWN if each == output.form), None)
    if form is None:
        expected = ", ".join(FORMS)
        raise typer.BadParameter(f'no form "{output.form}"; expected one of {expected}', param_hint="--format")
    if form == "parquet" and output.out is None:
        raise typer.BadParameter("parquet is binary: give a file", param_hint="--out")
    return form


def _rule(preferences: _Preferences) -> PreferenceRule:
    from gateway.features.calls.rows.export import DEFAULT, PreferenceRule

    names = DEFAULT if not preferences.by else tuple(word.strip() for word in preferences.by.split(","))
    return PreferenceRule(names, preferences.gap)


def _write(url: str, filter: ExchangeFilter, form: Form, out: Path | None, rule: PreferenceRule) -> ExportResult:
    from gateway.core.complete_file import complete_file
    from gateway.features.calls.exports.export import export as exported

    with progress("export") as show:
        if out is None:
            return exported(url, filter, form, sys.stdout.buffer, show, rule)
        with complete_file(out) as file:
            return exported(url, filter, form, file, show, rule)


@dataclass(frozen=True, slots=True)
class _Files:
    form: Annotated[str, typer.Option("--format", help="jsonl or parquet.")] = "jsonl"
    rotate_mb: Annotated[int, typer.Option(min=1, help="A file is complete at this size.")] = 128
    rotate_s: Annotated[float, typer.Option(min=1, help="A file is complete at this age, in seconds.")] = 300


@verbs.command(epilog=example("gateway follow /var/lib/gateway/export --format parquet"))
@grouped
def follow(
    directory: Annotated[Path, typer.Argument(file_okay=False, help="Directory for the files.")],
    files: _Files,
    selected: SelectedCalls,
    store: StoreOptions,
    settle_s: Annotated[
        float, typer.Option(min=0, help="PostgreSQL: by how much the consumers' clocks may differ.")
    ] = 30,
) -> None:
    """Write recorded calls to files in a directory as they arrive, until stopped.

    Each call is in exactly one complete file, with its scores and the columns of `gateway export`. Started again, it
    continues where it stopped. SIGINT and SIGTERM complete the file that is being written.
    """
    from gateway.features.calls.exports.follow import FileRotation
    from gateway.features.calls.exports.follow import follow as followed
    from gateway.features.calls.rows.export import FollowSource

    form, url = _follow_form(files.form), store.location().store
    rotation = FileRotation(files.rotate_mb * 1_000_000, files.rotate_s)
    with usage_errors():
        source = FollowSource(url, selected.filter(), settle_s)
        with closing(source):
            followed(source, directory, form, rotation, note, _stop_at_signals())


def _follow_form(name: str) -> FollowForm:
    known: dict[str, FollowForm] = {"jsonl": "jsonl", "parquet": "parquet"}
    if name not in known:
        raise typer.BadParameter(f'no form "{name}"; expected {" or ".join(known)}', param_hint="--format")
    return known[name]


def _stop_at_signals() -> threading.Event:
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    return stop


@verbs.command(epilog=example("gateway erase --user alice --yes"))
@grouped
def erase(
    store: StoreOptions,
    caller: Annotated[str | None, typer.Option(help="All calls of the key, or token, with this name.")] = None,
    user: Annotated[
        str | None, typer.Option(help="All calls for this end user (`x-gateway-user`, or `user` in the body).")
    ] = None,
    exchange: Annotated[str | None, typer.Option(help="The call with this id, its answer's x-request-id.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Erase; without it, only counts are shown.")] = False,
    as_json: AsJson = False,
) -> None:
    """Erase what is recorded of one caller, one end user or one call.

    Calls are deleted with their shadows, scores, feedback and labels, from the store, the stream and the dead letters.
    A call that an experiment depends on, or that is less than an hour old, keeps only its numbers. Exports, backups and
    providers' own logs are not reached. Exit code 1: further calls arrived meanwhile; run it again.
    """
    import asyncio

    from gateway.core.sanitize import to_json

    request = _request(caller, user, exchange)
    result = asyncio.run(_erase(store.whole(), request, yes=yes))
    counts = {what: n for what, n in result.counts.items() if n}
    if as_json:
        show(to_json({"erased": yes, "counts": counts, "audit": result.audit, "arrived": result.arrived}))
    else:
        typer.echo(", ".join(f"{n} {what}" for what, n in counts.items()) or "nothing is recorded")
    if not yes:
        note("dry run: nothing was erased; give --yes to erase")
        return
    note(f"erased {request.of} {request.digest} (a digest); audit line {result.audit}")
    for line in _left_in_the_stream_server(result.rewriting):
        note(line)
    note("not reached: files of `gateway export` and reports, backups, an OpenTelemetry collector, providers' own logs")
    if result.arrived:
        note(f"{result.arrived} calls arrived meanwhile; run the same command again")
        raise typer.Exit(1)


def _left_in_the_stream_server(rewriting: bool | None) -> Iterator[str]:
    if rewriting:
        yield "the stream server is rewriting its append-only file, which holds erased words until then"
    elif rewriting is not None:
        yield (
            "the stream server's append-only file holds erased words until it is rewritten, which the server refuses "
            "or had begun before: run BGREWRITEAOF there, or this command again in a minute"
        )


def _request(caller: str | None, user: str | None, exchange: str | None) -> ErasureRequest:
    from gateway.features.calls.rows.erase import ErasureRequest

    given = [(of, value) for of, value in (("caller", caller), ("user", user), ("exchange", exchange)) if value]
    if len(given) != 1:
        raise typer.BadParameter("give one of --caller, --user and --exchange", param_hint="--caller")
    of, value = given[0]
    return ErasureRequest(of, value)  # type: ignore[arg-type]


async def _erase(where: ReaderConfig, request: ErasureRequest, *, yes: bool) -> ErasureResult:
    """Raises CannotRun if the store or the stream server cannot be reached."""
    from gateway.core.errors import CannotRun, StreamDown
    from gateway.features.calls import erasure
    from gateway.store.store import Store, StoreDown
    from gateway.stream import Corridor

    corridor = Corridor.of(where.stream, where.url)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(corridor.aclose)
        try:
            if not yes:
                return await erasure.preview(where.store, corridor, request)
            store = await stack.enter_async_context(Store(where.store))
            with progress("erase") as watch:
                return await erasure.run(store, where.store, corridor, request, command_line(), watch)
        except (StreamDown, StoreDown) as error:
            raise CannotRun(f"{error}; nothing more was erased, and the same command continues") from error
