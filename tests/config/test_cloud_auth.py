"""The section `auth` of an upstream: what belongs to which kind, and what must not be used together with it."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from gateway.config.cloud_auth import CloudAuth
from gateway.config.loading import load_for_consumer, parse
from gateway.config.upstreams import Upstream
from gateway.core.errors import ConfigError

PLAIN = "models: {m: {targets: [{upstream: u, model: m}]}}\nopen: true\n"


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"kind": "sigv4"}, "region: missing"),
        ({"kind": "sigv4", "region": "r", "client_id": "c"}, "`client_id` has no meaning for kind sigv4"),
        ({"kind": "sigv4", "region": "r", "access_key_id": "a"}, "belong together; only access_key_id is given"),
        ({"kind": "sigv4", "region": "r", "session_token": "t"}, "session_token: belongs to access_key_id"),
        ({"kind": "entra", "tenant_id": "t", "client_id": "c"}, "only tenant_id, client_id is given"),
        ({"kind": "google", "region": "r"}, "`region` has no meaning for kind google"),
    ],
)
def test_a_contradiction_is_named(section: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        CloudAuth.model_validate(section)


def test_a_managed_identity_is_chosen_by_its_id_alone() -> None:
    assert CloudAuth.model_validate({"kind": "entra", "client_id": "c"}).client_id == "c"


def test_an_upstream_has_one_credential() -> None:
    auth = {"kind": "entra"}
    with pytest.raises(ValidationError, match="api_key and auth are both given"):
        Upstream.model_validate({"kind": "azure", "api_key": "k", "auth": auth})
    with pytest.raises(ValidationError, match="Authorization is set by auth"):
        Upstream.model_validate({"kind": "azure", "headers": {"authorization": "x"}, "auth": auth})


def test_secrets_are_in_no_text_of_the_section() -> None:
    auth = CloudAuth.model_validate(
        {"kind": "entra", "tenant_id": "t", "client_id": "c", "client_secret": "very-secret"}
    )
    assert "very-secret" not in repr(auth)
    assert auth.secrets == ("very-secret",)


def test_a_mistake_never_repeats_a_secret() -> None:
    text = "upstreams: {u: {kind: vertex, base_url: 'http://x', auth: {kind: google, client_secret: very-secret}}}\n"
    with pytest.raises(ConfigError) as refused:
        parse(text + PLAIN)
    assert "`client_secret` has no meaning for kind google" in str(refused.value)
    assert "very-secret" not in str(refused.value)


def test_a_consumer_needs_none_of_its_variables(tmp_path: Any) -> None:
    path = tmp_path / "gateway.yaml"
    secret = "auth: {kind: entra, tenant_id: t, client_id: c, client_secret: '${NOT_SET_ANYWHERE}'}"
    path.write_text(f"upstreams: {{u: {{kind: azure, base_url: 'http://x', {secret}}}}}\n{PLAIN}")
    assert load_for_consumer(path).upstreams["u"].auth is not None
