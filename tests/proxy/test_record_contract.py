"""Every kind of entry that a gateway appends to the stream is as `gateway schema --output record` says."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import Any
from zlib import crc32

import jsonschema_rs
from fixtures.pages import DOCS, blocks
from fixtures.run_histories import growing

from gateway.cli.record_schema import record_schema
from gateway.fake import CUT, FakeUpstream, Fault
from gateway.features.traces.model import TracedCall, exchange_of

Configured = Callable[..., dict[str, Any]]
ASKED = {"messages": [{"role": "user", "content": "hi"}]}
CALLS = {
    "/chat/completions": ASKED,
    "/completions": {"prompt": "hi"},
    "/responses": {"input": "hi", "store": False},
    "/messages": {**ASKED, "max_tokens": 9},
}
UNRECORDED = {"/embeddings": {"input": "hi"}, "/moderations": {"input": "hi"}}
CONTENTS = ("full", "redacted", "metadata")
SWAP = {"model": "chat", "control": {"upstream": "u0", "model": "model-u0"}, "shadow": 1.0, "aa": "alarm"}


async def entries_of(gateway: Any, done: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
    """All entries of the stream in the form that the schema describes, once `done` holds for them."""
    async with asyncio.timeout(55):
        while True:
            raw = await gateway.corridor.client.xrange(gateway.corridor.key)
            found = [{name.decode(): value.decode() for name, value in fields.items()} for _, fields in raw]
            found = [{**entry, "head": json.loads(entry["head"])} for entry in found]
            if done(found):
                return found
            await asyncio.sleep(0.05)


def conform(entries: list[dict[str, Any]]) -> None:
    validator = jsonschema_rs.validator_for(json.loads(json.dumps(record_schema())))
    for entry in entries:
        validator.validate(entry)


def with_keys(config: dict[str, Any]) -> dict[str, Any]:
    """A key for each form of content, named after it."""
    keys = [{"name": each, "sha256": sha256(each.encode()).hexdigest(), "content": each} for each in CONTENTS]
    return {**config, "keys": [*config["keys"], *keys]}


def post(gateway: Any, path: str, key: str, **fields: Any) -> Any:
    return gateway.client.post(path, json={"model": "chat", **fields}, headers={"authorization": f"Bearer {key}"})


async def test_each_api_form_and_content_conforms(start: Any, configured: Configured, upstream: FakeUpstream) -> None:
    gateway = await start(with_keys(configured(upstream)))
    for key in CONTENTS:
        for path, body in CALLS.items():
            for stream in (False, True):
                reply = await post(gateway, path, key, **body, stream=stream)
                assert reply.status_code == 200, reply.text
        for path, body in UNRECORDED.items():
            assert (await post(gateway, path, key, **body)).status_code == 200
    n = len(CONTENTS) * len(CALLS) * 2
    entries = await entries_of(gateway, lambda found: sum(e["kind"] == "exchange" for e in found) == n)
    conform(entries)
    calls = [entry for entry in entries if entry["kind"] == "exchange"]
    assert Counter((e["head"]["api"], e["head"]["stream"], e["head"]["caller"]) for e in calls) == Counter(
        (path[1:].split("/")[0], stream, key) for path in CALLS for stream in (False, True) for key in CONTENTS
    )
    for entry in calls:
        head = entry["head"]
        assert head["model_returned"] == "model-u0", (head["api"], head["stream"], head["caller"])
        assert (entry["req"] == "{}", entry["res"] == "") == ((head["caller"] == "metadata",) * 2)
        assert (head["form"] == "assembled") == (head["caller"] == "redacted")


async def test_shadows_runs_failures_and_feedback_conform(
    start: Any, configured: Configured, upstream: FakeUpstream, second: FakeUpstream
) -> None:
    swap = {**SWAP, "candidate": {"upstream": "u1", "model": "new"}, "repeat_control": 1.0}
    gateway = await start(with_keys(configured(upstream, second, experiments={"swap": swap})))
    answer = await post(gateway, "/chat/completions", "full", **ASKED)
    await gateway.until(lambda: not gateway.gateway.in_use)
    headers = {"authorization": "Bearer full", "x-gateway-run": "task-1", "content-type": "application/json"}
    for body in growing(3, 30_000):
        await gateway.client.post("/chat/completions", content=body, headers=headers)
        await gateway.until(lambda: not gateway.gateway.in_use)
    rated = {"id": answer.headers["x-request-id"], "name": "thumbs", "value": 1, "comment": "good"}
    assert (await gateway.client.post("/feedback", json=rated, headers=headers)).is_success
    upstream.then(Fault.status(500), Fault.status(500), Fault.status(400))
    second.then(Fault.status(500))
    await post(gateway, "/chat/completions", "full", **ASKED)
    await post(gateway, "/chat/completions", "full", **ASKED)
    upstream.says("half an ", CUT)
    second.always(Fault.status(503))
    await post(gateway, "/chat/completions", "full", **ASKED, stream=True)
    entries = await entries_of(
        gateway,
        lambda found: (
            sum(e["kind"] in ("exchange", "delta") and e["head"]["role"] == "served" for e in found) == 7
            and any(e["kind"] == "feedback" for e in found)
        ),
    )
    conform(entries)
    assert {entry["kind"] for entry in entries} == {"exchange", "delta", "tally", "feedback"}
    heads = [entry["head"] for entry in entries if entry["kind"] in ("exchange", "delta")]
    assert {head["role"] for head in heads} == {"served", "shadow", "control"}
    assert {"ok", "upstream_error", "cut"} <= {head["outcome"] for head in heads}
    assert all(crc32(request) == head["base"]["crc"] for head, request in whole_requests(entries))


def whole_requests(entries: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], bytes]]:
    """The heads of the deltas, and their whole requests, joined by the function of the page."""
    [text] = [block.text for block in blocks(DOCS / "sampling-and-stream.md") if block.note == "whole_request"]
    page: dict[str, Any] = {}
    exec(text, page)  # noqa: S102 - the page's own code
    known: dict[str, bytes] = {}
    for entry in entries:
        head = entry["head"]
        if entry["kind"] == "delta":
            known[head["id"]] = page["whole_request"](
                entry["req"].encode(), known[head["base"]["id"]], head["base"]["parts"]
            )
            yield head, known[head["id"]]
        elif entry["kind"] == "exchange":
            known[head["id"]] = entry["req"].encode()


def test_an_imported_call_conforms() -> None:
    call = TracedCall(
        "t", "s", 1_790_000_000.0, 1.0, "gpt", "openai", dict(ASKED), {"choices": []}, answered_by="gpt-1"
    )
    fields = {name.decode(): value.decode() for name, value in exchange_of(call).to_fields().items()}
    head = json.loads(fields["head"])
    conform([{**fields, "head": head}])
    assert (head["v"], head["pi"], head["model_returned"]) == (2, None, "gpt-1")
