"""The question of a call, from the ends of its request's body."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.features.calls.excerpts.questions import END_BYTES, BodyEnds, question_of


def ends(body: bytes) -> BodyEnds:
    return BodyEnds(body[:END_BYTES], body[-END_BYTES:], len(body))


def chat(*turns: tuple[str, str], **more: object) -> bytes:
    return orjson.dumps({"model": "m", "messages": [{"role": r, "content": c} for r, c in turns], **more})


@pytest.mark.parametrize(
    ("body", "question"),
    [
        (chat(("system", "be kind"), ("user", "how far?")), "how far?"),
        (chat(("user", "one"), ("assistant", "two"), ("user", "three")), "three"),
        (chat(("user", "one"), ("assistant", "the beginning of")), "one"),
        (orjson.dumps({"input": "how far?"}), "how far?"),
        (chat(("system", "x" * 9_000), ("user", "how\n“far”?"), temperature=0), "how\n“far”?"),
        (chat(("user", "how far?"), tools=["x" * 9_000]), "how far?"),
        (b"", ""),
    ],
)
def test_the_last_turn_is_the_question(body: bytes, question: str) -> None:
    assert question_of(ends(body)) == question


@given(st.binary(max_size=12_000))
def test_any_body_has_a_question_without_an_error(body: bytes) -> None:
    assert len(question_of(ends(body))) <= 2_000


@given(
    st.text(min_size=1, max_size=300).filter(lambda text: text.strip() and text.isprintable()), st.integers(0, 9_000)
)
def test_a_question_at_the_end_of_a_long_body_is_found(text: str, before: int) -> None:
    assert question_of(ends(chat(("system", "s" * before), ("user", text)))) == text
