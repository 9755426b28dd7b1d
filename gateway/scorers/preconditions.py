"""Preconditions that scorers share, so that all of them skip the same exchanges."""

from __future__ import annotations

from gateway.core.exchange import CLIENT_ENDED
from gateway.core.score import Skipped
from gateway.scoring.types import Subject

ANSWERING_APIS = frozenset({"chat", "completions", "responses", "messages"})
NO_ANSWER = Skipped("an answer")
NO_TEXT = Skipped("an answer in text")
INCOMPLETE = Skipped("an answer that was received and recorded to its end")


def require_answer(subject: Subject) -> Skipped | None:
    """Skipped for other APIs (embeddings, …), rejected requests and failures before the first token; else None."""
    exchange, completion = subject.exchange, subject.completion
    if exchange.api not in ANSWERING_APIS or exchange.status >= 400:
        return NO_ANSWER
    if completion.error is not None and not (completion.text or completion.tool_calls):
        return NO_ANSWER
    return None


def require_text(subject: Subject) -> Skipped | None:
    """Skipped also for answers without text, such as those that only call tools."""
    return require_answer(subject) or (None if subject.completion.text.strip() else NO_TEXT)


def require_complete(subject: Subject) -> Skipped | None:
    """Skipped also where the end is missing, but not because of the model: the client left, the record was cut."""
    if subject.exchange.outcome in CLIENT_ENDED or subject.exchange.truncated:
        return INCOMPLETE
    return require_answer(subject)
