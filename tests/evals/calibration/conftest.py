"""A store of judged answers whose verdicts a test may replace, run after run."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Connection, bindparam, delete, insert, update

from gateway.evals.labels.draws import Candidate, in_order, threshold
from gateway.evals.scorers.registry import Registered
from gateway.evals.store import engine
from gateway.evals.store.labels import Label, Version, save
from gateway.evals.store.tables import scores
from gateway.evals.store.tables_experiments import pair_scores
from gateway.evals.store.tables_labels import labels

sqlite3.register_adapter(np.float64, float)


class Bench:
    """Judged items and what a simulated judge and simulated people say of them."""

    def __init__(self, connection: Connection, ids: list[str], subject: Any) -> None:
        self.connection, self.ids, self.subject = connection, ids, subject

    def judge(self, said: Any, details: Any = None) -> None:
        """said: the judge's verdict on each, in [0, 1]; shape (n,)."""
        rows = [{"id": i, "f": float(f)} for i, f in zip(self.ids, said, strict=True)]
        if self.subject == "exchange":
            statement = update(scores).where(scores.c.exchange_id == bindparam("id"))
            self.connection.execute(statement.values(value=bindparam("f"), value01=bindparam("f")), rows)
            return
        rows = [{**row, "d": d} for row, d in zip(rows, details, strict=True)]
        statement = update(pair_scores).where(pair_scores.c.exchange_id == bindparam("id"))
        self.connection.execute(statement.values(value=bindparam("f"), detail=bindparam("d")), rows)

    def label(self, said: Any, truth: Any, count: int, favour: float = 1.0) -> None:
        """A person says the truth of the first so many in their order."""
        self.connection.execute(delete(labels))
        found = [Candidate(i, float(f), 1000.0) for i, f in zip(self.ids, said, strict=True)]
        ordered = in_order("said", found, favour)
        chosen = [c.id for _, c in ordered[:count]]
        reached, at = threshold(ordered, chosen), dict(zip(self.ids, truth, strict=True))
        of = Version("said", "1", "c1", self.subject, "maximise")
        save(self.connection, [
            Label(of.scorer, of.subject, i, "ada", float(at[i]), None, None, of.version, of.config_hash, "", favour,
                  reached, None, 1000.0, 2000.0)
            for i in chosen
        ])  # fmt: skip


def new(number: int) -> str:
    """The same ids in every run: who is drawn depends on them."""
    return f"01900000-0000-7000-8000-{number:012d}"


@pytest.fixture(scope="session")
def answers() -> int:
    return 300


@pytest.fixture
def bench(keep: Any, exchange: Any, answers: int) -> Iterator[Bench]:
    """Two thirds recorded with probability ¼, and a third, the errors, with certainty. In one transaction."""
    sent = [exchange("1", id=new(i), pi=0.25) for i in range(2 * answers // 3)]
    sent += [exchange("1", id=new(answers + i), stratum="error") for i in range(answers // 3)]
    opened = engine.writer(keep(sent))
    with opened.connect() as connection:
        yield Bench(connection, [e.id for e in sent], "exchange")
    opened.dispose()


@pytest.fixture
def pairs(keep: Any, exchange: Any, said: Callable[..., Registered]) -> Iterator[Bench]:
    """200 pairs, all judged."""
    opened = engine.writer(keep([exchange("1")], name="other"))
    ids = [f"b{i}" for i in range(200)]
    plain = {"experiment": "swap", "plan": "p1", "arm": "candidate", "scorer": "said", "version": "1",
             "config_hash": "c1", "kind": "llm", "direction": "maximise", "status": "scored", "seconds": 0.1,
             "created": 1000.0}  # fmt: skip
    with opened.connect() as connection:
        connection.execute(
            insert(pair_scores),
            [{**plain, "score_id": f"s{i}", "pair": f"a{i}", "exchange_id": i, "value": 0.5} for i in ids],
        )
        yield Bench(connection, ids, "pair")
    opened.dispose()
