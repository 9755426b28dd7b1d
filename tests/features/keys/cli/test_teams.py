"""`gateway teams` and `gateway organizations`, against a running console."""

from __future__ import annotations

import json
from collections.abc import Callable
from subprocess import CompletedProcess

Run = Callable[..., CompletedProcess[str]]


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
