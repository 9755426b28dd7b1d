"""Models and tags that limits name are those of the config."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from gateway.config.checks.limits import unknown_limit_models, unknown_limit_tags
from gateway.config.limits import LimitsConfig
from gateway.config.loading import parse
from gateway.core.errors import ConfigError

pytestmark = pytest.mark.quick


def test_names_that_are_there_are_no_mistakes() -> None:
    limits = LimitsConfig.model_validate({"models": {"chat": {}}, "tags": {"project=a": {}}})
    assert list(unknown_limit_models("x", limits, ["chat"])) == list(unknown_limit_tags("x", limits, ["project"])) == []
    assert len(list(unknown_limit_models("x", limits, []))) == len(list(unknown_limit_tags("x", limits, []))) == 1
    none = LimitsConfig()
    assert list(unknown_limit_models("x", none, [])) == list(unknown_limit_tags("x", none, [])) == []


@pytest.mark.parametrize(
    ("limits", "mistake"),
    [
        ({"models": {"chta": {"usd_per_day": 1}}}, '.models: no model "chta"; did you mean "chat"?'),
        ({"tags": {"projekt=a": {"usd_per_day": 1}}}, '"projekt" of "projekt=a" is not in tags.keys; did you mean'),
        ({"models": {"chat": {"usd_per_day": 0}}}, "expected more than 0"),
        ({"carried": {"usd_per_mont": {"amount": 1, "until": "2027-01-01T00:00:00Z"}}}, "did you mean"),
        ({"carried": {"usd_per_month": {"amount": 1, "until": "soon"}}}, "expected a time with its offset"),
    ],
)
def test_names_in_limits_are_those_of_the_config(limits: dict[str, Any], mistake: str) -> None:
    """A limit of a name that no call can have would never hold."""
    for section in (
        {"teams": {"a": {"limits": limits}}}, {"keys": [{"name": "a", "sha256": "a" * 64, "limits": limits}]},
        {"budgets": {"default_limits": limits}},
    ):  # fmt: skip
        with pytest.raises(ConfigError) as raised:
            parse(yaml.safe_dump({
                "upstreams": {"local": {"kind": "vllm", "base_url": "http://127.0.0.1:1/v1"}},
                "models": {"chat": {"targets": [{"upstream": "local", "model": "m"}]}},
                "tags": {"keys": ["project"]}, **section,
            }))  # fmt: skip
        assert mistake in str(raised.value)
