"""The extras that sections of gateway.yaml need, by program. Those of features are in their manifests."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.config.cloud_auth import EXTRAS
from gateway.config.config import Config
from gateway.core.errors import ConfigError
from gateway.core.extras import Extra, missing_extras

_OTEL = Extra("otel", "OpenTelemetry's SDK", ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http"), "otel")
_STORE = Extra("postgres", "psycopg", ("psycopg",), "store.url", "postgres")
OF_GATEWAY = (
    _OTEL,
    Extra("jwt", "PyJWT", ("jwt", "cryptography"), "jwt"),
    *(
        Extra("aws", "botocore", ("botocore",), "upstreams.*.kind", kind)
        for kind in ("bedrock_anthropic", "bedrock_converse")
    ),
    *(Extra(extra, module, (module,), "upstreams.*.auth.kind", kind) for kind, (module, extra) in EXTRAS.items()),
)
OF_CONSUMER = (_OTEL, _STORE, Extra("mail", "aiosmtplib", ("aiosmtplib",), "notify.targets.*.kind", "mail"))
OF_CONSOLE = (Extra("oidc", "Authlib", ("authlib", "joserfc"), "admin.oidc"), _STORE)
OF_ALL = (*OF_GATEWAY, *OF_CONSUMER, *OF_CONSOLE)


def require_extras(config: Config, extras: Iterable[Extra]) -> None:
    """Raises ConfigError with a line for each extra that the config needs and the installation lacks."""
    if missing := missing_extras(config, dict.fromkeys(extras)):
        raise ConfigError(missing)
