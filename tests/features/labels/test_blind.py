"""Blind items, verdicts and blind sheets."""

from __future__ import annotations

import csv
import io
import json

import pytest
from rich.console import Console

from gateway.core.errors import CannotRun
from gateway.features.labels.blind import (
    HELP,
    NO_TEXT,
    BlindItem,
    LabelVerdict,
    SheetRow,
    answer_text,
    blind_sheet,
    form_of,
    of_exchange,
    of_pair,
    parse_verdict,
    question_text,
    read,
    sheet,
    to_terminal,
)

REQUEST = b'{"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "Why?"}]}'


def found(id="e1", text="Because.", **fields):
    plain = {"id": id, "request": REQUEST, "text": text, "refusal": "", "tool_calls": "[]", "model": "gpt-x",
             "upstream": "openai", "arm": "candidate", "reference": None}  # fmt: skip
    return {**plain, **fields}


def shown(blind, criterion=None):
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        console.print(to_terminal(blind, criterion))
        return console.export_text(styles=True)


def test_only_question_answer_and_criterion_are_shown():
    text = shown(of_exchange(found()), "It explains.")
    assert [w for w in ("Why?", "Because.", "criterion: It explains.") if w not in text] == []
    assert [w for w in ("gpt-x", "openai", "candidate", "e1") if w in text] == []


def test_the_right_answer_is_shown_where_one_came_with_the_request():
    stated = b'{"messages": [], "metadata": {"reference": "in metadata"}}'
    for item, right in (
        (of_exchange(found(reference="Because of it.")), "Because of it."),
        (of_pair("s", found("a", reference="the served one's"), found("b", reference="other")), "the served one's"),
        (of_exchange(found(request=stated)), "in metadata"),
    ):
        assert "right answer" in shown(item)
        assert right in shown(item)
    assert "right answer" not in shown(of_exchange(found()))


def test_the_id_of_a_pair_decides_the_order_of_its_answers():
    blinds = [of_pair("s", found("a", "control"), found(f"b{i}", "candidate")) for i in range(400)]
    assert 150 < sum(b.swapped for b in blinds) < 250
    for blind in blinds:
        assert blind.answers == (("candidate", "control") if blind.swapped else ("control", "candidate"))
        assert of_pair("s", found("a", "control"), found(blind.id, "candidate")) == blind


def test_escapes_markup_and_direction_marks_have_no_effect():
    text = shown(
        BlindItem("e", (("user", "[bold]x[/bold] \x1b]0;owned\x07"),), ("a\x1b[2Jb\u202ec\x9b31m",)), "\x1b[8m"
    )
    assert "[bold]x[/bold]" in text
    assert "\x1b]0" not in text
    assert "\x1b[2J" not in text
    assert "\x1b[8m" not in text
    assert [c for c in ("\x07", "\u202e", "\x9b") if c in text] == []


def test_calls_and_refusals_are_part_of_the_answer():
    calls = '[{"id": "1", "name": "f", "arguments": "{}"}]'
    assert answer_text(found(text="", refusal="No.", tool_calls=calls)) == "No.\n[calls f with {}]"
    assert answer_text(found(text="", tool_calls=None)) == NO_TEXT


def test_the_question_is_one_text():
    assert question_text(of_exchange(found())) == "[system]\nS\n\n[user]\nWhy?"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("g", LabelVerdict(1.0, "good")), ("Good", LabelVerdict(1.0, "good")), ("yes", LabelVerdict(1.0, "good")),
        ("b it is wrong", LabelVerdict(0.0, "bad", "it is wrong")), ("n", LabelVerdict(0.0, "bad")),
        ("0.7", LabelVerdict(0.7)), ("1", LabelVerdict(1.0, "good")), ("0: no", LabelVerdict(0.0, "bad", "no")),
        ("s too long", LabelVerdict(None, None, "too long")), ("q", LabelVerdict(None, stop=True)),
    ],
)  # fmt: skip
def test_a_verdict_on_an_answer(text, expected):
    assert parse_verdict(text, "exchange") == expected


@pytest.mark.parametrize(
    ("text", "straight", "swapped"),
    [("1", 0.0, 1.0), ("2", 1.0, 0.0), ("t", 0.5, 0.5), ("neither", 0.5, 0.5), ("first, clearly", 0.0, 1.0)],
)
def test_a_verdict_on_a_pair_prefers_the_second_answer(text, straight, swapped):
    assert parse_verdict(text, "pair").value == straight
    assert parse_verdict(text, "pair", swapped=True).value == swapped


@pytest.mark.parametrize(("subject", "texts"), [("exchange", ["", "2", "-1", "nan"]), ("pair", ["g", "3", "maybe"])])
def test_other_text_is_refused_with_the_valid_verdicts(subject, texts):
    for text in texts:
        with pytest.raises(ValueError, match=r"is not a verdict; expected .*s skip"):
            parse_verdict(text, subject)


HOSTILE = '=HYPERLINK("http://x";"y")\x1b[2J<script>alert(1)</script>'


def taken(tmp_path, text, subject="exchange", name="s.csv", swapped=lambda id: False):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return read(path, lambda id, text: parse_verdict(text, subject, swapped=swapped(id)), lambda id: id.startswith("e"))


def test_a_blind_sheet_has_an_empty_column_for_the_verdict(tmp_path):
    text = blind_sheet([BlindItem("e1", (("user", "Why?"),), ("Because.",))], "csv")
    (row,) = csv.DictReader(io.StringIO(text))
    assert row == {"id": "e1", "question": "[user]\nWhy?", "answer": "Because.", "verdict": "", "comment": ""}
    assert taken(tmp_path, text) == []
    assert taken(tmp_path, text.replace("Because.,,", 'Because.,g,"so, yes"')) == [
        SheetRow("e1", LabelVerdict(1.0, "good", "so, yes"))
    ]


def test_a_verdict_on_a_pair_is_about_the_order_shown(tmp_path):
    text = blind_sheet([BlindItem("e1", (), ("one", "two"), swapped=True)], "jsonl")
    values = {**json.loads(text), "verdict": 1}
    (row,) = taken(tmp_path, json.dumps(values), "pair", "s.jsonl", swapped=lambda id: True)
    assert row.verdict.value == 1.0


def test_hostile_text_is_inert_in_spreadsheets_and_terminals():
    text = sheet([{"id": "e1", "a": HOSTILE, "n": -0.5, "none": None}], "csv")
    assert "\x1b" not in text
    (row,) = csv.DictReader(io.StringIO(text))
    assert row["a"].startswith("'=HYPERLINK")
    assert (row["n"], row["none"]) == ("-0.5", "")
    assert "\x1b" not in sheet([{"a": HOSTILE}], "jsonl")
    assert json.loads(sheet([{"a": HOSTILE}], "jsonl"))["a"] == HOSTILE


def test_semicolons_a_bom_and_other_headers_are_accepted(tmp_path):
    text = "\ufeffExchange_ID;Value;Labeller\ne1;0.5;ada\ne2;s;\n"
    assert taken(tmp_path, text) == [SheetRow("e1", LabelVerdict(0.5), "ada"), SheetRow("e2", LabelVerdict(None))]


def test_exported_values_of_pairs_are_the_stored_ones(tmp_path):
    """`value` is the preference for the second answer; only `verdict` speaks of the order shown."""
    (row,) = taken(tmp_path, "id,value\ne1,1.0\n", "pair", swapped=lambda id: True)
    assert row.verdict.value == 1.0


def test_every_error_is_reported_with_its_line(tmp_path):
    with pytest.raises(CannotRun) as caught:
        taken(tmp_path, 'id,verdict\ne1,g\nx1,g\ne2,"may\nbe"\n,g\ne3,q\n')
    assert str(caught.value).splitlines() == [
        's.csv, line 3: the scorer has not judged "x1"',
        f"s.csv, line 5: 'may\\nbe' is not a verdict; expected {HELP['exchange']}",
        "s.csv, line 6: there is no column id or subject_id or exchange_id",
        "s.csv, line 7: 'q' is not a verdict",
    ]


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [("{", "s.jsonl", "line 1: invalid JSON"), ("[1]", "s.jsonl", "line 1: not a JSON object"),
     ("id,verdict\n" + "x" * 200_000 + ",g", "s.csv", "line")],
)  # fmt: skip
def test_an_unreadable_sheet_is_reported(tmp_path, text, name, message):
    with pytest.raises(CannotRun, match=message):
        taken(tmp_path, text, name=name)
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CannotRun, match="cannot be read"):
        read(tmp_path / "b.csv", lambda id, text: parse_verdict(text, "exchange"), bool)


def test_the_name_of_the_file_decides_the_form(tmp_path):
    assert [form_of(p) for p in (None, tmp_path / "a", tmp_path / "a.JSONL")] == ["csv", "csv", "jsonl"]
    assert sheet([], "csv") == "id,verdict,comment\n"
