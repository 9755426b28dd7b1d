"""The rows and formats of `gateway export`, and the verb."""

from __future__ import annotations

import csv
import io
import stat
import sys
import tracemalloc

import jsonschema_rs
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from gateway.cli import app
from gateway.core.errors import CannotRun
from gateway.core.exchange import Feedback
from gateway.features.calls.cli import FORMS as NAMED
from gateway.features.calls.exports.export import (
    FORMS,
    PLAIN,
    NotExportable,
    columns,
    conversation,
    evaluated,
    export,
    form_of,
    preferred,
    row,
    writer,
)
from gateway.features.calls.rows.export import Preference
from gateway.features.replay.datasets.datasets import scan
from gateway.features.runs.export import RUN_FORMS
from gateway.store.query import ExchangeFilter

USER = [{"role": "user", "content": "hi"}]


def test_a_row_has_the_question_the_answer_and_pi(found):
    values = row(found(), {"stated": "score_stated", "other": "score_other"})
    assert set(values) == {*PLAIN, "scores", "score_stated", "score_other"}
    assert values["messages"] == [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "=1+1?"}]
    assert (values["response"], values["pi"], values["score_stated"], values["score_other"]) == ("-2", 0.25, 0.5, None)
    assert values["received"].isoformat() == "2023-11-14T22:13:20.250000+00:00"
    assert values["scores"] == [
        {"scorer": "stated", "version": "1", "value": 0.5, "label": "ok", "status": "scored", "pi": 0.25}
    ]


def test_the_newest_value_of_a_scorer_counts(found):
    scores = [{"scorer": "s", "version": v, "value": x, "label": None, "status": "scored", "pi": 1.0}
              for v, x in (("1", 0.1), ("2", 0.9))]  # fmt: skip
    values = row(found(scores=scores), {"s": "score_s"})
    assert values["score_s"] == 0.9
    assert [s["version"] for s in values["scores"]] == ["1", "2"]


@given(st.lists(st.text(min_size=1, max_size=6), unique=True, max_size=8))
def test_every_scorer_has_its_own_column(scorers):
    named = columns(scorers)
    assert list(named) == scorers
    assert len(set(named.values())) == len(scorers)
    assert all(name.isidentifier() and name.isascii() for name in named.values())


def test_columns_are_named_after_their_scorers():
    assert columns(["valid_json", "feedback:thumb", "feedback.thumb"]) == {
        "valid_json": "score_valid_json",
        "feedback:thumb": "score_feedback_thumb",
        "feedback.thumb": "score_feedback_thumb_2",
    }


def test_a_conversation_ends_with_the_answer(found):
    assert conversation(found())["messages"][1:] == [
        {"role": "user", "content": "=1+1?"},
        {"role": "assistant", "content": "-2"},
    ]


def test_tools_and_tool_calls_keep_the_apis_form(found):
    tools = [{"type": "function", "function": {"name": "look"}}]
    calls = '[{"id":"c","name":"look","arguments":"{}"}]'
    result = conversation(found({"messages": USER, "tools": tools}, text="", tool_calls=calls))
    assert result["tools"] == tools
    assert result["messages"][-1] == {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "c", "type": "function", "function": {"name": "look", "arguments": "{}"}}],
    }


def test_a_correction_replaces_the_answer(found):
    corrected = found(correction="2", outcome="cut")
    assert conversation(corrected)["messages"][-1] == {"role": "assistant", "content": "2"}
    assert evaluated(found(correction="2"))["item"]["ideal"] == "2"


def test_the_reference_is_a_column_and_the_ideal(found):
    assert row(found(reference="2"), {})["reference"] == "2"
    assert evaluated(found(reference="2"))["item"]["ideal"] == "2"
    assert evaluated(found(reference="2", correction="two"))["item"]["ideal"] == "two"
    in_metadata = found({"messages": USER, "metadata": {"reference": "hello"}})
    assert (row(in_metadata, {})["reference"], evaluated(in_metadata)["item"]["ideal"]) == ("hello", "hello")


def test_an_item_of_an_eval_has_the_answer_as_its_sample(found):
    result = evaluated(found())
    assert result["item"]["input"][0] == {"role": "system", "content": "Be kind."}
    assert (result["item"]["scores"], result["item"]["pi"], result["item"]["ideal"]) == ({"stated": 0.5}, 0.25, None)
    assert result["sample"] == {"output_text": "-2", "output_tools": [], "finish_reason": "stop", "model": "small"}


@pytest.mark.parametrize(
    ("api", "body"),
    [
        ("messages", {"system": "Be kind.",
                      "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]}),
        ("responses", {"instructions": "Be kind.", "input": "hi"}),
        ("responses", {"instructions": "Be kind.",
                       "input": [{"role": "user", "content": [{"type": "input_text", "text": "hi"}]}]}),
    ],
)  # fmt: skip
def test_plain_text_of_other_apis_is_a_conversation(found, api, body):
    result = conversation(found(body, api=api))["messages"]
    assert [(m["role"], m["content"]) for m in result] == [("system", "Be kind."), ("user", "hi"), ("assistant", "-2")]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"truncated": True}, "cut at the byte cap"),
        ({"outcome": "cut"}, "no complete answer"),
        ({"status": 400}, "no complete answer"),
        ({"text": ""}, "empty answers"),
        ({"body": {}}, "text that is not stored"),
        ({"body": {}, "api": "responses"}, "text that is not stored"),
        ({"body": [1]}, "text that is not stored"),
        ({"body": {"messages": [{"role": "user", "content": "data:image/png;base64,sha256=ab;bytes=3"}]}},
         "images and sounds that are not stored"),
        ({"body": {"messages": USER, "tools": [1]}, "api": "messages"}, "tools and parts of an API other than chat"),
        ({"body": {"input": [{"type": "function_call_output", "output": "x"}]}, "api": "responses"},
         "tools and parts of an API other than chat"),
    ],
)  # fmt: skip
def test_an_exchange_that_is_not_a_conversation_gives_a_reason(found, changes, why):
    with pytest.raises(NotExportable, match=why):
        conversation(found(**changes))


def test_a_row_takes_content_that_a_conversation_refuses(found):
    for changes in ({"outcome": "cut"}, {"truncated": True, "request": b'{"messages":['}, {"body": {}}):
        assert row(found(**changes), {})["id"] == "e1"


def preference(found, chosen="good", rejected="bad", **changes):
    return Preference(found(**changes), chosen, rejected, "label", 1.0, 0.0)


def test_a_preference_has_one_answer_of_each(found):
    values = preferred(preference(found))
    assert values["prompt"][-1] == {"role": "user", "content": "=1+1?"}
    assert (values["chosen"], values["rejected"]) == (
        [{"role": "assistant", "content": "good"}],
        [{"role": "assistant", "content": "bad"}],
    )
    assert (values["by"], values["id"], values["score_chosen"], values["score_rejected"]) == ("label", "e1", 1.0, 0.0)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"chosen": ""}, "empty answers"),
        ({"rejected": "good"}, "two equal answers"),
        ({"tool_calls": '[{"id": "1"}]'}, "answers that call tools"),
        ({"outcome": "cut"}, "no complete answer"),
        ({"truncated": True}, "cut at the byte cap"),
        ({"body": {"messages": [{"role": "system", "content": "x"}]}}, "does not end with a user's message"),
    ],
)
def test_an_answer_that_cannot_be_preferred_has_a_reason(found, changes, reason):
    with pytest.raises(NotExportable, match=reason):
        preferred(preference(found, **changes))


def test_parameters_are_all_fields_without_a_column(found):
    body = {"model": "m", "messages": [], "temperature": 0, "stop": ["x"], "stream": True, "user": "u", "seed": None}
    assert row(found(body=body), {})["parameters"] == '{"temperature":0,"stop":["x"]}'
    assert row(found(), {})["parameters"] is None


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
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "=1+1?"},
    ]


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
    with pytest.raises(CannotRun, match=r'pip install "assay-gateway\[parquet\]"'):
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


@pytest.fixture
async def command(room, exchange, tmp_path, monkeypatch):
    """Three exchanges in a store; runs `gateway export …` on it."""
    monkeypatch.chdir(tmp_path)
    sent = [exchange("0.5", received=1000.0), exchange("1", received=2000.0, alias="fast"),
            exchange("n/a", received=3000.0, outcome="cut")]  # fmt: skip
    async with room.consuming():
        await room.send(*sent, Feedback(sent[1].id, "f", "web", 1.0, "thumb", 0.0, correction="0"))
        await room.until_read()

    def run(*arguments: str):
        return CliRunner().invoke(app, ["export", "--data", str(tmp_path / "data"), *arguments])

    run.sent = sent
    return run


async def test_every_form_can_be_read_back(command, tmp_path):
    import pyarrow.parquet

    shown = command()
    assert shown.exit_code == 0, shown.output
    rows = [orjson.loads(line) for line in shown.stdout.splitlines()]
    assert [r["id"] for r in rows] == [e.id for e in command.sent], "the oldest first"
    assert [(r["response"], r["score_stated"], r["score_feedback_thumb"]) for r in rows] == [
        ("0.5", 0.5, None), ("1", 1.0, 0.0), ("n/a", None, None)
    ]  # fmt: skip
    assert "3 exchanges" in shown.stderr

    assert command("--out", "a.csv").exit_code == 0
    with (tmp_path / "a.csv").open(newline="") as file:
        assert [r["id"] for r in csv.DictReader(file)] == [r["id"] for r in rows]

    assert command("--out", "a.parquet").exit_code == 0
    table = pyarrow.parquet.read_table(tmp_path / "a.parquet")
    assert [r["messages"] for r in table.to_pylist()] == [r["messages"] for r in rows]
    assert table["pi"].to_pylist() == [1.0, 1.0, 1.0]

    chat = command("--format", "openai-chat")
    assert [orjson.loads(line)["messages"][-1]["content"] for line in chat.stdout.splitlines()] == ["0.5", "0"]
    assert "2 exchanges" in chat.stderr
    assert "1 left out: no complete answer" in chat.stderr

    evals = command("--format", "openai-evals", "--where", "alias=fast")
    (item,) = (orjson.loads(line) for line in evals.stdout.splitlines())
    assert (item["item"]["ideal"], item["sample"]["output_text"]) == ("0", "1")


async def test_an_export_has_the_same_filters_as_the_list(command):
    assert len(command("--where", "scorer=stated value<1").stdout.splitlines()) == 1
    assert command("--alias", "fast").stdout.count('"alias":"fast"') == 1
    assert command("--limit", "2").stdout.count('"id"') == 2
    assert command("--since", "1h").stdout == ""


async def test_a_file_is_private_and_complete_or_missing(command, tmp_path):
    assert command("--out", "a.jsonl").exit_code == 0
    assert stat.S_IMODE((tmp_path / "a.jsonl").stat().st_mode) == 0o600
    before = (tmp_path / "a.jsonl").read_bytes()
    assert command("--out", "a.jsonl", "--where", "scorer=statd").exit_code == 2
    assert (tmp_path / "a.jsonl").read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir() if p.name[0] in "ab") == ["a.jsonl"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--format", "xml"), "expected one of jsonl"),
        (("--format", "parquet"), "give a file"),
        (("--where", "valu<1"), 'did you mean "value"'),
        (("--since", "yesterday"), "1d"),
    ],
)
async def test_wrong_options_are_reported(command, arguments, words):
    shown = command(*arguments)
    assert shown.exit_code == 2
    assert words in shown.output
    assert shown.stdout == ""


@pytest.mark.parametrize("form", [form for form in FORMS if form != "dpo"])
async def test_every_form_can_be_replayed(room, exchange, tmp_path, monkeypatch, form):
    """The same questions and right answers; a shadow's answer does not make a question."""
    monkeypatch.chdir(tmp_path)
    turns = [{"role": "system", "content": "=Be \u2028brief."}, {"role": "user", "content": "1+1?"}]
    body = orjson.dumps({"messages": turns})
    asked = [exchange("1", request=body, received=1000.0 + i, reference=None if i else "-2") for i in range(3)]
    shadow = exchange("0", role="shadow", pair=asked[0].id, unit=asked[0].id, request=body)
    async with room.consuming():
        await room.send(*asked, shadow, Feedback(asked[1].id, "f", "web", 1.0, "thumb", 0.0, correction="two"))
        await room.until_read()
    path = tmp_path / f"asked.{'jsonl' if form.startswith('openai') else form}"
    served = ["--where", "role=served"] if form.startswith("openai") else []  # which do not say whose answer it is
    run = CliRunner().invoke(
        app, ["export", "--data", str(tmp_path / "data"), "--format", form, "--out", str(path), *served]
    )
    assert run.exit_code == 0, run.output
    items = list(scan(path).items())
    assert [item.request["messages"] for item in items] == [turns] * 3
    # The last message of the fine-tuning form is the answer, and counts as the right one.
    expected = ["1", "two", "1"] if form == "openai-chat" else ["-2", "two", None]
    assert [item.reference for item in items] == expected


TURN = {"type": "object", "required": ["role", "content"], "properties": {
    "role": {"enum": ["system", "user", "assistant", "tool"]}, "content": {"type": "string"}}}  # fmt: skip
ANSWER = {"type": "array", "minItems": 1, "maxItems": 1, "items": {**TURN, "properties": {
    "role": {"const": "assistant"}, "content": {"type": "string", "minLength": 1}}}}  # fmt: skip
# What trl calls a conversational preference data set with an explicit prompt.
PREFERENCE = {
    "type": "object",
    "required": ["prompt", "chosen", "rejected"],
    "properties": {"prompt": {"type": "array", "minItems": 1, "items": TURN}, "chosen": ANSWER, "rejected": ANSWER},
}


async def test_preferences_are_as_trl_takes_them(room, exchange, tmp_path):
    served = [exchange("0.2", received=1000.0), exchange("0.9", received=1001.0), exchange("0.5", received=1002.0)]
    arms = [exchange(text, role="shadow", arm="b", pair=e.id, unit=e.id) for e, text in zip(served, "110", strict=True)]
    async with room.consuming():
        await room.send(*served, *arms, Feedback(served[2].id, "f", "web", 1.0, "fix", correction="no"))
        await room.until_read()
    data = ["--data", str(tmp_path / "data")]
    path = tmp_path / "pairs.jsonl"
    run = CliRunner().invoke(app, ["export", *data, "--format", "dpo", "--by", "correction,stated", "--out", str(path)])
    assert run.exit_code == 0, run.output
    assert "4 preferences" in run.stderr
    rows = [orjson.loads(line) for line in path.read_bytes().splitlines()]
    check = jsonschema_rs.validator_for(PREFERENCE)
    for line in rows:
        check.validate(line)
        assert line["prompt"][-1]["role"] == "user"
    assert [(r["chosen"][0]["content"], r["rejected"][0]["content"], r["by"]) for r in rows] == [
        ("1", "0.2", "stated"), ("1", "0.9", "stated"), ("no", "0.5", "correction"), ("0.5", "0", "stated"),
    ]  # fmt: skip
    assert [i.reference for i in scan(path).items()] == ["1", "1", "no", "0.5"], "replayed, the chosen one is right"
    few = CliRunner().invoke(
        app, ["export", *data, "--format", "dpo", "--by", "stated", "--gap", "0.6", "--limit", "2"]
    )
    assert len(few.stdout.splitlines()) == 1
    wrong = CliRunner().invoke(app, ["export", *data, "--format", "dpo", "--by", "statd"])
    assert isinstance(wrong.exception, CannotRun)
    assert 'no scorer "statd" has scored these calls; did you mean "stated"?' in str(wrong.exception)
    assert CliRunner().invoke(app, ["export", *data, "--by", "stated"]).exit_code == 2


async def test_parameters_metadata_and_comments_are_columns(room, exchange, tmp_path):
    body = {"model": "m", "messages": [{"role": "user", "content": "1+1?"}], "temperature": 0.5, "stream": True,
            "metadata": {"team": "a"}}  # fmt: skip
    one = exchange("1", request=orjson.dumps(body), cluster="talk")
    async with room.consuming():
        await room.send(one, exchange("0"), Feedback(one.id, "f", "web", 1.0, "thumb", 0.0, comment="too short"))
        await room.until_read()
    data = ["--data", str(tmp_path / "data")]
    first, second = map(orjson.loads, CliRunner().invoke(app, ["export", *data]).stdout.splitlines())
    assert (first["parameters"], first["metadata"]) == ('{"temperature":0.5}', '{"team":"a"}')
    assert first["cluster"] == "talk"
    said = [{"name": "thumb", "value": 0.0, "label": None, "comment": "too short", "correction": None}]
    assert (first["feedback"], second["feedback"], second["parameters"]) == (said, [], None)
    for form in ("csv", "parquet"):
        path = tmp_path / f"a.{form}"
        assert CliRunner().invoke(app, ["export", *data, "--out", str(path)]).exit_code == 0
        assert next(scan(path).items()).request["temperature"] == 0.5
        assert b"too short" in path.read_bytes()


def rows_by(library, kind, path, cache):
    """The number of rows that the library loads. kind: csv, json, parquet."""
    module = pytest.importorskip(library, reason=f"{library} is not installed")
    if library == "pandas":
        return len(module.read_json(path, lines=True) if kind == "json" else getattr(module, f"read_{kind}")(path))
    if library == "duckdb":
        reader = {"csv": "read_csv_auto", "json": "read_json_auto"}.get(kind, "read_parquet")
        return len(module.sql(f"SELECT * FROM {reader}('{path}')").fetchall())  # noqa: S608
    return len(module.load_dataset(kind, data_files=str(path), split="train", cache_dir=str(cache)))


@pytest.mark.parametrize("library", ["pandas", "duckdb", "datasets"])
async def test_every_form_is_loaded_by(room, exchange, tmp_path, monkeypatch, library):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    sent = [exchange("1"), exchange("0.5")]
    shadow = exchange("0", role="shadow", arm="b", pair=sent[0].id, unit=sent[0].id)
    async with room.consuming():
        await room.send(*sent, shadow, Feedback(sent[1].id, "f", "web", 1.0, "thumb", 1.0, correction="2"))
        await room.until_read()
    for form in FORMS:
        kind = form if form in ("csv", "parquet") else "json"
        path = tmp_path / f"{form}.{kind}"
        run = CliRunner().invoke(
            app, ["export", "--data", str(tmp_path / "data"), "--format", form, "--out", str(path)]
        )
        assert run.exit_code == 0, run.output
        assert rows_by(library, kind, path, tmp_path / "cache") == (1 if form == "dpo" else 3), form


async def test_an_export_holds_few_exchanges_in_memory(room, exchange):
    """30 MB in the store; a few of them at a time in memory."""
    big = b'{"messages":[{"role":"user","content":"%b"}]}' % (b"x" * 500_000)
    async with room.consuming():
        for _ in range(60):  # one at a time: for five, a busy stream server has taken longer than its timeout
            await room.send(exchange("1", request=big))
        await room.until_read()

    class Sink(io.BytesIO):
        size = 0

        def write(self, data):
            self.size += len(data)
            return len(data)

    for form in ("jsonl", "csv", "parquet"):
        sink, shown = Sink(), []
        export(room.store_url, ExchangeFilter(limit=1), form, Sink(), lambda n, of: None)  # imports what it needs
        tracemalloc.start()
        done = export(
            room.store_url, ExchangeFilter(limit=0), form, sink, lambda n, of, shown=shown: shown.append((n, of))
        )
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert (done.written, shown[0], shown[-1]) == (60, (1, 60), (60, 60))
        assert most < 60e6 / 2 * 1.4, form  # two batches of 8 MB, once as bytes and once as text


def test_the_files_name_decides_the_form(tmp_path):
    names = {"a.parquet": "parquet", "a.CSV": "csv", "a.jsonl": "jsonl", "a": "jsonl"}
    assert {name: form_of(tmp_path / name) for name in names} == names
    assert form_of(None) == "jsonl"


def test_the_command_line_names_every_form():
    assert (*FORMS, *RUN_FORMS) == NAMED
