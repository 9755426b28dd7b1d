"""Keys, teams and organizations in requests and answers, and what a change widens."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.console.errors import InvalidBody
from gateway.core.keys import KeyRecord, record_from_json, record_to_json
from gateway.features.keys.settings import (
    KeySettings,
    NewTeam,
    OrganizationSettings,
    TeamSettings,
    checked,
    moment,
    patched,
    record_of,
    settings_of,
    view_of,
    widened,
)
from gateway.store.directory import DirectoryRow

DIGESTS = (("d" * 64, None), ("e" * 64, 1e9))
FULL: dict[str, Any] = {
    "name": "web", "team": "search", "person": "ann", "limits": {"usd_per_month": 5.5, "time_zone": "Europe/Berlin"},
    "models": ["chat"], "allow": ["sample"], "sample": "never", "content": "metadata", "tags": ["a"],
    "expires": "2030-01-01T00:00:00.000+00:00", "disabled": True, "end_streams": True,
    "networks": ["10.0.0.0/8"], "class": "batch",
    "paths": ["/v1/files*"],
}  # fmt: skip


def test_settings_become_a_record_and_the_record_the_same_settings() -> None:
    record = record_of("key_1", checked(KeySettings, FULL), DIGESTS)
    assert record_from_json(record_to_json(record)) == record, "a gateway can read it"
    assert settings_of(record) == FULL
    team: dict[str, Any] = {"organization": "acme", "limits": {"concurrency": 3}, "models": None, "tags": ["t"]}
    team |= {"disabled": False, "networks": ["10.0.0.0/8", "2001:db8::/32"]}
    assert settings_of(record_of("t", checked(TeamSettings, team))) == team
    of_organization = {"limits": {}, "disabled": True}
    assert settings_of(record_of("o", checked(OrganizationSettings, of_organization))) == of_organization


def test_a_view_has_no_digest() -> None:
    row = DirectoryRow(record_of("key_1", checked(KeySettings, FULL), DIGESTS), 0.0, 1.5, 7)
    view = view_of(row)
    assert "d" * 64 not in repr(view)
    assert view["secrets"] == [{"ends": None}, {"ends": "2001-09-09T01:46:40.000+00:00"}]
    assert (view["id"], view["created"], view["updated"], view["deleted"]) == (
        "key_1", "1970-01-01T00:00:00.000+00:00", "1970-01-01T00:00:01.500+00:00", None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("change", "mistake"),
    [
        ({"limits": {"requests_per_minute": 0}},
         "limits.requests_per_minute: expected more than 0; to refuse every call, set `disabled: true`, got 0"),
        ({"limits": {"usd_per_day": -1}},
         "limits.usd_per_day: expected more than 0; to refuse every call, set `disabled: true`, got -1"),
        ({"limits": {"time_zone": "Mars"}}, "limits.time_zone: unknown time zone; expected a name such as Europe/Be"),
        ({"limits": {"usd_per_dya": 1}}, 'limits.usd_per_dya: unknown key; did you mean "usd_per_day"?'),
        ({"nmae": "x"}, 'nmae: unknown key; did you mean "name"?'),
        ({"name": None}, "name: missing; it is required"),
        ({"name": "a b"}, "name: "),
        ({"allow": ["everything"]}, "allow[0]: "),
        ({"expires": "2030-01-01T00:00:00"}, "expires: "),
        ({"content": "some"}, "content: "),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_path_and_its_remedy(change: dict[str, Any], mistake: str) -> None:
    with pytest.raises(InvalidBody) as refused:
        checked(KeySettings, patched(FULL, change))
    assert refused.value.mistakes[0].startswith(mistake)
    assert refused.value.message == refused.value.mistakes[0]


def test_an_id_can_stand_in_a_path() -> None:
    for id in ("search", "A-1_b.c"):
        assert checked(NewTeam, {"id": id}).id == id
    for id in ("", "a/b", "a b", "-a", ".", "é", "a" * 201):
        with pytest.raises(InvalidBody, match="id: "):
            checked(NewTeam, {"id": id})


def test_a_patch_merges_mappings_and_null_removes() -> None:
    before = {"name": "web", "limits": {"usd_per_day": 5, "concurrency": 2}, "tags": ["a"]}
    patch = {"limits": {"usd_per_day": None, "tokens_per_day": 9}, "tags": ["b"], "team": None}
    assert patched(before, patch) == {"name": "web", "limits": {"concurrency": 2, "tokens_per_day": 9}, "tags": ["b"]}
    assert patched(before, {"limits": None}) == {"name": "web", "tags": ["a"]}
    assert before["limits"] == {"usd_per_day": 5, "concurrency": 2}, "what is stored is not changed"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
)
OBJECT = st.dictionaries(st.text(max_size=2), JSON, max_size=4)


@given(OBJECT, OBJECT)
def test_a_patch_applied_twice_changes_no_more(before: dict[str, Any], patch: dict[str, Any]) -> None:
    once = patched(before, patch)
    assert patched(once, patch) == once


def test_no_moment_is_null() -> None:
    assert moment(None) is None


KEY = KeyRecord(
    "key_1", "web", (), {"usd_per_day": 5.0, "requests_per_minute": 60}, "search", ("chat", "code"), ("sample",),
    expires=100.0, networks=("10.0.0.0/8", "fd00::/8"),
)  # fmt: skip


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"tags": ("a",)}, ()),
        ({"models": ("chat",)}, ()),
        ({"models": ()}, ()),
        ({"models": None}, ("models",)),
        ({"models": ("chat", "code", "big")}, ("models",)),
        ({"networks": ("10.1.0.0/16",)}, ()),
        ({"networks": None}, ("networks",)),
        ({"networks": ("0.0.0.0/0",)}, ("networks",)),
        ({"networks": ("10.0.0.0/8", "192.168.0.0/16")}, ("networks",)),
        ({"limits": {"usd_per_day": 1.0, "requests_per_minute": 60, "tokens_per_day": 9}}, ()),
        ({"limits": {"usd_per_day": 6.0, "requests_per_minute": 60}}, ("limits",)),
        ({"limits": {"usd_per_day": 5.0}}, ("limits",)),
        ({"limits": {}}, ("limits",)),
        ({"allow": ()}, ()),
        ({"allow": ("sample", "target")}, ("allow",)),
        ({"expires": 99.0}, ()),
        ({"expires": None}, ("expires",)),
        ({"expires": 101.0}, ("expires",)),
        ({"disabled": True}, ()),
        ({"team": None}, ("team",)),
    ],
    ids=str,
)
def test_settings_that_widen_a_key(change: dict[str, Any], names: tuple[str, ...]) -> None:
    assert widened(KEY, replace(KEY, **change)) == names


def test_a_key_that_is_enabled_again_may_do_more() -> None:
    off = replace(KEY, disabled=True)
    assert widened(off, KEY) == ("disabled",)
    assert widened(replace(KEY, networks=None, models=None, limits={}), KEY) == ()
