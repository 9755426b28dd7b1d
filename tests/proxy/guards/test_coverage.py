"""The table of what guards judge: it names every endpoint and member of the pinned lists, and it is true."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import pytest
from proxy.guards.evasions import CARD
from proxy.guards.sdk_members import sdk_members, sdk_versions

from gateway.fake import FakeUpstream
from gateway.proxy.app import ROUTES
from gateway.proxy.guards.coverage import ENDPOINTS, MEMBERS, forwards_unjudged, is_structure, unreadable_member
from gateway.proxy.guards.judged_request import read_request
from gateway.proxy.guards.texts import answer_slots, event_slots, read_event, request_slots
from gateway.proxy.request.call import Api
from gateway.proxy.request.paths import segments
from gateway.proxy.request.vendor_paths import BEDROCK_PATH, GEMINI_PATH

Configured = Callable[..., dict[str, Any]]
PINNED = json.loads(Path(__file__).with_name("api_members.json").read_text("utf-8"))
ROOT = Path(__file__).parent.parent.parent.parent
REQUEST = {"on": "request", "scorer": "personal_data", "action": "block"}


def top(path: str) -> str:
    return re.split(r"[.\[]", path, maxsplit=1)[0]


def pinned() -> Iterator[tuple[str, str, str]]:
    """(API, side, path) of each pinned member."""
    for source in ("clients", "vllm"):
        for api, sides in PINNED[source].items():
            yield from ((api, side, path) for side, paths in sides.items() for path in paths)


def with_text(path: str, text: str) -> Any:
    """A document with this text at a path."""
    value: Any = text
    for step in reversed(re.findall(r"[^.\[\]]+|\[\]", path)):
        value = [value] if step == "[]" else {"any" if step == "*" else step: value}
    return value


def judged(api: str, side: str, document: dict[str, Any]) -> bool:
    """Whether the card is in a text that guards judge."""
    if side == "request":
        slots = request_slots(document)
    elif side == "answer":
        slots = answer_slots(document)
    else:
        found = read_event(api, document)
        slots = [slot for _, slot in found.pieces] + (event_slots(document) if found.repeats else [])
    return any(CARD in str(slot.value) for slot in slots)


def not_judged(members: Iterator[tuple[str, str, str]] | list[tuple[str, str, str]]) -> list[str]:
    """The members that the table does not know, and those that are judged otherwise than it says."""
    faults = []
    for api, side, path in members:
        known, name = MEMBERS[api, side], top(path)  # type: ignore[index]
        if name not in known:
            faults.append(f"{api} {side}: {path} is not in coverage.MEMBERS")
            continue
        document = with_text(path, CARD)
        refused = side == "request" and unreadable_member(document) is not None
        says = "refused" if name in known.refused else "not judged" if name in known.not_judged else "judged"
        does = "refused" if refused else "judged" if judged(api, side, document) else "not judged"
        if says != does:
            faults.append(f"{api} {side}: {path} is {does}; the table says {says}")
    return faults


def test_every_pinned_member_is_in_the_table_and_it_is_true() -> None:
    members = list(pinned())
    assert not_judged(members) == []
    print(f"{len(members)} members of {PINNED['versions']}")  # noqa: T201
    assert len(members) > 2_000


def test_deltas_are_judged_in_every_member() -> None:
    """The events whose texts come in pieces have members besides these."""
    deltas: dict[str, dict[str, Any]] = {
        "responses": {"type": "response.output_text.delta", "item_id": "m", "delta": "x"},
        "messages": {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "x"}},
    }
    for api, delta in deltas.items():
        for path in PINNED["clients"][api]["stream"]:
            document = {**delta, **with_text(path, CARD)}
            if top(path) not in MEMBERS[api, "stream"].not_judged:  # type: ignore[index]
                assert judged(api, "stream", document), f"{api}: {path}"


def test_an_unknown_member_fails_the_table() -> None:
    assert "newest_member" in not_judged([("chat", "request", "newest_member")])[0]
    assert judged("chat", "request", {"newest_member": [{"a": CARD}]}), "it is judged nevertheless"


@pytest.mark.long
def test_the_newest_clients_have_no_unjudged_member(capsys: pytest.CaptureFixture[str]) -> None:
    """Prints what the installed clients have and the pinned lists do not, or the reverse."""
    new = []
    with capsys.disabled():
        print(f"\npinned: {PINNED['versions']}; installed: {sdk_versions()}")  # noqa: T201
        for api, sides in sdk_members().items():
            for side, paths in sides.items():
                old = set(PINNED["clients"][api][side])
                for path in sorted(old.symmetric_difference(paths)):
                    print(f"{'-' if path in old else '+'} {api} {side}: {path}")  # noqa: T201
                new += [(api, side, path) for path in paths if path not in old]
    assert not_judged(new) == []


def test_every_api_is_in_the_table() -> None:
    assert ENDPOINTS.keys() == set(get_args(Api))
    assert {endpoint.api for endpoint in ROUTES.values()} <= ENDPOINTS.keys()


BODIES: dict[str, Any] = {
    "chat": {"messages": [{"role": "user", "content": CARD}]},
    "completions": {"prompt": CARD},
    "responses": {"input": CARD},
    "input_tokens": {"input": CARD},
    "compact": {"input": CARD},
    "messages": {"messages": [{"role": "user", "content": CARD}], "max_tokens": 9},
    "count_tokens": {"messages": [{"role": "user", "content": CARD}]},
    "tokenize": {"prompt": CARD},
    "chat_batch": {"messages": [[{"role": "user", "content": CARD}]]},
    "generate": {"token_ids": [1]},
    "generate_content": {"contents": [{"role": "user", "parts": [{"text": CARD}]}]},
    "decisions": {"input": CARD, "questions": [{"type": "predicate", "instructions": "It is."}]},
    "systemone": {"state": CARD, "questions": {"q": {"type": "noul", "instructions": "Is it?"}}},
    "rerank": {"query": CARD, "documents": ["x"]},
    "embeddings": {"input": CARD},
    "moderations": {"input": CARD},
    "speech": {"input": CARD, "voice": "alloy"},
    "images": {"prompt": CARD},
}
FORMS = {"transcriptions", "translations"}


async def test_every_endpoint_does_what_the_table_says(
    start: Any, configured: Configured, upstream: FakeUpstream
) -> None:
    gateway = await start(configured(upstream, guards={"cards": REQUEST}))
    observing = await start(configured(upstream, guards={"cards": {**REQUEST, "action": "observe"}}))
    tried = set()
    for route, endpoint in ROUTES.items():
        if endpoint.api in FORMS or route == b"/v1/images/edits":
            continue
        path = route.replace(GEMINI_PATH, b"/v1beta/models/chat").replace(BEDROCK_PATH, b"/model/chat").decode()
        url = gateway.base_url.removesuffix("/v1") + path
        body = {"model": "chat", **BODIES.get(endpoint.api, {})}
        before = len(upstream.calls)
        reply = await gateway.client.post(url, json=body)
        coverage = ENDPOINTS[endpoint.api]
        if coverage == "refused":
            assert (reply.status_code, "the guard" in reply.text) == (403, True), path
        elif coverage == "not judged":
            assert "guard" not in reply.text, path
            continue
        else:
            expected = 200 if endpoint.api == "messages" else 400
            assert (reply.status_code, "refused by the guard cards" in reply.text) == (expected, True), (
                path,
                reply.text,
            )
        assert len(upstream.calls) == before, path
        tried.add(endpoint.api)
        reply = await observing.client.post(
            url.replace(gateway.base_url.removesuffix("/v1"), observing.base_url.removesuffix("/v1")), json=body
        )
        assert "guard" not in reply.text, path
    assert len(tried) == 17


async def test_unreadable_requests_are_refused(start: Any, configured: Configured, upstream: FakeUpstream) -> None:
    gateway = await start(configured(upstream, guards={"cards": REQUEST}))
    part = {"type": "prompt_embeds", "data": "AAAA"}
    unread = [
        ("/completions", {"prompt": [1, 2, 3]}),
        ("/completions", {"prompt": [[1, 2], [3]]}),
        ("/completions", {"prompt": ["a text", [3]]}),
        ("/completions", {"prompt_embeds": "AAAA"}),
        ("/completions", {"prompt": "x", "prompt_embeds": ["AAAA"]}),
        ("/chat/completions", {"messages": [{"role": "user", "content": "x"}], "prompt_embeds": "AAAA"}),
        ("/chat/completions", {"messages": [{"role": "user", "content": [part]}]}),
        ("/chat/completions", {"messages": [{"role": "user", "content": "x"}], "prompt_token_ids": [1]}),
    ]
    for path, body in unread:
        reply = await gateway.client.post(path, json={"model": "chat", **body})
        assert (reply.status_code, 'the guard "cards"' in reply.json()["error"]["message"]) == (403, True), body
    assert upstream.calls == []
    of_answers = await start(configured(upstream, guards={"cards": {**REQUEST, "on": "answer"}}))
    reply = await of_answers.client.post("/completions", json={"model": "chat", "prompt": [1, 2, 3]})
    assert reply.status_code == 200, "the answer is a text"


FORWARDED = {
    "/v1/files": True,
    "/v1/vector_stores/vs_1/search": True,
    "/v1/fine_tuning/jobs": True,
    "/v1/models/x": True,
    "/v1/batches": False,
    "/v1/messages/batches": False,
    "/v1/chat/completions/chatcmpl-1": False,
    "/v1/chat/completions/render": False,
    "/v1/conversations/conv_1/items": False,
    "/v1/threads/thread_1/runs": False,
    "/v1/evals/eval_1/runs": False,
    "/v1/complete": False,
    "/v1/files/../batches": False,
    "/v1/%62atches": False,
    "/v1//batches": False,
    "/v1beta/interactions": False,
    "/v1beta/openai/chat/completions": False,
    "/v1/models/x:predict": False,
}


@pytest.mark.parametrize("path", FORWARDED)
def test_paths_that_may_generate_are_known(path: str) -> None:
    parts = segments(path.encode())
    assert (forwards_unjudged(parts) or b".." in parts) is not FORWARDED[path]


async def test_forwarded_paths_answer_403_where_a_guard_is_enforced(
    start: Any, configured: Configured, upstream: FakeUpstream
) -> None:
    config = configured(upstream, guards={"cards": REQUEST})
    config["passthrough"] = "u0"
    gateway = await start(config)
    for method, path in (("POST", "/batches"), ("GET", "/chat/completions/chatcmpl-1"), ("POST", "/threads/t/runs")):
        reply = await gateway.client.request(method, path)
        assert (reply.status_code, 'the guard "cards"' in reply.json()["error"]["message"]) == (403, True), path
    assert upstream.calls == []
    await gateway.client.get("/files")
    assert len(upstream.calls) == 1
    for changed in ({"action": "observe"}, {"keys": ["other"]}):
        config["keys"].append({"name": "other", "sha256": "0" * 64})
        config["guards"]["cards"] = {**REQUEST, **changed}
        other = await start(config)
        config["keys"].pop()
        assert (await other.client.post("/batches")).status_code != 403


def test_structure_is_known_by_its_form() -> None:
    ids = ("call_" + "a1B2" * 6, "toolu_01" + "Ab" * 11, "0193b3c5-aaaa-7bbb-8ccc-0123456789ab", "fc_" + "0a" * 25)
    assert all(is_structure("id", each) and is_structure("tool_call_id", each) for each in ids)
    odd = (CARD, "4111111111111111", "call_4111111111111111", "AKIA" + "A1B2" * 5, "DE89370400440532013000")
    assert not any(is_structure("id", each) for each in odd)
    assert is_structure("role", "user")
    assert not is_structure("role", "bluebird")
    assert is_structure("signature", "Eq" * 40)
    assert not is_structure("signature", CARD)
    assert is_structure("url", "data:image/png;base64," + "A" * 2_000 + "==")
    assert not is_structure("url", "data:image/png;base64," + "A" * 2_000 + "== x")
    assert not is_structure("content", "user")


def test_a_request_without_an_enforced_guard_is_read_as_it_is() -> None:
    fields, _ = read_request(b'{"messages": [{"content": "a", "content": "b"}]}', None)
    assert fields == {"messages": [{"content": "b"}]}


def page() -> ModuleType:
    spec = importlib.util.spec_from_file_location("guard_coverage", ROOT / "docs" / "guard_coverage.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_has_the_table_of_the_code() -> None:
    made = page()
    assert made.PAGE.read_text("utf-8") == made.page(), "run: make generate"
