"""The section `upstreams` of gateway.yaml: where requests can go, and the engines that `gateway up` starts itself."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import ConfigDict, Field, JsonValue, field_validator, model_validator

from gateway.config.cloud_auth import CloudAuth
from gateway.config.limits import Count
from gateway.config.types import (
    Day,
    ModelName,
    Name,
    NonEmpty,
    ParameterName,
    Part,
    Positive,
    RouteDigest,
    RouteName,
    Section,
    Share,
    Url,
    Weight,
)
from gateway.core.guards import GUARD
from gateway.core.learned_route import ROUTE
from gateway.core.providers import CHATS, PROVIDERS, DecisionFormat, Load, Provider, ResponsesApi
from gateway.core.traffic_class import TrafficClass

PACKAGED_SLOTS = 2
OWN_ENGINE_WAIT_S = 120.0


class EngineRun(Section):
    """An engine that `gateway up` starts on a free port of this machine. `gateway serve` does not start it."""

    engine: Literal["llamacpp", "vllm"]
    """The program to start; the same value as the upstream's `kind`."""
    model: NonEmpty = "smollm2"
    """Model of the engine. llamacpp: `smollm2` (packaged) or the path of a .gguf file. vllm: a Hugging Face name or a
    folder; required."""
    name: ModelName | None = None
    """The model name that the engine serves. Default: `smollm2`, the name of the file or folder, or the hub's name."""
    command: Annotated[tuple[NonEmpty, ...], Field(min_length=1)] | None = None
    """Command that starts the engine, such as `[/opt/vllm/bin/vllm]` or `[llama-server]`. Default: the installed
    one."""
    slots: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Requests that the engine answers at once; further ones wait in the gateway, where shadows and judges come last.
    Default: 2 for the packaged llama.cpp, otherwise the engine's own."""
    context: Annotated[int, Field(ge=16)] | None = None
    """Tokens of one request, prompt and answer together. Default: 2048 for the packaged llama.cpp, otherwise the
    engine's own."""
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    """CPU threads; llamacpp only. Default: all cores but one; with `command`, what that program takes."""
    seed: Annotated[int, Field(ge=0, lt=2**32 - 1)] | None = None
    """Seed of requests that send none. Default: a new one for each request."""
    args: tuple[str, ...] = ()
    """Additional command-line arguments of the engine. llamacpp: only together with `command`."""
    environ: dict[NonEmpty, str] = Field({})
    """Additional environment variables. The engine inherits the environment without the providers' API keys."""
    ready_s: Positive | None = None
    """Start-up deadline. Default: 120 for llamacpp; 900 for vllm, which may have to download and compile."""

    @model_validator(mode="after")
    def _check_engine(self) -> Self:
        if self.engine == "vllm" and "model" not in self.model_fields_set:
            raise ValueError("model: missing; vllm needs a Hugging Face name or a folder, not the packaged smollm2")
        if self.engine == "llamacpp" and self.args and self.command is None:
            raise ValueError("args need a program that reads them; add command: [llama-server]")
        if self.engine == "vllm" and self.threads is not None:
            raise ValueError("threads: vllm has no such option; set environ: {OMP_NUM_THREADS: …}")
        return self


class HealthCheck(Section):
    """Health checks of an upstream with a health path. While it counts as down, calls go to its fallbacks."""

    interval_s: Positive = 5.0
    """Seconds between two checks."""
    timeout_s: Positive = 2.0
    """Seconds after which a check without an answer counts as failed."""
    failures: Annotated[int, Field(ge=1)] = 3
    """Failed checks in a row after which it is down. Until a first check has succeeded, one is enough."""
    successes: Annotated[int, Field(ge=1)] = 1
    """Successful checks in a row after which it is up again."""


class BreakerConfig(Section):
    """The circuit breaker of each target of this upstream. While it is open, the target gets no calls. It opens
    after `failures` in a row, or when half of at least 20 calls within 10 s failed."""

    failures: Annotated[int, Field(ge=1)] = 5
    """Failed calls in a row that open it."""
    open_s: Positive = 1.0
    """Seconds until a first call may probe the target; doubled with each probe that fails."""
    max_open_s: Positive = 15.0
    """The longest wait between two probes."""


class VendorLimits(Section):
    """Limits that the vendor sets, shared by all gateways. An attempt that would exceed them waits in the queue."""

    requests_per_minute: Count | None = None
    """Requests per minute. Default: what the vendor's headers say."""
    tokens_per_minute: Count | None = None
    """Input and output tokens per minute. Default: what the vendor's headers say."""
    concurrency: Count | None = None
    """Requests in flight at once, over all gateways. Default: no limit."""


class ClassShare(Section):
    """The share of a class of traffic."""

    guaranteed: Part
    """Part of `concurrency` that its waiting requests get first, such as 0.1. Others use it meanwhile."""


class FlowShare(Section):
    """The share of a team or a key."""

    weight: Weight = 1.0
    """Share of a full upstream's time, relative to the weights of the others that wait."""
    guaranteed: Part | None = None
    """Part of `concurrency` that its waiting requests get first, whatever their class. Others use it meanwhile.
    Default: none."""


class UpstreamShares(Section):
    """Shares of an upstream that is full."""

    teams: dict[Name, FlowShare] = Field({})
    """Shares of teams. The keys of a team that is not named here count each for itself."""
    keys: dict[Name, FlowShare] = Field({})
    """Shares of keys: within their team, where that is named under `teams`. Default: a weight of 1."""
    classes: dict[TrafficClass, ClassShare] = Field({})
    """Guaranteed shares of classes, so that a flood of a higher class does not stop a lower one."""

    @model_validator(mode="after")
    def _check_guarantees(self) -> Self:
        parts: dict[str, list[float | None]] = {
            "teams": [share.guaranteed for share in self.teams.values()],
            "keys": [share.guaranteed for share in self.keys.values()],
            "classes": [share.guaranteed for share in self.classes.values()],
        }
        for kind, given in parts.items():
            total = sum(part or 0.0 for part in given)
            if total > 1 + 1e-9:
                raise ValueError(f"{kind}: {total:g} of the upstream is guaranteed; the parts may add up to 1 at most")
        return self

    @property
    def guarantees(self) -> bool:
        """Whether any share is guaranteed."""
        return bool(self.classes) or any(s.guaranteed for s in (*self.teams.values(), *self.keys.values()))


class Upstream(Section):
    """A server that requests can go to. Defaults that depend on `kind` are listed in docs/engines.md."""

    kind: Annotated[str, Field(json_schema_extra={"enum": list(PROVIDERS)})]
    """The provider or engine: `openai`, `anthropic`, `azure`, `vllm`, `ollama`, `llamacpp`, …"""
    base_url: Url | None = None
    """URL up to and including the version path. Default: the provider's own, where it has one."""
    run: EngineRun | None = None
    """Start of this upstream as a child process of `gateway up`."""
    api_key: str | None = None
    """The provider's API key, sent in the header that this kind expects. Default: no key."""
    auth: CloudAuth | None = None
    """Credentials of a cloud in place of `api_key`, for the OpenAI-compatible endpoints of Bedrock, Vertex AI and
    Azure."""
    headers: dict[str, str] = Field({})
    """Additional request headers."""
    pass_headers: tuple[str, ...] = ()
    """Request headers of clients that this upstream gets besides those of docs/clients.md, such as `X-Session-ID`.
    Credentials are not allowed: they are the upstream's."""
    api_version: str | None = None
    """Azure only: the `api-version` query parameter."""
    ca_file: str | None = None
    """PEM file of the CA that signed the server's certificate. Default: the system's CAs."""
    cert_file: str | None = None
    """PEM file of the client certificate, for a server that demands one (mutual TLS). The gateway reads a
    changed file within a second."""
    key_file: str | None = None
    """PEM file of the client certificate's key, without a passphrase."""
    proxy: str | None = None
    """URL of an outbound proxy, or `none`. A server with `https://` is reached through a tunnel of an `http://` proxy;
    `https://` and `socks5://` proxies, and servers without TLS, need the transport `httpx`. Default: `egress.proxy`.
    `HTTPS_PROXY` is not read."""
    http2: bool = False
    """Use HTTP/2 where the server offers it."""
    transport: Literal["http1", "httpx"] | None = None
    """The HTTP client: `http1` is the fast one; `httpx` supports HTTP/2 and every proxy. Default: `httpx` where
    needed."""
    concurrency: Annotated[int, Field(gt=0)] | None = None
    """Requests in flight at once, per gateway process. Default: unlimited."""
    queue: Annotated[int, Field(ge=0)] = 64
    """Requests that may wait when `concurrency` is reached. They are served in turn by key, those of scorers
    (`evals.api_key`) and shadows last. When the queue is full, the newest request of the key with the most waiting
    fails over or gets HTTP 429."""
    queue_s: Positive = 5.0
    """Seconds that a request may wait in that queue."""
    limits: VendorLimits | None = None
    """Limits of the vendor, over all gateways. With it, even `{}`, the gateway also respects the remainders that the
    vendor's `x-ratelimit-*` headers report. Default: a request is sent at once, and may get HTTP 429."""
    shares: UpstreamShares | None = None
    """Shares of the upstream while it is full: weights of teams and keys, and guaranteed parts. Default: keys are
    served in turn."""
    load: Load | None = None
    """Source of the server's load: in response headers (`orca`), in `/metrics` (`scrape`), or not (`none`)."""
    priority: bool = False
    """The server understands `priority`; shadow requests are then sent with the lowest one, and a client cannot ask for
    a higher one than the default."""
    cache_salt: bool = False
    """Send `cache_salt` (vLLM), which differs by key: callers then share no prefix cache, whose timing would reveal
    whether a prefix is cached."""
    prefill: bool | None = None
    """The server continues a trailing assistant message, so that a stream that was cut can continue there."""
    stream_usage: Literal["ask", "never"] | None = None
    """Whether the gateway adds `stream_options.include_usage` to streaming requests."""
    compress: Literal["zstd"] | None = None
    """Compress the bodies of requests, above 1 KB: for long requests over a slow line, to a server that takes
    `content-encoding: zstd`. Default: they are sent as they are."""
    responses: ResponsesApi | None = None
    """Form of requests to /v1/responses: as they arrive (`native`), or translated to a chat (`chat`), for a
    server without that API. Default: by `kind`; Anthropic's API gets them translated."""
    decisions: DecisionFormat | None = None
    """Format in which it takes decisions: OpenAI's (`openai`), System One's (`systemone`), or SGLang's own (`sglang`).
    Default: by `kind`; most have no such API."""
    websocket: bool = False
    """Use WebSocket to this server for responses that clients request over WebSocket: a turn then sends only its new
    items. For a server with OpenAI's WebSocket mode. A server that turns out to have none is called over HTTP, as all
    servers are by default."""
    health: str | None = None
    """Path of a cheap health check, relative to the origin. Default: none, or the kind's own."""
    health_check: HealthCheck = HealthCheck()
    """Interval of the health checks, and the rule for counting as down."""
    breaker: BreakerConfig = BreakerConfig()
    """The circuit breaker, which stops calls to a target that fails."""

    @property
    def provider(self) -> Provider:
        return PROVIDERS[self.kind]

    @property
    def url(self) -> str:
        return (self.base_url or self.provider.base_url or "").rstrip("/")

    @property
    def at_provider(self) -> bool:
        """Whether it is at its provider's own address, so that the provider's prices and dates hold."""
        own = self.provider.base_url
        return bool(own) and self.url == own and not self.provider.local

    @property
    def places(self) -> int | None:
        """Requests in flight at once; None: no limit. An engine that `gateway up` starts is limited to its slots, so
        that requests wait in the gateway, where served calls go first."""
        if self.concurrency is not None or self.run is None:
            return self.concurrency
        packaged = self.run.engine == "llamacpp" and self.run.command is None
        return self.run.slots or (PACKAGED_SLOTS if packaged else None)

    @property
    def place_wait_s(self) -> float:
        """Seconds that a request may wait for a place: as long as its deadlines allow, where the engine is ours."""
        own = self.run is not None and "queue_s" not in self.model_fields_set
        return OWN_ENGINE_WAIT_S if own else self.queue_s

    @property
    def continues_prefill(self) -> bool:
        return self.provider.prefill if self.prefill is None else self.prefill

    @property
    def translates_responses(self) -> bool:
        return (self.responses or self.provider.responses) == "chat"

    @property
    def decision_format(self) -> DecisionFormat | None:
        """The format in which it takes decisions; None if it has no such API."""
        return self.decisions or self.provider.decisions

    @property
    def requests_usage(self) -> bool:
        return (self.stream_usage or self.provider.stream_usage) == "ask"

    @property
    def transport_name(self) -> Literal["http1", "httpx"]:
        """The HTTP client in use: httpx for HTTP/2 and for proxies that http1 does not support."""
        return self.transport or ("httpx" if self._needs_httpx else "http1")

    @property
    def outbound_proxy(self) -> str | None:
        """URL of the proxy in front of it; None means that it is reached without one."""
        return None if self.proxy == "none" else self.proxy

    @property
    def _needs_httpx(self) -> bool:
        return self.http2 or (self.outbound_proxy is not None and not self.tunnelled)

    @property
    def tunnelled(self) -> bool:
        """Whether a proxy opens a tunnel to it, which both HTTP clients can use."""
        proxy = self.outbound_proxy
        return proxy is not None and proxy.startswith("http://") and self.url.startswith("https://")

    def transport_summary(self) -> str:
        """Summary for people: "http1", or "httpx (HTTP/2, by proxy.example:3128)". Credentials of the proxy are left
        out."""
        proxy = urlsplit(self.outbound_proxy).netloc.rpartition("@")[2] if self.outbound_proxy else ""
        named = {"HTTP/2": self.http2, "WebSocket": self.websocket, f"by {proxy}": bool(proxy)}
        features = [name for name, used in named.items() if used]
        return f"{self.transport_name} ({', '.join(features)})" if features else self.transport_name

    @field_validator("pass_headers")
    @classmethod
    def _check_pass_headers(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if not _HEADER_NAME.fullmatch(name):
                raise ValueError(f"`{name}` is not a valid header name")
            if name.lower() in _NO_VARIANT_HEADERS or name.lower().startswith("x-gateway-"):
                raise ValueError(f"`{name}` is never passed on; credentials belong to the upstream")
        return value

    @model_validator(mode="after")
    def _check_auth(self) -> Self:
        if self.auth is not None and self.api_key is not None:
            raise ValueError("api_key and auth are both given; an upstream has one credential")
        if self.auth is not None and any(name.lower() == "authorization" for name in self.headers):
            raise ValueError("headers: Authorization is set by auth; remove it")
        return self

    @model_validator(mode="after")
    def _check_responses(self) -> Self:
        if self.responses == "native" and self.kind in PROVIDERS and self.provider.dialect not in CHATS:
            raise ValueError(f"responses: {self.provider.title}'s API has none of its own; remove it, or write chat")
        return self

    @model_validator(mode="after")
    def _check_shares(self) -> Self:
        if self.shares is None:
            return self
        if self.places is None and self.limits is None:
            raise ValueError("shares: an upstream without `concurrency` and `limits` is never full; add one of them")
        if self.shares.guarantees and self.places is None:
            raise ValueError("shares: `guaranteed` is a part of `concurrency`; add it")
        return self

    @model_validator(mode="after")
    def _check_websocket(self) -> Self:
        if not self.websocket or self.kind not in PROVIDERS:
            return self
        if self.provider.dialect not in CHATS or self.translates_responses:
            raise ValueError(
                "websocket: the upstream has no Responses API of its own; remove it, or write responses: native"
            )
        without = [name for name in ("auth", "compress") if getattr(self, name) is not None]
        without += ["proxy"] if self.outbound_proxy is not None and not self.tunnelled else []
        if without or self.http2:
            raise ValueError(f"websocket: does not go with {without[0] if without else 'http2'}; remove one of them")
        return self

    @model_validator(mode="after")
    def _check_transport(self) -> Self:
        if self.transport == "http1" and self._needs_httpx:
            raise ValueError(
                "transport: http1 supports no HTTP/2, and of proxies only http:// ones to https:// servers; remove "
                "transport, or use httpx"
            )
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file go together")
        if self.cert_file is not None and self.url.startswith("http://"):
            raise ValueError("cert_file needs an https:// base_url: without TLS no certificate is sent")
        return self


def _model_or_route(schema: dict[str, Any]) -> None:
    """Says in the schema of a target that it names a model, a route or a guard."""
    required = schema.pop("required", [])
    schema["anyOf"] = [{"required": required}, {"required": ["route"]}, {"required": ["guard"]}]


class TargetRef(Section):
    """One model of one upstream, and what it changes in every request: its variant. Two targets of one model with
    different variants are different targets."""

    model_config = ConfigDict(json_schema_extra=_model_or_route)

    upstream: str
    """A name of the section `upstreams`."""
    model: ModelName
    """The upstream's own name for the model."""
    set: dict[ParameterName, JsonValue] = Field({})
    """Request parameters, such as `{temperature: 0, max_tokens: 500}`, that replace those of the client; `null` removes
    one. They apply to chat completions, completions, responses and messages."""
    system: Annotated[str, Field(min_length=1)] | None = None
    """The system message: it replaces the ones at the beginning of a conversation, or is put there where there is
    none. It applies to chat completions, responses and messages."""
    headers: dict[str, str] = Field({})
    """Additional request headers; they replace those of the client and of the upstream. Credentials are not allowed:
    they are the upstream's."""
    route: RouteName | None = None
    """The name of a learned route, instead of `upstream` and `model`: it sends each request to one of its two targets.
    Allowed as the only target of a model, and as the candidate of an experiment."""
    digest: RouteDigest | None = None
    """The digest of the route, which `gateway route show` prints: a file with other content is refused. Default: that
    of the file."""
    watch: Share | None = None
    """Share of the moved calls, for a target of a model, that are also sent to the route's control, in the experiment
    ROUTE-watch, so that a group of requests that loses too much is taken back. Default: 0.02. 0: none."""
    as_: Annotated[Literal["decision"] | None, Field(alias="as")] = None
    """`decision`: it is asked for decisions. A request whose JSON schema asks for a decision becomes one, and the
    answer is the object that the schema asks for. Other requests go to the next target. Default: it is asked what the
    client asks."""
    facade: Literal["unproved"] | None = None
    """`unproved`: a target with `as: decision` answers clients before an experiment has shipped it. Default: it does
    not."""
    accept: Annotated[str, Field(min_length=1)] | None = None
    """The answers of a target with `as: decision` that go to clients: `certificate NAME`, several joined by `and`. Each
    question of a request must be in the zone of one of them; otherwise the next target answers. While none is in
    force, the target is not asked. Default: all answers."""
    reading: Literal["slot", "words", "letters", "structured"] | None = None
    """The way in which decisions of a target with `as: decision` are read from a chat engine that shows
    log-probabilities, as in `models.NAME.decisions`. Targets with different readings are different targets. Default:
    its upstream has an API of decisions."""
    probed: Day | None = None
    """The day of the probe of this reading, by `gateway decisions probe`. A reading needs it."""
    guard: Annotated[str, Field(min_length=1)] | None = None
    """The name of a section of `guards`, instead of `upstream` and `model`, as the candidate of an experiment: its
    answers are those that callers would have got if the guard had blocked."""

    @model_validator(mode="before")
    @classmethod
    def _fill_route(cls, value: Any) -> Any:
        """A route or a guard has a target's name, so that plans and reports treat it like any other."""
        for upstream in (ROUTE, GUARD):
            if isinstance(value, dict) and isinstance(value.get(upstream), str):
                return {"upstream": upstream, "model": value[upstream], **value}
        return value

    @field_validator("set")
    @classmethod
    def _check_set(cls, value: dict[str, JsonValue]) -> dict[str, JsonValue]:
        for name in value:
            if why := fixed_parameter(name):
                raise ValueError(f"`{name}` cannot be set for a target: {why}")
        tools = value.get("tools")
        if tools is not None and not (isinstance(tools, list) and all(_is_client_tool(tool) for tool in tools)):
            raise ValueError("`tools` may only hold tools that the client runs: `type: function` or `custom`")
        return value

    @field_validator("headers")
    @classmethod
    def _check_headers(cls, value: dict[str, str]) -> dict[str, str]:
        for name, text in value.items():
            if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(text):
                raise ValueError(f"`{name}` is not a valid header; expected a token and printable ASCII")
            if name.lower() in _NO_VARIANT_HEADERS or name.lower().startswith("x-gateway-"):
                raise ValueError(f"`{name}` cannot be set for a target; credentials belong to its upstream")
        return value

    @field_validator("accept")
    @classmethod
    def _check_accept(cls, value: str | None) -> str | None:
        if value is not None and not certificates_in(value):
            raise ValueError("expected `certificate NAME`, or several of these joined by `and`")
        return value

    @property
    def certificates(self) -> tuple[str, ...]:
        """The certificates that its answers obey."""
        return () if self.accept is None else certificates_in(self.accept)

    @property
    def varied(self) -> bool:
        """Whether it changes requests."""
        return bool(self.set or self.system is not None or self.headers or self.as_)


_CERTIFICATE = re.compile(r"\s*certificate\s+(\S+)\s*")
_AND = re.compile(r"\band\b")


def named_certificates(accept: str) -> list[str | None]:
    """The certificate of each part of a rule; None for a part that names none."""
    parts = [_CERTIFICATE.fullmatch(part) for part in _AND.split(accept)]
    return [None if part is None else part[1] for part in parts]


def certificates_in(accept: str) -> tuple[str, ...]:
    """The certificates of a rule that names nothing else; () for any other."""
    names = named_certificates(accept)
    known = [name for name in names if name is not None]
    return tuple(dict.fromkeys(known)) if len(known) == len(names) else ()


def fixed_parameter(name: str) -> str | None:
    """Returns the reason why a target cannot set this request parameter; None if it can."""
    return next((why for names, why in _FIXED.items() if name in names), None)


_DONE_TWICE = "it does more than change the answer, and a shadow would do it twice"
_FIXED: Mapping[tuple[str, ...], str] = MappingProxyType(
    {
        ("model",): "it is the target's own key `model`",
        ("stream", "stream_options"): "the client reads a stream or a plain answer, as it asked for",
        ("n", "best_of"): "the client reads as many choices as it asked for",
        ("messages", "prompt", "input"): "they are what the client asks; `system` changes the instructions",
        ("system", "instructions"): "the target's own key `system` does that for every API",
        ("seed",): "with the same seed, the answers of the arms of an experiment would not be independent",
        ("priority",): "the gateway gives shadow requests the lowest one",
        ("store", "previous_response_id", "conversation", "background"): _DONE_TWICE,
        ("plugins", "search_parameters", "mcp_servers", "container", "web_search_options"): _DONE_TWICE,
    }
)
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\x20-\x7e]*")
_CREDENTIALS = {"authorization", "x-api-key", "api-key", "proxy-authorization", "cookie"}
_OF_CONNECTION = {"host", "connection", "transfer-encoding", "expect", "upgrade", "te", "trailer"}
_OF_BODY = {"content-length", "content-type", "content-encoding", "accept-encoding"}
_NO_VARIANT_HEADERS = _CREDENTIALS | _OF_CONNECTION | _OF_BODY


def _is_client_tool(tool: JsonValue) -> bool:
    return isinstance(tool, dict) and tool.get("type", "function") in ("function", "custom")
