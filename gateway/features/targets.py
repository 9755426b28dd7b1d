"""Targets of requests that programs send through a gateway: words resolved to models of the config, with settings of
their own. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

import orjson

from gateway.config.config import Config, Model
from gateway.config.derive import refs_of_model, target_of
from gateway.core.did_you_mean import did_you_mean
from gateway.core.errors import CannotRun
from gateway.core.exchange import Target
from gateway.core.output_tokens import OUTPUT_LIMITS
from gateway.core.variant_text import variant_text

_ALIAS = "replay-target"
_SAME = (OUTPUT_LIMITS, ("stop", "stop_sequences"))  # in several APIs


class TargetError(CannotRun):
    """A target that cannot be used. The message names it and the known ones."""


@dataclass(frozen=True, slots=True)
class TargetWord:
    """A target as the user wrote it: NAME, or NAME,temperature=0,system=TEXT."""

    base: str
    """An alias of the config, or "upstream/model"."""
    fields: tuple[tuple[str, Any], ...] = ()
    """Members of its requests; they win over those of all requests. None means that the member is removed."""
    system: str | None = None
    """The system message; it wins over that of all requests."""

    @property
    def name(self) -> str:
        """Name in reports, such as "big" or "big[temperature=0]"."""
        text = variant_text(dict(self.fields), self.system, {})
        return f"{self.base}[{text}]" if text else self.base

    @property
    def settings(self) -> str:
        """The settings for people; "" if there are none."""
        parts = [f"{name} {orjson.dumps(value).decode()}" for name, value in self.fields]
        parts += [f"system {self.system}"] if self.system is not None else []
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class ReplayTarget:
    name: str
    """The name in reports and in the store: that of its TargetWord."""
    alias: str
    """The model name in the requests."""
    forced: Target | None = None
    """The one target of the alias that may answer. None: any."""
    extra: bool = False
    """The alias is not in the config; the replay's own gateway defines it."""
    definition: str = ""
    """A hash of its definition in the config. With another definition, it is another replay."""
    seeded: bool = False
    """Every upstream that may answer accepts `seed`."""
    base: str = ""
    fields: tuple[tuple[str, Any], ...] = ()
    system: str | None = None
    """The three of its TargetWord."""
    replaces: tuple[str, ...] = ()
    """Settings of the alias in the config that this target lacks: parameters, and "system". The replay's own settings
    of these names would lose to it."""

    @property
    def headers(self) -> dict[str, str]:
        return {"x-gateway-target": str(self.forced)} if self.forced else {}


@dataclass(frozen=True, slots=True)
class RequestSettings:
    fields: tuple[tuple[str, Any], ...] = ()
    """Members of the body; they replace those of a row."""
    system: str | None = None
    """A system message that replaces a row's own."""
    seed: int | None = 0
    """The seed of the first repeat; each further one has the next. None means that no seed is sent."""


NO_SETTINGS = RequestSettings()


def setting(word: str) -> tuple[str, Any]:
    """ "temperature=0" → ("temperature", 0): the value as JSON, or else as text. Raises ValueError."""
    name, equals, value = word.partition("=")
    if not equals or not name:
        raise ValueError(f"{word!r}: expected NAME=VALUE, as in temperature=0")
    if name in ("model", "messages", "stream", "prompt", "input", "n"):
        raise ValueError(f"{name} cannot be set for all rows: the replay sets it")
    try:
        return name, orjson.loads(value)
    except orjson.JSONDecodeError:
        return name, value


def target_word(word: str) -> TargetWord:
    """ "big,temperature=0,system=Be brief, please." → its parts. Raises ValueError."""
    base, *parts = _SETTINGS.split(word)
    system, fields = None, []
    for part in parts:
        name, _, text = part.partition("=")
        if name == "system":
            system = text
        else:
            fields.append(setting(part))
    return TargetWord(base.strip(), tuple(fields), system)


_SETTINGS = re.compile(r",\s*(?=[A-Za-z_][\w.-]*=)")


def resolve_targets(
    names: Sequence[str], config: Config, *, own: bool, settings: RequestSettings = NO_SETTINGS
) -> tuple[ReplayTarget, ...]:
    """The targets of these words, as target_word reads them. Raises TargetError with every error.

    own: the gateway is started for this replay, so a target needs no alias. settings: of all requests.
    """
    errors: list[str] = []
    found: list[ReplayTarget] = []
    for at, name in enumerate(names):
        try:
            word = target_word(name)
            resolved, replaced = _resolve(word.base, at, config, own), _replaced(word, config, settings)
            if replaced and not own:
                raise TargetError(
                    f"{word.name!r}: models.{word.base} sets {', '.join(replaced)}, which win over a request's; leave "
                    f"out --gateway, so that the replay starts a gateway of its own, or change models.{word.base}"
                )
            resolved = _yielding(resolved, replaced, at) if replaced else resolved
            found.append(replace(resolved, name=word.name, base=word.base, fields=word.fields, system=word.system))
        except (TargetError, ValueError) as error:
            errors.append(f"--targets: {error}")
    known = [target.name for target in found]
    errors = [*(f"--targets: {n!r} is named twice" for n in dict.fromkeys(known) if known.count(n) > 1), *errors]
    if errors:
        raise TargetError("\n".join(errors))
    return tuple(found)


def _resolve(name: str, at: int, config: Config, own: bool) -> ReplayTarget:
    if name in config.models:
        model = config.models[name]
        targets = [Target(t.upstream, t.model) for t in refs_of_model(config, model)]
        definition = _definition(config, targets, _text_of(model))
        return ReplayTarget(name, name, definition=definition, seeded=_seeded(config, targets))
    upstream, _, model_name = name.partition("/")
    if not model_name or upstream not in config.upstreams:
        raise TargetError(f"{name!r} is not a target{_hint(name, config)}")
    target = Target(upstream, model_name)
    alias = _alias_with(target, config)
    if alias is None and not own:
        raise TargetError(
            f"{name!r} is not a target of any model in the config, and a running gateway serves only those; "
            "add it to a model, or leave out --gateway"
        )
    definition, seeded = _definition(config, [target], name), _seeded(config, [target])
    if own:
        return ReplayTarget(name, f"{_ALIAS}-{at + 1}", None, True, definition, seeded)
    return ReplayTarget(name, alias or "", target, False, definition, seeded)


def _replaced(word: TargetWord, config: Config, settings: RequestSettings) -> tuple[str, ...]:
    """Settings that both the targets of the word's alias and the replay set: parameters, and "system"."""
    model = config.models.get(word.base)
    refs = refs_of_model(config, model) if model else []
    named = {name for name, _ in (*settings.fields, *word.fields)}
    wanted = {other for name in named for other in next((same for same in _SAME if name in same), (name,))}
    found = dict.fromkeys(name for ref in refs for name in ref.set if name in wanted)
    instructed = word.system is not None or settings.system is not None
    return (*found, *(("system",) if instructed and any(ref.system is not None for ref in refs) else ()))


def _yielding(target: ReplayTarget, replaced: tuple[str, ...], at: int) -> ReplayTarget:
    """The target by an alias of the replay's own gateway that leaves these out."""
    definition = sha256(orjson.dumps([target.definition, replaced])).hexdigest()[:12]
    return replace(target, alias=f"{_ALIAS}-{at + 1}", extra=True, replaces=replaced, definition=definition)


def _text_of(model: Model) -> str:
    """JSON of the settings that decide who answers. Variants that change nothing are left out, as before there were
    any; so is the day on which a model retires."""
    found = model.model_dump(mode="json", include={"targets", "fallback", "strategy"})
    for ref in (*found["targets"], *found["fallback"]):
        for name in ("retires", "facade", "probed"):  # which change no answer
            ref.pop(name, None)
        for name in ("set", "system", "headers", "route", "digest", "watch", "guard", "as_", "accept", "reading"):
            if not ref[name]:
                del ref[name]
    return orjson.dumps(found).decode()


def _hint(name: str, config: Config) -> str:
    _, _, model = name.partition("/")
    close = did_you_mean(name, [*config.models, *(f"{upstream}/{model}" for upstream in config.upstreams)])
    known = [*config.models, *(f"{upstream}/MODEL" for upstream in config.upstreams)]
    return close or f"; expected one of {', '.join(known[:12])}"


def _alias_with(target: Target, config: Config) -> str | None:
    for alias, model in config.models.items():
        if any(target_of(ref) == target for ref in refs_of_model(config, model)):
            return alias
    return None


def _definition(config: Config, targets: Sequence[Target], text: str) -> str:
    """A hash without keys, and without the address of a managed engine, which changes with each start."""
    upstreams = []
    for target in targets:
        upstream = config.upstreams[target.upstream]
        upstreams.append([target.upstream, upstream.kind, upstream.run.model if upstream.run else upstream.url])
    return sha256(orjson.dumps([text, upstreams])).hexdigest()[:12]


def _seeded(config: Config, targets: Sequence[Target]) -> bool:
    return all(config.upstreams[t.upstream].provider.seed for t in targets)
