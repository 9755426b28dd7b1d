"""Live runs on the command line: their ceilings, a stop, and an amount that a person adds."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core.errors import CannotRun
from gateway.features.runs.live import RunCeilingUse, by_burn, found_run


def use(run: str, ceiling: Any = "usd", spent: float = 1.0, began: float = 0.0, amount: float = 4.0) -> RunCeilingUse:
    return RunCeilingUse(f"run_{run}", f"key/{run}", ceiling, amount, spent, 0.0, began, 0.0)


def test_the_dearest_an_hour_come_first() -> None:
    uses = [use("old", spent=3.0), use("new", spent=2.0, began=3600.0), use("calls", "calls", 9.0)]
    assert [found.run_id for found in by_burn(uses, 7200.0)] == ["run_new", "run_old", "run_calls"]


def test_a_run_is_named_by_any_of_its_ids() -> None:
    uses = [use("a"), use("a", "calls"), use("b")]
    assert {found_run(uses, named) for named in ("a", "key/a", "run_a")} == {"run_a"}
    with pytest.raises(CannotRun, match="no live run"):
        found_run(uses, "c")
    twice = [use("a"), RunCeilingUse("run_x", "other/a", "usd", 1.0, 0.0, 0.0, 0.0, 0.0)]
    with pytest.raises(CannotRun, match="give one as KEY/ID"):
        found_run(twice, "a")
