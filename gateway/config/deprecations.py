"""Keys that are deprecated: they keep working, and `gateway check` says what to use instead.

No example uses them: windows of limits between those that budgets are made of, and settings whose default serves.
`python docs/config_keys.py` counts the uses of every key, and prints the keys that are left.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel

from gateway.config.config import Config, Limits, Retries
from gateway.config.experiments import RampConfig
from gateway.config.guard_ramps import GuardRampConfig
from gateway.config.guards import GuardConfig
from gateway.config.jwt import JwtIssuer
from gateway.config.limits import SoftLimits, WindowAmounts
from gateway.config.notify import NotifyTarget
from gateway.config.predictor import PredictorConfig
from gateway.config.upstreams import BreakerConfig, HealthCheck
from gateway.config.webhook import WebhookConfig

_DEFAULT = "its default serves"
_COUNTED = "use the window `minute` or `day`"
_BY_DAY = "use the window `day`"
_WINDOWS = {
    **{
        f"{measure}_per_{window}": _COUNTED
        for measure in ("requests", "tokens")
        for window in ("hour", "week", "month")
    },
    **{f"gpu_seconds_per_{window}": _BY_DAY for window in ("minute", "hour", "week", "month")},
}
_SOFT = {f"{measure}_per_{w}": _BY_DAY for measure in ("requests", "tokens", "gpu_seconds") for w in ("week", "month")}


def _by_default(*keys: str) -> dict[str, str]:
    return dict.fromkeys(keys, _DEFAULT)


DEPRECATED: Mapping[type[BaseModel], Mapping[str, str]] = MappingProxyType(
    {
        WindowAmounts: _WINDOWS,
        SoftLimits: _SOFT,
        BreakerConfig: _by_default("open_s", "max_open_s"),
        GuardConfig: _by_default("hold_chars", "hold_ms", "max_match_chars"),
        GuardRampConfig: _by_default("cooldown_s", "retry_s", "stale_s"),
        HealthCheck: _by_default("interval_s", "timeout_s", "failures", "successes"),
        JwtIssuer: _by_default("leeway_s", "refresh_s", "timeout_s"),
        Limits: _by_default("passthrough_s"),
        NotifyTarget: _by_default("timeout_s"),
        PredictorConfig: _by_default("retrain_s", "min_rows", "max_rows"),
        RampConfig: _by_default("holdout_days", "stale_s"),
        Retries: _by_default("backoff_s", "budget_s"),
        WebhookConfig: _by_default("timeout_s"),
    }
)
"""Remedies by section and key. Sections that extend another have its deprecated keys, too."""


def deprecated_keys(section: type[BaseModel]) -> dict[str, str]:
    """The remedies of a section's deprecated keys."""
    return {key: text for base in section.__mro__ for key, text in DEPRECATED.get(base, {}).items()}


def deprecations(config: Config) -> Iterator[str]:
    """A sentence for each deprecated key that the file sets."""
    for path, section in sections_of("", config):
        for key, instead in deprecated_keys(type(section)).items():
            if key in section.model_fields_set:
                yield f"{path}.{key} is deprecated, and will be removed in a later version: {instead}"


def sections_of(path: str, value: Any) -> Iterator[tuple[str, BaseModel]]:
    """The sections in a value of the config, each with its path."""
    if isinstance(value, BaseModel):
        yield path, value
        for name in value.model_fields_set & type(value).model_fields.keys():
            yield from sections_of(f"{path}.{name}".lstrip("."), getattr(value, name))
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from sections_of(f"{path}.{name}", inner)
    elif isinstance(value, tuple):
        for at, inner in enumerate(value):
            yield from sections_of(f"{path}[{at}]", inner)
