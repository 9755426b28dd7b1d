"""A sheet of scores becomes a verdict for each candidate; withheld while the replay is incomplete or gives too little
evidence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from gateway.core.plan import Guardrail
from gateway.features.replay.results.findings import ReplayAnswers, ReportScope, examples_of, reports
from gateway.features.replay.results.sheet import ScoreSheet, sheet
from gateway.features.replay.rows import ReplayAnswer, ReplayScore
from gateway.reports.model import Report
from gateway.verdict.items.pairs import ItemMetric

EXACT = ItemMetric("exact", "maximise", (0.0, 1.0))
N = 400
QUESTION = ReportScope(
    name="r",
    design="d",
    dataset="q.csv",
    dataset_hash="ab" * 32,
    rows=N,
    of=N,
    repeats=1,
    metrics=(EXACT,),
    primary="exact",
    margin=0.05,
    alpha=0.05,
    guardrails=(Guardrail("error_rate", 0.05),),
    command="replay q.csv",
)
Make = Callable[..., ScoreSheet]


@pytest.fixture
def made() -> Make:
    """A sheet of N items; rights: target → share of right answers, nested, so that the better is right where the worse
    is. failed: target → of how many items it fails. prices: target → USD an answer. rows: how many are asked."""

    def make(
        rights: dict[str, float],
        failed: dict[str, int] | None = None,
        prices: dict[str, float] | None = None,
        rows: int = N,
        repeats: int = 1,
        errors: int = 0,
    ) -> ScoreSheet:
        rng = np.random.default_rng(5)
        hard, noise = rng.random(N), rng.random((N, len(rights), repeats)) * 0.1
        answers, scores = [], []
        for at, (target, share) in enumerate(rights.items()):
            for i in range(rows):
                for r in range(repeats):
                    bad = i < (failed or {}).get(target, 0)
                    answers.append(
                        ReplayAnswer(
                            item=i + 1,
                            target=target,
                            repeat=r + 1,
                            answer_id=f"{i}{target}{r}",
                            cluster=f"c{i}",
                            outcome="failed" if bad else "ok",
                            seconds=1.0 + at + noise[i, at, r],
                            asked=float(i),
                            cost_usd=(prices or {}).get(target),
                            output_tokens=5,
                        )
                    )
                    value = float(hard[i] + noise[i, at, r] < share)
                    status = "error" if i < errors else "scored"
                    if not bad:
                        scores.append(
                            ReplayScore(
                                i + 1,
                                target,
                                r + 1,
                                "exact",
                                "1",
                                "h",
                                status,
                                value if status == "scored" else None,
                                None,
                            )
                        )
        return sheet((N, repeats), tuple(rights), {"exact": ("1", "h")}, answers, scores)

    return make


def one(sheet: ScoreSheet, asked: ReportScope = QUESTION, texts: ReplayAnswers | None = None) -> Report:
    [report] = reports(sheet, asked, texts)
    return report


def test_an_equal_cheaper_candidate_ships_in_one_sentence(made: Make) -> None:
    report = one(made({"one": 0.8, "two": 0.8}, prices={"one": 0.004, "two": 0.001}))
    assert (report.verdict, report.margin) == ("ship", "equivalent")
    assert report.sentence.startswith("On 400 rows of q.csv, from one to two: the same within 0.05 on exact (")
    assert "75 % cheaper" in report.sentence
    assert report.sentence.endswith("Guardrails hold. Ship.")
    assert [g.state for g in report.gates] == [1, 1, 1]


def test_a_worse_candidate_is_rejected_and_a_better_one_ships(made: Make) -> None:
    assert one(made({"one": 0.8, "two": 0.6})).verdict == "reject"
    better = one(made({"one": 0.6, "two": 0.8}))
    assert (better.verdict, better.direction) == ("ship", "better")


def test_a_candidate_that_fails_more_never_ships(made: Make) -> None:
    report = one(made({"one": 0.8, "two": 0.8}, failed={"two": 60}))
    assert report.verdict == "reject"
    assert any("error_rate" in reason for reason in report.reasons)
    assert report.arms[1].failed == 60


def test_a_guardrail_without_numbers_prevents_a_verdict(made: Make) -> None:
    asked = replace(QUESTION, guardrails=(Guardrail("cost_per_1k", 0.0),))
    report = one(made({"one": 0.8, "two": 0.8}), asked)
    assert report.verdict == "hold"
    assert report.reasons == ("cost_per_1k (no pair with a value yet)",)


def test_an_incomplete_replay_has_no_verdict(made: Make) -> None:
    report = one(made({"one": 0.8, "two": 0.6}, rows=300))
    assert report.verdict == "hold"
    assert "300 of 400 requests to each target have a result" in report.sentence
    assert report.primary is not None
    assert report.primary.method.startswith("betting confidence sequence")
    assert dict(report.withheld) == {"not asked yet": 100}


def test_few_items_have_no_verdict(made: Make) -> None:
    report = one(made({"one": 0.8, "two": 0.6}, rows=12), replace(QUESTION, rows=12, of=12))
    assert (report.verdict, report.gates[1].state) == ("hold", 0)


@pytest.mark.parametrize(("errors", "state"), [(0, 1), (12, 0), (40, -1)])
def test_failed_scores_withhold_the_verdict(made: Make, errors: int, state: int) -> None:
    report = one(made({"one": 0.8, "two": 0.8}, errors=errors))
    assert report.gates[2].state == state
    assert (report.verdict == "hold") == (state < 1)


def test_two_targets_that_always_fail_are_not_equal(made: Make) -> None:
    report = one(made({"one": 0.0, "two": 0.0}))
    assert report.verdict == "hold"
    assert "every answer of both targets has the worst value of exact" in report.sentence


def test_many_candidates_share_the_error(made: Make) -> None:
    found = reports(made({"one": 0.8, "two": 0.8, "three": 0.79}), QUESTION)
    assert [r.candidate for r in found] == ["two", "three"]
    assert dict(found[0].design)["alpha"] == "0.025 (of 0.05, shared)"
    alone = one(made({"one": 0.8, "two": 0.8}))
    assert found[0].primary is not None
    assert alone.primary is not None
    widths = [r.primary.difference.high - r.primary.difference.low for r in (found[0], alone)]  # type: ignore[union-attr,operator]
    assert widths[0] > widths[1]


def test_repeats_give_the_noise_floor(made: Make) -> None:
    report = one(made({"one": 0.8, "two": 0.8}, repeats=2), replace(QUESTION, repeats=2))
    assert report.primary is not None
    assert report.primary.noise is not None
    assert report.primary.noise.low < 0.0 < report.primary.noise.high  # type: ignore[operator]
    assert one(made({"one": 0.8, "two": 0.8})).primary.noise is None  # type: ignore[union-attr]


def test_a_constant_control_has_a_noise_floor_with_a_width(made: Make) -> None:
    found = made({"one": 1.2, "two": 0.8}, repeats=2)
    report = one(found, replace(QUESTION, repeats=2))
    assert report.primary is not None
    assert report.primary.noise is not None
    assert report.primary.noise.value == 0.0
    assert report.primary.noise.low == pytest.approx(-1.959964 / (N + 2))


def test_the_largest_differences_are_shown_with_the_answers(made: Make) -> None:
    found = made({"one": 0.8, "two": 0.5})
    wanted = examples_of(found, QUESTION)["two"]
    assert len(wanted) == 6
    texts = ReplayAnswers({wanted[0]: "why?"}, {(wanted[0], "one"): "because", (wanted[0], "two"): "no idea"})
    [example] = one(found, texts=texts).examples
    assert (example.question, example.control, example.candidate) == ("why?", "because", "no idea")
    assert example.scores == (("exact", 1.0, 0.0),)


def test_wins_are_counted_per_item_and_latency_compared(made: Make) -> None:
    report = one(made({"one": 0.5, "two": 0.8}))
    assert report.wins is not None
    assert report.wins.wins > 80 > report.wins.losses
    share = report.wins.win_share
    assert share is not None
    assert (share.low or 1.0) < report.wins.wins / N < (share.high or 0.0)
    assert report.wins.wins + report.wins.ties + report.wins.losses == N
    seconds = next(c for c in report.metrics if c.metric == "total_s")
    assert (seconds.direction_found, seconds.unit) == ("worse", "s")
    assert [each.arm for each in report.latency] == ["one", "two"]


def test_without_a_primary_nothing_is_decided(made: Make) -> None:
    report = one(made({"one": 0.8, "two": 0.8}), replace(QUESTION, primary=None))
    assert (report.verdict, report.primary) == ("hold", None)


def test_one_target_has_no_report(made: Make) -> None:
    assert reports(made({"one": 0.8}), QUESTION) == ()


def test_a_late_scorer_differs_from_a_failed_one(made: Make) -> None:
    found = made({"one": 0.8, "two": 0.8}, errors=40)
    found.unscored["exact", "two"]["timeout"] = 7
    [says] = [gate.says for gate in one(found).gates if gate.name == "scored"]
    assert says.endswith(
        "because the scorer failed (40 errors, 7 timeouts; raise scorers.exact.deadline_s; the same command asks again)"
    )
    found.unscored["exact", "two"].clear()
    found.unscored["exact", "two"]["error"] = 1
    found.unscored["exact", "one"].clear()
    assert "(1 error; the same command asks again)" in next(g.says for g in one(found).gates if g.name == "scored")


def test_a_scorer_that_always_fails_is_named_with_its_exception(made: Make) -> None:
    found = made({"one": 0.8, "two": 0.8}, errors=N)
    found.reasons["exact"] = Counter({"ValueError: no reference": 700, "TimeoutError": 100})
    report = one(found)
    assert report.verdict == "hold"
    assert report.reasons == (
        "no row has a value of exact, because the scorer exact failed on 800 answers, mostly with: ValueError: no "
        "reference",
    )
    assert "no primary metric" not in report.sentence
