"""The reason of a judge is next to the sentence that it is about."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.features.calls.excerpts.judged_passages import MOST_CHARACTERS, JudgesReason, judged_answer

ANSWER = "The Rimac flows through Lima. It rises in the Andes at 5 000 m. It is 160 km long.\nAsk me more!"


def reason(text: str) -> JudgesReason:
    return JudgesReason("right", 0.2, text)


def test_a_quoted_sentence_has_its_reason_next_to_it() -> None:
    wrong = reason('The claim "It is 160 km long" is wrong: it is 204 km.')
    found = judged_answer(ANSWER, [wrong])
    assert [p.text for p in found.passages if p.reasons] == ["It is 160 km long.\n"]
    assert found.about_all == ()


def test_four_words_in_a_row_are_enough() -> None:
    found = judged_answer(ANSWER, [reason("that it rises in the Andes is true")])
    assert [p.text.strip() for p in found.passages if p.reasons] == ["It rises in the Andes at 5 000 m."]


def test_a_reason_about_the_whole_stands_below() -> None:
    polite = reason("Polite and brief.")
    found = judged_answer(ANSWER, [polite])
    assert found.about_all == (polite,)
    assert [p.text for p in found.passages] == [ANSWER]


def test_a_very_long_answer_is_one_passage() -> None:
    found = judged_answer("x. " * MOST_CHARACTERS, [reason("x")])
    assert len(found.passages) == 1


@given(st.text(max_size=600), st.lists(st.text(max_size=200), max_size=4))
def test_no_text_of_an_answer_is_lost(answer: str, reasons: list[str]) -> None:
    found = judged_answer(answer, [reason(text) for text in reasons])
    assert "".join(p.text for p in found.passages) == answer
    placed = sum(len(p.reasons) for p in found.passages)
    assert placed + len(found.about_all) == len(reasons)
