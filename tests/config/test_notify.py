"""The section `notify`: what each kind needs, and mistakes with their path."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from gateway.config.loading import parse
from gateway.core.errors import ConfigError

pytestmark = pytest.mark.quick
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
MAIL = {"kind": "mail", "smtp": "smtp.example.org", "sender": "gw@example.org", "to": ["ops@example.org"]}


def parsed(target: dict[str, Any]) -> Any:
    text = yaml.safe_dump({
        "upstreams": {"local": {"kind": "vllm", "base_url": "http://127.0.0.1:1/v1"}},
        "models": {"chat": {"targets": [{"upstream": "local", "model": "m"}]}},
        "notify": {"console_url": "https://console.example.org", "targets": {"ops": target}},
    })  # fmt: skip
    notify = parse(text).notify
    assert notify is not None
    return notify.targets["ops"]


@pytest.mark.parametrize(
    "target",
    [
        {"kind": "slack", "url": "https://hooks.slack.com/services/x"},
        {"kind": "teams", "url": "https://x.logic.azure.com/workflows/y", "on": ["budget"], "per_hour": 5},
        {"kind": "webhook", "url": "http://10.0.0.1/hook", "secret": SECRET},
        {**MAIL, "username": "u", "password": "p"},
    ],
)
def test_each_kind_is_read(target: dict[str, Any]) -> None:
    assert parsed(target).kind == target["kind"]


@pytest.mark.parametrize(
    ("fields", "server"),
    [({}, ("smtp.example.org", 587)), ({"tls": "tls"}, ("smtp.example.org", 465)),
     ({"tls": "none"}, ("smtp.example.org", 25)), ({"smtp": "mail:2525"}, ("mail", 2525))],
)  # fmt: skip
def test_the_mail_server_has_the_usual_ports(fields: dict[str, Any], server: tuple[str, int]) -> None:
    assert parsed({**MAIL, **fields}).server == server


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ({"kind": "slack"}, "url: missing; kind slack needs it"),
        ({"kind": "slack", "url": "https://h/x", "secret": SECRET}, "`secret` has no meaning for kind slack"),
        ({"kind": "webhook", "url": "https://h/x"}, "secret: missing"),
        ({"kind": "webhook", "url": "https://h/x", "secret": "abc"}, "expected whsec_"),
        ({**MAIL, "to": []}, "to: missing"),
        ({**MAIL, "username": "u"}, "username, password belong together"),
        ({**MAIL, "smtp": "host:99999"}, "expected HOST or HOST:PORT"),
        ({**MAIL, "to": ["Ops <ops@example.org>"]}, "to"),
        ({"kind": "slak", "url": "https://h/x"}, "kind"),
        ({"kind": "slack", "url": "https://h/x", "on": ["budgets"]}, "on"),
        ({"kind": "slack", "url": "https://h/x", "per_hour": 0}, "per_hour"),
    ],
)
def test_a_mistake_is_named_with_its_path(target: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parsed(target)
    assert message in str(raised.value)
    assert "notify.targets.ops" in str(raised.value)
