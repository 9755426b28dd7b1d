"""`gateway label` and `gateway judge`: people's verdicts, given blind, and the agreement of a scorer with them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.options import AsJson, StoreOptions, example, grouped, note, show

if TYPE_CHECKING:
    from gateway.features.labels.blind import LabelVerdict
    from gateway.features.labels.desk import Desk, DrawnItem, LabelRequest
    from gateway.features.labels.rows import Label
    from gateway.store.reader_config import StoreLocation

verbs = typer.Typer()
label = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
verbs.add_typer(
    label,
    name="label",
    help="Label answers yourself, blind; scorers are calibrated against these labels.",
    epilog=example("gateway label next --scorer helpful"),
)


@dataclass(frozen=True, slots=True)
class _Labelled:
    """Subject of the labels: the answers of a scorer, or the calls that a guard judged."""

    scorer: Annotated[str | None, typer.Option(help="Scorer whose answers are labelled.")] = None
    guard: Annotated[
        str | None, typer.Option(help="Guard whose calls are labelled: hits, near ones, and the rest.")
    ] = None

    @property
    def name(self) -> str:
        """The name under which labels are stored. Raises BadParameter."""
        from gateway.features.labels.rows import OF_GUARD

        if (self.scorer is None) == (self.guard is None):
            given = "neither was given" if self.scorer is None else "both were given"
            raise typer.BadParameter(f"name a scorer or a guard; {given}", param_hint="--scorer or --guard")
        return self.scorer if self.scorer is not None else f"{OF_GUARD}{self.guard}"

    @property
    def named(self) -> bool:
        return self.scorer is not None or self.guard is not None

    @property
    def evaluated_by(self) -> str:
        """The command that evaluates the labels."""
        return f"gateway judge calibrate {self.scorer}" if self.scorer is not None else f"gateway guards {self.guard}"


@dataclass(frozen=True, slots=True)
class _Drawing:
    """The items that are drawn, and the person who labels them."""

    experiment: Annotated[str, typer.Option(help="Only answers of this experiment.")] = ""
    favour: Annotated[
        float | None,
        typer.Option(
            min=0.01,
            max=100,
            help="Draw low-scored answers, or calls with a hit, this many times as often (weighted; default: 1; for a "
            "guard, the factor that gives half of the labels to hits and near ones).",
        ),
    ] = None
    labeller: Annotated[str, typer.Option("--as", help="Name of the labeller (default: the user name).")] = ""
    imported: Annotated[bool, typer.Option("--imported", help="Only answers of imported calls.")] = False

    def request(self, scorer: str, location: StoreLocation, *, again: bool = False) -> LabelRequest:
        from gateway.features.labels.desk import LabelRequest, picked_question

        question, who = picked_question(scorer, location.scorers.get(scorer)), _who(self.labeller)
        return LabelRequest(scorer, who, self.experiment, self.favour, again, self.imported, question)


@label.command("next", epilog=example("gateway label next --scorer helpful"))
@grouped
def next_(
    labelled: _Labelled,
    drawing: _Drawing,
    store: StoreOptions,
    count: Annotated[int, typer.Option(min=1, help="Stop after this many labels.")] = 20,
    again: Annotated[bool, typer.Option(help="Show items that others have labelled, to measure agreement.")] = False,
) -> None:
    """Show scored answers, pairs or guarded calls one by one, blind, and record a verdict on each.

    Items are drawn with known probability, so that few labels correct the scorer's mean. Stop and resume at any time.
    On a terminal, one key is a verdict, without Enter; `u` takes the last one back.
    """
    from gateway.features.labels.desk import next_item, open_desk

    location = store.location()
    request = drawing.request(labelled.name, location, again=again)
    desk = open_desk(location.store, request)
    note(f"{desk.judged} scored, {desk.left} of them open for {request.labeller}")
    given: list[Label] = []
    total = min(count, desk.left)
    while len(given) < count:
        drawn = next_item(location.store, desk)
        if drawn is None:
            note("nothing is left to label")
            return
        note(f"\n{len(given) + 1} of {max(total, len(given) + 1)}")
        if not _labelled(location, request, desk, drawn, given):
            note(f"stopped after {len(given)}; run the command again to continue")
            return
    note(f"{count} done; `{labelled.evaluated_by}` evaluates them")


@label.command("import", epilog=example("gateway label import filled.csv --scorer helpful --as ada"))
@grouped
def import_(
    sheet: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="CSV or JSONL with id and verdict.")],
    labelled: _Labelled,
    drawing: _Drawing,
    store: StoreOptions,
    share: Annotated[
        float | None, typer.Option(help="The sheet is a simple random sample of this share of all scored items.")
    ] = None,
) -> None:
    """Import the verdicts of a sheet: one that `export --next` wrote, or your own.

    Labels correct means only if it is known how the items were drawn: in order, without gaps, or by --share.
    """
    from gateway.features.labels.desk import import_labels

    location = store.location()
    try:
        labels, past_gap = import_labels(location.store, sheet, drawing.request(labelled.name, location), share)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--share") from error
    note(f"{len(labels)} labels imported; `{labelled.evaluated_by}` evaluates them")
    if past_gap:
        note(
            f"{past_gap} of them do not correct means: in the order of the draw, an item without a verdict comes "
            "before them. Fill it in and import the sheet again, or say with --share which random sample the sheet is"
        )


@label.command("export", epilog=example("gateway label export to-fill.csv --scorer helpful --next 100"))
@grouped
def export(
    labelled: _Labelled,
    drawing: _Drawing,
    store: StoreOptions,
    sheet: Annotated[
        Path | None, typer.Argument(dir_okay=False, help="Output file, .csv or .jsonl (default: CSV to stdout).")
    ] = None,
    next_: Annotated[
        int | None, typer.Option("--next", min=1, help="Write a blind sheet of this many items, to fill in and import.")
    ] = None,
) -> None:
    """Write labels (default: all) with the scorer's scores; or, with --next, a blind sheet to fill in."""
    from gateway.core.complete_file import write_private
    from gateway.features.labels.blind import form_of
    from gateway.features.labels.desk import export_blind_sheet, export_labels

    location, form = store.location(), form_of(sheet)
    url = location.store
    if next_ is not None and not labelled.named:
        raise typer.BadParameter("name the scorer with --scorer, or the guard with --guard", param_hint="--next")
    if next_ is None:
        text = export_labels(url, labelled.name if labelled.named else None, form)
    else:
        text = export_blind_sheet(url, drawing.request(labelled.name, location), next_, form)
    if sheet is None:
        typer.echo(text, nl=False)
    else:
        write_private(sheet, text)
        note(f"wrote {sheet}")


def _labelled(location: StoreLocation, request: LabelRequest, desk: Desk, drawn: DrawnItem, given: list[Label]) -> bool:
    """Shows an item, and records the verdict in `given` and in the store, or takes back the last one. False if the
    labeller stopped."""
    from gateway.features.labels.blind import to_terminal
    from gateway.features.labels.desk import criterion_of, save_labels, undo_label

    show(to_terminal(drawn.blind, criterion_of(request.scorer, location.scorers.get(request.scorer))))
    verdict = _verdict(desk, drawn, undo=bool(given))
    if verdict is None:
        undo_label(location.store, desk, given.pop())
        note("the last verdict is taken back")
        return True
    if verdict.stop:
        return False
    label = desk.label(drawn, verdict)
    save_labels(location.store, [label])
    given.append(label)
    return True


def _verdict(desk: Desk, drawn: DrawnItem, *, undo: bool) -> LabelVerdict | None:
    """Prompts until the input is a verdict, or ends, which stops. undo: there is a verdict to take back. None: take it
    back."""
    from gateway.features.labels.blind import HELP, PICK_HELP, LabelVerdict, pick_keys

    item = drawn.blind
    help_text = (PICK_HELP if item.options else HELP[desk.scorer.subject]) + (" · u undo" if undo else "")
    keys = pick_keys(item.options) + "squ" if item.options else _KEYS[desk.scorer.subject]
    while True:
        try:
            text = _typed(help_text, keys)
        except typer.Abort:
            return LabelVerdict(None, stop=True)
        if text.strip().lower() in _UNDO:
            if undo:
                return None
            note("there is no verdict of this run to undo")
            continue
        try:
            return desk.read_verdict(text, item, swapped=item.swapped)
        except ValueError as error:
            note(str(error))


_KEYS = {"exchange": "gbsqu", "pair": "12tsqu"}
_UNDO = ("u", "undo")


def _typed(help_text: str, keys: str) -> str:
    """Reads the typed verdict: one of the keys, which need no Enter on a terminal, or a line. Raises typer.Abort."""
    import sys

    if not sys.stdin.isatty():
        return str(typer.prompt(f"\n{help_text}\n", prompt_suffix="> ", err=True))
    note(f"\n{help_text}; Enter: a line, for a number or a comment")
    typer.echo("> ", nl=False, err=True)
    try:
        key = typer.getchar()
    except (KeyboardInterrupt, EOFError):
        raise typer.Abort() from None
    if key.lower() in keys and key:
        note(key)
        return key
    return str(typer.prompt("line", prompt_suffix=": ", default="", show_default=False, err=True))


def _who(labeller: str) -> str:
    import getpass

    try:
        return labeller or getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in some containers
        return "unknown"


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
@grouped
def calibrate(
    scorer: Annotated[str, typer.Argument(help="Name of the scorer in gateway.yaml.")],
    store: StoreOptions,
    experiment: Annotated[str | None, typer.Option(help="Only answers of this experiment.")] = None,
    cut: Annotated[float, typer.Option(min=0, max=1, help="Score from which an answer counts as good.")] = 0.5,
    half_width: Annotated[
        float, typer.Option(min=1e-4, max=0.5, help="Wanted half-width of the corrected mean's interval.")
    ] = 0.05,
    alpha: Annotated[float, typer.Option(min=1e-6, max=0.5, help="Error probability of each interval.")] = 0.05,
    probability: Annotated[
        bool, typer.Option("--probability", help="Also ask whether the score is true as a probability.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compare a scorer's verdicts with people's labels (`gateway label next`).

    Prints kappa, both error rates, the position bias of a pairwise judge, and means corrected by the labels, with
    intervals.
    """
    from gateway.core.sanitize import to_json
    from gateway.features.decisions.work import truth_of
    from gateway.features.labels.calibration import CalibrationOptions, read
    from gateway.features.labels.report import to_dict, to_terminal
    from gateway.features.labels.rows import guard_of
    from gateway.store.query import reading

    if (guard := guard_of(scorer)) is not None:
        raise typer.BadParameter(f"{guard} is a guard; `gateway guards {guard}` evaluates its labels")
    url = store.location().store
    found = read(url, CalibrationOptions(scorer, experiment, cut, half_width, alpha))
    with reading(url) as connection:
        truth = truth_of(connection, scorer) if probability else None
    show(to_json(to_dict(found, truth)) if as_json else to_terminal(found, truth))


@judge.command("compare", epilog=example("gateway judge compare helpful helpful_decision"))
@grouped
def compare(
    first: Annotated[str, typer.Argument(help="Name of the judge in use.")],
    second: Annotated[str, typer.Argument(help="Name of the judge that is to replace it.")],
    store: StoreOptions,
    margin: Annotated[
        float, typer.Option(min=1e-4, max=0.5, help="Largest increase of the mean squared distance to people.")
    ] = 0.02,
    shift: Annotated[
        float, typer.Option(min=1e-4, max=0.5, help="Largest shift of one target's scores against the others'.")
    ] = 0.05,
    alpha: Annotated[float, typer.Option(min=1e-6, max=0.5, help="Error probability of each interval.")] = 0.05,
    as_json: AsJson = False,
) -> None:
    """Say whether a cheaper judge may replace another, by people's labels and answers that both have scored.

    Prints both distances to people, biases, prices, and the pairs that a verdict takes with each. Every look is valid.
    """
    from gateway.core.sanitize import to_json
    from gateway.features.labels.judge_comparison.model import ComparisonOptions
    from gateway.features.labels.judge_comparison.report import to_dict, to_terminal
    from gateway.features.labels.judge_comparison.work import comparison
    from gateway.features.labels.rows import guard_of
    from gateway.store.query import reading

    for name in (first, second):
        if (guard := guard_of(name)) is not None:
            raise typer.BadParameter(f"{guard} is a guard; `gateway guards {guard}` evaluates its labels")
    with reading(store.location().store) as connection:
        result = comparison(connection, ComparisonOptions(first, second, margin, shift, alpha))
    show(to_json(to_dict(result)) if as_json else to_terminal(result))
