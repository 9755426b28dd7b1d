"""Judges texts with the verdicts of one call: rules search them, scorers are asked, and lengths are measured.

A rule that raises, and a scorer that fails, is a failure of its verdict, and never of the call.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from gateway.config.guards import REFUSING
from gateway.core.completion import Completion
from gateway.core.errors import TooLarge
from gateway.core.guards import GuardFailure
from gateway.core.json_values import parse_object
from gateway.proxy.guards.guard import GuardFailed, Verdict
from gateway.proxy.guards.search import RuleHits, search
from gateway.proxy.guards.texts import Slot
from gateway.proxy.request.call import Call

LARGE_CHARS = 65_536
"""Characters whose search takes a millisecond or more: it is done on a thread."""
MOST_JUDGED_BYTES = 16_000_000
"""Bytes of the texts of a request, or of a plain answer, that rules judge, however long it takes: they are linear.
Larger texts are refused where a rule could redact or block."""
_MOST_CHAR_BYTES = 4  # of UTF-8
_MOST_REQUEST_BYTES = 262_144  # of a request that a scorer on answers sees; it sees none of a larger one


async def judge(verdicts: Sequence[Verdict], slots: Sequence[Slot], subject: Callable[[], Mapping[str, Any]]) -> bool:
    """Judges once, and counts. Returns whether a text of the slots was replaced. subject: makes it, for scorers."""
    ruled = [v for v in verdicts if v.hits is not None]
    changed = await search_texts(ruled, slots) if ruled else False
    asked = [v for v in verdicts if v.hits is None]
    if asked:
        await ask(asked, slots, subject)
    for verdict in verdicts:
        verdict.count()
    return changed


async def search_texts(ruled: Sequence[Verdict], slots: Sequence[Slot]) -> bool:
    """Searches the texts with in-process rules; returns whether one was replaced."""
    if size_of(slots) <= LARGE_CHARS:
        return search_now(ruled, slots)
    if _too_large(slots):
        for verdict in ruled:
            verdict.fail(GuardFailed("too_large"))
        return False
    began = time.perf_counter()
    try:
        changed = await asyncio.to_thread(search, slots, _hits(ruled))
    except Exception as error:  # whatever is wrong with a rule is its failure, and not the call's
        fail_all(ruled, error)
        return False
    _note_all(ruled, time.perf_counter() - began)
    return changed


def search_now(ruled: Sequence[Verdict], slots: Sequence[Slot]) -> bool:
    began = time.perf_counter()
    try:
        changed = search(slots, _hits(ruled))
    except Exception as error:  # the same
        fail_all(ruled, error)
        return False
    _note_all(ruled, time.perf_counter() - began)
    return changed


async def ask(asked: Sequence[Verdict], slots: Sequence[Slot], subject: Callable[[], Mapping[str, Any]]) -> None:
    """Asks the scorers of these guards, and measures lengths."""
    for verdict in asked:
        if verdict.guard.config.max_chars is not None:
            note_length(verdict, size_of(slots), verdict.guard.config.max_chars)
    waiting = [v for v in asked if v.guard.config.max_chars is None]
    if waiting:
        material = subject()
        await asyncio.gather(*(_asked(verdict, material) for verdict in waiting))


async def _asked(verdict: Verdict, subject: Mapping[str, Any]) -> None:
    began = time.perf_counter()
    try:
        verdict.score = max(verdict.score or 0.0, await verdict.guard.ask(subject))
    except GuardFailed as failed:
        verdict.fail(failed)
    except Exception as error:  # whatever is wrong with a guard is its failure, and not the call's
        verdict.fail(GuardFailed("error", f"{type(error).__name__}: {error}"))
    verdict.seconds += time.perf_counter() - began


def note_matches(verdict: Verdict, seconds: float) -> None:
    hits = verdict.hits
    verdict.score = 1.0 if hits is not None and hits.matches else 0.0
    verdict.seconds += seconds


def note_length(verdict: Verdict, size: int, most: int) -> None:
    """A text above its maximum is a hit; below, the score says how near it is."""
    worst = verdict.guard.config.threshold
    verdict.score = max(worst, 1.0) if size > most else min(worst * size / most, worst * 0.999)


def refuse_large(verdicts: Iterable[Verdict], slots: Sequence[Slot]) -> None:
    """Raises TooLarge for a request with larger texts than a rule judges that could redact or block."""
    rule = next((v for v in verdicts if v.hits is not None and v.action in REFUSING), None)
    if rule is not None and _too_large(slots):
        raise TooLarge(
            f"the texts of the request have more than {MOST_JUDGED_BYTES / 1e6:g} MB, which is the most that the guard "
            f'"{rule.guard.name}" judges; send less text in one request',
            retry=False,
        )


def fail_all(verdicts: Iterable[Verdict], error: Exception) -> None:
    reason: GuardFailure = "timeout" if isinstance(error, TimeoutError) else "error"
    for verdict in verdicts:
        verdict.fail(GuardFailed(reason, type(error).__name__))


def _hits(verdicts: Sequence[Verdict]) -> list[RuleHits]:
    return [v.hits for v in verdicts if v.hits is not None]


def _note_all(verdicts: Sequence[Verdict], seconds: float) -> None:
    for verdict in verdicts:
        note_matches(verdict, seconds)


def size_of(slots: Sequence[Slot]) -> int:
    return sum(slot.size for slot in slots)


def _too_large(slots: Sequence[Slot]) -> bool:
    """Whether the texts have more bytes than rules judge."""
    size = size_of(slots)
    if size <= MOST_JUDGED_BYTES // _MOST_CHAR_BYTES:
        return False
    exact = (len(slot.text.encode("utf-8", "replace")) for slot in slots)
    return size > MOST_JUDGED_BYTES or sum(exact) > MOST_JUDGED_BYTES


def request_input(call: Call, slots: Iterable[Slot]) -> dict[str, Any]:
    """The input of a scorer of requests: the request's text is in the place of the answer."""
    return _input(call, {}, {"text": "\n".join(text for slot in slots if (text := slot.text))})


def answer_input(call: Call, answer: Completion) -> dict[str, Any]:
    """The input of a scorer of answers."""
    request = parse_object(call.body) if len(call.body) <= _MOST_REQUEST_BYTES else None
    return _input(call, request or {}, asdict(answer))


def _input(call: Call, request: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    named = {"id": call.id, "api": call.api, "alias": call.alias, "stream": call.stream, "received": call.received}
    return {"call": {**named, "caller": call.caller.name}, "request": request, "answer": answer}
