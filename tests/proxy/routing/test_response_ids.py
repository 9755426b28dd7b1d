"""Sealed ids: they say whose they are, and what is not sealed does not exist."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.proxy.routing.response_ids import OpenedId, Replacer, ResponseIds, id_of_answer

IDS = ResponseIds(b"secret")
UPSTREAMS = ("u0", "u1")


@given(st.text("abcXYZ019_-.:=", min_size=1, max_size=80), st.text(max_size=20), st.sampled_from(UPSTREAMS))
def test_a_seal_names_upstream_and_caller(response_id: str, caller: str, upstream: str) -> None:
    sealed = IDS.seal(upstream, caller, response_id)
    assert IDS.open(sealed, caller, UPSTREAMS) == OpenedId(upstream, response_id)
    assert IDS.open(sealed, caller + "x", UPSTREAMS) is None
    assert IDS.open(sealed, caller, ["u2"]) is None
    assert ResponseIds(b"other").open(sealed, caller, UPSTREAMS) is None


@pytest.mark.parametrize("sealed", ["", ".", "resp_1", "resp_1.", ".AAAA", "resp_1.ä", "x" * 500])
def test_ids_without_a_seal_are_not_opened(sealed: str) -> None:
    assert IDS.open(sealed, "web", UPSTREAMS) is None


def test_parts_cannot_be_shifted_into_each_other() -> None:
    sealed = IDS.seal("u1", "web", "resp_1")
    assert IDS.open(sealed, "eb", ["u1w"]) is None


def test_a_seal_changes_with_every_character() -> None:
    sealed = IDS.seal("u1", "web", "resp_1")
    for at in range(len(sealed)):
        changed = sealed[:at] + ("A" if sealed[at] != "A" else "B") + sealed[at + 1 :]
        assert IDS.open(changed, "web", UPSTREAMS) is None


def test_a_shared_secret_leaves_earlier_ids_valid() -> None:
    one, other = ResponseIds(), ResponseIds()
    early = one.seal("u1", "web", "resp_1")
    assert other.open(early, "web", UPSTREAMS) is None
    for ids in (one, other):
        ids.share(b"shared")
    assert one.open(early, "web", UPSTREAMS) is not None
    assert other.open(one.seal("u1", "web", "resp_2"), "web", UPSTREAMS) is not None


def test_a_conversations_digest_is_its_callers() -> None:
    assert IDS.conversation_digest("web", "Ada") == IDS.conversation_digest("web", "Ada")
    assert IDS.conversation_digest("web", "Ada") != IDS.conversation_digest("app", "Ada")
    assert "Ada" not in IDS.conversation_digest("web", "Ada")


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b'{"id":"resp_1","object":"response"}', "resp_1"),
        (b' { "metadata":{"id":"resp_anothers"}, "object": "response", "id" : "resp_1" }', "resp_1"),
        (b'{"conversation":{"id":"resp_anothers"},"object":"response"}', None),
        (b'event: response.created\ndata: {"type":"response.created","response":{"id":"resp_1"}}\n\n', "resp_1"),
        (b'data: {"response":{"metadata":{"id":"resp_anothers"},"id":"resp_1"}}\n\n', "resp_1"),
        (b'{"error":{"message":"no"}}', None),
        (b"", None), (b"{}", None), (b'{"id":5}', None), (b"data: [DONE]\n\n", None), (b"not JSON", None),
    ],
)  # fmt: skip
def test_the_id_is_the_responses_own(data: bytes, found: str | None) -> None:
    assert id_of_answer(data) == found


@given(st.lists(st.integers(1, 30), max_size=12))
def test_texts_are_replaced_in_any_split(cuts: list[int]) -> None:
    body = b'{"id":"resp_1","x":"resp_10","y":"\\"resp_1\\"","previous":"resp_0","t":"re","id2":"resp_1"}'
    wanted = body.replace(b'"resp_1"', b'"resp_1.S"').replace(b'"resp_0"', b'"resp_0.T"')
    replacer, out = Replacer({"resp_1": "resp_1.S", "resp_0": "resp_0.T"}), b""
    for cut in cuts:
        out += replacer.feed(body[:cut])
        body = body[cut:]
    assert out + replacer.feed(body) + replacer.end() == wanted
