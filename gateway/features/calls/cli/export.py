"""`gateway export`: recorded calls, for other programs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.option_groups import grouped
from gateway.cli.options import Alias, Data, MaybeConfig, Since, Where, example, note, usage_errors, where_to_read

if TYPE_CHECKING:
    from gateway.features.calls.export import ExportResult
    from gateway.features.calls.export_formats import Form
    from gateway.features.calls.rows.preferences import PreferenceRule
    from gateway.store.query import ExchangeFilter

verbs = typer.Typer()
FORMS = ("jsonl", "openai-chat", "openai-evals", "dpo", "csv", "parquet")


@dataclass(frozen=True, slots=True)
class _Output:
    form: Annotated[
        str | None, typer.Option("--format", help=f"{', '.join(FORMS)}; default: by the name of --out, else jsonl.")
    ] = None
    out: Annotated[Path | None, typer.Option(dir_okay=False, help="Output file (default: stdout).")] = None


@dataclass(frozen=True, slots=True)
class SelectedCalls:
    """Which calls are written. Values of None do not narrow the selection."""

    where: Where = None
    since: Since = None
    alias: Alias = None


@dataclass(frozen=True, slots=True)
class _Preferences:
    """What decides between two answers, in the form dpo."""

    by: Annotated[
        str | None,
        typer.Option(
            help="dpo: what decides: correction, label, judges, or names of scorers (default: the first three)."
        ),
    ] = None
    gap: Annotated[float, typer.Option(min=0, help="dpo: the smallest difference of two scores.")] = 0.0


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """Where the store is."""

    config: MaybeConfig = None
    data: Data = None


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
    `gateway follow` writes calls as they arrive.
    """
    from gateway.features.calls.samples import filter_of

    form, rule = _form(output), _rule(preferences)
    if (preferences.by or preferences.gap) and form != "dpo":
        hint = "--by" if preferences.by else "--gap"
        raise typer.BadParameter("only the form dpo compares answers", param_hint=hint)
    url = where_to_read(store.config, store.data).store
    with usage_errors():
        done = _write(url, filter_of(limit, selected.alias, selected.since, selected.where), form, output.out, rule)
    where = "" if output.out is None else f" in {output.out}"
    note(f"{done.written} {'preferences' if form == 'dpo' else 'exchanges'}{where}")
    if form == "dpo" and not done.written:
        words = ", ".join(rule.by)
        note(
            f"no preference: of the selected calls none has two answers that {words} tells apart; shadow an experiment,"
        )
        note("label its pairs (gateway label next), or decide by a scorer (--by NAME)")
    for reason, n in sorted(done.left_out.items()):
        note(f"{n} left out: {reason}")


def _form(output: _Output) -> Form:
    from gateway.features.calls.export import form_of
    from gateway.features.calls.export_formats import FORMS as KNOWN

    form = form_of(output.out) if output.form is None else next((each for each in KNOWN if each == output.form), None)
    if form is None:
        expected = ", ".join(FORMS)
        raise typer.BadParameter(f'no form "{output.form}"; expected one of {expected}', param_hint="--format")
    if form == "parquet" and output.out is None:
        raise typer.BadParameter("parquet is binary: give a file", param_hint="--out")
    return form


def _rule(preferences: _Preferences) -> PreferenceRule:
    from gateway.features.calls.rows.preferences import DEFAULT, PreferenceRule

    names = DEFAULT if not preferences.by else tuple(word.strip() for word in preferences.by.split(","))
    return PreferenceRule(names, preferences.gap)


def _write(url: str, filter: ExchangeFilter, form: Form, out: Path | None, rule: PreferenceRule) -> ExportResult:
    from gateway.features.calls.export import complete_file
    from gateway.features.calls.export import export as exported

    with progress() as show:
        if out is None:
            return exported(url, filter, form, sys.stdout.buffer, show, rule)
        with complete_file(out) as file:
            return exported(url, filter, form, file, show, rule)


@contextmanager
def progress(name: str = "export") -> Iterator[Callable[[int, int], None]]:
    """A progress bar if stderr is a terminal."""
    if not sys.stderr.isatty():
        yield lambda done, of: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as drawn:
        task = drawn.add_task(name, total=None)
        yield lambda done, of: drawn.update(task, completed=done, total=of)
