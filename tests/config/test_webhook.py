"""The section `webhooks`: a secret in the form of Standard Webhooks, and experiments that exist."""

from __future__ import annotations

import base64
from typing import Any

import pytest
import yaml

from gateway.config.loading import parse
from gateway.config.webhook import signing_key
from gateway.core.errors import ConfigError

GOOD = "whsec_" + base64.b64encode(b"k" * 32).decode()


def text(**webhook: Any) -> str:
    target = {"upstream": "a", "model": "m"}
    return yaml.safe_dump({
        "open": True, "upstreams": {"a": {"kind": "fake"}}, "models": {"chat": {"targets": [target]}},
        "experiments": {"swap": {"model": "chat", "control": target, "candidate": {**target, "model": "n"}}},
        "webhooks": {"ops": {"url": "https://example.org/hook", "secret": "${HOOK}", **webhook}},
    })  # fmt: skip


def test_the_secret_comes_from_the_environment() -> None:
    config = parse(text(), environ={"HOOK": GOOD})
    assert signing_key(config.webhooks["ops"].secret) == b"k" * 32
    assert config.webhooks["ops"].wants("swap")


def test_a_receiver_may_want_only_some_experiments() -> None:
    ops = parse(text(experiments=["swap"]), environ={"HOOK": GOOD}).webhooks["ops"]
    assert ops.wants("swap")
    assert not ops.wants("other")


@pytest.mark.parametrize("secret", ["hunter2hunter2", "whsec_c2hvcnQ=", "whsec_no!base64", GOOD.removeprefix("whsec_")])
def test_another_form_of_secret_is_refused_and_not_printed(secret: str) -> None:
    with pytest.raises(ConfigError) as found:
        parse(text(), environ={"HOOK": secret})
    said = str(found.value)
    assert "webhooks.ops.secret: expected whsec_ and 24 to 64 bytes in base64" in said
    assert secret not in said


def test_an_experiment_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match=r'webhooks.ops.experiments\[0\]: no experiment "swop"; did you mean "swap"'):
        parse(text(experiments=["swop"]), environ={"HOOK": GOOD})


def test_a_variable_that_is_not_set_is_named() -> None:
    with pytest.raises(ConfigError, match=r"webhooks.ops.secret: \$HOOK is not set"):
        parse(text(), environ={})
