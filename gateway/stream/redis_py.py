"""redis-py, imported without OpenTelemetry. Everything here that needs redis-py gets it from this module.

Where OpenTelemetry's SDK is installed, redis-py imports it for metrics of its own, which the gateway never turns on:
64 modules and 2.4 MB in each process.
"""

from __future__ import annotations

import sys

_HIDDEN = "opentelemetry"
_hides = _HIDDEN not in sys.modules
if _hides:
    sys.modules[_HIDDEN] = None  # type: ignore[assignment]  # the import system's way to say "not installed"
try:
    import redis.asyncio as redis
    from redis.asyncio.cluster import ClusterNode
    from redis.asyncio.connection import parse_url
    from redis.asyncio.retry import Retry
    from redis.asyncio.sentinel import Sentinel, SentinelManagedConnection, SentinelManagedSSLConnection
    from redis.backoff import ConstantBackoff, NoBackoff
    from redis.exceptions import (
        BusyLoadingError,
        MasterDownError,
        ReadOnlyError,
        RedisClusterException,
        RedisError,
        ResponseError,
        SlotNotCoveredError,
    )
    from redis.exceptions import ConnectionError as RedisConnectionError
finally:
    if _hides:
        del sys.modules[_HIDDEN]

__all__ = [
    "BusyLoadingError",
    "ClusterNode",
    "ConstantBackoff",
    "MasterDownError",
    "NoBackoff",
    "ReadOnlyError",
    "RedisClusterException",
    "RedisConnectionError",
    "RedisError",
    "ResponseError",
    "Retry",
    "Sentinel",
    "SentinelManagedConnection",
    "SentinelManagedSSLConnection",
    "SlotNotCoveredError",
    "parse_url",
    "redis",
]
