"""A replay of recorded runs judged by run: planted agents ship or are rejected at the printed price."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace

import numpy as np
import orjson
import pytest

from gateway.core.completion import Completion, ToolCall
from gateway.core.plan import Guardrail
from gateway.core.score import Score
from gateway.features.replay.results.by_run import by_run, price_of, run_reports
from gateway.features.replay.results.findings import TURNS, ReplayAnswers, ReportScope, reports
from gateway.features.replay.results.parting import SHOWN_TURNS, ComparedTurn, parting_of, same_step
from gateway.features.replay.results.sheet import MEASURES, ScoreSheet
from gateway.scorers.tool_calls_agree import ToolCallsAgree
from gateway.scoring.golden import PLAIN_EXCHANGE
from gateway.scoring.types import Subject
from gateway.verdict.items.pairs import ItemMetric

VALID = ItemMetric("tool_calls", "maximise", (0.0, 1.0))
RUNS, MARGIN, SEEDS = 120, 0.03, 40
MISTAKES = 0.03
"""Share of turns in which the control itself names a tool that does not exist."""
QUESTION = ReportScope("r", "d", "runs.jsonl", "ab" * 32, 0, 0, 1, (VALID,), "tool_calls", MARGIN, 0.05,
                       (Guardrail("error_rate", 0.02),))  # fmt: skip


def sheet_of(runs: list[str], wrong: dict[str, np.ndarray], failed: dict[str, np.ndarray] | None = None) -> ScoreSheet:
    """A sheet of turns. wrong, failed: by target, whether each turn's answer is."""
    n, targets = len(runs), tuple(wrong)
    measures = {(m, t): np.full((n, 1), 0.001) for m in MEASURES for t in targets}
    bad = failed or {}
    measures |= {("failed", t): bad.get(t, np.zeros(n)).astype(float)[:, None] for t in targets}
    scores = {("tool_calls", t): np.where(bad.get(t, np.zeros(n)) > 0, np.nan, 1.0 - w)[:, None]
              for t, w in wrong.items()}  # fmt: skip
    return ScoreSheet(targets, runs, measures, scores)


def planted(seed: int, more: float) -> ScoreSheet:
    """RUNS recorded runs of 4 to 16 turns; both targets make the control's mistakes, and the candidate `more`."""
    rng = np.random.default_rng(seed)
    runs = [f"run_{r}" for r in range(RUNS) for _ in range(rng.integers(4, 17))]
    n = len(runs)
    usual = {t: rng.random(n) < MISTAKES for t in ("one", "two")}
    return sheet_of(runs, {**usual, "two": usual["two"] | (rng.random(n) < more)})


def verdicts(more: float) -> Counter[str]:
    made = (planted(seed, more) for seed in range(SEEDS))
    of = (run_reports(s, replace(QUESTION, rows=len(s.clusters), of=len(s.clusters)), ReplayAnswers()) for s in made)
    return Counter(report.verdict for [report] in of)


def test_an_equal_candidate_ships_at_the_printed_price() -> None:
    found = verdicts(0.0)
    assert found["ship"] >= 30, found
    assert found["reject"] <= 2, found


def test_a_wrong_tool_or_argument_in_a_tenth_of_the_turns_is_rejected() -> None:
    found = verdicts(0.1)
    assert found["reject"] >= 36, found


AGREE = ItemMetric("tool_calls_agree", "maximise", (0.0, 1.0))
FILES = ("part.txt", "copy.txt", "old.txt")
"""The files that an agent may read; the last one is of no use, though the call is valid."""
OTHERWISE, AGREE_RUNS, AGREE_TURNS = 0.2, 450, 8
"""Share of turns in which the control reads the copy: it parts from itself in 32 %. The price is 7 200 calls."""


def agreements() -> np.ndarray:
    """The scores of the call with each file, where each was recorded; shape (made, recorded)."""

    def score(made: str, recorded: str) -> float:
        wanted = orjson.dumps([{"name": "read", "arguments": {"file": recorded}}]).decode()
        answer = Subject(PLAIN_EXCHANGE, {}, call("read", orjson.dumps({"file": made}).decode()), expected_calls=wanted)
        found = asyncio.run(ToolCallsAgree("t").score(answer))
        assert isinstance(found, Score)
        return found.value

    return np.array([[score(made, recorded) for recorded in FILES] for made in FILES])


@pytest.mark.long
@pytest.mark.parametrize(("careless", "verdict", "least"), [(0.0, "ship", 30), (0.1, "reject", 36)])
def test_a_valid_call_with_a_wrong_argument_is_rejected(careless: float, verdict: str, least: int) -> None:
    """An agent that names a useless file in a tenth of the turns, of which an equal one differs by chance alone."""
    table, runs = agreements(), [f"run_{r}" for r in range(AGREE_RUNS) for _ in range(AGREE_TURNS)]
    n, found = len(runs), Counter[str]()
    for seed in range(SEEDS):
        rng = np.random.default_rng(seed)
        recorded, control, candidate = ((rng.random(n) < OTHERWISE).astype(int) for _ in range(3))
        candidate[rng.random(n) < careless] = 2
        scores = {(AGREE.name, t): table[made, recorded][:, None] for t, made in (("one", control), ("two", candidate))}
        sheet = replace(sheet_of(runs, {"one": np.zeros(n), "two": np.zeros(n)}), scores=scores)
        scope = replace(QUESTION, metrics=(AGREE,), primary=AGREE.name, rows=n, of=n)
        [report] = run_reports(sheet, scope, ReplayAnswers())
        found[report.verdict] += 1
    assert found[verdict] >= least, found
    if not careless:
        assert found["reject"] <= 2, found


def test_the_price_names_calls_and_the_deviation_that_it_can_bear() -> None:
    """A candidate that is equal ships in about 80 % where the runs differ by just that deviation."""
    price = price_of(["run_a"] * 3 + ["run_b"] * 5, 2, 1)
    few = price.described(0.05, 0.05, 0.02)
    assert few.startswith("price: 16 calls, less those already answered: 8 turns of 2 runs to each of 2 targets. They ")
    assert few.endswith("cannot ship: margins of 0.05 and, for errors, 0.02 need at least 96 runs")
    assert "ship" not in price.described(0.0, 0.05)
    many = price_of((f"run_{n}" for n in range(400)), 2, 1)
    assert many.described(0.03, 0.05, 0.02).endswith(
        "has a standard deviation of at most 0.21; where scores differ in half of the turns, at random, "
        "that takes 4\u202f361 runs (about 8\u202f722 calls)"
    )
    rng = np.random.default_rng(1)
    means = rng.normal(0.0, many.deviation(0.03, 0.05) / 20, 4000)
    assert np.mean(means - 1.96 * many.deviation(0.03, 0.05) / 20 > -0.03) == pytest.approx(0.8, abs=0.02)


@pytest.mark.long
def test_an_agent_that_parts_in_46_percent_ships_at_its_price() -> None:
    """The price is that of half of the turns; seeds are not those of the other simulations."""
    turns, otherwise = 8, 0.3586
    half = price_of([f"run_{r}" for r in range(400) for _ in range(turns)], 2, 1).for_half(MARGIN, 0.05)
    runs, found = [f"run_{r}" for r in range(half) for _ in range(turns)], Counter[str]()
    for seed in range(SEEDS):
        rng = np.random.default_rng(seed + 1000)
        recorded, control, candidate = (rng.random(len(runs)) < otherwise for _ in range(3))
        assert np.mean(candidate != control) == pytest.approx(0.46, abs=0.04)
        scores = {(AGREE.name, t): (made == recorded).astype(float)[:, None]
                  for t, made in (("one", control), ("two", candidate))}  # fmt: skip
        sheet = replace(sheet_of(runs, dict.fromkeys(("one", "two"), np.zeros(len(runs)))), scores=scores)
        scope = replace(QUESTION, metrics=(AGREE,), primary=AGREE.name, rows=len(runs), of=len(runs))
        found[run_reports(sheet, scope, ReplayAnswers())[0].verdict] += 1
    assert (half, found["ship"] >= 30, found["reject"] <= 2) == (546, True, True), found


def test_each_run_counts_once() -> None:
    """A run of nine good turns and one of a single bad turn: half, and not a tenth."""
    wrong = np.array([False] * 9 + [True])
    [report] = run_reports(sheet_of(["run_a"] * 9 + ["run_b"], {"one": np.zeros(10), "two": wrong}), QUESTION,
                           ReplayAnswers())  # fmt: skip
    assert report.primary is not None
    assert report.primary.difference.value == pytest.approx(-0.5)
    assert report.sentence.startswith("On 2 runs of runs.jsonl, from one to two: ")
    assert report.arms[0].asked == 10, "requests are counted one by one"
    assert TURNS in report.limits


def test_a_run_with_an_unanswered_turn_has_no_value() -> None:
    failed = np.array([0.0, np.nan, 0.0])
    turns = sheet_of(["run_a", "run_a", "run_b"], {"one": np.zeros(3), "two": np.zeros(3)}, {"two": failed})
    sheet = by_run(turns, (VALID,))
    assert np.isnan(sheet.values(VALID, "two")).tolist() == [True, False]
    assert (sheet.answers("two"), sheet.asked("two")) == (1, 2)
    assert reports(sheet, replace(QUESTION, rows=2, of=2, unit="runs"))[0].verdict == "hold"


def test_a_failed_turn_has_the_worst_score_within_its_run() -> None:
    turns = sheet_of(["run_a"] * 4, {"one": np.zeros(4), "two": np.zeros(4)}, {"two": np.array([1.0, 0, 0, 0])})
    assert by_run(turns, (VALID,)).values(VALID, "two").tolist() == [0.75]


def call(name: str, arguments: str) -> Completion:
    return Completion(tool_calls=(ToolCall("1", name, arguments),))


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (call("read", '{"b":2, "a":1}'), True),
        (call("read", '{"a": 2}'), False),
        (call("write", '{"a": 1, "b": 2}'), False),
        (Completion("Done."), False),
    ],
)
def test_a_step_is_its_tools_and_their_arguments(other: Completion, same: bool) -> None:
    assert same_step(call("read", '{"a": 1, "b": 2}'), other) is same
    assert same_step(Completion("Done."), Completion("It is done."))


def test_parting_is_a_mean_over_runs_with_a_row_for_each_turn() -> None:
    long = [ComparedTurn("run_a", place, True, False) for place in range(1, SHOWN_TURNS + 6)]
    found = parting_of("two", [*long, ComparedTurn("run_b", 1, False, None)], 0.05)
    assert (found.runs, found.turns) == (2, SHOWN_TURNS + 6)
    assert (found.candidate.value, found.itself.value) == (0.5, 0.0)
    assert found.difference.value == 1.0, "over the turns that have both"
    assert [t.turn for t in found.by_turn] == [*map(str, range(1, SHOWN_TURNS + 1)), f"{SHOWN_TURNS + 1} and later"]
    assert [t.runs for t in found.by_turn][:2] == [2, 1]


def test_parting_from_itself_needs_recorded_answers() -> None:
    found = parting_of("two", [ComparedTurn(f"run_{n}", 1, True, None) for n in range(9)], 0.05)
    assert (found.candidate.value, found.itself.value, found.difference.value) == (1.0, None, None)
