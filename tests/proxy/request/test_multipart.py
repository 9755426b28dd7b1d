"""Finds the fields of a form; files are skipped, whatever bytes they contain."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.fake import FakeUpstream
from gateway.proxy.request.multipart import AmbiguousForm, FormField, FormFieldReader, boundary_of


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


def fields(body: bytes, boundary: bytes = b"xYz") -> list[FormField]:
    reader = FormFieldReader(boundary)
    found = list(reader.feed(body))
    reader.end()
    return found


def field(body: bytes, name: bytes) -> bytes | None:
    """The value of the first field of that name; None if there is none."""
    return next((body[f.start : f.end] for f in fields(body) if f.name == name), None)


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
    found = FormFieldReader(b"xYz", counted=b"model")
    assert [f for a, b in pairwise(at) for f in found.feed(body[a:b])] == list(fields(body))
    assert found.count == sum(p.name == "model" for p in parts)


def read_in(pieces: list[bytes]) -> list[FormField] | str:
    """The fields, or why the form is refused."""
    reader = FormFieldReader(b"xYz")
    try:
        found = [field for piece in pieces for field in reader.feed(piece)]
        reader.end()
    except AmbiguousForm:
        return "refused"
    return found


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=20))
def test_any_bytes_in_any_split_are_read_alike(data: bytes, cuts: list[int]) -> None:
    for body in (data, b"--xYz\r\n" + data, a_form([Part("a", data)])):
        at = sorted({0, *(c for c in cuts if c < len(body)), len(body)})
        assert read_in([body[a:b] for a, b in pairwise(at)]) == read_in([body])


def test_the_content_of_a_large_file_is_not_buffered() -> None:
    found = FormFieldReader(b"xYz")
    list(found.feed(a_form([Part("file", b"", True)]).removesuffix(b"\r\n--xYz--\r\n")))
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


def test_a_file_that_holds_a_form_does_not_name_the_model() -> None:
    inner = a_form([Part("model", b"wrong")], "inner")
    body = a_form([Part("file", inner, True), Part("model", b"right")])
    assert field(body, b"model") == b"right"


def test_a_line_that_only_begins_like_the_delimiter_is_none() -> None:
    body = a_form([Part("model", b"a\r\n--xYzz\r\nb")])
    assert field(body, b"model") == b"a\r\n--xYzz\r\nb"


@pytest.mark.parametrize("quote", ['"', ""])
def test_names_may_be_quoted_or_not_and_headers_are_in_any_case(quote: str) -> None:
    head = f"CONTENT-DISPOSITION: Form-Data; NAME={quote}model{quote}\r\nContent-Length: 1"
    assert field(f"--xYz\r\n{head}\r\n\r\nw\r\n--xYz--\r\n".encode(), b"model") == b"w"


DISPOSITION = 'Content-Disposition: form-data; name="model"'

# A second part with the value BIG after the one that names the model, and what three parsers then read: Starlette with
# python-multipart, Go's mime/multipart, Werkzeug; "-": the first one, or none; None: not recorded.
SECOND_MODELS: list[tuple[str, str, tuple[str, str, str] | None]] = [
    ("an attachment", 'Content-Disposition: attachment; name="model"', ("BIG", "-", "BIG")),
    ("no type", 'Content-Disposition: ; name="model"', ("BIG", "-", "-")),
    ("two names", 'Content-Disposition: form-data; name="x"; name="model"', ("BIG", "-", "BIG")),
    ("two dispositions", f'Content-Disposition: form-data; name="x"\r\n{DISPOSITION}', ("BIG", "-", "-")),
    ("a long head", f"X-Padding: {'x' * 4096}\r\n{DISPOSITION}", ("BIG", "BIG", "BIG")),
    ("an extended name", "Content-Disposition: form-data; name*=utf-8''model", ("400", "BIG", "BIG")),
    ("a folded header", 'Content-Disposition: form-data;\r\n name="model"', ("400", "BIG", "BIG")),
    ("an escaped quote", 'Content-Disposition: form-data; name="x\\"; name="model"', None),
    ("an escaped letter", 'Content-Disposition: form-data; name="mode\\l"', None),
    ("a space before the colon", DISPOSITION.replace(":", " :"), None),
    ("an encoding", f"Content-Transfer-Encoding: base64\r\n{DISPOSITION}", None),
    ("a bare line feed", f"X: y\n{DISPOSITION}", None),
    ("no disposition", "X: y", None),
]


def with_second(head: str) -> bytes:
    first = a_form([Part("model", b"chat"), Part("file", b"RIFF", True)]).removesuffix(b"--\r\n")
    return first + f"\r\n{head}\r\n\r\nBIG\r\n--xYz--\r\n".encode()


# What only some parsers take for the boundary, within a file.
LINES = [b"\n--xYz\r\n", b"\r--xYz\r\n", b"\n--xYz\n", b"\r\n--xYz \r\n", b"\r\n--xYz\t\r\n", b"\r\n--xYz\n"]


def with_line(line: bytes) -> bytes:
    hidden = line + DISPOSITION.encode() + b"\r\n\r\nBIG"
    return a_form([Part("model", b"chat"), Part("file", b"RIFF" + hidden, True)])


WHOLE = a_form([Part("model", b"chat"), Part("file", b"RIFF", True)])
AMBIGUOUS = {
    **{name: with_second(head) for name, head, _ in SECOND_MODELS},
    **{repr(line): with_line(line) for line in LINES},
    "another boundary": a_form([Part("model", b"chat")], "other") + WHOLE,
    "a preamble": b"a preamble\r\n" + WHOLE,
    "no closing delimiter": WHOLE.removesuffix(b"--xYz--\r\n"),
    "no form": b"{}",
}


@pytest.mark.parametrize("case", AMBIGUOUS)
async def test_a_form_with_two_readings_is_refused(gateway: Any, upstream: FakeUpstream, case: str) -> None:
    body = AMBIGUOUS[case]
    for pieces in ([body], [body[at : at + 7] for at in range(0, len(body), 7)]):
        reply = await send(gateway, pieces)
        assert reply.status_code == 400, reply.text
        assert reply.json()["error"]["type"] == "invalid_request_error"
    assert not [r for r in upstream.received if b"BIG" in r.body]


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/form-data",
        "multipart/mixed; boundary=xYz",
        "multipart/form-data; boundary=xYz; boundary=other",
        "multipart/form-data; boundary*=utf-8''xYz",
        'multipart/form-data; boundary="x\\Yz"',
        "multipart/form-data; boundary=xYz; charset=utf-7",
        "multipart/form-data; boundary=" + "x" * 71,
    ],
)
async def test_a_content_type_with_two_readings_is_refused(gateway: Any, content_type: str) -> None:
    assert (await send(gateway, [WHOLE], content_type)).status_code == 400


async def send(gateway: Any, pieces: list[bytes], content_type: str = "multipart/form-data; boundary=xYz") -> Any:
    async def body() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    headers = {"content-type": content_type}
    return await gateway.client.post("/audio/transcriptions", content=body(), headers=headers)


def test_a_boundary_may_be_quoted_and_have_a_charset() -> None:
    for text in ("boundary=xYz", 'Boundary="xYz"', "charset=UTF-8; boundary=xYz", "boundary=xYz;"):
        assert boundary_of(f"Multipart/Form-Data; {text}".encode()) == b"xYz"
    assert boundary_of(b"multipart/form-data; boundary=----=_Part_1.2") == b"----=_Part_1.2"


def test_file_names_of_every_client_are_understood() -> None:
    for name in (
        'filename="C:\\dir\\a.wav"',
        "filename*=UTF-8''%e2%82%ac.wav",
        'filename="a;b=c.wav"',
        "filename=a.wav",
    ):
        head = f'--xYz\r\nContent-Disposition: form-data; name="file"; {name}\r\n\r\nRIFF\r\n'
        assert field(head.encode() + WHOLE, b"model") == b"chat"
