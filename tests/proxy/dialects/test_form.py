"""The model of a multipart form is edited in its bytes; files are not looked into."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.proxy.dialects.form import set_model

FILE = (
    b'--b1\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\nContent-Type: audio/wav\r\n\r\n'
    b"RIFF\x00\r\n\r\nmodel\xff\r\n"
)
MODEL = b'--b1\r\nContent-Disposition: form-data; name="model"\r\n\r\nalias\r\n'
END = b"--b1--\r\n"


@pytest.mark.parametrize("form", [FILE + MODEL + END, MODEL + FILE + END, MODEL + END])
def test_only_the_model_changes(form: bytes) -> None:
    assert set_model(form, "whisper-1") == form.replace(b"alias", b"whisper-1")


def test_every_field_of_that_name_changes() -> None:
    form = MODEL + MODEL.replace(b"alias", b"other") + END
    assert set_model(form, "w") == form.replace(b"alias", b"w").replace(b"other", b"w")


def test_other_headers_of_the_field_stay() -> None:
    form = b"--b1\r\nContent-Type: text/plain\r\ncontent-disposition: form-data; name=model\r\n\r\n\r\n--b1--\r\n"
    assert set_model(form, "w") == form.replace(b"\r\n\r\n\r\n", b"\r\n\r\nw\r\n")


def test_a_field_with_a_longer_name_stays() -> None:
    form = b'--b1\r\nContent-Disposition: form-data; name="model_id"\r\n\r\nalias\r\n--b1--\r\n'
    assert set_model(form, "w") == form


@given(st.binary(max_size=200))
def test_a_files_bytes_stay(content: bytes) -> None:
    form = FILE.replace(b"RIFF", b"RIFF" + content.replace(b"--", b"")) + MODEL + END
    assert set_model(form, "alias") == form


def test_what_looks_like_a_field_inside_a_file_stays() -> None:
    fake = MODEL.replace(b"--b1", b"--b2")
    form = FILE.replace(b"RIFF", b"RIFF\r\n" + fake + b"--b2--") + MODEL + END
    changed = set_model(form, "w")
    assert fake in changed
    assert changed.endswith(MODEL.replace(b"alias", b"w") + END)


def test_a_large_file_costs_milliseconds() -> None:
    form = FILE.replace(b"RIFF", b"\r\n-RIFF" * 2_000_000) + MODEL + END
    started = time.perf_counter()
    assert set_model(form, "w").endswith(MODEL.replace(b"alias", b"w") + END)
    assert time.perf_counter() - started < 0.3
