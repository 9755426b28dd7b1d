"""`gateway replay`: a dataset asked of several targets, scored and compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from gateway.cli.option_groups import grouped
from gateway.cli.options import AsJson, Data, File, example, note, show

if TYPE_CHECKING:
    from gateway.core.plan import Guardrail
    from gateway.evals.replay.datasets import Dataset
    from gateway.evals.replay.gateway_choice import GatewayLocation
    from gateway.evals.replay.options import ReplayOptions
    from gateway.evals.replay.run import ReplayProgress

T = TypeVar("T")
verbs = typer.Typer()


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is asked of whom."""

    targets: Annotated[
        str, typer.Option(help="Model names or UPSTREAM/MODEL, with commas; the first is the control.")
    ] = ""
    scorers: Annotated[str, typer.Option(help="With commas; left out: those that fit the dataset.")] = ""
    repeats: Annotated[int, typer.Option(min=1, max=1000, help="How often each row is asked.")] = 1
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many rows.")] = None
    fields: Annotated[list[str] | None, typer.Option("--set", help="NAME=VALUE in all requests: temperature=0.")] = None
    system: Annotated[str | None, typer.Option(help="A system message, in place of the rows' own.")] = None
    seed: Annotated[int, typer.Option(help="Of the first repeat, where upstreams take one; -1: none.")] = 0


@dataclass(frozen=True, slots=True)
class _Decided:
    """What the verdict is about."""

    primary: Annotated[str | None, typer.Option(help="The scorer that decides; left out: the first.")] = None
    margin: Annotated[float, typer.Option(min=0, help="What of it may be lost.")] = 0.02
    guard: Annotated[list[str] | None, typer.Option(help="METRIC=MARGIN: a further guardrail.")] = None
    alpha: Annotated[float, typer.Option(min=1e-6, max=0.5, help="The error allowed, all candidates together.")] = 0.05


@dataclass(frozen=True, slots=True)
class _Paced:
    rate: Annotated[float | None, typer.Option(min=0.001, help="Requests a second, at most.")] = None
    concurrency: Annotated[int, typer.Option(min=1, max=1000, help="Requests at once.")] = 8
    deadline: Annotated[float, typer.Option(min=0.1, help="Seconds for one answer.")] = 300.0
    budget: Annotated[float | None, typer.Option(min=0, help="USD for answers: stops when they are spent.")] = None


@dataclass(frozen=True, slots=True)
class _Other:
    """What else may be done with a dataset, and where it comes from."""

    as_reference: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Write DATASET.with-references.jsonl, with its answers.")
    ] = None
    from_log: Annotated[
        str | None, typer.Option(metavar="ALIAS", help="Freeze recorded calls of ALIAS into DATASET first.")
    ] = None
    since: Annotated[str | None, typer.Option(help="Of --from-log, only so far back: 30m, 2h, 7d.")] = None


@dataclass(frozen=True, slots=True)
class _Where:
    gateway: Annotated[str | None, typer.Option(help="URL of one that runs; left out: one is started.")] = None
    config: Annotated[Path, File] = Path("gateway.yaml")
    data: Data = None


@verbs.command(epilog=example("gateway replay questions.csv --targets chat,local/smollm2 --scorers exact,rouge_l"))
@grouped
def replay(
    dataset: Annotated[Path, typer.Argument(dir_okay=False, help="CSV with examples,ground_truth; JSONL; Parquet.")],
    wanted: _Asked,
    decided: _Decided,
    paced: _Paced,
    other: _Other,
    where: _Where,
    as_json: AsJson = False,
    html: Annotated[Path | None, typer.Option(dir_okay=False, help="Write the report as a page.")] = None,
) -> None:
    """Ask a dataset of several targets, and compare.

    Each row is asked of every target, and what is answered is stored: stopped in whatever way, the same command goes on
    where it was, with the same result.
    """
    import asyncio

    place = _place(where)
    options = _options(wanted, decided, paced, other)
    if other.from_log is not None:
        _freeze(dataset, other, wanted.limit, place)
    if not dataset.is_file():
        raise typer.BadParameter(f"no file {dataset}", param_hint="DATASET")
    if other.as_reference:
        asyncio.run(_written(dataset, options, place))
    elif options.targets:
        asyncio.run(_compared(dataset, options, place, as_json, html))
    elif other.from_log is None:
        raise typer.BadParameter("give at least one target, or --as-reference MODEL", param_hint="--targets")


def _options(wanted: _Asked, decided: _Decided, paced: _Paced, other: _Other) -> ReplayOptions:
    from gateway.evals.replay.asking import RequestPacing
    from gateway.evals.replay.design import RequestSettings, setting
    from gateway.evals.replay.options import ReplayOptions

    fields = tuple(_each(setting, wanted.fields or [], "--set"))
    return ReplayOptions(
        targets=(other.as_reference,) if other.as_reference else _words(wanted.targets),
        scorers=_words(wanted.scorers), repeats=wanted.repeats, primary=decided.primary, margin=decided.margin,
        alpha=decided.alpha, guardrails=tuple(_each(_guardrail, decided.guard or [], "--guard")), limit=wanted.limit,
        settings=RequestSettings(fields, wanted.system, None if wanted.seed < 0 else wanted.seed),
        pace=RequestPacing(paced.concurrency, paced.rate, paced.deadline, budget_usd=paced.budget), command=_typed(),
    )  # fmt: skip


def _freeze(path: Path, other: _Other, limit: int | None, place: GatewayLocation) -> None:
    """A file that is there stays, so that the same command goes on with the same questions."""
    import time

    from gateway.evals.replay.gateway_choice import store_of
    from gateway.evals.replay.traffic_snapshot import freeze
    from gateway.evals.reports.samples import seconds_of
    from gateway.evals.store.replays import LogSelection

    if path.suffix != ".jsonl":
        raise typer.BadParameter("recorded calls are frozen into a .jsonl file", param_hint="DATASET")
    if path.exists():
        note(f"{path} is there: it is replayed as it stands, and no log is read")
        return
    try:
        since = None if other.since is None else time.time() - seconds_of(other.since)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--since") from error
    wanted = LogSelection(str(other.from_log), since, limit or 1000)
    note(f"{path}: {freeze(store_of(place), wanted, path)}")


async def _compared(
    dataset: Path, options: ReplayOptions, place: GatewayLocation, as_json: bool, html: Path | None
) -> None:
    from gateway.core.sanitize import to_json
    from gateway.evals.replay.replay import replay
    from gateway.evals.reports.replay import pages, to_dict, to_terminal

    read = _scanned(dataset)
    with _log(place), _watching() as watch:
        found = await replay(read, options, place, note, watch)
    if html is not None:
        for path, text in pages(found, html):
            path.write_text(text, encoding="utf-8")
            note(f"wrote {path}")
    show(to_json(to_dict(found)) if as_json else to_terminal(found))
    if found.progress.over_budget:
        note(f"stopped: ${found.progress.usd:.4f} are spent; the same command with more --budget continues from there")
        raise typer.Exit(1)


async def _written(dataset: Path, options: ReplayOptions, place: GatewayLocation) -> None:
    from gateway.evals.replay.references import write_references

    read = _scanned(dataset)
    with _log(place), _watching() as watch:
        path = await write_references(read, options, place, note, watch)
    note(f"wrote {path}")


def _place(where: _Where) -> GatewayLocation:
    from gateway.config.loading import data_directory, load
    from gateway.evals.replay.gateway_choice import GatewayLocation

    return GatewayLocation(where.config, load(where.config), data_directory(where.data), where.gateway)


def _scanned(path: Path) -> Dataset:
    from gateway.evals.replay.datasets import scan

    read = scan(path)
    said = [f"{read.rows} rows", f"{read.references} with a reference"]
    said += [f"{read.blank} blank ones passed over"] if read.blank else []
    said += [f"not used: {', '.join(read.ignored[:8])}"] if read.ignored else []
    note(f"{path}: {', '.join(said)}")
    return read


@contextmanager
def _watching() -> Iterator[Callable[[ReplayProgress], None]]:
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
def _log(place: GatewayLocation) -> Iterator[None]:
    """What the gateway of the replay says goes to a file, and on the terminal stands only the replay."""
    from gateway.evals.replay.progress import to_file

    with to_file(place.data / "replay.log"):
        yield


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _each(read: Callable[[str], T], words: Sequence[str], hint: str) -> list[T]:
    try:
        return [read(word) for word in words]
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=hint) from error


def _guardrail(word: str) -> Guardrail:
    from gateway.core.plan import Guardrail

    metric, _, margin = word.partition("=")
    try:
        return Guardrail(metric, abs(float(margin)))
    except ValueError:
        raise ValueError(f"{word!r}: expected METRIC=MARGIN, as in error_rate=0.01") from None


def _typed() -> str:
    import shlex
    import sys

    return shlex.join(["gateway", *sys.argv[1:]])
