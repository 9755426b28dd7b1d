"""`gateway keys`, against a running console."""

from __future__ import annotations

import json
from collections.abc import Callable
from subprocess import CompletedProcess
from typing import Any

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


def test_a_key_is_changed_rotated_switched_off_and_revoked_by_its_name(managed: Run) -> None:
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


def test_a_mistake_is_said_and_the_exit_code_is_1(managed: Run) -> None:
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
