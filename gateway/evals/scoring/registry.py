"""From the config's `scorers` section to scorers that may judge: found, given their options, and proven on their
golden cases. Every mistake of the section at once.
"""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import Any, cast, get_args

import orjson

from gateway.config.scorers import ScorerConfig as Section
from gateway.core.did_you_mean import did_you_mean
from gateway.core.errors import ConfigError
from gateway.core.score import Direction, Kind
from gateway.evals.http_client import HttpConnections
from gateway.evals.scoring.asker import Asker, ExternalServices
from gateway.evals.scoring.budget import InMemoryLedger, ScorerBudget
from gateway.evals.scoring.gate import AT_ONCE, ScorerGate
from gateway.evals.scoring.golden import check_golden
from gateway.evals.scoring.isolate import isolated
from gateway.evals.scoring.options import InvalidOptions, construct
from gateway.evals.scoring.pairs import PairScorer
from gateway.evals.scoring.types import ImmediateScorer, Scorer

GROUP = "gateway.scorers"  # entry points of other packages
_HERE = "gateway.evals.scorers"
SCORERS: Mapping[str, str] = MappingProxyType(
    {
        "bleu": f"{_HERE}.bleu:Bleu",
        "chrf": f"{_HERE}.chrf:Chrf",
        "edit_distance": f"{_HERE}.edit_distance:EditDistance",
        "cost": f"{_HERE}.cost:Cost",
        "embedding": f"{_HERE}.embedding:embedding",
        "exact": f"{_HERE}.exact:Exact",
        "f1": f"{_HERE}.f1:F1",
        "grader": f"{_HERE}.grader:grader",
        "judge": f"{_HERE}.judge:judge",
        "json_distance": f"{_HERE}.json_distance:JsonDistance",
        "json_schema": f"{_HERE}.json_schema:JsonSchema",
        "language": f"{_HERE}.language:Language",
        "latency": f"{_HERE}.latency:Latency",
        "length": f"{_HERE}.length:Length",
        "mean_logprob": f"{_HERE}.mean_logprob:MeanLogprob",
        "refusal": f"{_HERE}.refusal:Refusal",
        "repetition": f"{_HERE}.repetition:Repetition",
        "rouge_l": f"{_HERE}.rouge_l:RougeL",
        "secrets": f"{_HERE}.secrets:Secrets",
        "tool_calls": f"{_HERE}.tool_calls:ToolCalls",
        "tool_distance": f"{_HERE}.tool_distance:ToolDistance",
        "truncation": f"{_HERE}.truncation:Truncation",
        "valid_json": f"{_HERE}.valid_json:ValidJson",
    }
)
DEFAULTS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "valid_json": {},
        "json_schema": {},
        "tool_calls": {},
        "refusal": {},
        "repetition": {},
        "truncation": {},
        "length": {},
        "latency": {},
    }
)
GOLDEN_S, DEADLINE_S, ASKER_DEADLINE_S = 10.0, 10.0, 60.0
ASKS_AT_ONCE = 8
HTTP = ("http://", "https://")
_DOTTED = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_ATTRIBUTES = ("name", "version", "kind", "direction", "bounds", "heavy", "score", "golden")


@dataclass(frozen=True, slots=True)
class RegisteredScorer:
    """A scorer that may judge.

    share: of the exchanges, by its own draw. config_hash: of use and options; scores with different ones do not mix.
    foreign: not of this package; runs on a thread of its own. prompt: the scorer again, when it is heavy and may have
    an answer at once; None: it has none. waits: for a model, a service or another process. gate: its turns, where it
    may wait; None: it needs none.
    """

    scorer: Scorer
    share: float
    deadline_s: float
    config_hash: str
    foreign: bool = False
    prompt: ImmediateScorer | None = None
    waits: bool = False
    gate: ScorerGate | None = None


@dataclass(frozen=True, slots=True)
class RegisteredPair:
    """The same for a scorer of pairs."""

    scorer: PairScorer
    share: float
    deadline_s: float
    config_hash: str
    foreign: bool = False
    gate: ScorerGate | None = None


@dataclass(frozen=True, slots=True)
class BuiltScorers:
    """Every configured scorer, by its name. pairs: those that compare two answers."""

    single: dict[str, RegisteredScorer]
    pairs: dict[str, RegisteredPair]

    def all(self) -> dict[str, RegisteredScorer | RegisteredPair]:
        return {**self.single, **self.pairs}


def build(configured: Mapping[str, Section], outside: ExternalServices | None = None) -> dict[str, RegisteredScorer]:
    """Every configured scorer of single answers, by its name; see build_all."""
    return build_all(configured, outside).single


def build_all(configured: Mapping[str, Section], outside: ExternalServices | None = None) -> BuiltScorers:
    """Every configured scorer. Raises ConfigError with every mistake; imports what `use` names, and asks nobody.

    outside: what scorers ask with; None: they can be built, and cannot ask.
    """
    outside = outside or ExternalServices(HttpConnections())
    built = BuiltScorers({}, {})
    mistakes: list[str] = []
    for name, section in configured.items():
        try:
            made = _register(name, section, outside)
        except InvalidOptions as mistaken:
            mistakes += [f"scorers.{name}{m}" for m in mistaken.lines]
        else:
            if isinstance(made, RegisteredPair):
                built.pairs[name] = made
            else:
                built.single[name] = made
    if mistakes:
        raise ConfigError(mistakes)
    return built


async def close_all(built: BuiltScorers) -> None:
    """Ends the processes that scorers have of their own."""
    for registered in built.all().values():
        close = getattr(registered.scorer, "aclose", None)
        if close is not None and not registered.foreign:
            await close()


def _register(name: str, section: Section, outside: ExternalServices) -> RegisteredScorer | RegisteredPair:
    use = section.use or name
    scorer, foreign = _made(name, use, section, outside)
    unhashed = getattr(scorer, "unhashed", ())
    told = {option: value for option, value in section.options.items() if option not in unhashed}
    hashed = config_hash(use, told, getattr(scorer, "fingerprint", ""))
    waits = scorer.kind == "llm" or getattr(scorer, "waits", False)
    at_once = section.concurrency or (1 if section.isolate else ASKS_AT_ONCE if waits else AT_ONCE)
    gate = ScorerGate(name, at_once) if waits or foreign else None
    deadline_s = section.deadline_s or (ASKER_DEADLINE_S if waits else DEADLINE_S)
    if not hasattr(scorer, "score"):
        return RegisteredPair(cast(PairScorer, scorer), section.share, deadline_s, hashed, foreign, gate)
    prompt = scorer if isinstance(scorer, ImmediateScorer) else None
    return RegisteredScorer(scorer, section.share, deadline_s, hashed, foreign, prompt, waits, gate)


def _made(name: str, use: str, section: Section, outside: ExternalServices) -> tuple[Any, bool]:
    """The scorer, proven on its golden cases, and whether it is foreign: of another package, and in our process."""
    scorer: Any
    if section.isolate:
        _check_section({}, section)
        scorer = isolated(name, use, section.options, section.memory_mb)
        _check_attributes(use, scorer)
        return scorer, False
    kind, foreign = _find(use, named=section.use is not None)
    scorer = construct(kind, name, section.options, {} if foreign else _given(name, use, kind, section, outside))
    _check_attributes(use, scorer)
    _check_section(inspect.signature(kind).parameters, section)
    if wrong := check_golden(scorer, section.deadline_s or GOLDEN_S):
        raise InvalidOptions([f": {w}" for w in wrong])
    return scorer, foreign


def _given(name: str, use: str, kind: Any, section: Section, outside: ExternalServices) -> dict[str, Any]:
    """What scorers of this package are given beside their options: those that name it among their parameters."""
    takes = inspect.signature(kind).parameters
    given: dict[str, Any] = {"url": use} if use.startswith(HTTP) else {}
    if "asker" in takes or "budget" in takes:
        limited = section.budget_usd is not None or section.budget_tokens is not None
        ledger = outside.ledger or InMemoryLedger()
        budget = ScorerBudget(name, section.budget_usd, section.budget_tokens, ledger) if limited else None
        deadline_s = section.deadline_s or ASKER_DEADLINE_S
        given["asker"] = Asker(outside.client, outside.prices, budget, deadline_s)
        given["budget"], given["deadline_s"] = budget, deadline_s
    given |= {"connections": outside.connections, "directory": outside.directory}
    return {name: value for name, value in given.items() if name in takes}


def _check_section(takes: Mapping[str, Any], section: Section) -> None:
    """Limits that mean nothing for this scorer. takes: the parameters of what makes it."""
    lines = []
    if not {"asker", "budget"} & set(takes):
        for limit in ("budget_usd", "budget_tokens"):
            if getattr(section, limit) is not None:
                lines.append(f".{limit}: this scorer asks no model and spends nothing")
    if section.memory_mb is not None and not section.isolate:
        lines.append(".memory_mb: holds only with `isolate: true`")
    if lines:
        raise InvalidOptions(lines)


def _check_attributes(use: str, scorer: Scorer) -> None:
    lacking = [a for a in _ATTRIBUTES if not hasattr(scorer, a) and not (a == "score" and hasattr(scorer, "compare"))]
    if lacking:
        raise InvalidOptions([f".use: {use} is no scorer: it has no {', '.join(lacking)}"])
    allowed = {"kind": get_args(Kind), "direction": get_args(Direction)}
    wrong = [
        f".use: {use} is no scorer: its {a} is {getattr(scorer, a)!r}, expected one of {', '.join(words)}"
        for a, words in allowed.items()
        if getattr(scorer, a) not in words
    ]
    bounds: object = scorer.bounds
    if not isinstance(bounds, tuple) or len(bounds) != 2:
        wrong.append(f".use: {use} is no scorer: its bounds are {bounds!r}, expected (low, high)")
    if wrong:
        raise InvalidOptions(wrong)


def config_hash(use: str, options: Mapping[str, Any], fingerprint: str = "") -> str:
    """12 hex digits of the sha256 of {"options": …, "use": …} as JSON with sorted keys. fingerprint: what else decides
    a score (the text of a template), where there is such a thing."""
    hashed = {"use": use, "options": options, **({"fingerprint": fingerprint} if fingerprint else {})}
    text = orjson.dumps(hashed, option=orjson.OPT_SORT_KEYS, default=str)
    return hashlib.sha256(text).hexdigest()[:12]


def _find(use: str, *, named: bool) -> tuple[Any, bool]:
    """What makes the scorer, and whether it is foreign. named: `use` stands in the file, and is not just the name."""
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
    except InvalidOptions as mistaken:
        absent = mistaken.__cause__
        if isinstance(absent, ModuleNotFoundError) and absent.name:
            package = absent.name.partition(".")[0]
            raise InvalidOptions(
                [f": {use} needs {package}, which is not installed: pip install {package}"]
            ) from absent
        raise


def _loaded(use: str, entry: EntryPoint) -> Any:
    try:
        return entry.load()
    except Exception as error:  # whatever importing a stranger's module raises is a mistake of this line of the config
        raise InvalidOptions([f'.use: "{use}" ({entry.value}) cannot be loaded: {_said(error)}']) from error


def _imported(dotted: str) -> Any:
    module_name, _, name = dotted.partition(":")
    try:
        module = import_module(module_name)
    except Exception as error:  # the same
        raise InvalidOptions([f".use: cannot import {module_name}: {_said(error)}"]) from error
    if not hasattr(module, name):
        raise InvalidOptions([f".use: {module_name} has no {name}{did_you_mean(name, vars(module))}"])
    return getattr(module, name)


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
