"""Who calls: by digest, in each of the ways that clients send a key."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.models import ApiKey
from gateway.core.errors import InvalidKey, NotAllowed
from gateway.core.keys import Directory, KeyRecord, OrganizationRecord, TeamRecord
from gateway.core.limits import Limit, LimitScope
from gateway.proxy.request.auth import OPEN, KeyRing, matches


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
