"""The report on several candidates: who leads, who is dropped and why, and cost against quality, in every form."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jsonschema_rs
import pytest

from gateway.reports.model import BestOfK, Estimate, Family, RankedCandidate
from gateway.verdict.report.as_json import schema, to_dict
from gateway.verdict.report.html import to_html
from gateway.verdict.report.presentation import badge, best_lines, headline, sharing
from gateway.verdict.report.terminal import LINES
from tests.verdict.report.test_terminal import shown

FAST = RankedCandidate(
    "candidate", "b/fast", "best", "not worse", Estimate(0.012, -0.02, 0.044), 420, paid_calls=420,
    cost_per_1k=Estimate(0.7, 0.6, 0.8), on_front=True,
)  # fmt: skip
SLOW = RankedCandidate(
    "slow", "b/slow", "compared", "not better than candidate by more than 0.05", Estimate(0.01, -0.03, 0.05), 420,
    Estimate(0.002, -0.04, 0.044), 420, paid_calls=420, cost_per_1k=Estimate(0.9),
)  # fmt: skip
TINY = RankedCandidate("tiny", "b/tiny", "dropped", "worse than candidate on helpfulness (…)", Estimate(-0.1), 90,
                       paid_calls=90)  # fmt: skip
BEST = BestOfK(
    "best", "candidate", "candidate", "The best of 3 candidates for chat is candidate: so it is. Ship.", 0.05 / 6, 0.05,
    (FAST, SLOW, TINY), "a/old", Estimate(2.4, 2.3, 2.5), False, 105,
)  # fmt: skip
OPEN = replace(
    BEST, verdict="open", best=None, sentence="The best of 3 candidates for chat is undecided; so it is. Hold.",
    candidates=(replace(FAST, state="compared"), SLOW, TINY),
)  # fmt: skip


@pytest.fixture
def of_best(report: Any) -> Any:
    """Builds the report on the candidate that leads."""
    arms = tuple(replace(arm, arm="candidate") if arm.arm == "llama" else arm for arm in report().arms)
    return lambda kind="ship", **fields: report(kind, **{"candidate": "candidate", "arms": arms, **fields})


def test_every_form_begins_with_the_best(of_best: Any) -> None:
    report = of_best
    made = report(best=BEST)
    says = "candidate is the best of 3: helpfulness 0.735 instead of 0.731; between 0.011 worse and 0.019 better. Ship."
    assert len(says) > 90
    says = "candidate is the best of 3: helpfulness 0.735 instead of 0.731. Ship."
    assert (headline(made), badge(made)) == (says, ("✓ Best: candidate", 1))
    short = shown(made, 300, full=False).splitlines()
    assert len(short) <= LINES
    assert short[:2] == [says, "Switch to candidate."]
    assert [line.split(":")[0] for line in short[3:6]] == ["✓ candidate best", "? slow compared", "✕ tiny dropped"]
    assert "420 paid calls" in short[3]
    assert "$0.70 per 1k, on the front" in short[3]
    assert headline(report("hold", best=OPEN)).startswith("The best of 3 is open; candidate leads: helpfulness 0.7")
    assert headline(report("hold", best=replace(OPEN, verdict="none", leader=None))) == (
        "None of 3 candidates may replace gpt-x. Reject."
    )
    assert badge(report("hold", best=OPEN)) == ("? Hold", 0)
    assert badge(report("hold", best=replace(OPEN, verdict="none", leader=None))) == ("✕ Reject", -1)


def test_the_table_and_the_chart_have_every_candidate(report: Any) -> None:
    made = report(best=BEST)
    text, page = shown(made, 300), to_html(made)
    for form in (text, page):
        assert "The candidates, compared" in form
        for words in ("Best", "Compared", "Dropped", "b/slow", "b/tiny", "on the front"):
            assert words in form, words
        assert "tiny: worse than candidate on helpfulness" in form
        assert "The candidates, side by side" not in form
    assert "A candidate: $0.70, +0.012, on the front" in text
    assert "USD per thousand requests" in page
    assert page.count('id="costs-') >= 2, "at both widths"
    unpriced = replace(BEST, candidates=tuple(replace(row, cost_per_1k=None) for row in BEST.candidates))
    bare = to_html(report(best=unpriced))
    assert "The candidates, compared" in bare
    assert 'id="costs-' not in bare, "a chart of the control alone says nothing"


def test_programs_read_the_ranking(report: Any) -> None:
    made = to_dict(report(best=BEST))
    jsonschema_rs.validate(schema(), made)
    assert [row["state"] for row in made["best"]["candidates"]] == ["best", "compared", "dropped"]
    assert made["best"]["candidates"][1]["lead"] == {"value": 0.002, "low": -0.04, "high": 0.044}
    assert "best" not in to_dict(report()), "other reports stay as they were"
    valid = jsonschema_rs.validator_for(schema()).is_valid
    assert not valid({**made, "best": {**made["best"], "verdict": "maybe"}})
    described = set(schema()["$defs"]["best"]["properties"]), set(schema()["$defs"]["ranked_candidate"]["properties"])
    assert described == (set(made["best"]), set(made["best"]["candidates"][0]))


def test_the_error_is_shared_evenly_by_all_comparisons() -> None:
    family = Family("best", 0.05, 0.05 / 3, 0.05 / 3, (("fast", "ship"), ("slow", "hold"), ("tiny", "reject")))
    assert sharing(family) == (
        "3 candidates share an error of 0.05 evenly, and so does each pair of them: 0.0167 to ship and 0.0167 to "
        "reject this one (fast ship, slow hold, tiny reject)."
    )
    assert best_lines(None) == []
