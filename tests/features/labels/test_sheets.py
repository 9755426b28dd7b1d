"""Blind sheets are exported and imported; an error is reported with its line, and nothing is imported."""

from __future__ import annotations

import csv
import io
import json

import pytest

from gateway.core.errors import CannotRun
from gateway.features.labels.blind import HELP, BlindItem, LabelVerdict
from gateway.features.labels.sheets import SheetRow, blind_sheet, form_of, read, sheet

HOSTILE = '=HYPERLINK("http://x";"y")\x1b[2J<script>alert(1)</script>'


def taken(tmp_path, text, subject="exchange", name="s.csv", swapped=lambda id: False):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return read(path, subject, swapped, lambda id: id.startswith("e"))


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
        read(tmp_path / "b.csv", "exchange", bool, bool)


def test_the_name_of_the_file_decides_the_form(tmp_path):
    assert [form_of(p) for p in (None, tmp_path / "a", tmp_path / "a.JSONL")] == ["csv", "csv", "jsonl"]
    assert sheet([], "csv") == "id,verdict,comment\n"
