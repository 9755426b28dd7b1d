"""`gateway export`: from a real store to files that other programs read."""

from __future__ import annotations

import csv
import io
import resource
import signal
import stat
import tracemalloc

import jsonschema_rs
import orjson
import pytest
from typer.testing import CliRunner

from gateway.cli import app
from gateway.core.errors import CannotRun
from gateway.core.exchange import Feedback
from gateway.features.calls.cli import export as verb
from gateway.features.calls.cli.export import FORMS as NAMED
from gateway.features.calls.export import complete_file, export, form_of, write_private
from gateway.features.calls.export_formats import FORMS
from gateway.features.replay.datasets import scan
from gateway.store.query import ExchangeFilter


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
    with pytest.raises(ZeroDivisionError), complete_file(tmp_path / "b") as file:
        file.write(b"half" * (1 // 0))
    assert sorted(p.name for p in tmp_path.iterdir() if p.name[0] in "ab") == ["a.jsonl"]
    with pytest.raises(CannotRun, match="cannot be written: No such file"), complete_file(tmp_path / "none" / "c"):
        pass


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
    """The same questions and right answers; what a shadow answered is no question."""
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
    for row in rows:
        check.validate(row)
        assert row["prompt"][-1]["role"] == "user"
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
        for _ in range(12):  # in parts, since a busy stream server may not take 30 MB within its timeout
            await room.send(*(exchange("1", request=big) for _ in range(5)))
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
    assert NAMED == FORMS


def test_a_progress_bar_needs_a_terminal(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr("sys.stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    with verb.progress() as show:
        show(3, 7)
        import sys

        sys.stderr.flush()
    assert "3/7" in sys.stderr.getvalue()


def test_a_full_disk_is_named_and_the_old_file_stays(tmp_path):
    path = tmp_path / "calls.jsonl"
    path.write_text("before")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(CannotRun, match=r"calls.jsonl cannot be written: File too large; what was there before"):
            write_private(path, "x" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]
