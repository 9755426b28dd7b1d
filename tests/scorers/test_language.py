"""The language of an answer against the one it should have."""

from __future__ import annotations

import pytest

from gateway.core.score import Skipped
from gateway.scoring.golden import check_golden

pytest.importorskip("py3langid")
from gateway.scorers.language import NO_QUESTION, TOO_SHORT, Language

TEXTS = {
    "en": "The museum opens at nine in the morning and closes at six in the evening.",
    "fr": "Le musée ouvre à neuf heures du matin et ferme à dix-huit heures.",
    "de": "Das Museum öffnet um neun Uhr morgens und schließt um achtzehn Uhr.",
    "es": "El museo abre a las nueve de la mañana y cierra a las seis de la tarde.",
    "it": "Il museo apre alle nove del mattino e chiude alle sei di sera.",
    "ru": "Музей открывается в девять часов утра и закрывается в шесть вечера.",
    "ja": "美術館は午前九時に開館し、午後六時に閉館します。どうぞお越しください。",
}


def asking(text):
    return {"messages": [{"role": "user", "content": text}]}


@pytest.mark.parametrize("language", TEXTS)
def test_the_answer_is_in_the_language_of_the_question(ask, subject, language):
    rule = Language("language")
    for asked, text in TEXTS.items():
        score = ask(rule, subject(TEXTS[language], asking(text)))
        assert (score.value, score.label) == (float(asked == language), language)


def test_the_expected_language_needs_no_question(ask, subject):
    rule = Language("language", expected="fr")
    assert ask(rule, subject(TEXTS["fr"])).value == 1.0
    assert ask(rule, subject(TEXTS["en"], asking(TEXTS["en"]))).value == 0.0


def test_too_little_to_tell_is_not_applicable(ask, subject):
    rule = Language("language")
    assert ask(rule, subject(TEXTS["en"], asking("Hi?"))) == NO_QUESTION
    assert ask(rule, subject("42 is it", asking(TEXTS["en"]))) == TOO_SHORT
    assert isinstance(ask(rule, subject("", asking(TEXTS["en"]))), Skipped)


def test_its_golden_cases_follow_the_option():
    assert check_golden(Language("language", expected="fr")) == []


def test_an_unknown_language_is_a_mistake():
    with pytest.raises(ValueError, match='no language "english"'):
        Language("language", expected="english")
