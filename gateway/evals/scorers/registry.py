"""From the config's `scorers` section to scorers that may judge: found, given their options, and proven on their
golden cases. Every mistake of the section at once.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import Any, get_args

import orjson

from gateway.config import Scorer as Section
from gateway.errors import ConfigError
from gateway.evals.scorers import Direction, Kind, Prompt, Scorer
from gateway.evals.scorers.golden import check_golden
from gateway.evals.scorers.options import Mistaken, construct, near

GROUP = "gateway.scorers"  # entry points of other packages
_HERE = "gateway.evals.scorers"
SCORERS: Mapping[str, str] = MappingProxyType(
    {
        "bleu": f"{_HERE}.bleu:Bleu",
        "chrf": f"{_HERE}.chrf:Chrf",
        "exact": f"{_HERE}.exact:Exact",
        "f1": f"{_HERE}.f1:F1",
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
_DOTTED = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_ATTRIBUTES = ("name", "version", "kind", "direction", "bounds", "heavy", "score", "golden")


@dataclass(frozen=True, slots=True)
class Registered:
    """A scorer that may judge.

    share: of the exchanges, by its own draw. config_hash: of use and options; scores with different ones do not mix.
    foreign: not of this package; runs on a thread of its own. prompt: the scorer again, when it is heavy and may have
    an answer at once; None: it has none.
    """

    scorer: Scorer
    share: float
    deadline_s: float
    config_hash: str
    foreign: bool = False
    prompt: Prompt | None = None


def build(configured: Mapping[str, Section]) -> dict[str, Registered]:
    """Every configured scorer, by its name. Raises ConfigError with every mistake; imports what `use` names."""
    built: dict[str, Registered] = {}
    mistakes: list[str] = []
    for name, section in configured.items():
        try:
            built[name] = _register(name, section)
        except Mistaken as mistaken:
            mistakes += [f"scorers.{name}{m}" for m in mistaken.lines]
    if mistakes:
        raise ConfigError(mistakes)
    return built


def _register(name: str, section: Section) -> Registered:
    use = section.use or name
    kind, foreign = _find(use, named=section.use is not None)
    scorer = construct(kind, name, section.options)
    _check_attributes(use, scorer)
    wrong = check_golden(scorer, section.deadline_s)
    if wrong:
        raise Mistaken([f": {w}" for w in wrong])
    prompt = scorer if isinstance(scorer, Prompt) else None
    return Registered(scorer, section.share, section.deadline_s, config_hash(use, section.options), foreign, prompt)


def _check_attributes(use: str, scorer: Scorer) -> None:
    lacking = [a for a in _ATTRIBUTES if not hasattr(scorer, a)]
    if lacking:
        raise Mistaken([f".use: {use} is no scorer: it has no {', '.join(lacking)}"])
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
        raise Mistaken(wrong)


def config_hash(use: str, options: Mapping[str, Any]) -> str:
    """12 hex digits of the sha256 of {"options": …, "use": …} as JSON with sorted keys."""
    text = orjson.dumps({"use": use, "options": options}, option=orjson.OPT_SORT_KEYS, default=str)
    return hashlib.sha256(text).hexdigest()[:12]


def _find(use: str, *, named: bool) -> tuple[Any, bool]:
    """What makes the scorer, and whether it is foreign. named: `use` stands in the file, and is not just the name."""
    if use in SCORERS:
        return _built_in(use), False
    installed = {e.name: e for e in entry_points(group=GROUP)}
    if use in installed:
        return _loaded(use, installed[use]), True
    if _DOTTED.fullmatch(use):
        return _imported(use), True
    known = sorted({*SCORERS, *installed})
    close = near(use, known) or f"; known: {', '.join(known)}, an entry point of {GROUP}, or package.module:Class"
    at = ".use" if named else ""
    raise Mistaken([f'{at}: no scorer "{use}"{close}'])


def _built_in(use: str) -> Any:
    try:
        return _imported(SCORERS[use])
    except Mistaken as mistaken:
        absent = mistaken.__cause__
        if isinstance(absent, ModuleNotFoundError) and absent.name:
            package = absent.name.partition(".")[0]
            raise Mistaken([f": {use} needs {package}, which is not installed: pip install {package}"]) from absent
        raise


def _loaded(use: str, entry: EntryPoint) -> Any:
    try:
        return entry.load()
    except Exception as error:  # whatever importing a stranger's module raises is a mistake of this line of the config
        raise Mistaken([f'.use: "{use}" ({entry.value}) cannot be loaded: {_said(error)}']) from error


def _imported(dotted: str) -> Any:
    module_name, _, name = dotted.partition(":")
    try:
        module = import_module(module_name)
    except Exception as error:  # the same
        raise Mistaken([f".use: cannot import {module_name}: {_said(error)}"]) from error
    if not hasattr(module, name):
        raise Mistaken([f".use: {module_name} has no {name}{near(name, vars(module))}"])
    return getattr(module, name)


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
