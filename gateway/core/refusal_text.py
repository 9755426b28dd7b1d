"""Tells whether a text is a refusal, by its opening in five languages. Pure.

A refusal is an apology (or none), then "I cannot", then a verb of helping; or one of a few whole sentences. The verb
distinguishes "I can't help with that" from "I can't recommend this book enough".
"""

from __future__ import annotations

import re
from functools import cache

REFUSING_FINISH_REASONS = frozenset({"content_filter", "refusal", "safety"})
MAX_OPENING = 400  # characters at the start of a text that must contain the complete refusal


def refusal_language(text: str) -> str | None:
    """The language of the refusal that the text begins with; None if it does not begin with one."""
    head = text[: 2 * MAX_OPENING].lstrip(" \t\r\n*_#>\"'“”«„")[:MAX_OPENING]
    if not head.isascii():
        for typographic, plain in _TYPOGRAPHY:
            head = head.replace(typographic, plain)
    if not _compiled(_EVERY).match(head):  # nearly always
        return None
    return next(language for language, phrase in _PHRASES.items() if _compiled(phrase).match(head))


@cache
def _compiled(phrase: str) -> re.Pattern[str]:
    """Takes 20 ms and 1.5 MB for all of them, which a program that reads no answer does not spend."""
    return re.compile(phrase, re.IGNORECASE)


def _any(*phrases: str) -> str:
    return f"(?:{'|'.join(phrases)})"


_TYPOGRAPHY = (("\u2019", "'"), ("\u02bc", "'"), ("\u00a0", " "), ("\u202f", " "))

_EN_SORRY = (
    _any(
        r"(?:i'm|i am|we're|we are)(?: so| very| really| truly| terribly)? sorry",
        *("sorry", "(?:my )?apologies", "i apologi[sz]e", "unfortunately", "regrettably"),
    )
    + r"(?: about that| for (?:any|the) \w+)?[,.:;! —-]+"
)
_EN_AS_AI = r"as an? (?:ai|artificial|language|large|responsible|helpful)[^,.\n]{0,60}, "
_EN_CANNOT = (
    _any(
        r"(?:i|we) (?:can't|cannot|can not|could not|couldn't|won't|will not|shouldn't|won't be able to|am unable to)",
        r"(?:i|we) (?:are unable to|am not able to|am not allowed to|am not permitted to|am not going to)",
        r"(?:i|we) (?:decline to|refuse to)",
        r"i'm (?:unable to|not able to|not allowed to|not permitted to|not going to)",
    )
    + r"(?: really| directly| in good conscience,?| ethically| legally| knowingly)? "
)
_EN_ACT = (
    _any(
        *(r"help(?! (?:but|it|myself|\w+ing)\b)", r"do (?:that|this|so)\b", "assist", "comply", "provide", "fulfil"),
        *("create", "generate", "produce", "write", "give", "share", "answer", "support", "continue", "engage"),
        *("participate", "discuss", "offer", "respond", "accommodate", "proceed", "process", "complete"),
    )
    + r"(?![^.!?\n]{0,60} enough\b)"
)
_EN_WHOLE = (
    r"(?:i|we) (?:must|have to|need to)(?: respectfully| politely)? (?:decline|refuse)\b",
    r"(?:i'm|i am) not comfortable (?:with |\w+ing )",
    r"(?:this|that|your) (?:request )?(?:violates|goes against|is against) ",
)
_ENGLISH = f"(?:{_EN_SORRY})?(?:but |however, )?(?:{_EN_AS_AI})?" + _any(_EN_CANNOT + _EN_ACT, *_EN_WHOLE)

_FR_SORRY = _any(
    r"(?:je suis (?:vraiment |sincèrement )?)?(?:désolée?|navrée?)", "malheureusement", "je regrette", "mes excuses"
)
_FR_CANNOT = _any(
    r"je ne (?:peux|puis)(?: malheureusement)? pas ",
    r"(?:je ne suis pas en mesure|il m'est impossible|je refuse) (?:de |d')",
)
_FR_ACT = r"(?:vous |t'|te |y )?" + _any(
    *("aider", "répondre", "fournir", "faire (?:cela|ça)", "créer", "générer", "écrire", "donner (?!tort|raison)"),
    *("satisfaire", "accéder", "participer", "continuer", "partager", "produire", "discuter", "rédiger", "traiter"),
)
_FRENCH = f"{_FR_SORRY}?[,.: ]*(?:mais )?" + _any(_FR_CANNOT + _FR_ACT, r"je dois (?:refuser|décliner)\b")

_DE_SORRY = _any(
    *(r"(?:es )?tut mir (?:sehr )?leid", "entschuldigung", "entschuldigen sie", "verzeihung", "leider", "ich bedauere"),
)
_DE_CANNOT = (
    r"(?:ich (?:kann|darf|werde)|(?:kann|darf|werde) ich)\b"
    r"[^.!?\n]{0,80}?\b(?:nicht(?! nur\b| genug\b)|keinen?|kein)\b[^.!?\n]{0,60}?\b"
)
_DE_ACT = _any(
    *("helfen", "weiterhelfen", "unterstützen", "beantworten", "erstellen", "schreiben", "verfassen", "liefern"),
    *("bereitstellen", "geben", "erfüllen", "nachkommen", "teilen", "generieren", "behilflich", "fortfahren"),
)
_DE_WHOLE = (
    r"(?:ich bin|bin ich) (?:leider )?nicht in der lage\b",
    r"ich muss [^.!?\n]{0,40}?ablehnen\b",
)
_GERMAN = f"{_DE_SORRY}?[,.: ]*(?:aber |doch )?(?:dabei |damit |hierbei |das )?" + _any(
    rf"{_DE_CANNOT}{_DE_ACT}\b", *_DE_WHOLE
)

_ES_SORRY = _any(
    *(r"lo (?:siento|lamento)(?: mucho)?", "disculp[ae]", "perdón", "perdona", "lamentablemente"),
    *("desafortunadamente", "por desgracia"),
)
_ES_CANNOT = r"no (?:puedo|podemos|me es posible|soy capaz de|estoy en condiciones de) "
_ES_ACT = _any(
    *("ayudar", "asistir", "proporcionar", "responder", "cumplir", "crear", "generar", "escribir", "ofrecer"),
    *("dar(?:te|le|les)? ", "hacer (?:eso|esto)", "compartir", "participar", "continuar", "brindar", "facilitar"),
)
_SPANISH = f"{_ES_SORRY}?[,.: ]*(?:pero )?" + _any(_ES_CANNOT + _ES_ACT, r"debo (?:rechazar|negarme|declinar)\b")

_IT_SORRY = _any(
    *("mi dispiace(?: molto)?", "sono spiacente", "spiacente", "purtroppo", "mi scuso", "scusa", "scusi"),
)
_IT_CANNOT = r"non (?:posso|possiamo|sono in grado di|mi è possibile|sono autorizzat[oa] a) "
_IT_ACT = _any(
    *("aiutar", "assister", "fornir", "rispondere", "soddisfare", "creare", "generare", "scrivere", "offrir"),
    *("dar(?:e|ti|le|vi) ", "farlo", "fare questo", "condividere", "partecipare", "continuare", "procedere"),
)
_ITALIAN = f"{_IT_SORRY}?[,.: ]*(?:ma )?" + _any(_IT_CANNOT + _IT_ACT, r"devo rifiutare\b")

_PHRASES = {"English": _ENGLISH, "French": _FRENCH, "German": _GERMAN, "Spanish": _SPANISH, "Italian": _ITALIAN}
_EVERY = _any(*_PHRASES.values())
