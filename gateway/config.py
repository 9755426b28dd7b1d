"""gateway.yaml → frozen models. All mistakes at once, each with its path and, where one is near, a did-you-mean.

The only module that reads the environment. It knows no scorer's own options: room 2 checks those when it builds them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from gateway.errors import ConfigError
from gateway.vendors import VENDORS, Load, Vendor

Cause = Literal["error", "timeout", "rate_limit", "context_length", "content_filter"]
Strategy = Literal["weighted", "least_in_flight", "latency", "prefix", "session"]
OnCut = Literal["off", "error", "continue"]
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\s{}\"\\]+$")]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Url = Annotated[str, Field(pattern=r"^https?://[^\s/]+")]


def _not_text(value: Any) -> Any:
    """Numbers are written as numbers: "half" and "0.5" are mistakes, not values."""
    if isinstance(value, str | bool):
        raise ValueError(f"expected a number, got {value!r}")
    return value


Weight = Annotated[float, BeforeValidator(_not_text), Field(gt=0)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class Key(Section):
    """A caller. sha256: of the key's bytes. models: the aliases it may use; None: all.

    allow: what its requests may ask for by header: sample (force or forbid recording), target (name a target),
    passthrough (other /v1/ paths). sample: "never" takes its traffic out of the sampled population.
    """

    name: Name
    sha256: Digest
    models: tuple[str, ...] | None = None
    allow: tuple[Literal["sample", "target", "passthrough"], ...] = ()
    sample: Literal["rules", "never"] = "rules"
    content: Literal["full", "redacted", "metadata"] = "full"


class Upstream(Section):
    """Where requests can go. What is left out comes from the row of its kind in vendors.py."""

    kind: str
    base_url: Url | None = None
    api_key: str | None = None
    headers: dict[str, str] = {}
    api_version: str | None = None
    ca_file: str | None = None
    proxy: str | None = None
    http2: bool = False
    transport: Literal["http1", "httpx"] | None = None
    concurrency: Annotated[int, Field(gt=0)] | None = None
    queue: Annotated[int, Field(ge=0)] = 64
    queue_s: Positive = 5.0
    load: Load | None = None
    priority: bool = False
    prefill: bool | None = None
    stream_usage: Literal["ask", "never"] | None = None
    health: str | None = None

    @property
    def vendor(self) -> Vendor:
        return VENDORS[self.kind]

    @property
    def url(self) -> str:
        return (self.base_url or self.vendor.base_url or "").rstrip("/")

    @property
    def continues_prefill(self) -> bool:
        return self.vendor.prefill if self.prefill is None else self.prefill

    @property
    def asks_usage(self) -> bool:
        return (self.stream_usage or self.vendor.stream_usage) == "ask"

    @property
    def wire(self) -> Literal["http1", "httpx"]:
        """httpx for what the lean transport cannot do: HTTP/2 and an outbound proxy."""
        return self.transport or ("httpx" if self.http2 or self.proxy else "http1")


class TargetRef(Section):
    upstream: str
    model: str


class WeightedTarget(TargetRef):
    weight: Weight = 1.0


class Fallback(TargetRef):
    """Asked in order after the targets; only for the causes in `on`."""

    on: tuple[Cause, ...] = ("error", "timeout", "rate_limit", "context_length")


class Timeouts(Section):
    """Limits in seconds. first_token_s: streams, to the first content; answer_s: plain answers, to the whole body;
    idle_s: between bytes of a stream; total_s: the whole call with all its attempts."""

    connect_s: Positive = 2.0
    first_token_s: Positive = 30.0
    answer_s: Positive = 120.0
    idle_s: Positive = 30.0
    total_s: Positive = 600.0


class Retries(Section):
    """attempts: on one target, the first included. backoff_s: before the second, doubled and jittered after.

    budget_s: the longest that waiting between attempts may take, all together; a Retry-After that does not fit in it
    goes on to the fallback at once.
    """

    attempts: Annotated[int, Field(ge=1, le=10)] = 2
    backoff_s: Annotated[float, Field(ge=0)] = 0.2
    budget_s: Annotated[float, Field(ge=0)] = 10.0


class Model(Section):
    """A name clients may use."""

    targets: Annotated[tuple[WeightedTarget, ...], Field(min_length=1)]
    fallback: tuple[Fallback, ...] = ()
    timeouts: Timeouts = Timeouts()
    retries: Retries = Retries()
    on_cut: OnCut | None = None
    strategy: Strategy = "weighted"

    @property
    def cut(self) -> OnCut:
        return self.on_cut or ("continue" if self.fallback else "error")


class When(Section):
    """All given conditions must hold. alias, key, api and stream are known before asking (head); the others when the
    answer has ended (tail)."""

    alias: str | None = None
    key: str | None = None
    api: str | None = None
    stream: bool | None = None
    outcome: Literal["ok", "error", "client_gone", "upstream_error", "timeout", "cut"] | None = None
    finish_reason: str | None = None
    min_total_s: Positive | None = None
    min_first_token_s: Positive | None = None

    @property
    def head(self) -> bool:
        return not ({"outcome", "finish_reason", "min_total_s", "min_first_token_s"} & self.model_fields_set)


class Rule(Section):
    when: When
    rate: Share
    name: Name | None = None


class Sampling(Section):
    """rate: for what no rule names. unit: request, or conversation (x-gateway-conversation, metadata.conversation_id).
    pi_min: no stratum may have a smaller probability, except 0 for "never". max_kb: of one exchange's two bodies."""

    rate: Share = 0.1
    unit: Literal["request", "conversation"] = "request"
    pi_min: Annotated[float, Field(gt=0, le=1)] = 0.001
    rules: tuple[Rule, ...] = ()
    max_kb: Annotated[int, Field(ge=1)] = 1024

    @model_validator(mode="after")
    def _above_pi_min(self) -> Self:
        for at, rate in (("rate", self.rate), *((f"rules[{i}].rate", r.rate) for i, r in enumerate(self.rules))):
            if 0 < rate < self.pi_min:
                raise ValueError(f"{at} {rate} is below pi_min {self.pi_min}: its weights would exceed 1 / pi_min")
        return self


class Limits(Section):
    """drain_s: how long a stopping gateway lets calls in flight finish."""

    max_body_mb: Positive = 32.0
    drain_s: Positive = 30.0


class Metrics(Section):
    """bind: "host:port" of a listener of its own for /metrics and /ready. sha256: of a key that may read them on the
    main port. With neither, they are open on loopback and closed beyond."""

    bind: Annotated[str, Field(pattern=r"^.+:\d+$")] | None = None
    sha256: Digest | None = None


class Stream(Section):
    """url: redis://, rediss:// or unix://; None: the embedded server. buffer_mb: what may wait in a gateway process.
    max_mb: what the stream may hold; beyond it the oldest entries go."""

    url: Annotated[str, Field(pattern=r"^(redis|rediss|unix)://")] | None = None
    name: Name = "gateway"
    buffer_mb: Positive = 32.0
    max_mb: Positive = 1024.0


class Store(Section):
    url: str | None = None


class Scorer(BaseModel):
    """use: a rule's name, dotted.path:Class or http://…; None: the scorer's own name. Further options are the
    scorer's own."""

    model_config = ConfigDict(extra="allow", frozen=True)

    use: str | None = None
    share: Share = 1.0
    deadline_s: Positive = 10.0

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.__pydantic_extra__ or {})


class Budget(Section):
    concurrency: Annotated[int, Field(gt=0)] = 4
    usd_per_day: Positive | None = None
    tokens_per_day: Annotated[int, Field(gt=0)] | None = None


class Allow(Section):
    keys: tuple[str, ...] | None = None


class Experiment(Section):
    """One control target and one candidate for one alias. shadow: head rate over all eligible requests of the alias."""

    model: str
    control: TargetRef
    candidate: TargetRef
    mode: Literal["shadow"] = "shadow"
    shadow: Share = 0.1
    deadline_s: Positive | None = None
    budget: Budget = Budget()
    allow: Allow = Allow()


class Config(Section):
    keys: tuple[Key, ...] = ()
    open: bool = False
    upstreams: Annotated[dict[Name, Upstream], Field(min_length=1)]
    models: Annotated[dict[Name, Model], Field(min_length=1)]
    sampling: Sampling = Sampling()
    passthrough: str | None = None
    cors: tuple[str, ...] = ()
    limits: Limits = Limits()
    metrics: Metrics = Metrics()
    stream: Stream = Stream()
    store: Store = Store()
    scorers: dict[Name, Scorer] = {}
    experiments: dict[Name, Experiment] = {}

    def summary(self) -> str:
        """One line for people: what `gateway check` prints of a good file."""
        parts = [_count(len(self.upstreams), "upstream"), _count(len(self.models), "model")]
        parts += [_count(len(self.keys), "key") if self.keys else "no keys"]
        parts += [_count(len(self.scorers), "scorer")] if self.scorers else []
        shadows = ", ".join(f"{n}: shadow on {e.shadow:.0%}" for n, e in self.experiments.items())
        parts += [f"{_count(len(self.experiments), 'experiment')} ({shadows})"] if shadows else []
        return f"{', '.join(parts)}; {self.sampling.rate:.0%} of traffic sampled. Ready."


def _count(n: int, word: str) -> str:
    return f"{n} {word}{'' if n == 1 else 's'}"


# ── reading ──


def load(path: Path) -> Config:
    """Reads and checks a file. Raises ConfigError with every mistake in it."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: not UTF-8 text: {error}"]) from error
    return parse(text, path.name)


def parse(text: str, name: str = "gateway.yaml", environ: Mapping[str, str] | None = None) -> Config:
    """Checks the text of a config. environ: where ${NAME} is read; None: the process's own."""
    mistakes: list[str] = []
    try:
        raw = yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader that also refuses duplicate keys
    except yaml.YAMLError as error:
        raise ConfigError([f"{name}: not YAML: {' '.join(str(error).split())}"]) from error
    if not isinstance(raw, dict):
        raise ConfigError([f"{name}: expected sections such as models and upstreams, got {type(raw).__name__}"])
    raw = _expand(raw, "", os.environ if environ is None else environ, mistakes)
    config = None
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        mistakes += [_mistake(e) for e in error.errors(include_url=False)]
    mistakes += _references(raw)
    if mistakes or config is None:
        raise ConfigError([f"{name}: {m}" for m in sorted(set(mistakes))])
    return config


class _Loader(yaml.SafeLoader):
    """YAML lets a key stand twice and keeps the last in silence; here that is a mistake."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str) and key in seen and key != "<<":
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} stands twice", key_node.start_mark)
            seen.add(key if isinstance(key, str) else id(key_node))
        return super().construct_mapping(node, deep)


_VARIABLE = re.compile(r"\$\{([^}]*)\}")


def _expand(value: Any, path: str, environ: Mapping[str, str], mistakes: list[str]) -> Any:
    if isinstance(value, dict):
        return {k: _expand(v, f"{path}.{k}" if path else str(k), environ, mistakes) for k, v in value.items()}
    if isinstance(value, list):
        return [_expand(v, f"{path}[{i}]", environ, mistakes) for i, v in enumerate(value)]
    if not isinstance(value, str):
        return value

    def read(match: re.Match[str]) -> str:
        name = match[1]
        if not environ.get(name):
            mistakes.append(f"{path}: ${name} is not set. Set it, or remove what names it")
        return environ.get(name, "")

    return _VARIABLE.sub(read, value)


def _mistake(error: Any) -> str:
    path = _path(error["loc"])
    if error["type"] == "extra_forbidden":
        return f"{path}: unknown key{_near(str(error['loc'][-1]), _siblings(error['loc'][:-1]))}"
    if error["type"] == "missing":
        return f"{path}: missing; it must be given"
    message = error["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    shown = error.get("input")
    secret = error["loc"] and error["loc"][-1] in ("api_key", "sha256", "url", "proxy")
    if secret or isinstance(shown, dict | list) or repr(shown) in message or shown is None:
        return f"{path}: {message}"
    return f"{path}: {message}, got {shown!r}"


def _path(loc: tuple[int | str, ...]) -> str:
    out = ""
    for part in loc:
        out += f"[{part}]" if isinstance(part, int) else f".{part}" if out else part
    return out


def _siblings(loc: tuple[int | str, ...]) -> list[str]:
    """The keys that may stand at a place of the file."""
    model: Any = Config
    for part in loc:
        if isinstance(model, type) and issubclass(model, BaseModel):
            field = model.model_fields.get(str(part))
            model = _inner(field.annotation) if field else None
    return list(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else []


def _inner(annotation: Any) -> Any:
    """The section inside `tuple[Section, ...]`, `dict[Name, Section]` or `Section | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _inner(argument)
        if found is not None:
            return found
    return None


def _near(word: str, known: Any) -> str:
    close = get_close_matches(word, [str(k) for k in known], 1, 0.6)
    return f'; did you mean "{close[0]}"?' if close else ""


# ── what one section says of another, checked on what could be read, so that one run names all mistakes ──


def _references(raw: dict[str, Any]) -> list[str]:
    return [*_upstream_mistakes(raw), *_model_mistakes(raw), *_key_mistakes(raw), *_experiment_mistakes(raw)]


def _section(raw: dict[str, Any], name: str) -> dict[str, Any]:
    value = raw.get(name)
    return {str(k): v for k, v in value.items() if isinstance(v, dict)} if isinstance(value, dict) else {}


def _upstream_mistakes(raw: dict[str, Any]) -> Iterator[str]:
    for name, upstream in _section(raw, "upstreams").items():
        kind = upstream.get("kind")
        if isinstance(kind, str) and kind not in VENDORS:
            near = _near(kind, VENDORS) or f"; known: {', '.join(VENDORS)}"
            yield f'upstreams.{name}.kind: no kind "{kind}"{near}'
        elif isinstance(kind, str) and VENDORS[kind].base_url is None and "base_url" not in upstream:
            yield f"upstreams.{name}.base_url: missing; a {kind} upstream has no usual one"
    passthrough = raw.get("passthrough")
    if isinstance(passthrough, str):
        yield from _no_upstream("passthrough", passthrough, raw)


def _no_upstream(path: str, name: str, raw: dict[str, Any]) -> Iterator[str]:
    known = raw.get("upstreams")
    known = known if isinstance(known, dict) else {}
    if name not in known:
        yield f'{path}: no upstream "{name}"{_near(name, known)}'


def _model_mistakes(raw: dict[str, Any]) -> Iterator[str]:
    for alias, model in _section(raw, "models").items():
        for part in ("targets", "fallback"):
            targets = model.get(part)
            for i, target in enumerate(targets if isinstance(targets, list) else ()):
                if isinstance(target, dict) and isinstance(target.get("upstream"), str):
                    yield from _no_upstream(f"models.{alias}.{part}[{i}].upstream", target["upstream"], raw)


def _key_mistakes(raw: dict[str, Any]) -> Iterator[str]:
    keys = raw.get("keys")
    models = _section(raw, "models")
    names: set[str] = set()
    for i, key in enumerate(keys if isinstance(keys, list) else ()):
        if not isinstance(key, dict):
            continue
        if isinstance(key.get("name"), str) and key["name"] in names:
            yield f'keys[{i}].name: "{key["name"]}" stands twice'
        names.add(str(key.get("name")))
        for j, alias in enumerate(key["models"] if isinstance(key.get("models"), list) else ()):
            if alias not in models:
                yield f'keys[{i}].models[{j}]: no model "{alias}"{_near(str(alias), models)}'


def _experiment_mistakes(raw: dict[str, Any]) -> Iterator[str]:
    models = _section(raw, "models")
    keys = raw.get("keys")
    names = [k.get("name") for k in keys if isinstance(k, dict)] if isinstance(keys, list) else []
    for name, experiment in _section(raw, "experiments").items():
        at = f"experiments.{name}"
        alias = experiment.get("model")
        if isinstance(alias, str) and alias not in models:
            yield f'{at}.model: no model "{alias}"{_near(alias, models)}'
        for arm in ("control", "candidate"):
            target = experiment.get(arm)
            if isinstance(target, dict) and isinstance(target.get("upstream"), str):
                yield from _no_upstream(f"{at}.{arm}.upstream", target["upstream"], raw)
        yield from _control_mistakes(at, experiment, models.get(str(alias), {}))
        allow = experiment.get("allow")
        allowed = allow.get("keys") if isinstance(allow, dict) else None
        for i, key in enumerate(allowed if isinstance(allowed, list) else ()):
            if key not in names:
                yield f'{at}.allow.keys[{i}]: no key "{key}"{_near(str(key), names)}'


def _control_mistakes(at: str, experiment: dict[str, Any], model: dict[str, Any]) -> Iterator[str]:
    control = experiment.get("control")
    targets = model.get("targets")
    if not isinstance(control, dict) or not isinstance(targets, list):
        return
    wanted = (control.get("upstream"), control.get("model"))
    if not any(isinstance(t, dict) and (t.get("upstream"), t.get("model")) == wanted for t in targets):
        yield f"{at}.control: {wanted[0]}/{wanted[1]} is no target of models.{experiment.get('model')}"


# ── the environment ──


def data_directory(given: Path | None) -> Path:
    """Where the embedded server, the store and the log live: --data, else $GATEWAY_DATA, else ./.gateway."""
    return given or Path(os.environ.get("GATEWAY_DATA") or ".gateway")


def keys_in_environment() -> list[Vendor]:
    """The vendors whose usual key variable is set."""
    return [v for v in VENDORS.values() if v.key_env and v.base_url and os.environ.get(v.key_env)]
