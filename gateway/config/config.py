"""The whole of gateway.yaml as frozen models: `Config`, and every section that has no file of its own.

A model says what its section may hold. What sections must agree on is in checks/; what follows from them, in
derive.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BeforeValidator,
    Field,
    JsonValue,
    PrivateAttr,
    StringConstraints,
    model_validator,
)

from gateway.config.admin import AdminConfig
from gateway.config.cascades import CascadeConfig
from gateway.config.decisions import DecisionsConfig, ModelDecisions
from gateway.config.egress import Egress
from gateway.config.experiments import Experiment
from gateway.config.guards import GuardConfig, GuardName
from gateway.config.jwt import JwtIssuer
from gateway.config.limits import Budgets, LimitsConfig, Organization, Person, Team
from gateway.config.model_lists import ModelLists
from gateway.config.notify import NotifyConfig
from gateway.config.predictor import PredictorConfig
from gateway.config.privacy import Content, RedactionConfig
from gateway.config.routes import ConfiguredRoute
from gateway.config.scorers import EvalsConfig, ScorerConfig, with_questions_apart
from gateway.config.store import StoreConfig
from gateway.config.stream import StreamConfig
from gateway.config.types import (
    Day,
    Digest,
    ForwardedPath,
    IpNetwork,
    LogConfig,
    Name,
    OtelConfig,
    Positive,
    RouteName,
    Section,
    Share,
    TagKey,
    Weight,
    number,
)
from gateway.config.upstreams import TargetRef, Upstream
from gateway.config.watch import WatchConfig
from gateway.config.webhook import WebhookConfig
from gateway.core.providers import PROVIDERS
from gateway.core.traffic_class import TrafficClass

ImplicitLanguage = Literal["en", "de", "fr", "es", "it"]


_Bound = Annotated[float, BeforeValidator(number)]
FeedbackName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]


def _rising(value: tuple[float, float]) -> tuple[float, float]:
    low, high = value
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"expected [lowest, highest], two numbers that rise, such as [0, 1]; got [{low:g}, {high:g}]")
    return value


FeedbackRange = Annotated[tuple[_Bound, _Bound], AfterValidator(_rising)]


class FeedbackConfig(Section):
    """Feedback that users give without a thumb."""

    implicit: tuple[ImplicitLanguage, ...] = ()
    """Languages whose rules read the next message of a user as feedback on the previous answer. Default: none."""
    range: dict[FeedbackName, FeedbackRange] = Field(default={})
    """The lowest and highest `value` of feedback, by its name: `{thumb: [0, 1], stars: [1, 5]}`. Others are refused
    with HTTP 400. Default: any number; splits treat outliers as less extreme."""


_MIN_USD = 1e-4  # below any provider's price per million tokens; some price lists give USD per token


def _per_million(value: Any) -> Any:
    value = number(value)
    if isinstance(value, int | float) and 0 < value < _MIN_USD:
        raise ValueError(f"expected USD per million tokens; {value!r} looks like a price per token")
    return value


UsdPerMillion = Annotated[float, BeforeValidator(_per_million), Field(ge=0, le=1e6, allow_inf_nan=False)]
GpuSecondsPerMillion = Annotated[float, BeforeValidator(number), Field(ge=0, le=1e9, allow_inf_nan=False)]
PricedModel = Annotated[str, Field(min_length=1, max_length=500)]


class ModelPrice(Section):
    """USD per million tokens."""

    input: UsdPerMillion
    """Input tokens."""
    output: UsdPerMillion
    """Output tokens; 0 for a model without any, such as an embedding model."""
    cached_input: UsdPerMillion | None = None
    """Input tokens read from the provider's cache. Default: as `input`."""
    reasoning: UsdPerMillion | None = None
    """Reasoning tokens. Default: as `output`."""


class GpuPrice(Section):
    """GPU-seconds per million tokens."""

    input: GpuSecondsPerMillion
    """Input tokens."""
    output: GpuSecondsPerMillion
    """Output tokens; 0 for a model without any, such as an embedding model."""


class PriceList(Section):
    """Your own prices. They take precedence over the built-in prices."""

    as_of: date
    """The day on which these prices were valid."""
    models: dict[PricedModel, ModelPrice] = Field({})
    """Prices by `upstream/model`, which takes precedence, or by the upstream's name for the model."""
    gpu_seconds: dict[PricedModel, GpuPrice] = Field({})
    """GPU-seconds of your own engines, named as in `models`: the GPUs of an engine, multiplied by the seconds that it
    takes for a million tokens at your usual load. Limits such as `gpu_seconds_per_day` count them."""


Cause = Literal["error", "timeout", "rate_limit", "context_length", "content_filter"]
FallbackCause = Literal[Cause, "budget"]
Strategy = Literal["weighted", "least_in_flight", "latency", "prefix", "session"]
_ClientApi = Literal["chat", "completions", "responses", "embeddings", "moderations", "images"]
_EngineApi = Literal["rerank", "score", "classify", "pooling", "tokenize", "detokenize"]
WithDefault = Literal[_ClientApi, _EngineApi]
OnCut = Literal["off", "error", "continue"]


class ApiKey(Section):
    """A caller."""

    name: Name
    """The caller's name in logs and records. While a key is replaced, the old and the new one may share it."""
    sha256: Digest
    """SHA-256 of the key's bytes, in lower-case hexadecimal: `printf %s "$KEY" | sha256sum`."""
    models: tuple[str, ...] | None = None
    """The models that this key may use. Default: all."""
    allow: tuple[Literal["sample", "target", "passthrough"], ...] = ()
    """Rights of its requests: `sample` (force or forbid recording by header), `target` (choose a target by
    header), `passthrough` (use other /v1/ paths, to all that the upstream's credential reaches; `models` limits none
    but Google's and AWS's that ask a model, which a key with `models` needs to name in `paths`)."""
    paths: tuple[ForwardedPath, ...] | None = None
    """Paths that a key with the right `passthrough` may use, such as `/v1/files*` or `GET /v1/batches/*`; a star at the
    end stands for any continuation. Others get HTTP 403. Default: all."""
    concurrency: Annotated[int, Field(ge=1)] | None = None
    """Calls in flight at once, per worker; any further call gets HTTP 429. `limits.concurrency` counts the calls of all
    gateways. Default: no limit."""
    limits: LimitsConfig = LimitsConfig()
    """Limits of its use, over all gateways. Default: no limit."""
    team: Name | None = None
    """The team in `teams` whose limits it shares. Default: none."""
    person: Name | None = None
    """The person in `people` whose limits it shares with all other keys of the person. Default: none."""
    tags: tuple[Name, ...] = ()
    """Labels under which its usage is summed, in addition to its team's."""
    expires: AwareDatetime | None = None
    """Time from which it is refused, with its offset from UTC, such as `2027-01-01T00:00:00Z`. Default: never."""
    disabled: bool = False
    """Refuse it."""
    sample: Literal["rules", "never"] = "rules"
    """`never` excludes its calls from the population that is sampled and scored."""
    content: Content | None = None
    """Recorded part of its prompts and answers. Default: `redaction.default`; `full` without that section."""
    networks: tuple[IpNetwork, ...] | None = None
    """Networks from which it may be used, such as `10.0.0.0/8`; elsewhere it gets HTTP 403. Default: everywhere."""
    traffic_class: Annotated[TrafficClass, Field(alias="class")] = "normal"
    """Order in which its calls are served where they have to wait for an upstream: `interactive` before `normal` before
    `batch`. An upstream with `priority` gets it, too."""


class RetiringTargetRef(TargetRef):
    """A target of a model name."""

    retires: Day | None = None
    """The day (UTC, such as `2027-01-14`) on which its provider stops serving it; `null`: none. Default: that of the
    built-in list, for a provider at its own URL. `gateway check`, the log, the console and alerts announce it in time.
    """


class WeightedTarget(RetiringTargetRef):
    """A target that serves a share of the model's calls."""

    weight: Weight = 1.0
    """Share of the calls, relative to the weights of the other targets."""


class Fallback(RetiringTargetRef):
    """A target that the gateway tries, in the order of this list, after the targets have failed."""

    on: tuple[FallbackCause, ...] = ("error", "timeout", "rate_limit", "context_length")
    """The failures after which the gateway tries it. `budget`: it answers in place of the targets, once a limit in
    dollars of the caller is used up to `budgets.tier_down_at`."""


class Timeouts(Section):
    """Deadlines in seconds."""

    connect_s: Positive = 2.0
    """Time until the connection is open."""
    first_token_s: Positive = 30.0
    """Time until a stream's first content."""
    answer_s: Positive = 120.0
    """Time until the body of a plain answer is complete."""
    idle_s: Positive = 30.0
    """Time between two chunks of a stream."""
    total_s: Positive = 600.0
    """Duration of the whole call, with all of its attempts."""


class Retries(Section):
    """Attempts on the same target after the first, before a fallback."""

    attempts: Annotated[int, Field(ge=1, le=10)] = 2
    """Attempts on one target, including the first."""
    backoff_s: Annotated[float, Field(ge=0)] = 0.2
    """Wait before the second attempt; doubled, with jitter, before each further one."""
    budget_s: Annotated[float, Field(ge=0)] = 10.0
    """Longest total wait between attempts. A longer `Retry-After` leads straight to the fallback."""


ScoreObjective = Annotated[float, BeforeValidator(number), Field(gt=0, lt=1)]


class Model(Section):
    """A model name that clients may use."""

    targets: Annotated[tuple[WeightedTarget, ...], Field(min_length=1)]
    """The targets that serve it."""
    fallback: tuple[Fallback, ...] = ()
    """The targets to try when those fail."""
    timeouts: Timeouts = Timeouts()
    """Deadlines of its calls."""
    retries: Retries = Retries()
    """Attempts of its calls after the first."""
    on_cut: OnCut | None = None
    """Reaction to an upstream that breaks off a stream: `continue` on a fallback, `error` (send an error event), or
    `off` (just end). Default: `continue` if there is a fallback, else `error`."""
    objective: Annotated[float, Field(gt=0, lt=1)] = 0.99
    """The target share of successful calls. The alerts page when failures use up a month's budget in two days."""
    score_objectives: dict[Name, ScoreObjective] = Field({})
    """The least mean that its answers should have, by scorer, such as `{helpful: 0.9}`. An alert rings when the mean of
    an hour, of six hours or of three days at one target is below it beyond doubt. Default: none."""
    listed: dict[str, JsonValue] = Field({})
    """Additional members of its entry in `/v1/models`, such as `{max_model_len: 32768}`, which some clients read."""
    strategy: Strategy = "weighted"
    """Rule that chooses a target: by weight, by requests in flight (and reported load), by latency, or the same target
    for the same beginning of a prompt (`prefix`) or the same conversation (`session`), which keeps its cache warm."""
    decisions: ModelDecisions | None = None
    """The way in which it answers decisions. Default: by its upstreams' API of decisions."""

    @property
    def cut_policy(self) -> OnCut:
        """Value of `on_cut`, or its default."""
        return self.on_cut or ("continue" if self.fallback else "error")


class RuleCondition(Section):
    """Conditions that must all hold. Those on the request are decided before it is sent; those on the answer
    (`outcome`, `finish_reason`, `min_…`) when it has ended."""

    alias: str | None = None
    """The model that the client requested."""
    key: str | None = None
    """The name of the caller's key."""
    api: str | None = None
    """`chat`, `completions`, `responses`, `messages`, `embeddings`, …"""
    stream: bool | None = None
    """Whether the client requested a stream."""
    outcome: (
        Literal["ok", "error", "client_gone", "client_deadline", "blocked", "upstream_error", "timeout", "cut"] | None
    ) = None
    """Outcome of the call; `error` is `upstream_error`, `timeout` and `cut`."""
    finish_reason: str | None = None
    """The finish reason that the upstream sent."""
    min_total_s: Positive | None = None
    """The call took at least this many seconds."""
    min_first_token_s: Positive | None = None
    """The first content took at least this many seconds."""

    @property
    def head(self) -> bool:
        """Whether the conditions can be decided before the request is sent."""
        return not ({"outcome", "finish_reason", "min_total_s", "min_first_token_s"} & self.model_fields_set)


class SamplingRule(Section):
    """A rate for some of the calls. Of all rules that match, the highest rate counts."""

    when: RuleCondition
    """The calls that the rate applies to."""
    rate: Share
    """The share of these calls that is recorded."""
    name: Name | None = None
    """Name of the stratum in metrics and reports. Default: made from the rule's position in the list."""


class Sampling(Section):
    """The choice of the calls that are recorded and scored."""

    rate: Share = 0.1
    """The share of calls that is recorded if no rule matches."""
    unit: Literal["request", "conversation", "run"] = "request"
    """Unit of the draw: single requests, whole conversations (by `x-gateway-conversation` or
    `metadata.conversation_id`), or whole runs. A run is recorded at the highest rate of all rules but those for
    other keys; the rates decide which of its calls are scored one by one."""
    pi_min: Annotated[float, Field(gt=0, le=1)] = 0.001
    """The smallest rate allowed, other than 0. A call recorded with probability π has weight 1/π."""
    rules: tuple[SamplingRule, ...] = ()
    """Rates for some of the calls."""
    max_kb: Annotated[int, Field(ge=1)] = 1024
    """Size up to which a request or a response body is recorded; the rest of it is cut off."""

    @model_validator(mode="after")
    def _check_pi_min(self) -> Self:
        for at, rate in (("rate", self.rate), *((f"rules[{i}].rate", r.rate) for i, r in enumerate(self.rules))):
            if 0 < rate < self.pi_min:
                raise ValueError(f"{at} {rate} is below pi_min {self.pi_min}: its weights would exceed 1 / pi_min")
        return self


class Limits(Section):
    """Limits of the gateway process."""

    max_body_mb: Positive = 32.0
    """Size of a request body, after it was decompressed; a larger one gets HTTP 413."""
    passthrough_s: Positive = 120.0
    """Seconds until an upstream's response begins, and between two pieces of it, outside the routed endpoints
    (passthrough, responses by id)."""
    inflight_mb: Positive = 128.0
    """Request bodies that one worker holds at once, over all calls, each counted from the announcement of its length; a
    call above it gets HTTP 503. Where there are several keys, each may hold half of it. A body under way takes about
    twice its size.
    """
    drain_s: Positive = 30.0
    """Seconds that calls in flight may take to finish when the gateway stops."""
    connections: Annotated[int, Field(ge=1)] | None = None
    """Client connections of one worker; a further one gets HTTP 503. Default: half of the files that the process may
    open, 10000 at most."""
    connections_per_address: Annotated[int, Field(ge=1)] | None = None
    """Client connections of one worker from one address. Default: no limit, as behind a proxy all have one address."""


class MetricsConfig(Section):
    """Access to `/metrics` and `/ready`. Without either key, only clients on this machine may read them, if the gateway
    listens on the loopback interface, and no request that a proxy passed on."""

    bind: Annotated[str, Field(pattern=r"^.+:\d+$")] | None = None
    """HOST:PORT of a separate listener for both."""
    sha256: Digest | None = None
    """SHA-256 of a key that may read both on the main port."""


class RunsConfig(Section):
    """Runs: the calls of one task of an agent."""

    sources: Annotated[
        tuple[Literal["traceparent", "prompt_cache_key", "previous_response_id", "history"], ...], Field(alias="from")
    ] = ()
    """Additional sources of a run's id, in this order, for calls without `x-gateway-run`, `metadata.run_id`, a coding
    agent's session or a conversation: the trace of `traceparent`; `prompt_cache_key`, which many applications keep
    constant; `previous_response_id`: responses that continue each other; `history`: the call of the same key whose
    messages this call extends."""
    quiet_s: Positive = 300.0
    """Seconds without a call after which a run is scored; a run that continues is scored again."""


class TagsConfig(Section):
    """Tags that clients give their calls: in the header `x-gateway-tags: feature=search,env=prod`, or in
    `metadata.tags`."""

    keys: tuple[TagKey, ...] = ()
    """The keys whose tags count: in usage and cost, in Prometheus, and as segments of experiments. Others are left
    out. Default: none."""
    most_sets: Annotated[int, Field(ge=1, le=10_000)] = 500
    """Number of different combinations of tags that one worker counts after its start; beyond it, values count as
    `other`."""


class IngestConfig(Section):
    """The receiver of traces: `POST /v1/traces` of OTLP, on the consumer. Needs the extra `otel`."""

    bind: Annotated[str, Field(pattern=r"^.+:\d+$")]
    """HOST:PORT to listen on, such as `127.0.0.1:4318`."""
    sha256: Digest
    """SHA-256 of the token that programs send as `Authorization: Bearer TOKEN`."""


PassthroughApi = Literal["openai", "anthropic", "gemini", "bedrock"]


class Passthrough(Section):
    """The upstreams of requests to paths that are not routed by model, by the API that the client speaks."""

    openai: str | None = None
    """The upstream of all requests but those of the other APIs. Default: they get HTTP 404."""
    anthropic: str | None = None
    """The upstream of requests below /v1/messages, and of those with the header `anthropic-version`. Default: they get
    HTTP 404."""
    gemini: str | None = None
    """The upstream, of kind gemini_native, of requests of Gemini's clients that name no model or no method that is
    routed, such as /v1beta/files: below /v1beta/ and /v1alpha/; below /v1/ those with the header `x-goog-api-key`, and
    paths that only Google's APIs have, such as /v1/cachedContents and `…:embedContent`. Default: they get HTTP 404."""
    bedrock: str | None = None
    """The upstream, of kind bedrock_converse or bedrock_anthropic, of requests to other paths of Bedrock's runtime:
    below /guardrail/ and /async-invoke. Default: they get HTTP 404."""


class ResponsesConfig(Section):
    """Stored responses of the Responses API."""

    seal: bool = True
    """Add to the ids of responses a seal of the key and of the upstream, so that only that key can read, continue or
    delete them. `false` leaves ids as the upstream writes them, for a gateway of one tenant: every key can then use
    every response that the upstream's credential reaches."""
    files: Literal["made", "used", "shared"] = "made"
    """Owner of a file, a vector store or a stored prompt: the key that made it through `passthrough` (`made`), or else
    the first key that used it (`used`); another key gets HTTP 404. `shared`: every key may use every one, such as where
    one key uploads for the others."""


class Config(Section):
    """gateway.yaml: the configuration of gateway and consumer."""

    keys: tuple[ApiKey, ...] = ()
    """The callers. Without any, `gateway serve` refuses to start unless `open` is true, and `gateway up` makes one."""
    open: bool = False
    """Accept every request when there are no keys."""
    people: dict[Name, Person] = Field({})
    """People, whose keys share limits, whatever their teams. Keys name their person (`keys[].person`); a caller with a
    token of an identity provider is the person with the caller's name, such as `sso:alice`."""
    teams: dict[Name, Team] = Field({})
    """Teams, whose keys share limits and models."""
    organizations: dict[Name, Organization] = Field({})
    """Organizations, whose teams share limits."""
    budgets: Budgets = Budgets()
    """Rules for what limits refuse and reserve."""
    admin: AdminConfig | None = None
    """The admin API. Default: keys, teams and organizations are those of this file."""
    upstreams: Annotated[dict[Name, Upstream], Field(min_length=1)]
    """Servers that requests can go to."""
    models: Annotated[dict[Name, Model], Field(min_length=1)]
    """The model names that clients may use."""
    defaults: dict[WithDefault, Name] | Literal["auto"] = Field({})
    """The model of a request that names none, by API, such as `{moderations: guard, responses: chat}`. `auto`: the only
    model that its key may use; a key with several must name one. Default: such a request gets HTTP 400. That of
    `responses` also holds for their `compact` and `input_tokens`. Forms of audio must name their model."""
    sampling: Sampling = Sampling()
    """The share of calls that is recorded and scored."""
    passthrough: str | Passthrough | None = None
    """The upstream that gets requests to all other /v1/ paths; or one for each API, such as `{openai: NAME, anthropic:
    NAME, gemini: NAME, bedrock: NAME}`. Default: such requests get HTTP 404."""
    responses: ResponsesConfig = ResponsesConfig()
    """Stored responses of the Responses API."""
    cors: tuple[str, ...] = ()
    """Origins from which browsers may send requests."""
    trusted_proxies: tuple[IpNetwork, ...] = ()
    """Networks of the proxies in front of the gateway, such as `10.0.0.0/8`, whose `X-Forwarded-For` names the client's
    address, for the access log and for `networks`. Default: none; then it is the address of the connection."""
    networks: tuple[IpNetwork, ...] | None = None
    """Networks from which calls are accepted; others get HTTP 403, whatever their key. `/health` stays open, and
    `metrics` says who may read `/metrics`. Default: everywhere."""
    jwt: dict[Name, JwtIssuer] = Field({})
    """Issuers of JSON Web Tokens that callers may send instead of a key. Needs the extra `jwt`."""
    hide_upstreams: bool = False
    """Leave the names of upstreams and of their models out of response headers and error messages, and the headers of
    their providers. Keys with `allow: [target]` and those of scorers still see them. The body of an answer is passed
    on as it is, with the `model` that the upstream writes there."""
    limits: Limits = Limits()
    """Limits on requests, and on stopping."""
    egress: Egress | None = None
    """The outbound proxy of all that the gateway calls outside. Default: none."""
    metrics: MetricsConfig = MetricsConfig()
    """Access to the metrics."""
    log: LogConfig = LogConfig()
    """The log on stderr."""
    otel: OtelConfig | None = None
    """Export to an OpenTelemetry collector. Default: no export."""
    stream: StreamConfig = StreamConfig()
    """The stream server between gateway and consumer."""
    store: StoreConfig = StoreConfig()
    """The database of exchanges and scores."""
    redaction: RedactionConfig | None = None
    """Removal of personal data and secrets from content before it is recorded. Default: nothing is removed."""
    scorers: Annotated[dict[Name, ScorerConfig], BeforeValidator(with_questions_apart)] = Field({})
    """Measurements on each recorded answer."""
    guards: dict[GuardName, GuardConfig] = Field({})
    """Rules and scorers that may refuse a request or an answer. A request is judged in the order of this section."""
    predictor: PredictorConfig | None = None
    """A learned model that decides which exchanges a judge sees. Default: none."""
    tags: TagsConfig = TagsConfig()
    """Tags that calls give themselves."""
    runs: RunsConfig = RunsConfig()
    """Runs: the calls of one task of an agent."""
    feedback: FeedbackConfig = FeedbackConfig()
    """Sources of feedback besides `POST /v1/feedback`."""
    ingest: IngestConfig | None = None
    """The receiver of traces of other programs. Default: none."""
    evals: EvalsConfig = EvalsConfig()
    """Access of judges, embeddings and replays to the gateway."""
    prices: PriceList | None = None
    """Prices of models, in addition to the built-in prices."""
    cascades: dict[RouteName, CascadeConfig] = Field({})
    """Cheaper targets that answer first, each with the condition on which its answer is served."""
    decisions: DecisionsConfig = DecisionsConfig()
    """Typed questions, and promises about acting on their probabilities."""
    experiments: dict[Name, Experiment] = Field({})
    """Comparisons of targets."""
    watch: WatchConfig | None = None
    """Probes of the models behind names. Default: none."""
    webhooks: dict[Name, WebhookConfig] = Field({})
    """The receivers of each transition of a ramp, and of each group that a learned route takes back, by name."""
    notify: NotifyConfig | None = None
    """Receivers of notices about budgets, verdicts, ramps, retirements, refused configs and unreachable stores.
    Default: nobody."""
    _digest: str = PrivateAttr("")
    _secret_files: tuple[Path, ...] = PrivateAttr(())
    _directory: Path = PrivateAttr(Path())
    _lists: ModelLists = PrivateAttr(default_factory=ModelLists)
    _routes: Mapping[str, ConfiguredRoute] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _apply_egress(self) -> Self:
        """Gives each upstream and issuer that names no proxy the one of `egress`, unless its server is reached
        directly."""
        egress = self.egress
        if egress is None:
            return self
        for name, upstream in self.upstreams.items():
            known = upstream.base_url or upstream.kind in PROVIDERS  # the checks report an unknown kind
            proxy = egress.proxy_to(upstream.url) if known and upstream.proxy is None else None
            if proxy is not None:
                self.upstreams[name] = passed = upstream.model_copy(update={"proxy": proxy})
                if passed.transport == "http1" and not passed.tunnelled:
                    raise ValueError(
                        f"egress: upstreams.{name} has transport: http1, which passes a proxy only to https:// "
                        "servers; remove transport, or name its host in egress.direct"
                    )
        for name, issuer in self.jwt.items():
            proxy = egress.proxy_to(issuer.jwks_url or issuer.issuer) if issuer.proxy is None else None
            if proxy is not None:
                self.jwt[name] = issuer.model_copy(update={"proxy": proxy})
        return self

    def passthrough_of(self, api: PassthroughApi) -> str | None:
        """The upstream of requests to other paths by clients of this API; None means that they are refused."""
        given = self.passthrough
        if isinstance(given, Passthrough):
            found: str | None = getattr(given, api)
            return found
        return given if api in ("openai", "anthropic") else None

    @property
    def files_have_owners(self) -> bool:
        """Whether the gateway can know the key that owns a file: only `passthrough` makes files here."""
        return self.responses.files == "used" or (self.responses.files == "made" and self.passthrough is not None)

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits that differ where the text of the file differs; "" if it was not read from a
        text.
        """
        return self._digest

    @property
    def directory(self) -> Path:
        """The directory of the file, at which relative paths start."""
        return self._directory

    @property
    def lists(self) -> ModelLists:
        """The lists of prices and retirements."""
        return self._lists

    def with_lists(self, lists: ModelLists) -> Self:
        """Notes the lists next to the file, and returns the config."""
        self._lists = lists
        return self

    def read_in(self, directory: Path) -> Self:
        """Notes the directory of the file, and returns the config."""
        self._directory = directory
        return self

    @property
    def secret_files(self) -> tuple[Path, ...]:
        """The files that values and routes were read from, and the one with the console's experiments, which may not
        exist; a change of one is a change of the config."""
        return self._secret_files

    @property
    def tls_files(self) -> tuple[Path, ...]:
        """Certificates and keys of connections to upstreams; the gateway uses a rewritten file at once."""
        files = [f for u in self.upstreams.values() for f in (u.ca_file, u.cert_file, u.key_file) if f is not None]
        return tuple(Path(file) for file in dict.fromkeys(files))

    @property
    def routes(self) -> Mapping[str, ConfiguredRoute]:
        """The learned routes that targets name, by name."""
        return self._routes

    def with_routes(self, routes: Mapping[str, ConfiguredRoute]) -> Self:
        """Notes the routes of the files next to this config, and returns the config."""
        self._routes = routes
        return self

    def read_from(self, digest: str, secret_files: tuple[Path, ...]) -> Self:
        """Notes what this config was read from, and returns the config."""
        self._digest, self._secret_files = digest, secret_files
        return self

    def summary(self) -> str:
        """One line for people."""
        counts = [_count(len(self.upstreams), "upstream"), _count(len(self.models), "model")]
        counts += [_count(len(self.keys), "key") if self.keys else "no keys"]
        counts += [_count(len(self.jwt), "token issuer")] if self.jwt else []
        counts += [_count(len(self.scorers), "scorer")] if self.scorers else []
        experiments = "; ".join(f"{name}: {each.summary()}" for name, each in self.experiments.items())
        counts += [f"{_count(len(self.experiments), 'experiment')} ({experiments})"] if experiments else []
        return f"{', '.join(counts)}; {self.sampling.rate:.0%} of traffic sampled. Ready."

    def transports_summary(self) -> str:
        """The HTTP client of each upstream, in one line for people."""
        return "transports: " + "; ".join(f"{name} {each.transport_summary()}" for name, each in self.upstreams.items())


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"
