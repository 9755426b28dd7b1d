"""Scorers as guards: 1 is worst, whatever direction a scorer has; and what cannot be a guard is refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from gateway.config.guards import GuardConfig, ToolRules
from gateway.config.scorers import ScorerConfig
from gateway.core.completion import Completion, ToolCall
from gateway.features.guards.scorers import BuiltGuards, NoScore, ToolGuard, TopicGuard, build_guards
from gateway.scoring.asker import ExternalServices
from gateway.scoring.golden import PLAIN_EXCHANGE
from gateway.scoring.http_client import HttpConnections
from gateway.scoring.threads import ScoringThreads
from gateway.scoring.types import Subject


@pytest.fixture
def threads() -> Any:
    """The threads of scorers that may block."""
    made = ScoringThreads()
    yield made
    made.close()


def subject(text: str = "", *calls: ToolCall) -> Subject:
    return Subject(PLAIN_EXCHANGE, {}, Completion(text, tool_calls=calls, finish_reason="stop"))


def built(threads: ScoringThreads, guard: dict[str, Any], **sections: Any) -> BuiltGuards:
    made = {name: ScorerConfig.model_validate(section) for name, section in sections.items()}
    guards = {"g": GuardConfig.model_validate({"on": "answer", **guard})}
    return build_guards(guards, made, ExternalServices(HttpConnections()), threads)


async def test_a_scorers_worst_value_is_one(threads: ScoringThreads) -> None:
    bad = built(threads, {"scorer": "own"}, own={"use": "contains", "texts": ["yes"]}).scorers["g"]
    assert [await bad.score(subject(text)) for text in ("yes", "no")] == [0.0, 1.0]
    minimised = built(threads, {"scorer": "scorers.secrets"}, secrets={}).scorers["g"]
    assert [await minimised.score(subject(text)) for text in ("a", "mail ada@example.org")] == [0.0, 1.0]
    assert await minimised.score(subject("")) == 0.0, "a text that a scorer does not apply to is not a hit"


@pytest.mark.parametrize(
    ("use", "expected"),
    [
        ("json_distance", "does not judge single answers"),
        ("run_calls", "does not judge single answers"),
        ("length", "no bounds"),
    ],
)
def test_a_scorer_that_cannot_be_a_guard_is_refused(threads: ScoringThreads, use: str, expected: str) -> None:
    [mistake] = built(threads, {"scorer": "own"}, own={"use": use}).mistakes
    assert mistake.startswith("guards.g: scorer: own")
    assert expected in mistake


async def test_a_scorer_that_raises_gives_no_score(threads: ScoringThreads, monkeypatch: pytest.MonkeyPatch) -> None:
    made = built(threads, {"scorer": "own"}, own={"use": "contains", "texts": ["yes"]}).scorers["g"]

    class Broken:
        def __getattr__(self, name: str) -> Any:
            return getattr(made.registered.scorer, name)  # type: ignore[attr-defined]

        async def score(self, _: Subject) -> Any:
            raise RuntimeError("broken")

    from dataclasses import replace

    broken = replace(made, registered=replace(made.registered, scorer=Broken()))  # type: ignore[attr-defined, type-var]
    with pytest.raises(NoScore, match="RuntimeError: broken"):
        await broken.score(subject("x"))


@pytest.mark.parametrize(
    ("call", "score"),
    [
        (ToolCall("1", "read", '{"path": "/a"}'), 0.0),
        (ToolCall("1", "read", '{"path": 7}'), 1.0),
        (ToolCall("1", "read", "{broken"), 1.0),
        (ToolCall("1", "shell", "{}"), 1.0),
        (ToolCall("1", "other", "{}"), 1.0),
        (ToolCall("1", "list", "anything"), 0.0),
    ],
)
async def test_tools_and_their_arguments(call: ToolCall, score: float) -> None:
    schema = {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}
    rules = ToolRules.model_validate(
        {"allow": ["read", "list", "shell"], "forbid": ["shell"], "arguments": {"read": schema}}
    )
    assert await ToolGuard(rules).score(subject("", call)) == score
    assert await ToolGuard(rules).score(subject("no call")) == 0.0


async def test_a_language_that_is_not_allowed_is_a_hit(threads: ScoringThreads) -> None:
    pytest.importorskip("py3langid")
    guard = built(threads, {"scorer": "language", "languages": ["en", "de"]}).scorers["g"]
    assert await guard.score(subject("The weather in the mountains will be fine tomorrow.")) == 0.0
    assert await guard.score(subject("Il fera beau demain dans les montagnes, avec quelques nuages.")) > 0.5
    assert await guard.score(subject("42")) == 0.0


async def test_a_topic_is_near_its_examples() -> None:
    class Vectors:
        asked = 0

        async def of(self, texts: Sequence[str]) -> tuple[list[Sequence[float]], None]:
            self.asked += len(texts)
            return [[1.0, 0.0] if "bet" in text else [0.0, 1.0] for text in texts], None

    guard = TopicGuard(vectors := Vectors(), ["place a bet", "bet on it"])
    assert await guard.score(subject("I want to bet")) == 1.0
    assert await guard.score(subject("the weather")) == 0.0
    assert await guard.score(subject("")) == 0.0
    assert vectors.asked == 4, "examples are asked for once"
