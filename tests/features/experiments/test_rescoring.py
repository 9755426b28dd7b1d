"""A stored answer that is scored again must get its score; what cannot be compared is left out."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

import pytest
from fixtures.simulated import a_plan

from gateway.core.exchange import Exchange
from gateway.core.score import Score, ScoreResult
from gateway.features.experiments.rescoring import Rescored, deciding, drawn, scored_again
from gateway.store.pairs import ArmScore, SettledPair


def result(value: float | None, status: str = "scored", version: str = "1") -> ScoreResult:
    score = None if value is None else Score(value)
    return ScoreResult("quality", version, "c1", status, score, None, 0.1, 1.0)  # type: ignore[arg-type]


def stored(exchange: Exchange, value: float | None, status: str = "scored") -> ArmScore:
    return ArmScore(exchange.id, "quality", "1", "c1", status, value, value, "maximise")


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        ((0.5, "scored"), result(0.5), (1, 0)),
        ((0.5, "scored"), result(0.25), (1, 1)),
        ((None, "not_applicable"), result(0.5), (1, 1)),
        ((None, "not_applicable"), result(None, "not_applicable"), (1, 0)),
        ((None, "timeout"), result(0.5), (0, 0)),
        ((0.5, "scored"), result(None, "error"), (0, 0)),
        ((0.5, "scored"), result(0.25, version="2"), (0, 0)),
    ],
    ids=["equal", "another", "now applicable", "never applicable", "failed then", "failed now", "another version"],
)
async def test_only_two_results_of_one_scorer_are_compared(
    exchange: Callable[..., Exchange], before: Any, after: ScoreResult, found: tuple[int, int]
) -> None:
    served = exchange()
    asked: list[tuple[Exchange, Collection[str]]] = []

    async def rescore(again: Exchange, names: Collection[str]) -> list[ScoreResult]:
        asked.append((again, names))
        return [after]

    again = await scored_again(a_plan(), {served.id: served}, [stored(served, *before)], rescore)
    assert (again.n, again.disagreed) == found
    assert again.example == (served.id if found[1] else None)
    [(scored, names)] = asked
    assert (scored.role, scored.arm, scored.response) == ("shadow", "candidate", served.response)
    assert names == ["quality", "error_rate"] == deciding(a_plan())


async def test_an_answer_without_its_text_is_not_scored_again(exchange: Callable[..., Exchange]) -> None:
    served = replace(exchange(), response=b"")

    async def rescore(again: Exchange, names: Collection[str]) -> list[ScoreResult]:
        raise AssertionError("nothing to score")

    assert await scored_again(a_plan(), {served.id: served}, [stored(served, 0.5)], rescore) == Rescored()


def test_about_a_tenth_of_the_pairs_is_drawn() -> None:
    found = [SettledPair(f"p{i}", None, {}) for i in range(2000)]
    assert 100 < len(drawn(found)) < 300
    assert drawn(found[:500]) + drawn(found[500:]) == drawn(found), "whichever step settles them"
