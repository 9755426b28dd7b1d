"""Whether there is an answer to judge at all. Rules ask here first, so that all of them skip the same exchanges."""

from __future__ import annotations

from gateway.core.score import Skipped
from gateway.evals.scoring.types import Subject

ANSWERING = frozenset({"chat", "completions", "responses", "messages"})
NO_ANSWER = Skipped("an answer")
NO_TEXT = Skipped("an answer in text")
NO_END = Skipped("an answer that was read and kept to its end")


def require_answer(subject: Subject) -> Skipped | None:
    """Skipped for other APIs (embeddings, …), refused requests, and failures before the first word."""
    exchange, said = subject.exchange, subject.completion
    if exchange.api not in ANSWERING or exchange.status >= 400:
        return NO_ANSWER
    if said.error is not None and not (said.text or said.tool_calls):
        return NO_ANSWER
    return None


def require_text(subject: Subject) -> Skipped | None:
    """Skipped also where nothing stands in text, as with an answer that only calls tools."""
    return require_answer(subject) or (None if subject.completion.text.strip() else NO_TEXT)


def require_complete(subject: Subject) -> Skipped | None:
    """Skipped also where the end is missing for a reason that is not the model's: the client left, or our byte cap
    cut the record."""
    if subject.exchange.outcome == "client_gone" or subject.exchange.truncated:
        return NO_END
    return require_answer(subject)
