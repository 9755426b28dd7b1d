"""Builds a Gateway from a config. All decisions that do not depend on a call are made here."""

from __future__ import annotations

import logging
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.config.config import Config
from gateway.config.derive import directory_of, prices_of, scorer_keys
from gateway.config.limits import Budgets
from gateway.config.metric_labels import MetricLabels
from gateway.config.privacy import Content
from gateway.config.retirements import retiring_targets
from gateway.config.upstreams import FlowShare, Upstream, UpstreamShares
from gateway.core.errors import ConfigError
from gateway.core.exchange import Target
from gateway.core.guards import GuardRamp
from gateway.core.limits import limits_of
from gateway.core.plan import PlanState
from gateway.core.prices import Prices
from gateway.observability.proxy_metrics import ProxyMetrics
from gateway.proxy.app import Gateway, RunningCalls
from gateway.proxy.dialects.kinds import build_dialect
from gateway.proxy.experiments.candidate_health import CandidateHealth
from gateway.proxy.experiments.idle_queue import IdleQueue
from gateway.proxy.experiments.ramp_shares import RampShares
from gateway.proxy.experiments.shadow import ShadowSender, ShadowState
from gateway.proxy.http.auth.authorized import AuthorizedTransport, CloudCredential, credential_of
from gateway.proxy.http.client.http1 import Http1Transport
from gateway.proxy.http.client.resolver import Resolver
from gateway.proxy.http.client.tls import UnusableTlsFile, UpstreamTls
from gateway.proxy.http.client.transport import Transport
from gateway.proxy.http.client.websocket import WebSocketConnector
from gateway.proxy.limits.book import LeaseBook, SharedPlaces
from gateway.proxy.limits.budget_tier import BudgetTier
from gateway.proxy.limits.estimate import estimates_of, tier_estimates_of
from gateway.proxy.limits.limiter import Exchanges, Limiter, Offline
from gateway.proxy.limits.upstream_limits import UpstreamLimits
from gateway.proxy.recording.access_log import AccessLog, CallLog
from gateway.proxy.recording.recorder import Recorder
from gateway.proxy.recording.redaction.redactor import Redactor, redactor_by_content, redactors_by_caller
from gateway.proxy.recording.usage_ledger import TeamLabels, UsageBooks
from gateway.proxy.relay.deadlines import Ticker
from gateway.proxy.relay.relay import Relay
from gateway.proxy.request.auth import KeyRing
from gateway.proxy.request.call import Caller, CallerLimit
from gateway.proxy.request.client_address import AddressGuard
from gateway.proxy.request.key_directory import KeyDirectory
from gateway.proxy.request.tokens import SigningKeys, TokenVerifier
from gateway.proxy.routing.assignment import KnownSecret
from gateway.proxy.routing.concurrency_limiter import ConcurrencyLimiter
from gateway.proxy.routing.fair_queue import NO_SHARES, FlowShares, Holder
from gateway.proxy.routing.response_affinity import ResponseAffinity
from gateway.proxy.routing.router import Router
from gateway.proxy.routing.sampling import Sampler
from gateway.proxy.routing.target_state import TargetState, UpstreamState
from gateway.proxy.settle import Settler
from gateway.proxy.signing_keys import SigningKeyPoller
from gateway.proxy.stages import stages_of
from gateway.runtime.tasks import Tasks

if TYPE_CHECKING:
    from gateway.proxy.guards.stage import Guards
    from gateway.proxy.recording.spans import Spans


log = logging.getLogger("gateway")


@dataclass(slots=True)
class ProcessParts:
    """Parts that outlive a config: recorder, metrics, tasks, and the state of experiments."""

    recorder: Recorder
    metrics: ProxyMetrics
    tasks: Tasks
    affinity: ResponseAffinity
    ticker: Ticker
    access: AccessLog | None = None  # None: this process has no access log
    spans: Spans | None = None  # None: calls are not traced
    rng: random.Random = field(default_factory=random.Random)
    clock: Callable[[], float] = time.monotonic
    shadows: ShadowState = field(default_factory=ShadowState)
    plans: dict[str, PlanState] = field(default_factory=dict)  # as last read from the stream server
    ramps: RampShares = field(default_factory=RampShares)
    guard_ramps: dict[str, GuardRamp] = field(default_factory=dict)  # by the guards' names, as last published
    directory_path: Path = Path()  # that file names in the config are relative to
    secret: KnownSecret = field(default_factory=KnownSecret)  # that keys the draws of experiments
    caller_limits: dict[str, CallerLimit] = field(default_factory=dict)
    directory: KeyDirectory = field(default_factory=KeyDirectory)
    signing_keys: SigningKeys = field(default_factory=SigningKeys)
    issuers: SigningKeyPoller | None = None  # None: nobody reads the keys of token issuers
    running: RunningCalls = field(default_factory=dict)
    resolver: Resolver = field(default_factory=Resolver)
    teams: TeamLabels = field(default_factory=TeamLabels)
    leases: LeaseBook = field(default_factory=LeaseBook)
    exchanges: Exchanges = field(default_factory=Offline)
    health: CandidateHealth = field(init=False)

    def __post_init__(self) -> None:
        self.health = CandidateHealth(self.clock)


def build_keys(config: Config, parts: ProcessParts) -> KeyRing:
    """The part of a Gateway that grows with the config; may run in a thread. Raises ConfigError without the extra
    `jwt`, if it is needed."""
    scorers = scorer_keys(config)
    return KeyRing(
        config.keys,
        open=config.open,
        redaction=config.redaction,
        limits=parts.caller_limits,
        origins=config.cors,
        directory=directory_of(config),
        dynamic=parts.directory,
        expects_dynamic=config.admin is not None,
        guard=AddressGuard(config.networks, config.trusted_proxies),
        tokens=TokenVerifier(config.jwt, parts.signing_keys) if config.jwt else None,
        sees_upstreams=lambda name, allow: not config.hide_upstreams or "target" in allow or name in scorers,
    )


def build(config: Config, parts: ProcessParts, keys: KeyRing | None = None, before: Gateway | None = None) -> Gateway:
    """Raises ConfigError for mistakes that only show on building: an unreadable CA file, an invalid proxy.

    keys: what build_keys returned. before: the gateway in force; upstreams that do not change keep their connections,
    breakers, latencies and calls in flight.
    """
    upstreams = _upstreams(config, before, parts.resolver)
    _use_vendor_limits(upstreams.values(), parts)
    sampler = Sampler(config.sampling)
    states = () if before is None else before.router.target_states
    prices = prices_of(config)
    router = Router(config, upstreams, sampler, parts.clock, parts.rng, states, prices)
    if before is not None:
        router.experiments.keep(before.router.experiments)
    _observe(router, upstreams.values(), parts.metrics, parts.health)
    shares = parts.health.applied(parts.ramps.by_plan, (state.plan for state in parts.plans.values()))
    router.experiments.follow(parts.plans, time.time(), shares, parts.secret.value, parts.ramps.kept)
    estimates = estimates_of(
        config, prices, router.experiments.plans, {} if before is None else before.limiter.estimates
    )
    limiter = Limiter(parts.leases, parts.exchanges, estimates, config.budgets, parts.metrics)
    tiers = tier_estimates_of(config, prices)
    tier = BudgetTier(limiter, tiers, parts.metrics) if tiers else None
    labels = MetricLabels.of(config)
    relay = Relay(parts.metrics, labels, parts.ticker, parts.rng, scorer_keys(config), limiter.tokens_of, parts.clock)
    cap_bytes = config.sampling.max_kb * 1024
    keys = keys or build_keys(config, parts)
    _configure_recording(config, parts.recorder, keys, cap_bytes)
    parts.teams.learn(config.teams)
    books = UsageBooks(parts.recorder.usage, parts.metrics, parts.teams, scorer_keys(config))
    calls: Counter[str] = Counter()
    idle_queue = IdleQueue(lambda: calls.total() > 0)
    shadow = ShadowSender(
        router,
        relay,
        parts.recorder,
        parts.metrics,
        parts.tasks,
        cap_bytes,
        prices,
        parts.shadows,
        parts.rng,
        idle_queue,
        books,
    )
    router.experiments.on_ineligible = shadow.count_ineligible
    guards = _guards(config, parts, prices, before, cap_bytes)
    return Gateway(
        config=config,
        prices=prices,
        keys=keys,
        retiring=retiring_targets(config),
        upstreams=upstreams,
        router=router,
        relay=relay,
        limiter=limiter,
        settler=Settler(
            sampler,
            parts.recorder,
            parts.metrics,
            cap_bytes,
            prices,
            shadow,
            labels,
            books,
            limiter,
        ),
        shadow=shadow,
        recorder=parts.recorder,
        affinity=parts.affinity,
        metrics=parts.metrics,
        tasks=parts.tasks,
        ticker=parts.ticker,
        access=_call_log(config, parts.access, prices),
        spans=parts.spans,
        guards=guards,
        stages=stages_of(router, limiter, tier, parts.spans, guards),
        max_body_bytes=int(config.limits.max_body_mb * 1e6),
        calls=calls,
        running=parts.running,
    )


def _guards(
    config: Config, parts: ProcessParts, prices: Prices, before: Gateway | None, cap_bytes: int
) -> Guards | None:
    if not config.guards:
        parts.recorder.guard_redactor = None
        return None
    # Imported here: the rules of guards and their process take 1 MB, and most configs have none.
    from gateway.proxy.guards.process import GuardProcess
    from gateway.proxy.guards.stage import Guards, build_guards, record_redactor

    parts.recorder.guard_redactor = record_redactor(config)
    asked = {name: guard for name, guard in config.guards.items() if not guard.in_process}
    process: GuardProcess | None = None
    if asked:
        named = {guard.section for guard in asked.values()}
        spec = {
            "guards": asked,
            "sections": {name: section for name, section in config.scorers.items() if name in named},
            "evals": config.evals,
            "prices": prices,
            "directory": parts.directory_path,
            "path": sys.path,
        }
        kept = None if before is None or before.guards is None else before.guards.process
        process = kept if kept is not None and kept.serves(spec) else GuardProcess(spec, parts.tasks, parts.clock)
    guards = build_guards(config, parts.metrics, process, parts.guard_ramps, parts.clock)
    return Guards(guards, process, scorer_keys(config), cap_bytes, parts.tasks, parts.guard_ramps)


def _configure_recording(config: Config, recorder: Recorder, keys: KeyRing, cap_bytes: int) -> None:
    recorder.cap_bytes = cap_bytes
    recorder.redactors = redactors_by_caller(config, recorder.redactors)
    keys.on_dynamic_caller = partial(_record_as_configured, recorder, redactor_by_content(config))


def _record_as_configured(recorder: Recorder, of: Callable[[Content], Redactor | None], caller: Caller) -> None:
    """Ensures that no more of a dynamic key's content is recorded than its record says."""
    redactor = of(caller.content)
    if redactor is None:
        recorder.redactors.pop(caller.name, None)
    else:
        recorder.redactors[caller.name] = redactor


def _call_log(config: Config, access: AccessLog | None, prices: Prices) -> CallLog | None:
    if access is None or not config.log.access:
        return None
    return CallLog(access, prices, [ip_network(each) for each in config.trusted_proxies])


def _observe(router: Router, upstreams: Iterable[UpstreamState], m: ProxyMetrics, health: CandidateHealth) -> None:
    """Counts when circuit breakers open and close, and when health checks find an upstream down or up; users of a ramp
    leave a candidate at once whose breaker opens. The relay logs an opening, with its reason."""

    def breaker_changed(target: Target, opened: bool) -> None:
        if not opened:
            log.warning("circuit breaker of %s closed: its probe succeeded", target)
            health.closed(target)
        else:
            health.opened(target)
            router.experiments.withdraw(target)
        m.counts.of(m.breaker_transitions, target.upstream, target.label, "open" if opened else "closed").n += 1

    def health_changed(name: str, down: bool) -> None:
        m.counts.of(m.health_transitions, name, "down" if down else "up").n += 1

    def observe(target_state: TargetState) -> None:
        target_state.breaker.on_change = partial(breaker_changed, target_state.target)
        target_state.on_failure = partial(health.failed, target_state.target)
        health.watch(target_state)

    health.follow_routes({route.learned.target: route.moved for route in router.learned.by_name.values()})
    for target_state in router.target_states:
        observe(target_state)
    router.on_target = observe
    for upstream in upstreams:
        upstream.on_health = partial(health_changed, upstream.name)


async def close(gateway: Gateway, others: Iterable[Gateway] = ()) -> None:
    """Closes the connections of a Gateway that is no longer in use, but not those that `others` use."""
    process = None if gateway.guards is None else gateway.guards.process
    if process is not None and all(other.guards is None or other.guards.process is not process for other in others):
        await process.aclose()
    used = {id(u.transport) for other in others for u in other.upstreams.values()}
    for transport in {id(u.transport): u.transport for u in gateway.upstreams.values()}.values():
        if id(transport) not in used:
            await transport.aclose()


def _upstreams(config: Config, before: Gateway | None, resolver: Resolver) -> dict[str, UpstreamState]:
    kept = _unchanged(config, before)
    transports: dict[object, Transport] = {each.transport_kind: each.transport for each in kept.values()}
    credentials = _credentials(config, before)
    return {
        name: kept.get(name) or _upstream(name, upstream, transports, resolver, credentials)
        for name, upstream in config.upstreams.items()
    }


def _unchanged(config: Config, before: Gateway | None) -> dict[str, UpstreamState]:
    known = {} if before is None else before.upstreams
    return {
        name: known[name]
        for name, upstream in config.upstreams.items()
        if name in known and known[name].config == upstream and known[name].transport_kind == _kind(upstream)
    }


def _kind(upstream: Upstream) -> tuple[object, ...]:
    """Upstreams of one kind share a transport. A rewritten TLS file makes another kind."""
    kind = (upstream.transport_name, _tls(upstream).stamps(), upstream.outbound_proxy, upstream.http2)
    return kind if upstream.auth is None else (*kind, *_identity(upstream))


def _tls(upstream: Upstream) -> UpstreamTls:
    return UpstreamTls(upstream.ca_file, upstream.cert_file, upstream.key_file)


def _identity(upstream: Upstream) -> tuple[object, ...]:
    """Upstreams with one identity share its tokens."""
    return (upstream.auth, upstream.provider.sigv4_service, upstream.outbound_proxy)


def _credentials(config: Config, before: Gateway | None) -> dict[object, CloudCredential]:
    """Credentials of the previous gateway that are still in use: a reload asks for no new token."""
    wanted = {_identity(upstream) for upstream in config.upstreams.values() if upstream.auth is not None}
    known = () if before is None else before.upstreams.values()
    return {
        _identity(each.config): each.transport.credential
        for each in known
        if isinstance(each.transport, AuthorizedTransport) and _identity(each.config) in wanted
    }


def _upstream(
    name: str,
    upstream: Upstream,
    transports: dict[object, Transport],
    resolver: Resolver,
    credentials: dict[object, CloudCredential],
) -> UpstreamState:
    kind = _kind(upstream)
    if kind not in transports:
        try:
            transports[kind] = _authorized(_transport(upstream, resolver), upstream, credentials)
        except UnusableTlsFile as error:
            raise ConfigError([f"upstreams.{name}.{error}"]) from error
        except (ImportError, ValueError) as error:
            raise ConfigError([f"upstreams.{name}: {error}"]) from error
    limiter = ConcurrencyLimiter(upstream.places, upstream.queue, upstream.place_wait_s, _shares_of(upstream.shares))
    sockets = WebSocketConnector(_tls(upstream), resolver, upstream.outbound_proxy) if upstream.websocket else None
    return UpstreamState(name, upstream, build_dialect(upstream), transports[kind], limiter, kind, sockets)


def _shares_of(shares: UpstreamShares | None) -> FlowShares:
    if shares is None:
        return NO_SHARES
    teams = {("team", name): share for name, share in shares.teams.items()}
    keys = {("key", name): share for name, share in shares.keys.items()}
    flows: dict[Holder, FlowShare] = {**teams, **keys}  # type: ignore[dict-item]
    classes: dict[Holder, float] = {("class", name): share.guaranteed for name, share in shares.classes.items()}
    return FlowShares(
        {holder: share.weight for holder, share in flows.items()},
        {h: share.guaranteed for h, share in flows.items() if share.guaranteed is not None} | classes,
    )


def _use_vendor_limits(upstreams: Iterable[UpstreamState], parts: ProcessParts) -> None:
    """Makes the attempts at upstreams with `limits` wait for the remainder of these."""
    shared: dict[str, SharedPlaces] = {}
    for upstream in upstreams:
        if isinstance(upstream.limiter.allowance, UpstreamLimits):
            shared[upstream.name] = upstream.limiter.allowance
        limits = upstream.config.limits
        if limits is None or upstream.limiter.allowance is not None:
            continue
        limiter = Limiter(parts.leases, parts.exchanges, {}, Budgets(), parts.metrics)
        amounts = limits_of(limits.model_dump())
        allowance = UpstreamLimits(upstream.name, amounts, parts.leases, parts.exchanges, limiter, parts.clock)
        weights = _shares_of(upstream.config.shares).weights
        by_owner = {f"{kind} {owner}": weight for (kind, owner), weight in weights.items()}
        allowance.share(by_owner, upstream.limiter.demand, upstream.limiter.rescale)
        shared[upstream.name] = allowance
        name = f"limits of {upstream.name}"
        upstream.limiter.use(allowance, lambda work, name=name: parts.tasks.start(work, name))  # type: ignore[misc]
    parts.leases.shared = shared


def _authorized(transport: Transport, upstream: Upstream, credentials: dict[object, CloudCredential]) -> Transport:
    if upstream.auth is None:
        return transport
    identity = _identity(upstream)
    if identity not in credentials:
        service, proxy = upstream.provider.sigv4_service, upstream.outbound_proxy
        credentials[identity] = credential_of(upstream.auth, service, proxy)
    return AuthorizedTransport(transport, credentials[identity])


def _transport(upstream: Upstream, resolver: Resolver) -> Transport:
    if upstream.transport_name == "http1":
        return Http1Transport(tls=_tls(upstream), resolver=resolver, proxy=upstream.outbound_proxy)
    from gateway.proxy.http.client.httpx import HttpxTransport  # imported only for HTTP/2 or some proxies

    return HttpxTransport(tls=_tls(upstream), proxy=upstream.outbound_proxy, http2=upstream.http2)
