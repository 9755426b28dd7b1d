"""Targets by their shortest distinct name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.verdict.short_names import short_names, shortened


@pytest.mark.parametrize(
    ("targets", "names"),
    [
        (("openai/gpt-x", "local/llama-y"), ("gpt-x", "llama-y")),
        (("hf/meta/llama-y", "hf/qwen/qwen3"), ("llama-y", "qwen3")),
        (("a/m", "a/m[temperature=1.5]"), ("m", "temperature 1.5")),
        (("a/m[temperature=0.2]", "a/m[temperature=1.5]"), ("temperature 0.2", "temperature 1.5")),
        (("a/m[seed=1,temperature=0.2]", "a/m[seed=1,temperature=1.5]"), ("temperature 0.2", "temperature 1.5")),
        (("a/m", "a/m[system=#1a2b3c4d]"), ("m", "another system message")),
        (("rack/m", "cloud/m"), ("rack", "cloud")),
        (("chat", "chat,temperature=1.5"), ("chat", "temperature 1.5")),
        (("chat", "chat,system=Answer in one, short sentence."), ("chat", "another system message")),
        (("same/m", "same/m"), ("same/m", "same/m")),
    ],
)
def test_a_name_is_as_short_as_tells_it_apart(targets: tuple[str, ...], names: tuple[str, ...]) -> None:
    assert short_names(targets) == names


@given(st.lists(st.text(max_size=60), min_size=2, max_size=4, unique_by=lambda text: " ".join(text.split())[:27]))
def test_different_targets_have_different_short_names(targets: list[str]) -> None:
    names = short_names(targets)
    assert all(len(name) <= 28 and "\n" not in name for name in names)
    assert len(set(names)) == len(names)


@given(st.text(max_size=200), st.integers(2, 40))
def test_a_shortened_text_is_one_line(text: str, most: int) -> None:
    found = shortened(text, most)
    assert len(found) <= most
    assert found == " ".join(found.split()) or found.endswith("…")
