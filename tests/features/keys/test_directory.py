"""The console's operations on keys, teams and organizations, in a real store."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest

from gateway.config.jwt import JwtIssuer
from gateway.config.limits import Person, Team
from gateway.console.access import Actor
from gateway.console.admin import Admin
from gateway.console.errors import AdminError, Conflict, InvalidBody, NotPermitted, NotThere
from gateway.core.keys import KeyRecord
from gateway.features.keys import directory
from gateway.store.directory import DirectoryPage, list_rows

OTTO, VERA = Actor("otto", "operator"), Actor("vera", "viewer")


async def records(corridor: Any) -> dict[str, Any]:
    changes = await corridor.directory.read(None, await corridor.directory.head())
    return dict(changes.records)


async def test_a_key_is_shown_once_and_stored_as_a_digest(admin, ada, corridor, tmp_path):
    made = await directory.create_record(
        admin, ada, "key", {"name": "web", "limits": {"usd_per_day": 5}, "models": ["chat"]}
    )
    assert made.secret is not None
    assert made.secret.startswith("sk-assay-")
    assert len(made.secret) >= 9 + 43
    record = made.row.record
    assert isinstance(record, KeyRecord)
    assert record.digests == ((sha256(made.secret.encode()).hexdigest(), None),)
    assert (record.limits, record.models) == ({"usd_per_day": 5.0}, ("chat",))
    assert (await records(corridor))[f"key:{record.id}"] == record
    assert made.secret not in repr(made)
    stored = b"".join(path.read_bytes() for path in tmp_path.glob("gateway.db*"))
    assert made.secret.encode() not in stored
    assert made.secret != (await directory.create_record(admin, ada, "key", {"name": "other"})).secret


async def test_a_rotated_key_has_two_secrets_until_the_overlap_ends(admin, ada):
    now = [1e9]
    admin = replace(admin, clock=lambda: now[0])
    made = await directory.create_record(admin, ada, "key", {"name": "web"})
    id = made.row.record.id
    rotated = await directory.rotate_key(admin, OTTO, id, {"overlap_s": 60})
    first, second = (sha256(each.secret.encode()).hexdigest() for each in (made, rotated))
    assert rotated.row.record.digests == ((second, None), (first, 1e9 + 60))
    now[0] += 30
    again = await directory.rotate_key(admin, OTTO, id, {})
    third = sha256(again.secret.encode()).hexdigest()
    assert again.row.record.digests == ((third, None), (second, now[0] + 86_400), (first, 1e9 + 60))
    at_once = await directory.rotate_key(admin, OTTO, id, {"overlap_s": 0})
    assert len(at_once.row.record.digests) == 1
    with pytest.raises(InvalidBody, match="overlap_s: "):
        await directory.rotate_key(admin, OTTO, id, {"overlap_s": -1})


async def test_a_key_that_rotates_often_keeps_few_secrets(admin, ada):
    made = await directory.create_record(admin, ada, "key", {"name": "web"})
    for _ in range(12):
        rotated = await directory.rotate_key(admin, ada, made.row.record.id, {})
    assert len(rotated.row.record.digests) == 8


async def test_a_revoked_key_stays_refused_and_its_name_is_free(admin, ada, corridor):
    made = await directory.create_record(admin, ada, "key", {"name": "web"})
    id = made.row.record.id
    gone = await directory.revoke_key(admin, OTTO, id, end_streams=True)
    assert gone.view()["deleted"] is not None
    published = (await records(corridor))[f"key:{id}"]
    assert (published.disabled, published.end_streams) == (True, True)
    for change in (
        directory.change_record(admin, ada, "key", id, {"disabled": False}),
        directory.rotate_key(admin, ada, id, {}),
    ):
        with pytest.raises(NotThere, match="has been deleted"):
            await change
    again = await directory.create_record(admin, ada, "key", {"name": "web"})
    assert again.row.record.id != id
    assert (await directory.get_record(admin, "key", id)).deleted is not None


async def test_a_change_keeps_the_secrets_and_is_audited(admin, ada):
    made = await directory.create_record(
        admin, ada, "key", {"name": "web", "limits": {"usd_per_day": 5, "concurrency": 2}}
    )
    id = made.row.record.id
    changed = await directory.change_record(admin, OTTO, "key", id, {"limits": {"usd_per_day": None}, "disabled": True})
    assert changed.row.record.digests == made.row.record.digests
    assert (changed.row.record.limits, changed.row.record.disabled) == ({"concurrency": 2}, True)
    assert changed.secret is None
    last, first = await directory.read_audit(admin, None, 10, id)
    assert (first.action, first.actor, first.role, first.before) == ("create", "ada", "owner", None)
    assert (last.action, last.actor, last.role, last.kind) == ("change", "otto", "operator", "key")
    assert last.before["limits"] == {"usd_per_day": 5.0, "concurrency": 2}
    assert last.after["limits"] == {"concurrency": 2}
    assert made.row.record.digests[0][0] not in repr((last, first))
    assert made.secret not in repr((last, first))


async def test_teams_and_organizations_hold_together(admin, ada):
    await directory.create_record(admin, ada, "organization", {"id": "acme", "limits": {"usd_per_month": 100}})
    await directory.create_record(admin, ada, "team", {"id": "search", "organization": "acme", "models": ["chat"]})
    key = await directory.create_record(admin, OTTO, "key", {"name": "web", "team": "search"})
    for kind, id, message in (
        ("organization", "acme", 'organization "acme" has 1 teams in force'),
        ("team", "search", 'team "search" has 1 keys in force'),
    ):
        with pytest.raises(Conflict, match=message):
            await directory.delete_record(admin, ada, kind, id)
    await directory.revoke_key(admin, ada, key.row.record.id, end_streams=None)
    await directory.delete_record(admin, ada, "team", "search")
    await directory.delete_record(admin, ada, "organization", "acme")
    with pytest.raises(InvalidBody, match='team: no team "search"; make it first: POST /admin/v1/teams'):
        await directory.create_record(admin, ada, "key", {"name": "app", "team": "search"})
    again = await directory.create_record(admin, ada, "team", {"id": "search"})
    assert (again.row.deleted, again.row.record.models) == (None, None)


WRONG: list[tuple[dict[str, Any], type[AdminError], str]] = [
    ({"name": "web", "team": "serach"}, InvalidBody, 'team: no team "serach"; did you mean "search"?'),
    ({"name": "web", "models": ["chta", "chat"]}, InvalidBody, 'models[0]: no model "chta"; did you mean "chat"?'),
    ({"name": "web", "expires": "2001-01-01T00:00:00Z"}, InvalidBody, "expires: this time has passed"),
    ({"name": "taken"}, Conflict, 'has the name "taken" already; choose another'),
    ({"name": "static"}, Conflict, 'name: there is a key "static" in gateway.yaml; choose another name'),
    ({"name": "evals"}, Conflict, 'name: there is a key "evals" of the gateway itself'),
    ({}, InvalidBody, "name: missing; it is required"),
]


@pytest.mark.parametrize(("body", "kind", "message"), WRONG, ids=[case[2] for case in WRONG])
async def test_a_mistake_changes_nothing_and_names_its_remedy(admin, ada, body, kind, message):
    await directory.create_record(admin, ada, "team", {"id": "search"})
    await directory.create_record(admin, ada, "key", {"name": "taken"})
    with pytest.raises(kind) as refused:
        await directory.create_record(admin, ada, "key", body)
    assert message in refused.value.message
    assert len(await admin.store.read(lambda c: list_rows(c, "key", DirectoryPage()))) == 1
    assert len(await directory.read_audit(admin, None, 10, None)) == 2


async def test_a_key_may_use_a_pattern_or_a_name_behind_one(admin, ada):
    config = admin.config()
    models = config.models | {"lab/*": config.models["chat"]}
    wide = replace(admin, config=lambda: config.model_copy(update={"models": models}))
    made = await directory.create_record(wide, ada, "key", {"name": "web", "models": ["lab/*", "lab/new"]})
    assert made.row.record.models == ("lab/*", "lab/new")
    with pytest.raises(InvalidBody, match='no model "lab"'):
        await directory.create_record(wide, ada, "key", {"name": "other", "models": ["lab"]})


async def test_keys_of_gateway_yaml_are_changed_there(admin, ada):
    for attempt in (
        directory.create_record(admin, ada, "team", {"id": "filed"}),
        directory.change_record(admin, ada, "team", "filed", {"disabled": True}),
        directory.get_record(admin, "key", "static"),
        directory.revoke_key(admin, ada, "static", end_streams=None),
    ):
        with pytest.raises(Conflict, match=r"gateway.yaml"):
            await attempt
    key = await directory.create_record(admin, ada, "key", {"name": "web", "team": "filed"})
    assert key.row.record.team == "filed"
    await directory.create_record(admin, ada, "organization", {"id": "acme"})
    with pytest.raises(Conflict, match="exists already"):
        await directory.create_record(admin, ada, "organization", {"id": "acme"})
    with pytest.raises(NotThere, match='there is no team "nobody"'):
        await directory.change_record(admin, ada, "team", "nobody", {"disabled": True})


async def test_unchanged_settings_are_not_checked_again(admin, ada):
    now = [1e9]
    admin = replace(admin, clock=lambda: now[0])
    made = await directory.create_record(admin, ada, "key", {"name": "web", "expires": "2001-09-09T02:00:00Z"})
    now[0] += 10_000
    changed = await directory.change_record(admin, ada, "key", made.row.record.id, {"tags": ["old"]})
    assert changed.row.record.tags == ("old",)


async def test_each_role_does_its_own(admin, ada):
    body = {"id": "search"}
    for refused in (
        directory.create_record(admin, OTTO, "team", body),
        directory.create_record(admin, OTTO, "organization", body),
        directory.create_record(admin, VERA, "key", {"name": "web"}),
        directory.create_record(admin, OTTO, "key", {"name": "web", "allow": ["passthrough"]}),
    ):
        with pytest.raises(NotPermitted):
            await refused
    await directory.create_record(admin, ada, "team", body)
    made = await directory.create_record(admin, ada, "key", {"name": "web", "allow": ["passthrough"]})
    id = made.row.record.id
    off = await directory.change_record(admin, OTTO, "team", "search", {"disabled": True})
    assert off.row.record.disabled, "the kill switch is an operator's, too"
    kept = await directory.change_record(admin, OTTO, "key", id, {"tags": ["a"]})
    assert kept.row.record.allow == ("passthrough",)
    for refused in (
        directory.change_record(admin, OTTO, "team", "search", {"disabled": False, "limits": {"usd_per_day": 9}}),
        directory.delete_record(admin, OTTO, "team", "search"),
        directory.change_record(admin, VERA, "key", id, {"disabled": True}),
        directory.rotate_key(admin, VERA, id, {}),
        directory.revoke_key(admin, VERA, id, end_streams=None),
    ):
        with pytest.raises(NotPermitted):
            await refused


async def test_only_an_owner_widens_a_key_with_passthrough(admin, ada):
    """An operator who rotated such a key would hold a secret that reaches all that the upstream's credential does."""
    strict = {"allow": ["passthrough"], "networks": ["10.0.0.0/8"], "models": ["chat"], "limits": {"usd_per_day": 1}}
    made = await directory.create_record(admin, ada, "key", {"name": "web", **strict})
    id = made.row.record.id
    with pytest.raises(NotPermitted, match="rotate a key that may use `passthrough`"):
        await directory.rotate_key(admin, OTTO, id, {"overlap_s": 0})
    for wider in ({"networks": None}, {"models": None}, {"limits": None}, {"limits": {"usd_per_day": 9}}):
        with pytest.raises(NotPermitted, match=f"widen {next(iter(wider))} of a key that may use `passthrough`"):
            await directory.change_record(admin, OTTO, "key", id, wider)
    kept = (await directory.get_record(admin, "key", id)).record
    assert kept == made.row.record
    off = await directory.change_record(admin, OTTO, "key", id, {"disabled": True, "limits": {"usd_per_day": 0.5}})
    assert off.row.record.disabled
    with pytest.raises(NotPermitted, match="widen disabled"):
        await directory.change_record(admin, OTTO, "key", id, {"disabled": False})
    assert (await directory.rotate_key(admin, ada, id, {})).secret
    plain = await directory.create_record(admin, OTTO, "key", {"name": "plain"})
    assert (await directory.rotate_key(admin, OTTO, plain.row.record.id, {})).secret


async def test_changes_at_the_same_time_are_all_made(admin: Admin, ada: Actor, corridor: Any):
    made = await asyncio.gather(*(directory.create_record(admin, ada, "key", {"name": f"k{n}"}) for n in range(8)))
    twice = await asyncio.gather(
        *(directory.create_record(admin, ada, "key", {"name": "same"}) for _ in range(4)), return_exceptions=True
    )
    assert sorted(type(each).__name__ for each in twice) == ["Changed", "Conflict", "Conflict", "Conflict"]
    found = await records(corridor)
    assert {f"key:{each.row.record.id}" for each in made} < set(found)
    assert len(found) == 9


async def test_on_postgresql_it_is_the_same(opened, admin_of, corridor, ada, postgres_url):
    admin = await admin_of(await opened(postgres_url))
    await directory.create_record(admin, ada, "team", {"id": "search", "limits": {"usd_per_month": 5}})
    made = await asyncio.gather(
        *(directory.create_record(admin, ada, "key", {"name": f"k{n}", "team": "search"}) for n in range(4))
    )
    await directory.rotate_key(admin, OTTO, made[0].row.record.id, {"overlap_s": 60})
    await directory.revoke_key(admin, OTTO, made[1].row.record.id, end_streams=True)
    with pytest.raises(Conflict, match='has the name "k2" already'):
        await directory.create_record(admin, ada, "key", {"name": "k2"})
    found = await records(corridor)
    assert len(found) == 5
    assert [found[f"key:{each.row.record.id}"].disabled for each in made] == [False, True, False, False]
    actions = [row.action for row in await directory.read_audit(admin, None, 10, None)]
    assert sorted(actions) == ["create"] * 5 + ["delete", "rotate"]


@pytest.mark.parametrize(
    ("team", "bound"),
    [
        ({"limits": {"usd_per_day": 1}}, "limits of the team"),
        ({"models": ["chat"]}, "models of the team"),
        ({"networks": ["10.0.0.0/8"]}, "networks of the team"),
        ({"organization": "acme"}, "limits of the organization"),
    ],
)
async def test_only_an_owner_takes_a_key_out_of_bounds(admin, ada, team, bound):
    """An operator who took a key out of its team would lift limits that only an owner may change."""
    await directory.create_record(admin, ada, "organization", {"id": "acme", "limits": {"usd_per_month": 9}})
    await directory.create_record(admin, ada, "team", {"id": "capped", **team})
    await directory.create_record(admin, ada, "team", {"id": "open"})
    id = (await directory.create_record(admin, OTTO, "key", {"name": "web", "team": "capped"})).row.record.id
    for leaving in ({"team": None}, {"team": "open"}, {"team": None, "limits": {"usd_per_day": 0.1}}):
        with pytest.raises(NotPermitted, match=f"otto has the role operator; .*{bound}"):
            await directory.change_record(admin, OTTO, "key", id, leaving)
    same = await directory.change_record(admin, OTTO, "key", id, {"team": "capped", "tags": ["a"]})
    assert same.row.record.team == "capped"
    assert (await directory.change_record(admin, ada, "key", id, {"team": "open"})).row.record.team == "open"
    back = await directory.change_record(admin, OTTO, "key", id, {"team": "capped"})
    assert back.row.record.team == "capped", "a team without bounds may be left"


async def test_a_team_of_the_file_is_not_left_either(admin, ada):
    capped = admin.config().model_copy(update={"teams": {"filed": Team.model_validate({"limits": {"usd_per_day": 1}})}})
    admin = replace(admin, config=lambda: capped)
    id = (await directory.create_record(admin, OTTO, "key", {"name": "web", "team": "filed"})).row.record.id
    with pytest.raises(NotPermitted, match="limits of the team filed"):
        await directory.change_record(admin, OTTO, "key", id, {"team": None})


async def test_a_key_names_a_person_of_the_file(admin, ada):
    """An operator gives a key to a person, and takes it from one without limits; only an owner lifts a budget."""
    people = {"ann": Person.model_validate({"limits": {"usd_per_day": 1}}), "bob": Person()}
    filed = admin.config().model_copy(update={"people": people})
    admin = replace(admin, config=lambda: filed)
    with pytest.raises(InvalidBody, match='person: no person "anne"; did you mean "ann"'):
        await directory.create_record(admin, OTTO, "key", {"name": "web", "person": "anne"})
    with pytest.raises(InvalidBody, match=r'person: no person "zoe"; add it to `people` of gateway\.yaml'):
        await directory.create_record(admin, OTTO, "key", {"name": "web", "person": "zoe"})
    made = (await directory.create_record(admin, OTTO, "key", {"name": "web", "person": "bob"})).row.record
    given = (await directory.change_record(admin, OTTO, "key", made.id, {"person": "ann"})).row.record
    assert (made.person, given.person) == ("bob", "ann")
    for leaving in ({"person": None}, {"person": "bob"}):
        with pytest.raises(NotPermitted, match="take a key from the limits of the person ann"):
            await directory.change_record(admin, OTTO, "key", made.id, leaving)
    assert (await directory.change_record(admin, ada, "key", made.id, {"person": None})).row.record.person is None


async def test_teams_of_one_organization_share_its_limits(admin, ada):
    await directory.create_record(admin, ada, "organization", {"id": "acme", "limits": {"usd_per_month": 9}})
    for team in ("search", "ads"):
        await directory.create_record(admin, ada, "team", {"id": team, "organization": "acme"})
    id = (await directory.create_record(admin, OTTO, "key", {"name": "web", "team": "search"})).row.record.id
    moved = await directory.change_record(admin, OTTO, "key", id, {"team": "ads"})
    assert moved.row.record.team == "ads"


async def test_a_key_does_not_take_the_name_of_a_tokens_caller(admin, ada):
    """Everything that is stored of `sso:alice` is hers: answers, conversations, feedback. An operator names keys."""
    issuer = {"issuer": "https://sso.example", "audience": ["gateway"], "callers": [{"claims": {"sub": "alice"}}]}
    by_token = admin.config().model_copy(update={"jwt": {"sso": JwtIssuer.model_validate(issuer)}})
    early = await directory.create_record(admin, OTTO, "key", {"name": "sso:early"})
    admin = replace(admin, config=lambda: by_token)
    for name in ("sso:alice", "jwt:sso:alice"):
        with pytest.raises(
            Conflict, match=r'name: callers with tokens have names that begin with "(sso|jwt):"; choose'
        ):
            await directory.create_record(admin, OTTO, "key", {"name": name})
        with pytest.raises(Conflict, match="name: callers with tokens"):
            await directory.change_record(admin, ada, "key", early.row.record.id, {"name": name})
    kept = await directory.change_record(admin, OTTO, "key", early.row.record.id, {"tags": ["a"]})
    assert kept.row.record.name == "sso:early", "a name that was there before the issuer stays"
    assert (await directory.create_record(admin, OTTO, "key", {"name": "sso-alice"})).secret
