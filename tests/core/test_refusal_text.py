"""Refusals by their first words, in five languages; what only sounds like one is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.refusal_text import refusal_language

REFUSED = {
    "English": [
        "I can't assist with that.",
        "I cannot help you with this request.",
        "I'm really sorry, but I can't help with that.",
        "I am sorry, I won't be able to provide that.",
        "Sorry about that, but I'm not able to create this content.",
        "Apologies, but I am unable to comply.",
        "I apologize, but I cannot fulfill this request.",
        "Unfortunately, I can't share personal data.",
        "As a responsible AI, I cannot ethically assist with this.",
        "I'm sorry, but as an AI language model, I can't provide medical advice.",
        "I must decline.",
        "I have to respectfully decline your request.",
        "I'm not comfortable writing that.",
        "We are unable to process this request.",
        "This request violates our usage policy.",
        "I\u2019m unable to help with that.",
        "> I won't do that.",
        "  \n\n**I can\u2019t engage** with this topic.",
    ],
    "French": [
        "Je ne peux pas vous aider avec cette demande.",
        "Désolé, je ne peux pas répondre à cette question.",
        "Je suis vraiment désolée, mais je ne peux malheureusement pas vous fournir cela.",
        "Je ne suis pas en mesure de vous aider.",
        "Je regrette, mais il m\u2019est impossible de traiter cette demande.",
        "Je dois refuser.",
    ],
    "German": [
        "Ich kann Ihnen dabei nicht helfen.",
        "Leider kann ich diese Frage nicht beantworten.",
        "Es tut mir leid, aber ich kann diese Anfrage nicht erfüllen.",
        "Entschuldigung, dabei kann ich dir nicht weiterhelfen.",
        "Ich darf dazu keine Auskunft geben.",
        "Tut mir leid, ich bin nicht in der Lage, das zu tun.",
        "Ich muss diese Anfrage ablehnen.",
    ],
    "Spanish": [
        "No puedo ayudarte con eso.",
        "Lo siento mucho, pero no puedo proporcionar esa información.",
        "Lamentablemente, no puedo cumplir con esa solicitud.",
        "Debo rechazar esta solicitud.",
    ],
    "Italian": [
        "Non posso aiutarti con questo.",
        "Mi dispiace molto, ma non sono in grado di fornire queste informazioni.",
        "Purtroppo non posso rispondere a questa domanda.",
        "Devo rifiutare.",
    ],
}
ANSWERED = [
    "",
    "Sure, I can help with that.",
    "I can't recommend this book enough.",
    "I can't help but smile.",
    "I can't help laughing.",
    "I can't help it if you are right.",
    "I can't provide enough praise for this film.",
    "I cannot believe it!",
    "I can't wait to help you.",
    "I won't lie: it is hard. Here is how.",
    "Sorry for the confusion. The answer is 4.",
    "I'm sorry for your loss.",
    "I refuse to give in, he said, and I agree with none of it enough.",
    "Unfortunately, the library was closed in 1998.",
    "To answer: I cannot help thinking of Rome.",
    "The assistant said: I'm sorry, but I can't help with that.",
    "It violates the first law of thermodynamics.",
    "Je ne peux pas croire que ce soit déjà fini.",
    "Désolé pour le retard. Voici la réponse.",
    "Je ne peux que vous aider.",
    "Ich kann es kaum erwarten.",
    "Ich kann Ihnen helfen. Das ist nicht schwer.",
    "Ich kann nicht genug betonen, wie wichtig das ist.",
    "Leider war die Bibliothek geschlossen.",
    "No puedo creerlo.",
    "Lo siento por la espera. Aquí está.",
    "Non posso credere ai miei occhi.",
    "Mi dispiace per l'attesa.",
]


@pytest.mark.parametrize(("language", "text"), [(k, t) for k, texts in REFUSED.items() for t in texts])
def test_a_refusal_is_seen_in_its_language(language, text):
    assert refusal_language(text) == language


@pytest.mark.parametrize("text", ANSWERED)
def test_texts_that_only_sound_like_a_refusal_are_answers(text):
    assert refusal_language(text) is None


@pytest.mark.parametrize("text", ["x" * 1000 + "I can't help with that.", " " * 1000 + "I can't help with that."])
def test_only_the_beginning_counts(text):
    assert refusal_language(text) is None


@given(st.text(alphabet=" Iichkann'tnot.,", max_size=800))
def test_no_text_takes_long_or_raises(text):
    refusal_language(text)
