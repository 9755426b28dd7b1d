"""A store in which two judges scored the same answers, and people labelled some."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from sqlalchemy import insert, select, update

from gateway.core.exchange import Target
from gateway.features.labels.blind import LabelVerdict
from gateway.features.labels.desk import Desk, LabelRequest, save_labels
from gateway.store.query import reading, writing
from gateway.store.tables import scores


@dataclass
class TwoJudges:
    """Each answer's text has the first judge's score, the second's and the truth: "0.25 0.3 0"."""

    url: str

    def label(self, n: int) -> None:
        given = []
        with reading(self.url) as connection:
            desk = Desk(connection, LabelRequest("stated", "ada"))
            for _ in range(n):
                drawn = desk.next(connection)
                assert drawn is not None, "no answer is left"
                given.append(desk.label(drawn, LabelVerdict(float(drawn.blind.answers[0].split()[2]))))
        save_labels(self.url, given)


@pytest.fixture
def two_judges(keep: Callable[..., str], exchange: Callable[..., Any]) -> Callable[..., TwoJudges]:
    """Stores the answers of two models, both scored by `stated`, which costs a cent, and by `other`, which costs a
    hundredth of one. shift: by how much `other` favours the model `big`."""

    def write(n: int = 600, shift: float = 0.0) -> TwoJudges:
        rng = np.random.default_rng(53)
        y, big = rng.random(n) < 0.5, rng.random(n) < 0.5
        first, second = (0.2 + 0.6 * y + rng.choice([-0.1, 0.1], n) for _ in range(2))
        second = second + np.where(big, shift, -shift)
        sent = [
            exchange(
                f"{first[i]:.3f} {second[i]:.3f} {int(y[i])}",
                id=f"01900000-0000-7000-8000-{i:012d}",
                target=Target("u", "big" if big[i] else "small"),
            )
            for i in range(n)
        ]
        url = keep(sent)
        with writing(url) as connection:
            connection.execute(update(scores).values(cost_usd=0.01, seconds=2.0))
            rows = [dict(row) for row in connection.execute(select(scores)).mappings()]
            at = {each.id: value for each, value in zip(sent, second, strict=True)}
            others = [
                {**row, "score_id": f"o{row['score_id']}", "scorer": "other", "value": at[row["exchange_id"]],
                 "value01": at[row["exchange_id"]], "cost_usd": 0.0001, "seconds": 0.1}
                for row in rows
            ]  # fmt: skip
            connection.execute(insert(scores), others)
        return TwoJudges(url)

    return write


@pytest.fixture
def judged(two_judges: Callable[..., TwoJudges]) -> TwoJudges:
    """Equal judges, and 200 labels."""
    found = two_judges()
    found.label(200)
    return found
