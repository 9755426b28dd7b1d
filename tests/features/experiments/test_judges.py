"""A judge's margin as people judge: what the labels show of it, and how often that is right."""

from __future__ import annotations

import random
from collections.abc import Callable, Container
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from typing import Any

import jsonschema_rs
import orjson
import pytest
import yaml
from fixtures.annotation import new
from rich.console import Console

from gateway.config.loading import parse
from gateway.core.plan import Plan, PlanState, StoredPlan
from gateway.features.experiments.advance import LeaseHolder, advance
from gateway.features.experiments.cli import _candidate, _next
from gateway.features.experiments.judges import judge_cautions
from gateway.features.experiments.report.build import read
from gateway.features.labels.blind import LabelVerdict
from gateway.features.labels.correction import EVERYTHING
from gateway.features.labels.desk import LabelRequest, open_desk, save_labels
from gateway.features.labels.rows import Label
from gateway.features.labels.rows import save_labels as store_labels
from gateway.reports.model import Report
from gateway.scoring.asker import ExternalServices
from gateway.scoring.http_client import HttpConnections
from gateway.scoring.registry import build_all
from gateway.store import write
from gateway.store.ledger import position
from gateway.store.pairs import settled_pairs
from gateway.store.plans import save_plans
from gateway.store.query import reading
from gateway.store.reader_config import StoreLocation
from gateway.store.tables import pair_scores
from gateway.store.write import ScoredBatch
from gateway.verdict.report.as_json import schema, to_json
from gateway.verdict.report.html import to_html
from gateway.verdict.report.terminal import to_terminal

JUDGE = {"use": "judge", "model": "referee", "criterion": "It solves the problem."}


def cautions(store: str, primary: str | None, experiment: str | None = None, **more: Any) -> list[str]:
    swap = {"model": "chat", "control": {"upstream": "a", "model": "m"}, "candidate": {"upstream": "a", "model": "n"}}
    swap |= {"primary": primary, "start": "manual"} if primary else {"start": "manual"}
    config = parse(
        yaml.safe_dump(
            {
                "open": True,
                "upstreams": {"a": {"kind": "fake"}},
                "models": {name: {"targets": [{"upstream": "a", "model": "m"}]} for name in ("chat", "referee")},
                "scorers": {"helpful": JUDGE, "refusal": {}},
                "experiments": {"swap": {**swap, **more}},
            }
        )
    )
    return judge_cautions(config, build_all(config.scorers, ExternalServices(HttpConnections())), store, experiment)


SAYS = (
    "experiments.swap.primary: The judge helpful decides and is not calibrated (0 labels); label some answers: "
    "gateway label next --scorer helpful."
)


@pytest.mark.parametrize(
    ("primary", "more", "expected"),
    [
        ("helpful", {}, [SAYS]),
        ("helpful", {"enabled": False}, []),
        ("refusal", {}, []),
        ("error_rate", {}, []),
        (None, {}, []),
    ],
    ids=["a judge", "of a disabled experiment", "a rule", "a built-in metric", "none"],
)
def test_only_a_judge_that_decides_is_a_caution(
    tmp_path: Path, primary: str | None, more: dict[str, Any], expected: list[str]
) -> None:
    assert cautions(f"sqlite:///{tmp_path / 'none.db'}", primary, **more) == expected


def test_labels_that_agree_end_the_caution(keep: Any, exchange: Any, tmp_path: Path) -> None:
    """A store that has scores of the judge and no labels says the same as one that has nothing."""
    store = keep([exchange(f"0.{i}") for i in range(1, 9)], name="helpful", kind="llm")
    assert cautions(store, "helpful") == [SAYS]
    assert cautions(store, "helpful", experiment="another") == []


@dataclass
class Labelled:
    """Pairs in a store, with what people would say of each answer."""

    store: Any
    plan: Plan
    truth: dict[str, float]
    at: int = 0

    def add(self, made: list[Any], verdicts: list[float]) -> None:
        """Exchanges as the consumer stores them, in the order of the stream, with the same ids in every run."""
        judged, named = [], {e.id: new(self.at + i) for i, e in enumerate(made)}
        for each, y in zip(made, verdicts, strict=True):
            self.at += 1
            e = replace(each, id=named[each.id], pair=named.get(each.pair), unit=named[each.unit])
            self.truth[e.id] = y
            judged.append(replace(self.store.judged(e), position=position(f"{1000 + self.at}-0")))
        self.store.run(lambda c: write.write(c, ScoredBatch(self.store.scorers, judged), 0.0))

    def settle(self) -> None:
        def work(connection: Any) -> int:
            save_plans(connection, [PlanState(self.plan, "running", 1.0)], 1.0)
            found = settled_pairs(connection, self.plan.hash, "99999-0", 500, 1000)
            advance(
                connection,
                LeaseHolder("me", 10.0),
                StoredPlan(self.plan, self.plan.hash, "running", 1.0),
                found,
                0.0,
            )
            return len(found)

        assert self.store.run(work)

    def label(self, count: int, experiment: str = "", among: Container[str] | None = None) -> None:
        """A person labels the next answers with the truth; those that are not `among` are passed over."""
        desk, given = open_desk(self.store.url, LabelRequest("stated", "ada", experiment)), []
        with reading(self.store.url) as connection:
            for _ in range(count):
                drawn = desk.next(connection)
                assert drawn is not None
                label = desk.label(drawn, LabelVerdict(self.truth[drawn.blind.id]))
                given += [label] if among is None or drawn.blind.id in among else []
        save_labels(self.store.url, given)

    def report(self) -> Report:
        return read(StoreLocation(self.store.url), "swap")


def judged(rng: random.Random, y: float, right: float) -> float:
    return y if rng.random() < right else 1 - y


@pytest.fixture
def labelled(file_store: Any, plan: Plan, paired: Any) -> Callable[..., Labelled]:
    """labelled(pairs, …): pairs whose candidate is wrong in 30 % where the control is wrong in 20 %, to people. The
    judge is right in nine of ten answers of the control, and calls 70 % of the candidate's wrong ones right."""

    def make(n: int, *, settled: bool = True, **changes: Any) -> Labelled:
        rng, made = random.Random(5), Labelled(file_store, replace(plan, repeat_control=0.0, **changes), {})
        exchanges, verdicts = [], []
        for i in range(n):
            y = [float(rng.random() < share) for share in (0.8, 0.7)]
            f = [judged(rng, y[0], 0.9), 1.0 if y[1] or rng.random() < 0.7 else 0.0]
            arms = {"candidate": "failed" if i == 7 else f"{f[1]:.0f}"}
            exchanges += paired(made.plan, f"{f[0]:.0f}", arms)
            verdicts += [y[0], 0.0 if i == 7 else y[1]]
        made.add(exchanges, verdicts)
        if settled:
            made.settle()
        return made

    return make


def shown(report: Report, *, full: bool = False) -> str:
    written = StringIO()
    Console(width=400, file=written).print(to_terminal(report, full=full))
    return written.getvalue()


def test_labels_of_pairs_show_what_the_judge_hides(labelled: Callable[..., Labelled]) -> None:
    """The judge says that the candidate is better; people say that it is worse."""
    made = labelled(300)
    made.label(240, "swap")
    c = made.report().primary
    assert c is not None
    assert c.corrected is not None
    assert c.corrected_basis is not None
    truth = sum(y for i, y in enumerate(made.truth.values()) if i % 2) - sum(list(made.truth.values())[::2])
    assert c.difference.value is not None
    assert c.difference.value > 0.02
    assert c.corrected.value == pytest.approx(truth / 300, abs=0.1)
    assert c.corrected.low is not None
    assert c.corrected.high is not None
    assert c.corrected.low < truth / 300 < c.corrected.high
    basis = c.corrected_basis
    assert (basis.source, basis.looks, basis.elsewhere) == ("pairs", "every", 0)
    assert sum(basis.labels) in (239, 240), "an answer that failed needs no label"
    assert 20 < basis.both < 100


def test_every_answer_labelled_is_the_difference_of_people(labelled: Callable[..., Labelled]) -> None:
    made = labelled(60)
    made.label(120, "swap")
    c = made.report().primary
    verdicts = list(made.truth.values())
    assert c is not None
    assert c.corrected is not None
    assert c.corrected.value == pytest.approx((sum(verdicts[1::2]) - sum(verdicts[::2])) / 60)


def test_every_form_says_at_which_looks_it_is_valid(labelled: Callable[..., Labelled], tmp_path: Any) -> None:
    made = labelled(100)
    assert "people judge" not in shown(made.report(), full=True)
    made.label(100, "swap")
    report = made.report()
    line = "as people judge −0." if report.primary.corrected.value < 0 else "as people judge +0."  # type: ignore[union-attr]
    for text in (shown(report), shown(report, full=True), "\n".join(_next([report])), to_html(report)):
        assert line in text
        assert "every look), from the pairs" in text.replace("&#39;", "'")
    found = orjson.loads(to_json(report))
    jsonschema_rs.validator_for(schema()).validate(found)
    assert found["primary"]["corrected_basis"]["looks"] == "every"
    assert _candidate(report)["as_people_judge"]["stated"]["basis"].looks == "every"


def test_labels_of_other_answers_correct_by_error_rates_for_one_look(
    labelled: Callable[..., Labelled], exchange: Any
) -> None:
    """Forty answers from before the plan; of its own pairs, none is labelled."""
    made = labelled(100)
    rng = random.Random(8)
    verdicts = [float(i % 2) for i in range(40)]
    made.add([exchange(f"{judged(rng, y, 0.9):.0f}", stratum="default") for y in verdicts], verdicts)
    made.label(240, among=list(made.truth)[-40:])
    report = made.report()
    c = report.primary
    assert c is not None
    assert c.corrected is not None
    assert c.corrected_basis is not None
    assert (c.corrected_basis.source, c.corrected_basis.looks, c.corrected_basis.elsewhere) == (
        "error_rates",
        "one",
        40,
    )
    assert c.corrected.value is not None
    assert c.difference.value is not None
    assert abs(c.corrected.value) > abs(c.difference.value)
    for text in (shown(report), shown(report, full=True), "\n".join(_next([report])), to_html(report)):
        assert "one look), by the judge" in text
        assert "on 40 labels of other answers, taken as the same on both arms" in text
    assert orjson.loads(to_json(report))["primary"]["corrected_basis"]["looks"] == "one"


def test_no_label_gives_no_correction(labelled: Callable[..., Labelled]) -> None:
    made = labelled(40)
    made.label(9, "swap")
    c = made.report().primary
    assert c is not None
    assert (c.corrected, c.corrected_basis) == (None, None)


def test_the_arms_of_a_split_are_corrected_for_one_look(file_store: Any, plan: Plan, exchange: Any) -> None:
    """The arms answer different requests, so that there is no pair."""
    made = Labelled(file_store, replace(plan, mode="split", shadow=0.0, repeat_control=0.0, split=0.5), {})
    rng, sent, verdicts = random.Random(2), [], []
    for i in range(200):
        arm = ("control", "candidate")[i % 2]
        verdicts.append(float(rng.random() < 0.6))
        same = {"experiment": "swap", "plan": made.plan.hash, "target": made.plan.target(arm)}
        sent.append(exchange(f"{judged(rng, verdicts[-1], 0.9):.0f}", arm=arm, **same))
    made.add(sent, verdicts)
    made.store.run(lambda c: save_plans(c, [PlanState(made.plan, "running", 1.0)], 1.0))
    made.label(120, "swap")
    report = made.report()
    assert report.primary is not None
    basis = report.primary.corrected_basis
    assert basis is not None
    assert (basis.source, basis.looks, sum(basis.labels)) == ("arms", "one", 120)
    assert "one look), from 120 labels of both arms" in shown(report, full=True)


def test_a_pairwise_judge_is_corrected_by_labels_of_pairs(labelled: Callable[..., Labelled]) -> None:
    """The judge prefers the candidate in four of five pairs, people in half of them; they label each."""
    made = labelled(60, primary="prefers", settled=False)
    candidates = list(made.truth)[1::2]
    plain = {"experiment": "swap", "plan": made.plan.hash, "arm": "candidate", "scorer": "prefers", "version": "1",
             "config_hash": "c1", "kind": "llm", "direction": "maximise", "status": "scored", "seconds": 0.1,
             "created": 1000.0}  # fmt: skip
    rows = [{**plain, "score_id": i, "pair": pair, "exchange_id": i, "value": float(n % 5 > 0)}
            for n, (pair, i) in enumerate(zip(list(made.truth)[::2], candidates, strict=True))]  # fmt: skip
    drawn = ("1", "c1", "", 1.0, EVERYTHING, None, 1000.0, 2.0)
    labels = [Label("prefers", "pair", i, "ada", float(n % 2), None, None, *drawn) for n, i in enumerate(candidates)]
    made.store.run(lambda c: (c.execute(pair_scores.insert(), rows), store_labels(c, labels)))
    made.settle()
    c = made.report().primary
    assert c is not None
    assert c.corrected is not None
    assert c.corrected_basis is not None
    assert c.difference.value == pytest.approx(2 * 0.8 - 1)
    assert c.corrected.value == pytest.approx(0.0)
    assert (c.corrected_basis.source, c.corrected_basis.labels) == ("pairs", (0, 59)), (
        "one answer failed, and needs none"
    )
