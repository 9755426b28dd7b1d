"""`gateway compare`: scores of several models on the same items, from files, and one verdict."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from gateway.cli.options import INCONCLUSIVE, AsJson, example, grouped, inconclusive_on_error, note, show

if TYPE_CHECKING:
    from gateway.features.compare.scores import ScoreOptions
    from gateway.verdict.items.models import ScoreComparison, VerdictTerms

verbs = typer.Typer()
REJECT, WRONG_USAGE = 1, 64
_USAGE_ERROR: Any = typer.BadParameter.__base__  # click's, which typer has under no name of its own


class VerdictCommand(TyperCommand):
    """A command whose exit code 2 is a verdict: wrong usage exits with 64, EX_USAGE of sysexits.h.

    It takes its options as text, without typer's conversion, which imports pydantic: longer than the comparison takes.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        given, _, _ = self.make_parser(ctx).parse_args(args=list(args))
        if given.get("help") or ctx.resilient_parsing:
            return super().parse_args(ctx, args)
        ctx.params = {name: value for name, value in given.items() if value or isinstance(value, str)}
        return []

    def make_context(self, *arguments: Any, **more: Any) -> Any:
        with _usage():
            return super().make_context(*arguments, **more)

    def invoke(self, ctx: Any) -> Any:
        with _usage():
            return super().invoke(ctx)


@contextmanager
def _usage() -> Iterator[None]:
    try:
        yield
    except _USAGE_ERROR as error:
        error.exit_code = WRONG_USAGE
        raise


@dataclass(frozen=True, slots=True)
class _ScoreColumns:
    id: Annotated[str | None, typer.Option(help="Column by which items are paired (default: a usual name).")] = None
    score: Annotated[
        str | None, typer.Option(help="Column of the score, or a score's name (default: a usual name).")
    ] = None
    cluster: Annotated[
        str | None,
        typer.Option(
            help="Column that says which items belong together, such as a document (default: items are independent)."
        ),
    ] = None
    scale: Annotated[
        str | None, typer.Option("--range", metavar="LOW,HIGH", help="Lowest and highest possible score.")
    ] = None
    missing: Annotated[
        str, typer.Option(metavar="NUMBER|drop|fail", help="What an item without a score counts as.")
    ] = "fail"


@dataclass(frozen=True, slots=True)
class _VerdictOptions:
    """The terms of the verdict, as text."""

    margin: Annotated[
        str, typer.Option(metavar="NUMBER", help="Largest acceptable loss, in the unit of the score.")
    ] = "0.02"
    alpha: Annotated[
        str, typer.Option(metavar="NUMBER", help="Probability of a wrong verdict, over all pairs of models.")
    ] = "0.05"
    lower_is_better: Annotated[bool, typer.Option("--lower-is-better", help="A lower score is better.")] = False


@dataclass(frozen=True, slots=True)
class _ComparisonOutput:
    as_json: AsJson = False
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown, for a pull request.")] = False
    html: Annotated[str | None, typer.Option(metavar="FILE", help="Also write the report to this HTML file.")] = None


@verbs.command(cls=VerdictCommand, epilog=example("gateway compare old.csv new.csv --score accuracy --margin 0.02"))
@grouped
def compare(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE FILE…",
            help="Scores of each model: CSV, JSONL, Parquet, JSON of Langfuse or Opik, results of lm-eval or their "
            "directory, inspect logs.",
        ),
    ],
    columns: _ScoreColumns,
    terms: _VerdictOptions,
    output: _ComparisonOutput,
) -> None:
    """Compare the scores of files: one verdict with its interval.

    The first file is the control. Exit code 0: every other model ships; 1: one is rejected; 2: neither, or the files
    cannot be read; 64: wrong usage.
    """
    if output.as_json and output.markdown:
        raise typer.BadParameter("give --json or --markdown, not both", param_hint="--markdown")
    options, chosen = _options(columns), _terms(terms)
    paths = _checked(files)
    with inconclusive_on_error():
        found = _compared(paths, options, chosen)
        _show(found, output)
    raise typer.Exit({"ship": 0, "reject": REJECT, "hold": INCONCLUSIVE}[found.verdict])


def _options(columns: _ScoreColumns) -> ScoreOptions:
    from gateway.features.compare.scores import ScoreOptions

    return ScoreOptions(columns.id, columns.score, columns.cluster, _range(columns.scale), _missing(columns.missing))


def _terms(terms: _VerdictOptions) -> VerdictTerms:
    from gateway.verdict.items.models import VerdictTerms

    margin, alpha = _number(terms.margin, "--margin", 0.0), _number(terms.alpha, "--alpha", 1e-6, 0.5)
    return VerdictTerms(margin, alpha, terms.lower_is_better)


def _number(text: str, hint: str, low: float = -math.inf, high: float = math.inf) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if low <= value <= high and math.isfinite(value):
        return value
    least = "a number" if high == math.inf == -low else f"a number of at least {low:g}"
    expected = f"a number of {low:g} to {high:g}" if high < math.inf else least
    raise typer.BadParameter(f"{text!r}: expected {expected}", param_hint=hint)


def _range(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    low, comma, high = text.partition(",")
    try:
        found = float(low), float(high)
    except ValueError:
        found = 1.0, 0.0
    if not comma or not found[0] < found[1] or float("inf") in map(abs, found):
        raise typer.BadParameter(f"{text!r}: expected LOW,HIGH, as in 0,1 or 1,5", param_hint="--range")
    return found


def _missing(text: str) -> float | str:
    if text in ("drop", "fail"):
        return text
    try:
        return _number(text, "--missing")
    except typer.BadParameter:
        raise typer.BadParameter(f"{text!r}: expected a number, drop or fail", param_hint="--missing") from None


def _checked(files: list[str]) -> list[Path]:
    from gateway.features.compare.score_files import SUFFIXES

    paths = [_file_of(Path(file)) for file in files or ()]
    if len(paths) < 2:
        raise _wrong_file("give the scores of two models or more, one file each")
    if len({path.resolve() for path in paths}) < len(paths):
        raise _wrong_file("a file is given twice: a model is not compared with itself")
    for path in paths:
        if not path.is_file():
            raise _wrong_file(f"no file {path}")
        if path.suffix.lower() not in SUFFIXES:
            kind = path.suffix or "no suffix"
            raise _wrong_file(f"{path}: {kind} is not a format that is read; expected {', '.join(SUFFIXES)}")
    return paths


def _file_of(path: Path) -> Path:
    """The path itself; of a directory, the newest results that lm-eval has written there."""
    from gateway.core.errors import CannotRun
    from gateway.features.compare.lm_eval import newest_results

    if not path.is_dir():
        return path
    try:
        return newest_results(path)
    except CannotRun as error:
        raise _wrong_file(str(error)) from None


def _wrong_file(message: str) -> typer.BadParameter:
    return typer.BadParameter(message, param_hint="FILE")


def _compared(files: list[Path], options: ScoreOptions, terms: VerdictTerms) -> ScoreComparison:
    from gateway.features.compare.pairing import pair
    from gateway.features.compare.score_files import open_scores
    from gateway.features.compare.scores import WrongColumns, choose, read_scores
    from gateway.verdict.items.models import compare as compare_scores

    opened = [open_scores(path, options.wanted) for path in files]
    try:
        columns = choose(opened, options)
    except WrongColumns as error:
        raise typer.BadParameter(str(error), param_hint=error.option) from error
    name = columns.score.partition(",")[0]
    if not terms.lower_is_better and any(name in file.lower for file in opened):
        raise typer.BadParameter(f"lower is better of {name}: give --lower-is-better", param_hint="--score")
    models = [read_scores(file, columns, options) for file in opened]
    return compare_scores(pair(models, columns, options), terms)


def _show(found: ScoreComparison, output: _ComparisonOutput) -> None:
    from gateway.core.complete_file import write_private
    from gateway.core.sanitize import to_json
    from gateway.features.compare import report

    if output.html is not None:
        write_private(Path(output.html), report.to_html(found))
        note(f"wrote {output.html}")
    if output.as_json:
        show(to_json(report.to_dict(found)))
    elif output.markdown:
        show(report.to_markdown(found))
    else:
        show(report.to_terminal(found))
