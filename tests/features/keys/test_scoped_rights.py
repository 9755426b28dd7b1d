"""Changes that administrators of a team or an organization may make: within what is above, and nowhere else."""

from __future__ import annotations

from typing import Any

import pytest
from fixtures.two_organizations import MINE, OTHERS, OURS, SIBLING, THEIRS, TwoOrganizations, two_organizations

from gateway.config.privacy import RedactionConfig
from gateway.console.access import ActorScope
from gateway.console.errors import Conflict
from gateway.core.keys import KeyRecord
from gateway.features.keys.scoped_rights import ScopedChange
from gateway.store.engine import Transaction


@pytest.fixture
async def world(pages: Any) -> TwoOrganizations:
    """Two organizations, and people with limited rights in one of them."""
    return await two_organizations(pages)


async def test_a_team_admin_makes_changes_rotates_and_revokes_its_keys(world: TwoOrganizations) -> None:
    api = await world.api("team")
    made = await api.post("/admin/v1/keys", json={"name": "ci", "limits": {"usd_per_month": 500}, "models": ["chat"]})
    assert made.status_code == 201, made.text
    assert made.json()["team"] == MINE, "left out, it is the actor's own team"
    path = f"/admin/v1/keys/{made.json()['id']}"
    changed = await api.patch(path, json={"limits": {"usd_per_month": 20}, "disabled": True})
    assert changed.json()["limits"]["usd_per_month"] == 20
    assert (await api.post(f"{path}/rotate", json={})).json()["secret"].startswith("sk-assay-")
    assert (await api.delete(path)).status_code == 200
    audit = (await api.get(f"/admin/v1/audit?subject={made.json()['id']}")).json()["data"]
    assert [(row["action"], row["role"]) for row in audit] == [
        (action, f"operator of team {MINE}") for action in ("delete", "rotate", "change", "create")
    ]


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"limits": {"usd_per_month": 501}}, f"limits.usd_per_month: 501 is more than the 500 of the team {MINE}"),
    ({"limits": {"usd_per_day": 501}}, "limits.usd_per_day: 501 is more than the 500"),
    ({"limits": {"requests_per_minute": 601}}, "limits.requests_per_minute: 601 is more than the 600"),
    ({"limits": {"models": {"chat": {"usd_per_week": 501}}}}, "limits.models.chat.usd_per_week: 501 is more"),
    ({"limits": {"per_user": {"usd_per_month": 501}}}, "limits.per_user.usd_per_month: 501 is more"),
    ({"models": ["other"]}, f'models: the team {MINE} may not use "other"; it has chat'),
    ({"limits": {"models": {"other": {"usd_per_day": 1}}}}, f'models: the team {MINE} may not use "other"'),
    ({"team": SIBLING}, "these rights are limited to the team"),
    ({"team": THEIRS}, "these rights are limited to the team"),
    ({"team": "nobody"}, "these rights are limited to the team"),
    ({"allow": ["target"]}, "allow: target needs rights that are not limited"),
    ({"allow": ["passthrough"]}, "allow: passthrough needs rights that are not limited"),
    ({"person": "ann"}, "person: another person's limits need rights that are not limited"),
    ({"class": "interactive"}, "class: interactive goes before others"),
    ({"sha256": "f" * 64}, "make a key from the SHA-256 of its secret needs the role owner"),
]


async def test_a_team_admin_gives_a_key_no_more_than_its_team_has(world: TwoOrganizations) -> None:
    api = await world.api("team")
    for body, message in REFUSED:
        answers = [await api.post("/admin/v1/keys", json={"name": "ci", **body})]
        if "sha256" not in body:
            answers.append(await api.patch(f"/admin/v1/keys/{world.keys[MINE]}", json=body))
        for refused in answers:
            assert refused.status_code in (400, 403), refused.text
            assert message in refused.json()["error"]["message"]


async def test_smaller_amounts_in_other_windows_than_the_teams_pass(world: TwoOrganizations) -> None:
    api = await world.api("team")
    limits = {"usd_per_day": 20, "tokens_per_month": 10**9, "requests_per_hour": 5_000, "concurrency": 3}
    answer = await api.post("/admin/v1/keys", json={"name": "ci", "limits": limits, "class": "batch"})
    assert answer.status_code == 201, answer.text


async def test_a_team_admin_changes_neither_team_nor_organization(world: TwoOrganizations) -> None:
    api = await world.api("team")
    for path in (f"teams/{MINE}", f"teams/{SIBLING}", "teams/nobody", f"organizations/{OURS}", "organizations/nobody"):
        for body in ({"limits": {"usd_per_month": 900}}, {"disabled": False}):
            refused = await api.patch(f"/admin/v1/{path}", json=body)
            assert refused.status_code == 403, path
    assert (await api.post("/admin/v1/teams", json={"id": "new"})).status_code == 403


async def test_content_is_recorded_no_more_fully_than_of_others(world: TwoOrganizations) -> None:
    config = world.console.config[-1]
    redacted = config.model_copy(update={"redaction": RedactionConfig(default="redacted")})
    world.console.config.append(redacted)
    api, path = await world.api("team"), f"/admin/v1/keys/{world.keys[MINE]}"
    assert (await api.patch(path, json={"content": "metadata"})).status_code == 200
    refused = await api.patch(path, json={"content": "full"})
    assert refused.status_code == 403
    assert "content: full is more than what is recorded of others (redacted)" in refused.text
    assert (await (await world.api("everybody")).patch(path, json={"content": "full"})).status_code == 200
    assert (await api.patch(path, json={"content": "full"})).status_code == 200, "as it was"


async def test_a_name_that_others_had_is_not_given_again(world: TwoOrganizations) -> None:
    """The stored data of a caller, such as its responses, belongs to its name."""
    api, everybody = await world.api("team"), await world.api("everybody")
    assert (await everybody.delete(f"/admin/v1/keys/{world.keys[THEIRS]}")).status_code == 200
    for name in (f"{THEIRS}-web", f"{SIBLING}-web", f"{THEIRS}-filed"):
        refused = await api.post("/admin/v1/keys", json={"name": name})
        assert refused.status_code == 409
        assert refused.json()["error"]["message"] == (
            f'name: "{name}" belongs to somebody else, or did; choose another name'
        )
        assert (await api.patch(f"/admin/v1/keys/{world.keys[MINE]}", json={"name": name})).status_code == 409


async def test_a_key_with_passthrough_keeps_its_secret(world: TwoOrganizations) -> None:
    api, path = await world.api("team"), f"/admin/v1/keys/{world.keys[MINE]}"
    assert (await (await world.api("everybody")).patch(path, json={"allow": ["passthrough"]})).status_code == 200
    assert (await api.post(f"{path}/rotate", json={})).status_code == 403
    assert (await (await world.api("organization")).post(f"{path}/rotate", json={})).status_code == 403
    assert (await api.patch(path, json={"disabled": True})).status_code == 200
    assert (await api.patch(path, json={"disabled": False})).status_code == 403


async def test_an_organization_admin_makes_teams_within_its_limits(world: TwoOrganizations) -> None:
    api = await world.api("organization")
    made = await api.post("/admin/v1/teams", json={"id": "speech", "limits": {"usd_per_month": 900}})
    assert made.status_code == 201, made.text
    assert made.json()["organization"] == OURS
    for body, message in (
        ({"limits": {"usd_per_month": 901}}, f"901 is more than the 900 of the organization {OURS}"),
        ({"organization": OTHERS}, "these rights are limited to the organization"),
        ({"organization": None}, "these rights are limited to the organization"),
    ):
        refused = await api.patch("/admin/v1/teams/speech", json=body)
        assert refused.status_code in (400, 403)
        assert message in refused.json()["error"]["message"]
    assert (await api.post("/admin/v1/keys", json={"name": "ci", "team": "speech"})).status_code == 201
    assert (await api.patch(f"/admin/v1/organizations/{OURS}", json={"disabled": True})).status_code == 403
    key = f"/admin/v1/keys/{world.keys[SIBLING]}"
    assert (await api.patch(key, json={"team": "speech"})).json()["team"] == "speech"
    assert (await api.patch(key, json={"team": THEIRS})).status_code == 403
    assert (await api.patch(key, json={"team": None})).status_code == 403


async def test_a_team_id_that_others_used_is_not_given_again(world: TwoOrganizations) -> None:
    everybody, api = await world.api("everybody"), await world.api("organization")
    assert (await everybody.post("/admin/v1/teams", json={"id": "gone", "organization": OTHERS})).status_code == 201
    for deleted in (False, True):
        if deleted:
            assert (await everybody.delete("/admin/v1/teams/gone")).status_code == 200
        refused = await api.post("/admin/v1/teams", json={"id": "gone"})
        assert refused.status_code == 409
        assert 'id: "gone" belongs to somebody else, or did' in refused.json()["error"]["message"]
    assert (await api.post("/admin/v1/teams", json={"id": THEIRS})).status_code == 409


async def test_a_key_that_leaves_a_team_leaves_its_admin(world: TwoOrganizations) -> None:
    """The administrator of the new team sees the key, and nothing of its past."""
    everybody, api = await world.api("everybody"), await world.api("team")
    path = f"/admin/v1/keys/{world.keys[THEIRS]}"
    assert (await api.get(path)).status_code == 404
    moved = await everybody.patch(path, json={"team": MINE, "name": "moved", "tags": [], "limits": None})
    assert moved.status_code == 200, moved.text
    assert (await api.get(path)).json()["name"] == "moved"
    assert THEIRS not in (await api.get(f"/admin/v1/audit?subject={world.keys[THEIRS]}")).text
    assert THEIRS not in (await (await world.browser("team")).get("/console/calls")).text
    assert (await everybody.patch(path, json={"team": SIBLING})).status_code == 200
    assert (await api.get(path)).status_code == 404


async def test_the_number_of_a_teams_keys_is_bounded(world: TwoOrganizations) -> None:
    """Every worker of every gateway holds all keys."""
    new = KeyRecord(id="k", name="ci", digests=(), limits={}, team=MINE)

    def checking(connection: Transaction, most: int) -> None:
        ScopedChange(connection, world.console.config[-1], ActorScope("team", MINE), most).check(None, new)

    await world.console.store.run(lambda connection: checking(connection, 2))
    with pytest.raises(Conflict, match="has 1 keys in force already"):
        await world.console.store.run(lambda connection: checking(connection, 1))


async def test_rights_end_and_change_with_the_config(world: TwoOrganizations) -> None:
    """A token's session has the scope that the token has now."""
    browser = await world.browser("team")
    assert f"{MINE} question" in (await browser.get("/console/calls")).text
    config = world.console.config[-1]
    assert config.admin is not None
    tokens = tuple(
        token.model_copy(update={"team": SIBLING}) if token.team == MINE else token for token in config.admin.tokens
    )
    admin = config.admin.model_copy(update={"tokens": tokens})
    world.console.config.append(config.model_copy(update={"admin": admin}))
    page = (await browser.get("/console/calls")).text
    assert f"{SIBLING} question" in page
    assert MINE not in page
    admin = config.admin.model_copy(update={"tokens": config.admin.tokens[-1:]})
    world.console.config.append(config.model_copy(update={"admin": admin}))
    assert (await browser.get("/console/calls")).status_code == 303
