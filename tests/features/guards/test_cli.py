"""`gateway guards`, and the labels of guarded calls, as a user runs them."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fixtures.json_outputs import conforms
from typer.testing import CliRunner

from gateway.cli import app
from gateway.core.exchange import Count, Tally
from gateway.core.guards import GuardDecision, GuardResult, to_json
from gateway.core.usage import UsageCell, UsageCount, UsageSums, utc_day
from gateway.store.query import reading

SCORES: dict[GuardResult, float | None] = {"hit": 1.0, "near": 0.4, "pass": 0.0, "failed": None}
Run = Callable[..., Any]


def decided(result: GuardResult, guard: str = "secrets", config_hash: str = "c2", **fields: Any) -> dict[str, Any]:
    """The fields of an exchange that a guard has judged; fields: further ones."""
    failure = "timeout" if result == "failed" else None
    on = "request" if guard == "asks" else "answer"
    made = GuardDecision(guard, on, "block", result, result == "hit", SCORES[result], failure, config_hash=config_hash)
    kept = {"pi": 1.0, "stratum": f"guard:{guard}"} if result in ("hit", "near") else {"pi": 0.1, "stratum": "default"}
    return {"guards": to_json([made]), **kept, **fields}


def traffic() -> list[tuple[str, dict[str, Any]]]:
    """30 hits, three quarters of them right, 10 near ones, and 40 others recorded with π = 0.1, 2 of them wrong."""
    now = time.time()
    made = [
        (f"{'bad' if i % 4 else 'fine'} hit {i}", decided("hit", caller="bot" if i < 20 else "web")) for i in range(30)
    ]
    made += [(f"fine near {i}", decided("near")) for i in range(10)]
    made += [(f"{'bad' if i < 2 else 'fine'} pass {i}", decided("pass")) for i in range(40)]
    made += [(f"fine failed {i}", decided("failed", caller="web")) for i in range(2)]
    made += [("bad old", decided("hit", config_hash="c1", received=now - 60)) for _ in range(3)]
    return [(text, {"received": now - i / 100, **fields}) for i, (text, fields) in enumerate(made)]


@pytest.fixture
def run(store: Any, exchange: Callable[..., Any], tmp_path: Path) -> Run:
    """Runs the command line on a store of guarded calls, on both databases."""
    store.scorers.clear()
    store.write(*(exchange(text, **fields) for text, fields in traffic()))
    store.write(
        exchange("an answer", **decided("hit", "asks"), request=b'{"messages":[{"role":"user","content":"ask"}]}')
    )
    (tmp_path / "gateway.yaml").write_text(f"store: {{url: '{store.url}'}}\n")

    def invoke(*words: str, input: str | None = None) -> Any:
        return CliRunner().invoke(app, [*words, "--config", str(tmp_path / "gateway.yaml")], input=input)

    return invoke


@pytest.fixture
def label(run: Run, tmp_path: Path) -> Callable[[int], list[dict[str, str]]]:
    """Labels the next calls of the guard by a sheet, with what their text says; returns the rows of the sheet."""

    def give(count: int) -> list[dict[str, str]]:
        sheet = tmp_path / "sheet.csv"
        made = run("label", "export", str(sheet), "--guard", "secrets", "--next", str(count))
        assert made.exit_code == 0, made.output
        rows = list(csv.DictReader(io.StringIO(sheet.read_text())))
        with sheet.open("w") as file:
            out = csv.DictWriter(file, [*rows[0]])
            out.writeheader()
            out.writerows({**row, "verdict": "bad" if "bad" in row["answer"] else "good"} for row in rows)
        done = run("label", "import", str(sheet), "--guard", "secrets", "--as", "ada")
        assert done.exit_code == 0, done.output
        assert "`gateway guards secrets` evaluates them" in done.stderr
        return rows

    return give


def test_hits_are_shown_by_key_before_anything_is_labelled(run: Run) -> None:
    found = conforms("guards", run("guards", "secrets", "--json").stdout)["guards"][0]
    assert (found["on"], found["action"], found["config_hash"], found["recorded"]) == ("answer", "block", "c2", 82)
    assert found["other_configs"] == 3
    assert found["calls"] == pytest.approx(440)
    assert found["hit"]["share"] == pytest.approx(30 / 440)
    assert found["hit"]["low"] < 30 / 440 < found["hit"]["high"]
    assert found["near"]["share"] == pytest.approx(10 / 440)
    assert found["failed"]["share"] == pytest.approx(20 / 460)
    assert [(k["key"], round(k["calls"]), round(k["hits"])) for k in found["keys"]] == [
        ("bot", 20, 20),
        ("web", 420, 10),
    ]
    assert (found["precision"], found["recall"]) == (None, None)
    shown = run("guards", "secrets").stdout
    for words in ("blocks 6.8\u202f% of calls; none of those is labelled", "by key", "bot", "recall is unknown",
                  "3 decisions with an earlier config left out", "gateway label next --guard secrets"):  # fmt: skip
        assert words in shown, words


def test_strata_of_which_nothing_is_drawn_are_named(run: Run, store: Any) -> None:
    assert conforms("guards", run("guards", "secrets", "--json").stdout)["guards"][0]["unsampled"] == []
    seen = (Count("default", "chat", "local/small", "", 900), Count("rule 1", "chat", "local/small", "", 50))
    other = Count("embeddings", "vectors", "local/small", "", 50)
    drawn = (Count("rule 1", "chat", "local/small", "", 5), Count("guard:secrets", "chat", "local/small", "", 5))
    made = Tally("g9", time.time(), 0, seen=(*seen, other), sampled=drawn)
    store.write(made)
    assert conforms("guards", run("guards", "secrets", "--json").stdout)["guards"][0]["unsampled"] == ["default"]
    assert "no call was drawn of the strata default" in run("guards", "secrets").stdout


def test_costs_of_questions_are_shown(run: Run, store: Any) -> None:
    """Scorers that judge recorded calls, and days before, are not the guards'."""
    assert conforms("guards", run("guards", "--json").stdout)["costs"] == []
    cell = UsageCell(utc_day(time.time()), "judges", "judges", "", "", "", "decide", "u0", "m", "", "", "guards asked")
    old = cell._replace(day=utc_day(time.time() - 90 * 86_400))
    sums = UsageSums(calls=40, input_tokens=2_800, output_tokens=0, nano_usd=280_000)
    usage = tuple(UsageCount(each, sums) for each in (cell, cell._replace(scorer="asked"), old))
    store.write(Tally("g9", time.time(), 0, usage=usage))
    cost = {"scorer": "guards asked", "calls": 40, "tokens": 2_800, "usd": 0.00028}
    assert conforms("guards", run("guards", "--json").stdout)["costs"] == [cost]
    assert "guards asked: 40 calls of models, 2 800 tokens, $0.00028" in run("guards").stdout.replace("\u202f", " ")


def test_labels_give_precision_and_recall(run: Run, label: Callable[[int], list[dict[str, str]]]) -> None:
    label(30)
    rows = label(52)  # the rest, but what failed
    assert len(rows) == 50
    found = conforms("guards", run("guards", "--json").stdout)["guards"]
    assert [each["guard"] for each in found] == ["asks", "secrets"]
    precision, recall = found[1]["precision"], found[1]["recall"]
    assert (found[1]["labels"], precision["right"], precision["labelled"]) == (80, 22, 30)
    assert precision["share"] == pytest.approx(22 / 30)
    assert precision["low"] < 22 / 30 < precision["high"]
    assert recall["share"] == pytest.approx(22 / (22 + 2 * 10)), "each of the two that it missed stands for ten calls"
    assert (recall["right"], recall["labelled"]) == (22, 24)
    assert "of those 22 of 30 labelled were right: 54 to 86" in run("guards").stdout
    assert "finds 52.4\u202f% of what it should" in run("guards", "secrets").stdout


def test_half_of_the_labels_are_of_calls_with_a_hit_or_nearly(label: Callable[[int], list[dict[str, str]]]) -> None:
    """40 of the 80 calls are; then none is favoured, and the draw is of all alike."""
    drawn = [row["answer"].split()[1] for row in label(40)]
    assert {*drawn} == {"hit", "near", "pass"}


def test_rare_hits_are_favoured_in_the_queue(run: Run, store: Any, exchange: Callable[..., Any]) -> None:
    store.write(*(exchange("fine pass", **decided("pass")) for _ in range(760)))
    sheet = run("label", "export", "--guard", "secrets", "--next", "60").stdout
    drawn = [row["answer"].split()[1] for row in csv.DictReader(io.StringIO(sheet))]
    assert 15 < sum(kind != "pass" for kind in drawn) < 45, "a twentieth of the calls, and about half of the draw"


def test_a_person_labels_blind_and_sees_no_answer_to_a_request(run: Run, store: Any) -> None:
    done = run("label", "next", "--guard", "asks", "--as", "ada", input="b\n")
    assert done.exit_code == 0, done.output
    assert "may this pass the guard asks? g: yes, it is fine; b: no, a hit would be right" in done.stdout
    assert "(the request alone is judged)" in done.stdout
    assert "an answer" not in done.stdout
    with reading(store.url) as connection:
        rows = connection.exec_driver_sql("SELECT scorer, version, config_hash, value, favour FROM labels").all()
    assert [tuple(row) for row in rows] == [("guard asks", "request", "c2", 0.0, 1.0)]
    exported = run("label", "export", "--guard", "asks").stdout
    assert "guard asks" in exported


def test_mistakes_of_names_are_usage_errors(run: Run) -> None:
    for words, message in (
        (("label", "next"), "name a scorer or a guard; neither was given"),
        (("label", "next", "--scorer", "a", "--guard", "b"), "name a scorer or a guard; both were given"),
        (("judge", "calibrate", "guard secrets"), "`gateway guards secrets` evaluates its labels"),
        (("guards", "--since", "soon"), "'soon' is not a time span"),
    ):
        done = run(*words)
        assert (done.exit_code, done.stdout) == (2, "")
        assert message in " ".join(done.stderr.replace("│", " ").split())


def test_an_unknown_guard_names_those_that_decided(run: Run) -> None:
    for words in (("guards", "secret"), ("label", "next", "--guard", "secret")):
        done = run(*words)
        assert done.exit_code == 1
        assert 'guard "secret" has decided on no recorded call; these have: asks, secrets' in str(done.exception)


def test_without_a_guard_there_is_a_note(run: Run) -> None:
    done = run("guards", "--since", "0s", "--json")
    assert conforms("guards", done.stdout)["guards"] == []
    assert "no guard decided on a recorded call of the last 0s" in done.stderr
