"""Names of models and tags in limits: a limit of a name that no call can have would never hold."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from gateway.config.checks.partial import in_each, readable
from gateway.config.config import ApiKey, Config
from gateway.config.limits import LimitsConfig, Organization, Person, Team
from gateway.core.did_you_mean import did_you_mean


def limit_mistakes(config: Config) -> Iterator[str]:
    for section in ("keys", "people", "teams", "organizations"):
        yield from in_each(config, section, _model_mistakes, _tag_mistakes)
    yield from readable(_default_mistakes(config))


def unknown_limit_models(at: str, limits: LimitsConfig, models: Collection[str]) -> Iterator[str]:
    """A mistake for each model of these limits that the config does not have. at: their path."""
    for model in limits.models:
        if model not in models:
            yield f'{at}.models: no model "{model}"{did_you_mean(model, models)}'


def unknown_limit_tags(at: str, limits: LimitsConfig, tag_keys: Collection[str]) -> Iterator[str]:
    """A mistake for each tag of these limits whose key is not one of `tags.keys`. at: their path."""
    for tag in limits.tags:
        key = tag.partition("=")[0]
        if key not in tag_keys:
            hint = did_you_mean(key, tag_keys) or "; add it there"
            yield f'{at}.tags: "{key}" of "{tag}" is not in tags.keys{hint}'


_Owner = ApiKey | Person | Team | Organization


def _model_mistakes(at: str, owner: _Owner, config: Config) -> Iterator[str]:
    yield from unknown_limit_models(f"{at}.limits", owner.limits, config.models)


def _tag_mistakes(at: str, owner: _Owner, config: Config) -> Iterator[str]:
    yield from unknown_limit_tags(f"{at}.limits", owner.limits, config.tags.keys)


def _default_mistakes(config: Config) -> Iterator[str]:
    at, limits = "budgets.default_limits", config.budgets.default_limits
    yield from readable(unknown_limit_models(at, limits, config.models))
    yield from readable(unknown_limit_tags(at, limits, config.tags.keys))
