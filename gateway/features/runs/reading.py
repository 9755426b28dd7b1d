"""Reads a recorded run for its scorers: one request at a time, since those of a run repeat its history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from gateway.core.completion import ToolCall
from gateway.core.exchange import CLIENT_ENDED, run_key
from gateway.features.feedback.implicit import ImplicitFeedback
from gateway.features.runs.rows import call_rows
from gateway.scoring.trajectory import Trajectory
from gateway.scoring.types import RunCall, RunStep, RunSubject
from gateway.store.query import Reading

SAMPLED = "a run all of whose calls are recorded: with `sampling.unit: run`, or at a rate of 1"
TOGETHER = "a run whose calls are recorded with one probability"


@dataclass(frozen=True, slots=True)
class RunPlace:
    """The call that stands for its run in the store: as store.runs.place_of finds it."""

    id: str
    experiment: str | None
    plan: str | None
    arm: str | None
    stratum: str
    pi: float
    """Probability with which the run was recorded."""


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """A run as its scorers see it."""

    key: str
    """Key by which it was drawn."""
    subject: RunSubject
    place: RunPlace
    ended: float
    """Unix seconds."""
    incomplete: str = ""
    """Parts that it lacks to be scored; "" if it lacks none."""

    def stored_place(self) -> dict[str, Any]:
        """The columns of `scores` that say whose score one is."""
        place = {name: getattr(self.place, name) for name in ("id", "experiment", "plan", "arm", "stratum", "pi")}
        return {**place, "answered": self.ended}


def read_run(connection: Reading, run_id: str, implicit: ImplicitFeedback | None) -> RecordedRun | None:
    """Reads a run with its calls; None if none of them is in the store."""
    rows: list[Mapping[str, Any]] = []
    calls: list[RunCall] = []
    path = Trajectory()
    for row in call_rows(connection, run_id):
        call = _call(row)
        path.add(bytes(row["request"]), call)
        calls.append(call)
        rows.append({name: value for name, value in row.items() if name not in ("request", "text", "tool_calls")})
    if not rows:
        return None
    subject = RunSubject(run_id, tuple(calls), tuple(path.steps), path.complete, _reaction(path.steps, implicit))
    in_arm = (row for row in rows if row["arm"] is not None and row["outcome"] not in CLIENT_ENDED)
    first = next(in_arm, rows[0])
    place = RunPlace(*(first[name] for name in RunPlace.__dataclass_fields__))
    ended = max(row["received"] + row["total_s"] for row in rows)
    return RecordedRun(run_id.partition(".")[0], subject, place, ended, _lacks(rows))


def _call(row: Mapping[Any, Any]) -> RunCall:
    return RunCall(
        outcome=row["outcome"],
        status=row["status"],
        finish_reason=row["finish_reason"],
        text=row["text"],
        refusal=row["refusal"],
        error=row["error"],
        tool_calls=tuple(ToolCall(**each) for each in orjson.loads(row["tool_calls"])),
        tokens=row["tokens"],
        cost_usd=row["cost_usd"],
        truncated=row["truncated"],
    )


def _lacks(rows: Sequence[Mapping[str, Any]]) -> str:
    """Names the parts that a run lacks, some of whose calls may not be recorded; "" if it lacks none."""
    if all(row["pi"] == 1.0 for row in rows):
        return ""
    key = run_key(rows[0]["caller"], rows[0]["run"] or "")
    by_conversation = rows[0]["run_source"] == "conversation"
    together = all(row["unit"] == key or (by_conversation and row["unit"] != row["id"]) for row in rows)
    if not together:
        return SAMPLED
    return "" if len({row["pi"] for row in rows}) == 1 else TOGETHER


def _reaction(steps: Sequence[RunStep], implicit: ImplicitFeedback | None) -> tuple[str, ...] | None:
    """Signs in the last message of the user after an answer, after the word "said"; () if there is no such message.
    None if no language is configured.
    """
    if implicit is None:
        return None
    asked = [at for at, step in enumerate(steps) if step.role == "user" and step.text]
    answered = next((at for at, step in enumerate(steps) if step.role == "assistant" and step.text), len(steps))
    if not asked or asked[-1] < answered:
        return ()
    earlier = steps[asked[-2]].text if len(asked) > 1 else None
    return ("said", *implicit.signs(steps[asked[-1]].text, earlier))
