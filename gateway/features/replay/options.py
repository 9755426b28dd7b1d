"""The options of `gateway replay`, checked before the first request: targets, scorers, a Ray cluster, or a gate.

An experiment as the gate determines the arms and terms of a replay, and the replay's verdict determines the exit code.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from urllib.parse import urlsplit

import orjson

from gateway.config.config import Config
from gateway.config.derive import plan_of
from gateway.config.scorers import ScorerConfig
from gateway.config.upstreams import TargetRef
from gateway.core.did_you_mean import did_you_mean
from gateway.core.errors import CannotRun
from gateway.core.exchange import RUN
from gateway.core.plan import Guardrail
from gateway.features.replay.datasets.datasets import Dataset
from gateway.features.replay.results.by_run import RunPrice, price_of
from gateway.features.replay.results.findings import ReportScope
from gateway.features.replay.results.sheet import COST, FAILED, OUTPUT, SECONDS
from gateway.features.replay.sending.asking import RequestPacing
from gateway.features.targets import RequestSettings, target_word
from gateway.reports.model import Report
from gateway.scoring.registry import DEFAULTS, BuiltScorers, RegisteredPair, RegisteredScorer
from gateway.verdict.items.pairs import ItemMetric

LOCAL = "local"
DEFAULT_PORT = 10001  # of Ray Client's server


@dataclass(frozen=True, slots=True)
class RayAddress:
    """The address at which Ray Client's server listens."""

    host: str
    port: int = DEFAULT_PORT

    def __str__(self) -> str:
        return f"ray://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


def address_of(on: str) -> RayAddress | None:
    """The address in --on; None for this process. Raises ValueError for what is neither "local" nor ray://HOST[:PORT]."""
    if on == LOCAL:
        return None
    parts = urlsplit(on)
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if parts.scheme != "ray" or not host or parts.path.strip("/") or parts.query or parts.username:
        raise ValueError(f"{on!r}: expected local, or ray://HOST[:PORT] with the port of Ray Client (default: 10001)")
    return RayAddress(host, port or DEFAULT_PORT)


WITH_REFERENCE = ("exact", "f1", "rouge_l")
OF_TURNS = ("tool_calls",)
MEASURED = (FAILED, SECONDS, OUTPUT, COST)
ERROR_RATE = Guardrail(FAILED.name, 0.02)


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    targets: tuple[str, ...]
    """The first is the control."""
    scorers: tuple[str, ...] = ()
    """The scorers; empty for those that fit the dataset."""
    repeats: int = 1
    primary: str | None = None
    """The primary metric; None for the first scorer with a best and a worst value."""
    margin: float = 0.02
    alpha: float = 0.05
    guardrails: tuple[Guardrail, ...] = ()
    """Guardrails in addition to the one on the error rate."""
    reuse_control: bool = False
    """Take the control's answers from recorded traffic where it has them."""
    runs: bool = False
    """The rows are turns of recorded runs, and the run is the unit."""
    limit: int | None = None
    """The number of rows, from the first. None: all."""
    settings: RequestSettings = field(default_factory=RequestSettings)
    pace: RequestPacing = field(default_factory=RequestPacing)
    on: RayAddress | None = None
    """The cluster whose workers send the requests. None means that this process does."""
    command: str = ""
    """The command line, as it was typed."""


def rows_of(options: ReplayOptions, dataset: Dataset) -> int:
    return min(options.limit or dataset.rows, dataset.rows)


def check_reuse(options: ReplayOptions, dataset: Dataset) -> None:
    """Raises CannotRun where no recorded answer could fit."""
    if not options.reuse_control:
        return
    if options.runs:
        raise CannotRun("--reuse-control: with --runs the control is asked again, since it differs from itself")
    if options.settings.fields or options.settings.system is not None:
        raise CannotRun("--reuse-control: --set and --system change the request, so no recorded answer belongs to it")
    if options.targets and target_word(options.targets[0]).settings:
        raise CannotRun("--reuse-control: the control has settings of its own, so no recorded answer belongs to it")
    if all(item.exchange_id is None for item in dataset.items()):
        raise CannotRun(
            f"--reuse-control: {dataset.source} has no recorded calls; give a file of --from-log or gateway export"
        )


def check_runs(options: ReplayOptions, dataset: Dataset) -> RunPrice | None:
    """The price of a replay of runs; None for another replay. Raises CannotRun for rows that belong to no run."""
    if not options.runs:
        return None
    clusters = [item.cluster for item in dataset.items()]
    if stray := sum(not cluster.startswith(RUN) for cluster in clusters):
        raise CannotRun(f"--runs: {stray} of {len(clusters)} rows of {dataset.source} are not turns of a recorded run")
    return price_of(clusters, len(options.targets), options.repeats)


def name_of(dataset: Dataset, design: str) -> str:
    """Returns the replay's name, which follows from its requests, so that the same command finds its stored answers,
    and no other does."""
    stem = re.sub(r"[^\w.-]+", "-", dataset.path.stem)[:60] or "dataset"
    return f"{stem}-{design}"


def sections(options: ReplayOptions, dataset: Dataset, config: Config) -> dict[str, ScorerConfig]:
    """The scorers of this replay: as configured, or with their default options."""
    usual = WITH_REFERENCE if dataset.references else tuple(config.scorers or DEFAULTS)
    names = options.scorers or (OF_TURNS if options.runs else usual)
    if twice := sorted({n for n in names if names.count(n) > 1}):
        raise CannotRun(f"--scorers: {', '.join(twice)} is named twice")
    # `share` is for traffic; of a dataset, every answer is scored.
    return {name: (config.scorers.get(name) or ScorerConfig()).model_copy(update={"share": 1.0}) for name in names}


_WHY_NOT = (
    "and a replay has single answers",
    "which do not develop where each turn has the recorded history: loops are not visible; use a split by run",
)
"""The reason why a scorer of runs cannot be used: for rows, and for the turns of runs."""


def single(options: ReplayOptions, built: BuiltScorers) -> dict[str, RegisteredScorer]:
    """The scorers of single answers. Raises CannotRun if a distance of pairs, or a scorer of runs, was named."""
    if of_runs := [name for name in options.scorers if name in built.runs]:
        raise CannotRun(f"--scorers: {', '.join(of_runs)}: scores whole runs, {_WHY_NOT[options.runs]}")
    if wrong := [name for name in options.scorers if name in built.pairs.keys() - preferring(built).keys()]:
        raise CannotRun(f"--scorers: {', '.join(wrong)}: compares two answers without saying which is better")
    return built.single


def preferring(built: BuiltScorers) -> dict[str, RegisteredPair]:
    """The scorers that say which of two answers is better: pairwise judges."""
    return {name: r for name, r in built.pairs.items() if r.scorer.direction == "maximise"}


def metrics(
    scorers: Mapping[str, RegisteredScorer], pairs: Mapping[str, RegisteredPair] = MappingProxyType({})
) -> tuple[ItemMetric, ...]:
    alone = (ItemMetric(name, r.scorer.direction, r.scorer.bounds) for name, r in scorers.items())
    compared = (ItemMetric(name, "maximise", r.scorer.bounds, preference=True) for name, r in pairs.items())
    return (*alone, *compared)


def question_of(options: ReplayOptions, dataset: Dataset, found: Sequence[ItemMetric]) -> ReportScope:
    """The scope of the report; the caller adds the facts that are known only at the end. Raises CannotRun."""
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
        name="",
        design="",
        dataset=dataset.name,
        dataset_hash=dataset.hash,
        rows=rows,
        of=dataset.rows,
        repeats=options.repeats,
        metrics=tuple(found),
        primary=primary,
        margin=options.margin,
        alpha=options.alpha,
        guardrails=tuple(guards.values()),
        settings=_described(options),
        command=options.command,
        reused=options.reuse_control,
    )


def _check_primary(primary: str | None, found: Sequence[ItemMetric]) -> None:
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


SHIP, REJECT, INCONCLUSIVE = 0, 1, 2


@dataclass(frozen=True, slots=True)
class GateTerms:
    """An experiment's terms for a replay of its arms."""

    targets: tuple[str, ...]
    """The control first; as `--target` takes them."""
    scorers: tuple[str, ...]
    """The scorers that the verdict needs."""
    primary: str | None
    margin: float
    alpha: float
    guardrails: tuple[Guardrail, ...]
    unmeasured: tuple[str, ...]
    """Guardrails that only traffic shows, such as feedback."""


def gate_terms(config: Config, name: str) -> GateTerms:
    """Raises CannotRun for an experiment that is unknown, whose arms change headers, or whose candidate is a guard."""
    experiment = config.experiments.get(name)
    if experiment is None:
        known = ", ".join(sorted(config.experiments)) or "none"
        raise CannotRun(
            f'--gate: no experiment "{name}"{did_you_mean(name, config.experiments)}; the config has: {known}'
        )
    plan = plan_of(name, experiment)
    measured = {metric.name for metric in MEASURED} | set(config.scorers)
    refs = (experiment.control, *(experiment.arms[arm] for arm, _ in plan.candidates))
    return GateTerms(
        targets=tuple(_word(ref) for ref in refs),
        scorers=tuple(metric for metric in plan.decides if metric in config.scorers),
        primary=plan.primary,
        margin=plan.margin,
        alpha=plan.alpha,
        guardrails=tuple(g for g in plan.guardrails if g.metric in measured),
        unmeasured=tuple(g.metric for g in plan.guardrails if g.metric not in measured),
    )


def _word(ref: TargetRef) -> str:
    if ref.guard is not None:
        raise CannotRun(f"--gate: the candidate is the guard {ref.guard}, and a replay asks targets; name another one")
    if ref.headers:
        raise CannotRun(f"--gate: {ref.upstream}/{ref.model} changes headers, which a replay cannot")
    settings = [f"{name}={orjson.dumps(value).decode()}" for name, value in ref.set.items()]
    settings += [f"system={ref.system}"] if ref.system is not None else []
    return ",".join([f"{ref.upstream}/{ref.model}", *settings])


def exit_code(reports: Sequence[Report], *, complete: bool = True) -> int:
    """Returns 0 if every candidate ships, 1 if one is rejected, else 2. complete: every request has an answer."""
    verdicts = [report.verdict for report in reports]
    if "reject" in verdicts:
        return REJECT
    return SHIP if complete and verdicts and set(verdicts) == {"ship"} else INCONCLUSIVE
