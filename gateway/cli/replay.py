"""`gateway replay`: a dataset asked of several targets, scored and compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from gateway.cli.common import AsJson, Data, File, example, note, show

if TYPE_CHECKING:
    from gateway.evals.replay.asked import Asked
    from gateway.evals.replay.gateways import Place
    from gateway.evals.replay.run import Progress

T = TypeVar("T")
verbs = typer.Typer()


@verbs.command(epilog=example("gateway replay questions.csv --targets chat,local/smollm2 --scorers exact,rouge_l"))
def replay(
    dataset: Annotated[
        Path | None, typer.Argument(dir_okay=False, help="CSV with examples,ground_truth; JSONL; Parquet.")
    ] = None,
    targets: Annotated[str, typer.Option(help="Model names or UPSTREAM/MODEL, with commas; the first: control.")] = "",
    scorers: Annotated[str, typer.Option(help="With commas; left out: those that fit the dataset.")] = "",
    repeats: Annotated[int, typer.Option(min=1, max=1000, help="How often each row is asked.")] = 1,
    primary: Annotated[str | None, typer.Option(help="The scorer that decides; left out: the first.")] = None,
    margin: Annotated[float, typer.Option(min=0, help="What of it may be lost.")] = 0.02,
    guard: Annotated[list[str] | None, typer.Option(help="METRIC=MARGIN: a further guardrail.")] = None,
    alpha: Annotated[float, typer.Option(min=1e-6, max=0.5, help="The error allowed, all candidates together.")] = 0.05,
    name: Annotated[str | None, typer.Option(help="Of this replay; left out: made of what is asked.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many rows.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="NAME=VALUE in every request: temperature=0.")] = None,
    system: Annotated[str | None, typer.Option(help="A system message, in place of the rows' own.")] = None,
    seed: Annotated[int, typer.Option(help="Of the first repeat, where upstreams take one; -1: none.")] = 0,
    rate: Annotated[float | None, typer.Option(min=0.001, help="Requests a second, at most.")] = None,
    concurrency: Annotated[int, typer.Option(min=1, max=1000, help="Requests at once.")] = 8,
    deadline: Annotated[float, typer.Option(min=0.1, help="Seconds for one answer.")] = 300.0,
    stop_after: Annotated[int, typer.Option(min=1, help="Failures of one target in a row that end it.")] = 20,
    as_reference: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Write DATASET.with-references.jsonl with this one's answers.")
    ] = None,
    from_log: Annotated[
        str | None, typer.Option(metavar="WORDS", help='Freeze logged traffic first: "alias=chat since=7d".')
    ] = None,
    gateway: Annotated[str | None, typer.Option(help="URL of one that runs; left out: one is started.")] = None,
    as_json: AsJson = False,
    html: Annotated[Path | None, typer.Option(dir_okay=False, help="Write the report as a page.")] = None,
    config: Annotated[Path, File] = Path("gateway.yaml"),
    data: Data = None,
) -> None:
    """Ask a dataset of several targets, and compare.

    Each row is asked of every target, and what is answered is stored: stopped in whatever way, the same command goes on
    where it was, with the same result.
    """
    import asyncio

    from gateway.evals.replay.asked import Asked
    from gateway.evals.replay.asking import Pace
    from gateway.evals.replay.design import Settings, setting

    place = _place(config, data, gateway)
    fields = tuple(_each(setting, set_ or [], "--set"))
    asked = Asked(
        targets=(as_reference,) if as_reference else _words(targets), scorers=_words(scorers), repeats=repeats,
        primary=primary, margin=margin, alpha=alpha, guardrails=tuple(_each(_guardrail, guard or [], "--guard")),
        name=name, limit=limit, settings=Settings(fields, system, None if seed < 0 else seed),
        pace=Pace(concurrency, rate, deadline, stop_after=stop_after), command=_typed(),
    )  # fmt: skip
    if from_log is not None:
        dataset = _frozen(from_log, dataset, place)
        if not asked.targets:
            return
    if dataset is None or not dataset.is_file():
        raise typer.BadParameter(f"no file {dataset}" if dataset else "give a file, or --from-log", param_hint="DATASET")
    if not asked.targets:
        raise typer.BadParameter("give at least one target, or --as-reference MODEL", param_hint="--targets")
    asyncio.run(_written(dataset, asked, place) if as_reference else _compared(dataset, asked, place, as_json, html))


async def _compared(dataset: Path, asked: Asked, place: Place, as_json: bool, html: Path | None) -> None:
    from gateway.evals.plain import to_json
    from gateway.evals.replay.page import page, pages, to_dict
    from gateway.evals.replay.replay import replay

    read = _scanned(dataset)
    with _log(place), _watching() as watch:
        found = await replay(read, asked, place, note, watch)
    if html is not None:
        for path, text in pages(found, html):
            path.write_text(text, encoding="utf-8")
            note(f"wrote {path}")
    show(to_json(to_dict(found)) if as_json else page(found))


async def _written(dataset: Path, asked: Asked, place: Place) -> None:
    from gateway.evals.replay.references import write_references

    read = _scanned(dataset)
    with _log(place), _watching() as watch:
        path = await write_references(read, asked, place, note, watch)
    note(f"wrote {path}")


def _frozen(words: str, path: Path | None, place: Place) -> Path:
    from gateway.evals.replay.snapshot import freeze, wish

    try:
        wanted = wish(words)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--from-log") from error
    made = freeze(wanted, place, path)
    for line in made.said:
        note(line)
    return made.path


def _place(config: Path, data: Path | None, gateway: str | None) -> Place:
    from gateway.config import data_directory, load
    from gateway.evals.replay.gateways import Place

    return Place(config, load(config), data_directory(data), gateway)


def _scanned(path: Path) -> Any:
    from gateway.evals.replay.datasets import scan

    read = scan(path)
    said = [f"{read.rows} rows", f"{read.references} with a reference"]
    said += [f"{read.blank} blank ones passed over"] if read.blank else []
    said += [f"not used: {', '.join(read.ignored[:8])}"] if read.ignored else []
    note(f"{path}: {', '.join(said)}")
    return read


@contextmanager
def _watching() -> Iterator[Callable[[Progress], None]]:
    """A bar on a terminal, and else a line for each tenth."""
    import sys

    from rich.console import Console

    from gateway.evals.replay.progress import bar, every

    if sys.stderr.isatty():
        with bar(Console(stderr=True)) as watch:
            yield watch
    else:
        yield every(note)


@contextmanager
def _log(place: Place) -> Iterator[None]:
    """What the gateway of the replay says goes to a file, and on the terminal stands only the replay."""
    from gateway.evals.replay.log import to_file

    with to_file(place.data / "replay.log"):
        yield


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _each(read: Callable[[str], T], words: Sequence[str], hint: str) -> list[T]:
    try:
        return [read(word) for word in words]
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=hint) from error


def _guardrail(word: str) -> Any:
    from gateway.experiment import Guardrail

    metric, _, margin = word.partition("=")
    try:
        return Guardrail(metric, abs(float(margin)))
    except ValueError:
        raise ValueError(f"{word!r}: expected METRIC=MARGIN, as in error_rate=0.01") from None


def _typed() -> str:
    import shlex
    import sys

    return shlex.join(["gateway", *sys.argv[1:]])
