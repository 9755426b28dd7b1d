"""The rules of implicit feedback: what a message says of the answer before it, and which turn it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.core.completion import Completion
from gateway.features.feedback.implicit import ImplicitFeedback
from gateway.scoring.types import Subject

LANGUAGES = ("en", "de", "fr", "es", "it")

# (language, message, the question before it, what the message says): half of each language's are hard negatives.
SENTENCES: list[tuple[str, str, str | None, str]] = [
    ("en", "Thanks!", None, "thanks"),
    ("en", "thank you so much, that helps", None, "thanks"),
    ("en", "Great, it works now", None, "thanks"),
    ("en", "That's wrong.", None, "wrong"),
    ("en", "No, that’s not what I asked. I wanted the sum.", None, "wrong"),
    ("en", "You're mistaken, Canberra is the capital", None, "wrong"),
    ("en", "thanks, but that is incorrect", None, "wrong"),
    ("en", "Again: what is the capital of France?", "What is the capital of France?", "repeat"),
    ("en", "whats the captial of France", "What's the capital of France", "repeat"),
    ("en", "I said, list three rivers please", "List three rivers", "repeat"),
    ("en", "What is the capital of Spain?", "What is the capital of France?", ""),
    ("en", "What is 12 + 31?", "What is 12 + 30?", ""),
    ("en", "No thanks, that is all.", None, ""),
    ("en", "Thanks in advance for a summary of this text", None, ""),
    ("en", "What is wrong with my code?", None, ""),
    ("en", "Which of these answers is wrong?", None, ""),
    ("en", "Write a thank you card for my aunt", None, ""),
    ("en", "Now translate it into German", "Write a poem about rain", ""),
    ("en", "Thank you. Now explain to me in detail how photosynthesis works and which role the light plays", None, ""),
    ("en", "Is it wrong to lie?", None, ""),
    ("de", "Danke!", None, "thanks"),
    ("de", "Vielen Dank, das hat geholfen", None, "thanks"),
    ("de", "Super, es funktioniert", None, "thanks"),
    ("de", "Das ist falsch.", None, "wrong"),
    ("de", "Nein, das stimmt nicht.", None, "wrong"),
    ("de", "Das ist nicht, was ich wollte", None, "wrong"),
    ("de", "Danke, aber das ist leider falsch", None, "wrong"),
    ("de", "Nochmal bitte: Was ist die Hauptstadt von Peru?", "Was ist die Hauptstadt von Peru?", "repeat"),
    ("de", "was ist die hauptstat von peru", "Was ist die Hauptstadt von Peru", "repeat"),
    ("de", "Was ist die Hauptstadt von Chile?", "Was ist die Hauptstadt von Peru?", ""),
    ("de", "Nein danke, das war alles", None, ""),
    ("de", "Was ist an diesem Satz falsch?", None, ""),
    ("de", "Schreib eine Karte mit dem Text danke", None, ""),
    ("de", "Danke im Voraus für eine Zusammenfassung", None, ""),
    ("de", "Übersetze das ins Englische", "Schreib ein Gedicht über Regen", ""),
    ("fr", "Merci !", None, "thanks"),
    ("fr", "Merci beaucoup, ça marche", None, "thanks"),
    ("fr", "C'est faux.", None, "wrong"),
    ("fr", "Non, ce n’est pas ce que j'ai demandé", None, "wrong"),
    ("fr", "Tu te trompes, c'est Berne", None, "wrong"),
    ("fr", "Encore une fois, quelle est la capitale du Pérou ?", "Quelle est la capitale du Pérou ?", "repeat"),
    ("fr", "Quelle est la capitale du Chili ?", "Quelle est la capitale du Pérou ?", ""),
    ("fr", "Non merci, c'est tout", None, ""),
    ("fr", "Merci d'avance pour un résumé", None, ""),
    ("fr", "Pourquoi mon calcul est faux ?", None, ""),
    ("fr", "Écris une lettre pour dire merci", None, ""),
    ("es", "¡Gracias!", None, "thanks"),
    ("es", "Muchas gracias, funciona", None, "thanks"),
    ("es", "Eso es incorrecto.", None, "wrong"),
    ("es", "No, te equivocas", None, "wrong"),
    ("es", "Eso no es lo que pedí", None, "wrong"),
    ("es", "Otra vez: ¿cuál es la capital de Perú?", "¿Cuál es la capital de Perú?", "repeat"),
    ("es", "¿Cuál es la capital de Chile?", "¿Cuál es la capital de Perú?", ""),
    ("es", "No, gracias, es todo", None, ""),
    ("es", "Gracias de antemano por un resumen", None, ""),
    ("es", "¿Qué frase es la incorrecta?", None, ""),
    ("es", "Escribe una carta para dar las gracias", None, ""),
    ("it", "Grazie!", None, "thanks"),
    ("it", "Grazie mille, funziona", None, "thanks"),
    ("it", "È sbagliato.", None, "wrong"),
    ("it", "No, ti sbagli", None, "wrong"),
    ("it", "Non è quello che ho chiesto", None, "wrong"),
    ("it", "Ancora una volta: qual è la capitale del Perù?", "Qual è la capitale del Perù?", "repeat"),
    ("it", "Qual è la capitale del Cile?", "Qual è la capitale del Perù?", ""),
    ("it", "No grazie, è tutto", None, ""),
    ("it", "Grazie in anticipo per un riassunto", None, ""),
    ("it", "Quale frase è la più sbagliata?", None, ""),
    ("it", "Scrivi un biglietto per dire grazie", None, ""),
]


@pytest.mark.parametrize(("language", "message", "earlier", "says"), SENTENCES)
def test_a_message_says_of_the_answer_before_it(language: Any, message: str, earlier: str | None, says: str) -> None:
    assert ",".join(ImplicitFeedback((language,)).signs(message, earlier)) == says


def test_rules_of_all_languages_together_stay_precise() -> None:
    """Each language's rules also read the other languages' messages: none may fire that does not fire alone."""
    rules = ImplicitFeedback(LANGUAGES)
    wrong = [(m, rules.signs(m, e), says) for _, m, e, says in SENTENCES if ",".join(rules.signs(m, e)) != says]
    assert wrong == []


def test_sentences_that_were_written_apart_are_read_right() -> None:
    """docs/evidence.md says how many were before the rules had seen them. Columns: language, what it says, message."""
    rules = ImplicitFeedback(LANGUAGES)
    lines = (Path(__file__).parents[2] / "fixtures" / "implicit_sentences.tsv").read_text("utf-8").splitlines()
    found = [(message, ",".join(rules.signs(message)), says) for _, says, message in (x.split("\t") for x in lines)]
    assert len(found) == 183
    assert [each for each in found if each[1] != each[2]] == []


@pytest.fixture
def subject(exchange: Any) -> Any:
    """Makes what a scorer reads from messages and an answer."""

    def made(messages: Any, answer: str = "", **fields: Any) -> Subject:
        body = messages if isinstance(messages, dict) else {"messages": messages}
        one = exchange(request=json.dumps(body).encode(), **fields)
        return Subject(one, body, Completion(text=answer))

    return made


def say(role: str, text: str) -> dict[str, str]:
    return {"role": role, "content": text}


def test_a_reply_finds_the_answer_it_repeats(subject: Any) -> None:
    """The answer is found even if the client strips white space, drops the system prompt or sends the text in parts."""
    rules = ImplicitFeedback(("en",))
    first = rules.turn(subject([say("system", "Be brief."), say("user", "A river?")], " The Rhine. "))
    assert first is not None
    assert first.reply_to is None
    parts = {"role": "assistant", "content": [{"type": "text", "text": "The Rhine."}]}
    reply = rules.turn(subject([say("user", "A river?"), parts, say("user", "that's wrong")], "The Po."))
    assert reply is not None
    assert (reply.reply_to, reply.signs) == (first.answer, ("wrong",))
    other = rules.turn(subject([say("user", "A river?"), parts, say("user", "ok")], "", caller="other"))
    assert other is not None
    assert other.reply_to != first.answer, "another caller's answer is another answer"


@pytest.mark.parametrize(
    "messages",
    [[], [say("user", "hi"), say("assistant", "hello")], [say("tool", "3")], {"input": []}, {"prompt": "hi"}],
)
def test_a_conversation_that_no_user_ended_is_not_a_turn(subject: Any, messages: Any) -> None:
    assert ImplicitFeedback(("en",)).turn(subject(messages)) is None


def test_a_stopped_stream_is_a_turn_without_texts(subject: Any) -> None:
    rules = ImplicitFeedback(("en",))
    gone = rules.turn(subject({}, stream=True, outcome="client_gone"))
    assert gone is not None
    assert gone.stopped
    assert rules.turn(subject({}, stream=False, outcome="client_gone")) is None
    assert rules.turn(subject([say("user", "hi")], role="shadow")) is None


def test_a_first_turn_belongs_to_its_conversation(subject: Any) -> None:
    rules = ImplicitFeedback(("en",))
    body = {"messages": [say("user", "A river?")], "metadata": {"conversation_id": "c1"}}
    named, plain = rules.turn(subject(body)), rules.turn(subject([say("user", "A river?")]))
    assert named is not None
    assert plain is not None
    assert named.parent is not None
    assert plain.parent is None
