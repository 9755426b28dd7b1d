"""The models in use as lines and cautions: sections for a terminal and a page, and JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from typing import Literal, TypedDict

from rich.console import Group, RenderableType

from gateway.config.config import Config
from gateway.config.derive import prices_of, refs_of_model, target_of
from gateway.config.retirements import NOTICE_DAYS, ListedRetirements, day_of, retiring_targets
from gateway.core.exchange import Target
from gateway.core.prices import Prices
from gateway.core.retirements import Retirement
from gateway.core.usage import UsageSums
from gateway.features.models.cache import (
    CachedRun,
    ChangingPrefix,
    SpreadSessions,
    cached_price,
    changing_prefix,
    coldest_runs,
    saved_usd,
    spread_sessions,
)
from gateway.features.models.origins import KEPT_H, OriginKind, Series, ValueCounts, latest_values
from gateway.features.models.plan import ChangedModel, ModelPlan, plans_for
from gateway.features.models.probes.model import ProbeRound
from gateway.features.models.probes.report import ProbeOutput, probe_cell
from gateway.features.models.probes.report import to_dict as probe_output
from gateway.features.models.probes.work import probes_of
from gateway.features.models.rows import (
    HOUR_S,
    first_days,
    newest_probe_rounds,
    newest_requests,
    session_calls,
    stored_counts,
    stored_watches,
)
from gateway.features.models.watch.hourly_calls import TargetKey
from gateway.features.models.watch.sentences import watch_text
from gateway.features.models.watch.target_watch import TargetWatch, watch_from_json
from gateway.reports import number_format as say
from gateway.reports.section import Cell, Column, ReportSection, Row, table
from gateway.reports.terminal import rendered
from gateway.store.events import KEPT_S, DeploymentEvent, events_since
from gateway.store.query import Reading
from gateway.store.ramp_events import newest_ramp_records
from gateway.store.usage import CLIENT, UsageRow, read_usage

DAYS = 7
_DAY_S = 86_400.0
_MOST_EVENTS = 1_000
_MOST_REQUESTS = 200
_MOST_KEYS = 10
_MOST_RUNS = 5
_MILLION = 1e6


@dataclass(frozen=True, slots=True)
class ModelLine:
    """One target of one alias with calls of clients in the last DAYS days."""

    alias: str
    target: Target
    since: str
    """The first day (UTC) with calls."""
    sums: UsageSums
    usd: float | None
    saved_usd: float | None
    """Dollars that the cached tokens cost less than others; None if no price is known."""
    cached_usd_per_million: float | None
    fingerprint: str | None
    """The most frequent one of the last day with calls, as is the next."""
    returned: str | None
    change: DeploymentEvent | None
    """The newest event."""
    retirement: Retirement | None
    experiment: str | None
    """The experiment whose candidate it is, and which was promoted."""
    probe: ProbeRound | None = None
    """The newest round of probes."""
    watch: TargetWatch | None = None
    plans: Sequence[ModelPlan] = ()
    """Ways on after a change, or before its retirement."""

    @property
    def hit_rate(self) -> float | None:
        """Cached tokens as a share of the input."""
        return self.sums.cached_input_tokens / self.sums.input_tokens if self.sums.input_tokens else None


@dataclass(frozen=True, slots=True)
class CachedKey:
    """The cache of the calls of one key."""

    key: str
    sums: UsageSums

    @property
    def hit_rate(self) -> float:
        return self.sums.cached_input_tokens / self.sums.input_tokens


@dataclass(frozen=True, slots=True)
class ModelsInUse:
    lines: Sequence[ModelLine]
    keys: Sequence[CachedKey] = ()
    """The keys with the most input tokens."""
    spread: Sequence[SpreadSessions] = ()
    prefixes: Sequence[ChangingPrefix] = ()
    runs: Sequence[CachedRun] = ()
    """The runs that repeated the most tokens without a hit."""
    watched_since: float | None = None
    """Unix seconds of the first hour whose answers were counted."""


@dataclass(frozen=True, slots=True)
class _Known:
    """Knowledge about targets that does not come from their usage."""

    prices: Prices
    today: date
    first: Mapping[tuple[str, str, str], str]
    latest: Mapping[Series, ValueCounts]
    changes: Mapping[str, DeploymentEvent]
    """The newest event of each subject."""
    retirements: Mapping[tuple[str, Target], Retirement]
    listed: ListedRetirements
    promoted: Mapping[tuple[str, Target], str] = field(default_factory=dict)
    probed: Mapping[Target, ProbeRound] = field(default_factory=dict)
    watches: Mapping[TargetKey, TargetWatch] = field(default_factory=dict)
    probe_changes: Mapping[str, DeploymentEvent] = field(default_factory=dict)
    """The newest change that probes saw, by target without its variant: it is asked through one of its aliases."""
    targets: Sequence[Target] = ()
    """The targets of the config."""


def models_in_use(connection: Reading, config: Config, now: float) -> ModelsInUse:
    """The models with calls of clients in the last DAYS days, and cautions about the provider's cache."""
    history = stored_counts(connection, int(now // HOUR_S) - KEPT_H)
    today = day_of(now)
    since = today - timedelta(days=DAYS - 1)
    latest = latest_values(history, max(history)) if history else {}
    known = _known(connection, config, now, latest)
    rows = read_usage(connection, ("alias", "upstream", "model"), since, today, source=CLIENT)
    calls = session_calls(connection, now - DAYS * _DAY_S)
    return ModelsInUse(
        lines=[_line(row, known) for row in rows],
        keys=_keys(connection, since, today),
        spread=spread_sessions(calls, known.prices.of),
        prefixes=list(_prefixes(connection, sorted({row.by["alias"] for row in rows}), now - _DAY_S)),
        runs=coldest_runs(calls, _MOST_RUNS),
        watched_since=min(history) * HOUR_S if history else None,
    )


def _known(connection: Reading, config: Config, now: float, latest: Mapping[Series, ValueCounts]) -> _Known:
    events = events_since(connection, now - KEPT_S, _MOST_EVENTS)
    return _Known(
        prices=prices_of(config),
        today=day_of(now),
        first=first_days(connection),
        latest=latest,
        changes={event.subject: event for event in events if event.kind == "model"},
        retirements={(row.alias, row.target): row.retirement for row in retiring_targets(config)},
        listed=ListedRetirements(config),
        promoted=dict(_promoted(connection, config)),
        probed=_probed(connection, config),
        watches={target: watch_from_json(text) for target, text in stored_watches(connection).items()},
        probe_changes={_probed_target(event): event for event in events if event.id.startswith("model:probe:")},
        targets=[_plain(target_of(ref)) for model in config.models.values() for ref in refs_of_model(config, model)],
    )


def _probed_target(event: DeploymentEvent) -> str:
    return event.subject.partition(" ")[2].partition("[")[0]


def _probed(connection: Reading, config: Config) -> dict[Target, ProbeRound]:
    """The newest rounds of the targets that are probed now."""
    probes = probes_of(config)
    newest = newest_probe_rounds(connection) if probes is not None else {}
    targets = [] if probes is None else [of.target for of in probes.targets]
    return {_plain(target): newest[str(target)] for target in targets if str(target) in newest}


def _promoted(connection: Reading, config: Config) -> Iterator[tuple[tuple[str, Target], str]]:
    """The experiments whose candidate serves all traffic, by alias and target."""
    for record in newest_ramp_records(connection):
        experiment = config.experiments.get(record.experiment)
        if record.state == "promoted" and experiment is not None and experiment.candidate is not None:
            yield (experiment.model, _plain(target_of(experiment.candidate))), record.experiment


def _plain(target: Target) -> Target:
    """The target without its variant, as usage has it."""
    return Target(target.upstream, target.model)


def _line(row: UsageRow, known: _Known) -> ModelLine:
    alias, target = row.by["alias"], Target(row.by["upstream"], row.by["model"])
    price = known.prices.of(target)
    line = ModelLine(
        alias=alias,
        target=target,
        since=known.first.get((alias, target.upstream, target.model), ""),
        sums=row.sums,
        usd=row.usd,
        saved_usd=saved_usd(price, row.sums.cached_input_tokens),
        cached_usd_per_million=None if price is None else cached_price(price),
        fingerprint=_latest(known, alias, target, "fingerprint"),
        returned=_latest(known, alias, target, "model"),
        change=_newest(known.changes.get(f"{alias} {target}"), known.probe_changes.get(str(target))),
        retirement=known.retirements.get((alias, target)) or known.listed.of(target),
        experiment=known.promoted.get((alias, target)),
        probe=known.probed.get(target),
        watch=known.watches.get(TargetKey(alias, target.upstream, target.model)),
    )
    return replace(line, plans=list(_plans(line, known)))


def _newest(*events: DeploymentEvent | None) -> DeploymentEvent | None:
    return max((event for event in events if event is not None), key=lambda event: event.at, default=None)


def _plans(line: ModelLine, known: _Known) -> Iterator[ModelPlan]:
    due = line.retirement is not None and line.retirement.days(known.today) <= NOTICE_DAYS
    if line.change is None and not due:
        return iter(())
    retirement = line.retirement if due else None
    changed = ChangedModel(line.alias, line.target, line.sums, retirement, line.experiment, line.probe is not None)
    return plans_for(changed, known.targets, known.prices)


def _latest(known: _Known, alias: str, target: Target, kind: OriginKind) -> str | None:
    counts = known.latest.get(Series(alias, target.upstream, target.model, kind))
    return None if counts is None else counts.most_frequent


def _keys(connection: Reading, since: date, today: date) -> list[CachedKey]:
    rows = read_usage(connection, ("key",), since, today, source=CLIENT)
    busy = sorted((row for row in rows if row.sums.input_tokens), key=lambda row: -row.sums.input_tokens)
    return [CachedKey(row.by["key_name"] or row.by["key"] or "–", row.sums) for row in busy[:_MOST_KEYS]]


def _prefixes(connection: Reading, aliases: Sequence[str], since: float) -> Iterator[ChangingPrefix]:
    for alias in aliases:
        bodies: dict[str, list[bytes]] = {}
        for request in newest_requests(connection, since, alias, _MOST_REQUESTS):
            bodies.setdefault(request.caller, []).append(request.body)
        for caller, of_caller in sorted(bodies.items()):
            changing = changing_prefix(alias, caller, of_caller)
            if changing is not None:
                yield changing


def sections_of(found: ModelsInUse, now: float) -> list[ReportSection]:
    return [_lines_section(found, now), _cache_section(found)]


def headline(found: ModelsInUse, now: float) -> str:
    """The page in a sentence."""
    changed = [line for line in found.lines if line.change is not None and line.change.at >= now - DAYS * _DAY_S]
    if not found.lines:
        return "No model had a call in the last 7 days"
    names = f"{say.counted(len(found.lines), 'model')} in use"
    if changed:
        return f"{names}; {say.counted(len(changed), 'model')} changed behind the name in the last 7 days"
    return f"{names}; nothing changed in the last 7 days"


def _lines_section(found: ModelsInUse, now: float) -> ReportSection:
    columns = (
        Column("Model", "text"),
        Column("Since", "text"),
        Column("Answers name", "text", shown=any(line.returned or line.fingerprint for line in found.lines)),
        Column("Last change", "text"),
        Column("Probes", "text", shown=any(line.probe for line in found.lines)),
        Column("Watch", "text"),
        Column("Cost, 7 days"),
        Column("Cached"),
        Column("Retires", "text", shown=any(line.retirement for line in found.lines)),
        Column("Vouched for by", "text", shown=any(line.experiment for line in found.lines)),
    )
    rows = [_row(line, now) for line in found.lines]
    since = "" if found.watched_since is None else f" Answers are counted since {say.when(found.watched_since)}."
    guide = (
        "A change is a model or a fingerprint that answers did not name in 30 days, in at least 20 calls and 5 % of a "
        "day's; those of a target's first 7 days are its baseline. A watch compares the answers of each hour with a "
        "baseline of 14 days; until it has one, only the changes that answers name notify." + since
    )
    lead = headline(found, now) + "."
    items = tuple(f"{line.alias}, {line.target}: {plan.sentence}" for line in found.lines for plan in line.plans)
    lines = table("Models", columns, [("", rows)])
    return ReportSection("models", "Models", lead=lead, guide=guide, rows=lines, items=items)


def _row(line: ModelLine, now: float) -> Row:
    retirement = line.retirement
    cells = (
        Cell(line.since or say.NONE),
        Cell(line.returned or say.NONE, note=line.fingerprint or ""),
        Cell(say.when(line.change.at), note=line.change.text) if line.change else Cell("none seen"),
        probe_cell(line.probe),
        Cell(watch_text(line.watch)),
        Cell(say.dollars(line.usd), note=say.counted(line.sums.calls, "call")),
        Cell(say.share(line.hit_rate), note=_saved(line)),
        Cell(say.NONE if retirement is None else retirement.day.isoformat(), note=_days(retirement, now)),
        Cell(line.experiment or say.NONE),
    )
    return Row(Cell(line.alias, note=str(line.target)), cells)


def _saved(line: ModelLine) -> str:
    if not line.sums.cached_input_tokens or line.saved_usd is None:
        return ""
    return f"saved {say.dollars(line.saved_usd)}, at {say.dollars(line.cached_usd_per_million)} a million"


def _days(retirement: Retirement | None, now: float) -> str:
    return "" if retirement is None else f"in {say.counted(retirement.days(day_of(now)), 'day')}"


def _cache_section(found: ModelsInUse) -> ReportSection:
    columns = (Column("Key or run", "text"), Column("Input tokens"), Column("Cached"))
    keys = [_cached(key.key, key.sums.input_tokens, key.hit_rate) for key in found.keys]
    runs = [_cached(run.run_id, run.input_tokens, run.cached_tokens / run.input_tokens) for run in found.runs]
    cautions = (*map(spread_sentence, found.spread), *map(prefix_sentence, found.prefixes))
    items = cautions or ("No session is spread over targets, and no prompt's beginning changes with each call.",)
    groups = [("Keys with the most input", keys), ("Runs that read the most again", runs)]
    return ReportSection("cache", "Cache", rows=table("Cache", columns, groups), items=items)


def _cached(name: str, tokens: int, hit_rate: float) -> Row:
    return Row(Cell(name), (Cell(say.count(tokens)), Cell(say.share(hit_rate))))


def spread_sentence(spread: SpreadSessions) -> str:
    lost = f"{say.count(round(spread.lost_tokens))} tokens" if spread.lost_usd is None else say.dollars(spread.lost_usd)
    stayed = "" if spread.hit_rate_stayed is None else f", {say.share(spread.hit_rate_stayed)} where they stay"
    return (
        f"{spread.alias}: {say.share(spread.moved / spread.calls)} of the calls of sessions go to another target than "
        f"the call before. {say.share(spread.hit_rate_moved)} of their repeated tokens are cached{stayed}: "
        f"{'at most ' if spread.at_most else ''}{lost} lost in 7 days. `strategy: session` keeps a session together."
    )


def prefix_sentence(prefix: ChangingPrefix) -> str:
    return (
        f"{prefix.alias}, key {prefix.caller}: the prompt differs from the previous one at byte {prefix.byte}, and is "
        "equal after that, so nothing of it is cached. Put what changes, such as a time, at the end."
    )


class ModelPlanOutput(TypedDict):
    """One way on after a change, or before a retirement."""

    kind: Literal["keep", "compare", "switch"]
    text: str
    command: str


class ModelLineOutput(TypedDict):
    alias: str
    target: str
    since: str
    calls: int
    usd: float | None
    input_tokens: int
    cached_input_tokens: int
    cached_share: float | None
    cached_usd_per_million: float | None
    saved_usd: float | None
    fingerprint: str | None
    model_returned: str | None
    changed: float | None
    """Unix seconds of the last change; None if none was seen."""
    change: str
    watch: str
    """The state of the watch, in a sentence."""
    cause: str | None
    """The likely cause of the newest change that the watch noticed: provider, config, prompt, traffic or scorer."""
    watched_from: float | None
    """Unix seconds from which on the watch can ring; None if it has seen no call."""
    retires: str | None
    successor: str | None
    experiment: str | None
    probe: ProbeOutput | None
    plans: list[ModelPlanOutput]


class CachedKeyOutput(TypedDict):
    key: str
    input_tokens: int
    cached_share: float


class CachedRunOutput(TypedDict):
    run_id: str
    alias: str
    calls: int
    input_tokens: int
    cached_input_tokens: int
    hit_rate: float
    """Cached tokens as a share of those that the run's calls before had sent."""


class SpreadOutput(TypedDict):
    """Sessions whose calls go to several targets."""

    alias: str
    calls: int
    moved: int
    lost_tokens: float
    lost_usd: float | None
    at_most: bool


class PrefixOutput(TypedDict):
    """Prompts whose beginning changes with each call."""

    alias: str
    key: str
    byte: int


class ModelsOutput(TypedDict):
    models: list[ModelLineOutput]
    keys: list[CachedKeyOutput]
    runs: list[CachedRunOutput]
    spread: list[SpreadOutput]
    prefixes: list[PrefixOutput]


def to_dict(found: ModelsInUse) -> ModelsOutput:
    return {
        "models": [_line_output(line) for line in found.lines],
        "keys": [
            {"key": key.key, "input_tokens": key.sums.input_tokens, "cached_share": key.hit_rate} for key in found.keys
        ],
        "runs": [_run_output(run) for run in found.runs],
        "spread": [_spread_output(spread) for spread in found.spread],
        "prefixes": [{"alias": prefix.alias, "key": prefix.caller, "byte": prefix.byte} for prefix in found.prefixes],
    }


def _run_output(run: CachedRun) -> CachedRunOutput:
    return {
        "run_id": run.run_id,
        "alias": run.alias,
        "calls": run.calls,
        "input_tokens": run.input_tokens,
        "cached_input_tokens": run.cached_tokens,
        "hit_rate": run.hit_rate,
    }


def _spread_output(spread: SpreadSessions) -> SpreadOutput:
    return {
        "alias": spread.alias,
        "calls": spread.calls,
        "moved": spread.moved,
        "lost_tokens": spread.lost_tokens,
        "lost_usd": spread.lost_usd,
        "at_most": spread.at_most,
    }


def _line_output(line: ModelLine) -> ModelLineOutput:
    return {
        "alias": line.alias,
        "target": str(line.target),
        "since": line.since,
        "calls": line.sums.calls,
        "usd": line.usd,
        "input_tokens": line.sums.input_tokens,
        "cached_input_tokens": line.sums.cached_input_tokens,
        "cached_share": line.hit_rate,
        "cached_usd_per_million": line.cached_usd_per_million,
        "saved_usd": line.saved_usd,
        "fingerprint": line.fingerprint,
        "model_returned": line.returned,
        "changed": None if line.change is None else line.change.at,
        "change": "" if line.change is None else line.change.text,
        "watch": watch_text(line.watch),
        "cause": None if line.watch is None or line.watch.change is None else line.watch.change.cause,
        "watched_from": None if line.watch is None else float(line.watch.ready_at * HOUR_S),
        "retires": None if line.retirement is None else line.retirement.day.isoformat(),
        "successor": None if line.retirement is None else line.retirement.successor,
        "experiment": line.experiment,
        "probe": None if line.probe is None else probe_output(line.probe),
        "plans": [{"kind": plan.kind, "text": plan.text, "command": plan.command} for plan in line.plans],
    }


def to_terminal(found: ModelsInUse, now: float) -> RenderableType:
    return Group(*rendered(sections_of(found, now)))
