"""The questions of one section share a call, however they come to ask."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.core.score import Spent
from gateway.runtime.tasks import Tasks
from gateway.scorers.judging import panel as panels
from gateway.scorers.judging.decision_questions import JudgedQuestion
from gateway.scorers.judging.panel import DecisionPanel

TEXTS = {"answer": "Rome."}


class Gateway:
    """Answers each question with 0.5, once it is let go. failing: the calls that fail."""

    def __init__(self, failing: int = 0) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.go = asyncio.Event()
        self.failing = failing

    async def ask(self, path: str, body: dict[str, Any]) -> tuple[dict[str, Any], Spent]:
        self.bodies.append(body)
        await self.go.wait()
        if len(self.bodies) <= self.failing:
            raise ConnectionError("no reply")
        return {"answers": [{"type": "predicate", "probability": 0.5} for _ in body["questions"]]}, Spent(tokens=10)


def two_questions(gateway: Gateway) -> DecisionPanel:
    panel = DecisionPanel(gateway, "decide")  # type: ignore[arg-type]
    for name in ("a", "b"):
        panel.add(name, JudgedQuestion(predicate=f"It is {name}."))
    return panel


@pytest.fixture
async def tasks():
    """The callers that ask at the same time."""
    async with Tasks() as tasks:
        yield tasks


async def test_a_question_that_gives_up_leaves_the_others(tasks):
    """The first asks and is cancelled at its deadline: the call goes on for the second."""
    gateway, subject = Gateway(), object()
    panel = two_questions(gateway)
    first = tasks.start(panel.ask("a", subject, lambda: TEXTS), "asks")
    second = tasks.start(panel.ask("b", subject, lambda: TEXTS), "asks")
    await asyncio.sleep(0)
    first.cancel()
    gateway.go.set()
    outcome = await second
    assert outcome.answers[0].probabilities["true"] == 0.5
    assert outcome.spent == Spent(tokens=10), "the first one that reads pays"
    assert len(gateway.bodies) == 1
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_a_question_that_comes_late_reads_the_same_call():
    gateway, subject = Gateway(), object()
    gateway.go.set()
    panel = two_questions(gateway)
    first = await panel.ask("a", subject, lambda: TEXTS)
    late = await panel.ask("b", subject, lambda: TEXTS)
    assert (first.spent, late.spent) == (Spent(tokens=10), None)
    assert len(gateway.bodies) == 1


async def test_after_a_failure_one_call_asks_again_for_all():
    gateway, subject = Gateway(failing=1), object()
    gateway.go.set()
    panel = two_questions(gateway)
    for name in ("a", "b"):
        assert isinstance((await panel.ask(name, subject, lambda: TEXTS)).error, ConnectionError)
    for name in ("a", "b"):
        assert (await panel.ask(name, subject, lambda: TEXTS)).error is None
    assert [len(body["questions"]) for body in gateway.bodies] == [2, 2]


async def test_held_subjects_are_bounded(monkeypatch):
    monkeypatch.setattr(panels, "MAX_SUBJECTS", 3)
    gateway = Gateway()
    gateway.go.set()
    panel = two_questions(gateway)
    subjects = [object() for _ in range(10)]
    for subject in subjects:
        await panel.ask("a", subject, lambda: TEXTS)
    assert len(panel._asked) == 3
    await panel.ask("b", subjects[0], lambda: TEXTS)
    assert len(gateway.bodies) == 11, "a subject that was dropped is asked about again"


async def test_closing_ends_calls_that_still_run(tasks):
    gateway = Gateway()
    panel = two_questions(gateway)
    asking = tasks.start(panel.ask("a", object(), lambda: TEXTS), "asks")
    await asyncio.sleep(0)
    await panel.aclose()
    with pytest.raises(asyncio.CancelledError):
        await asking
