from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config.caution_memory import DAY_S, FILE, is_due


def test_a_caution_is_due_once_a_day(tmp_path: Path) -> None:
    assert is_due("stored in clear", tmp_path, now=1000.0)
    assert not is_due("stored in clear", tmp_path, now=1000.0 + DAY_S - 1)
    assert is_due("another text", tmp_path, now=1001.0), "each text by itself"
    assert not is_due("another text", tmp_path, now=1002.0)
    assert not is_due("stored in clear", tmp_path, now=1002.0)
    assert is_due("stored in clear", tmp_path, now=1000.0 + DAY_S)
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    assert b"clear" not in (tmp_path / FILE).read_bytes()


def test_without_a_data_directory_it_is_always_due_and_none_is_made(tmp_path: Path) -> None:
    for _ in range(2):
        assert is_due("stored in clear", tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_what_cannot_be_written_is_always_due(tmp_path: Path) -> None:
    (tmp_path / FILE).mkdir()
    for _ in range(2):
        assert is_due("stored in clear", tmp_path, now=1000.0)


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b'{"a": "b"}', b"\xff", b"1"])
def test_a_file_with_something_else_is_replaced(text: bytes, tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(text)
    assert is_due("stored in clear", tmp_path, now=1000.0)
    assert not is_due("stored in clear", tmp_path, now=1001.0)


def test_a_clock_that_was_ahead_hides_nothing(tmp_path: Path) -> None:
    assert is_due("stored in clear", tmp_path, now=2000.0)
    assert is_due("stored in clear", tmp_path, now=1000.0)
