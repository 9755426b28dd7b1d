"""Files of traces: every form, packed and in directories, and errors with the file and the line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from fixtures import traces
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.completion import completion_of
from gateway.core.errors import CannotRun
from gateway.core.exchange import Exchange, user_digest
from gateway.features.traces.files import TraceFile, opened
from gateway.features.traces.formats.genai import record_of
from gateway.features.traces.formats.otlp import spans_in_json
from gateway.features.traces.model import InvalidTrace, exchange_of
from gateway.features.traces.survey import NESTED, TOO_OLD, exchanges_in, survey

pytestmark = pytest.mark.quick


def file(data: bytes | str, **bounds: int) -> TraceFile:
    import io

    raw = data.encode() if isinstance(data, str) else data
    return TraceFile("f.json", lambda: io.BytesIO(raw), **bounds)


def calls(data: bytes | str) -> list[Exchange]:
    return [exchange_of(each.call) for each in file(data).records() if each.call is not None]


DOCUMENT = traces.chats(3)


@pytest.mark.parametrize(
    "data",
    [
        orjson.dumps(DOCUMENT), json.dumps(DOCUMENT, indent=2).encode(), b"\n\n " + orjson.dumps(DOCUMENT),
        b"\n".join(orjson.dumps(traces.export(s)) for s in DOCUMENT["resourceSpans"][0]["scopeSpans"][0]["spans"]),
        traces.encoded(DOCUMENT), gzip.compress(traces.encoded(DOCUMENT)), gzip.compress(orjson.dumps(DOCUMENT)),
    ],
    ids=["one line", "many lines", "after blank lines", "lines of JSON", "Protobuf", "packed Protobuf", "packed JSON"],
)  # fmt: skip
def test_a_form_is_recognised(data: bytes) -> None:
    assert [completion_of(each).text for each in calls(data)] == ["Paris"] * 3


@pytest.mark.parametrize(
    "document",
    [
        {"data": [traces.observation()], "meta": {"page": 1}}, [traces.observation()], traces.observation(),
        {"id": "lf-trace", "sessionId": "s", "observations": [traces.observation(traceId=None)]},
        {
            "id": "o1", "trace_id": "lf-trace", "type": "GENERATION", "start_time": "2026-11-20 10:00:00.000",
            "end_time": "2026-11-20 10:00:02.500", "completion_start_time": "2026-11-20 10:00:00.400",
            "provided_model_name": "gpt-x", "model_parameters": '{"temperature": 0.1}',
            "input": '[{"role": "user", "content": "Capital of France?"}]',
            "output": '{"role": "assistant", "content": "Paris"}', "usage_details": {"input": 12, "output": 3},
        },
    ],
    ids=["API page", "export", "one", "trace", "blob storage"],
)  # fmt: skip
def test_langfuse_in_its_forms(document: Any) -> None:
    [made] = calls(orjson.dumps(document))
    assert (completion_of(made).text, made.alias, made.total_s) == ("Paris", "gpt-x", pytest.approx(2.5))
    assert made.first_token_s == pytest.approx(0.4)
    assert made.usage is not None
    assert (made.usage.input_tokens, made.usage.output_tokens) == (12, 3)
    assert orjson.loads(made.request)["temperature"] == 0.1
    assert made.run == "lf-trace"


def test_other_observations_are_not_calls_and_errors_are_kept() -> None:
    rows = [
        traces.observation("a", type="SPAN"), traces.observation("b", input=None), traces.observation("c", output=None),
        traces.observation("d", output=None, level="ERROR", statusMessage="overloaded"),
    ]  # fmt: skip
    found = list(file(orjson.dumps(rows)).records())
    assert [(each.call is not None, bool(each.left_out)) for each in found] == [
        (False, False),
        (False, True),
        (False, True),
        (True, False),
    ]
    [failed] = calls(orjson.dumps(rows))
    assert (failed.outcome, completion_of(failed).error) == ("upstream_error", "overloaded")


def test_litellm_rows_become_calls() -> None:
    row = traces.spend_log()
    body = json.dumps(
        {"model": "gpt-x", "messages": [{"role": "user", "content": "Hi"}], "temperature": 0.3, "stream": True}
    )
    rows = [row, traces.spend_log("r2", messages="{}", proxy_server_request=body)]
    first, second = calls(orjson.dumps({"data": rows, "total": 2}))
    assert (first.alias, str(first.target), first.caller) == ("gpt-x", "openai/gpt-x-2026", "web")
    assert first.user_digest == user_digest("alice")
    assert (completion_of(first).text, first.stream, second.stream) == ("Paris", False, True)
    assert orjson.loads(second.request)["temperature"] == 0.3
    assert first.cluster == second.cluster


def test_litellm_rows_without_prompts_say_which_setting_is_missing() -> None:
    [record] = file(orjson.dumps([traces.spend_log(messages="{}", response="{}")])).records()
    assert "store_prompts_in_spend_logs" in record.left_out
    error = {"error_information": {"error_code": "429", "error_message": "slow"}}
    [failed] = calls(orjson.dumps([traces.spend_log(response="{}", status="failure", metadata=error)]))
    assert (failed.status, failed.outcome, completion_of(failed).error) == (429, "upstream_error", "slow")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "f.json: is empty"),
        (b'{"resourceSpans": [}', "f.json: not JSON: .* in line 1, column"),
        (orjson.dumps(DOCUMENT) + b'\n{"resourceSpans": [}', "f.json: line 2: not JSON"),
        (b'{"spans": []}', "not a form of traces that is known: an object with spans; expected OTLP"),
        (b"[3]", "row 1: not a form of traces that is known: JSON of the type int"),
        (b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "x"}]}]}]}', "f.json: line 1: .*traceId: 'x'"),
        (orjson.dumps([traces.observation(startTime="soon")]), "observation o1: startTime: 'soon', expected a time"),
        (orjson.dumps([traces.spend_log(""), traces.spend_log()]), "row 1: a row of spend logs has no request_id"),
        (orjson.dumps({"id": "t", "observations": ["a"]}), "names its observations by id only"),
        (b"\x1f\x8b\x08\x00garbage", "f.json: cannot be read"),
        (gzip.compress(orjson.dumps(DOCUMENT))[:-9], "f.json: cannot be read"),
        (b"\x00\x01\x02", "f.json: not an ExportTraceServiceRequest"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_place(data: bytes, said: str) -> None:
    with pytest.raises(InvalidTrace, match=said):
        list(file(data).records())


def test_a_file_that_unpacks_to_too_much_is_refused_meanwhile() -> None:
    bomb = gzip.compress(b"[" + b" " * 10_000_000)
    with pytest.raises(InvalidTrace, match="more than 1 MiB"):
        list(file(bomb, largest_document=1 << 20).records())
    lines = gzip.compress(b"\n".join([orjson.dumps(traces.chats(1))] * 3_000))
    with pytest.raises(InvalidTrace, match="more than 1 MiB when unpacked"):
        list(file(lines, largest_unpacked=1 << 20).records())


def test_a_directory_is_read_in_order_and_other_files_are_left(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "b.jsonl").write_bytes(orjson.dumps(traces.chats(1)))
    (tmp_path / "sub" / "a.json.gz").write_bytes(gzip.compress(orjson.dumps([traces.observation()])))
    (tmp_path / "readme.md").write_text("no traces")
    with opened([str(tmp_path)]) as files:
        assert [Path(each.name).name for each in files] == ["b.jsonl", "a.json.gz"]
    with pytest.raises(CannotRun, match="there is no such file"), opened(["nowhere"]):
        pass
    (tmp_path / "empty").mkdir()
    with pytest.raises(CannotRun, match="no file to read"), opened([str(tmp_path / "empty")]):
        pass


@given(st.permutations(range(6)), st.integers(1, 5))
def test_spans_in_any_order_and_any_files_are_the_same_calls(order: list[int], cut: int) -> None:
    call = traces.chat_attributes()
    spans = [
        traces.span("root"), traces.span("outer", parent="root", attributes=call), traces.span("chain", parent="outer"),
        traces.span("inner", parent="chain", attributes=call), traces.span("next", parent="root", attributes=call),
        traces.span("alone", "t2", attributes=call),
    ]  # fmt: skip
    mixed = [spans[i] for i in order]
    files = [file(orjson.dumps(traces.export(*part))) for part in (mixed[:cut], mixed[cut:])]
    found = survey(files)
    made = {each.id for each in exchanges_in(files, found)}
    kept = [record_of(each, "f").call for each in spans_in_json(traces.export(*(spans[i] for i in (3, 4, 5))))]
    assert (found.calls, made) == (3, {exchange_of(each).id for each in kept if each is not None})


def test_a_survey_counts_what_is_imported_and_what_is_not() -> None:
    call = traces.chat_attributes()
    old = traces.span("old", "t2", start=traces.START - 1e6, attributes=call)
    bare = traces.span("bare", "t3", attributes={**call, "gen_ai.input.messages": "[]"})
    outer, inner = traces.span("outer", attributes=call), traces.span("inner", parent="outer", attributes=call)
    twice = [file(orjson.dumps(traces.export(inner, outer, old, bare))), file(orjson.dumps(traces.export(inner)))]
    found = survey(twice, since=traces.START - 10)
    assert (found.spans, found.calls, found.without_pi, dict(found.models)) == (5, 1, 1, {"gpt-x": 1})
    assert {why[:20]: out.n for why, out in found.left_out.items()} == {
        "has no prompt: let t": 1, NESTED[:20]: 1, TOO_OLD[:20]: 1,
    }  # fmt: skip
    assert {each.id for each in exchanges_in(twice, found)} == {
        exchange_of(record.call).id for record in twice[1].records() if record.call
    }
