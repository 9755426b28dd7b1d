"""Every Prometheus metric of the gateway, by subject. Label values are closed sets: names from the config, or "other".

GenAI names and buckets follow the OpenTelemetry semantic conventions for generative AI, in Prometheus spelling.
"""

from __future__ import annotations

from collections import Counter as Counts
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar, overload

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from gateway.observability.fast_counters import FastCounters

_DURATION = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_FIRST_TOKEN = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0),
)
_PER_TOKEN = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
_TOKENS = tuple(4.0**i for i in range(14))
_OVERHEAD = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
_GENAI = ("gen_ai_operation_name", "gen_ai_provider_name", "upstream")
_PART = ("experiment", "arm")

M = TypeVar("M", Counter, Gauge, Histogram)


@dataclass(frozen=True, slots=True)
class MetricDeclaration(Generic[M]):
    """One metric, as a class attribute. On an instance the attribute of that name is the metric itself."""

    kind: type[M]
    name: str
    help: str
    labels: tuple[str, ...]
    more: dict[str, Any]

    @overload
    def __get__(self, instance: None, owner: object) -> MetricDeclaration[M]: ...
    @overload
    def __get__(self, instance: object, owner: object) -> M: ...
    def __get__(self, instance: object, owner: object) -> MetricDeclaration[M] | M:
        return self  # on the class; an instance attribute of the same name takes precedence

    def build(self, registry: CollectorRegistry) -> M:
        return self.kind(self.name, self.help, self.labels, registry=registry, **self.more)


def _counter(name: str, help: str, *labels: str) -> MetricDeclaration[Counter]:
    return MetricDeclaration(Counter, name, help, labels, {})


def _gauge(
    name: str, help: str, *labels: str, over: Literal["livesum", "livemax", "livemin"]
) -> MetricDeclaration[Gauge]:
    """over: how the values of several workers are combined."""
    return MetricDeclaration(Gauge, name, help, labels, {"multiprocess_mode": over})


def _histogram(name: str, help: str, *labels: str, buckets: tuple[float, ...]) -> MetricDeclaration[Histogram]:
    return MetricDeclaration(Histogram, name, help, labels, {"buckets": buckets})


class _Calls:
    """Requests and answers of clients."""

    tokens_used = _histogram(
        "gen_ai_client_token_usage", "Tokens of one call, by type", *_GENAI, "gen_ai_token_type", buckets=_TOKENS
    )
    duration = _histogram(
        "gen_ai_server_request_duration_seconds", "Time from the request's arrival to the end of its answer",
        *_GENAI, "error_type", buckets=_DURATION,
    )  # fmt: skip
    first_token = _histogram(
        "gen_ai_server_time_to_first_token_seconds", "Streams: time from the request's arrival to the first content",
        *_GENAI, buckets=_FIRST_TOKEN,
    )  # fmt: skip
    per_token = _histogram(
        "gen_ai_server_time_per_output_token_seconds", "Streams: time per output token after the first content",
        *_GENAI, buckets=_PER_TOKEN,
    )  # fmt: skip
    requests = _counter(
        "gateway_requests",
        "Calls, by outcome: ok, client_gone, client_deadline, client_error, queue_full, upstream_error, timeout or cut",
        "alias",
        "upstream",
        "outcome",
    )
    objective = _gauge(
        "gateway_objective_ratio", "Target share of successful calls of an alias: models.NAME.objective", "alias",
        over="livemax",
    )  # fmt: skip
    accept_failures = _counter(
        "gateway_accept_failures",
        "Connections refused since few open files are left (few_files); seconds without any (no_files)",
        "reason",
    )
    refused = _counter("gateway_refused", "Requests that the gateway itself answered with an error", "status", "code")
    overhead = _histogram(
        "gateway_overhead_seconds", "Time of a call in the gateway, without the time in upstreams", buckets=_OVERHEAD
    )
    continued = _counter("gateway_continued", "Streams that an upstream cut off, by how they continued", "alias", "how")
    tokens = _counter("gateway_tokens", "Tokens of all calls, by type", "alias", "upstream", "type")
    cost = _counter("gateway_cost_usd", "USD of calls whose usage and price are known", "alias", "upstream")
    unpriced = _counter(
        "gateway_unpriced", "Calls with unknown cost, because the price or the usage is missing", "alias", "upstream"
    )


class _Teams:
    """Usage by team: the first 200 by name, then `other`; `none` for keys without a team."""

    team_requests = _counter("gateway_team_requests", "Calls of a team's keys that reached an upstream", "team")
    team_tokens = _counter("gateway_team_tokens", "Tokens charged to a team, by type", "team", "type")
    team_cost = _counter("gateway_team_cost_usd", "USD charged to a team, for calls whose price is known", "team")
    team_unpriced = _counter("gateway_team_unpriced", "Calls of a team with unknown cost", "team")
    limit_used = _gauge(
        "gateway_limit_used_ratio", "Share of a limit that is used in the current window, over all gateways",
        "scope", "limit", over="livemax",
    )  # fmt: skip


class _Upstreams:
    """Attempts at upstreams, and their load."""

    inflight = _gauge("gateway_inflight_requests", "Calls in flight", over="livesum")
    attempts = _counter("gateway_attempts", "Attempts at upstreams, by result", "upstream", "result")
    upstream_inflight = _gauge(
        "gateway_upstream_inflight_requests", "Attempts in progress at an upstream", "upstream", over="livesum"
    )
    queued = _gauge("gateway_upstream_queued_requests", "Calls queued for an upstream", "upstream", over="livesum")
    breaker_open = _gauge(
        "gateway_breaker_open", "1 while the target's circuit breaker is open", "upstream", "model", over="livemax"
    )
    breaker_transitions = _counter(
        "gateway_breaker_transitions", "Transitions of circuit breakers, by new state", "upstream", "model", "to"
    )
    upstream_down = _gauge(
        "gateway_upstream_down", "1 while the upstream's health check fails", "upstream", over="livemax"
    )
    health_transitions = _counter(
        "gateway_upstream_health_transitions", "Times that health checks found an upstream down, or up again",
        "upstream", "to",
    )  # fmt: skip
    config_ok = _gauge(
        "gateway_config_ok", "1 if the newest gateway.yaml is in use, 0 if it was rejected", over="livemin"
    )
    failing_parts = _gauge(
        "gateway_failing_parts", "Parts of the gateway that are paused or fail: /health names them", over="livemax"
    )
    config_hash = _gauge("gateway_config_hash", "Hash of the text of gateway.yaml in use, as a number", over="livemax")
    config_loaded = _gauge(
        "gateway_config_loaded_timestamp_seconds", "Unix time at which the config in use was loaded", over="livemin"
    )
    worker_restarts = _gauge(
        "gateway_worker_restarts", "Workers that died and were replaced, since the gateway started", over="livemax"
    )
    workers = _gauge("gateway_workers", "Running worker processes", over="livesum")


class _Keys:
    """Keys, teams and organizations that are made while the gateway runs."""

    directory_age = _gauge(
        "gateway_directory_age_seconds",
        "Seconds since the stream server confirmed the keys in force that gateway.yaml does not name", over="livemax",
    )  # fmt: skip
    directory_version = _gauge(
        "gateway_directory_version", "Version of the keys in force, of the worker that is most behind", over="livemin"
    )
    directory_keys = _gauge("gateway_directory_keys", "Keys in force that gateway.yaml does not name", over="livemax")
    directory_malformed = _counter(
        "gateway_directory_malformed", "Records of keys that could not be read; what they were before stays in force"
    )
    key_ended = _counter("gateway_key_ended", "Answers in flight that ended because their key was disabled")


class _Recording:
    """Sampling, and recording to the stream."""

    seen = _counter("gateway_eval_seen", "Calls that reached an upstream", "stratum")
    unsampled = _counter("gateway_eval_unsampled", "Calls seen and not sampled, by reason", "reason")
    sampled = _counter("gateway_eval_sampled", "Calls seen and sampled", "stratum")
    enqueued = _counter("gateway_eval_enqueued", "Sampled calls that the stream server acknowledged", "stratum")
    dropped = _counter("gateway_eval_dropped", "Sampled calls that were not enqueued, by reason", "stratum", "reason")
    redactions = _counter("gateway_redactions", "Redactions in records before they were appended, by rule", "rule")
    redaction_failed = _counter(
        "gateway_redaction_failed", "Records whose content was dropped because redaction failed", "reason"
    )
    feedback = _counter("gateway_feedback", "Feedback on answers, by result", "result")
    recorder_waiting = _gauge(
        "gateway_recorder_waiting", "Exchanges waiting to be appended to the stream", over="livesum"
    )
    recorder_fill = _gauge(
        "gateway_recorder_fill_ratio", "Fill level of the fullest worker's buffer, 0 to 1", over="livemax"
    )
    stream_up = _gauge(
        "gateway_stream_up", "1 while every worker's newest append to the stream was acknowledged", over="livemin"
    )


class _Experiments:
    """Shadow requests and splits of experiments."""

    shadow = _counter(
        "gateway_shadow", 'Shadow requests, by result; the arm is "" if no request was sent', *_PART, "result"
    )
    shadow_tokens = _counter("gateway_shadow_tokens", "Tokens that shadows used, input and output", *_PART)
    shadow_cost = _counter("gateway_shadow_cost_usd", "USD of shadow requests whose price is known", *_PART)
    shadow_running = _gauge("gateway_shadow_running", "Shadow requests in progress", "experiment", over="livesum")
    shadow_paused = _gauge(
        "gateway_shadow_paused", "1 while shadows are paused because served answers were slower while they ran",
        "experiment", over="livemax",
    )  # fmt: skip
    shadow_budget = _gauge(
        "gateway_shadow_budget_used_ratio", "Share of the day's budget that shadows have used, 0 to 1",
        "experiment", over="livemax",
    )  # fmt: skip
    split = _counter("gateway_split", "Calls of a split, by arm and result", *_PART, "result")
    experiment_running = _gauge(
        "gateway_experiment_running", "1 while this gateway runs the experiment's plan", "experiment", over="livemax"
    )
    ramp_share = _gauge(
        "gateway_ramp_share", "Share of the units that the candidate of a ramp serves, of the worker with the largest",
        "experiment", over="livemax",
    )  # fmt: skip
    ramp_stale = _gauge(
        "gateway_ramp_stale", "1 while a worker cannot read a ramp's record; its share stays, and can only fall",
        "experiment", over="livemax",
    )  # fmt: skip


class _Limits:
    """Limits of keys, teams and organizations."""

    limit_refused = _counter("gateway_limit_refused", "Calls refused by a limit, by its scope's kind", "kind", "limit")
    limit_waits = _counter(
        "gateway_limit_waits", "Calls that waited for the stream server, by result: granted, refused or late", "result"
    )
    limit_degraded = _gauge(
        "gateway_limits_degraded", "1 while limits hold for a worker by itself: the stream server is unreachable",
        over="livemax",
    )  # fmt: skip
    limit_dead_workers = _counter(
        "gateway_limit_dead_workers", "Workers that died without returning what they had leased of limits"
    )


class ProxyMetrics(_Calls, _Teams, _Upstreams, _Keys, _Limits, _Recording, _Experiments):
    """The gateway's metrics."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.counts = FastCounters()  # raises a counter or histogram on a call's path
        self.ended: Counts[str] = Counts()  # calls by outcome, as in gateway_requests_total
        for attribute, declared in declarations():
            setattr(self, attribute, declared.build(registry))


class _Console:
    """The admin API, and the publication of what it changes."""

    admin_requests = _counter("gateway_admin_requests", "Requests to the admin API", "method", "status")
    failed_logins = _counter("gateway_admin_failed_logins", "Requests to the admin API with a wrong token")
    published_version = _gauge(
        "gateway_directory_published_version", "Version of the keys that the console has published", over="livemax"
    )
    unpublished = _gauge(
        "gateway_directory_unpublished", "1 while keys are not published: the log and /ready say why", over="livemax"
    )
    failing_parts = _gauge(
        "gateway_console_failing_parts", "Parts of the console that fail: /health names them", over="livemax"
    )


class ConsoleMetrics(_Console):
    """The console's metrics."""

    def __init__(self, registry: CollectorRegistry) -> None:
        for attribute, declared in console_declarations():
            setattr(self, attribute, declared.build(registry))


def console_declarations() -> Iterator[tuple[str, MetricDeclaration[Any]]]:
    """Every metric of the console with the name of its attribute, in order."""
    yield from ((name, each) for name, each in vars(_Console).items() if isinstance(each, MetricDeclaration))


def declarations() -> Iterator[tuple[str, MetricDeclaration[Any]]]:
    """Every metric of the gateway with the name of its attribute, in order."""
    for subject in (_Calls, _Teams, _Upstreams, _Keys, _Limits, _Recording, _Experiments):
        yield from ((name, each) for name, each in vars(subject).items() if isinstance(each, MetricDeclaration))
