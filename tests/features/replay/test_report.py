"""A replay's result for people and programs: one page or several, never markup of a model's."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from gateway.core.plan import Guardrail
from gateway.core.sanitize import to_json
from gateway.features.replay.replay import ReplayResult
from gateway.features.replay.report import pages, to_dict, to_terminal
from gateway.features.replay.results.findings import ReportScope, reports
from gateway.features.replay.results.sheet import sheet, summarize
from gateway.features.replay.rows import ReplayAnswer, ReplayScore
from gateway.features.replay.sending.run import ReplayProgress
from gateway.reports.model import Estimate
from gateway.verdict.items.pairs import ItemMetric

EXACT = ItemMetric("exact", "maximise", (0.0, 1.0))
HOSTILE = "<script>[red]\x1b[31m"


def replayed(*targets: str) -> ReplayResult:
    """40 rows; each target is right in every second one."""
    rows = [(i, t) for i in range(1, 41) for t in targets]
    answers = [
        ReplayAnswer(
            item=i,
            target=t,
            repeat=1,
            answer_id=f"{i}{t}",
            cluster=f"c{i}",
            outcome="ok",
            seconds=i / 10,
            asked=1.0,
            cost_usd=0.001,
            output_tokens=7,
        )
        for i, t in rows
    ]
    scores = [ReplayScore(i, t, 1, "exact", "1", "h", "scored", float(i % 2), None) for i, t in rows]
    made = sheet((40, 1), targets, {"exact": ("1", "h")}, answers, scores)
    asked = ReportScope(
        name="r",
        design="d",
        dataset="q.csv",
        dataset_hash="ab" * 32,
        rows=40,
        of=50,
        repeats=1,
        metrics=(EXACT,),
        primary="exact",
        margin=0.2,
        alpha=0.05,
        guardrails=(Guardrail("error_rate", 0.2),),
        command="gateway replay",
    )
    alone = tuple(summarize(made, t, asked.metrics, asked.alpha) for t in targets)
    return ReplayResult(ReplayProgress(40), asked, alone, reports(made, asked))


def drawn(found: ReplayResult) -> str:
    out = io.StringIO()
    Console(file=out, width=200).print(to_terminal(found))
    return out.getvalue()


def test_the_terminal_shows_targets_and_then_the_verdict() -> None:
    text = drawn(replayed("one", "two"))
    assert text.splitlines()[0].startswith("r: the first 40 of 50 rows of q.csv (sha256 abababab")
    assert "0.34 … 0.66" in text
    assert "$1.00" in text
    assert "On 40 rows of q.csv, from one to two: the same within 0.2 on exact" in text
    assert "changed with the order" not in text, "nothing was judged in two orders"


def test_the_same_answers_give_the_same_json() -> None:
    found = to_dict(replayed("one", "two"))
    assert to_json(found) == to_json(to_dict(replayed("one", "two")))
    assert found["dataset"] == {"name": "q.csv", "sha256": "ab" * 32, "rows": 40, "of": 50}
    [one, _] = found["targets"]
    assert (one["target"], one["asked"], one["means"]["exact"]["value"]) == ("one", 40, 0.5)
    assert found["reports"][0]["verdict"] == "ship"


@pytest.mark.parametrize(
    ("targets", "names"),
    [
        (("one",), ["r.html"]),
        (("one", "two"), ["r.html"]),
        (("one", "u/two", "three"), ["r.html", "r-1-u-two.html", "r-2-three.html"]),
    ],
)
def test_each_comparison_has_a_page_and_all_have_an_overview(targets: tuple[str, ...], names: list[str]) -> None:
    made = dict(pages(replayed(*targets), Path("/out/r.html")))
    assert [path.name for path in made] == names
    first = made[Path("/out/r.html")]
    assert first.startswith("<!doctype html>")
    assert all(target in first for target in targets)
    if len(targets) == 3:
        assert 'href="r-1-u-two.html"' in first


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_hostile_name_stays_text_everywhere(count: int) -> None:
    found = replayed(*[f"{HOSTILE}{i}" for i in range(count)])
    assert "\x1b" not in drawn(found)
    assert "[red]" in drawn(found)
    for path, text in pages(found, Path("/out/r.html")):
        assert "<script>" not in text
        assert set(path.name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-.ESC[]_")


def test_a_target_that_never_answered_has_dashes() -> None:
    made = sheet(
        (1, 1),
        ("one",),
        {},
        [
            ReplayAnswer(
                item=1, target="one", repeat=1, answer_id="a", cluster="c", outcome="failed", seconds=1.0, asked=1.0
            )
        ],
        [],
    )
    alone = summarize(made, "one", [], 0.05)
    assert alone.p50 == Estimate(None)
    assert "–" in drawn(ReplayResult(ReplayProgress(1), replayed("one").question, (alone,), ()))


def test_a_fixed_n_interval_is_not_called_anytime_valid() -> None:
    [text] = dict(pages(replayed("one", "two"), Path("/out/r.html"))).values()
    metrics = text[text.index(">Metrics<") : text.index(">Win, tie, loss<")]
    assert "its interval, which is for one look, at the end" in metrics
    assert "fixed n" in metrics
    assert "which holds at every look" not in metrics
