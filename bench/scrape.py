"""What Prometheus fetches of a fleet with 1 000 aliases at three targets each: bytes, series and seconds.

python bench/scrape.py [ALIASES] [UPSTREAMS]
"""

from __future__ import annotations

import gzip
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest

from gateway.config.config import Config
from gateway.config.metric_labels import MetricLabels
from gateway.consumer.gauges import Gauges
from gateway.core.exchange import Target, Usage
from gateway.core.prices import Price
from gateway.observability.eval_metrics import EvalMetrics
from gateway.observability.proxy_metrics import ProxyMetrics
from gateway.observability.worker_metrics import exposition
from gateway.proxy.recording.call_metrics import CallFigures, CallMetrics
from gateway.proxy.recording.usage_ledger import UsageBooks, UsageLedger
from gateway.proxy.request.call import Caller
from gateway.proxy.routing.circuit_breaker import CircuitBreaker
from gateway.proxy.routing.concurrency_limiter import ConcurrencyLimiter
from gateway.proxy.routing.target_state import TargetState, UpstreamState
from gateway.scoring.registry import ExternalServices, build_all
from gateway.store.snapshot import CellKey, ScoreCell, StoreSnapshot
from gateway.stream import Lag

SCORERS = ("valid_json", "length", "refusal")
_CALLER = Caller("web", id="web")
_STREAM: CallFigures = ("ok", 3.0, 0.0, 1.0, Usage(10, 5), True, _CALLER, "", None)
_FAILED: CallFigures = ("timeout", 3.0, 0.0, None, None, True, _CALLER, "", None)


def config_of(aliases: int, upstreams: int) -> Config:
    """Each alias has three models, at two upstreams."""
    models = {f"alias-{n}": {"targets": [_target(n, i, upstreams) for i in range(3)]} for n in range(aliases)}
    servers = {f"upstream-{n}": {"kind": "vllm", "base_url": "http://127.0.0.1:9/v1"} for n in range(upstreams)}
    return Config.model_validate(
        {"open": True, "upstreams": servers, "models": models, "scorers": {name: {} for name in SCORERS}}
    )


def _target(alias: int, number: int, upstreams: int) -> dict[str, str]:
    return {"upstream": f"upstream-{(alias + number // 2) % upstreams}", "model": f"model-{number}"}


def _targets(config: Config) -> Iterator[tuple[str, Target]]:
    for alias, model in config.models.items():
        for ref in model.targets:
            yield alias, Target(ref.upstream, ref.model)


def gateway_page(config: Config) -> Callable[[], bytes]:
    """The page of a gateway of which every alias has streamed, been paid for and failed at every target."""
    registry = CollectorRegistry()
    metrics, labels = ProxyMetrics(registry), MetricLabels.of(config)
    books, limiter = UsageBooks(UsageLedger(), metrics), ConcurrencyLimiter(None, 0, 1.0)
    for alias, target in _targets(config):
        upstream: Any = UpstreamState(target.upstream, config.upstreams[target.upstream], Any, Any, limiter)  # type: ignore[arg-type]
        state = TargetState(target, upstream, CircuitBreaker(lambda: 0.0), lambda: 0.0)
        series = CallMetrics(books, alias, state, "chat", Price(1.0, 2.0), labels=labels)
        series.waiting += [_STREAM, _FAILED]
        series.fold()
        for result in ("ok", "timeout"):
            model = labels.model(alias, state.name)
            metrics.counts.of(metrics.attempts, target.upstream, model, result).n += 1
    metrics.counts.flush()
    return lambda: exposition(registry)


def consumer_page(config: Config) -> Callable[[], bytes]:
    """The page of a consumer whose store has scores of every alias at every target."""
    registry = CollectorRegistry()
    none: Any = None  # these scorers call nobody
    scorers = build_all(config.scorers, ExternalServices(none)).single
    n = {"scored": 100, "not_applicable": 0, "error": 0, "timeout": 0, "budget": 0}
    cells = tuple(
        ScoreCell(
            CellKey(name, registered.scorer.version, registered.config_hash, alias, str(target), "", "default"),
            n, 80.0, 80.0, 1000.0, 1000, 800.0, 1000.0, units=(100.0, 80.0, 80.0),
        )
        for name, registered in scorers.items()
        for alias, target in _targets(config)
    )  # fmt: skip
    metrics, gauges = EvalMetrics(registry), Gauges(config, scorers)

    def page() -> bytes:
        metrics.figures = gauges.show(StoreSnapshot(cells, {}, 0, 0), Lag(0, 0, 0, 0.0))
        return generate_latest(registry)

    return page


def main(aliases: int = 1000, upstreams: int = 500) -> None:
    config = config_of(aliases, upstreams)
    for name, page_of in (("gateway", gateway_page), ("consumer", consumer_page)):
        page = page_of(config)
        began = time.perf_counter()
        text = page()
        made = time.perf_counter()
        packed = gzip.compress(text, 1)
        packed_s = time.perf_counter() - made
        series = sum(not line.startswith(b"#") for line in text.splitlines())
        sizes = f"{len(text):,} bytes, {len(packed):,} with gzip; {series:,} series"
        sys.stdout.write(f"{name}: {sizes}; {made - began:.2f} s, {packed_s:.2f} s more with gzip\n")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
