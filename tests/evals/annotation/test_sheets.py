"""Sheets go out blind and come back; what is wrong in one is said with its line, and none of it is taken."""

from __future__ import annotations

import csv
import io
import json

import pytest

from gateway.evals.annotation.blind import BlindItem
from gateway.evals.annotation.sheets import SheetError, blind_sheet, form_of, read, sheet
from gateway.evals.annotation.verdict_words import HELP, LabelVerdict

HOSTILE = '=HYPERLINK("http://x";"y")\x1b[2J<script>alert(1)</script>'


def taken(tmp_path, text, subject="exchange", name="s.csv", turned=lambda id: False):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return read(path, subject, turned, lambda id: id.startswith("e"))


def test_a_blind_sheet_has_the_question_the_answer_and_room_for_a_verdict(tmp_path):
    text = blind_sheet([BlindItem("e1", (("user", "Why?"),), ("Because.",))], "csv")
    (row,) = csv.DictReader(io.StringIO(text))
    assert row == {"id": "e1", "question": "[user]\nWhy?", "answer": "Because.", "verdict": "", "comment": ""}
    assert taken(tmp_path, text) == []
    assert taken(tmp_path, text.replace("Because.,,", 'Because.,g,"so, yes"')) == [
        ("e1", LabelVerdict(1.0, "good", "so, yes"), "")
    ]


def test_a_pair_comes_back_the_way_it_was_shown(tmp_path):
    text = blind_sheet([BlindItem("e1", (), ("one", "two"), turned=True)], "jsonl")
    row = {**json.loads(text), "verdict": 1}
    ((_, said, _),) = taken(tmp_path, json.dumps(row), "pair", "s.jsonl", turned=lambda id: True)
    assert said.value == 1.0


def test_hostile_text_is_harmless_in_a_spreadsheet_and_a_terminal():
    text = sheet([{"id": "e1", "a": HOSTILE, "n": -0.5, "none": None}], "csv")
    assert "\x1b" not in text
    (row,) = csv.DictReader(io.StringIO(text))
    assert row["a"].startswith("'=HYPERLINK")
    assert (row["n"], row["none"]) == ("-0.5", "")
    assert "\x1b" not in sheet([{"a": HOSTILE}], "jsonl")
    assert json.loads(sheet([{"a": HOSTILE}], "jsonl"))["a"] == HOSTILE


def test_semicolons_a_byte_order_mark_and_other_headings_are_taken(tmp_path):
    text = "\ufeffExchange_ID;Value;Labeller\ne1;0.5;ada\ne2;s;\n"
    assert taken(tmp_path, text) == [("e1", LabelVerdict(0.5), "ada"), ("e2", LabelVerdict(None), "")]


def test_exported_values_of_pairs_are_the_stores_own(tmp_path):
    """`value` is the preference for the second answer; only `verdict` speaks of the order shown."""
    ((_, said, _),) = taken(tmp_path, "id,value\ne1,1.0\n", "pair", turned=lambda id: True)
    assert said.value == 1.0


def test_all_mistakes_are_said_with_their_lines(tmp_path):
    with pytest.raises(SheetError) as caught:
        taken(tmp_path, 'id,verdict\ne1,g\nx1,g\ne2,"may\nbe"\n,g\ne3,q\n')
    assert str(caught.value).splitlines() == [
        's.csv, line 3: the scorer has judged no "x1"',
        f"s.csv, line 5: 'may\\nbe' is no verdict: {HELP['exchange']}",
        "s.csv, line 6: no column id or subject_id or exchange_id",
        "s.csv, line 7: 'q' is no verdict",
    ]


@pytest.mark.parametrize(
    ("text", "name", "said"),
    [("{", "s.jsonl", "line 1: no JSON"), ("[1]", "s.jsonl", "line 1: no JSON object"),
     ("id,verdict\n" + "x" * 200_000 + ",g", "s.csv", "line")],
)  # fmt: skip
def test_what_cannot_be_read_is_said(tmp_path, text, name, said):
    with pytest.raises(SheetError, match=said):
        taken(tmp_path, text, name=name)
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SheetError, match="cannot be read"):
        read(tmp_path / "b.csv", "exchange", bool, bool)


def test_the_form_is_told_by_the_name(tmp_path):
    assert [form_of(p) for p in (None, tmp_path / "a", tmp_path / "a.JSONL")] == ["csv", "csv", "jsonl"]
    assert sheet([], "csv") == "id,verdict,comment\n"
