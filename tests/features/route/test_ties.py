"""Pairs that a route keeps on the control: exact ties in every metric, which no scorer and no judge is asked about."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from fixtures.learned_routes import ROUTE

from gateway.core.exchange import new_id
from gateway.core.score import Bounds, Direction, Score
from gateway.core.sequence import SequenceName
from gateway.scoring.registry import RegisteredPair
from gateway.scoring.types import Pair
from gateway.store.query import reading
from gateway.store.sequences import increments_of


@dataclass
class CountingJudge:
    """Prefers the other answer always, and counts how often it is asked."""

    name: str = "prefers"
    direction: Direction = "maximise"
    bounds: Bounds = (0.0, 1.0)
    version: str = "1"
    kind: str = "llm"
    heavy: bool = False
    asked: list[str] = field(default_factory=list)

    async def compare(self, pair: Pair) -> Score:
        self.asked.append(pair.b.exchange.id)
        return Score(1.0, "b", "it is better")


def tie_of(served: Any, arm: str = "candidate") -> Any:
    """The record that a gateway makes where the route of the arm keeps the control."""
    return replace(
        served, id=new_id(), role="shadow", arm=arm, pair=served.id, asked=(), attempts=(), route=f"{ROUTE}/1",
        tied=True, stratum="shadow:swap", seq=served.seq + 10_000,
    )  # fmt: skip


async def test_a_tie_is_exact_in_every_metric(room: Any, plan: Any, paired: Any) -> None:
    plan = replace(plan, repeat_control=0.0, rules=2)
    judge = CountingJudge()
    room.pairs = {"prefers": RegisteredPair(judge, 1.0, 10.0, "c1")}  # type: ignore[arg-type]
    await room.begin(plan)
    records, ties = [], []
    for i in range(12):
        served, moved = paired(plan, f"0.{i + 10}", {"candidate": "0.5"})
        if i % 3:
            moved = tie_of(served)
            ties.append(moved.id)
        records += [served, moved]
    async with room.consuming():
        await room.send(*records)
        await room.until_settled(12)
    scored = {row[0] for row in room.sql("SELECT exchange_id FROM scores")}
    assert not scored & set(ties)
    assert len(judge.asked) == 4
    assert not set(judge.asked) & set(ties)
    with reading(room.store_url) as connection:
        names = [SequenceName(plan.hash, *row) for row in room.sql("SELECT candidate, metric, identity FROM sequences")]
        found = {name.metric: increments_of(connection, name) for name in names if name.candidate == "candidate"}
    tied = {row[0] for row in room.sql("SELECT pair FROM exchanges WHERE tied")}
    assert len(tied) == 8
    for metric in ("stated", "prefers", "error_rate", "output_tokens"):
        of_ties = [each for each in found[metric] if each.pair in tied]
        assert [each.difference for each in of_ties] == [0.0] * 8, metric
        assert all(each.a == each.b for each in of_ties), metric
    assert {each.difference for each in found["prefers"] if each.pair not in tied} == {1.0}


async def test_a_distance_is_that_of_the_repeat(room: Any, plan: Any, paired: Any) -> None:
    """Were the tie's distance 0, the route would look closer to the control than the control itself."""
    from gateway.scorers.edit_distance import EditDistance

    room.pairs = {"edit": RegisteredPair(EditDistance("edit"), 1.0, 10.0, "c1")}
    await room.begin(plan)
    served, repeat = paired(plan, "0.123456", {"repeat": "0.9"})
    served.asked = ("candidate", "repeat")
    async with room.consuming():
        await room.send(served, repeat, tie_of(served))
        await room.until_settled(1)
    where = "metric = 'edit' AND candidate = 'candidate'"
    [(a, b, difference)] = room.sql(f"SELECT a, b, difference FROM increments WHERE {where}")  # noqa: S608
    assert a == b > 0
    assert difference == 0.0
