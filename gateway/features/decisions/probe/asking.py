"""Asks the cases of a probe by every reading that the alias's servers have, through the gateway."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gateway.core import openai_decisions
from gateway.core.decision import Answer, DecisionLimits, InvalidAnswer
from gateway.core.decision_reads import (
    READINGS,
    ReadEngine,
    Reading,
    ReadSettings,
    UnreadableQuestion,
    UnreadAnswer,
    check_readable,
    read_answer,
    write_reads,
)
from gateway.core.errors import BadRequest
from gateway.core.providers import DecisionReading
from gateway.features.decisions.probe.model import CaseAnswers, ProbeCase
from gateway.scoring.http_client import DeadlinePassed, GatewayClient, Unreachable

DEADLINE_S = 120.0
_LEAST_MASS = 1e-6
"""A probe reads what has hardly any label mass, too, to show it."""

ShowDone = Callable[[int, int], object]


class ReadingUnavailable(Exception):
    """A reading cannot be asked of the alias at all; the message says why."""


@dataclass(frozen=True, slots=True)
class ProbedAlias:
    """An alias, with what its servers can do."""

    name: str
    engine: ReadEngine
    native: bool
    """Whether one of its upstreams may have an API of decisions."""

    @property
    def readings(self) -> tuple[DecisionReading, ...]:
        return ("native", *READINGS) if self.native else READINGS


async def ask_all(
    client: GatewayClient, alias: ProbedAlias, cases: Sequence[ProbeCase], done: ShowDone
) -> tuple[dict[DecisionReading, list[CaseAnswers]], dict[str, str]]:
    """(the answers by reading, the reasons of readings that cannot be asked). done: called with the number of answers
    and of all. Raises Unreachable."""
    answers: dict[DecisionReading, list[CaseAnswers]] = {}
    unavailable: dict[str, str] = {}
    total, made = 2 * len(cases) * len(alias.readings), 0
    for reading in alias.readings:
        found: list[CaseAnswers] = []
        try:
            for case in cases:
                pair: list[Answer | str] = []
                for reverse in (False, True):
                    pair.append(await _ask(client, alias, case, reading, reverse=reverse))
                    done(made + 2 * len(found) + len(pair), total)
                found.append(CaseAnswers(case, *pair))
            answers[reading] = found
        except ReadingUnavailable as error:
            unavailable[reading] = str(error)
        made += 2 * len(cases)
    return answers, unavailable


async def _ask(
    client: GatewayClient, alias: ProbedAlias, case: ProbeCase, reading: DecisionReading, *, reverse: bool
) -> Answer | str:
    if reading == "native":
        return await _native(client, alias, case, reverse=reverse)
    settings = ReadSettings(reading, _LEAST_MASS, reverse=reverse)
    try:
        [body] = write_reads(case.request, settings, alias.engine)
    except UnreadableQuestion as error:
        if _readable(case, reading):
            raise ReadingUnavailable(str(error)) from None
        return "unreadable question"
    members = await _members(client, "/chat/completions", {**body, "model": alias.name})
    if isinstance(members, str):
        return members
    try:
        return read_answer(members, case.question, settings)
    except UnreadAnswer as error:
        return error.reason


def _readable(case: ProbeCase, reading: Reading) -> bool:
    try:
        check_readable(case.question, reading)
    except UnreadableQuestion:
        return False
    return True


async def _native(client: GatewayClient, alias: ProbedAlias, case: ProbeCase, *, reverse: bool) -> Answer | str:
    question = case.question
    turned = reverse and question.kind == "choice"  # the order of other options has a meaning
    asked = replace(question, options=question.options[::-1]) if turned else question
    request = replace(case.request, questions=(asked,))
    try:
        body, _ = openai_decisions.write_request(request, alias.name, DecisionLimits())
    except BadRequest:
        return "unreadable question"
    members = await _members(client, "/decisions", body)
    if isinstance(members, str):
        return members
    try:
        [answer] = openai_decisions.read_answers(members, (asked,)).answers
    except InvalidAnswer:
        return "unusable answer"
    if answer.refused:
        return "refused"
    return replace(answer, probabilities=answer.probabilities[::-1]) if turned else answer


async def _members(client: GatewayClient, path: str, body: Mapping[str, Any]) -> Mapping[str, Any] | str:
    """The members of a reply, or its status where that may be another one next time. A lost connection is tried again
    once, since a read changes nothing.

    Raises ReadingUnavailable for a refusal; Unreachable.
    """
    try:
        reply = await client.ask(path, body, deadline_s=DEADLINE_S)
    except DeadlinePassed:
        raise
    except Unreachable:
        reply = await client.ask(path, body, deadline_s=DEADLINE_S)
    if reply.status in (408, 429) or reply.status >= 500:
        return f"HTTP {reply.status}"
    try:
        members = reply.object()
    except ValueError as error:
        raise ReadingUnavailable(f"HTTP {reply.status}: {error}") from None
    if reply.status != 200:
        refusal = members.get("error")
        text = refusal.get("message") if isinstance(refusal, dict) else refusal
        raise ReadingUnavailable(f"HTTP {reply.status}: {str(text)[:300]}")
    return members
