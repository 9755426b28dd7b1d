"""The bytes that requests carry inline never enter the stream. Everything else stays as it is."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.proxy.recording.inline_media import DATA_URL, name_payload, without_data_urls, without_images

CAP = 1 << 20
PAYLOAD = re.compile(r"[A-Za-z0-9+/_-]{64,}")


def redacted(value: Any, **dump: Any) -> Any:
    body, cut = without_data_urls(json.dumps(value, **dump).encode(), CAP)
    assert not cut
    return json.loads(body)


def payloads(value: Any) -> list[str]:
    """Long runs that could be base64, but for the digests that stand in their place."""
    text = json.dumps(value).replace("\\/", "/")
    return [found for found in PAYLOAD.findall(re.sub(r"sha256=[0-9a-f]{64}", "", text))]


data = st.binary(min_size=48, max_size=200)
kinds = st.sampled_from(["image/png", "application/pdf", "audio/wav", "image/svg+xml", ""])
extras = st.sampled_from(["", ";charset=utf-8", ";name=my_picture.png", ";name=a%20b.png", ";a=b;c=d"])


@given(data=data, kind=kinds, extra=extras, safe=st.booleans(), before=st.text(max_size=5), after=st.text(max_size=5))
def test_every_data_url_is_replaced_and_all_else_is_equal(
    data: bytes, kind: str, extra: str, safe: bool, before: str, after: str
) -> None:
    encoded = (base64.urlsafe_b64encode if safe else base64.b64encode)(data).decode()
    url = f"data:{kind}{extra};base64,{encoded}"
    request = {"model": "m", "a": before, "messages": [{"content": [{"image_url": {"url": url}}, after]}], "n": 1}
    out = redacted(request)
    assert encoded not in json.dumps(out)
    assert not payloads(out)
    output = out["messages"][0]["content"][0]["image_url"].pop("url")
    assert f"sha256={sha256(encoded.encode()).hexdigest()}" in output
    assert kind in output
    request["messages"][0]["content"][0]["image_url"].pop("url")  # type: ignore[index]
    assert out == request


@given(data)
def test_inline_sounds_and_anthropics_images_are_replaced(data: bytes) -> None:
    encoded = base64.b64encode(data).decode()
    for assignment in (
        {"input_audio": {"data": encoded, "format": "wav"}},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": encoded}},
    ):
        out = redacted({"messages": [{"content": [assignment]}]})
        assert encoded not in json.dumps(out)
        assert "sha256=" in json.dumps(out)


def spelled(text: str) -> list[bytes]:
    """The ways in which JSON encoders write it."""
    plain = json.dumps(text)
    return [
        plain.encode(),
        plain.replace("/", "\\/").encode(),
        plain.replace("+", "\\u002B").encode(),
        plain.replace("=", "\\u003d").encode(),
    ]


@pytest.mark.parametrize("way", range(4), ids=["plain", "PHP's slashes", ".NET's plus", "escaped ="])
def test_a_payload_is_found_in_each_way_that_encoders_spell_it(way: int) -> None:
    encoded = base64.b64encode(b"\xfb\xff\xfe?" * 60 + b"x").decode()
    assert all(c in encoded for c in "+/=")
    written = spelled(f"data:image/png;base64,{encoded}")[way]
    body, _ = without_data_urls(b'{"url":' + written + b',"t":0.70}', CAP)
    assert not payloads(json.loads(body))
    assert body.endswith(b',"t":0.70}')


OUTSIDE = [
    "see ![](data:image/png;base64,{}) here",
    "data:image/png;base64,{}",
    "DATA:IMAGE/PNG;BASE64,{}",
    "<img src='data:image/png;base64,{}'>",
    "data:image/png;base64,{} and data:image/png;base64,{}",
    "data:;base64,{}",
]


@pytest.mark.parametrize("text", OUTSIDE)
def test_a_data_url_within_a_text_is_replaced_and_the_text_stays(text: str) -> None:
    encoded = base64.b64encode(bytes(range(200))).decode()
    out = redacted({"messages": [{"content": text.format(encoded, encoded)}]})["messages"][0]["content"]
    assert encoded not in out
    assert out.startswith(text.partition("{}")[0][:4])
    assert out.endswith(text.rpartition("{}")[2])


def test_lines_within_a_payload_do_not_hide_it() -> None:
    encoded = base64.encodebytes(bytes(range(250))).decode()
    out = redacted({"url": "data:image/png;base64," + encoded})
    assert not payloads(out)


def test_json_within_json_does_not_hide_a_payload() -> None:
    encoded = base64.b64encode(bytes(range(250))).decode()
    inner = json.dumps({"data": encoded, "n": 1})
    out = redacted({"arguments": inner})
    assert encoded not in out["arguments"]
    assert json.loads(out["arguments"])["n"] == 1


KEPT = [
    {"messages": [{"content": "no data: here; base64, is a word"}]},
    {"messages": [{"content": "data:text/plain,hello"}]},
    {"data": "short", "x": "data:image/png;base64,AAAA"},
    {"data": "a text of more than sixty-four characters, with spaces, cannot be a payload"},
    {"data": {"nested": ["x" * 300]}},
    {"content": "x" * 5000},
]


@pytest.mark.parametrize("request_", KEPT, ids=[str(at) for at in range(len(KEPT))])
def test_texts_without_payload_are_untouched(request_: dict[str, Any]) -> None:
    body = json.dumps(request_).encode()
    assert without_data_urls(body, CAP) == (body, False)


@given(st.binary(max_size=400))
def test_any_bytes_at_all_are_taken(body: bytes) -> None:
    out, cut = without_data_urls(b'{"a":"data:image/png;base64,' + body, CAP)
    assert not cut
    assert out.startswith(b'{"a":"data:')


@pytest.mark.parametrize(("size", "cut"), [(100, False), (101, True)])
def test_a_body_above_the_cap_is_cut_and_says_so(size: int, cut: bool) -> None:
    assert without_data_urls(b"x" * size, 100) == (b"x" * 100, cut)


def test_the_cap_applies_without_the_payloads() -> None:
    body = json.dumps({"url": "data:image/png;base64," + "A" * 10_000}).encode()
    out, cut = without_data_urls(body, 300)
    assert not cut
    assert json.loads(out)


def test_a_large_image_costs_few_steps(steps: Any) -> None:
    """The image is read at the end of a call, while others wait."""
    body = json.dumps({"url": "data:image/png;base64," + "A" * 20_000_000, "text": "; data: " * 50_000}).encode()
    with steps() as counted:
        out, _ = without_data_urls(body, CAP)
    assert len(out) < 500_000
    assert counted.n < 2_000


@pytest.mark.parametrize("size", [65_535, 65_536, 70_000, 262_144, 600_001])
@pytest.mark.parametrize("end", ['"', '?x=1"', '\\n"', '!"', ' "', ""])
def test_large_payloads_are_named_as_small_ones_are(size: int, end: str) -> None:
    """Names are those that the pattern alone would give."""
    payload = ("AbC+" * (size // 4 + 1))[:size]
    body = ('{"a": "data:image/png;base64,' + payload + end + ', "b": "data:;base64,' + "x" * 100 + '"}').encode()
    expected = DATA_URL.sub(name_payload, body)
    assert without_data_urls(body, 1 << 30) == (expected, False)
    assert payload[:100].encode() not in expected


def test_the_pattern_never_reads_ten_megabytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pattern's search costs four times what the hash of pieces does, and stops every other thread."""
    body, read = b'{"url": "data:image/png;base64,' + b"Ab3+" * 2_500_000 + b'"}', []

    class Counted:
        def sub(self, replacement: Callable[[re.Match[bytes]], bytes], text: bytes) -> bytes:
            read.append(len(text))
            return DATA_URL.sub(replacement, text)

    monkeypatch.setattr("gateway.proxy.recording.inline_media.DATA_URL", Counted())
    named, cut = without_data_urls(body, 1 << 30)
    assert b"bytes=7500000" in named
    assert not cut
    assert 0 < sum(read) < 100


def test_an_image_in_an_answer_is_replaced_by_its_digest() -> None:
    payload = "AbC+" * 50
    answer = (
        f'{{"images": [{{"url": "data:image/png;base64,{payload}"}}], "content": "{{\\"data\\": \\"{payload}\\"}}"}}'
    )
    output = without_images(answer.encode())
    assert output.count(payload.encode()) == 1
    assert sha256(payload.encode()).hexdigest().encode() in output
    plain = b'data: {"choices": []}'
    assert without_images(plain) is plain
