from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from gateway.config.stream import StreamConfig
from gateway.stream.connect import address_of


@pytest.mark.parametrize(
    ("section", "address"),
    [
        ({}, None),
        ({"url": "redis://a:1/2"}, "redis://a:1/2"),
        ({"url": "unix:///run/s.sock"}, "unix:///run/s.sock"),
        ({"url": "redis://a:1,b:2", "cluster": True}, "redis+cluster://a:1,b:2"),
        ({"url": "rediss://u:p@a:1", "cluster": True}, "rediss+cluster://u:p@a:1"),
        ({"url": "redis+cluster://a:1"}, "redis+cluster://a:1"),
        ({"sentinels": ["a:1", "b"], "service": "s"}, "redis+sentinel://a:1,b/s"),
        ({"sentinels": ["[::1]:26379"], "service": "s", "tls": True}, "rediss+sentinel://[::1]:26379/s"),
    ],
)
def test_every_form_of_address_becomes_one_url(section: dict[str, Any], address: str | None) -> None:
    assert StreamConfig.model_validate(section).address == address
    if address and not address.startswith("unix"):
        assert address_of(address).hosts


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ({"url": "http://a"}, "url"),
        ({"url": "redis://a", "sentinels": ["b:1"], "service": "s"}, "both name the server"),
        ({"sentinels": ["a:1"]}, "sentinels and service go together"),
        ({"sentinels": ["redis://a:1"], "service": "s"}, "sentinels"),
        ({"service": "s"}, "sentinels and service go together"),
        ({"cluster": True}, "needs the url of its nodes"),
        ({"url": "unix:///s", "cluster": True}, "needs the url of its nodes"),
        ({"url": "redis://a", "ca_file": "ca.pem"}, "TLS needs a rediss:// url"),
        ({"url": "rediss://a", "cert_file": "c.pem"}, "cert_file and key_file go together"),
        ({"claim_idle_s": 0.5}, "claim_idle_s"),
        ({"shards": 0}, "shards"),
        ({"max_gb": 1}, "max_gb"),
    ],
)
def test_a_section_that_contradicts_itself_is_refused(section: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        StreamConfig.model_validate(section)
