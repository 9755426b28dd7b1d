"""LiteLLM's rows become bodies of the admin API, and every setting without an equal becomes a line."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gateway.config.limits import Person
from gateway.features.keys.settings import NewKey, NewOrganization, NewTeam, checked
from gateway.features.litellm.plan import ImportPlan, KnownModels, plan_of
from gateway.features.litellm.rows import KNOWN, LiteLLMDatabase

pytestmark = pytest.mark.quick
NOW = datetime(2026, 11, 29, tzinfo=UTC)
MODELS = KnownModels(("chat", "small", "openai/*"), {"beta": ["small"]})
DIGEST = "ab" * 32


def row(kind: str, **values: Any) -> dict[str, Any]:
    """A row with nothing set but these."""
    lists = {"models": [], "spend": 0.0, "blocked": False, "metadata": {}}
    return {name: lists.get(name) for name in KNOWN["tables"][kind]["columns"]} | values


def a_key(**values: Any) -> dict[str, Any]:
    return row("keys", **{"token": DIGEST, "key_alias": "web", **values})


def a_team(**values: Any) -> dict[str, Any]:
    return row("teams", **{"team_id": "t-1", "team_alias": "Search", **values})


def planned(*, of_team_keys: bool = False, **tables: list[dict[str, Any]]) -> ImportPlan:
    empty: dict[str, Any] = {each.name: [] for each in fields(LiteLLMDatabase)}
    plan = plan_of(LiteLLMDatabase(**(empty | tables)), MODELS, NOW, of_team_keys=of_team_keys)
    for person in plan.people.values():
        checked(Person, person)
    for record in plan.records:
        checked({"key": NewKey, "team": NewTeam, "organization": NewOrganization}[record.kind], record.body)
    return plan


def body(plan: ImportPlan, kind: str = "key") -> dict[str, Any]:
    (found,) = plan.of(kind)  # type: ignore[arg-type]
    return dict(found.body)


def lines(plan: ImportPlan) -> str:
    return "\n".join(map(str, plan.notes))


def test_a_key_keeps_its_digest_team_limits_tags_and_end() -> None:
    plan = planned(
        organizations=[row("organizations", organization_id="o", organization_alias="ACME Inc.", budget_id="b")],
        budgets=[row("budgets", budget_id="b", max_budget=5e3, soft_budget=4e3, budget_duration="30d")],
        teams=[a_team(organization_id="o", models=["chat"], tpm_limit=9000)],
        keys=[a_key(team_id="t-1", rpm_limit=6, expires=datetime(2027, 1, 1), metadata={"tags": ["a", "b c"]})],
    )
    assert body(plan) == {
        "name": "web", "sha256": DIGEST, "team": "Search", "limits": {"requests_per_minute": 6}, "tags": ["a"],
        "expires": "2027-01-01T00:00:00Z",
    }  # fmt: skip
    assert body(plan, "team") == {
        "id": "Search", "organization": "ACME-Inc", "models": ["chat"], "limits": {"tokens_per_minute": 9000},
    }  # fmt: skip
    limits = {"usd_per_month": 5e3, "soft": {"usd_per_month": 4e3}}
    assert body(plan, "organization") == {"id": "ACME-Inc", "limits": limits}
    assert lines(plan) == ("left out  keys[web].metadata.tags: 'b c': a tag has no spaces, quotes or braces")


@pytest.mark.parametrize(
    ("models", "expected"),
    [
        ([], None),
        (["all-team-models"], None),
        (["chat", "all-proxy-models"], None),
        (["chat", "beta", "openai/gpt-x"], ["chat", "small", "openai/gpt-x"]),
        (["no-default-models"], []),
        (["gone"], []),
    ],
)
def test_allowed_models_are_those_that_are_served_and_never_more(models: list[str], expected: Any) -> None:
    plan = planned(keys=[a_key(models=models)])
    assert body(plan).get("models") == expected
    assert ('left out  keys[web].models: this gateway.yaml has no model "gone"' in lines(plan)) is ("gone" in models)


def test_names_that_collide_are_distinguished_by_a_part_of_their_ids() -> None:
    plan = planned(
        teams=[a_team(team_id="aaaa-1"), a_team(team_id="bbbb-2"), a_team(team_id="cccc-3", team_alias=None)],
        keys=[
            a_key(),
            a_key(token="cd" * 32),
            a_key(token="ef" * 32, key_alias=None),
            a_key(token="0" * 64, key_alias="open"),
        ],
    )
    assert [team.name for team in plan.of("team")] == ["Search-aaaa1", "Search-bbbb2", "cccc-3"]
    assert [key.name for key in plan.of("key")] == ["web-abababab", "web-cdcdcdcd", "litellm-efefefef", "open-00000000"]


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"expires": NOW - timedelta(days=1)}, "it expired at 2026-11-28"),
        ({"key_type": "management"}, "a key of type management"),
        ({"team_id": "litellm-dashboard"}, "1 keys of sessions of LiteLLM's pages"),
    ],
)
def test_keys_that_open_nothing_here_are_left_out(values: dict[str, Any], line: str) -> None:
    plan = planned(keys=[a_key(**values)])
    assert plan.records == []
    assert line in lines(plan)


def test_blocked_and_closed_records_are_disabled() -> None:
    assert body(planned(keys=[a_key(blocked=True)]))["disabled"] is True
    assert body(planned(keys=[a_key(max_budget=0.0)]))["disabled"] is True
    assert body(planned(teams=[a_team(blocked=True)]), "team")["disabled"] is True


def test_every_setting_without_an_equal_has_a_line() -> None:
    for kind, make in (("keys", a_key), ("teams", a_team), ("users", a_user)):
        for column, text in KNOWN["lost"][kind].items():
            owner = {"keys": [a_key(user_id="u-1")]} if kind == "users" else {}
            plan = planned(**owner, **{kind: [make(**{column: {"x": 1}})]})
            assert f".{column}: {text}" in lines(plan), column
    for name in KNOWN["lost"]["metadata"]:
        assert f".metadata.{name}: " in lines(planned(keys=[a_key(metadata={name: {"chat": 1}})]))


def test_budgets_and_rates_of_models_become_limits_of_models() -> None:
    budgets = {"chat": {"budget_limit": "12.5", "time_period": "30d", "rpm_limit": 60}, "small": 3.0, "gpt-x": 1.0,
               "openai/gpt-5": 2}  # fmt: skip
    rates = {"model_tpm_limit": {"chat": 9000, "beta": 1}, "model_rpm_limit": {"small": 5}}
    plan = planned(keys=[a_key(model_max_budget=budgets, budget_duration="1d", metadata=rates)])
    assert body(plan)["limits"]["models"] == {
        "chat": {"requests_per_minute": 60, "tokens_per_minute": 9000, "usd_per_month": 12.5},
        "small": {"requests_per_minute": 5, "usd_per_day": 3.0},
    }
    for line in (
        "keys[web].limits.models.chat: what was spent before is not in the database: it begins at 0",
        "keys[web].limits.models.gpt-x: this gateway.yaml has no such model name",
        "keys[web].limits.models.openai/gpt-5: this gateway.yaml has no such model name",
        "keys[web].limits.models.beta: this gateway.yaml has no such model name",
    ):
        assert line in lines(plan)


def test_budgets_of_models_come_from_the_shared_budget_too() -> None:
    shared = row("budgets", budget_id="b", model_max_budget={"chat": {"max_budget": 5, "budget_duration": "7d"}})
    plan = planned(keys=[a_key(budget_id="b")], budgets=[shared])
    assert body(plan)["limits"] == {"models": {"chat": {"usd_per_week": 5.0}}}
    for wrong in ("much", {"budget_limit": None}, {"budget_limit": 0}, {"budget_limit": []}):
        plan = planned(keys=[a_key(model_max_budget={"chat": wrong})])
        assert "limits" not in body(plan), wrong
        assert "left out  keys[web].limits.models.chat: " in lines(plan), wrong
    for wrong in ([], "x", 5):
        assert "limits" not in body(planned(keys=[a_key(model_max_budget=wrong)])), wrong


def a_user(**values: Any) -> dict[str, Any]:
    return row("users", **{"user_id": "u-1", "user_email": "ada@example.com", **values})


def test_a_budget_of_a_user_is_one_over_all_of_its_keys() -> None:
    resets = datetime(2026, 12, 14)
    ada = a_user(max_budget=50.0, spend=12.5, budget_duration="30d", budget_reset_at=resets, rpm_limit=60)
    bob = row("users", user_id="u-2", user_alias="Bob B.")
    keys = [a_key(token=f"{n}" * 64, key_alias=f"k{n}", user_id=user) for n, user in enumerate(("u-1", "u-1", "u-2"))]
    plan = planned(users=[ada, bob, row("users", user_id="u-3")], keys=keys)
    assert plan.people == {
        "ada@example.com": {
            "limits": {
                "requests_per_minute": 60,
                "usd_per_month": 50.0,
                "carried": {"usd_per_month": {"amount": 12.5, "until": "2026-12-14T00:00:00Z"}},
            }
        },
        "Bob-B.": {},
    }, "a user without keys and limits is nobody here"
    assert [r.body["person"] for r in plan.of("key")] == ["ada@example.com", "ada@example.com", "Bob-B."]
    assert "budgets: roll there, and follow the calendar here" in lines(plan)


def test_budgets_of_users_hold_over_keys_of_teams_as_in_litellm() -> None:
    """LiteLLM holds budgets over them where apply_user_budget_to_team_keys is set, and rates always."""
    tables = {"teams": [a_team()], "keys": [a_key(team_id="t-1", user_id="u-1")]}
    plan = planned(users=[a_user(max_budget=5.0)], **tables)
    assert "person" not in body(plan)
    assert "keys.user_id: 1 keys of teams (web) stay outside the limits of their users" in lines(plan)
    for more in ({"of_team_keys": True, "users": [a_user(max_budget=5.0)]}, {"users": [a_user(rpm_limit=5)]}):
        plan = planned(**more, **tables)
        assert body(plan)["person"] == "ada@example.com"
        assert "keys.user_id" not in lines(plan)


def test_a_user_with_nothing_left_disables_its_keys() -> None:
    keys = [a_key(user_id="u-1"), a_key(token="cd" * 32, key_alias="other", user_id="u-2")]
    plan = planned(users=[a_user(max_budget=0.0), row("users", user_id="u-2", user_email="bob")], keys=keys)
    assert [record.body.get("disabled") for record in plan.of("key")] == [True, None]
    assert "keys[web]: a limit of ada@example.com allows nothing: the key is disabled" in lines(plan)


@pytest.mark.parametrize(
    ("of_user", "of_key", "expected"),
    [
        ([], ["chat"], ["chat"]),
        (["small"], [], ["small"]),
        (["chat", "small"], ["small", "openai/gpt-5"], ["small"]),
        (["no-default-models"], ["chat"], []),
        (["all-proxy-models"], ["chat"], ["chat"]),
        (["openai/*"], ["openai/gpt-5"], ["openai/gpt-5"]),
    ],
)
def test_models_of_a_user_bound_its_keys_without_a_team(of_user: Any, of_key: Any, expected: Any) -> None:
    plan = planned(users=[a_user(models=of_user)], keys=[a_key(user_id="u-1", models=of_key)])
    assert body(plan)["models"] == expected
    inside = planned(
        users=[a_user(models=of_user)], teams=[a_team()], keys=[a_key(user_id="u-1", models=of_key, team_id="t-1")]
    )
    assert body(inside).get("models", []) == of_key


def test_users_that_share_an_address_are_distinguished() -> None:
    users = [a_user(max_budget=1.0), a_user(user_id="u-2", max_budget=2.0)]
    assert list(planned(users=users).people) == ["ada@example.com-u-1", "ada@example.com-u-2"]


def test_a_key_of_a_team_that_is_gone_is_disabled() -> None:
    plan = planned(keys=[a_key(team_id="t-9")])
    assert body(plan)["disabled"] is True
    assert "team" not in body(plan)
    line = "changed   keys[web].team_id: there is no team t-9, so its limits are unknown: the key is disabled"
    assert line in lines(plan)


NO_MESSAGES = {"turn_off_message_logging": True}
AS_CALLBACK = {"logging": [{"callback_name": "langfuse", "callback_vars": {"turn_off_message_logging": "True"}}]}


@pytest.mark.parametrize(
    ("of_key", "of_team", "content"),
    [
        (NO_MESSAGES, {}, "metadata"),
        (AS_CALLBACK, {}, "metadata"),
        ({}, AS_CALLBACK, "metadata"),
        ({}, {}, None),
        ({"turn_off_message_logging": "false"}, NO_MESSAGES, None),
        ({"logging": "much"}, {"logging": [7, {"callback_vars": []}]}, None),
    ],
)
def test_a_key_whose_messages_are_not_logged_records_none(of_key: Any, of_team: Any, content: Any) -> None:
    plan = planned(teams=[a_team(metadata=of_team)], keys=[a_key(team_id="t-1", metadata=of_key)])
    assert body(plan).get("content") == content
    assert ("metadata.turn_off_message_logging: became `content: metadata`" in lines(plan)) == (content is not None)


def test_limits_of_tags_members_and_projects_have_a_line_each() -> None:
    plan = planned(
        end_users=[row("end_users", user_id="customer", budget_id="b")],
        tags=[row("tags", tag_name="cc", budget_id="b")],
        members=[row("members", user_id="ada", team_id="t-1", budget_id="b")],
        projects=[row("projects", project_id="p", budget_id="b")],
        model_groups=[row("model_groups", access_group_name="beta", budget_id="b")],
        old_keys=[row("old_keys", active_token_id=DIGEST, revoke_at=NOW + timedelta(days=1))],
    )
    found = [str(each).split(":")[0].removeprefix("left out  ") for each in plan.notes]
    assert found == [
        "end_users[customer]", "tags[cc]", "members[t-1/ada]", "projects[p]", "model_groups[beta]",
        "keys[abababab]",
    ]  # fmt: skip


def test_budgets_with_several_windows_carry_each_of_them() -> None:
    resets = "2026-12-05T00:00:00+00:00"
    windows = [{"budget_duration": "7d", "max_budget": 20.0, "reset_at": resets},
               {"budget_duration": "24h", "max_budget": 4.0, "reset_at": "2026-11-29T12:00:00+00:00"}]  # fmt: skip
    spent = [
        row(
            "windows",
            entity_type="Key",
            entity_id=DIGEST,
            window_duration="7d",
            window_start=datetime(2026, 11, 28),
            spend=7.5,
        ),
        row(
            "windows",
            entity_type="Key",
            entity_id=DIGEST,
            window_duration="24h",
            window_start=datetime(2026, 11, 1),
            spend=3.0,
        ),
    ]
    plan = planned(keys=[a_key(budget_limits=windows)], windows=spent)
    assert body(plan)["limits"] == {
        "usd_per_week": 20.0, "usd_per_day": 4.0,
        "carried": {"usd_per_week": {"amount": 7.5, "until": "2026-12-05T00:00:00Z"}},
    }  # fmt: skip
