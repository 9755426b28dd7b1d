"""Names of models and tags in limits: a limit of a name that no call can have would never hold."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from gateway.core.did_you_mean import did_you_mean
from gateway.core.json_values import as_list, as_object


def unknown_limit_names(at: str, limits: Any, models: Collection[str], tag_keys: Collection[str]) -> Iterator[str]:
    """A mistake for each model and tag of these limits that the config does not have. at: their path."""
    for model in as_object(as_object(limits).get("models")):
        if model not in models:
            yield f'{at}.models: no model "{model}"{did_you_mean(str(model), models)}'
    for tag in as_object(as_object(limits).get("tags")):
        key = str(tag).partition("=")[0]
        if key not in tag_keys:
            hint = did_you_mean(key, tag_keys) or "; add it there"
            yield f'{at}.tags: "{key}" of "{tag}" is not in tags.keys{hint}'


def limit_mistakes(raw: Mapping[str, Any]) -> Iterator[str]:
    """The mistakes of a whole config, as it was read."""
    models = as_object(raw.get("models"))
    tag_keys = [str(key) for key in as_list(as_object(raw.get("tags")).get("keys"))]
    keys = ((f"keys[{i}]", key) for i, key in enumerate(as_list(raw.get("keys"))))
    groups = (
        (f"{section}.{name}", group)
        for section in ("people", "teams", "organizations")
        for name, group in as_object(raw.get(section)).items()
    )
    for at, owner in (*keys, *groups):
        yield from unknown_limit_names(f"{at}.limits", as_object(owner).get("limits"), models, tag_keys)
    default_limits = as_object(raw.get("budgets")).get("default_limits")
    yield from unknown_limit_names("budgets.default_limits", default_limits, models, tag_keys)
