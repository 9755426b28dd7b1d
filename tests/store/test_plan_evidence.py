"""The evidence on a plan: each part is read when it is first asked for, and once."""

from __future__ import annotations

from typing import Any

from sqlalchemy import event

from gateway.core.plan import StoredPlan
from gateway.core.plan_evidence import PairCounts, RequestChecks
from gateway.store.plan_evidence import StoredEvidence, expected_language

PARTS = ("states", "newest", "pairs", "withheld", "lost_by_arm", "paid_calls", "request_checks")


def test_a_part_is_read_once(begin_experiment: Any, simulation: Any) -> None:
    experiment, statements = begin_experiment(), list[str]()
    event.listen(experiment.engine, "before_cursor_execute", lambda *call: statements.append(call[2]))
    with experiment.engine.connect() as connection:
        evidence = StoredEvidence(connection, StoredPlan(experiment.plan, experiment.hash, "running", 1.0))
        assert statements == []
        values = [getattr(evidence, part) for part in PARTS]
        first = len(statements)
        assert [getattr(evidence, part) for part in PARTS] == values
    assert values == [{}, {}, PairCounts(not_asked={}), {}, {"control": (0, 0)}, {}, RequestChecks()]
    assert len(statements) == first > 0


def test_the_language_of_a_segment_is_that_of_the_question() -> None:
    assert [expected_language(text) for text in ("in fr, expected en", None, "no language")] == ["en", None, None]
