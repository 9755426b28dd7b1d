"""Names that belong to others: callers with tokens, programs, and people of two ways to sign in."""

from __future__ import annotations

import pytest

from gateway.config.admin import AdminConfig
from gateway.config.reserved_names import caller_prefix, is_other_actor, person_name

ADMIN = AdminConfig.model_validate({
    "tokens": [{"name": "ada", "sha256": "a" * 64, "role": "owner"}],
    "proxy_login": {"networks": ["10.0.0.0/8"], "users": {"petra": {"role": "viewer"}}},
})  # fmt: skip


@pytest.mark.parametrize(
    ("name", "issuers", "prefix"),
    [
        ("sso:alice", ("sso",), "sso:"),
        ("sso:alice", ("eu", "sso"), "sso:"),
        ("jwt:sso:alice", ("sso",), "jwt:"),
        ("sso", ("sso",), None),
        ("ssoalice", ("sso",), None),
        ("sso:alice", (), None),
        ("jwt:alice", (), None),
    ],
)
def test_a_callers_prefix_is_that_of_an_issuer(name: str, issuers: tuple[str, ...], prefix: str | None) -> None:
    assert caller_prefix(name, issuers) == prefix


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("eve", "eve"),
        ("Ada", "Ada"),
        ("ada", "oidc:ada"),
        ("petra", "oidc:petra"),
        ("controller", "oidc:controller"),
        ("command line", "oidc:command line"),
        ("oidc:eve", "oidc:oidc:eve"),
    ],
)
def test_a_persons_name_is_nobody_elses(name: str, shown: str) -> None:
    assert person_name(name, ADMIN) == shown
    assert is_other_actor(name) is (shown != name and name not in ("ada", "petra"))


def test_two_people_never_get_one_name() -> None:
    names = ["ada", "oidc:ada", "oidc:oidc:ada", "petra", "eve", "controller"]
    assert len({person_name(name, ADMIN) for name in names}) == len(names)
