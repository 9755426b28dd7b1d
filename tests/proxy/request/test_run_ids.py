"""The run that a request names: the first of its sources counts, and a run belongs to its caller."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.core.errors import BadRequest
from gateway.core.exchange import cluster_digest, run_key
from gateway.proxy.request.call import Caller, RunId
from gateway.proxy.request.run_ids import run_of

WEB = Caller("web")
PLAIN = {"user_id": "user_0f_account__session_57a121ec-f78c-48c3-a745-e3036a3ecc33"}
OBJECT = {"user_id": json.dumps({"device_id": "d", "account_uuid": "", "session_id": "54c1eb09-bc4c"})}
TRACE = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
EVERYTHING: list[tuple[dict[bytes, bytes], dict[str, Any], str | None, str, str]] = [
    ({b"x-gateway-run": b"task-1"}, {}, None, "task-1", "x-gateway-run"),
    ({}, {"metadata": {"run_id": "task-2"}}, None, "task-2", "metadata.run_id"),
    ({b"x-claude-code-session-id": b"c-3"}, {}, None, "c-3", "x-claude-code-session-id"),
    ({b"session-id": b"c-4"}, {}, None, "c-4", "session-id"),
    ({b"session_id": b"c-5"}, {}, None, "c-5", "session_id"),
    ({b"x-session-id": b"c-6"}, {}, None, "c-6", "x-session-id"),
    ({}, {"metadata": PLAIN}, None, "57a121ec-f78c-48c3-a745-e3036a3ecc33", "metadata.user_id"),
    ({}, {}, "talk", "talk", "conversation"),
    ({b"traceparent": TRACE}, {}, None, "0af7651916cd43dd8448eb211c80319c", "traceparent"),
    ({}, {"prompt_cache_key": "cache"}, None, "cache", "prompt_cache_key"),
]
LISTED = ("traceparent", "prompt_cache_key")


def merged(parts: list[tuple[dict[bytes, bytes], dict[str, Any], str | None, str, str]]) -> RunId | None:
    headers: dict[bytes, bytes] = {}
    metadata: dict[str, Any] = {}
    fields: dict[str, Any] = {}
    conversation = None
    for given, body, talk, _, _ in parts:
        headers |= given
        metadata |= body.get("metadata", {})
        fields |= body
        conversation = talk or conversation
    return run_of(WEB, headers, fields | {"metadata": metadata}, conversation, LISTED)


@pytest.mark.parametrize("first", range(len(EVERYTHING)), ids=[each[4] for each in EVERYTHING])
def test_the_first_source_that_a_call_has_counts(first: int) -> None:
    *_, id, source = EVERYTHING[first]
    assert merged(EVERYTHING[first:]) == RunId(id, source, run_key("web", id))


def test_an_unlisted_header_names_no_run() -> None:
    assert run_of(WEB, {b"traceparent": TRACE}, {"prompt_cache_key": "cache"}, None, ()) is None
    assert run_of(WEB, {b"traceparent": TRACE}, {"prompt_cache_key": "c"}, None, ("prompt_cache_key",)).id == "c"


def test_the_session_of_newer_versions_of_claude_code_is_a_member() -> None:
    assert run_of(WEB, {}, {"metadata": OBJECT}, None, ()).id == "54c1eb09-bc4c"


@pytest.mark.parametrize(
    "metadata",
    [None, ..., 7, [], {}, {"run_id": 7}, {"run_id": ""}, {"user_id": "alice"}, {"user_id": "{not json"},
     {"user_id": "[1]"}, {"user_id": "{" + "x" * 5000}, {"user_id": 5}],
)  # fmt: skip
def test_other_metadata_names_no_run(metadata: Any) -> None:
    assert run_of(WEB, {}, {"metadata": metadata}, None, ()) is None


@pytest.mark.parametrize("given", [b"", b"x" * 129, b"a b", b"a\xff", b"a\x00b"])
def test_a_header_that_is_not_an_id_is_refused(given: bytes) -> None:
    with pytest.raises(BadRequest, match="x-gateway-run: expected 1 to 128 visible ASCII characters"):
        run_of(WEB, {b"x-gateway-run": given}, {"metadata": {"run_id": "fine"}}, None, ())


@pytest.mark.parametrize("given", ["x" * 129, "a\0b", "line\nbreak", "\ud800"])
def test_a_text_that_is_long_or_hidden_becomes_its_digest(given: str) -> None:
    assert run_of(WEB, {}, {"metadata": {"run_id": given}}, None, ()).id == cluster_digest(given)


def test_a_run_belongs_to_its_caller() -> None:
    one, other = (run_of(Caller(name), {b"x-gateway-run": b"r"}, {}, None, ()) for name in ("web", "batch"))
    assert (one.id, other.id) == ("r", "r")
    assert one.key != other.key


@pytest.mark.parametrize("content", ["redacted", "metadata"])
def test_a_name_is_a_digest_where_not_all_content_is_recorded(content: Any) -> None:
    run = run_of(Caller("web", content=content), {b"x-gateway-run": b"alice@example.com"}, {}, None, ())
    assert run.id == cluster_digest("alice@example.com")
    assert run.key == run_key("web", run.id)
