"""The limits that hold for a call, by its model, tags and end user."""

from __future__ import annotations

import pytest

from gateway.core.call_scopes import NOBODY, CallScopes, call_scopes_of, user_digest
from gateway.core.limits import Limit, LimitScope

pytestmark = pytest.mark.quick
BASE = CallScopes((LimitScope("key", "web", (Limit("usd", 5.0, "month"),)),))
SETTINGS = {
    "time_zone": "Europe/Berlin", "models": {"chat": {"usd_per_day": 1}, "free": {}},
    "tags": {"project=a": {"requests_per_day": 2}}, "per_user": {"tokens_per_day": 3},
}  # fmt: skip
TEAM = LimitScope("team", "search", ())
SCOPES = call_scopes_of(TEAM, SETTINGS, BASE)


def ids(scopes: tuple[LimitScope, ...]) -> list[str]:
    return [str(scope) for scope in scopes]


@pytest.mark.parametrize(
    ("alias", "tags", "found"),
    [
        ("chat", (), ["model team-search/chat"]),
        ("other", ("project=a", "x=y"), ["tag team-search/project=a"]),
        ("other", ("project=b",), []),
    ],
)
def test_a_call_has_the_scopes_of_its_model_and_tags(alias: str, tags: tuple[str, ...], found: list[str]) -> None:
    assert ids(SCOPES.of(alias, NOBODY, tags)) == ["key web", *found, "user team-search/-"]


def test_windows_follow_the_time_zone_of_the_whole() -> None:
    (limit,) = SCOPES.of("chat", NOBODY, ())[1].limits
    assert (limit.name, limit.zone) == ("usd_per_day", "Europe/Berlin")


def test_limits_of_several_levels_add_up() -> None:
    both = call_scopes_of(LimitScope("organization", "acme", ()), {"per_user": {"requests_per_day": 9}}, SCOPES)
    assert ids(both.of("x", "u", ())) == ["key web", "user team-search/u", "user organization-acme/u"]


def test_the_same_settings_are_equal_and_can_be_keys() -> None:
    assert {SCOPES: 1}[call_scopes_of(TEAM, SETTINGS, BASE)] == 1


@pytest.mark.parametrize("user", ["ada@example.org", "", "\ud800", "x" * 512])
def test_a_user_becomes_sixteen_digits(user: str) -> None:
    assert len(user_digest(user)) == 16
    assert user_digest(user) != user_digest(user + "x")
