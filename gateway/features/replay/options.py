"""The options of `gateway replay`, checked before the first request."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from gateway.config.config import Config
from gateway.config.scorers import ScorerConfig
from gateway.core.did_you_mean import did_you_mean
from gateway.core.errors import CannotRun
from gateway.core.plan import Guardrail
from gateway.features.replay.asking import RequestPacing
from gateway.features.replay.datasets import Dataset
from gateway.features.replay.design import RequestSettings, target_word
from gateway.features.replay.findings import ReportScope
from gateway.features.replay.ray_address import RayAddress
from gateway.features.replay.sheet import COST, FAILED, OUTPUT, SECONDS, ReplayMetric
from gateway.scoring.registry import DEFAULTS, BuiltScorers, RegisteredPair, RegisteredScorer

WITH_REFERENCE = ("exact", "f1", "rouge_l")
MEASURED = (FAILED, SECONDS, OUTPUT, COST)
ERROR_RATE = Guardrail(FAILED.name, 0.02)


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    targets: tuple[str, ...]
    """The first is the control."""
    scorers: tuple[str, ...] = ()
    """Empty: those that fit the dataset."""
    repeats: int = 1
    primary: str | None = None
    """None: the first scorer with a best and a worst value."""
    margin: float = 0.02
    alpha: float = 0.05
    guardrails: tuple[Guardrail, ...] = ()
    """In addition to the one on the error rate."""
    reuse_control: bool = False
    """Take the control's answers from recorded traffic where it has them."""
    limit: int | None = None
    """The number of rows, from the first. None: all."""
    settings: RequestSettings = field(default_factory=RequestSettings)
    pace: RequestPacing = field(default_factory=RequestPacing)
    on: RayAddress | None = None
    """The cluster whose workers send the requests. None: this process does."""
    command: str = ""
    """The command line, as it was typed."""


def rows_of(options: ReplayOptions, dataset: Dataset) -> int:
    return min(options.limit or dataset.rows, dataset.rows)


def check_reuse(options: ReplayOptions, dataset: Dataset) -> None:
    """Raises CannotRun where no recorded answer could fit."""
    if not options.reuse_control:
        return
    if options.settings.fields or options.settings.system is not None:
        raise CannotRun("--reuse-control: --set and --system change the request, so no recorded answer belongs to it")
    if options.targets and target_word(options.targets[0]).settings:
        raise CannotRun("--reuse-control: the control has settings of its own, so no recorded answer belongs to it")
    if all(item.exchange_id is None for item in dataset.items()):
        raise CannotRun(
            f"--reuse-control: {dataset.source} has no recorded calls; give a file of --from-log or gateway export"
        )


def name_of(dataset: Dataset, design: str) -> str:
    """The replay's name follows from what it asks, so the same command finds its stored answers, and no other does."""
    stem = re.sub(r"[^\w.-]+", "-", dataset.path.stem)[:60] or "dataset"
    return f"{stem}-{design}"


def sections(options: ReplayOptions, dataset: Dataset, config: Config) -> dict[str, ScorerConfig]:
    """The scorers of this replay: as configured, or with their default options."""
    names = options.scorers or (WITH_REFERENCE if dataset.references else tuple(config.scorers or DEFAULTS))
    if twice := sorted({n for n in names if names.count(n) > 1}):
        raise CannotRun(f"--scorers: {', '.join(twice)} is named twice")
    # `share` is for traffic; of a dataset, every answer is scored.
    return {name: (config.scorers.get(name) or ScorerConfig()).model_copy(update={"share": 1.0}) for name in names}


def single(options: ReplayOptions, built: BuiltScorers) -> dict[str, RegisteredScorer]:
    """The scorers of single answers. Raises CannotRun if a distance of pairs was named."""
    if wrong := [name for name in options.scorers if name in built.pairs.keys() - preferring(built).keys()]:
        raise CannotRun(f"--scorers: {', '.join(wrong)}: compares two answers without saying which is better")
    return built.single


def preferring(built: BuiltScorers) -> dict[str, RegisteredPair]:
    """The scorers that say which of two answers is better: pairwise judges."""
    return {name: r for name, r in built.pairs.items() if r.scorer.direction == "maximise"}


def metrics(
    scorers: Mapping[str, RegisteredScorer], pairs: Mapping[str, RegisteredPair] = MappingProxyType({})
) -> tuple[ReplayMetric, ...]:
    alone = (ReplayMetric(name, r.scorer.direction, r.scorer.bounds) for name, r in scorers.items())
    compared = (ReplayMetric(name, "maximise", r.scorer.bounds, preference=True) for name, r in pairs.items())
    return (*alone, *compared)


def question_of(options: ReplayOptions, dataset: Dataset, found: Sequence[ReplayMetric]) -> ReportScope:
    """The scope of the report; the caller adds what is known only at the end. Raises CannotRun."""
    primary = options.primary or next((m.name for m in found if m.bounded and m.direction != "neutral"), None)
    _check_primary(primary, found)
    guards = {ERROR_RATE.metric: ERROR_RATE, **{g.metric: g for g in options.guardrails}}
    known = [m.name for m in (*found, *MEASURED)]
    for metric in guards:
        if metric not in known:
            raise CannotRun(f"--guard {metric}: there is no such metric{_hint(metric, known)}")
        if metric == primary:
            raise CannotRun(f"--guard {metric}: it is the primary metric; set its margin with --margin")
    rows = rows_of(options, dataset)
    return ReportScope(
        name="", design="", dataset=dataset.name, dataset_hash=dataset.hash, rows=rows, of=dataset.rows,
        repeats=options.repeats, metrics=tuple(found), primary=primary, margin=options.margin, alpha=options.alpha,
        guardrails=tuple(guards.values()), settings=_described(options), command=options.command,
        reused=options.reuse_control,
    )  # fmt: skip


def _check_primary(primary: str | None, found: Sequence[ReplayMetric]) -> None:
    metric = next((m for m in found if m.name == primary), None)
    if primary is not None and metric is None:
        raise CannotRun(f"--primary {primary}: not among --scorers{_hint(primary, [m.name for m in found])}")
    if metric is not None and metric.direction == "neutral":
        raise CannotRun(f"--primary {primary}: a neutral metric has no better direction; choose another")


def _described(options: ReplayOptions) -> tuple[tuple[str, str], ...]:
    """(name, value) of the settings of all requests, and of the targets that have their own."""
    settings = options.settings
    rows = [(name, str(value)) for name, value in settings.fields]
    rows += [("system", settings.system)] if settings.system is not None else []
    rows.append(("seed", "none" if settings.seed is None else str(settings.seed)))
    return (*rows, *((word.name, word.settings) for word in map(target_word, options.targets) if word.settings))


def _hint(name: str, known: Sequence[str]) -> str:
    return did_you_mean(name, known) or f"; expected one of {', '.join(known)}"
