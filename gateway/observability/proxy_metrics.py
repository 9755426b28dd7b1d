"""The Prometheus metrics of the gateway and of the console. metrics.toml declares each; here they are attributes."""

from __future__ import annotations

from collections import Counter as Counts

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from gateway.observability.catalog import specs
from gateway.observability.fast_counters import FastCounters


class ProxyMetrics:
    # Requests and answers of clients.
    tokens_used: Histogram
    duration: Histogram
    first_token: Histogram
    per_token: Histogram
    requests: Counter
    objective: Gauge
    accept_failures: Counter
    websockets: Gauge
    refused: Counter
    overhead: Histogram
    continued: Counter
    tokens: Counter
    cost: Counter
    unpriced: Counter
    gpu_seconds: Counter

    # Usage by team: the first 200 by name, then `other`; `none` for keys without a team.
    team_requests: Counter
    team_tokens: Counter
    team_cost: Counter
    team_unpriced: Counter
    team_gpu_seconds: Counter

    # Usage by tag that calls gave themselves.
    tag_requests: Counter
    tag_tokens: Counter
    tag_cost: Counter
    tag_unpriced: Counter
    limit_used: Gauge

    # Attempts at upstreams, and their load.
    inflight: Gauge
    attempts: Counter
    upstream_inflight: Gauge
    queued: Gauge
    breaker_open: Gauge
    breaker_transitions: Counter
    upstream_down: Gauge
    health_transitions: Counter
    config_ok: Gauge
    failing_parts: Gauge
    config_hash: Gauge
    config_loaded: Gauge
    retires: Gauge
    worker_restarts: Gauge
    workers: Gauge

    # Keys, teams and organizations that are made while the gateway runs.
    directory_age: Gauge
    directory_version: Gauge
    directory_keys: Gauge
    directory_malformed: Counter
    key_ended: Counter

    # Limits of keys, teams and organizations.
    limit_refused: Counter
    limit_waits: Counter
    tier_down: Counter
    run_ends: Counter
    limit_degraded: Gauge
    limit_dead_workers: Counter

    # Guards on requests and answers.
    guard_decisions: Counter
    guard_failures: Counter
    guard_seconds: Histogram
    guard_failing: Gauge

    # Decisions that are read from chats, or translated.
    decision_questions: Counter
    decision_reads: Counter
    decision_label_mass: Histogram
    decision_order_flips: Gauge

    # Sampling, and recording to the stream.
    seen: Counter
    unsampled: Counter
    sampled: Counter
    enqueued: Counter
    dropped: Counter
    redactions: Counter
    redaction_failed: Counter
    feedback: Counter
    recorder_waiting: Gauge
    recorder_fill: Gauge
    stream_up: Gauge

    # Shadow requests and splits of experiments.
    shadow: Counter
    shadow_tokens: Counter
    shadow_cost: Counter
    shadow_running: Gauge
    shadow_dropped: Gauge
    shadow_paused: Gauge
    shadow_budget: Gauge
    split: Counter
    route_calls: Counter
    routes_returned: Gauge
    experiment_running: Gauge
    ramp_share: Gauge
    ramp_stale: Gauge

    def __init__(self, registry: CollectorRegistry) -> None:
        self.counts = FastCounters()  # raises a counter or histogram on a call's path
        self.ended: Counts[str] = Counts()  # calls by outcome, as in gateway_requests_total
        for attribute, spec in specs("gateway").items():
            setattr(self, attribute, spec.build(registry))


class ConsoleMetrics:
    """The metrics of the admin API, and of the publication of its changes."""

    admin_requests: Counter
    failed_logins: Counter
    published_version: Gauge
    unpublished: Gauge
    failing_parts: Gauge

    def __init__(self, registry: CollectorRegistry) -> None:
        for attribute, spec in specs("console").items():
            setattr(self, attribute, spec.build(registry))
