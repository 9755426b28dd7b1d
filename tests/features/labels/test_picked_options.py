"""People pick an option of a decision's question without its answer; the decision is right where it took this one."""

from __future__ import annotations

import asyncio
import csv
import itertools
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import yaml
from typer.testing import CliRunner

from gateway.cli import app
from gateway.config.loading import load
from gateway.core.completion import completion_of
from gateway.core.errors import CannotRun
from gateway.core.exchange import Exchange
from gateway.core.score import Score, ScoreResult
from gateway.features.decisions.work import certify, promises_of
from gateway.features.labels.blind import BlindItem, parse_pick
from gateway.features.labels.desk import (
    Desk,
    LabelRequest,
    export_blind_sheet,
    import_labels,
    open_desk,
    picked_question,
    save_labels,
)
from gateway.features.labels.rows import labels_of
from gateway.scoring.registry import build_all
from gateway.scoring.types import Subject
from gateway.store import engine
from gateway.store import write as writing
from gateway.store.query import reading
from gateway.store.query import writing as store_writing
from gateway.store.rows import ScoredExchange
from gateway.store.write import ScoredBatch

TEAMS = ("billing", "shipping", "other")
QUESTIONS: dict[str, dict[str, Any]] = {
    "team": {"choice": "Which team?", "options": list(TEAMS)},
    "tone": {"score": "How upset?", "levels": ["calm", "annoyed", "furious"]},
    "twin": {"choice": "Is it?", "options": [True, "true"]},
}


def config_of(tmp_path: Path, name: str = "team") -> Path:
    """The path of a config whose scorer of this name reads the decision of the question."""
    path = tmp_path / "gateway.yaml"
    content = {
        "open": True,
        "upstreams": {"local": {"kind": "vllm", "base_url": "http://127.0.0.1:1/v1"}},
        "models": {"decide": {"targets": [{"upstream": "local", "model": "small"}]}},
        "scorers": {name: {"use": "decided", "question": QUESTIONS[name]}},
        "decisions": {"certificates": {"auto": {"scorer": name, "wrong": 0.1}}},
        "store": {"url": f"sqlite:///{tmp_path / 'kept.db'}"},
    }
    path.write_text(yaml.safe_dump(content))
    return path


def decision(make: Callable[..., Exchange], asked: dict[str, Any], taken: int, p: float, text: str) -> Exchange:
    """The recorded decision about a text, which takes one option with probability p."""
    kind = "choice" if "choice" in asked else "score"
    names = asked["options"] if kind == "choice" else asked["levels"]
    member, value = ("choices", "value") if kind == "choice" else ("levels", "label")
    keys = names if kind == "choice" else range(len(names))
    others = (1.0 - p) / (len(names) - 1)
    rows = [{"value": key, "probability": p if at == taken else others} for at, key in enumerate(keys)]
    question = {"type": kind, "instructions": asked[kind], member: [{value: name} for name in names]}
    answer = {"type": kind, "name": None, "probabilities": rows}
    if kind == "choice":
        answer["choice"] = names[taken]
    request = orjson.dumps({"model": "decide", "input": text, "questions": [question]})
    return make(api="decisions", alias="decide", request=request, response=orjson.dumps({"answers": [answer]}))


@pytest.fixture
def keep_decisions(exchange: Callable[..., Exchange], tmp_path: Path) -> Callable[..., Path]:
    """Stores decisions, scored as `gateway evaluate` does it; gives the path of the config. taken, p, text: of each."""

    def write(name: str, decided: Sequence[tuple[int, float, str]]) -> Path:
        path = config_of(tmp_path, name)
        config = load(path)
        scorers = build_all(dict(config.scorers)).single
        of, judged = scorers[name], []
        for taken, p, text in decided:
            made = decision(exchange, QUESTIONS[name], taken, p, text)
            completion = completion_of(made)
            score = asyncio.run(of.scorer.score(Subject(made, orjson.loads(made.request), completion, None, None)))
            assert isinstance(score, Score), score
            result = ScoreResult(name, of.scorer.version, of.config_hash, "scored", score, "", 0.1, 1.0)
            judged.append(ScoredExchange(made, completion, [result]))
        opened = engine.writer(config.store.url)
        with opened.begin() as connection:
            writing.write(connection, ScoredBatch(scorers, judged, [], []), time.time())
        opened.dispose()
        return path

    return write


def request_of(path: Path, name: str = "team") -> LabelRequest:
    return LabelRequest(name, "ada", question=picked_question(name, load(path).scorers[name]))


def store_of(path: Path) -> str:
    return str(load(path).store.url)


ITEM = BlindItem("x", (), (), options=("billing", "billing abroad", "s"), decided="billing")


@pytest.mark.parametrize(
    ("text", "value", "label", "comment"),
    [
        ("1", 1.0, "billing", None),
        ("2, it is abroad", 0.0, "billing abroad", "it is abroad"),
        ("Billing", 1.0, "billing", None),
        ("billing: since he paid", 1.0, "billing", "since he paid"),
        ("billing abroad he paid", 0.0, "billing abroad", "he paid"),
        ("#3 why not", 0.0, "s", "why not"),
        ("s", None, None, None),
    ],
)
def test_an_option_is_picked_by_number_or_name(
    text: str, value: float | None, label: str | None, comment: str | None
) -> None:
    given = parse_pick(text, ITEM)
    assert (given.value, given.label, given.comment) == (value, label, comment)


@pytest.mark.parametrize("text", ["", "4", "0", "g", "0.5", "billings", "#4", "#x"])
def test_anything_else_is_not_a_pick(text: str) -> None:
    with pytest.raises(ValueError, match="none of the options"):
        parse_pick(text, ITEM)


def test_names_that_are_numbers_are_picked_by_name() -> None:
    item = BlindItem("x", (), (), options=("5", "1"), decided="1")
    assert parse_pick("1", item).value == 1.0
    assert parse_pick("#1", item).label == "5"
    with pytest.raises(ValueError, match="none of the options"):
        parse_pick("2", item)


def test_the_command_asks_for_an_option_and_hides_the_answer(keep_decisions: Callable[..., Path]) -> None:
    path = keep_decisions("team", [(0, 0.9, "charged twice"), (1, 0.8, "charged thrice"), (2, 0.7, "charged once")])
    words = ["label", "next", "--scorer", "team", "--as", "ada", "--count", "3", "--config", str(path)]
    done = CliRunner().invoke(app, words, input="billing\nnonsense\n1 sure\ns\n")
    assert done.exit_code == 0, done.output
    shown = done.output
    assert "1  billing\n2  shipping\n3  other" in shown
    assert "which is right? Which team?" in shown
    assert "→" not in shown, "the decision's own answer would sway who labels"
    assert "'nonsense' is none of the options" in shown
    with reading(store_of(path)) as connection:
        given = labels_of(connection, "team")
    assert sorted((each.label or "", each.value is None) for each in given) == [("", True)] + [("billing", False)] * 2
    assert [each.comment for each in given if each.value is not None].count("sure") == 1


@pytest.mark.parametrize(("name", "options"), [("team", TEAMS), ("tone", ("calm", "annoyed", "furious"))])
def test_the_decision_is_right_where_it_took_the_picked_one(
    keep_decisions: Callable[..., Path], name: str, options: tuple[str, ...]
) -> None:
    path = keep_decisions(name, [(at % 3, 0.6, f"taken={at % 3}") for at in range(6)])
    with reading(store_of(path)) as connection:
        desk, seen = Desk(connection, request_of(path, name)), []
        while (drawn := desk.next(connection)) is not None:
            assert (drawn.blind.options, drawn.blind.answers) == (options, ())
            label = desk.label(drawn, desk.read_verdict("2", drawn.blind, swapped=False))
            seen.append((label.value, label.label, "taken=1" in drawn.blind.question[0][1]))
    assert len(seen) == 6
    assert all(value == float(is_second) and label == options[1] for value, label, is_second in seen)


def test_options_with_one_name_are_judged_as_before(keep_decisions: Callable[..., Path]) -> None:
    path = keep_decisions("twin", [(0, 0.9, "x")])
    asked = request_of(path, "twin")
    assert asked.question is None
    with reading(store_of(path)) as connection:
        drawn = Desk(connection, asked).next(connection)
    assert drawn is not None
    assert (drawn.blind.options, drawn.blind.answers) == ((), ("Is it? → true",))


def test_a_sheet_is_filled_with_options(keep_decisions: Callable[..., Path], tmp_path: Path) -> None:
    path = keep_decisions("team", [(at % 3, 0.6, f"taken={at % 3}") for at in range(6)])
    url, asked = store_of(path), request_of(path)
    rows = list(csv.DictReader(export_blind_sheet(url, asked, 6, "csv").splitlines(keepends=True)))
    assert {row["options"] for row in rows} == {"\n".join(TEAMS)}
    assert "answer" not in rows[0]
    sheet = tmp_path / "filled.csv"

    def fill(verdict: str) -> None:
        with sheet.open("w", newline="") as file:
            out = csv.DictWriter(file, [*rows[0]])
            out.writeheader()
            out.writerows({**row, "verdict": verdict} for row in rows)

    fill("good")
    with pytest.raises(CannotRun, match="none of the options"):
        import_labels(url, sheet, asked, None)
    fill("Shipping")
    labels, _ = import_labels(url, sheet, asked, None)
    assert sorted(each.value or 0.0 for each in labels) == [0.0] * 4 + [1.0] * 2
    assert {each.label for each in labels} == {"shipping"}


def test_a_certificate_says_that_the_taken_option_is_right(keep_decisions: Callable[..., Path]) -> None:
    """A person who picks the true team certifies an application that decides for itself above a threshold."""
    random = np.random.default_rng(51)
    decided = []
    for p in np.where(random.random(500) < 0.7, 0.99, 0.5).tolist():
        taken = int(random.integers(3))
        truth = taken if random.random() < p else (taken + 1) % 3
        decided.append((taken, p, f"truth={TEAMS[truth]}"))
    path = keep_decisions("team", decided)
    url, seconds, given = store_of(path), itertools.count(int(time.time()) + 1), []
    with reading(url) as connection:
        desk = Desk(connection, request_of(path), lambda: float(next(seconds)))
        for _ in range(400):
            drawn = desk.next(connection)
            assert drawn is not None
            verdict = desk.read_verdict(drawn.blind.question[0][1].rpartition("=")[2], drawn.blind, swapped=False)
            given.append(desk.label(drawn, verdict))
    save_labels(url, given)
    [promise] = promises_of(load(path))
    with store_writing(url) as connection:
        found = certify(connection, promise, float(next(seconds)))
    assert found.certified is not None, found
    assert 0.5 < found.certified.threshold <= 1.0
    assert found.certified.share == pytest.approx(0.7, abs=0.06)


async def test_the_console_has_a_button_for_each_option(pages: Any, make_exchange: Callable[..., Exchange]) -> None:
    """Over a socket: the page shows options and not the answer; a button stores the option and its verdict."""
    path = pages.data / "gateway.yaml"
    content = yaml.safe_load(path.read_text())
    content["scorers"]["team"] = {"use": "decided", "question": QUESTIONS["team"]}
    path.write_text(yaml.safe_dump(content))
    pages.config.append(load(path))
    pages.scorers.update(build_all(dict(pages.config[-1].scorers)).single)
    made = [decision(make_exchange, QUESTIONS["team"], at, 0.8, f"taken={at}") for at in (0, 1)]
    await pages.add(*made, results=[("team", 0.8)])
    client = await pages.login("labeller")
    url = "/console/label/queue?scorer=team"
    page = await pages.get(client, url)
    assert "→" not in page
    assert "which is right? Which team?" in page
    for number, name in enumerate(TEAMS, 1):
        assert re.search(rf'value="#{number}"[^>]*data-key="{number}"', page), name
    for _ in made:
        fields = dict(re.findall(r'name="(\w+)" value="([^"]*)"', page))
        sent = {key: fields[key] for key in ("csrf", "scorer", "experiment", "favour", "item", "order")}
        answer = await client.post("/console/label/verdict", data={**sent, "verdict": "#2", "comment": "why"})
        assert answer.status_code == 303, answer.text
        page = await pages.get(client, url)
    refused = await client.post("/console/label/verdict", data={**sent, "verdict": "good"})
    assert refused.status_code == 303, "a second click on the same item changes nothing"
    with reading(pages.store_url) as connection:
        given = {each.subject_id: (each.value, each.label, each.comment) for each in labels_of(connection, "team")}
    assert given == {made[0].id: (0.0, "shipping", "why"), made[1].id: (1.0, "shipping", "why")}


def test_a_queue_is_opened_for_its_question(keep_decisions: Callable[..., Path]) -> None:
    path = keep_decisions("team", [(0, 0.9, "x")])
    assert open_desk(store_of(path), request_of(path)).left == 1
