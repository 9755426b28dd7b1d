"""Cautions about a valid config, and a summary of its keys and limits, for `gateway check` and programs at their start.

The data directory remembers which cautions were printed, so that none is printed more than once a day.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson

from gateway.config.config import Config
from gateway.config.deprecations import deprecations
from gateway.config.derive import cautions as plan_cautions
from gateway.config.derive import content_of, directory_of, plans_of, prices_of, refs_of_model, target_of, target_refs
from gateway.config.metric_labels import HISTOGRAM_ALIASES, without_histograms
from gateway.config.reserved_names import caller_prefix, is_other_actor
from gateway.core.keys import KeyRecord
from gateway.core.limits import limits_of
from gateway.core.wildcards import STAR

FILE = "cautioned"  # in the data directory: {digest of a caution: Unix seconds}
DAY_S = 86_400.0


def is_due(caution: str, data: Path, now: float | None = None) -> bool:
    """Whether a caution is to be printed, which is then remembered: this text was not printed within a day.

    Without a data directory, which is not created for this, it is always due. now: Unix seconds.
    """
    path, now = data / FILE, time.time() if now is None else now
    digest = sha256(caution.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    printed = {name: at for name, at in _read(path).items() if 0 <= now - at < DAY_S}
    if digest in printed:
        return False
    own = path.with_name(f"{FILE}.{os.getpid()}")
    try:
        own.write_bytes(orjson.dumps({**printed, digest: now}))
        own.replace(path)
    except OSError:
        with suppress(OSError):
            own.unlink()
    return True


def _read(path: Path) -> dict[str, float]:
    try:
        found: Any = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return {}
    entries = found.items() if isinstance(found, dict) else ()
    return {name: float(at) for name, at in entries if isinstance(at, int | float)}


GUESSABLE = ("test", "key", "secret", "password", "changeme", "admin", "sk-test", "sk-1234", "1234", "123456", "dummy")
_MAX_NAMED = 3


def cautions(config: Config) -> list[str]:
    """One sentence each, the most important first."""
    plans = [plan for name, plan in plans_of(config).items() if config.experiments[name].enabled]
    of_plans = [caution for plan in plans for caution in plan_cautions(plan)]
    return [
        *clear_text_caution(config),
        *_open_beside_keys(config),
        *_guessable(config),
        *_unlimited_paths(config),
        *_literal_names(config),
        *of_plans,
        *_likelihoods_on_one_engine(config),
        *_names_of_callers(config),
        *_names_of_actors(config),
        *_not_adaptive(config),
        *_streams_of_cascades(config),
        *_unproved_decisions(config),
        *_gpu_limits_without_prices(config),
        *_without_series(config),
        *_objectives_of_calls(config),
        *deprecations(config),
    ]


def clear_text_caution(config: Config) -> Iterator[str]:
    """Full content of prompts is stored as it is in the stream server and the store."""
    recording = config.sampling.rate > 0 or any(rule.rate > 0 for rule in config.sampling.rules)
    full = [k.name for k in config.keys if k.sample != "never" and content_of(k.content, config.redaction) == "full"]
    everyone = config.open and config.redaction is None
    if not recording or not (full or everyone):
        return
    who = "everyone" if everyone else _listed(full)
    yield (
        f"PROMPTS AND ANSWERS ARE STORED IN CLEAR: {config.sampling.rate:.0%} of the traffic of {who}, in full, in the "
        "stream server and the store. Add `redaction: {}` to remove secrets and personal data, or `content: metadata` "
        "or `sample: never` to a key"
    )


def _not_adaptive(config: Config) -> Iterator[str]:
    of = config.predictor
    if of is not None and of.guided is not None and "adaptive" not in of.model_fields_set:
        yield (
            "predictor: the judge sees every exchange with the same probability, `share`; older versions let the model "
            "decide. Set `adaptive: true` for that, or `adaptive: false` to say that you have read this"
        )


def _likelihoods_on_one_engine(config: Config) -> Iterator[str]:
    """Yields experiments whose arms are models of one engine: mostly a base model and its LoRA adapter."""
    for name, experiment in config.experiments.items():
        if not (experiment.enabled and experiment.likelihood):
            continue
        url = config.upstreams[experiment.control.upstream].url
        for arm, ref in experiment.arms.items():
            if config.upstreams[ref.upstream].url == url and ref.model != experiment.control.model:
                yield (
                    f"experiments.{name}.{arm}: {ref.model} and {experiment.control.model} are served by one engine. "
                    "If either is a LoRA adapter, vLLM's log-probabilities of prompts are not reliable, and pairs are "
                    "refused: merge it into its base model, and serve it by an engine of its own (docs/experiments.md)"
                )


def _gpu_limits_without_prices(config: Config) -> Iterator[str]:
    limits = [config.budgets.default_limits, *(key.limits for key in config.keys)]
    limits += [person.limits for person in config.people.values()]
    limits += [team.limits for team in config.teams.values()]
    limits += [organization.limits for organization in config.organizations.values()]
    if not any(_has_gpu_limit(each.model_dump(exclude_none=True, exclude={"carried", "soft"})) for each in limits):
        return
    prices = prices_of(config)
    targets = {target_of(ref) for model in config.models.values() for ref in refs_of_model(config, model)}
    lacking = sorted(str(target) for target in targets if prices.lacks_gpu(target))
    if lacking and config.budgets.unknown_price == "refuse":
        yield (
            f"prices.gpu_seconds has no price of {_listed(lacking)}: keys with a limit in GPU-seconds cannot call it. "
            "Add it, or set budgets.unknown_price"
        )
    if not any(prices.gpu_of(target) for target in targets):
        yield "limits in GPU-seconds count nothing: no target has a price in `prices.gpu_seconds`"


def _without_series(config: Config) -> Iterator[str]:
    if names := without_histograms(config):
        yield (
            f'metrics: the latencies of {_listed(names)} share alias="other": the first {HISTOGRAM_ALIASES} models of '
            "the file have their own; move the models up whose latency you watch"
        )


def _objectives_of_calls(config: Config) -> Iterator[str]:
    """Answers of one conversation are alike, which a count of single calls does not see."""
    names = [alias for alias, model in config.models.items() if model.score_objectives]
    if names and config.sampling.unit == "request":
        yield (
            f"models {_listed(names)}: the alerts of score_objectives count calls as independent; where users have "
            "conversations, set `sampling: {unit: conversation}`, or the alerts ring too often"
        )


def _has_gpu_limit(settings: Mapping[str, Any]) -> bool:
    return any(
        name.startswith("gpu_seconds_per_") or (isinstance(value, dict) and _has_gpu_limit(value))
        for name, value in settings.items()
    )


def _streams_of_cascades(config: Config) -> Iterator[str]:
    for alias, model in config.models.items():
        found = config.routes.get(model.targets[0].route or "")
        if found is not None and found.route.cascade and not found.route.certificates:
            yield (
                f"models.{alias}: the cascade {found.route.name} serves plain calls alone: an answer can be checked "
                f"once it is complete, so calls with `stream: true` go to {found.route.control.target}"
            )


def _unproved_decisions(config: Config) -> Iterator[str]:
    for alias, model in config.models.items():
        for ref in (*model.targets, *model.fallback):
            if ref.as_ and ref.facade != "unproved":
                yield (
                    f"models.{alias}: {target_of(ref)} answers no client until an experiment on {alias} has "
                    "shipped it; until then the next target does"
                )
    unproved = {str(target_of(ref)) for ref in target_refs(config) if ref.facade == "unproved"}
    for name in sorted(unproved):
        yield (
            f"{name}: `facade: unproved` lets its decisions answer clients, whether or not an experiment has shipped "
            "them"
        )


def _open_beside_keys(config: Config) -> Iterator[str]:
    if config.open and config.keys:
        yield (
            f"`open: true` is set together with {len(config.keys)} keys: a client without a key, or with a wrong one, "
            "may use every model; the owner of a key can do what `keys[].models` forbids by leaving the key out. "
            "Remove `open`"
        )


def _guessable(config: Config) -> Iterator[str]:
    digests = {sha256(word.encode()).hexdigest(): word for word in GUESSABLE}
    named = {f"keys[{i}] ({key.name})": key.sha256 for i, key in enumerate(config.keys)}
    tokens = () if config.admin is None else config.admin.tokens
    named |= {f"admin.tokens[{i}] ({token.name})": token.sha256 for i, token in enumerate(tokens)}
    named |= {"ingest": config.ingest.sha256} if config.ingest is not None else {}
    named |= {"metrics": config.metrics.sha256} if config.metrics.sha256 is not None else {}
    for name, digest in named.items():
        if word := digests.get(digest):
            yield f'{name}: its key is "{word}", which is easy to guess; make one: openssl rand -hex 32'


def _unlimited_paths(config: Config) -> Iterator[str]:
    """Other paths reach models that a key may not use by name: their bodies are not read."""
    if config.passthrough is None:
        return
    of_team = {name for name, team in config.teams.items() if team.models is not None}
    keys = [key for key in config.keys if "passthrough" in key.allow and key.paths is None]
    if names := [key.name for key in keys if key.models is not None or key.team in of_team]:
        yield (
            f"keys {_listed(names)}: `models` limits them, and `allow: [passthrough]` without `paths` lets them use "
            "every path of the upstream, such as batches, which ask any of its models; list their `paths`"
        )


def _literal_names(config: Config) -> Iterator[str]:
    starred = [alias for alias in config.models if STAR in alias.removesuffix(STAR)]
    if starred:
        yield (
            f"models {_listed(starred)}: `*` is a wildcard only at the end; elsewhere only a request for exactly this "
            "name matches"
        )


def _names_of_callers(config: Config) -> Iterator[str]:
    for i, key in enumerate(config.keys):
        if prefix := caller_prefix(key.name, config.jwt):
            yield (
                f'keys[{i}] ({key.name}): callers with tokens have names that begin with "{prefix}", and what is '
                "stored of a caller belongs to all who have its name; rename the key or the issuer"
            )
    for issuer in config.jwt:
        if outer := next((other for other in config.jwt if issuer.startswith(f"{other}:")), None):
            yield (
                f"jwt {issuer}: its callers may have the same names as those of jwt {outer}, whose claim may contain "
                "a colon; rename one of the two"
            )


def _names_of_actors(config: Config) -> Iterator[str]:
    admin = config.admin
    proxied = {} if admin is None or admin.proxy_login is None else admin.proxy_login.users
    for i, token in enumerate(() if admin is None else admin.tokens):
        if token.name in proxied:
            yield (
                f"admin.tokens[{i}] ({token.name}): admin.proxy_login.users has this name too, and the audit cannot "
                "tell them apart; rename the token, unless they are one person"
            )
        elif is_other_actor(token.name):
            yield f"admin.tokens[{i}] ({token.name}): the audit has entries of another actor by this name; rename it"


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return ", ".join(names[:_MAX_NAMED]) + more


MAX_KEYS = 20


def directory_summary(config: Config) -> list[str]:
    """A line for each organization and team, and for the people and keys that have limits, a team or an end."""
    directory = directory_of(config)
    lines = [f"organization {o.id}: {_described(o.limits)}{_off(o.disabled)}" for o in directory.organizations.values()]
    for team in directory.teams.values():
        members = sum(key.team == team.id for key in directory.keys.values())
        of = f" of {team.organization}" if team.organization else ""
        models = f"; models {', '.join(team.models)}" if team.models is not None else ""
        lines.append(
            f"team {team.id}{of}: {_described(team.limits)}{models}; {members} key{'' if members == 1 else 's'} here"
            f"{_off(team.disabled)}"
        )
    people = [person for person in directory.people.values() if person.limits]
    lines += [f"person {person.id}: {_described(person.limits)}" for person in people[:MAX_KEYS]]
    lines += [f"and {len(people) - MAX_KEYS} more people with limits"] if len(people) > MAX_KEYS else []
    keys = [k for k in directory.keys.values() if k.limits or k.team or k.person or k.expires or k.disabled]
    lines += [_key(key) for key in keys[:MAX_KEYS]]
    return lines + ([f"and {len(keys) - MAX_KEYS} more keys with limits"] if len(keys) > MAX_KEYS else [])


def _key(key: KeyRecord) -> str:
    of = f" of {' and '.join(filter(None, (key.team, key.person)))}" if key.team or key.person else ""
    expires = "" if key.expires is None else f"; expires {datetime.fromtimestamp(key.expires, UTC):%Y-%m-%d %H:%M} UTC"
    return f"key {key.name}{of}: {_described(key.limits)}{expires}{_off(key.disabled)}"


def _described(settings: Mapping[str, Any]) -> str:
    return ", ".join(_limits(settings)) or "no limit"


def _limits(settings: Mapping[str, Any]) -> Iterator[str]:
    for limit in limits_of(settings):
        if limit.window is None:
            yield f"{limit.amount:,.0f} calls at once"
            continue
        zone = "" if limit.zone == "UTC" or limit.window in ("minute", "hour") else f" ({limit.zone})"
        yield f"{limit.text(limit.amount)} a {limit.window}{zone}"


def _off(disabled: bool) -> str:
    return "; disabled" if disabled else ""
