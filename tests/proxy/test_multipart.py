"""Where the fields of a form lie: files are passed over, whatever bytes are in them."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.proxy.multipart import field, fields


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
def test_every_field_is_found_in_order_with_its_value_and_no_file_is(parts: list[Part]) -> None:
    body = a_form(parts)
    found = [(f.name.decode(), body[f.start : f.end]) for f in fields(body)]
    assert found == [(p.name, p.value) for p in parts if not p.file]


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
