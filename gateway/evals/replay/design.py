"""What a replay asks of whom: targets by name, what is set in every request, seeds. Frozen and hashed. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from types import MappingProxyType
from typing import Any

import orjson

from gateway.config.models import Config
from gateway.core.did_you_mean import did_you_mean
from gateway.core.errors import CannotRun
from gateway.core.exchange import Target
from gateway.evals.replay.datasets import DatasetItem

# Kinds of upstream that take `seed` (others refuse what they do not know).
SEEDED = frozenset({
    "openai", "azure", "vllm", "ollama", "llamacpp", "llamafile", "llama_cpp_python", "lmstudio", "sglang", "ray_serve",
    "tgi", "groq", "together", "openrouter", "fireworks", "xai", "fake",
})  # fmt: skip
_SEEDED_APIS = ("chat", "completions")
_ALIAS = "replay-target"
_SYSTEM: Mapping[str, str] = MappingProxyType({"responses": "instructions", "messages": "system"})


class TargetError(CannotRun):
    """A target of the replay cannot be asked; the message names it and what there is."""


@dataclass(frozen=True, slots=True)
class ReplayTarget:
    """One target of a replay. name: as the user wrote it. alias: the model name that is asked for. forced: the one
    target of the alias that may answer; None: any. extra: the alias is not in the config, and made for this replay.
    definition: a hash of what the config says of it: answers of another definition are another replay's. seeded: every
    upstream that may answer takes `seed`.
    """

    name: str
    alias: str
    forced: Target | None = None
    extra: bool = False
    definition: str = ""
    seeded: bool = False

    @property
    def headers(self) -> dict[str, str]:
        return {"x-gateway-target": str(self.forced)} if self.forced else {}


@dataclass(frozen=True, slots=True)
class RequestSettings:
    """What is the same in every request. fields: members of the body, before what a row says. system: in place of a
    row's own. seed: of the first repeat, each further one has the next; None: none is sent."""

    fields: tuple[tuple[str, Any], ...] = ()
    system: str | None = None
    seed: int | None = 0


@dataclass(frozen=True, slots=True)
class ReplayDesign:
    """dataset: its hash."""

    dataset: str
    targets: tuple[ReplayTarget, ...]
    settings: RequestSettings

    @property
    def json(self) -> str:
        """All that decides an answer."""
        said = {"dataset": self.dataset, "settings": asdict(self.settings)}
        targets = {t.name: t.definition for t in self.targets}
        return orjson.dumps({**said, "targets": targets}, option=orjson.OPT_SORT_KEYS).decode()

    @property
    def hash(self) -> str:
        return sha256(self.json.encode()).hexdigest()[:16]


def body(item: DatasetItem, target: ReplayTarget, settings: RequestSettings, repeat: int) -> dict[str, Any]:
    """The request. repeat: from 1."""
    asked = {"model": target.alias, **item.request, **dict(settings.fields)}
    if settings.system is not None:
        _instruct(asked, item.api, settings.system)
    if target.seeded and item.api in _SEEDED_APIS and settings.seed is not None:
        own = asked.get("seed")
        asked["seed"] = (own if isinstance(own, int) else settings.seed) + repeat - 1
    return asked


def _instruct(asked: dict[str, Any], api: str, system: str) -> None:
    if api in _SYSTEM:
        asked[_SYSTEM[api]] = system
    elif api == "chat":
        others = [turn for turn in asked["messages"] if turn.get("role") not in ("system", "developer")]
        asked["messages"] = [{"role": "system", "content": system}, *others]


def setting(word: str) -> tuple[str, Any]:
    """ "temperature=0" → ("temperature", 0): the value as JSON, or else as text. Raises ValueError."""
    name, equals, value = word.partition("=")
    if not equals or not name:
        raise ValueError(f"{word!r}: expected NAME=VALUE, as in temperature=0")
    if name in ("model", "messages", "stream", "prompt", "input", "n"):
        raise ValueError(f"{name} cannot be set for all rows: it is what a replay asks, or how")
    try:
        return name, orjson.loads(value)
    except orjson.JSONDecodeError:
        return name, value


def contenders(names: Sequence[str], config: Config, *, own: bool) -> tuple[ReplayTarget, ...]:
    """Names to targets: an alias of the config, or "upstream/model". own: the gateway is started for this replay, so
    that a target needs no alias. Raises WrongTarget with every mistake.
    """
    mistakes = [f"--targets: {n!r} stands twice" for n in dict.fromkeys(names) if names.count(n) > 1]
    found: list[ReplayTarget] = []
    for at, name in enumerate(names):
        try:
            found.append(_contender(name, at, config, own))
        except TargetError as wrong:
            mistakes.append(f"--targets: {wrong}")
    if mistakes:
        raise TargetError("\n".join(mistakes))
    return tuple(found)


def _contender(name: str, at: int, config: Config, own: bool) -> ReplayTarget:
    if name in config.models:
        model = config.models[name]
        targets = [Target(t.upstream, t.model) for t in (*model.targets, *model.fallback)]
        said = model.model_dump_json(include={"targets", "fallback", "strategy"})
        return ReplayTarget(name, name, definition=_defined(config, targets, said), seeded=_seeded(config, targets))
    upstream, _, model_name = name.partition("/")
    if not model_name or upstream not in config.upstreams:
        raise TargetError(f"{name!r} is not a target{_hint(name, config)}")
    target = Target(upstream, model_name)
    alias = _holding(target, config)
    if alias is None and not own:
        raise TargetError(
            f"{name!r} is a target of no model of the config, and a gateway that runs already asks only those; "
            "add it to one, or leave --gateway out"
        )
    definition, seeded = _defined(config, [target], name), _seeded(config, [target])
    if own:
        return ReplayTarget(name, f"{_ALIAS}-{at + 1}", None, True, definition, seeded)
    return ReplayTarget(name, alias or "", target, False, definition, seeded)


def _hint(name: str, config: Config) -> str:
    _, _, model = name.partition("/")
    close = did_you_mean(name, [*config.models, *(f"{upstream}/{model}" for upstream in config.upstreams)])
    known = [*config.models, *(f"{upstream}/MODEL" for upstream in config.upstreams)]
    return close or f"; expected one of {', '.join(known[:12])}"


def _holding(target: Target, config: Config) -> str | None:
    for alias, model in config.models.items():
        if any((t.upstream, t.model) == (target.upstream, target.model) for t in (*model.targets, *model.fallback)):
            return alias
    return None


def _defined(config: Config, targets: Sequence[Target], said: str) -> str:
    """Never with a key in it; the address of an engine that is run here changes with each start."""
    places = []
    for target in targets:
        upstream = config.upstreams[target.upstream]
        places.append([target.upstream, upstream.kind, upstream.run.model if upstream.run else upstream.url])
    return sha256(orjson.dumps([said, places])).hexdigest()[:12]


def _seeded(config: Config, targets: Sequence[Target]) -> bool:
    return all(config.upstreams[t.upstream].kind in SEEDED for t in targets)
