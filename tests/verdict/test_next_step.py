"""The next step of an undecided plan, with its price."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from fixtures.simulated import Simulated, a_pair, seen

from gateway.core.plan import Guardrail, StoredPlan
from gateway.store.plan_evidence import StoredEvidence
from gateway.verdict.findings import finding
from gateway.verdict.next_step import progress_with_step
from gateway.verdict.outcome import outcome_of
from gateway.verdict.sentence import verdict_sentence
from gateway.verdict.states import SequenceStates

DESIGN: dict[str, Any] = {
    "rules": 3, "method": "hybrid", "max_pairs": 100, "aa": "alarm", "repeat_control": 0.2, "guardrails": (),
    "margin": 0.1, "min_hours": 0.0, "population": "these",
}  # fmt: skip


def step(
    begin_experiment: Callable[..., Simulated],
    mean: float = 0.0,
    n: int = 100,
    fails: int = 0,
    state: str = "stopped",
    **changes: Any,
) -> tuple[str | None, str]:
    """(the next step, the recommended action). fails: pairs of which one has a candidate that failed."""
    run = begin_experiment(**{**DESIGN, **changes})
    rng, pairs = np.random.default_rng(3), []
    for i, x in enumerate((mean + rng.permutation(np.resize([0.5, -0.5], n))).tolist()):
        control, repeat = seen((1 - x) / 2, cost_usd=0.004), {"repeat": seen((1 - x) / 2)} if i % 5 == 0 else {}
        bad = bool(fails) and i % fails == 1
        pairs.append(a_pair(i, control, candidate=seen((1 + x) / 2, failed=bad, cost_usd=0.002), **repeat))
    run.add(pairs)
    with run.engine.connect() as connection:
        evidence = StoredEvidence(connection, StoredPlan(run.plan, run.hash, state, 1.0))
        found, look = finding(evidence, "candidate"), SequenceStates(evidence)
        progress = progress_with_step(found, look)
        return progress.next_step, verdict_sentence(outcome_of(found, look)).action


def test_an_open_primary_names_its_margin_and_its_pairs(begin_experiment: Callable[..., Simulated]) -> None:
    text, action = step(begin_experiment)
    assert text is not None
    assert "a margin of 0.11 in place of 0.1 would have been shown; about " in text
    assert text.endswith("`gateway ab start swap --more`")
    assert "about $" in text
    assert action.startswith("About ")
    assert action.endswith("`gateway ab start swap --more`.")


def test_an_open_guardrail_names_its_margin(begin_experiment: Callable[..., Simulated]) -> None:
    rails = (Guardrail("error_rate", 0.02),)
    text, _ = step(begin_experiment, 0.15, fails=50, guardrails=rails)
    assert text is not None
    assert "both fail in about 2 %: a margin of 0." in text
    assert "on error_rate would have been shown: set it, or take more pairs; " in text
    assert "in place of" not in text, "the primary is decided"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"rules": 2}, None),
        ({"mean": 0.2}, None),
        ({"n": 60}, "it has not taken its last look; it goes on with `gateway ab start swap`"),
        ({"n": 60, "state": "running"}, "wait for about "),
    ],
)
def test_other_plans_have_no_price_of_more(
    begin_experiment: Callable[..., Simulated], changes: dict[str, Any], says: str | None
) -> None:
    text, _ = step(begin_experiment, **changes)
    assert (text is None) == (says is None), text
    assert says is None or says in (text or "")


def test_a_running_plan_waits_and_is_not_started_again(begin_experiment: Callable[..., Simulated]) -> None:
    """The primary has taken its last look, and a guardrail still takes pairs; `--more` refuses a plan that runs."""
    rails = (Guardrail("error_rate", 0.02),)
    stopped, _ = step(begin_experiment, 0.15, fails=50, guardrails=rails)
    text, action = step(begin_experiment, 0.15, fails=50, guardrails=rails, state="running")
    assert "--more" in (stopped or "")
    assert "--more" not in f"{text} {action}"
