"""`gateway label`: people's verdicts, blind, one by one or as a sheet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.options import Data, MaybeConfig, example, note, show, where_to_read

if TYPE_CHECKING:
    from gateway.evals.annotation.blind import LabelVerdict
    from gateway.evals.annotation.desk import Desk, DrawnItem, LabelRequest
    from gateway.evals.reader_config import StoreLocation

verbs = typer.Typer()
label = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
verbs.add_typer(
    label,
    name="label",
    help="Judge answers yourself, blind: what scorers are calibrated against.",
    epilog=example("gateway label next --scorer helpful"),
)

Scorer = Annotated[str, typer.Option(help="Whose answers to label: a name of the `scorers` section.")]
Experiment = Annotated[str, typer.Option(help="Only what this experiment asked.")]
Favour = Annotated[
    float, typer.Option(min=0.01, max=100, help="Draw what the scorer calls bad so much more often; it is weighed for.")
]  # fmt: skip
Labeller = Annotated[str, typer.Option("--as", help="Who labels; left out: the user of this machine.")]


@label.command("next", epilog=example("gateway label next --scorer helpful"))
def next_(
    scorer: Scorer,
    experiment: Experiment = "",
    favour: Favour = 1.0,
    count: Annotated[int, typer.Option(min=1, help="Stop after so many.")] = 20,
    again: Annotated[bool, typer.Option(help="What others have labelled: to see how far people agree.")] = False,
    labeller: Labeller = "",
    config: MaybeConfig = None,
    data: Data = None,
) -> None:
    """Show answers (or pairs) that a scorer judged, blind, and take a verdict on each.

    They are drawn with known probability, so that few labels correct the scorer's mean. Stop and go on at any time.
    """
    from gateway.evals.annotation.desk import LabelRequest, next_item, open_desk

    asked = where_to_read(config, data)
    wish = LabelRequest(scorer, _who(labeller), experiment, favour, again)
    desk = open_desk(asked.store, wish)
    note(f"{desk.judged} judged, {desk.left} of them open to {wish.labeller}")
    for done in range(count):
        drawn = next_item(asked.store, desk)
        if drawn is None:
            note("nothing is left to label")
            return
        if not _labelled(asked, wish, desk, drawn):
            note(f"stopped after {done}; the next time goes on from here")
            return
    note(f"{count} done; `gateway judge calibrate {scorer}` says what they tell")


@label.command("import", epilog=example("gateway label import filled.csv --scorer helpful --as ada"))
def import_(
    sheet: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="CSV or JSONL with id and verdict.")],
    scorer: Scorer,
    experiment: Experiment = "",
    favour: Favour = 1.0,
    share: Annotated[
        float | None, typer.Option(help="The sheet is a plain random draw of this share of all that was judged.")
    ] = None,
    labeller: Labeller = "",
    config: MaybeConfig = None,
    data: Data = None,
) -> None:
    """Take the verdicts of a sheet: one that `export --next` wrote, or one of your own.

    Labels count for corrected means where it is known how items were drawn: in order, without gaps, or by --share.
    """
    from gateway.evals.annotation.desk import LabelRequest, import_labels

    wish = LabelRequest(scorer, _who(labeller), experiment, favour)
    try:
        labels = import_labels(where_to_read(config, data).store, sheet, wish, share)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--share") from error
    note(f"{len(labels)} labels taken; `gateway judge calibrate {scorer}` says what they tell")


@label.command("export", epilog=example("gateway label export to-fill.csv --scorer helpful --next 100"))
def export(
    sheet: Annotated[Path | None, typer.Argument(dir_okay=False, help="CSV, or .jsonl; left out: CSV here.")] = None,
    scorer: Annotated[str | None, typer.Option(help="Of one scorer; left out: all labels.")] = None,
    next_: Annotated[
        int | None, typer.Option("--next", min=1, help="A blind sheet of so many, to be filled and imported.")
    ] = None,
    experiment: Experiment = "",
    favour: Favour = 1.0,
    labeller: Labeller = "",
    config: MaybeConfig = None,
    data: Data = None,
) -> None:
    """Write labels that were given, each beside what the scorer said; or, with --next, a sheet for others to fill."""
    from gateway.evals.annotation.desk import LabelRequest, export_blind_sheet, export_labels
    from gateway.evals.annotation.sheets import form_of

    store = where_to_read(config, data).store
    if next_ is not None and scorer is None:
        raise typer.BadParameter("say whose answers, with --scorer", param_hint="--next")
    if next_ is not None and scorer is not None:
        text = export_blind_sheet(
            store, LabelRequest(scorer, _who(labeller), experiment, favour), next_, form_of(sheet)
        )
    else:
        text = export_labels(store, scorer, form_of(sheet))
    if sheet is None:
        typer.echo(text, nl=False)
    else:
        sheet.write_text(text, encoding="utf-8")
        note(f"wrote {sheet}")


def _labelled(asked: StoreLocation, wish: LabelRequest, desk: Desk, drawn: DrawnItem) -> bool:
    """Whether a verdict came; False: the labeller stops."""
    from gateway.evals.annotation.blind import to_terminal
    from gateway.evals.annotation.desk import save_labels

    section = asked.scorers.get(wish.scorer)
    criterion = section.options.get("criterion") if section else None
    show(to_terminal(drawn.blind, criterion if isinstance(criterion, str) else None))
    said = _verdict(desk, drawn)
    if said.stop:
        return False
    save_labels(asked.store, [desk.label(drawn, said)])
    return True


def _verdict(desk: Desk, drawn: DrawnItem) -> LabelVerdict:
    """Asks until it is one; the end of the input stops."""
    from gateway.evals.annotation.blind import HELP, LabelVerdict, parse_verdict

    while True:
        try:
            text = typer.prompt(f"\n{HELP[desk.scorer.subject]}\n", prompt_suffix="> ", err=True)
        except typer.Abort:
            return LabelVerdict(None, stop=True)
        try:
            return parse_verdict(text, desk.scorer.subject, swapped=drawn.blind.swapped)
        except ValueError as error:
            note(str(error))


def _who(labeller: str) -> str:
    import getpass

    try:
        return labeller or getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in some containers
        return "somebody"
