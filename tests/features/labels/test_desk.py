"""The desk draws each item once, in order; `gateway label` run as a user runs it."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import pty
import subprocess
import termios
import time
from pathlib import Path

import pytest
from fixtures.program_command import gateway_command
from sqlalchemy import insert, update
from typer.testing import CliRunner

from gateway.cli import app
from gateway.core.errors import CannotRun
from gateway.core.score import Score, ScoreResult
from gateway.features.labels.blind import LabelVerdict, SheetRow, parse_verdict
from gateway.features.labels.correction import EVERYTHING, labelled_items
from gateway.features.labels.desk import (
    Desk,
    LabelRequest,
    export_blind_sheet,
    export_labels,
    import_labels,
    label_by_hand,
    newest_version,
    open_desk,
    save_labels,
    undo_label,
)
from gateway.features.labels.rows import labels_of, labels_with_pair_scores, labels_with_scores
from gateway.features.replay.rows import Replay, ReplayAnswer, ReplayStore
from gateway.store import engine
from gateway.store.query import reading
from gateway.store.rows import ScoredExchange
from gateway.store.tables import exchanges, pair_scores

GOOD = LabelVerdict(1.0, "good")


@pytest.fixture
def url(keep, exchange):
    """The URL of a store with twelve scored answers."""
    return keep([exchange(f"{int(i % 3 > 0)} answer {i}") for i in range(12)])


@pytest.fixture
def label(url):
    """Labels the next `count` items; returns the labels."""

    def give(count, labeller="ada", verdict=GOOD, **options):
        labels = []
        with reading(url) as connection:
            desk = Desk(connection, LabelRequest("stated", labeller, **options), clock=lambda: 5.0)
            for _ in range(count):
                drawn = desk.next(connection)
                assert drawn is not None
                labels.append(desk.label(drawn, verdict))
        save_labels(url, labels)
        return labels

    return give


def test_each_item_is_drawn_once(url, label):
    labels = label(12)
    assert len({m.subject_id for m in labels}) == 12
    assert [m.threshold for m in labels] == sorted(m.threshold for m in labels)
    assert labels[-1].threshold == EVERYTHING
    with reading(url) as connection:
        desk = Desk(connection, LabelRequest("stated", "ada"))
        assert (desk.judged, desk.left, desk.next(connection)) == (12, 0, None)
        assert [(x.value, x.at, x.labeller) for x in labels_of(connection, "stated")] == [(1.0, 5.0, "ada")] * 12


def test_the_next_labeller_continues_where_the_last_one_was(label):
    first, then = label(5), label(4, "bob")
    assert not {m.subject_id for m in first} & {m.subject_id for m in then}
    assert then[0].threshold > first[-1].threshold


def test_again_draws_items_of_others_by_their_design(label):
    first = label(5)
    again = label(3, "bob", again=True)
    by_id = {m.subject_id: m.threshold for m in first}
    assert [m.threshold for m in again] == [by_id[m.subject_id] for m in again]
    assert len({m.id for m in (*first, *again)}) == 8


def test_a_skipped_item_counts_as_seen(label):
    first = label(3, verdict=LabelVerdict(None))
    assert not {m.subject_id for m in first} & {m.subject_id for m in label(9)}


def test_items_called_bad_can_be_favoured(label):
    labels = label(4, favour=1000.0)
    assert {m.favour for m in labels} == {1000.0}
    assert all(m.threshold <= 1.0 for m in labels[:3]), "the four bad ones come first"


def test_an_exported_sheet_marks_no_item_as_seen(url):
    with reading(url) as connection:
        desk = Desk(connection, LabelRequest("stated", "ada"))
        sheet = desk.sheet(connection, 5)
        assert [b.id for b in sheet] == [b.id for b in desk.sheet(connection, 5)]
        assert len(desk.sheet(connection, 100)) == 12


def test_an_imported_sheet_is_an_ordered_draw_up_to_its_gap(url):
    with reading(url) as connection:
        desk = Desk(connection, LabelRequest("stated", "ada"))
        ids = [b.id for b in desk.sheet(connection, 6)]
        whole = desk.imported([SheetRow(i, GOOD) for i in ids], None)
        desk = Desk(connection, LabelRequest("stated", "ada"))
        gap = desk.imported([SheetRow(i, GOOD, "bob") for i in (*ids[:2], *ids[3:])], None)
        desk = Desk(connection, LabelRequest("stated", "ada"))
        random = desk.imported([SheetRow(ids[4], GOOD)], 0.25)
    assert len({m.threshold for m in whole}) == 1
    assert gap[0].threshold < whole[0].threshold
    assert {m.labeller for m in gap} == {"bob"}
    assert (random[0].threshold, random[0].share) == (None, 0.25)


def test_a_new_version_of_the_scorer_starts_over(url, label, keep, exchange):
    label(12)
    keep([exchange("1") for _ in range(3)], now=2000.0, config_hash="c2")
    with reading(url) as connection:
        assert Desk(connection, LabelRequest("stated", "ada")).left == 3


def test_answers_of_a_replay_are_not_drawn_and_void_no_label(url, label, keep, exchange, stated_scorer):
    """A replay's scores are next to those of traffic; its answers cannot be shown, so they leave no gap in the draw."""
    replayed = [
        (
            ReplayAnswer(
                item=i, target="one", repeat=1, answer_id=f"replayed-{i}", cluster="c", outcome="ok", seconds=0.5,
                asked=3.0, status=200, text="1", response=b"{}", cost_usd=None,
            ),
            ScoredExchange(
                exchange(id=f"replayed-{i}"), None,
                [ScoreResult("stated", "1", "c1", "scored", Score(1.0), None, 0.1, 1.0)],
            ),
        )
        for i in range(30)
    ]  # fmt: skip

    async def replay() -> None:
        async with ReplayStore(url, lambda: 9000.0) as store:
            await store.begin(Replay("r", "d", "h", "c", "{}", 9000.0))
            await store.keep("r", replayed, {"stated": stated_scorer(config_hash="other")})
            await store.keep("r", replayed, {"stated": stated_scorer()})

    asyncio.run(replay())
    labels = label(12)
    assert [m.threshold for m in labels] == sorted(m.threshold for m in labels)
    assert labels[-1].threshold == EVERYTHING
    with reading(url) as connection:
        desk = Desk(connection, LabelRequest("stated", "ada"))
        assert (desk.judged, desk.left) == (12, 0)
        assert all(item.pi == 1.0 for item in labelled_items("stated", labels_with_scores(connection, desk.scorer)))


def test_an_answer_without_its_texts_is_not_a_gap_in_the_draw(url, label):
    first = label(3)
    opened = engine.writer(url)
    with opened.begin() as connection:
        connection.execute(update(exchanges).values(bytes=0, text=""))
    opened.dispose()
    with reading(url) as connection:
        desk = Desk(connection, LabelRequest("stated", "ada"))
        assert (desk.judged, desk.left, desk.next(connection)) == (3, 0, None)
        assert {m.subject_id for m in first} == {m.subject_id for m in labels_of(connection, "stated")}


def test_a_scorer_without_scores_is_named_with_those_that_have(url):
    with reading(url) as connection:
        with pytest.raises(CannotRun, match='scorer "statd" has scored nothing yet; these scorers have: stated'):
            Desk(connection, LabelRequest("statd", "ada"))
        with pytest.raises(ValueError, match="favour is 0"):
            Desk(connection, LabelRequest("stated", "ada", favour=0.0))


def test_a_verdict_on_a_pair_is_stored_for_the_second_answer(keep, exchange):
    """The label prefers the arm whose answer the labeller calls better, in either order."""
    url = keep([e for i in range(8) for e in couple(exchange, i)], name="other")
    plain = {"experiment": "swap", "plan": "p", "arm": "candidate", "scorer": "stated", "version": "1",
             "config_hash": "c1", "kind": "llm", "direction": "maximise", "status": "scored", "value": 1.0,
             "seconds": 0.1, "created": 5.0}  # fmt: skip
    rows = [{**plain, "score_id": f"s{i}", "pair": f"a{i}", "exchange_id": f"b{i}"} for i in range(8)]
    opened = engine.writer(url)
    with opened.begin() as connection:
        connection.execute(insert(pair_scores), rows)
    opened.dispose()
    with reading(url) as connection:
        desk = Desk(connection, LabelRequest("stated", "ada"))
        assert (desk.scorer.subject, desk.judged) == ("pair", 8)
        places = set()
        for _ in range(8):
            drawn = desk.next(connection)
            place = drawn.blind.answers.index("1 by the candidate") + 1
            places.add(place)
            label = desk.label(drawn, parse_verdict(str(place), "pair", swapped=drawn.blind.swapped))
            assert (label.value, label.label, label.subject) == (1.0, "b", "pair")
    assert places == {1, 2}, "in both orders"
    save_labels(url, [label])
    with reading(url) as connection:
        (row,) = labels_with_pair_scores(connection, desk.scorer)
    assert (row["value"], row["judged"], row["arm"]) == (1.0, 1.0, "candidate")


def couple(exchange, i):
    fields = {"experiment": "swap", "plan": "p"}
    return (
        exchange("0 by the control", id=f"a{i}", arm="control", **fields),
        exchange("1 by the candidate", id=f"b{i}", pair=f"a{i}", arm="candidate", role="shadow", **fields),
    )


def test_the_version_that_scored_last_is_used(keep, exchange):
    keep([exchange("1")], now=1000.0, version="1")
    keep([exchange("1")], now=3000.0, version="3", direction="minimise")
    url = keep([exchange("1")], now=2000.0, version="2")
    with reading(url) as connection:
        found = newest_version(connection, "stated")
        assert (found.version, found.subject, found.direction) == ("3", "exchange", "minimise")
        with pytest.raises(CannotRun, match="these scorers have: stated"):
            newest_version(connection, "other")


def test_without_scores_the_error_names_the_next_step(keep):
    with (
        reading(keep([])) as connection,
        pytest.raises(CannotRun, match="has scored nothing yet; run `gateway evaluate`"),
    ):
        newest_version(connection, "stated")


HOSTILE = "1 \x1b]0;owned\x07\x1b[2J<script>alert(1)</script>=cmd"


@pytest.fixture
def cli(tmp_path, keep, exchange, monkeypatch):
    """Runs `gateway label …` on a store of ten judged answers."""
    keep([exchange(HOSTILE if i == 0 else f"{i % 2} answer {i}") for i in range(10)])
    data = tmp_path / "kept"
    (tmp_path / "gateway.yaml").write_text("scorers: {stated: {use: length, criterion: It is a number.}}")
    monkeypatch.chdir(tmp_path)
    url = f"sqlite:///{data / 'gateway.db'}"

    def run(*arguments, input=None):
        return CliRunner().invoke(app, ["label", *arguments, "--data", str(data)], input=input)

    run.url = url
    return run


def test_verdicts_are_taken_until_the_labeller_stops(cli):
    result = cli("next", "--scorer", "stated", "--as", "ada", input="g\nwhat?\nb it is short\ns\nq\n")
    assert result.exit_code == 0
    assert "10 scored, 10 of them open for ada" in result.stderr
    assert "'what?' is not a verdict" in result.stderr
    assert "stopped after 3" in result.stderr
    assert "a number?" in result.stdout
    assert "criterion: It is a number." in result.stdout
    rows = list(csv.DictReader(io.StringIO(cli("export").stdout)))
    assert {(r["value"], r["comment"], r["labeller"]) for r in rows} == {
        ("1.0", "", "ada"), ("0.0", "it is short", "ada"), ("", "", "ada"),
    }  # fmt: skip
    assert "7 of them open for ada" in cli("next", "--scorer", "stated", "--as", "ada", input="").stderr


def test_the_position_is_shown_and_the_last_verdict_can_be_taken_back(cli):
    result = cli("next", "--scorer", "stated", "--as", "ada", "--count", "3", input="u\ng\nb\nu\nu\nb no\ng\ng\n")
    assert result.exit_code == 0
    positions = [line for line in result.stderr.splitlines() if " of 3" in line and "open" not in line]
    assert positions == ["1 of 3", "2 of 3", "3 of 3", "2 of 3", "1 of 3", "2 of 3", "3 of 3"]
    assert result.stderr.count("the last verdict is taken back") == 2
    assert "there is no verdict of this run to undo" in result.stderr
    assert "3 done" in result.stderr
    rows = list(csv.DictReader(io.StringIO(cli("export").stdout)))
    assert sorted((r["value"], r["comment"]) for r in rows) == [("0.0", "no"), ("1.0", ""), ("1.0", "")]
    assert "7 of them open for ada" in cli("next", "--scorer", "stated", "--as", "ada", input="").stderr


def test_a_label_that_is_taken_back_leaves_the_draw_as_it_was(url, label):
    label(1, "bob")
    with reading(url) as connection:
        desk = Desk(connection, LabelRequest("stated", "ada"), clock=lambda: 5.0)
        drawn = desk.next(connection)
        given = desk.label(drawn, GOOD)
        save_labels(url, [given])
        undo_label(url, desk, given)
        again = desk.next(connection)
    assert (again, desk.left) == (drawn, 11)
    with reading(url) as connection:
        assert [x.labeller for x in labels_of(connection, "stated")] == ["bob"]


LINE = b"line:"


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ([b"g", b"u", b"\r", b"b it is short\n", b"x", b"0.5 so so\n"], [("0.0", "it is short"), ("0.5", "so so")]),
        ([b"g", b"\x03"], [("1.0", "")]),
    ],
)
def test_on_a_terminal_a_key_needs_no_enter(cli, typed, expected):
    """A key that is no verdict asks for a line."""
    parent, child = pty.openpty()
    words = ["label", "next", "--scorer", "stated", "--as", "ada", "--count", "2"]
    words += ["--data", str(Path("kept").resolve())]
    with subprocess.Popen(
        gateway_command(*words), stdin=child, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        os.close(child)
        for each in typed:
            _read_to(process.stderr, LINE if each.endswith(b"\n") else b"> ")
            _until_lines_are(each.endswith(b"\n"), parent)
            os.write(parent, each)
        process.stderr.read()
        assert process.wait(60) == 0
    os.close(parent)
    rows = list(csv.DictReader(io.StringIO(cli("export").stdout)))
    assert sorted((r["value"], r["comment"]) for r in rows) == expected


def _until_lines_are(wanted, terminal) -> None:
    """Waits until the terminal collects lines, or no longer does: what is typed before is lost."""
    ends = time.monotonic() + 60
    while bool(termios.tcgetattr(terminal)[3] & termios.ICANON) != wanted:
        assert time.monotonic() < ends
        time.sleep(0.005)


def _read_to(file, end: bytes) -> None:
    read = b""
    while not read.endswith(end):
        byte = file.read(1)
        assert byte, read
        read += byte


def test_no_escape_sequence_reaches_the_terminal_or_a_sheet(cli):
    every = cli("next", "--scorer", "stated", "--as", "ada", input="g\n" * 10)
    sheet = cli("export", "--scorer", "stated", "--next", "10", "--as", "bob")
    assert "<script>alert(1)</script>" in every.stdout, "text is text"
    for output in (every.stdout, every.stderr, sheet.stdout):
        assert [c for c in ("\x1b", "\x07") if c in output] == []


def test_a_sheet_is_exported_filled_in_and_imported(cli, tmp_path):
    assert "wrote" in cli("export", "fill.csv", "--scorer", "stated", "--next", "4").stderr
    rows = list(csv.DictReader(io.StringIO((tmp_path / "fill.csv").read_text())))
    with (tmp_path / "filled.csv").open("w") as file:
        out = csv.DictWriter(file, rows[0])
        out.writeheader()
        out.writerows({**row, "verdict": "good"} for row in rows)
    assert "4 labels imported" in cli("import", "filled.csv", "--scorer", "stated", "--as", "ada").stderr
    assert "6 of them open" in cli("next", "--scorer", "stated", "--as", "ada", input="q\n").stderr
    assert cli("export", "out.jsonl", "--scorer", "stated").exit_code == 0
    out = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert {(o["value"], o["labeller"], o["threshold"] > 0, o["judged"] in (0.0, 1.0)) for o in out} == {
        (1.0, "ada", True, True)
    }


def test_a_half_done_sheet_names_the_rows_that_do_not_count(cli, tmp_path):
    """The first item has no verdict: the others cannot have been reached by a draw in order."""
    cli("export", "fill.csv", "--scorer", "stated", "--next", "4")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "fill.csv").read_text())))
    with (tmp_path / "half.csv").open("w") as file:
        out = csv.DictWriter(file, rows[0])
        out.writeheader()
        out.writerows({**row, "verdict": "good" if at else ""} for at, row in enumerate(rows))
    said = cli("import", "half.csv", "--scorer", "stated", "--as", "ada").stderr
    assert "3 labels imported" in said
    assert "3 of them do not correct means" in said
    again = cli("import", "half.csv", "--scorer", "stated", "--as", "bob", "--share", "0.5").stderr
    assert "do not correct" not in again


def test_a_sheet_with_an_error_is_not_imported_at_all(cli, tmp_path):
    text = export_blind_sheet(cli.url, LabelRequest("stated", "ada"), 2, "jsonl")
    rows = [json.loads(line) for line in text.splitlines()]
    path = tmp_path / "bad.jsonl"
    path.write_text("\n".join(json.dumps({**r, "verdict": v}) for r, v in zip(rows, ("g", "great"), strict=True)))
    with pytest.raises(CannotRun, match=r"bad\.jsonl, line 2: 'great' is not a verdict"):
        import_labels(cli.url, path, LabelRequest("stated", "ada"), None)
    assert export_labels(cli.url, None, "jsonl") == ""
    result = cli("import", str(path), "--scorer", "stated")
    assert result.exit_code != 0


def test_invalid_options_are_reported(cli, tmp_path):
    (tmp_path / "f.csv").write_text("id,verdict\n")
    assert "above 0" in cli("import", "f.csv", "--scorer", "stated", "--share", "2").stderr
    assert "--scorer" in cli("export", "--next", "3").stderr
    assert open_desk(cli.url, LabelRequest("stated", "ada")).knows("nobody") is False


def test_a_label_by_hand_is_not_a_draw_until_the_order_has_passed_it(url, label):
    """The labelled item counts as seen, and gets a probability once labels that were drawn reach beyond it."""
    with reading(url) as connection:
        scorer = newest_version(connection, "stated")
        last = Desk(connection, LabelRequest("stated", "ada")).sheet(connection, 12)[-1].id
    by_hand = label_by_hand(scorer, last, "ada", LabelVerdict(0.0, "bad", "no"), 5.0)
    save_labels(url, [by_hand])
    assert (by_hand.subject_id, by_hand.value, by_hand.threshold, by_hand.share) == (last, 0.0, None, None)
    assert last not in [each.subject_id for each in label(11)], "it is not asked for again"
    with reading(url) as connection:
        assert [x.labeller for x in labels_of(connection, "stated") if x.subject_id == last] == ["ada"]
