"""Builds the scorers of the config's `scorers` section: finds them, passes their options, runs their golden cases."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import Any, cast, get_args

import orjson

from gateway.config.scorers import ScorerConfig as Section
from gateway.config.scorers import drawn_as
from gateway.core.did_you_mean import did_you_mean
from gateway.core.errors import ConfigError
from gateway.core.score import Direction, Kind
from gateway.scoring.asker import Asker, ExternalServices, ServiceConnection
from gateway.scoring.budget import InMemoryLedger, ScorerBudget
from gateway.scoring.gate import CONCURRENCY, ScorerGate
from gateway.scoring.golden import check_golden
from gateway.scoring.http_client import HttpConnections
from gateway.scoring.isolate import isolated
from gateway.scoring.options import InvalidOptions, construct, parameters
from gateway.scoring.own_modules import reach_modules
from gateway.scoring.types import ImmediateScorer, PairScorer, RunScorer, Scorer

GROUP = "gateway.scorers"  # entry points of other packages
_HERE = "gateway.scorers"
SCORERS: Mapping[str, str] = MappingProxyType(
    {
        "bertscore_minilm": f"{_HERE}.bertscore_minilm:bertscore_minilm",
        "bleu": f"{_HERE}.bleu:Bleu",
        "choice": f"{_HERE}.choice:Choice",
        "chrf": f"{_HERE}.chrf:Chrf",
        "contains": f"{_HERE}.contains:Contains",
        "edit_distance": f"{_HERE}.edit_distance:EditDistance",
        "cost": f"{_HERE}.cost:Cost",
        "decided": f"{_HERE}.decided:Decided",
        "decision": f"{_HERE}.decision:decision",
        "decision_agrees": f"{_HERE}.decision_agrees:DecisionAgrees",
        "decision_brier": f"{_HERE}.decision_brier:DecisionBrier",
        "decision_right": f"{_HERE}.decision_right:DecisionRight",
        "embedding": f"{_HERE}.embedding:embedding",
        "exact": f"{_HERE}.exact:Exact",
        "f1": f"{_HERE}.f1:F1",
        "geval_coherence": f"{_HERE}.geval:coherence",
        "geval_consistency": f"{_HERE}.geval:consistency",
        "geval_fluency": f"{_HERE}.geval:fluency",
        "geval_relevance": f"{_HERE}.geval:relevance",
        "grader": f"{_HERE}.grader:grader",
        "judge": f"{_HERE}.judge:judge",
        "json_distance": f"{_HERE}.json_distance:JsonDistance",
        "json_equal": f"{_HERE}.json_equal:JsonEqual",
        "json_schema": f"{_HERE}.json_schema:JsonSchema",
        "language": f"{_HERE}.language:Language",
        "latency": f"{_HERE}.latency:Latency",
        "length": f"{_HERE}.length:Length",
        "mean_logprob": f"{_HERE}.mean_logprob:MeanLogprob",
        "meteor": f"{_HERE}.meteor:Meteor",
        "number": f"{_HERE}.number:Number",
        "refusal": f"{_HERE}.refused:Refusal",
        "regex": f"{_HERE}.regex:Regex",
        "repetition": f"{_HERE}.repetition:Repetition",
        "rouge_1": f"{_HERE}.rouge_n:Rouge1",
        "rouge_2": f"{_HERE}.rouge_n:Rouge2",
        "rouge_l": f"{_HERE}.rouge_l:RougeL",
        "rouge_lsum": f"{_HERE}.rouge_n:RougeLsum",
        "run_calls": f"{_HERE}.run_length:RunCalls",
        "run_correction": f"{_HERE}.run_correction:RunCorrection",
        "run_finished": f"{_HERE}.run_finished:RunFinished",
        "run_loops": f"{_HERE}.run_loops:RunLoops",
        "run_tokens": f"{_HERE}.run_length:RunTokens",
        "run_tool_errors": f"{_HERE}.run_tool_errors:RunToolErrors",
        "secrets": f"{_HERE}.secrets:Secrets",
        "tool_calls": f"{_HERE}.tool_calls:ToolCalls",
        "tool_calls_agree": f"{_HERE}.tool_calls_agree:ToolCallsAgree",
        "tool_distance": f"{_HERE}.tool_distance:ToolDistance",
        "truncation": f"{_HERE}.truncation:Truncation",
        "valid_json": f"{_HERE}.valid_json:ValidJson",
    }
)
DEFAULTS = ("valid_json", "json_schema", "tool_calls", "refusal", "repetition", "truncation", "length", "latency")
"""Scorers of a config without the section `scorers`."""
DEADLINE_S = 10.0
WAITING_DEADLINE_S = 60.0  # where a model, a service or another process answers
WAITING_CONCURRENCY = 8
HTTP = ("http://", "https://")
_DOTTED = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_ATTRIBUTES = ("name", "version", "kind", "direction", "bounds", "heavy", "score", "golden")


@dataclass(frozen=True, slots=True)
class RegisteredScorer:
    """A configured scorer that has passed its golden cases."""

    scorer: Scorer
    share: float
    """The fraction of recorded exchanges that it scores, by a draw of its own."""
    deadline_s: float
    config_hash: str
    """Hash of `use` and the options; scores with different hashes are never averaged together."""
    foreign: bool = False
    """Whether it belongs to another package, so that it runs on a thread of its own."""
    immediate: ImmediateScorer | None = None
    """The scorer itself, when it is heavy and can answer some subjects on the event loop."""
    waits: bool = False
    """Whether it waits for a model, a service or another process."""
    gate: ScorerGate | None = None
    """Limits its concurrency and blocks it after repeated failures; None if it does not wait, and belongs to this
    package."""
    drawn_as: str | None = None
    """The name that its share is drawn by, where that is not its own."""


@dataclass(frozen=True, slots=True)
class RegisteredPair:
    """A configured pair scorer that has passed its golden cases. Fields as in RegisteredScorer."""

    scorer: PairScorer
    share: float
    deadline_s: float
    config_hash: str
    foreign: bool = False
    gate: ScorerGate | None = None
    drawn_as: str | None = None


@dataclass(frozen=True, slots=True)
class RegisteredRun:
    """A configured scorer of runs that has passed its golden cases. Fields as in RegisteredScorer."""

    scorer: RunScorer
    share: float
    deadline_s: float
    config_hash: str
    foreign: bool = False
    gate: ScorerGate | None = None
    drawn_as: str | None = None


Registered = RegisteredScorer | RegisteredPair | RegisteredRun


@dataclass(frozen=True, slots=True)
class BuiltScorers:
    """Every configured scorer, by name."""

    single: dict[str, RegisteredScorer]
    pairs: dict[str, RegisteredPair]
    """Scorers that compare two answers."""
    runs: dict[str, RegisteredRun] = field(default_factory=dict)
    """Scorers of runs."""

    def all(self) -> dict[str, Registered]:
        return {**self.single, **self.pairs, **self.runs}


def build(configured: Mapping[str, Section], outside: ExternalServices | None = None) -> dict[str, RegisteredScorer]:
    """Every configured scorer of single answers, by name; see build_all."""
    return build_all(configured, outside).single


def build_all(configured: Mapping[str, Section], outside: ExternalServices | None = None) -> BuiltScorers:
    """Every configured scorer. Imports the objects that `use` names; sends no request.

    outside: the services that scorers call; None means that scorers can be built, but those that call a model cannot
    score. Raises ConfigError with every mistake of the section.
    """
    outside = outside or ExternalServices(HttpConnections())
    uses = (section.use or "" for section in configured.values())
    reach_modules((use.partition(":")[0] for use in uses if _DOTTED.fullmatch(use)), outside.directory)
    built = BuiltScorers({}, {})
    mistakes: list[str] = []
    panels: dict[str, Any] = {}
    for name, section in configured.items():
        try:
            registered = _register(_Entry(name, section, outside, panels))
        except InvalidOptions as invalid:
            mistakes += [f"scorers.{name}{line}" for line in invalid.lines]
        else:
            if isinstance(registered, RegisteredPair):
                built.pairs[name] = registered
            elif isinstance(registered, RegisteredRun):
                built.runs[name] = registered
            else:
                built.single[name] = registered
    if mistakes:
        raise ConfigError(mistakes)
    return built


async def close_all(built: BuiltScorers) -> None:
    """Ends the processes that isolated scorers run in."""
    for registered in built.all().values():
        close = getattr(registered.scorer, "aclose", None)
        if close is not None and not registered.foreign:
            await close()


@dataclass(frozen=True, slots=True)
class _Entry:
    """An entry of the `scorers` section, with the services it may call."""

    name: str
    section: Section
    outside: ExternalServices
    panels: dict[str, Any]
    """Objects that the questions of one section share, by the section's name."""

    @property
    def shared_name(self) -> str:
        """The name that its draws, budget and usage go by."""
        return drawn_as(self.name, self.section)

    @property
    def use(self) -> str:
        return self.section.use or self.name

    def deadline_s(self, *, waits: bool) -> float:
        return self.section.deadline_s or (WAITING_DEADLINE_S if waits else DEADLINE_S)

    def concurrency(self, *, waits: bool) -> int:
        return self.section.concurrency or (
            1 if self.section.isolate else WAITING_CONCURRENCY if waits else CONCURRENCY
        )


def _register(entry: _Entry) -> Registered:
    section = entry.section
    scorer, foreign = _construct(entry)
    unhashed = getattr(scorer, "unhashed", ())
    hashed_options = {option: value for option, value in section.options.items() if option not in unhashed}
    hashed = config_hash(entry.use, hashed_options, getattr(scorer, "fingerprint", ""))
    waits = scorer.kind == "llm" or getattr(scorer, "waits", False)
    gate = ScorerGate(entry.name, entry.concurrency(waits=waits)) if waits or foreign else None
    deadline_s = entry.deadline_s(waits=waits)
    shared = entry.shared_name if entry.shared_name != entry.name else None
    if hasattr(scorer, "score_run"):
        return RegisteredRun(scorer, section.share, deadline_s, hashed, foreign, gate, shared)
    if not hasattr(scorer, "score"):
        return RegisteredPair(cast(PairScorer, scorer), section.share, deadline_s, hashed, foreign, gate, shared)
    immediate = scorer if isinstance(scorer, ImmediateScorer) else None
    return RegisteredScorer(scorer, section.share, deadline_s, hashed, foreign, immediate, waits, gate, shared)


def _construct(entry: _Entry) -> tuple[Any, bool]:
    """The scorer, after its golden cases, and whether it is foreign: of another package, in this process."""
    section = entry.section
    scorer: Any
    if section.isolate:
        _check_section({}, section)
        scorer = isolated(entry.name, entry.use, section.options, section.memory_mb)
        _check_attributes(entry.use, scorer)
        return scorer, False
    factory, foreign = _find(entry.use, named=section.use is not None)
    scorer = construct(factory, entry.name, section.options, {} if foreign else _injected(entry, factory))
    _check_attributes(entry.use, scorer)
    _check_section(parameters(factory), section)
    if wrong := check_golden(scorer, entry.deadline_s(waits=False)):
        raise InvalidOptions([f": {line}" for line in wrong])
    return scorer, foreign


def _injected(entry: _Entry, factory: Any) -> dict[str, Any]:
    """The arguments that scorers of this package receive besides their options, if they have such parameters."""
    section, outside = entry.section, entry.outside
    takes = parameters(factory)
    given: dict[str, Any] = {"url": entry.use} if entry.use.startswith(HTTP) else {}
    if _SPENDING & takes.keys():
        limited = section.budget_usd is not None or section.budget_tokens is not None
        ledger = outside.ledger or InMemoryLedger()
        budget = ScorerBudget(entry.shared_name, section.budget_usd, section.budget_tokens, ledger) if limited else None
        deadline_s = entry.deadline_s(waits=True)
        counted_as = f"{outside.asked_by}{entry.shared_name}"
        given["asker"] = Asker(outside.client, outside.prices, budget, deadline_s, counted_as)
        given["service"] = ServiceConnection(outside.connections, deadline_s, budget)
    given |= {"directory": outside.directory, "panels": entry.panels}
    return {name: value for name, value in given.items() if name in takes}


_SPENDING = {"asker", "service"}  # parameters through which a scorer can spend money


def _check_section(takes: Mapping[str, Any], section: Section) -> None:
    """Refuses limits that have no effect on this scorer. takes: the parameters of its factory."""
    lines = []
    if not _SPENDING & takes.keys():
        for limit in ("budget_usd", "budget_tokens"):
            if getattr(section, limit) is not None:
                lines.append(f".{limit}: this scorer calls no model and spends nothing; remove the limit")
    if section.memory_mb is not None and not section.isolate:
        lines.append(".memory_mb: takes effect only with `isolate: true`")
    if lines:
        raise InvalidOptions(lines)


def _check_attributes(use: str, scorer: Scorer) -> None:
    instead = any(hasattr(scorer, a) for a in ("compare", "score_run"))
    missing = [a for a in _ATTRIBUTES if not hasattr(scorer, a) and not (a == "score" and instead)]
    if missing:
        raise InvalidOptions([f".use: {use} is not a scorer: it has no {', '.join(missing)}"])
    allowed = {"kind": get_args(Kind), "direction": get_args(Direction)}
    wrong = [
        f".use: {use} is not a scorer: its {a} is {getattr(scorer, a)!r}, expected one of {', '.join(values)}"
        for a, values in allowed.items()
        if getattr(scorer, a) not in values
    ]
    bounds: object = scorer.bounds
    if not isinstance(bounds, tuple) or len(bounds) != 2:
        wrong.append(f".use: {use} is not a scorer: its bounds are {bounds!r}, expected (low, high)")
    if wrong:
        raise InvalidOptions(wrong)


def config_hash(use: str, options: Mapping[str, Any], fingerprint: str = "") -> str:
    """12 hex digits of the sha256 of {"options": …, "use": …} as JSON with sorted keys.

    fingerprint: of anything else that decides a score, for example a template's text.
    """
    hashed = {"use": use, "options": options, **({"fingerprint": fingerprint} if fingerprint else {})}
    text = orjson.dumps(hashed, option=orjson.OPT_SORT_KEYS, default=str)
    return hashlib.sha256(text).hexdigest()[:12]


def _find(use: str, *, named: bool) -> tuple[Any, bool]:
    """The class or function that makes the scorer, and whether it is foreign. named: the section has a `use` key."""
    if use.startswith(HTTP):
        return _imported(f"{_HERE}.http_service:HttpService"), False
    if use in SCORERS:
        return _built_in(use), False
    installed = {e.name: e for e in entry_points(group=GROUP)}
    if use in installed:
        return _loaded(use, installed[use]), True
    if _DOTTED.fullmatch(use):
        return _imported(use), True
    known = sorted({*SCORERS, *installed})
    close = (
        did_you_mean(use, known)
        or f"; known: {', '.join(known)}, an entry point of {GROUP}, package.module:Class, or http://…"
    )
    at = ".use" if named else ""
    raise InvalidOptions([f'{at}: no scorer "{use}"{close}'])


def _built_in(use: str) -> Any:
    try:
        return _imported(SCORERS[use])
    except InvalidOptions as invalid:
        absent = invalid.__cause__
        if isinstance(absent, ModuleNotFoundError) and absent.name:
            package = absent.name.partition(".")[0]
            raise InvalidOptions(
                [f": {use} needs {package}, which is not installed: pip install {package}"]
            ) from absent
        raise


def _loaded(use: str, entry: EntryPoint) -> Any:
    try:
        return entry.load()
    except Exception as error:  # importing another package's module may raise anything; this config line is wrong
        raise InvalidOptions([f'.use: "{use}" ({entry.value}) cannot be loaded: {_describe(error)}']) from error


def _imported(dotted: str) -> Any:
    module_name, _, name = dotted.partition(":")
    try:
        module = import_module(module_name)
    except Exception as error:  # the same
        absent = isinstance(error, ModuleNotFoundError) and error.name == module_name.partition(".")[0]
        hint = "; it is neither installed nor in the folder of gateway.yaml" if absent else ""
        raise InvalidOptions([f".use: cannot import {module_name}: {_describe(error)}{hint}"]) from error
    if not hasattr(module, name):
        raise InvalidOptions([f".use: {module_name} has no {name}{did_you_mean(name, vars(module))}"])
    return getattr(module, name)


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
