"""A LiteLLM proxy's config → the sections of a gateway.yaml, with a note for everything that differs there.

A setting that is not translated has a note: that of import_litellm.toml, or that nothing is known of it. Shares of
deployments are those of LiteLLM's router (litellm/router_strategy); tests/fixtures/litellm_shares.json has what it
drew.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import yaml

from gateway.config.loading import parse
from gateway.config.yaml_text import check_aliases, read_config_text
from gateway.core.errors import ConfigError
from gateway.core.json_values import as_list
from gateway.core.providers import PROVIDERS
from gateway.core.wildcards import STAR, filled, is_pattern, pattern_of

Loss = Literal["lost", "changed"]


@dataclass(frozen=True, slots=True)
class ImportNote:
    """A setting of the LiteLLM file that has no equivalent here."""

    path: str
    """Position in the file: `model_list[3].litellm_params.rpm`."""
    loss: Loss
    """`lost`: nothing takes its place. `changed`: something similar does."""
    text: str
    """The replacement, or the remedy."""

    def __str__(self) -> str:
        return f"{'left out' if self.loss == 'lost' else 'changed '}  {self.path}: {self.text}"


@dataclass(slots=True)
class ImportedConfig:
    """The sections of a gateway.yaml, and the notes."""

    sections: dict[str, Any] = field(default_factory=dict)
    notes: list[ImportNote] = field(default_factory=list)
    deployments: int = 0
    """Entries of `model_list`."""
    translated: int = 0
    """Deployments that became a target."""

    def note(self, path: str, loss: Loss, text: str) -> None:
        self.notes.append(ImportNote(path, loss, text))


@dataclass(frozen=True, slots=True)
class _Provider:
    """Provider here of a prefix of LiteLLM's model names."""

    kind: str
    base_url: str | None = None
    """Address of the provider, if its kind does not say it."""
    key_env: str | None = None
    suffix: str = ""
    """Ending that an `api_base` must have here, where LiteLLM adds it itself."""


_TABLES: dict[str, Any] = tomllib.loads((files("gateway.config") / "import_litellm.toml").read_text("utf-8"))
_PROVIDERS = {prefix: _Provider(**row) for prefix, row in _TABLES["providers"].items()}
_ELSEWHERE: dict[str, str] = _TABLES["elsewhere"]
_STRATEGIES: dict[str, str] = _TABLES["strategies"]
_STRATEGY_NOTES: dict[str, str] = _TABLES["strategy_notes"]
_PARAM_NOTES: dict[str, str] = _TABLES["parameter_notes"]
_INFO_NOTES: dict[str, str] = _TABLES["info_notes"]
_SHUFFLE, _CHEAPEST = "simple-shuffle", "cost-based-routing"
_CAUSES: dict[str, list[str]] = _TABLES["causes"]
_AWS: dict[str, str] = _TABLES["aws"]
_SET, _INFO = frozenset(_TABLES["parameters"]["set"]), frozenset(_TABLES["parameters"]["info"])
_TRANSLATED_PARAMS = frozenset({*_AWS, *_TABLES["parameters"]["translated"]})
_NOTES: dict[str, tuple[Loss, str]] = {
    path: (loss, text) for loss, notes in _TABLES["notes"].items() for path, text in notes.items()
}

_BUILT_IN_CALLBACKS = frozenset({"prometheus"})
_VARIABLE = re.compile(r"os\.environ/([A-Za-z_]\w*)")
_BEDROCK = frozenset({"bedrock", "bedrock_converse"})
_VERTEX = frozenset({"vertex_ai", "vertex_ai_beta"})
_ON_MANTLE = ("openai", "deepseek", "qwen", "mistral", "google", "moonshotai", "moonshot", "minimax", "nvidia", "zai")
"""Vendors whose models Bedrock serves by its OpenAI-compatible endpoints."""
_BEDROCK_ROUTES = ("converse/", "invoke/", "converse_like/")
_CONVERSES, _CONVERSES_NOT = tuple(_TABLES["bedrock"]["converses"]), tuple(_TABLES["bedrock"]["converses_not"])
_REGION = re.compile(r"([a-z]{2}(?:-[a-z]+)+-\d)/")
_GEOGRAPHY = re.compile(r"(?:us-gov|us|eu|apac|au|jp|ca|global)\.")
_PER_MILLION = 1e6
_UNKNOWN = "not translated; docs/configuration.md lists the settings of this gateway"


@dataclass(slots=True)
class _Deployment:
    """One entry of `model_list` that can be translated."""

    path: str
    alias: str
    upstream: str
    model: str
    params: Mapping[str, Any]
    info: Mapping[str, Any]

    @property
    def target(self) -> dict[str, Any]:
        parameters = {name: self.params[name] for name in self.params if name in _SET}
        return {"upstream": self.upstream, "model": self.model} | ({"set": parameters} if parameters else {})


def from_litellm(raw: Mapping[str, Any], today: date) -> ImportedConfig:
    """The gateway.yaml for a LiteLLM config.

    raw: the parsed file. today: the day on which its prices count as read.
    """
    done = ImportedConfig()
    settings, router = _mapping(raw, "litellm_settings"), _mapping(raw, "router_settings")
    found = list(
        _deployments(_with_credentials(raw, done), settings.get("enable_azure_ad_token_refresh") is True, done)
    )
    _keys(_mapping(raw, "general_settings"), done)
    breaker = _breaker({**{name: settings[name] for name in ("allowed_fails",) if name in settings}, **router})
    for upstream in done.sections["upstreams"].values():
        upstream |= {"breaker": breaker} if breaker else {}
    done.sections["models"] = _models(found, settings, router, done)
    prices = {f"{d.upstream}/{d.model}": price for d in found if (price := _price(d)) is not None}
    if prices:
        done.sections["prices"] = {"as_of": today.isoformat(), "models": prices}
    if settings.get("turn_off_message_logging") is True:
        done.sections["redaction"] = {"default": "metadata"}
    _unknown_settings(raw, done)
    return done


def _with_credentials(raw: Mapping[str, Any], done: ImportedConfig) -> Mapping[str, Any]:
    """The file with the values of `credential_list` in the deployments that name them."""
    known = {
        entry.get("credential_name"): _mapping(entry, "credential_values")
        for entry in as_list(raw.get("credential_list"))
        if isinstance(entry, Mapping)
    }
    entries = []
    for i, entry in enumerate(as_list(raw.get("model_list"))):
        params = _mapping(entry, "litellm_params") if isinstance(entry, Mapping) else {}
        name = params.get("litellm_credential_name")
        if name is not None and name not in known:
            path = f"model_list[{i}].litellm_params.litellm_credential_name"
            done.note(path, "lost", f'no "{name}" in credential_list; set the upstream\'s `api_key`')
        if name is not None:
            rest = {k: value for k, value in params.items() if k != "litellm_credential_name"}
            entry = {**entry, "litellm_params": {**known.get(name, {}), **rest}}
        entries.append(entry)
    return {**raw, "model_list": entries}


def _mapping(raw: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = raw.get(name)
    return value if isinstance(value, Mapping) else {}


def _breaker(router: Mapping[str, Any]) -> dict[str, float]:
    """Settings of every upstream's circuit breaker."""
    found: dict[str, float] = {}
    fails, pause_s = router.get("allowed_fails"), router.get("cooldown_time")
    if isinstance(fails, int) and fails >= 0:
        found["failures"] = fails + 1
    if isinstance(pause_s, int | float) and pause_s > 0:
        found |= {"open_s": pause_s, "max_open_s": max(15.0, pause_s)}
    return found


# Deployments and their upstreams.


def _deployments(raw: Mapping[str, Any], entra: bool, done: ImportedConfig) -> Iterator[_Deployment]:
    """entra: Azure's deployments without a key use tokens of Entra ID."""
    entries = raw.get("model_list")
    upstreams: dict[str, dict[str, Any]] = done.sections.setdefault("upstreams", {})
    for i, entry in enumerate(as_list(entries)):
        done.deployments += 1
        path = f"model_list[{i}]"
        deployment = _deployment(path, entry if isinstance(entry, Mapping) else {}, upstreams, entra, done)
        if deployment is not None:
            done.translated += 1
            yield deployment


def _deployment(
    path: str, entry: Mapping[str, Any], upstreams: dict[str, dict[str, Any]], entra: bool, done: ImportedConfig
) -> _Deployment | None:
    """The deployment, or None and a note if it cannot be translated."""
    alias, params = str(entry.get("model_name", "")), _mapping(entry, "litellm_params")
    full = str(params.get("model", ""))
    if not alias or not full:
        done.note(path, "lost", "model_name or litellm_params.model is missing")
        return None
    if reason := _unlike_star(alias, full):
        done.note(path, "lost", f"{alias}: {reason}")
        return None
    cloud = _cloud(path, full, params, done)
    if cloud is not None:
        model, settings = cloud
        if not settings:
            return None
        info = _mapping(entry, "model_info")
        name = _added(upstreams, settings["kind"], settings, params)
        _note_params(path, params, info, upstreams[name], done)
        return _Deployment(path, alias, name, model, params, info)
    prefix, provider, model = _provider(full, params)
    if provider is None:
        reason = _ELSEWHERE.get(prefix, f'no provider "{prefix}" here; if its API is OpenAI\'s, give its api_base')
        done.note(f"{path}.litellm_params.model", "lost", f"{full}: {reason}")
        return None
    upstream = _upstream(path, provider, params, done)
    if upstream is None:
        return None
    if provider.kind == "azure":
        _use_entra(upstream, params, always=entra)
    info = _mapping(entry, "model_info")
    name = _added(upstreams, provider.kind, upstream, params)
    _note_params(path, params, info, upstreams[name], done)
    return _Deployment(path, alias, name, model, params, info)


def _unlike_star(alias: str, full: str) -> str | None:
    """Returns the reason why a wildcard cannot be used here; None if it can, or if the name has no wildcard."""
    if STAR not in alias and STAR not in full:
        return None
    if not is_pattern(alias) or alias.count(STAR) > 1 or full.count(STAR) > 1:
        return "a star is a wildcard only at the end of a name"
    if full == STAR:
        return (
            "LiteLLM finds the provider in the name that a client sends; here each provider has its own entry, such as "
            '"openai/*" and "anthropic/*"'
        )
    return None


def _cloud(path: str, full: str, params: Mapping[str, Any], done: ImportedConfig) -> tuple[str, dict[str, Any]] | None:
    """A model of Bedrock or Vertex AI, with its upstream's settings; {} if it cannot be translated, which is noted.
    None if it is of another provider.
    """
    prefix, _, model = full.partition("/")
    if prefix in _BEDROCK:
        return _bedrock(path, full, params, done)
    return _vertex(path, model, params, done) if prefix in _VERTEX else None


def _bedrock(path: str, full: str, params: Mapping[str, Any], done: ImportedConfig) -> tuple[str, dict[str, Any]]:
    """full: with its prefix, a route (`converse/`) and a region (`us-west-2/`), as far as it has them."""
    prefix, _, model = full.partition("/")
    route = next((each for each in _BEDROCK_ROUTES if model.startswith(each)), "")
    model = model.removeprefix(route)
    named = _REGION.match(model)
    model = model[named.end() :] if named else model
    region = _variables(str(params.get("aws_region_name") or (named[1] if named else "${AWS_REGION}")))
    plain = _GEOGRAPHY.sub("", model, count=1) if _GEOGRAPHY.match(model) else model
    asked = "converse/" in (route, f"{prefix.removeprefix('bedrock_')}/")
    if asked or (route != "invoke/" and plain.startswith(_CONVERSES) and not plain.startswith(_CONVERSES_NOT)):
        base = params.get("aws_bedrock_runtime_endpoint") or params.get("api_base")
        base = f"https://bedrock-runtime.{region}.amazonaws.com" if base is None else _variables(str(base)).rstrip("/")
        return model, {"kind": "bedrock_converse", "base_url": base} | _aws_access(region, params)
    return _on_mantle(path, plain, region, params, done)


def _on_mantle(
    path: str, model: str, region: str, params: Mapping[str, Any], done: ImportedConfig
) -> tuple[str, dict[str, Any]]:
    """model: without a geography."""
    host = f"https://bedrock-mantle.{region}.api.aws"
    vendor = model.partition(".")[0]
    if vendor == "anthropic":
        settings = {"kind": "anthropic", "base_url": f"{host}/anthropic/v1"}
        model = re.sub(r"-v\d+(:\d+)?$", "", model)
    elif vendor in _ON_MANTLE:
        settings = {"kind": "bedrock_mantle", "base_url": f"{host}/openai/v1"}
    else:
        reason = "its InvokeModel is not spoken here; if Converse serves it, import it as bedrock/converse/MODEL"
        done.note(f"{path}.litellm_params.model", "lost", f"{model}: {reason}")
        return model, {}
    text = f"{model} at {settings['base_url']}, instead of Bedrock's runtime; see whether it is served there"
    done.note(f"{path}.litellm_params.model", "changed", text)
    for name in ("aws_bedrock_runtime_endpoint", "api_base"):
        if params.get(name) is not None:
            done.note(f"{path}.litellm_params.{name}", "lost", f"it is asked at {host}")
    return model, settings | _aws_access(region, params, service="bedrock-mantle")


def _aws_access(region: str, params: Mapping[str, Any], **service: str) -> dict[str, Any]:
    if params.get("api_key") is not None:
        return {"api_key": _variables(str(params["api_key"]))}
    named = {ours: _variables(str(params[name])) for name, ours in _AWS.items() if params.get(name) is not None}
    return {"auth": {"kind": "sigv4", "region": region} | service | named}


def _vertex(path: str, model: str, params: Mapping[str, Any], done: ImportedConfig) -> tuple[str, dict[str, Any]]:
    if not model.startswith(("gemini", STAR)):
        reason = "by Vertex AI's OpenAI-compatible endpoint only Gemini is served"
        done.note(f"{path}.litellm_params.model", "lost", f"{model}: {reason}")
        return model, {}
    project = _variables(str(params.get("vertex_project", "${VERTEXAI_PROJECT}")))
    location = _variables(str(params.get("vertex_location", "us-central1")))
    host = "aiplatform" if location == "global" else f"{location}-aiplatform"
    base = f"https://{host}.googleapis.com/v1/projects/{project}/locations/{location}/endpoints/openapi"
    auth = {"kind": "google"}
    credentials = params.get("vertex_credentials")
    if isinstance(credentials, str) and not credentials.lstrip().startswith("{"):
        auth["credentials_file"] = _variables(credentials)
    elif credentials is not None:
        text = "is in the config itself; write it to a file and name that in `auth.credentials_file`"
        done.note(f"{path}.litellm_params.vertex_credentials", "lost", text)
    return f"google/{model}", {"kind": "vertex", "base_url": base, "auth": auth}


def _use_entra(upstream: dict[str, Any], params: Mapping[str, Any], *, always: bool) -> None:
    """Tokens of Entra ID in place of a key, where the deployment has an app registration, or `always`, and no key."""
    if params.get("api_key") is not None:
        return
    names = [name for name in ("tenant_id", "client_id", "client_secret") if params.get(name) is not None]
    if names or always:
        upstream.pop("api_key", None)
        upstream["auth"] = {"kind": "entra"} | {name: _variables(str(params[name])) for name in names}


def _provider(full: str, params: Mapping[str, Any]) -> tuple[str, _Provider | None, str]:
    """The prefix, its provider (None: not here), and the provider's own name of the model."""
    prefix, _, model = full.partition("/")
    explicit = params.get("custom_llm_provider")
    if isinstance(explicit, str):
        return explicit, _PROVIDERS.get(explicit), full.removeprefix(f"{explicit}/")
    if model and prefix in _PROVIDERS:
        return prefix, _PROVIDERS[prefix], model
    if model and prefix in _ELSEWHERE:
        return prefix, None, model
    for beginning, kind in _TABLES["assumed"].items():
        if full.startswith(beginning):
            return kind, _PROVIDERS[kind], full
    if params.get("api_base") or params.get("base_url"):
        return "openai", _PROVIDERS["openai"], full
    return prefix, None, model


def _upstream(path: str, provider: _Provider, params: Mapping[str, Any], done: ImportedConfig) -> dict[str, Any] | None:
    """The upstream's settings; None, with a note, if an address is missing."""
    row = PROVIDERS[provider.kind]
    settings: dict[str, Any] = {"kind": provider.kind}
    base = params.get("api_base") or params.get("base_url") or provider.base_url
    if provider.kind == "huggingface" and params.get("api_base"):
        settings["kind"] = "tgi"  # a server of one's own, not the hub's router
    if base is not None:
        settings["base_url"] = _with_suffix(_variables(str(base)), provider.suffix)
    elif row.base_url is None:
        done.note(f"{path}.litellm_params.api_base", "lost", f"missing; {provider.kind} has no default address")
        return None
    key = params.get("api_key")
    if key is not None:
        settings["api_key"] = _variables(str(key))
        if not _VARIABLE.search(str(key)):
            done.note(f"{path}.litellm_params.api_key", "changed", "is in the config itself; use ${NAME}")
    elif provider.key_env or (row.key_env and settings["kind"] != "tgi"):
        settings["api_key"] = f"${{{provider.key_env or row.key_env}}}"
    if params.get("api_version") is not None:
        settings["api_version"] = _variables(str(params["api_version"]))
    headers = {**_mapping(params, "headers"), **_mapping(params, "extra_headers")}
    if params.get("organization") is not None:
        headers["OpenAI-Organization"] = params["organization"]
    if headers:
        settings["headers"] = {str(k): _variables(str(v)) for k, v in headers.items()}
    return settings


def _with_suffix(url: str, suffix: str) -> str:
    url = url.rstrip("/")
    return url if url.endswith(suffix) else url + suffix


def _variables(text: str) -> str:
    return _VARIABLE.sub(r"${\1}", text)


def _added(upstreams: dict[str, dict[str, Any]], kind: str, settings: dict[str, Any], params: Mapping[str, Any]) -> str:
    """The name of the upstream of a deployment. One with limits has an upstream of its own: they hold for it alone."""
    named = {"requests_per_minute": _count(params.get("rpm")), "tokens_per_minute": _count(params.get("tpm"))}
    limits = {name: amount for name, amount in named.items() if amount}
    places = _count(params.get("max_parallel_requests"))
    own = ({"limits": limits} if limits else {}) | ({"concurrency": places} if places else {})
    if own:
        return _named(upstreams, kind, settings | own)
    same = next((name for name, known in upstreams.items() if known == settings), None)
    return _named(upstreams, kind, settings) if same is None else same


def _count(value: Any) -> int | None:
    """The whole number that LiteLLM reads; None if it is none, or not above 0."""
    number = _number(value)
    return None if number is None or number < 1 else int(number)


def _number(value: Any) -> float | None:
    """The number, which LiteLLM also reads from a text in `rpm` and `tpm`; None if it is none."""
    try:
        number = float(value) if isinstance(value, int | float | str) else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _named(upstreams: dict[str, dict[str, Any]], kind: str, settings: dict[str, Any]) -> str:
    """The name of a new upstream with these settings, which is added."""
    name = kind
    if kind in upstreams or kind == "azure":
        host = (urlsplit(settings.get("base_url", "")).hostname or "").partition(".")[0]
        name = host if host and not host.isdigit() and "$" not in host else kind
    n = 2
    while name in upstreams:
        name = f"{kind}-{n}"
        n += 1
    upstreams[name] = settings
    return name


def _note_params(
    path: str, params: Mapping[str, Any], info: Mapping[str, Any], upstream: Mapping[str, Any], done: ImportedConfig
) -> None:
    """upstream: the one that the deployment became, with its limits."""
    for name, limit in (("rpm", "requests_per_minute"), ("tpm", "tokens_per_minute")):
        if name in params and limit in upstream.get("limits", {}):
            text = (
                f"became `limits.{limit}` of its own upstream: a call above it waits for `queue_s`, then goes to the "
                "next target"
            )
            done.note(f"{path}.litellm_params.{name}", "changed", text)
        elif name in params:
            done.note(f"{path}.litellm_params.{name}", "lost", f"{params[name]!r}: expected a number of at least 1")
    if "max_parallel_requests" in params and "concurrency" not in upstream:
        text = f"{params['max_parallel_requests']!r}: expected a number of at least 1"
        done.note(f"{path}.litellm_params.max_parallel_requests", "lost", text)
    if "max_retries" in params:
        text = "retries are set by model here: `models.NAME.retries.attempts`, one more"
        done.note(f"{path}.litellm_params.max_retries", "changed", text)
    if info.get("mode") == "realtime":
        text = "realtime sessions (WebSocket) are not relayed; the target serves the HTTP APIs alone"
        done.note(f"{path}.model_info.mode", "lost", text)
    for name in sorted(params.keys() & _SET):
        text = "became `set` of the target, which also replaces a value that the client sends"
        done.note(f"{path}.litellm_params.{name}", "changed", text)
    for name in sorted(params.keys() - _TRANSLATED_PARAMS - _SET):
        text = _PARAM_NOTES.get(name, "not translated; a client can send it, if it is a parameter of requests")
        done.note(f"{path}.litellm_params.{name}", "lost", text)
    for name in sorted(info.keys() - _INFO):
        done.note(f"{path}.model_info.{name}", "lost", _INFO_NOTES.get(name, "not read; targets have no such member"))


def _price(deployment: _Deployment) -> dict[str, float] | None:
    """USD per million tokens; None if the file has no price."""
    stated = {**deployment.info, **deployment.params}
    costs = stated.get("input_cost_per_token"), stated.get("output_cost_per_token")
    if not all(isinstance(cost, int | float) for cost in costs):
        return None
    price = {"input": _million(costs[0]), "output": _million(costs[1])}
    cached = stated.get("cache_read_input_token_cost")
    return price | ({"cached_input": _million(cached)} if isinstance(cached, int | float) else {})


def _million(cost: Any) -> float:
    return round(float(cost) * _PER_MILLION, 9)


# Models: targets, fallbacks, timeouts, retries.


def _models(
    found: list[_Deployment], settings: Mapping[str, Any], router: Mapping[str, Any], done: ImportedConfig
) -> dict[str, Any]:
    groups: dict[str, list[_Deployment]] = {}
    for deployment in found:
        groups.setdefault(deployment.alias, []).append(deployment)
    chains = {kind: _chains(kind, settings, router, groups, done) for kind in _CAUSES}
    shared = _shared(settings, router, done)
    models = {alias: _model(alias, groups, chains, shared, done) for alias in groups}
    for alias, group in _mapping(router, "model_group_alias").items():
        name = group.get("model") if isinstance(group, Mapping) else group
        if name in models:
            models[str(alias)] = models[name]
            if isinstance(group, Mapping) and group.get("hidden"):
                text = "GET /v1/models lists it; `keys[].models` says who may use and see it"
                done.note(f"router_settings.model_group_alias.{alias}.hidden", "changed", text)
        else:
            done.note(f"router_settings.model_group_alias.{alias}", "lost", f'no model "{name}"')
    return models


def _chains(
    kind: str,
    settings: Mapping[str, Any],
    router: Mapping[str, Any],
    groups: dict[str, list[_Deployment]],
    done: ImportedConfig,
) -> dict[str, list[str]]:
    """The names to fall back to, by name. Fallbacks of every model hold for those without any of their own."""
    chains: dict[str, list[str]] = {}
    sections = (("litellm_settings", settings), ("router_settings", router))
    pairs = [(section, *pair) for section, values in sections for pair in _fallback_pairs(kind, values)]
    own = {name for _, name, _ in pairs}
    for section, name, other in sorted(pairs, key=lambda pair: pair[1] == "*"):
        _name_behind_pattern(other, groups)
        if other not in groups:
            done.note(f"{section}.{kind}", "lost", f"{name} → {other}: no such model was translated")
            continue
        for alias in [each for each in groups if each not in own] if name == "*" else [name]:
            if is_pattern(other) and not is_pattern(alias):
                text = f"{alias} → {other}: a wildcard follows only a wildcard; name one of its models"
                done.note(f"{section}.{kind}", "lost", text)
            elif alias != other:
                chains.setdefault(alias, []).append(other)
    return chains


def _name_behind_pattern(name: str, groups: dict[str, list[_Deployment]]) -> None:
    """Adds a name that only a wildcard serves, so that others can fall back to it."""
    pattern = None if name in groups else pattern_of(name, groups)
    if pattern is not None:
        behind = groups[pattern]
        groups[name] = [replace(d, alias=name, model=filled(d.model, pattern, name)) for d in behind]


def _fallback_pairs(kind: str, values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Name and fallback, in order; "*" for a fallback of every model."""
    for entry in as_list(values.get(kind)):
        for name, others in entry.items() if isinstance(entry, Mapping) else ():
            yield from ((str(name), str(other)) for other in as_list(others))
    if kind == "fallbacks":
        yield from (("*", str(other)) for other in as_list(values.get("default_fallbacks")))


def _shared(settings: Mapping[str, Any], router: Mapping[str, Any], done: ImportedConfig) -> dict[str, Any]:
    """Settings that every model gets: retries, timeouts, strategy."""
    shared: dict[str, Any] = {}
    retries = router.get("num_retries", settings.get("num_retries"))
    if isinstance(retries, int):
        shared["retries"] = {"attempts": min(10, retries + 1)}
    seconds = {
        "timeout": router.get("timeout", settings.get("request_timeout")),
        "stream_timeout": router.get("stream_timeout"),
    }
    shared["timeouts"] = {name: value for name, value in seconds.items() if isinstance(value, int | float)}
    strategy = router.get("routing_strategy")
    if isinstance(strategy, str):
        if strategy in _STRATEGIES:
            shared["strategy"] = _STRATEGIES[strategy]
        note = _STRATEGY_NOTES.get(strategy)
        if note is None and strategy not in _STRATEGIES:
            note = "is not known here; every deployment gets an equal share"
        if note is not None:
            done.note("router_settings.routing_strategy", "changed", f"{strategy}: {note}")
    shared["theirs"] = strategy if isinstance(strategy, str) else _SHUFFLE
    return shared


def _model(
    alias: str,
    groups: Mapping[str, list[_Deployment]],
    chains: Mapping[str, Mapping[str, list[str]]],
    shared: Mapping[str, Any],
    done: ImportedConfig,
) -> dict[str, Any]:
    shares, idle, later = _ranked(groups[alias], shared["theirs"])
    _note_shares(groups[alias], shares, idle, shared["theirs"], done)
    targets = [d.target | ({"weight": share} if share is not None else {}) for d, share in shares]
    fallbacks: list[dict[str, Any]] = []
    for deployment in (*idle, *later):
        _add_fallback(fallbacks, deployment.target, _CAUSES["fallbacks"])
    for kind, causes in _CAUSES.items():
        for name in _flattened(alias, chains[kind]):
            for deployment in _in_turn(groups[name], shared["theirs"]):
                _add_fallback(fallbacks, deployment.target, causes)
    model: dict[str, Any] = {"targets": targets} | ({"fallback": fallbacks} if fallbacks else {})
    timeouts = _timeouts(groups[alias], shared["timeouts"], done)
    model |= {"timeouts": timeouts} if timeouts else {}
    return model | {name: shared[name] for name in ("retries", "strategy") if name in shared}


def _add_fallback(fallbacks: list[dict[str, Any]], target: dict[str, Any], causes: Iterable[str]) -> None:
    """Adds a target at the end, or causes to one that is there."""
    same = next((each for each in fallbacks if {k: v for k, v in each.items() if k != "on"} == target), None)
    if same is None:
        same = target | {"on": []}
        fallbacks.append(same)
    same["on"].extend(cause for cause in causes if cause not in same["on"])


_Share = tuple[_Deployment, float | None]
"""A deployment that gets calls, and its weight; None where all get the same."""


def _ranked(deployments: list[_Deployment], strategy: str) -> tuple[list[_Share], list[_Deployment], list[_Deployment]]:
    """Deployments that LiteLLM's router sends calls to, with their weights; those that get none while these work; and
    those of a later `order`, in their order."""
    first, later = _by_order(deployments)
    if strategy == _CHEAPEST and all(_price(d) for d in first):
        dearer = sorted(first, key=_cost)  # of two that cost the same, the first listed
        return [(dearer[0], None)], dearer[1:], later
    weights = _weights(first) if strategy == _SHUFFLE else None
    if weights is None:
        return [(d, None) for d in first], [], later
    pairs = list(zip(first, weights, strict=True))
    shares: list[_Share] = [(d, weight) for d, weight in pairs if weight > 0]
    return shares if len(shares) > 1 else [(shares[0][0], None)], [d for d, weight in pairs if weight <= 0], later


def _in_turn(deployments: list[_Deployment], strategy: str) -> list[_Deployment]:
    """All deployments of a model, those with the most calls first."""
    shares, idle, later = _ranked(deployments, strategy)
    return [*(d for d, _ in sorted(shares, key=lambda share: -(share[1] or 0.0))), *idle, *later]


def _by_order(deployments: list[_Deployment]) -> tuple[list[_Deployment], list[_Deployment]]:
    """Deployments that are asked first, and the others in their order: those without an `order` come last."""

    def order(d: _Deployment) -> float:
        value = d.params.get("order")
        return float(value) if isinstance(value, int | float) else math.inf

    least = min(order(d) for d in deployments)
    return [d for d in deployments if order(d) == least], sorted(
        (d for d in deployments if order(d) > least), key=order
    )


def _weights(deployments: list[_Deployment]) -> list[float] | None:
    """The weights by which LiteLLM shuffles: `weight`, or else `rpm`, or else `tpm`, as soon as one deployment has one
    above 0; those without one have 0. None: all get the same."""
    for name in ("weight", "rpm", "tpm"):
        values = [max(0.0, _number(d.params.get(name)) or 0.0) for d in deployments]
        if any(values):
            return values
    return None


def _cost(deployment: _Deployment) -> float:
    price = _price(deployment) or {}
    return price["input"] + price["output"]


def _note_shares(
    deployments: list[_Deployment], shares: list[_Share], idle: list[_Deployment], strategy: str, done: ImportedConfig
) -> None:
    for d in idle:
        why = "costs more than another" if strategy == _CHEAPEST else "weighs 0, and others more"
        text = f"{d.alias}: {d.model} {why}: it gets no call while they work, as in LiteLLM, and became a fallback"
        done.note(f"{d.path}.litellm_params", "changed", text)
    if strategy == _CHEAPEST and len(shares) > 1:
        text = f"cost-based-routing needs the price of every deployment of {shares[0][0].alias}; they get equal shares"
        done.note(f"{shares[0][0].path}.litellm_params.input_cost_per_token", "changed", text)
    for d in deployments:
        weight = d.params.get("weight")
        if weight is None:
            continue
        if strategy != _SHUFFLE:
            done.note(f"{d.path}.litellm_params.weight", "lost", f"{strategy} reads no weights, in LiteLLM neither")
        elif not isinstance(weight, int | float):
            text = f"{weight!r} is not a number, with which LiteLLM's router fails; counted as {_number(weight) or 0:g}"
            done.note(f"{d.path}.litellm_params.weight", "changed", text)
        elif weight < 0:
            done.note(f"{d.path}.litellm_params.weight", "changed", f"{weight:g} is below 0, and counts as 0")


def _flattened(alias: str, chain: Mapping[str, list[str]]) -> list[str]:
    """Every model that is reached from this one, nearest first; LiteLLM follows a fallback's own fallbacks."""
    reached: list[str] = []
    waiting = list(chain.get(alias, ()))
    while waiting:
        name = waiting.pop(0)
        if name != alias and name not in reached:
            reached.append(name)
            waiting.extend(chain.get(name, ()))
    return reached


def _timeouts(deployments: list[_Deployment], shared: Mapping[str, float], done: ImportedConfig) -> dict[str, float]:
    """The timeouts of a model: the longest of its deployments."""
    found: dict[str, float] = {}
    for theirs, ours in (("timeout", "answer_s"), ("stream_timeout", "first_token_s")):
        own = [d.params[theirs] for d in deployments if isinstance(d.params.get(theirs), int | float)]
        if len(set(own)) > 1:
            path = f"{deployments[0].path}.litellm_params.{theirs}"
            done.note(path, "changed", f"differs between deployments; {max(own):g} s holds for the whole model")
        elif own and len(own) < len(deployments):
            path = f"{deployments[0].path}.litellm_params.{theirs}"
            text = f"only some deployments have one; {max(own):g} s holds for the whole model"
            done.note(path, "changed", text)
        value = max(own) if own else shared.get(theirs)
        if value is not None and value > 0:
            found[ours] = value
    longest = max(found.values(), default=0.0)
    return found | ({"total_s": longest} if longest > 600.0 else {})


# Keys, and everything else.


def _keys(general: Mapping[str, Any], done: ImportedConfig) -> None:
    master = general.get("master_key")
    if not isinstance(master, str):
        return
    path = "general_settings.master_key"
    variable = _VARIABLE.fullmatch(master)
    if variable is not None:
        name = variable[1]
        text = f'its digest is needed: add a key with what `printf %s "${name}" | sha256sum` prints'
        done.note(path, "lost", text)
        return
    done.sections["keys"] = [{"name": "master", "sha256": sha256(master.encode()).hexdigest()}]
    done.note(path, "changed", "became a key for callers; it manages nothing here. Give each caller a key of its own")


def _unknown_settings(raw: Mapping[str, Any], done: ImportedConfig) -> None:
    """Notes every setting that has not been translated."""
    translated: dict[str, list[str]] = _TABLES["translated"]
    for section, value in raw.items():
        known = translated.get(section)
        if known == []:  # translated as a whole
            continue
        if known is None or not isinstance(value, Mapping):
            done.note(str(section), *_NOTES.get(str(section), ("lost", _UNKNOWN)))
            continue
        for name, setting in value.items():
            path = f"{section}.{name}"
            if name in known:
                continue
            if name in ("callbacks", "success_callback", "failure_callback", "service_callbacks"):
                _note_callbacks(path, setting, done)
            elif str(name).startswith("redis_"):
                done.note(path, "changed", "here `stream.url` names the Redis that gateways and consumers share")
            else:
                done.note(path, *_NOTES.get(path, ("lost", _UNKNOWN)))


def _note_callbacks(path: str, names: Any, done: ImportedConfig) -> None:
    for name in names if isinstance(names, list) else [names]:
        if name in _BUILT_IN_CALLBACKS:
            done.note(path, "changed", f"{name}: always on, at /metrics")
        elif "otel" in str(name):
            done.note(path, "changed", f"{name}: the section `otel` exports spans over OTLP")
        else:
            done.note(path, "lost", f"{name}: the section `otel` exports spans, and `gateway export` exchanges")


def summary(done: ImportedConfig) -> str:
    """One line for people."""
    lost = sum(note.loss == "lost" for note in done.notes)
    return (
        f"{done.translated} of {done.deployments} deployments became targets; "
        f"{lost} settings were left out, {len(done.notes) - lost} changed"
    )


def variables_in(sections: Mapping[str, Any]) -> frozenset[str]:
    """The names of all ${NAME} in the sections."""
    return frozenset(_names(sections))


def _names(value: Any) -> Iterable[str]:
    if isinstance(value, Mapping):
        for each in value.values():
            yield from _names(each)
    elif isinstance(value, list):
        for each in value:
            yield from _names(each)
    elif isinstance(value, str):
        yield from re.findall(r"\$\{([A-Za-z_]\w*)\}", value)


def read_litellm(path: Path) -> dict[str, Any]:
    """The parsed file. Raises ConfigError if it is not a LiteLLM config."""
    try:
        raw = yaml.safe_load(read_config_text(path))
    except yaml.YAMLError as error:
        raise ConfigError([f"{path}: not YAML: {' '.join(str(error).split())}"]) from error
    if not isinstance(raw, dict) or not isinstance(raw.get("model_list"), list):
        raise ConfigError([f"{path}: no `model_list`: this is not the config of a LiteLLM proxy"])
    check_aliases(raw, str(path))
    return raw


def to_yaml(done: ImportedConfig, name: str) -> str:
    """The text of the gateway.yaml, with the notes as comments at its top. name: of the file that was read."""
    notes = [f"#   {note}" for note in done.notes]
    head = [f"# Translated from {name} by `gateway import litellm`: {summary(done)}.", *notes]
    body = yaml.dump(done.sections, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    return "\n".join(head) + "\n\n" + body


class _Dumper(yaml.SafeDumper):
    """Writes repeated values out instead of using anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def remaining_mistakes(text: str) -> tuple[str, ...]:
    """Mistakes that `gateway check` will report once the variables are set."""
    environ = dict.fromkeys(variables_in(yaml.safe_load(text)), "set")
    try:
        parse(text, environ=environ)
    except ConfigError as error:
        return error.mistakes
    return ()
