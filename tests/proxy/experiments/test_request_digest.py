"""A digest tells whether two arms were asked the same, less what must differ between them."""

from __future__ import annotations

import pytest

from gateway.proxy.experiments.request_digest import request_digest
from gateway.proxy.recording.redaction.redactor import LARGE
from gateway.proxy.routing.variants import VariedParts

KEY = b"k" * 16
BODY = b'{"model": "a", "messages": [{"role": "user", "content": "Hello"}], "temperature": 0.5}'


def digest(body: bytes) -> str | None:
    return request_digest(body, "openai", KEY)


@pytest.mark.parametrize(
    "other",
    [
        BODY.replace(b'"a"', b'"b"'),
        BODY.replace(b"{", b'{"seed": 7, ', 1),
        BODY.replace(b"0.5}", b'0.5, "priority": 100}'),
        BODY.replace(b"0.5}", b'0.5,"stream_options":{"include_usage":true}}'),
        BODY.replace(b'"a", ', b'"a",\n '),
    ],
    ids=["model", "seed", "priority", "stream options", "space between members"],
)
def test_what_must_differ_changes_no_digest(other: bytes) -> None:
    assert other != BODY
    assert digest(other) == digest(BODY)


@pytest.mark.parametrize(
    "other",
    [
        BODY.replace(b"Hello", b"hello"),
        BODY.replace(b"0.5", b"0.50"),
        BODY.replace(b', "temperature": 0.5', b""),
        BODY.replace(b"0.5}", b'0.5, "top_p": 1}'),
    ],
    ids=["prompt", "spelling of a number", "a member less", "a member more"],
)
def test_any_other_byte_changes_the_digest(other: bytes) -> None:
    assert digest(other) != digest(BODY)


VARIED = VariedParts(frozenset({b"temperature"}), instructions=True)
TOLD = BODY.replace(b"[{", b'[{"role":"system","content":"Be brief."},{')


@pytest.mark.parametrize(
    "other",
    [
        BODY.replace(b"0.5", b"1"),
        BODY.replace(b', "temperature": 0.5', b""),
        TOLD,
        TOLD.replace(b"},{", b'},{"role":"developer","content":"x"}, {', 1),
        BODY.replace(b"{", b'{"system": "Be brief.", ', 1),
    ],
)
def test_what_the_variants_of_the_arms_change_may_differ(other: bytes) -> None:
    assert request_digest(other, "openai", KEY, VARIED) == request_digest(BODY, "openai", KEY, VARIED)
    assert digest(other) != digest(BODY)


@pytest.mark.parametrize(
    "other",
    [BODY.replace(b"Hello", b"hello"), TOLD.replace(b"Hello", b"hello"), BODY.replace(b"0.5}", b'1,"top_p":1}')],
)
def test_everything_else_may_not(other: bytes) -> None:
    assert request_digest(other, "openai", KEY, VARIED) != request_digest(BODY, "openai", KEY, VARIED)


def test_a_digest_names_the_format_and_hides_the_prompt() -> None:
    found = digest(BODY)
    assert found is not None
    assert found.startswith("openai:")
    assert request_digest(BODY, "azure", KEY) == found, "the same format"
    assert str(request_digest(BODY, "anthropic", KEY)).startswith("anthropic:")
    assert request_digest(BODY, "openai", b"another") != found


@pytest.mark.parametrize("body", [b"", b"[1]", b'{"a": ', b'{"a": "' + b"x" * LARGE + b'"}'])
def test_what_cannot_be_read_has_no_digest(body: bytes) -> None:
    assert digest(body) is None
