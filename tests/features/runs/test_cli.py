"""A run on the command line: as a timeline, and as a file of runs or of traces."""

from __future__ import annotations

import time
from typing import Any

import orjson
import pytest
from fixtures.json_outputs import conforms
from google.protobuf import json_format
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData
from typer.testing import CliRunner

from gateway.cli import app
from gateway.core.errors import CannotRun
from gateway.core.exchange import run_key
from gateway.features.runs.export import traces
from gateway.features.runs.report import find_runs

WEB = run_key("web", "task-1")


def answer(text: str, *tools: tuple[str, str]) -> bytes:
    calls = [
        {"id": f"t{n}", "type": "function", "function": {"name": name, "arguments": arguments}}
        for n, (name, arguments) in enumerate(tools)
    ]
    message = {"content": text, "tool_calls": calls} if calls else {"content": text}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if calls else "stop"}
    return orjson.dumps({"choices": [choice], "usage": {"prompt_tokens": 3, "completion_tokens": 5}})


def request(*texts: str) -> bytes:
    turns = [{"role": "assistant" if n % 2 else "user", "content": text} for n, text in enumerate(texts)]
    return orjson.dumps({"messages": turns})


@pytest.fixture
async def run(room: Any, exchange: Any) -> list[Any]:
    """Three calls of one run: the second fails, and the third repeats a tool call. And one of another caller."""
    now = time.time() - 60
    of = {"run": "task-1", "run_source": "x-gateway-run"}
    made = [
        exchange(received=now, request=request("find it"), response=answer("", ("grep", '{"a": 1, "b": 2}')), **of),
        exchange(received=now + 5, status=503, outcome="upstream_error", response=b'{"error": "busy"}', **of),
        exchange(received=now + 9, request=request("find it", "", "nothing"),
                 response=answer("0.5", ("grep", '{"b":2,"a":1}'), ("read", "{}")), **of),
    ]  # fmt: skip
    other = exchange("0.1", received=now + 1, caller="batch", **of)
    alone = exchange("0.2", received=now + 1)
    async with room.consuming():
        await room.send(made[2], made[0], other, made[1], alone)
        await room.until_read()
    return made


@pytest.fixture
def verb(room: Any, tmp_path: Any, monkeypatch: Any) -> Any:
    """Runs a verb on the room's store, in a directory without a gateway.yaml."""
    monkeypatch.chdir(tmp_path)
    return lambda name, *given: CliRunner().invoke(app, [name, "--data", str(tmp_path / "data"), *given])


async def test_a_timeline_has_the_calls_in_order(run: list[Any], verb: Any) -> None:
    shown = verb("samples", "--run", WEB)
    assert shown.exit_code == 0, shown.output
    lines = shown.output.splitlines()
    assert f"run task-1 (by x-gateway-run), {WEB}, by web" in lines[0]
    assert lines[1].startswith("3 calls in 9.5 s, 16 tokens")
    assert "1 failed" in lines[1]
    assert f"first failure: {run[1].id}, upstream_error 503" in lines[2]
    places = [shown.output.rindex(each.id) for each in run]
    assert places == sorted(places)
    assert 'grep({"b":2,"a":1}) (time 2), read({})' in shown.output


async def test_the_client_s_id_finds_the_runs_of_all_callers(run: list[Any], verb: Any) -> None:
    runs = conforms("samples", verb("samples", "--run", "task-1", "--json").stdout)
    assert [(each["caller"], each["calls_n"]) for each in runs] == [("web", 3), ("batch", 1)]
    assert [call["failed"] for call in runs[0]["calls"]] == [False, True, False]
    unknown = verb("samples", "--run", "task-2")
    assert isinstance(unknown.exception, CannotRun)
    assert "no run task-2 in the store" in str(unknown.exception)


async def test_a_call_names_its_run(run: list[Any], verb: Any) -> None:
    shown = verb("samples", "--id", run[0].id).output
    assert f"run task-1 (by x-gateway-run): gateway samples --run {WEB}" in shown


async def test_calls_of_a_run_are_exported_alone(run: list[Any], verb: Any) -> None:
    rows = [orjson.loads(line) for line in verb("export", "--run", WEB).stdout.splitlines()]
    assert [row["id"] for row in rows] == [each.id for each in run]
    assert {(row["run"], row["run_source"], row["run_id"]) for row in rows} == {("task-1", "x-gateway-run", WEB)}
    assert len(verb("export", "--run", "task-1").stdout.splitlines()) == 4
    assert len(verb("export", "--where", f"run_id={WEB}").stdout.splitlines()) == 3


async def test_an_exported_run_has_each_message_once(run: list[Any], verb: Any) -> None:
    lines = verb("export", "--format", "runs", "--where", "caller=web").stdout.splitlines()
    (found,) = map(orjson.loads, lines)
    assert (found["run_id"], found["failed"], found["tokens"]) == (WEB, 1, 16)
    first, _, last = found["calls"]
    assert (first["messages_before"], first["messages"]) == (0, [{"role": "user", "content": "find it"}])
    assert last["messages"][-1] == {"role": "user", "content": "nothing"}
    assert [tool["name"] for tool in last["tool_calls"]] == ["grep", "read"]


async def test_a_trace_has_the_run_as_the_parent_span(run: list[Any], verb: Any, tmp_path: Any) -> None:
    out = tmp_path / "runs.json"
    done = verb("export", "--format", "otlp", "--out", str(out))
    assert done.exit_code == 0, done.output
    assert "2 runs in" in done.stderr
    found = [json_format.Parse(line, TracesData()) for line in out.read_text().splitlines()]
    spans = found[0].resource_spans[0].scope_spans[0].spans
    parent, *calls = spans
    assert [span.parent_span_id for span in spans] == [b"", *3 * [parent.span_id]]
    assert {span.trace_id for span in spans} == {parent.trace_id}
    assert (parent.name, calls[0].name) == ("invoke_agent chat", "chat chat")
    assert [span.status.code for span in calls] == [0, 2, 0]
    assert parent.start_time_unix_nano == calls[0].start_time_unix_nano
    assert parent.end_time_unix_nano == calls[2].end_time_unix_nano
    assert "nothing" not in out.read_text(), "spans have no content"


async def test_the_same_run_has_the_same_trace(run: list[Any], room: Any) -> None:
    (one,) = find_runs(room.store_url, WEB)
    assert traces(one) == traces(one)
    ids = {orjson.dumps(traces(each)["resourceSpans"])[:400] for each in find_runs(room.store_url, "task-1")}
    assert len(ids) == 2, "of each caller's run"
