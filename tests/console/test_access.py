"""Roles and their rights, and the bound on wrong tokens."""

from __future__ import annotations

from hashlib import sha256

import pytest

from gateway.config.admin import AdminToken
from gateway.console.access import FAILURES, WINDOW_S, Actor, AdminTokens, FailedLogins
from gateway.console.errors import NoToken, NotPermitted, TooManyFailures

TOKENS = AdminTokens(
    [
        AdminToken(name="ada", sha256=sha256(b"secret").hexdigest(), role="owner", content=True),
        AdminToken(name="empty", sha256=sha256(b"").hexdigest(), role="owner"),
    ]
)


@pytest.mark.parametrize("header", ["Bearer secret", "bearer secret", "BEARER  secret "])
def test_a_token_is_known_as_clients_send_it(header: str) -> None:
    assert TOKENS.actor(header) == Actor("ada", "owner", content=True)


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "Bearer  ", "Basic secret", "secret", "Bearer Secret", "Bearer secre", "Bearer é"],
)
def test_anything_else_is_refused_and_never_repeated(header: str) -> None:
    with pytest.raises(NoToken) as refused:
        TOKENS.actor(header)
    assert "ecre" not in refused.value.message


def test_a_token_itself_is_never_kept() -> None:
    assert "secret" not in repr(vars(TOKENS))


@pytest.mark.parametrize(
    ("role", "needed", "may"),
    [
        ("viewer", "viewer", True),
        ("viewer", "operator", False),
        ("operator", "viewer", True),
        ("operator", "owner", False),
        ("owner", "operator", True),
        ("owner", "owner", True),
    ],
)
def test_a_role_may_do_what_those_below_it_may(role, needed, may) -> None:
    if may:
        Actor("ada", role).require(needed, "make teams")
        return
    with pytest.raises(NotPermitted, match=f"ada has the role {role}; to make teams needs the role {needed}"):
        Actor("ada", role).require(needed, "make teams")


def test_an_address_that_fails_often_waits_until_its_minute_is_over() -> None:
    now = [5.0]
    failed = FailedLogins(lambda: now[0])
    for _ in range(FAILURES):
        failed.check("10.0.0.1")
        failed.note("10.0.0.1")
    now[0] += WINDOW_S / 2
    with pytest.raises(TooManyFailures) as refused:
        failed.check("10.0.0.1")
    assert refused.value.retry_after_s == WINDOW_S / 2
    failed.check("10.0.0.2")
    now[0] += WINDOW_S / 2
    failed.check("10.0.0.1")
    failed.note("10.0.0.1")
    failed.check("10.0.0.1")


def test_an_ipv6_client_is_its_whole_network() -> None:
    failed = FailedLogins(lambda: 0.0)
    for n in range(FAILURES):
        failed.note(f"2001:db8::{n:x}")
    with pytest.raises(TooManyFailures):
        failed.check("2001:db8::ffff")
    failed.check("2001:db8:0:1::1")


def test_only_so_many_addresses_are_remembered() -> None:
    failed = FailedLogins(lambda: 0.0)
    for n in range(12_000):
        for _ in range(FAILURES if n == 0 else 1):
            failed.note(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}")
    failed.check("10.0.0.0")
