"""Limits in gateway.yaml: what they become, and what is refused, with its path and its remedy."""

from __future__ import annotations

import pytest

from gateway.config.derive import directory_of
from gateway.config.loading import parse
from gateway.core.errors import ConfigError
from gateway.core.keys import KeyRecord, OrganizationRecord, PersonRecord, TeamRecord
from gateway.core.limits import Limit, limits_of

A, B = "a" * 64, "b" * 64
GOOD = f"""
upstreams:
  local: {{kind: vllm, base_url: "http://127.0.0.1:8001/v1"}}
models:
  chat: {{targets: [{{upstream: local, model: m}}]}}
organizations:
  acme: {{limits: {{usd_per_month: 1000, time_zone: Europe/Berlin}}}}
people:
  ann: {{limits: {{usd_per_month: 30}}}}
teams:
  search: {{organization: acme, limits: {{requests_per_minute: 60, concurrency: 8}}, models: [chat], tags: [cc-7]}}
  empty: {{}}
keys:
  - {{name: web, sha256: {A}, team: search, person: ann, expires: "2027-01-01T00:00:00Z",
     limits: {{tokens_per_day: 10000}}}}
"""


def mistakes(old: str, new: str) -> list[str]:
    assert old in GOOD
    with pytest.raises(ConfigError) as refused:
        parse(GOOD.replace(old, new), "f.yaml", {})
    return [mistake.removeprefix("f.yaml: ") for mistake in refused.value.mistakes]


def test_the_file_becomes_a_directory_of_records() -> None:
    directory = directory_of(parse(GOOD))
    assert directory.organizations == {
        "acme": OrganizationRecord("acme", {"usd_per_month": 1000, "time_zone": "Europe/Berlin"})
    }
    limits = {"requests_per_minute": 60, "concurrency": 8}
    search = TeamRecord("search", limits, "acme", ("chat",), ("cc-7",))
    assert directory.teams == {"search": search, "empty": TeamRecord("empty", {})}
    web = KeyRecord(
        "web", "web", ((A, None),), {"tokens_per_day": 10000}, team="search", expires=1798761600.0, person="ann"
    )
    assert directory.people == {"ann": PersonRecord("ann", {"usd_per_month": 30})}
    assert directory.keys == {"web": web}
    assert limits_of(search.limits) == (Limit("requests", 60, "minute"), Limit("concurrency", 8))


def test_keys_of_one_name_are_one_key_with_two_secrets() -> None:
    two = GOOD + f'  - {{name: old, sha256: "{B}"}}\n  - {{name: old, sha256: "{"c" * 64}"}}\n'
    assert directory_of(parse(two)).keys["old"].digests == ((B, None), ("c" * 64, None))


@pytest.mark.parametrize(
    ("old", "new", "mistake"),
    [
        (
            "requests_per_minute: 60",
            "requests_per_minute: 0",
            "teams.search.limits.requests_per_minute: expected more than 0; "
            "to refuse every call, set `disabled: true`, got 0",
        ),
        (
            "usd_per_month: 1000",
            "usd_per_month: -5",
            "organizations.acme.limits.usd_per_month: expected more than 0; "
            "to refuse every call, set `disabled: true`, got -5",
        ),
        (
            "usd_per_month: 1000",
            'usd_per_month: "1000"',
            "organizations.acme.limits.usd_per_month: expected a number, got '1000'",
        ),
        (
            "Europe/Berlin",
            "Europe/Berln",
            "organizations.acme.limits.time_zone: "
            "unknown time zone; did you mean \"Europe/Berlin\"?, got 'Europe/Berln'",
        ),
        ("team: search", "team: serach", 'keys[0].team: no team "serach"; did you mean "search"?'),
        ("team: search", "team: other", 'keys[0].team: no team "other"; add it to `teams`'),
        ("person: ann", "person: anna", 'keys[0].person: no person "anna"; did you mean "ann"?'),
        ("person: ann", "person: zoe", 'keys[0].person: no person "zoe"; add it to `people`'),
        (
            "usd_per_month: 30",
            "usd_per_month: 30, models: {chta: {usd_per_day: 1}}",
            'people.ann.limits.models: no model "chta"; did you mean "chat"?',
        ),
        (
            "organization: acme",
            "organization: other",
            'teams.search.organization: no organization "other"; add it to `organizations`',
        ),
        ("models: [chat]", "models: [chta]", 'teams.search.models[0]: no model "chta"; did you mean "chat"?'),
        (
            "requests_per_minute",
            "request_per_minute",
            'teams.search.limits.request_per_minute: unknown key; did you mean "requests_per_minute"?',
        ),
    ],
)
def test_a_mistake_is_named_with_its_path_and_its_remedy(old: str, new: str, mistake: str) -> None:
    assert mistakes(old, new) == [mistake]


def test_an_expiry_needs_its_offset_from_utc() -> None:
    (mistake,) = mistakes("2027-01-01T00:00:00Z", "2027-01-01T00:00:00")
    assert mistake.startswith("keys[0].expires: ")
    assert "timezone" in mistake


def test_a_key_twice_is_refused() -> None:
    again = f'  - {{name: other, sha256: "{A}"}}\n'
    with pytest.raises(ConfigError, match=r"keys\[1\].sha256: another key has this digest already"):
        parse(GOOD + again)
