"""Finds the fields of a form; files are skipped, whatever bytes they contain."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.proxy.request.multipart import FormFieldReader, field, fields


@dataclass(frozen=True)
class Part:
    name: str
    value: bytes
    file: bool = False


def a_form(parts: list[Part], boundary: str = "xYz", lead: bytes = b"") -> bytes:
    out = b""
    for part in parts:
        filename = '; filename="a.wav"\r\nContent-Type: audio/wav' if part.file else ""
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{part.name}"{filename}\r\n\r\n'
        out += head.encode() + part.value + b"\r\n"
    return lead + out + f"--{boundary}--\r\n".encode()


values = st.binary(max_size=60).filter(lambda v: b"--xYz" not in v)
parts = st.builds(Part, st.sampled_from(["model", "file", "stream", "a b", "modelx"]), values, st.booleans())


@given(st.lists(parts, max_size=5))
def test_every_field_is_found_in_order_and_no_file(parts: list[Part]) -> None:
    body = a_form(parts)
    found = [(f.name.decode(), body[f.start : f.end]) for f in fields(body)]
    assert found == [(p.name, p.value) for p in parts if not p.file]


@given(st.lists(parts, max_size=5), st.lists(st.integers(0, 500), max_size=20))
def test_any_split_finds_the_same_and_counts_files_too(parts: list[Part], cuts: list[int]) -> None:
    body = a_form(parts)
    at = sorted({0, *(c for c in cuts if c < len(body)), len(body)})
    found = FormFieldReader(counted=b"model")
    assert [f for a, b in pairwise(at) for f in found.feed(body[a:b])] == list(fields(body))
    assert found.count == sum(p.name == "model" for p in parts)


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=20))
def test_any_bytes_in_any_split_are_taken_alike(data: bytes, cuts: list[int]) -> None:
    for body in (data, b"--xYz\r\n" + data):
        at = sorted({0, *(c for c in cuts if c < len(body)), len(body)})
        found = FormFieldReader()
        assert [f for a, b in pairwise(at) for f in found.feed(body[a:b])] == list(fields(body))


def test_the_content_of_a_large_file_is_not_buffered() -> None:
    found = FormFieldReader()
    list(found.feed(a_form([Part("file", b"", True)])[:-12]))
    for _ in range(100):
        assert not list(found.feed(b"\r\n-RIFF" * 10_000))
        assert found.buffered < 100


def test_the_cost_of_a_form_follows_its_parts_not_its_bytes(steps: Any) -> None:
    large_file = a_form([Part("file", b"\r\n-RIFF" * 2_000_000, True)])
    many_parts = a_form([Part("a", b"")] * 20_000)
    for body, most in ((large_file, 200), (many_parts, 60 * 20_000)):
        with steps() as counted:
            list(fields(body))
        assert counted.n < most


@given(st.binary(max_size=300))
def test_any_bytes_at_all_are_taken(body: bytes) -> None:
    list(fields(body))
    list(fields(b"--xYz\r\n" + body))
    for found in fields(a_form([Part("file", body.replace(b"--xYz", b""), True), Part("model", b"w")])):
        assert found.name == b"model"


def test_a_file_that_holds_a_form_does_not_name_the_model() -> None:
    inner = a_form([Part("model", b"wrong")], "inner")
    body = a_form([Part("file", inner, True), Part("model", b"right")])
    assert field(body, b"model") == b"right"


def test_a_line_that_only_begins_like_the_delimiter_is_none() -> None:
    body = a_form([Part("model", b"a\r\n--xYzz\r\nb")])
    assert field(body, b"model") == b"a\r\n--xYzz\r\nb"


@pytest.mark.parametrize("quote", ['"', ""])
def test_names_may_be_quoted_or_not_and_headers_are_in_any_case(quote: str) -> None:
    head = f"--b\r\nCONTENT-DISPOSITION: Form-Data; NAME={quote}model{quote}\r\nContent-Length: 1\r\n\r\nw\r\n--b--\r\n"
    assert field(head.encode(), b"model") == b"w"


@pytest.mark.parametrize("body", [b"", b"--", b"--\r\n", b"{}", b"--b\r\n\r\nx", b"--b\r\n" + b"h" * 9000, b"x--b\r\n"])
def test_what_is_no_form_has_no_fields(body: bytes) -> None:
    assert field(body, b"model") is None
