"""Records of keys, teams and organizations survive their way through JSON; what is malformed is refused."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.keys import (
    AnyRecord,
    Directory,
    KeyRecord,
    OrganizationRecord,
    PersonRecord,
    TeamRecord,
    organization_of,
    record_from_json,
    record_kind,
    record_to_json,
    scopes_of,
)
from gateway.core.limits import Limit, LimitScope

KEY = KeyRecord(
    "key_1",
    "web",
    (("0" * 64, None), ("1" * 64, 1.5)),
    {"usd_per_month": 5},
    team="search",
    models=("chat",),
    allow=("sample",),
    tags=("a", "b"),
    expires=2e9,
    person="ann",
)
RECORDS = [KEY, TeamRecord("search", {}, "acme", None, ("t",)), OrganizationRecord("acme", {"tokens_per_day": 9}, True)]


@pytest.mark.parametrize("record", RECORDS, ids=record_kind)
def test_a_record_is_the_same_after_its_way_through_json(record: AnyRecord) -> None:
    assert record_from_json(record_to_json(record)) == record


def test_fields_of_a_later_version_are_left_out() -> None:
    later = orjson.loads(record_to_json(KEY)) | {"v": 2, "color": "red"}
    assert record_from_json(orjson.dumps(later)) == KEY


@given(st.one_of(st.binary(), st.sampled_from([b"{}", b"[]", b'{"kind":"key"}', b'{"kind":"door","id":"x"}', b"null"])))
def test_anything_but_a_record_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match="not a key, team or organization"):
        record_from_json(raw)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", 7),
        ("id", ""),
        ("name", None),
        ("digests", [["abc", None]]),
        ("digests", [["0" * 64, "soon"]]),
        ("digests", ["0" * 64]),
        ("digests", None),
        ("limits", [1]),
        ("limits", {"usd_per_month": 0}),
        ("limits", {"usd_per_month": "much"}),
        ("limits", {"usd_per_month": 1, "time_zone": "Mars/Olympus"}),
        ("limits", {"usd_per_month": 1, "on_outage": "maybe"}),
        ("models", "chat"),
        ("models", [1]),
        ("tags", None),
        ("allow", [[]]),
        ("sample", "always"),
        ("content", "some"),
        ("expires", "never"),
        ("expires", True),
        ("disabled", 1),
        ("end_streams", None),
        ("team", 5),
        ("person", 5),
    ],
)
def test_a_field_of_another_type_makes_the_record_malformed(field: str, value: object) -> None:
    with pytest.raises(ValueError, match="not a key, team or organization"):
        record_from_json(orjson.dumps(orjson.loads(record_to_json(KEY)) | {field: value}))


def test_a_directory_is_empty_at_first() -> None:
    assert Directory() == Directory(0, {}, {}, {})


def test_a_call_has_the_limits_of_key_person_team_organization() -> None:
    team, organization, ann = RECORDS[1], RECORDS[2], PersonRecord("ann", {"requests_per_day": 7})
    whole = Directory(1, {"acme": organization}, {"search": team}, {"key_1": KEY}, people={"ann": ann})  # type: ignore[dict-item]
    assert scopes_of(whole, KEY).base == (
        LimitScope("key", "key_1", (Limit("usd", 5.0, "month"),)),
        LimitScope("person", "ann", (Limit("requests", 7.0, "day"),)),
        LimitScope("organization", "acme", (Limit("tokens", 9.0, "day"),)),
    )
    assert organization_of(whole, KEY) == "acme"
    assert scopes_of(Directory(), KEY).base == (LimitScope("key", "key_1", (Limit("usd", 5.0, "month"),)),)
    assert organization_of(Directory(), KEY) is None
