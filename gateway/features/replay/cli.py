"""`gateway replay`: sends a dataset to several targets, scores the answers and compares them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from gateway.cli.options import AsJson, Data, File, example, grouped, inconclusive_on_error, note, show

if TYPE_CHECKING:
    from gateway.core.plan import Guardrail
    from gateway.features.gateway_choice import GatewayLocation
    from gateway.features.replay.datasets.datasets import Dataset, DatasetSource
    from gateway.features.replay.options import GateTerms, RayAddress, ReplayOptions
    from gateway.features.replay.sending.run import ReplayProgress

T = TypeVar("T")
verbs = typer.Typer()


@dataclass(frozen=True, slots=True)
class _Requests:
    """The requests and their targets."""

    targets: Annotated[
        str, typer.Option(help="Comma-separated models or UPSTREAM/MODEL; the first is the control.")
    ] = ""
    target: Annotated[
        list[str] | None,
        typer.Option(help="Further target with settings: NAME,temperature=0,system=TEXT. May be repeated."),
    ] = None
    scorers: Annotated[str, typer.Option(help="Comma-separated scorers (default: those that fit the dataset).")] = ""
    repeats: Annotated[int, typer.Option(min=1, max=1000, help="Requests per row and target.")] = 1
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first rows, at most this many.")] = None
    fields: Annotated[
        list[str] | None, typer.Option("--set", help="NAME=VALUE in every request, such as temperature=0.")
    ] = None
    system: Annotated[str | None, typer.Option(help="System message instead of the rows' own.")] = None
    seed: Annotated[int, typer.Option(help="Seed of the first repeat, if the upstream accepts one; -1: none.")] = 0


@dataclass(frozen=True, slots=True)
class _Decision:
    """The terms that decide the verdict."""

    primary: Annotated[str | None, typer.Option(help="The scorer that decides (default: the first).")] = None
    margin: Annotated[
        float | None, typer.Option(min=0, help="Largest acceptable loss in the primary metric (default: 0.02).")
    ] = None
    guard: Annotated[list[str] | None, typer.Option(help="Further guardrail, as METRIC=MARGIN.")] = None
    alpha: Annotated[
        float | None,
        typer.Option(min=1e-6, max=0.5, help="Probability of a wrong verdict, over all candidates (default: 0.05)."),
    ] = None
    gate: Annotated[
        str | None,
        typer.Option(
            metavar="EXPERIMENT",
            help="Take arms and terms from this experiment; exit with 0 for ship, 1 for reject, 2 for neither.",
        ),
    ] = None


@dataclass(frozen=True, slots=True)
class _Pacing:
    rate: Annotated[float | None, typer.Option(min=0.001, help="At most this many requests per second.")] = None
    concurrency: Annotated[int, typer.Option(min=1, max=1000, help="Requests in flight at once.")] = 8
    deadline: Annotated[float, typer.Option(min=0.1, help="Seconds for one answer.")] = 300.0
    budget: Annotated[float | None, typer.Option(min=0, help="Stop when answers have cost this many USD.")] = None


@dataclass(frozen=True, slots=True)
class _DatasetOptions:
    """The source of a dataset, and what else can be done with it."""

    as_reference: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Write this model's answers to DATASET.with-references.jsonl.")
    ] = None
    from_log: Annotated[
        str | None, typer.Option(metavar="ALIAS", help="First write recorded calls of ALIAS to DATASET.")
    ] = None
    runs: Annotated[
        bool,
        typer.Option(
            "--runs",
            help="With --from-log: whole runs, turn by turn with the recorded history, compared run by run; "
            "--limit counts runs.",
        ),
    ] = False
    imported: Annotated[
        bool, typer.Option("--imported", help="With --from-log: calls of `gateway ingest`, instead of served ones.")
    ] = False
    reuse_control: Annotated[
        bool, typer.Option("--reuse-control", help="Take the control's answers from the recorded calls; pay once.")
    ] = False
    since: Annotated[str | None, typer.Option(help="With --from-log: only calls of the last 30m, 2h, 7d, …")] = None
    columns: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="ROLE=COLUMN", help="Columns, as question=dialogue,reference=summary."),
    ] = None


@dataclass(frozen=True, slots=True)
class _Locations:
    on: Annotated[
        str,
        typer.Option(metavar="WHERE", help="Where requests are sent from: local, or the cluster at ray://HOST[:PORT]."),
    ] = "local"
    gateway: Annotated[str | None, typer.Option(help="URL of a running gateway (default: start one).")] = None
    config: Annotated[Path, File] = Path("gateway.yaml")
    data: Data = None


@dataclass(frozen=True, slots=True)
class _ReplayOutput:
    as_json: AsJson = False
    html: Annotated[Path | None, typer.Option(dir_okay=False, help="Also write the report to this HTML file.")] = None


@verbs.command(epilog=example("gateway replay questions.csv --targets chat,local/smollm2 --scorers exact,rouge_l"))
@grouped
def replay(
    dataset: Annotated[str, typer.Argument(help="CSV, JSONL or Parquet, or hf://NAME[/CONFIG][:SPLIT].")],
    requests: _Requests,
    decision: _Decision,
    pacing: _Pacing,
    other: _DatasetOptions,
    where: _Locations,
    output: _ReplayOutput,
) -> None:
    """Send a dataset to several targets, and compare their answers.

    Every row goes to every target, and the answers are stored. After an interruption, the same command continues where
    it stopped, with the same result.
    """
    import asyncio

    from gateway.features.replay.options import address_of

    with nullcontext() if decision.gate is None else inconclusive_on_error():
        place = _place(where)
        [on] = _each(address_of, [where.on], "--on")
        options = _options(requests, decision, pacing, other, place, on)
        if other.from_log is not None:
            _freeze(Path(dataset), other, requests.limit, place)
        elif other.runs:
            raise typer.BadParameter("only recorded calls have runs: give --from-log ALIAS", param_hint="--runs")
        elif other.imported:
            raise typer.BadParameter("chooses among recorded calls: give --from-log ALIAS", param_hint="--imported")
        source = _source(dataset, other.columns or [])
        if other.as_reference:
            asyncio.run(_written(_scanned(source), options, place))
        elif options.targets:
            asyncio.run(_compared(_scanned(source), options, place, output, gate=decision.gate is not None))
        elif other.from_log is None:
            raise typer.BadParameter("give at least one target, or --as-reference MODEL", param_hint="--targets")


def _terms(name: str, place: GatewayLocation) -> GateTerms:
    from gateway.features.replay.options import gate_terms

    found = gate_terms(place.config, name)
    for metric in found.unmeasured:
        note(f"caution: the guardrail {metric} of {name} cannot be measured by a replay and is left out")
    return found


def _options(
    requests: _Requests,
    decision: _Decision,
    pacing: _Pacing,
    other: _DatasetOptions,
    place: GatewayLocation,
    on: RayAddress | None,
) -> ReplayOptions:
    from gateway.features.replay.options import ReplayOptions
    from gateway.features.replay.sending.asking import RequestPacing
    from gateway.features.targets import RequestSettings, setting, target_word

    fields = tuple(_each(setting, requests.fields or [], "--set"))
    _each(target_word, requests.target or [], "--target")
    targets = (*_words(requests.targets), *(requests.target or ()))
    terms = None if decision.gate is None else _terms(decision.gate, place)
    guardrails = {
        g.metric: g for g in (*(terms.guardrails if terms else ()), *_each(_guardrail, decision.guard or [], "--guard"))
    }
    return ReplayOptions(
        targets=(other.as_reference,) if other.as_reference else targets or (terms.targets if terms else ()),
        scorers=_words(requests.scorers) or (terms.scorers if terms else ()),
        repeats=requests.repeats,
        primary=decision.primary or (terms.primary if terms else None),
        margin=_first(decision.margin, terms.margin if terms else None, 0.02),
        alpha=_first(decision.alpha, terms.alpha if terms else None, 0.05),
        guardrails=tuple(guardrails.values()),
        limit=None if other.runs else requests.limit,
        reuse_control=other.reuse_control,
        runs=other.runs,
        settings=RequestSettings(fields, requests.system, None if requests.seed < 0 else requests.seed),
        pace=RequestPacing(pacing.concurrency, pacing.rate, pacing.deadline, budget_usd=pacing.budget),
        on=on,
        command=_typed(),
    )


def _first(*values: float | None) -> float:
    return next(value for value in values if value is not None)


def _freeze(path: Path, other: _DatasetOptions, limit: int | None, place: GatewayLocation) -> None:
    """Writes the dataset. An existing file is kept, so that the same command continues with the same questions."""
    import time

    from gateway.config.privacy import placeholders
    from gateway.core.time_span import seconds_of
    from gateway.features.gateway_choice import store_of
    from gateway.features.replay.datasets.traffic_snapshot import freeze
    from gateway.features.replay.rows import LogSelection

    if path.suffix != ".jsonl":
        raise typer.BadParameter("recorded calls are frozen into a .jsonl file", param_hint="DATASET")
    if path.exists():
        note(f"{path} exists: it is replayed unchanged, and no recorded calls are read")
        return
    try:
        since = None if other.since is None else time.time() - seconds_of(other.since)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--since") from error
    selection = LogSelection(
        str(other.from_log), since, limit or (100 if other.runs else 1000), other.runs, other.imported
    )
    note(f"{path}: {freeze(store_of(place), selection, path, placeholders(place.config.redaction))}")


async def _compared(
    dataset: Dataset, options: ReplayOptions, place: GatewayLocation, output: _ReplayOutput, *, gate: bool
) -> None:
    from gateway.core.complete_file import write_private
    from gateway.core.sanitize import to_json
    from gateway.features.replay.options import exit_code
    from gateway.features.replay.replay import replay
    from gateway.features.replay.report import pages, to_dict, to_terminal
    from gateway.observability.logging import to_file

    with to_file(place.data / "replay.log"), _watching() as watch:
        found = await replay(dataset, options, place, note, watch)
    if output.html is not None:
        for path, text in pages(found, output.html):
            write_private(path, text)
            note(f"wrote {path}")
    show(to_json(to_dict(found)) if output.as_json else to_terminal(found))
    if found.progress.over_budget:
        note(f"stopped: ${found.progress.usd:.4f} spent; run the command again with a higher --budget to continue")
    if gate:
        raise typer.Exit(exit_code(found.reports, complete=not found.progress.over_budget))
    if found.progress.over_budget:
        raise typer.Exit(1)


async def _written(dataset: Dataset, options: ReplayOptions, place: GatewayLocation) -> None:
    from gateway.features.replay.replay import write_references
    from gateway.observability.logging import to_file

    with to_file(place.data / "replay.log"), _watching() as watch:
        path = await write_references(dataset, options, place, note, watch)
    note(f"wrote {path}")


def _place(where: _Locations) -> GatewayLocation:
    from gateway.config.environment import data_directory
    from gateway.config.loading import load
    from gateway.features.gateway_choice import GatewayLocation

    return GatewayLocation(where.config, load(where.config), data_directory(where.data), where.gateway)


def _source(dataset: str, words: Sequence[str]) -> DatasetSource:
    from gateway.features.replay.datasets.datasets import DatasetFile
    from gateway.features.replay.datasets.huggingface import SCHEME, HuggingFaceDataset
    from gateway.features.replay.datasets.row_formats import column_map

    try:
        columns = column_map(words)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--map") from error
    if dataset.startswith(SCHEME):
        return HuggingFaceDataset(dataset.removeprefix(SCHEME), columns)
    path, (before, colon, split) = Path(dataset), dataset.rpartition(":")
    if path.is_dir() or (colon and Path(before).is_dir()):
        directory = path.resolve() if path.is_dir() else f"{Path(before).resolve()}:{split}"
        return HuggingFaceDataset(str(directory), columns)
    if not path.is_file():
        raise typer.BadParameter(f"no file {dataset}", param_hint="DATASET")
    return DatasetFile(path, columns)


def _scanned(source: DatasetSource) -> Dataset:
    from gateway.features.replay.datasets.datasets import scan

    read = scan(source)
    counts = [f"{read.rows} rows", f"{read.references} with a reference"]
    counts += [f"{read.blank} blank rows skipped"] if read.blank else []
    counts += [f"not used: {', '.join(read.ignored[:8])}"] if read.ignored else []
    note(f"{source}: {', '.join(counts)}")
    for line in read.notes:
        note(line)
    return read


@contextmanager
def _watching() -> Iterator[Callable[[ReplayProgress], None]]:
    """A progress bar if stderr is a terminal, else a line per tenth."""
    import sys

    from rich.console import Console

    from gateway.features.replay.progress import bar, every

    if sys.stderr.isatty():
        with bar(Console(stderr=True)) as watch:
            yield watch
    else:
        yield every(note)


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
