"""Cases of a probe: from the config, from a file, and from recorded calls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.config.decisions import QuestionConfig
from gateway.core.decision import OUTCOMES
from gateway.core.errors import CannotRun
from gateway.features.decisions.probe.cases import (
    ProbeState,
    cases_of,
    declared,
    recorded_cases,
    recorded_states,
    states_of_file,
)

MOOD = QuestionConfig(model="m", choice="How is it?", choices=("good", "bad"))
TONE = QuestionConfig(model="m", score="How upset?", levels=("calm", "furious"))
LATE = QuestionConfig(model="m", predicate="It is late.")
QUESTIONS = {name: declared(name, q) for name, q in {"mood": MOOD, "tone": TONE, "late": LATE}.items()}


def test_declared_questions_have_all_kinds() -> None:
    assert [(q.kind, q.instructions) for q in QUESTIONS.values()] == [
        ("choice", "How is it?"), ("score", "How upset?"), ("predicate", "It is late."),
    ]  # fmt: skip
    assert [option.value for option in QUESTIONS["tone"].options] == ["calm", "furious"]
    assert QUESTIONS["late"].options == OUTCOMES


def test_a_file_has_texts_and_right_answers(tmp_path: Path) -> None:
    path = tmp_path / "states"
    path.write_text('Fine.\n\n{"state": {"a": 1}, "answers": {"mood": "bad", "late": false, "tone": 1}}\n')
    plain, known = states_of_file(path)
    assert (plain.state, plain.answers, known.state) == ("Fine.", {}, {"a": 1})
    cases = cases_of(QUESTIONS, [known, plain], 6)
    assert [(case.name, case.right) for case in cases[:3]] == [("mood", 1), ("tone", 1), ("late", 1)]
    assert [case.right for case in cases[3:]] == [None] * 3
    assert len(cases_of(QUESTIONS, [known, plain], 4)) == 3, "questions in turn, each about as many states"


@pytest.mark.parametrize("line", ['{"answers": {}}', '{"state": ""}', '{"state": '])
def test_a_line_without_a_state_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "states"
    path.write_text(f"Fine.\n{line}\n")
    with pytest.raises(CannotRun, match="line 2"):
        states_of_file(path)
    with pytest.raises(CannotRun, match="No such file"):
        states_of_file(tmp_path / "missing")


@pytest.mark.parametrize(("name", "right"), [("mood", "great"), ("late", "true"), ("late", 1), ("tone", 2)])
def test_a_right_answer_is_one_of_the_options(name: str, right: Any) -> None:
    with pytest.raises(CannotRun, match="is not an option of the question"):
        cases_of(QUESTIONS, [ProbeState("x", None, {name: right})], 8)


def test_recorded_calls_give_questions_and_states() -> None:
    refund = {"type": "predicate", "name": "refund", "instructions": "Asks for money."}
    rows: list[tuple[str, bytes]] = [
        ("decisions", orjson.dumps({"model": "m", "input": "Twice!", "questions": [refund, {**refund, "name": None}]})),
        ("systemone", orjson.dumps({"state": [1], "questions": {"a": {"type": "noul", "instructions": "?"}}})),
        ("chat", orjson.dumps({"messages": [{"role": "user", "content": "Hello"}]})),
        ("chat", b'{"messages":[]}'), ("chat", b"{"), ("decisions", b'{"questions":[]}'), ("decisions", b"{}"),
    ]  # fmt: skip
    cases = recorded_cases(rows)
    assert [(case.name, case.request.state) for case in cases] == [
        ("refund", "Twice!"), ("Asks for money.", "Twice!"), ("?", [1]),
    ]  # fmt: skip
    assert [state.state for state in recorded_states(rows)] == ["Twice!", [1], "Hello"]
