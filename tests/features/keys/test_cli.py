"""`gateway keys`, `teams` and `organizations`, against a running console."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import typer
from fixtures.json_outputs import conforms
from pydantic import BaseModel

from gateway.console.client import AdminClient
from gateway.features.keys.cli import KEY, ORGANIZATION, TEAM, ManagedKind, limits_of_options, state_of, worded
from gateway.features.keys.operations import OPERATIONS
from gateway.features.keys.settings import KeySettings, OrganizationSettings, TeamSettings

Run = Callable[..., CompletedProcess[str]]


def made(managed: Run, *words: str) -> dict[str, Any]:
    finished = managed("keys", "create", *words, "--json")
    assert finished.returncode == 0, finished.stderr
    found: dict[str, Any] = json.loads(finished.stdout)
    return found


def test_a_key_is_made_and_its_secret_alone_is_the_result(managed: Run) -> None:
    finished = managed("keys", "create", "web", "--limit", "usd_per_month=50", "--limit", "time_zone=Europe/Berlin",
                       "--model", "chat", "--tag", "a", "--expires", "2030-01-01T00:00:00Z")  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.startswith("sk-assay-")
    assert len(finished.stdout.split()) == 1
    assert "its secret is shown only now" in finished.stderr
    shown = json.loads(managed("keys", "show", "web", "--json").stdout)
    assert shown["limits"] == {"usd_per_month": 50, "time_zone": "Europe/Berlin"}
    assert (shown["models"], shown["tags"], shown["expires"]) == (["chat"], ["a"], "2030-01-01T00:00:00.000+00:00")
    listed = managed("keys", "list")
    assert "usd_per_month 50, time_zone Europe/Berlin" in listed.stdout
    assert "sk-assay-" not in listed.stdout + managed("keys", "show", "web").stdout


def test_a_key_is_changed_rotated_and_revoked_by_its_name(managed: Run) -> None:
    key = made(managed, "app", "--limit", "usd_per_day=5", "--limit", "concurrency=2")
    changed = managed("keys", "change", "app", "--limit", "usd_per_day=", "--limit", "tokens_per_day=9", "--json")
    assert json.loads(changed.stdout)["limits"] == {"concurrency": 2, "tokens_per_day": 9}
    rotated = managed("keys", "rotate", "app", "--overlap", "60")
    assert rotated.stdout.startswith("sk-assay-")
    assert rotated.stdout.strip() != key["secret"]
    assert managed("keys", "disable", "app", "--end-streams").stdout == f"disabled key app ({key['id']})\n"
    assert json.loads(managed("keys", "show", key["id"], "--json").stdout)["end_streams"] is True
    assert managed("keys", "enable", "app").stdout == f"enabled key app ({key['id']})\n"
    assert managed("keys", "revoke", "app").stdout == f"revoked key app ({key['id']})\n"
    assert key["id"] not in managed("keys", "list", "--json").stdout
    everything = json.loads(managed("keys", "list", "--all", "--json").stdout)
    assert next(each for each in everything if each["id"] == key["id"])["deleted"] is not None


def test_a_mistake_is_reported_with_exit_code_1(managed: Run) -> None:
    for words, message in (
        (("create", "x", "--limit", "usd_per_month=0"), "limits.usd_per_month: expected more than 0"),
        (("create", "x", "--team", "nobody"), 'team: no team "nobody"'),
        (("show", "nobody"), 'there is no key "nobody" that the console manages'),
        (("revoke", "key_0"), 'there is no key "key_0"'),
    ):
        finished = managed("keys", *words)
        assert (finished.returncode, finished.stdout) == (1, "")
        assert message in finished.stderr
    usage = managed("keys", "create", "x", "--limit", "fifty")
    assert usage.returncode == 2
    assert "write usd_per_month=50" in usage.stderr


def test_teams_and_organizations_are_made_listed_changed_and_deleted(managed: Run) -> None:
    made = managed("organizations", "create", "acme", "--limit", "usd_per_month=5000")
    assert made.stdout == "made organization acme\n"
    made = managed("teams", "create", "search", "--organization", "acme", "--model", "chat", "--tag", "cc-7")
    assert made.stdout == "made team search\n"
    listed = managed("teams", "list", "--organization", "acme")
    assert listed.stdout.splitlines()[1].split() == ["search", "acme", "chat", "cc-7", "in", "force"]
    changed = managed("teams", "change", "search", "--limit", "requests_per_minute=60", "--json")
    assert json.loads(changed.stdout)["limits"] == {"requests_per_minute": 60}
    assert "requests_per_minute 60" in managed("teams", "show", "search").stdout
    assert managed("organizations", "change", "acme", "--limit", "concurrency=3").returncode == 0
    assert json.loads(managed("organizations", "show", "acme", "--json").stdout)["limits"]["concurrency"] == 3
    for kind, id in (("teams", "search"), ("organizations", "acme")):
        assert managed(kind, "disable", id).stdout == f"disabled {kind[:-1]} {id}\n"
        assert "disabled" in managed(kind, "list").stdout
        assert managed(kind, "enable", id).stdout == f"enabled {kind[:-1]} {id}\n"
    refused = managed("organizations", "delete", "acme")
    assert (refused.returncode, refused.stderr[:36]) == (1, 'organization "acme" has 1 teams in f')
    for kind, id in (("teams", "search"), ("organizations", "acme")):
        assert managed(kind, "delete", id).stdout == f"deleted {kind[:-1]} {id}\n"
        assert "deleted" in managed(kind, "list", "--all").stdout


def test_every_verb_prints_json_for_programs(managed: Run) -> None:
    def run(*words: str) -> str:
        finished = managed(*words, "--json")
        assert finished.returncode == 0, finished.stderr
        return finished.stdout

    conforms("organizations create", run("organizations", "create", "mill", "--limit", "usd_per_month=5"))
    conforms("organizations show", run("organizations", "show", "mill"))
    conforms("organizations change", run("organizations", "change", "mill", "--limit", "concurrency=3"))
    conforms("organizations disable", run("organizations", "disable", "mill"))
    conforms("organizations enable", run("organizations", "enable", "mill"))
    conforms("teams create", run("teams", "create", "grain", "--organization", "mill", "--model", "chat"))
    conforms("teams show", run("teams", "show", "grain"))
    conforms("teams change", run("teams", "change", "grain", "--tag", "x", "--limit", "usd_per_day=1"))
    conforms("teams disable", run("teams", "disable", "grain"))
    conforms("teams enable", run("teams", "enable", "grain"))
    words = ("--limit", "usd_per_day=5", "--expires", "2030-01-01T00:00:00Z", "--team", "grain")
    assert conforms("keys create", run("keys", "create", "miller", *words))["secret"].startswith("sk-assay-")
    conforms("keys change", run("keys", "change", "miller", "--tag", "b", "--limit", "usd_per_day="))
    assert conforms("keys rotate", run("keys", "rotate", "miller", "--overlap", "60"))["secret"].startswith("sk-assay-")
    assert len(conforms("keys show", run("keys", "show", "miller"))["secrets"]) == 2
    conforms("keys disable", run("keys", "disable", "miller"))
    conforms("keys enable", run("keys", "enable", "miller"))
    conforms("keys revoke", run("keys", "revoke", "miller"))
    conforms("teams delete", run("teams", "delete", "grain"))
    conforms("organizations delete", run("organizations", "delete", "mill"))
    assert "miller" in {each["name"] for each in conforms("keys list", run("keys", "list", "--all"))}
    assert "grain" in {each["id"] for each in conforms("teams list", run("teams", "list", "--all"))}
    assert "mill" in {each["id"] for each in conforms("organizations list", run("organizations", "list", "--all"))}


def test_a_caller_sees_and_rotates_its_own_key(managed: Run, console_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = managed("keys", "mine")
    assert (missing.returncode, missing.stderr[:24]) == (1, "no key: set GATEWAY_KEY ")
    first = made(managed, "ours", "--limit", "usd_per_month=5")["secret"]
    monkeypatch.setenv("GATEWAY_ADMIN_URL", console_url)
    monkeypatch.setenv("GATEWAY_KEY", first)
    shown = managed("keys", "mine")
    assert shown.stdout.startswith("key ours, team none\n")
    assert "usd_per_month" in shown.stdout
    [limit] = conforms("keys mine", managed("keys", "mine", "--json").stdout)["limits"]
    assert (limit["amount"], limit["remaining"]) == (5.0, 5.0)
    rotated = managed("keys", "mine", "--rotate")
    assert rotated.stdout.startswith("sk-assay-")
    assert "the other ends 2" in rotated.stderr
    monkeypatch.setenv("GATEWAY_KEY", rotated.stdout.strip())
    assert managed("keys", "mine").returncode == 0
    refused = managed("keys", "mine", "--rotate", "--json")
    assert (refused.returncode, "an earlier secret opens this key until" in refused.stderr) == (1, True)


def test_limits_are_numbers_texts_or_removed() -> None:
    options = ["usd_per_month=50.5", "requests_per_minute=60", "time_zone=Europe/Berlin", "concurrency="]
    assert limits_of_options(options) == {
        "usd_per_month": 50.5, "requests_per_minute": 60, "time_zone": "Europe/Berlin", "concurrency": None,
    }  # fmt: skip
    assert limits_of_options(None) == {}
    for wrong in ("fifty", "=5"):
        with pytest.raises(typer.BadParameter, match=f'"{wrong}" is not a limit'):
            limits_of_options([wrong])


def test_values_are_worded_for_people() -> None:
    values = [{"usd_per_day": 5.0, "concurrency": 2}, ["a", "b"], [{"ends": None}], True, False, None, "x"]
    assert [worded(each) for each in values] == [
        "usd_per_day 5, concurrency 2",
        "a, b",
        "ends None",
        "yes",
        "",
        "",
        "x",
    ]
    assert [state_of({"deleted": d, "disabled": o}) for d, o in ((None, False), (None, True), ("2026", True))] == [
        "in force", "disabled", "deleted",
    ]  # fmt: skip


def test_without_a_token_or_a_console_the_error_has_a_remedy(gateway: Run, tmp_path: Path) -> None:
    finished = gateway("keys", "list")
    assert finished.returncode == 1
    assert finished.stderr.startswith("no admin token: set GATEWAY_ADMIN_TOKEN")
    (tmp_path / ".gateway").mkdir(exist_ok=True)
    (tmp_path / ".gateway" / "admin").write_text("http://127.0.0.1:1 token")
    finished = gateway("teams", "list")
    assert finished.returncode == 1
    assert finished.stderr.startswith("the console at http://127.0.0.1:1 cannot be reached: ")
    assert "token" not in finished.stderr.replace("$GATEWAY_ADMIN", "")


@pytest.mark.parametrize(
    ("kind", "settings", "elsewhere"),
    [
        (KEY, KeySettings, {"name", "sample", "disabled", "end_streams"}),
        (TEAM, TeamSettings, {"disabled"}),
        (ORGANIZATION, OrganizationSettings, {"disabled"}),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_options_and_verbs_are_those_of_the_admin_api(
    kind: ManagedKind, settings: type[BaseModel], elsewhere: set[str]
) -> None:
    """elsewhere: settings without an option of `create`: they are an argument, other verbs or options, or rules."""
    named = {field.alias or name for name, field in settings.model_fields.items()}
    assert {f.name.removesuffix("_") for f in fields(kind.settings)} == named - elsewhere
    paths = {(o.method, o.path): o for o in OPERATIONS.operations}
    collection = f"/admin/v1/{kind.name}s"
    offered = {("POST", collection), ("GET", collection)}
    offered |= {(method, f"{collection}/{{id}}") for method in ("GET", "PATCH", "DELETE")}
    offered |= {("POST", f"{collection}/{{id}}/rotate")} if "rotate" in kind.verbs else set()
    assert offered == {key for key in paths if key[1].startswith(collection)}
    assert {f.name for f in fields(kind.listed)} <= {q.name for q in paths["GET", collection].query}


def test_an_id_is_quoted_in_a_path() -> None:
    client = AdminClient("http://127.0.0.1:1", "t")
    assert TEAM.path(client, "a/b c") == "/teams/a%2Fb%20c"
    assert KEY.path(client, "key_1", "rotate") == "/keys/key_1/rotate"
