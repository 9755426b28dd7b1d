"""Bytes and headers of one request → Call. Errors of the request are reported; the rest is left to the upstream."""

from __future__ import annotations

import contextlib
import json
import sys
import tracemalloc
import zlib
from types import FrameType, SimpleNamespace
from typing import Any
from urllib.parse import parse_qs

import httpx2
import pytest

from gateway.core.errors import BadRequest, NotAllowed, TooManyMembers
from gateway.fake import FakeUpstream
from gateway.proxy.http.server.request import ServerRequest
from gateway.proxy.request.call import Call, Caller
from gateway.proxy.request.endpoints import ENDPOINTS
from gateway.proxy.request.json_members import MOST_MEMBERS
from gateway.proxy.request.parse import read_call, read_object, read_options

CHAT = ENDPOINTS[b"/chat/completions"]
USER = [{"role": "user", "content": "hi"}]


def read(
    body: Any,
    path: bytes = b"/chat/completions",
    headers: dict[bytes, bytes] | None = None,
    *,
    root: bytes = b"/v1",
    query: bytes = b"",
    models: frozenset[str] | None = None,
) -> Call:
    source: Any = SimpleNamespace(loop=None, peer="192.0.2.1")
    given = [*(headers or {}).items()]
    request = ServerRequest(source, b"POST", root + path, query, given, keep_alive=True, http10=False)
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read_call(ENDPOINTS[path], Caller("web", models), request, body, 7.0)


def test_a_call_is_what_the_request_says() -> None:
    headers = {
        b"x-request-id": b"mine", b"x-gateway-conversation": b"talk", b"traceparent": b"00-a",
        b"authorization": b"Bearer k",
    }  # fmt: skip
    body = json.dumps({"model": "chat", "messages": USER, "stream": True, "seed": 12345678901234567890}).encode()
    call = read(body, headers=headers, query=b"api-version=1&a=2")
    assert (call.alias, call.stream, call.api, call.method) == ("chat", True, "chat", b"POST")
    assert call.path == b"/chat/completions?a=2", "the version of Azure's API is the upstream's config"
    assert call.body is body
    assert (call.client_id, call.conversation, call.started) == ("mine", "talk", 7.0)
    assert (b"traceparent", b"00-a") in call.headers
    assert not any(name == b"authorization" for name, _ in call.headers)
    assert call.id != "mine"


def test_the_path_goes_upstream_as_the_client_wrote_it() -> None:
    assert read({"model": "m", "prompt": "x"}, b"/completions").path == b"/completions"
    assert read({"model": "m", "content": "x"}, b"/tokenize", root=b"").path == b"/tokenize"


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (b"Paris", "Paris"),
        (b"M%C3%BCnchen%0Aor Rome", "München\nor Rome"),
        (b"100%", "100%"),
        (b"%FF", "\ufffd"),
        (b"", None),
    ],
)
def test_a_reference_is_percent_encoded_and_stays_here(given: bytes, found: str | None) -> None:
    call = read({"model": "m", "messages": USER}, headers={b"x-gateway-reference": given})
    assert call.reference == found
    assert not any(name.startswith(b"x-gateway") for name, _ in call.headers)


CONVERSATIONS: list[tuple[dict[bytes, bytes], Any, str | None]] = [
    ({b"x-gateway-conversation": b"a"}, {"conversation_id": "b"}, "a"),
    ({}, {"conversation_id": "b"}, "b"),
    ({b"x-gateway-conversation": b"not sane"}, {"conversation_id": "b"}, "b"),
    ({}, {"conversation_id": "c" * 300}, "c" * 256),
    ({}, {"conversation_id": 5}, None),
    ({}, {"conversation_id": ""}, None),
    ({}, "text", None),
    ({}, None, None),
]


@pytest.mark.parametrize(("headers", "metadata", "found"), CONVERSATIONS, ids=[str(at) for at in range(8)])
def test_a_conversation_is_named_by_header_or_metadata(
    headers: dict[bytes, bytes], metadata: Any, found: str | None
) -> None:
    call = read({"model": "chat", "messages": USER, "user": "u", "metadata": metadata}, headers=headers)
    assert call.conversation == found


ERRORS: list[tuple[str, bytes, Any, str | None, str]] = [
    # what, path, body, param, the words
    ("nothing", b"/chat/completions", b"", None, "no body"),
    ("no JSON", b"/chat/completions", b"{", None, "not valid JSON"),
    ("not UTF-8", b"/chat/completions", b'{"model":"\xff"}', None, "not valid JSON"),
    ("a list", b"/chat/completions", b"[]", None, "not an array"),
    ("null", b"/chat/completions", b"null", None, "not null"),
    ("a number", b"/chat/completions", b"5", None, "not a number"),
    ("no model", b"/chat/completions", {"messages": USER}, "model", "you must provide a model"),
    ("null as model", b"/chat/completions", {"model": None, "messages": USER}, "model", "you must provide a model"),
    ("an empty model", b"/chat/completions", {"model": "", "messages": USER}, "model", "non-empty string"),
    ("a model that is a list", b"/chat/completions", {"model": ["m"], "messages": USER}, "model", "not an array"),
    ("stream as text", b"/chat/completions", {"model": "m", "messages": USER, "stream": "true"}, "stream", "a string"),
    ("stream as number", b"/chat/completions", {"model": "m", "messages": USER, "stream": 1}, "stream", "a number"),
    ("no messages", b"/chat/completions", {"model": "m"}, "messages", "missing required parameter: messages"),
    ("messages as text", b"/chat/completions", {"model": "m", "messages": "hi"}, "messages", "must be an array"),
    ("no message", b"/chat/completions", {"model": "m", "messages": []}, "messages", "must not be empty"),
    ("a message as text", b"/chat/completions", {"model": "m", "messages": [{}, "hi"]}, "messages[1]", "a string"),
    ("Anthropic without messages", b"/messages", {"model": "m"}, "messages", "missing"),
    ("no prompt", b"/completions", {"model": "m"}, "prompt", "missing"),
    ("no input", b"/embeddings", {"model": "m", "input": None}, "input", "missing"),
    ("no input, and null instead", b"/embeddings", {"model": "m", "messages": None}, "input", "missing"),
    (
        "a large stream",
        b"/chat/completions",
        {"model": "m", "messages": USER, "stream": "x" * 70_000},
        "stream",
        "large",
    ),
    ("no documents", b"/rerank", {"model": "m", "query": "q"}, "documents", "missing"),
]


@pytest.mark.parametrize("row", ERRORS, ids=[e[0] for e in ERRORS])
def test_mistakes_in_a_request_name_their_field(row: tuple[str, bytes, Any, str | None, str]) -> None:
    _, path, body, param, words = row
    with pytest.raises(BadRequest) as refused:
        read(body, path)
    assert refused.value.param == param
    assert words in refused.value.message


PASSES = [
    (b"/chat/completions", {"model": "m", "messages": [{}], "temperature": "hot", "unknown": None}),
    (b"/responses", {"model": "m"}),
    (b"/responses", {"model": "m", "input": [], "messages": 5}),
    (b"/score", {"model": "m"}),
    (b"/chat/completions", {"model": "m", "messages": USER, "stream": None}),
]


@pytest.mark.parametrize(("path", "body"), PASSES, ids=[str(p[1]) for p in PASSES])
def test_the_rest_is_the_upstreams_to_judge(path: bytes, body: dict[str, Any]) -> None:
    assert read(body, path).stream is False


def large(**fields: Any) -> bytes:
    content = [{"role": "user", "content": 'a \\"quoted\\" ]} ' * 90_000}]
    return json.dumps({"messages": content, **fields}).encode()


@pytest.mark.parametrize("fields", [{"stream": True, "user": "u"}, {"n": 2, "stop": ["a", "b"], "metadata": {"a": 1}}])
@pytest.mark.parametrize("body", [json.dumps({"messages": USER}).encode(), large()], ids=["small", "large"])
def test_only_what_the_gateway_reads_is_decoded(fields: dict[str, Any], body: bytes) -> None:
    """Members that it does not read are known by name alone."""
    body = body[:-1] + b"," + json.dumps({"model": "chat", **fields}).encode()[1:]
    call = read(body)
    assert call.fields == {"messages": ..., "model": "chat", **fields, **({"stop": ...} if "stop" in fields else {})}
    assert (call.alias, call.stream) == ("chat", fields.get("stream", False))
    assert call.read("messages") == json.loads(body)["messages"]


@pytest.mark.parametrize("text", [rb'"\ud800"', b'"a\x01"', b"NaN", b"[1,]", b"{}{}"])
@pytest.mark.parametrize("beside", [b'"user"', json.dumps("x" * (1 << 20)).encode()], ids=["small", "large"])
def test_a_body_that_a_parser_refuses_is_refused_at_any_size(text: bytes, beside: bytes) -> None:
    with pytest.raises(BadRequest, match="not valid JSON"):
        read(b'{"model":"chat","messages":[{"content":%b,"x":%b}]}' % (beside, text))


LARGE_ERRORS: list[tuple[dict[str, Any], str]] = [
    ({}, "model"),
    ({"model": 5}, "model"),
    ({"model": "m", "stream": "yes"}, "stream"),
]


@pytest.mark.parametrize(("fields", "param"), LARGE_ERRORS)
def test_a_large_body_is_checked_as_a_small_one_is(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as refused:
        read(large(**fields))
    assert refused.value.param == param


@pytest.mark.parametrize("body", [large(model="m")[:-1], b"[" + large(model="m") + b"]", large(model="m") + b"x"])
def test_a_large_body_that_is_not_an_object_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest, match=r"not valid JSON|not an array"):
        read_object(body)


MANY = [{"role": "user", "content": "x" * 100}] * 1000
BAD_MESSAGES: list[tuple[Any, str]] = [
    ([5, *MANY], "messages[0] must be an object, not a number"),
    ([None, *MANY], "messages[0] must be an object, not null"),
    ([*MANY[:100], True], "messages[100] must be an object, not a boolean"),
    ([*MANY[:100], []], "messages[100] must be an object, not an array"),
    ({"role": "x" * 100_000}, "messages must be an array, not an object"),
    ("x" * 100_000, "messages must be an array, not a string"),
]


@pytest.mark.parametrize(("messages", "text"), BAD_MESSAGES, ids=[text for _, text in BAD_MESSAGES])
def test_messages_are_objects(messages: Any, text: str) -> None:
    """Up to 64 KB each of them; in a larger body the first, and the upstream judges the others."""
    with pytest.raises(BadRequest) as refused:
        read({"model": "chat", "messages": messages})
    assert refused.value.message == text
    assert read({"model": "chat", "messages": [*MANY, 5]}).alias == "chat"


def test_a_member_that_comes_twice_is_refused() -> None:
    with pytest.raises(BadRequest) as refused:
        read(b'{"model":"allowed","messages":[{}],"\\u006dodel":"secret"}', models=frozenset({"allowed"}))
    assert (refused.value.param, "more than one" in refused.value.message) == ("model", True)


MAY = Caller("web", allow=frozenset({"sample", "target"}))


def test_recording_is_forced_or_forbidden_only_by_a_key_that_may() -> None:
    for value in ("always", "never"):
        headers = {b"x-gateway-sample": value.encode()}
        assert read_options(headers, MAY).sample == value
        assert read_options(headers, Caller("web")).sample is None
    with pytest.raises(BadRequest, match='expected "always" or "never"'):
        read_options({b"x-gateway-sample": b"often"}, MAY)


def test_a_target_is_requested_by_name_for_the_router_to_check() -> None:
    assert read_options({b"x-gateway-target": b"u/m"}, MAY).target == "u/m"
    assert read_options({}, MAY).target is None


@pytest.mark.parametrize(
    ("value", "seconds"), [(b"5", 5.0), (b"0.25", 0.25), (b"0", None), (b"-1", None), (b"nan", None), (b"inf", None)]
)
def test_a_shorter_time_is_a_positive_number_of_seconds(value: bytes, seconds: float | None) -> None:
    headers = {b"x-gateway-timeout-s": value}
    if seconds is None:
        with pytest.raises(BadRequest, match="positive number"):
            read_options(headers, Caller("web"))
    else:
        assert read_options(headers, Caller("web")).timeout_s == seconds


@pytest.mark.parametrize(
    ("spelling", "meant"),
    [
        ('"Model"', "model"),
        ('"MODEL"', "model"),
        ('"mode\\u004c"', "model"),
        ('"\\u004dodel"', "model"),
        ('"Stream"', "stream"),
        ('"\u017ftream"', "stream"),
        ('"\\u017ftream_Options"', "stream_options"),
        ('"me\u017f\u017fages"', "messages"),
        ('"max_to\u212aens"', "max_tokens"),
        ('"prompt_cache_\\u212aey"', "prompt_cache_key"),
        ('"Previous_Response_ID"', "previous_response_id"),
    ],
)
@pytest.mark.parametrize("large", [False, True], ids=["parsed", "scanned"])
async def test_names_that_differ_only_in_case_are_refused(
    gateway: Any, upstream: FakeUpstream, spelling: str, meant: str, large: bool
) -> None:
    """Go's encoding/json would read them as the member that the gateway has authorized or replaced."""
    padding = "x" * ((1 << 20) if large else 1)
    body = f'{{"model":"chat","messages":[{{"role":"user","content":"{padding}"}}],{spelling}:"BIG"}}'
    reply = await gateway.client.post("/chat/completions", content=body.encode())
    assert reply.status_code == 400
    assert f'"{meant}"' in reply.json()["error"]["message"]
    assert reply.json()["error"]["param"] == json.loads(spelling)
    assert not upstream.received


URLENCODED = (b"content-type", b"application/x-www-form-urlencoded")
DISGUISED_FORMS = {
    "a form": [URLENCODED],
    "parts": [(b"content-type", b"multipart/form-data; boundary=b")],
    "a form before JSON": [
        (b"content-type", b"application/x-www-form-urlencoded"),
        (b"content-type", b"application/json"),
    ],
    "another charset": [(b"content-type", b"application/json; charset=utf-7")],
    "nothing": [],
}


@pytest.mark.parametrize("headers", DISGUISED_FORMS.values(), ids=DISGUISED_FORMS.keys())
async def test_a_body_read_as_json_is_sent_as_json(gateway: Any, upstream: FakeUpstream, headers: Any) -> None:
    """An upstream that goes by the content-type would read the model BIG of the form within the text."""
    body = b'{"model":"chat","messages":[{"role":"user","content":"&model=BIG&messages=x&"}]}'
    assert parse_qs(body)[b"model"] == [b"BIG"]
    request = httpx2.Request("POST", gateway.base_url + "/chat/completions", content=body)
    sent = [(b"authorization", b"Bearer test-key"), *headers]
    request.headers = httpx2.Headers([*request.headers.raw, *sent])
    assert (await gateway.client.send(request)).status_code == 200
    [call] = upstream.received
    assert [value for name, value in call.headers if name == "content-type"] == ["application/json"]


async def test_unknown_members_pass_in_any_case(gateway: Any, upstream: FakeUpstream) -> None:
    assert (await gateway.chat(Models="x", myModel=1, vendor_X={"Model": "nested"})).status_code == 200
    assert upstream.received[0].json["vendor_X"] == {"Model": "nested"}


def test_a_body_of_very_many_values_is_not_built() -> None:
    """1 MB of `{"a":[]}` takes 30 MB as objects, and would be held for the whole call."""
    dense = b'{"model":"m","messages":[' + b",".join([b'{"a":[]}'] * 100_000) + b"]}"
    tracemalloc.start()
    try:
        read(dense)
        assert tracemalloc.get_traced_memory()[1] < len(dense) / 10
    finally:
        tracemalloc.stop()


def test_two_callers_with_one_idempotency_key_have_two_upstream() -> None:
    def sent(name: str, key: bytes) -> bytes:
        source: Any = SimpleNamespace(loop=None, peer="")
        headers = [(b"idempotency-key", key)]
        request = ServerRequest(source, b"POST", b"/v1/chat/completions", b"", headers, keep_alive=True, http10=False)
        body = json.dumps({"model": "chat", "messages": USER}).encode()
        call = read_call(ENDPOINTS[b"/chat/completions"], Caller(name), request, body, 7.0)
        return dict(call.headers)[b"idempotency-key"]

    assert sent("web", b"once") == sent("web", b"once") != sent("lab", b"once")
    assert sent("web", b"once") != sent("web", b"twice")


@pytest.mark.parametrize(
    "query", [b"model=BIG", b"a=1&model=BIG", b"MODEL=BIG", b"m%6fdel=BIG", b"a=1;model=x", b"model"]
)
def test_a_model_in_the_query_is_refused(query: bytes) -> None:
    with pytest.raises(BadRequest, match="query has a parameter"):
        read({"model": "chat", "messages": USER}, query=query)


def test_other_parameters_of_the_query_pass() -> None:
    assert read({"model": "chat", "messages": USER}, query=b"api-version=1&x=model").path.endswith(b"x=model")


async def test_an_unknown_encoding_is_refused_by_its_name(gateway: Any, upstream: Any) -> None:
    body = zlib.compress(json.dumps({"model": "chat", "messages": [{"role": "user", "content": "x"}]}).encode())
    reply = await gateway.client.post("/chat/completions", content=body, headers={"content-encoding": "deflate"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (415, "unsupported_content_encoding")
    assert "without content-encoding" in reply.json()["error"]["message"]
    assert not upstream.calls


def a_bomb(members: int, value: bytes = b"1", name: str = "m%d") -> bytes:
    """A chat request with this number of additional members."""
    more = b"".join(b',"%b":%b' % ((name % n if "%" in name else name).encode(), value) for n in range(members))
    return b'{"model":"chat","messages":[{"role":"user","content":"hi"}]' + more + b"}"


@pytest.mark.parametrize("value", [b"1", b'"' + b"x" * 40 + b'"', b'{"a":[1,2,3]}'], ids=["dense", "long", "nested"])
@pytest.mark.parametrize("members", [998, 999, 20_000])
def test_no_request_has_more_than_a_thousand_members(members: int, value: bytes) -> None:
    body = a_bomb(members, value)
    if members == 998:
        assert read(body).alias == "chat"
        return
    with pytest.raises(BadRequest, match="more than 1000 top-level members"):
        read(body)


def test_a_member_that_is_repeated_counts_each_time() -> None:
    with pytest.raises(TooManyMembers) as refused:
        read(a_bomb(20_000, name="seed"))
    assert refused.value.status == 400


def calls_to_refuse(body: bytes) -> int:
    """Calls of functions that the gateway's code makes to refuse a body: the work that holds up all other calls."""
    counted = 0

    def count(frame: FrameType, event: str, _: Any) -> None:
        nonlocal counted
        counted += event in ("call", "c_call") and "/gateway/" in frame.f_code.co_filename

    sys.setprofile(count)
    try:
        with contextlib.suppress(BadRequest):
            read(body)
    finally:
        sys.setprofile(None)
    return counted


def test_a_body_with_more_members_takes_no_more_work() -> None:
    """Work grew with their number: 100 000 took the event loop half a second."""
    some, many = calls_to_refuse(a_bomb(10_000)), calls_to_refuse(a_bomb(100_000))
    assert many <= some + 10
    assert many < 15 * MOST_MEMBERS


ELSEWHERE = ["models", "route", "fallbacks", "Models", "FALLBACKS", "context_window_fallbacks"]


@pytest.mark.parametrize("name", ELSEWHERE)
def test_a_key_with_a_list_of_models_names_no_others(name: str) -> None:
    body = {"model": "chat", "messages": USER, name: ["openai/gpt-x"]}
    with pytest.raises(NotAllowed) as refused:
        read(body, models=frozenset({"chat"}))
    assert (refused.value.status, refused.value.param) == (403, name)
    nested = {"model": "chat", "messages": USER, "extra_body": {name: ["openai/gpt-x"]}}
    with pytest.raises(NotAllowed) as refused:
        read(nested, models=frozenset({"chat"}))
    assert refused.value.param == f"extra_body.{name}"
    assert read(body).alias == "chat", "a key for all models may name others"


def test_a_key_with_a_list_of_models_names_none_in_extra_body() -> None:
    body = {"model": "chat", "messages": USER, "extra_body": {"Model": "openai/gpt-x"}}
    with pytest.raises(NotAllowed) as refused:
        read(body, models=frozenset({"chat"}))
    assert refused.value.param == "extra_body.Model"
    assert read(body).alias == "chat"


def test_a_key_with_a_list_of_models_may_name_a_provider() -> None:
    assert read(
        {"model": "chat", "messages": USER, "provider": {"data_collection": "deny"}}, models=frozenset({"chat"})
    )


LONE = [
    (rb'{"model":"m","messages":[{"role":"user","content":"\ud83d"}]}', rb"\ud83d"),
    (rb'{"model":"m","messages":[{"role":"user","content":"a\ud83d b"}]}', rb"\ud83d"),
    (rb'{"model":"m","messages":[{"role":"user","content":"\ude00"}]}', rb"\ude00"),
    (rb'{"model":"m","messages":[{"role":"user","content":"\ud83d\ude00 \uDE00"}]}', rb"\uDE00"),
    (rb'{"model":"m","messages":[{"role":"user","content":"\\\\\ud83d"}]}', rb"\ud83d"),
    (rb'{"model":"m","user":"\ud83d","messages":[{"role":"user","content":"x"}]}', rb"\ud83d"),
]


@pytest.mark.parametrize(("body", "half"), LONE, ids=range(len(LONE)))
def test_half_of_a_surrogate_pair_is_named(body: bytes, half: bytes) -> None:
    with pytest.raises(BadRequest, match="half of a surrogate pair") as refused:
        read_object(body)
    assert f"({half.decode()}, at byte {body.rindex(half)})" in refused.value.message


def test_other_mistakes_keep_their_own_words() -> None:
    for body in (rb'{"a":"\ud83d\ude00"', rb'{"a":"\\ud83d",', b'{"a":tru}'):
        with pytest.raises(BadRequest, match="not valid JSON"):
            read_object(body)


@pytest.mark.parametrize(("value", "found"), [(b"1", "a number"), (b"{}", "an object"), (b"true", "a boolean")])
@pytest.mark.parametrize("path", [b"/responses", b"/responses/compact", b"/responses/input_tokens"])
def test_input_that_no_server_takes_is_refused(path: bytes, value: bytes, found: str) -> None:
    with pytest.raises(BadRequest, match=f"input must be a string or an array, not {found}") as refused:
        read(b'{"model":"m","input": %b}' % value, path)
    assert refused.value.param == "input"


@pytest.mark.parametrize("value", [b'"a"', b"[]", b"null", b'[{"role":"user"}]'])
def test_input_that_a_server_may_take_passes(value: bytes) -> None:
    assert read(b'{"model":"m","input": %b}' % value, b"/responses").alias == "m"
