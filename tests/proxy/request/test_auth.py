"""Callers by the digest of their key, in each of the ways that clients send it."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.config import ApiKey
from gateway.core.errors import GatewayError, InvalidKey, KeysUnavailable, NotAllowed
from gateway.core.keys import AnyRecord, Directory, KeyRecord, OrganizationRecord, PersonRecord, TeamRecord
from gateway.core.limits import Limit, LimitScope
from gateway.proxy.request.auth import OPEN, KeyRing, matches
from gateway.proxy.request.call import Caller
from gateway.proxy.request.key_directory import KeyDirectory
from gateway.stream.directory import DirectoryChanges, DirectoryHead, name_of


def digest(key: bytes) -> str:
    return sha256(key).hexdigest()


def a_key(key: bytes = b"sesame", **fields: Any) -> ApiKey:
    return ApiKey(name="web", sha256=digest(key), **fields)


WAYS = [
    (b"authorization", b"Bearer sesame"),
    (b"authorization", b"bearer sesame"),
    (b"authorization", b"BEARER  sesame "),
    (b"x-api-key", b"sesame"),
    (b"api-key", b"sesame"),
]


@pytest.mark.parametrize(("name", "value"), WAYS, ids=lambda w: w.decode())
def test_a_key_is_known_in_each_way_that_clients_send_it(name: bytes, value: bytes) -> None:
    assert KeyRing([a_key()]).caller({name: value}).name == "web"
    assert matches({name: value}, digest(b"sesame"))


STRANGERS: list[dict[bytes, bytes]] = [
    {},
    {b"authorization": b""},
    {b"authorization": b"Bearer"},
    {b"authorization": b"Bearer "},
    {b"authorization": b"Basic sesame"},
    {b"authorization": b"sesame"},
    {b"authorization": b"Bearer Sesame"},
    {b"x-api-key": b"sesam"},
    {b"x-api-key": b""},
    {b"cookie": b"sesame"},
]


@pytest.mark.parametrize("headers", STRANGERS, ids=str)
def test_whoever_has_no_key_or_a_wrong_one_is_refused(headers: dict[bytes, bytes]) -> None:
    with pytest.raises(InvalidKey) as refused:
        KeyRing([a_key()]).caller(headers)
    assert refused.value.retry is False
    assert not matches(headers, digest(b"sesame"))


def test_an_empty_key_never_matches_the_digest_of_nothing() -> None:
    assert not matches({}, digest(b""))
    with pytest.raises(InvalidKey):
        KeyRing([a_key(b"")]).caller({})


@given(st.binary(max_size=64))
def test_only_the_key_itself_opens(value: bytes) -> None:
    keys = KeyRing([a_key()])
    try:
        keys.caller({b"x-api-key": value})
        opened = True
    except InvalidKey:
        opened = False
    assert opened == (value == b"sesame")


def test_a_wrong_key_is_never_repeated() -> None:
    with pytest.raises(InvalidKey) as refused:
        KeyRing([a_key()]).caller({b"x-api-key": b"my-secret"})
    assert "my-secret" not in str(refused.value)


def test_a_key_itself_is_never_kept() -> None:
    keys = KeyRing([a_key()])
    keys.caller({b"x-api-key": b"sesame"})
    assert "sesame" not in repr(vars(keys))


def test_an_open_gateway_still_recognises_its_keys() -> None:
    keys = KeyRing([a_key(models=("chat",))], open=True)
    assert keys.caller({}) is OPEN
    assert keys.caller({b"x-api-key": b"another"}) is OPEN
    assert keys.caller({b"x-api-key": b"sesame"}).models == frozenset({"chat"})


def test_a_caller_is_what_its_key_says() -> None:
    given = a_key(models=("a", "b"), allow=("target",), sample="never", content="metadata")
    caller = KeyRing([given]).caller({b"x-api-key": b"sesame"})
    assert (caller.models, caller.allow) == (frozenset("ab"), frozenset({"target"}))
    assert (caller.sampled, caller.content) == (False, "metadata")
    plain = KeyRing([a_key()]).caller({b"x-api-key": b"sesame"})
    assert (plain.models, plain.allow, plain.sampled, plain.content) == (None, frozenset(), True, "full")


PAGE = {b"origin": b"https://evil.example", b"content-length": b"99"}


@pytest.mark.parametrize(
    "kind", [None, b"text/plain", b"text/plain; x=application/json", b"multipart/form-data; boundary=x"]
)
def test_an_open_gateway_takes_nothing_that_any_web_page_can_send(kind: bytes | None) -> None:
    headers = PAGE if kind is None else {**PAGE, b"content-type": kind}
    with pytest.raises(NotAllowed, match="web page"):
        KeyRing([], open=True).caller(headers)
    assert KeyRing([], open=True, origins=["https://evil.example"]).caller(headers) is OPEN
    assert KeyRing([a_key()], open=True).caller({**headers, b"x-api-key": b"sesame"}).name == "web"


@pytest.mark.parametrize(
    "headers",
    [
        {b"content-type": b"text/plain", b"content-length": b"9"},  # no browser
        {**PAGE, b"content-type": b"Application/JSON; charset=utf-8"},  # for which a browser asks first
        {b"origin": b"https://evil.example"},  # a GET, whose answer the page cannot read
    ],
)
def test_an_open_gateway_takes_what_no_page_sends_unasked(headers: dict[bytes, bytes]) -> None:
    assert KeyRing([], open=True).caller(headers) is OPEN


def test_a_caller_carries_its_team_organization_and_their_limits() -> None:
    record = KeyRecord("web", "web", ((digest(b"sesame"), None),), {}, team="search", tags=("a",))
    team = TeamRecord("search", {"requests_per_minute": 5}, "acme", tags=("b", "a"))
    directory = Directory(1, {"acme": OrganizationRecord("acme", {})}, {"search": team}, {"web": record})
    caller = KeyRing([a_key()], directory=directory).caller({b"x-api-key": b"sesame"})
    assert (caller.id, caller.team, caller.organization, caller.tags) == ("web", "search", "acme", ("a", "b"))
    assert caller.scopes == (LimitScope("team", "search", (Limit("requests", 5.0, "minute"),)),)
    assert KeyRing([a_key()]).caller({b"x-api-key": b"sesame"}).scopes == ()


SECRET = b"sk-assay-made-later"
HEADERS = {b"x-api-key": SECRET}
KEY = KeyRecord("key_1", "app", ((digest(SECRET), None),), {"requests_per_minute": 5}, team="search", tags=("a",))
TEAM = TeamRecord("search", {"usd_per_day": 9}, "acme", tags=("t", "a"))
ACME = OrganizationRecord("acme", {"concurrency": 3})


def dynamic(*records: AnyRecord) -> KeyDirectory:
    directory = KeyDirectory()
    put(directory, *records)
    directory.confirm()
    return directory


def put(directory: KeyDirectory, *records: AnyRecord) -> None:
    head = DirectoryHead("e", directory.changes, 0, "")
    directory.apply(DirectoryChanges(head, False, {name_of(record): record for record in records}))


def ring(later: KeyDirectory, *keys: ApiKey, **options: Any) -> KeyRing:
    return KeyRing(keys, dynamic=later, **options)


def test_a_later_key_opens_with_its_team_and_organization() -> None:
    caller = ring(dynamic(KEY, TEAM, ACME)).caller(HEADERS)
    assert (caller.name, caller.id, caller.team, caller.organization) == ("app", "key_1", "search", "acme")
    assert caller.tags == ("a", "t")
    assert caller.scopes == (
        LimitScope("key", "key_1", (Limit("requests", 5, "minute"),)),
        LimitScope("team", "search", (Limit("usd", 9, "day"),)),
        LimitScope("organization", "acme", (Limit("concurrency", 3),)),
    )


def test_keys_of_one_person_share_limits_whatever_their_teams() -> None:
    ann = PersonRecord("ann", {"usd_per_day": 2})
    later = replace(KEY, team=None, person="ann", limits={})
    of_file = Directory(
        keys={"web": KeyRecord("web", "web", ((digest(b"sesame"), None),), {}, team="search", person="ann")},
        teams={"search": TeamRecord("search", {})},
        people={"ann": ann},
    )
    keys = ring(dynamic(later), a_key(), directory=of_file)
    scopes = [keys.caller(headers).scopes for headers in (HEADERS, {b"x-api-key": b"sesame"})]
    assert scopes == [(LimitScope("person", "ann", (Limit("usd", 2, "day"),)),)] * 2


def test_a_team_of_the_config_wins_over_a_dynamic_one() -> None:
    of_file = Directory(teams={"search": TeamRecord("search", {}, models=("chat",))})
    caller = ring(dynamic(KEY, TEAM, ACME), directory=of_file).caller(HEADERS)
    assert (caller.organization, caller.models) == (None, frozenset({"chat"}))


OFF: list[tuple[list[AnyRecord], str, str]] = [
    ([replace(KEY, disabled=True), TEAM, ACME], "key_disabled", "the API key is disabled"),
    ([KEY, replace(TEAM, disabled=True), ACME], "key_disabled", "the team of the API key, search, is disabled"),
    ([KEY, TEAM, replace(ACME, disabled=True)], "key_disabled", "the organization of the API key, acme, is disabled"),
    ([KEY], "key_disabled", "the team of the API key, search, does not exist"),
    ([replace(KEY, team=None, person="ann")], "key_disabled", "the person of the API key, ann, is not in `people`"),
    ([KEY, TEAM], "key_disabled", "the organization of the API key, acme, does not exist"),
    ([replace(KEY, expires=1000.0), TEAM, ACME], "key_expired", "the API key expired at 1970-01-01T00:16:40"),
]


@pytest.mark.parametrize("open", [False, True])
@pytest.mark.parametrize(("records", "code", "message"), OFF, ids=[case[2] for case in OFF])
def test_a_key_that_is_off_is_refused_and_says_why(
    records: list[AnyRecord], code: str, message: str, open: bool
) -> None:
    with pytest.raises(InvalidKey) as refused:
        ring(dynamic(*records), open=open).caller(HEADERS)
    assert (refused.value.code, refused.value.status, refused.value.retry) == (code, 401, False)
    assert message in refused.value.message


def test_keys_of_the_config_expire_and_are_disabled_alike() -> None:
    for fields, code in (({"disabled": True}, "key_disabled"), ({"expires": "2001-01-01T00:00:00Z"}, "key_expired")):
        with pytest.raises(InvalidKey) as refused:
            KeyRing([a_key(**fields)]).caller({b"x-api-key": b"sesame"})
        assert refused.value.code == code


def test_a_key_expires_without_a_change_of_the_directory() -> None:
    now = [999.0]
    keys = ring(dynamic(replace(KEY, team=None, expires=1000.0)), clock=lambda: now[0])
    assert keys.caller(HEADERS).until == 1000.0
    now[0] = 1000.0
    with pytest.raises(InvalidKey, match="expired"):
        keys.caller(HEADERS)


def test_during_a_rotation_both_secrets_open_the_same_key() -> None:
    now = [0.0]
    new = b"sk-assay-new"
    both = ((digest(new), None), (digest(SECRET), 10.0))
    keys = ring(dynamic(replace(KEY, team=None, digests=both)), clock=lambda: now[0])
    assert keys.caller(HEADERS).id == keys.caller({b"x-api-key": new}).id == "key_1"
    now[0] = 10.0
    assert keys.caller({b"x-api-key": new}).id == "key_1"
    with pytest.raises(InvalidKey) as refused:
        keys.caller(HEADERS)
    assert refused.value.code == "key_expired"


def test_a_change_is_in_force_at_the_next_call() -> None:
    directory = dynamic(KEY, TEAM, ACME)
    keys = ring(directory)
    assert keys.caller(HEADERS) is keys.caller(HEADERS)
    put(directory, replace(TEAM, models=("chat",)))
    assert keys.caller(HEADERS).models == frozenset({"chat"})
    put(directory, replace(KEY, disabled=True))
    with pytest.raises(InvalidKey, match="disabled"):
        keys.caller(HEADERS)
    put(directory, KEY)
    assert keys.caller(HEADERS).name == "app"


@pytest.mark.parametrize(
    ("of_key", "of_team", "both"),
    [
        (None, None, None),
        (("a", "b"), None, {"a", "b"}),
        (None, ("b",), {"b"}),
        (("a", "b"), ("b", "c"), {"b"}),
        (("a",), ("c",), set()),
    ],
)
def test_a_key_narrows_the_models_of_its_team_and_never_widens_them(of_key: Any, of_team: Any, both: Any) -> None:
    caller = ring(dynamic(replace(KEY, models=of_key), replace(TEAM, models=of_team), ACME)).caller(HEADERS)
    assert caller.models == (None if both is None else frozenset(both))


def test_a_dynamic_key_never_replaces_one_of_the_config() -> None:
    with pytest.raises(InvalidKey, match=r"gateway.yaml has another key with the name web"):
        ring(dynamic(replace(KEY, name="web", team=None)), a_key()).caller(HEADERS)
    same = replace(KEY, digests=((digest(b"sesame"), None),), team=None)
    assert ring(dynamic(same), a_key()).caller({b"x-api-key": b"sesame"}).name == "web"


@pytest.mark.parametrize(
    ("expects", "confirmed", "secret", "status"),
    [
        (True, False, b"sk-assay-unknown", 503),
        (True, True, b"sk-assay-unknown", 401),
        (True, False, b"sk-other", 401),
        (False, False, b"sk-assay-unknown", 401),
    ],
)
def test_unknown_keys_may_retry_while_keys_cannot_be_read(
    expects: bool, confirmed: bool, secret: bytes, status: int
) -> None:
    directory = KeyDirectory()
    if confirmed:
        directory.confirm()
    with pytest.raises(GatewayError) as refused:
        ring(directory, expects_dynamic=expects).caller({b"x-api-key": secret})
    assert refused.value.status == status
    assert isinstance(refused.value, KeysUnavailable) == (status == 503)
    assert (refused.value.retry_after_s is not None) == (status == 503)


def test_the_recorder_knows_a_dynamic_caller_before_its_first_call() -> None:
    directory = dynamic(replace(KEY, content="metadata"), TEAM, ACME)
    keys = ring(directory, a_key())
    heard: list[Caller] = []
    keys.on_dynamic_caller = heard.append
    keys.caller({b"x-api-key": b"sesame"})
    for _ in range(2):
        keys.caller(HEADERS)
    put(directory, replace(KEY, content="redacted"))
    keys.caller(HEADERS)
    assert [(caller.name, caller.content) for caller in heard] == [("app", "metadata"), ("app", "redacted")]
