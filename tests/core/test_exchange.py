"""A record crosses the stream and comes out the same; a malformed record is refused with the reason."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.exchange import (
    IMPORTED,
    IMPORTED_VERSION,
    STORED_FIELDS,
    VERSION,
    Attempt,
    Count,
    Exchange,
    Feedback,
    Tally,
    Target,
    Usage,
    from_fields,
    new_id,
)
from gateway.core.usage import UsageCell, UsageCount, UsageSums

words = st.text(max_size=20)
numbers = st.floats(allow_nan=False, allow_infinity=False)
tokens = st.integers(0, 2**53)
maybe = st.none() | words
usages = st.builds(Usage, tokens, tokens, st.none() | tokens, st.none() | tokens)
targets = st.builds(Target, words, words)
attempts = st.builds(Attempt, targets, st.none() | st.integers(100, 599), maybe, numbers, st.none() | usages)
exchanges = st.builds(
    Exchange,
    id=words, received=numbers, caller=words, api=words, alias=words, target=targets, stream=st.booleans(),
    request=st.binary(max_size=50), response=st.binary(max_size=50), status=st.integers(100, 599),
    outcome=st.sampled_from(["ok", "client_gone", "upstream_error", "timeout", "cut"]), total_s=numbers, unit=words,
    u=numbers, pi=st.floats(0, 1, exclude_min=True), stratum=words, incarnation=words, seq=tokens, pair=maybe,
    role=st.sampled_from(["served", "shadow", "control"]), experiment=maybe, plan=maybe, arm=maybe,
    form=st.sampled_from(["raw", "assembled"]), truncated=st.booleans(), spliced=st.booleans(),
    usage=st.none() | usages, upstream_id=maybe, client_id=maybe, attempts=st.lists(attempts, max_size=3).map(tuple),
    first_token_s=st.none() | numbers,
)  # fmt: skip
counts = st.lists(st.builds(Count, words, words, words, words, tokens, words), max_size=3).map(tuple)
cells = st.builds(UsageCell, *[words] * len(UsageCell._fields))
sums = st.builds(UsageSums, *[tokens] * len(UsageSums._fields))
usage = st.lists(st.builds(UsageCount, cells, sums), max_size=3).map(tuple)
tallies = st.builds(
    Tally, words, numbers, tokens, counts, counts, counts, counts, counts, st.booleans(), st.just(VERSION), usage
)
feedbacks = st.builds(Feedback, words, words, words, numbers, words, st.none() | numbers, maybe, maybe, maybe)


@given(exchanges | tallies | feedbacks)
def test_a_record_comes_out_of_the_stream_as_it_went_in(record):
    assert from_fields(record.to_fields()) == record


@given(exchanges)
def test_bodies_cross_as_they_are(exchange):
    entry = exchange.to_fields()
    assert (entry[b"req"], entry[b"res"]) == (exchange.request, exchange.response)


def _changed(exchange: Exchange, **head: object) -> dict[bytes, bytes]:
    entry = exchange.to_fields()
    return {**entry, b"head": orjson.dumps({**orjson.loads(entry[b"head"]), **head})}


@given(exchanges)
def test_the_version_before_and_unknown_keys_are_read(exchange):
    old = from_fields(_changed(exchange, v=VERSION - 1, shiny="new"))
    assert isinstance(old, Exchange)
    assert old.v == VERSION - 1


def test_only_an_import_may_lack_a_probability_by_its_version():
    """Records of traffic keep their version: a consumer that knows no imports reads them, and leaves imports alone."""
    served = exchanges_one()
    assert served.v == VERSION == IMPORTED_VERSION - 1
    with pytest.raises(ValueError, match="only imported calls may have none"):
        from_fields(_changed(served, pi=None))
    imported = replace(served, role=IMPORTED, pi=None, v=IMPORTED_VERSION)
    assert from_fields(imported.to_fields()) == imported
    with pytest.raises(ValueError, match=f"record version {IMPORTED_VERSION + 1}; this consumer reads 0 to 2"):
        from_fields(_changed(imported, v=IMPORTED_VERSION + 1))


def test_a_tally_of_an_older_or_newer_gateway_is_read():
    entry = Tally("g", 1.0, 2).to_fields()
    head = orjson.loads(entry[b"head"])
    del head["usage"]
    assert from_fields({**entry, b"head": orjson.dumps({**head, "shiny": "new"})}) == Tally("g", 1.0, 2)


def levels(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of the objects of a head."""
    if isinstance(value, dict):
        yield path
        for name, each in value.items():
            yield from levels(each, (*path, name))
    elif isinstance(value, list):
        for i, each in enumerate(value):
            yield from levels(each, (*path, i))


def a_full_exchange() -> Exchange:
    target, usage = Target("u", "m", "v"), Usage(1, 2, 0, 1)
    attempts = (Attempt(target, 500, "x", 0.1, usage),)
    return Exchange(
        "id", 1.0, "web", "chat", "chat", target, False, b"{}", b"{}", 200, "ok", 0.5, "id", 0.1, 1.0, "s", "i", 1,
        usage=usage, attempts=attempts,
    )  # fmt: skip


def a_full_tally() -> Tally:
    counts = {name: (Count("s", "a", "t", "", 1),) for name in ("seen", "unsampled", "sampled", "enqueued", "dropped")}
    return Tally("i", 1.0, 1, **counts, usage=(UsageCount(UsageCell(*["x"] * 12), UsageSums(1)),))


def test_a_member_added_at_any_level_is_ignored():
    """A newer gateway may add members; consumers of today must not make dead letters of its records."""
    feedback = Feedback("e", "f", "web", 1.0, "thumb", 1.0)
    for record in (a_full_exchange(), a_full_tally(), feedback):
        written = record.to_fields()
        read = from_fields(written)
        places = list(levels(orjson.loads(written[b"head"])))
        assert len(places) == {"exchange": 6, "tally": 7, "feedback": 1}[written[b"kind"].decode()]
        for path in places:
            head = orjson.loads(written[b"head"])
            at = head
            for step in path:
                at = at[step]
            at["of_tomorrow"] = {"new": [1]}
            assert from_fields({**written, b"head": orjson.dumps(head)}) == read, path


@pytest.mark.parametrize("pi", [0, 0.0, -0.1, 1.5, None, "1"])
def test_a_record_without_a_probability_is_not_a_record(pi):
    """Every weight is 1 / pi: such a record would break each sum that it is in."""
    written = a_full_exchange().to_fields()
    head = orjson.loads(written[b"head"]) | {"pi": pi}
    with pytest.raises(ValueError, match=r"pi|not supported"):
        from_fields({**written, b"head": orjson.dumps(head)})


def test_a_missing_field_gets_its_default():
    entry = _changed(exchanges_one(), shiny="new", asked=["a"], cluster="c")
    head = orjson.loads(entry[b"head"])
    for gone in ("cluster", "reference", "usage", "attempts"):
        del head[gone]
    assert from_fields({**entry, b"head": orjson.dumps(head)}) == replace(exchanges_one(), asked=("a",))


READ = (VERSION - 1, VERSION, IMPORTED_VERSION)


@given(exchanges, st.integers().filter(lambda v: v not in READ and abs(v) < 2**53))
def test_another_version_is_refused_by_name(exchange, version):
    with pytest.raises(ValueError, match=f"record version {version}"):
        from_fields(_changed(exchange, v=version))


@pytest.mark.parametrize(
    "entry",
    [
        {},
        {b"kind": b"exchange"},
        {b"kind": b"exchange", b"head": b"{"},
        {b"kind": b"exchange", b"head": b"[]"},
        {b"kind": b"exchange", b"head": b"{}"},
        {b"kind": b"exchange", b"head": b'{"v": 1}', b"req": b"", b"res": b""},
        {b"kind": b"nonsense", b"head": b'{"v": 1}'},
        {b"kind": b"tally", b"head": b'{"v": 1, "seen": [{"n": 1}]}'},
        {b"kind": b"tally", b"head": b'{"v": 1, "incarnation": "g", "at": 1, "last_seq": 1, "usage": [{"cell": []}]}'},
        {b"kind": b"feedback", b"head": b"null"},
    ],
)
def test_anything_but_a_record_raises_value_error_and_nothing_else(entry):
    with pytest.raises(ValueError):  # noqa: PT011 - the messages differ
        from_fields(entry)


def test_every_field_crosses():
    """A field that is added to Exchange must come out again; nested records are read and written by hand."""
    usage = Usage(1, 2, usd=0.5)
    attempt = Attempt(Target("u", "m"), 200, None, 0.1, usage)
    one = replace(exchanges_one(), usage=usage, attempts=(attempt,), target=Target("u", "m", "temperature=0"))
    head = orjson.loads(one.to_fields()[b"head"])
    assert from_fields(one.to_fields()) == one
    assert {f.name for f in fields(Exchange)} - {"request", "response"} == set(head)
    assert {f.name for f in fields(Target)} == set(head["target"])
    assert {f.name for f in fields(Usage)} == set(head["usage"])
    assert {f.name for f in fields(Attempt)} == set(head["attempts"][0])


def test_every_field_is_stored_or_named_as_an_exception():
    apart = {"target", "usage", "attempts", "upstream_id"} | {"v", "asked", "not_asked"}
    assert set(STORED_FIELDS) | apart == {f.name for f in fields(Exchange)}
    assert not set(STORED_FIELDS) & apart


def test_a_target_as_text_is_upstream_slash_model():
    assert str(Target("openai", "vendor/gpt-x")) == "openai/vendor/gpt-x"


def exchanges_one() -> Exchange:
    return Exchange(
        "i", 0.0, "c", "chat", "a", Target("u", "m"), False, b"", b"", 200, "ok", 0.0, "u", 0.0, 1.0, "s", "g", 1
    )


@given(st.integers(0, 2**47 * 1_000_000), st.binary(min_size=10, max_size=10))
def test_ids_are_uuid_version_7(now_ns, entropy):
    made = uuid.UUID(new_id(now_ns, entropy))
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert made.int >> 80 == now_ns // 1_000_000


def test_later_ids_sort_later():
    assert new_id(1_000_000) < new_id(2_000_000) < new_id(2**60)
