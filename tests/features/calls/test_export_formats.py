"""Each form is read back by what people read it with: json, csv, pyarrow."""

from __future__ import annotations

import csv
import io
import sys

import orjson
import pytest

from gateway.core.errors import CannotRun
from gateway.features.calls.export_formats import FORMS, writer
from gateway.features.calls.export_rows import PLAIN, NotExportable
from gateway.features.calls.rows.preferences import Preference


def written(form, *exchanges, scorers=("stated",)) -> bytes:
    file = io.BytesIO()
    out = writer(form, file, scorers)
    for each in exchanges:
        out.add(each)
    out.close()
    return file.getvalue()


def test_a_line_of_json_has_all_columns(found):
    first, second = map(orjson.loads, written("jsonl", found(), found(id="e2", text="line\nbreak")).splitlines())
    assert set(first) == {*PLAIN, "scores", "score_stated"}
    assert (first["received"], first["score_stated"]) == ("2023-11-14T22:13:20.250000+00:00", 0.5)
    assert second["response"] == "line\nbreak"


def test_a_line_has_no_control_characters(found):
    evil = "\x1b[2J\x9b31m\u202e"
    output = written("jsonl", found(text=evil))
    assert not {"\x1b", "\x9b", "\u202e"} & set(output.decode())
    assert orjson.loads(output)["response"] == evil, "nothing is lost"


@pytest.mark.parametrize("evil", ["=cmd|'/c calc'!A1", "+1", "-1", "@SUM(1)", "\t=1", "\r=1", "\uff1d1"])
def test_no_cell_of_a_csv_is_a_formula(found, evil):
    text = written("csv", found(text=evil, error=evil, caller=evil)).decode()
    (line,) = csv.DictReader(io.StringIO(text, newline=""))
    for name in ("response", "error", "caller"):
        assert line[name][0] not in "=+-@\t\r\uff1d"
    assert line["pi"] == "0.25", "numbers are numbers"


def test_a_csv_has_a_header_and_quotes_cells(found):
    text = written("csv", found(text='a "b",\nc', cost_usd=-0.5, finish_reason=None)).decode()
    head, line = csv.reader(io.StringIO(text, newline=""))
    assert head == [*PLAIN, "score_stated"]
    values = dict(zip(head, line, strict=True))
    assert (values["response"], values["cost_usd"], values["finish_reason"]) == ('a "b",\nc', "-0.5", "")
    assert orjson.loads(values["messages"]) == [
        {"role": "system", "content": "Be kind."}, {"role": "user", "content": "=1+1?"}
    ]  # fmt: skip


def test_parquet_has_the_columns_that_datasets_loads(found):
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(io.BytesIO(written("parquet", found(), found(id="e2", scores=[]))))
    assert table.schema.names == [*PLAIN, "scores", "score_stated"]
    kinds = {name: str(table.schema.field(name).type) for name in ("messages", "response", "score_stated", "pi")}
    assert kinds["messages"] == "list<element: struct<role: string, content: string>>"
    assert (kinds["response"], kinds["score_stated"], kinds["pi"]) == ("string", "double", "double")
    first, second = table.to_pylist()
    assert first["messages"][1] == {"role": "user", "content": "=1+1?"}
    assert (first["score_stated"], second["score_stated"], second["scores"]) == (0.5, None, [])
    assert first["received"].isoformat() == "2023-11-14T22:13:20.250000+00:00"


def test_parquet_without_an_exchange_has_all_columns():
    import pyarrow.parquet

    assert pyarrow.parquet.read_table(io.BytesIO(written("parquet"))).schema.names[-2:] == ["scores", "score_stated"]


def test_parquet_is_written_by_row_groups(found):
    import pyarrow.parquet

    file = io.BytesIO(written("parquet", *(found(id=f"e{n}", bytes=3_000_000) for n in range(7))))
    groups = pyarrow.parquet.ParquetFile(file).metadata
    assert [groups.row_group(i).num_rows for i in range(groups.num_row_groups)] == [3, 3, 1]


def test_without_pyarrow_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(CannotRun, match=r"pip install 'assay-gateway\[parquet\]'"):
        writer("parquet", io.BytesIO(), ())


def test_conversations_and_items_are_lines_of_json(found):
    assert orjson.loads(written("openai-chat", found()))["messages"][-1]["content"] == "-2"
    assert orjson.loads(written("openai-evals", found()))["sample"]["output_text"] == "-2"


def test_an_exchange_that_does_not_fit_writes_nothing(found):
    file = io.BytesIO()
    out = writer("openai-chat", file, ())
    with pytest.raises(NotExportable):
        out.add(found(truncated=True))
    out.close()
    assert file.getvalue() == b""


@pytest.mark.parametrize("form", FORMS)
def test_the_writer_leaves_the_file_open(found, form):
    file = io.BytesIO()
    out = writer(form, file, ())
    out.add(Preference(found(), "good", "bad", "label") if form == "dpo" else found())
    out.close()
    assert not file.closed
