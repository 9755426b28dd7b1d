"""gateway.yaml → frozen models. All mistakes at once, each with its path and, where one is near, a did-you-mean.

The only module that reads the environment. It knows no scorer's own options: room 2 checks those when it builds them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator

from gateway.config.checks import references, worded
from gateway.config.environment import ENGINES, EVALS, UP_KEY
from gateway.config.experiment_checks import experiment_mistakes, unpriced
from gateway.config.experiments import Experiment
from gateway.config.log import LogConfig
from gateway.config.otel import OtelConfig
from gateway.config.prices import PriceList
from gateway.config.privacy import Content, RedactionConfig, StoreConfig
from gateway.config.scorers import EvalsConfig, add_evals
from gateway.config.scorers import ScorerConfig as Scorer
from gateway.config.stream import StreamConfig
from gateway.config.types import Digest, Name, Positive, Section, Share, Weight
from gateway.config.upstreams import Upstream as Upstream
from gateway.config.yaml_text import add_told, contents, read
from gateway.core.errors import ConfigError
from gateway.core.providers import VENDORS, Provider

Cause = Literal["error", "timeout", "rate_limit", "context_length", "content_filter"]
Strategy = Literal["weighted", "least_in_flight", "latency", "prefix", "session"]
OnCut = Literal["off", "error", "continue"]


class ApiKey(Section):
    """A caller. name: in metrics and records. sha256: of the key's bytes. models: the aliases it may use; None: all.

    allow: what its requests may ask for by header: sample (force or forbid recording), target (name a target),
    passthrough (other /v1/ paths). sample: "never" takes its traffic out of the sampled population. content: how much
    of what it says is kept; None: as `redaction.default` says, and all of it where there is no such section.
    """

    name: Name
    sha256: Digest
    models: tuple[str, ...] | None = None
    allow: tuple[Literal["sample", "target", "passthrough"], ...] = ()
    sample: Literal["rules", "never"] = "rules"
    content: Content | None = None


class TargetRef(Section):
    upstream: str
    model: Annotated[str, Field(min_length=1, max_length=300, pattern=r"^[\x21-\x7e]+$")]


class WeightedTarget(TargetRef):
    """upstream: one of `upstreams`. model: what that upstream calls it. weight: its share beside the other targets'."""

    weight: Weight = 1.0


class Fallback(TargetRef):
    """Asked in order after the targets; only for the causes in `on`.

    upstream: one of `upstreams`. model: what that upstream calls it. on: what must have befallen the targets.
    """

    on: tuple[Cause, ...] = ("error", "timeout", "rate_limit", "context_length")


class Timeouts(Section):
    """Limits in seconds. connect_s: to an open connection. first_token_s: streams, to the first content. answer_s:
    plain answers, to the whole body. idle_s: between bytes of a stream. total_s: the whole call with all its
    attempts."""

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
    """A name clients may use.

    targets: who serves it. fallback: who is asked when they cannot. timeouts, retries: of its calls. on_cut: what
    happens to a stream that breaks off after its first byte: continue at the fallback, end in an error event, or off:
    just end; None: continue where there is a fallback, else error. strategy: how a target is chosen: by weight, by
    calls in flight (and load, where it is told), by latency, or always the same one for a prompt's beginning (prefix)
    or a conversation (session), so that its cache is warm.
    """

    targets: Annotated[tuple[WeightedTarget, ...], Field(min_length=1)]
    fallback: tuple[Fallback, ...] = ()
    timeouts: Timeouts = Timeouts()
    retries: Retries = Retries()
    on_cut: OnCut | None = None
    strategy: Strategy = "weighted"

    @property
    def cut(self) -> OnCut:
        return self.on_cut or ("continue" if self.fallback else "error")


class RuleCondition(Section):
    """All given conditions must hold. What is known before asking decides then (head); the rest when the answer has
    ended (tail).

    alias, key: named by the call. api: chat, completions, responses, messages, … stream: the answer comes as one.
    outcome: how it ended; error: any way but ok and client_gone. finish_reason: as the upstream says it. min_total_s,
    min_first_token_s: it took at least so long.
    """

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


class SamplingRule(Section):
    """when: for which calls. rate: of them; of all rules that match the largest counts. name: of the stratum in metrics
    and reports; None: made of the rule's place."""

    when: RuleCondition
    rate: Share
    name: Name | None = None


class Sampling(Section):
    """rate: for what no rule names. rules: for what they name. unit: request, or conversation (x-gateway-conversation,
    metadata.conversation_id). pi_min: no stratum may have a smaller probability, except 0 for "never". max_kb: of each
    of an exchange's bodies."""

    rate: Share = 0.1
    unit: Literal["request", "conversation"] = "request"
    pi_min: Annotated[float, Field(gt=0, le=1)] = 0.001
    rules: tuple[SamplingRule, ...] = ()
    max_kb: Annotated[int, Field(ge=1)] = 1024

    @model_validator(mode="after")
    def _above_pi_min(self) -> Self:
        for at, rate in (("rate", self.rate), *((f"rules[{i}].rate", r.rate) for i, r in enumerate(self.rules))):
            if 0 < rate < self.pi_min:
                raise ValueError(f"{at} {rate} is below pi_min {self.pi_min}: its weights would exceed 1 / pi_min")
        return self


class Limits(Section):
    """max_body_mb: of a request; beyond it: 413. drain_s: how long a stopping gateway lets calls in flight finish."""

    max_body_mb: Positive = 32.0
    drain_s: Positive = 30.0


class MetricsConfig(Section):
    """bind: "host:port" of a listener of its own for /metrics and /ready. sha256: of a key that may read them on the
    main port. With neither, they are open on loopback and closed beyond."""

    bind: Annotated[str, Field(pattern=r"^.+:\d+$")] | None = None
    sha256: Digest | None = None


class Config(Section):
    """keys: who may ask. open: True lets everybody in, where there are no keys. upstreams: where requests can go.
    models: the names that clients may use. sampling: what is recorded and scored. passthrough: the upstream that other
    /v1/ paths go to; None: 404. cors: origins of browsers that may ask. limits: of requests and of stopping. metrics:
    who may read them. log: what is written of calls. otel: where traces go. stream: the server between gateway and
    consumer. store: where scores are kept. redaction: what is taken out before anything is recorded. scorers: what
    is said of each recorded answer. evals: how judges reach the gateway. prices: of models, beside those that are
    built in. experiments: comparisons of two or more targets.
    """

    keys: tuple[ApiKey, ...] = ()
    open: bool = False
    upstreams: Annotated[dict[Name, Upstream], Field(min_length=1)]
    models: Annotated[dict[Name, Model], Field(min_length=1)]
    sampling: Sampling = Sampling()
    passthrough: str | None = None
    cors: tuple[str, ...] = ()
    limits: Limits = Limits()
    metrics: MetricsConfig = MetricsConfig()
    log: LogConfig = LogConfig()
    otel: OtelConfig | None = None
    stream: StreamConfig = StreamConfig()
    store: StoreConfig = StoreConfig()
    redaction: RedactionConfig | None = None
    scorers: dict[Name, Scorer] = Field({})
    evals: EvalsConfig = EvalsConfig()
    prices: PriceList | None = None
    experiments: dict[Name, Experiment] = Field({})

    def summary(self) -> str:
        """One line for people."""
        parts = [_count(len(self.upstreams), "upstream"), _count(len(self.models), "model")]
        parts += [_count(len(self.keys), "key") if self.keys else "no keys"]
        parts += [_count(len(self.scorers), "scorer")] if self.scorers else []
        tried = "; ".join(f"{n}: {e.summary()}" for n, e in self.experiments.items())
        parts += [f"{_count(len(self.experiments), 'experiment')} ({tried})"] if tried else []
        return f"{', '.join(parts)}; {self.sampling.rate:.0%} of traffic sampled. Ready."

    def carried(self) -> str:
        """By which transport each upstream is asked, in one line for people."""
        return "transports: " + "; ".join(f"{name} {upstream.carried}" for name, upstream in self.upstreams.items())


def _count(n: int, word: str) -> str:
    return f"{n} {word}{'' if n == 1 else 's'}"


def load(path: Path) -> Config:
    """Reads and checks a file. Raises ConfigError with every mistake in it."""
    return parse(contents(path), path.name)


def parse(text: str, name: str = "gateway.yaml", environ: Mapping[str, str] | None = None) -> Config:
    """Checks the text of a config. environ: where ${NAME} is read; None: the process's own."""
    environ = os.environ if environ is None else environ
    raw, mistakes = read(text, name, environ)
    add_told(raw, environ.get(ENGINES, ""), environ.get(UP_KEY, ""))
    add_evals(raw, environ.get(EVALS, ""))
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        mistakes = worded(error, Config, mistakes)
    mistakes += [*references(raw), *experiment_mistakes(raw)]
    mistakes += [] if mistakes else unpriced(config)
    if mistakes:
        raise ConfigError([f"{name}: {m}" for m in sorted(set(mistakes))])
    return config


def data_directory(given: Path | None) -> Path:
    """Where the embedded server, the store and the log live: --data, else $GATEWAY_DATA, else ./.gateway."""
    return given or Path(os.environ.get("GATEWAY_DATA") or ".gateway")


def keys_in_environment() -> list[Provider]:
    """The vendors whose usual key variable is set."""
    return [v for v in VENDORS.values() if v.key_env and v.base_url and os.environ.get(v.key_env)]
