"""Sends anything over a raw socket: there is never a 5xx of the gateway's own making, no hang, no traceback, and the
next call is answered. The upstream here says 200 to everything that reaches it."""

from __future__ import annotations

# ruff: noqa: E501 - what is sent is on the line that names it
import asyncio
import json
import logging
import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from fixtures.examples import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.fake import FakeUpstream
from gateway.proxy.request.endpoints import ENDPOINTS, read_form, read_json

FUZZ = settings(
    max_examples=examples(200),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
HANG_S = 60
STATUS = re.compile(rb"HTTP/1\.1 (\d{3})[^\r]*\r\n")
KEYS = b"host: x\r\nauthorization: Bearer test-key\r\n"
MESSAGE = {"index": 0, "message": {"role": "assistant", "content": "ok"}, "finish_reason": "stop"}
ANYTHING = {
    "id": "x", "type": "message", "role": "assistant", "content": [{"type": "text", "text": "ok"}],
    "stop_reason": "end_turn", "model": "m", "choices": [MESSAGE],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "input_tokens": 1, "output_tokens": 1},
}  # fmt: skip
NO_MODEL = {"messages": [{"role": "user", "content": "x"}]}
CHAT = {"model": "chat", **NO_MODEL}
JSON_PATHS = sorted(path.decode() for path, e in ENDPOINTS.items() if e.read is read_json and e.api != "count_tokens")
FORM_PATHS = sorted(path.decode() for path, e in ENDPOINTS.items() if e.read is read_form)


@pytest.fixture
async def gateway(start: Any, configured: Callable[..., Any], upstream: FakeUpstream, caplog: Any) -> Any:
    """Names for an upstream of each language; one for which the request's text decides; other paths are passed on."""
    upstream.answers(200, json.dumps(ANYTHING).encode())
    caplog.set_level(logging.WARNING)
    config = configured(upstream, passthrough="u0", limits={"max_body_mb": 4})
    config["upstreams"]["claude"] = {"kind": "anthropic", "base_url": upstream.base_url}
    config["upstreams"]["vllm"] = {"kind": "vllm", "base_url": upstream.base_url}
    two = [{"upstream": n, "model": "m"} for n in ("u0", "vllm")]
    config["models"]["claude"] = {"targets": [{"upstream": "claude", "model": "claude-x"}]}
    config["models"]["prefix"] = {"targets": two, "strategy": "prefix"}
    config["models"]["session"] = {"targets": two, "strategy": "session"}
    config["sampling"]["rules"] = [{"when": {"finish_reason": "length"}, "rate": 1.0}]
    return await start(config)


def request(body: bytes, path: str = "/chat/completions", more: bytes = b"") -> bytes:
    head = f"POST /v1{path} HTTP/1.1\r\nconnection: close\r\ncontent-length: {len(body)}\r\n".encode()
    return head + KEYS + more + b"\r\n" + body


async def say(gateway: Any, *pieces: bytes, shut: bool = False) -> bytes:
    """Sends the pieces and gives all that comes back until the connection closes. shut: we close our half first."""
    host, port = gateway.base_url.removeprefix("http://").removesuffix("/v1").split(":")
    async with asyncio.timeout(HANG_S):
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            if shut:
                writer.write_eof()
            return await reader.read()
        except (ConnectionResetError, BrokenPipeError):
            return b""
        finally:
            writer.close()


def judge(reply: bytes) -> list[int]:
    """The statuses of what came back."""
    statuses = [int(s) for s in STATUS.findall(reply)]
    assert b"Traceback" not in reply
    assert b"Internal Server Error" not in reply
    for status in statuses:
        of_ours = b"not_implemented" in reply or reply.endswith(b"\r\n\r\n")  # the latter: to HEAD, without a body
        known = status < 500 or (status == 501 and of_ours)
        assert known, reply
    return statuses


async def well(gateway: Any, caplog: Any) -> None:
    """The process answers a normal call, and nothing has gone wrong in it."""
    assert (await gateway.chat()).status_code == 200
    wrong = [r for r in caplog.records if r.levelno >= logging.ERROR]
    assert not wrong, [r.getMessage() + str(r.exc_info) for r in wrong]
    await gateway.until(lambda: not any(p.in_flight for p in gateway.gateway.router.target_states))


TEXTS = st.text(alphabet=st.characters(codec=None), max_size=12) | st.sampled_from(
    ["\x00", "\ud800", "\udfff\ud83d", "é"]
)
NUMBERS = st.integers() | st.floats() | st.sampled_from([10**400, -(2**63) - 1, 2**64, 1e308, 0, -1])
LEAVES = st.none() | st.booleans() | NUMBERS | TEXTS
VALUES = st.recursive(LEAVES, lambda v: st.lists(v, max_size=3) | st.dictionaries(TEXTS, v, max_size=3), max_leaves=8)
NAMES = st.sampled_from(
    ["messages", "stream", "stream_options", "n", "tools", "tool_choice", "functions", "response_format", "metadata",
     "user", "prompt", "input", "max_tokens", "stop", "logprobs", "conversation", "previous_response_id", "system",
     "model", "audio", "query", "documents", "tokens", "instructions", "thinking", "reasoning_effort", "temperature"]
)  # fmt: skip
PARTS = st.dictionaries(
    st.sampled_from(["role", "content", "type", "text", "image_url", "tool_calls", "tool_call_id", "name", "source"]),
    VALUES | st.sampled_from(["user", "assistant", "system", "tool", "text", "image_url"]),
    max_size=4,
)
MODELS = st.sampled_from(["chat", "claude", "prefix", "session"])
FIELDS = st.dictionaries(NAMES, VALUES | st.lists(PARTS, max_size=3), max_size=4)
SOUND = {
    "messages": NO_MODEL["messages"],
    "prompt": "x",
    "input": "x",
    "query": "x",
    "documents": ["x"],
    "max_tokens": 5,
}


@FUZZ
@given(path=st.sampled_from(JSON_PATHS), model=MODELS, fields=FIELDS)
async def test_members_of_any_type(gateway: Any, caplog: Any, path: str, model: str, fields: dict[str, Any]) -> None:
    """A request that is right but for some members."""
    body = json.dumps({**SOUND, "model": model, **fields}).encode()
    assert judge(await say(gateway, request(body, path)))
    await well(gateway, caplog)


@FUZZ
@given(
    path=st.sampled_from(JSON_PATHS + FORM_PATHS),
    at=st.integers(0, 60),
    cut=st.integers(0, 8),
    put=st.binary(max_size=6)
    | st.sampled_from([b'"', b"\\", b"{", b"[[", b"\x00", b"\xff", b"\\ud800", b",,", b"1e999"]),
)
async def test_bytes_that_are_almost_json(gateway: Any, caplog: Any, path: str, at: int, cut: int, put: bytes) -> None:
    body = json.dumps({**CHAT, "n": 1, "metadata": {"a": "b"}}).encode()
    body = body[:at] + put + body[at + cut :]
    assert judge(await say(gateway, request(body, path)))
    await well(gateway, caplog)


@FUZZ
@given(
    path=st.sampled_from(FORM_PATHS),
    pieces=st.lists(
        st.sampled_from(
            [b"--b", b"--b--", b"\r\n", b"\r\n\r\n", b'Content-Disposition: form-data; name="model"', b"chat", b"\x00\xff",
             b"content-disposition: form-data; name=model", b'; filename="x"', b"--b\r\n", b"--" + b"b" * 80, b"\n"]
        ),
        max_size=12,
    ),
)  # fmt: skip
async def test_forms_out_of_joint(gateway: Any, caplog: Any, path: str, pieces: list[bytes]) -> None:
    more = b"content-type: multipart/form-data; boundary=b\r\n"
    assert judge(await say(gateway, request(b"".join(pieces), path, more)))
    await well(gateway, caplog)


def nested(levels: int, opening: str = "[", closing: str = "]") -> bytes:
    return b'{"model":"chat","messages":%b%b}' % (opening.encode() * levels, closing.encode() * levels)


NOT_READ = {
    "10 000 lists deep": nested(10_000),
    "10 000 objects deep": nested(10_000, '{"a":', "}"),
    "1 000 000 lists deep": nested(1_000_000),
    "a million lists that never close": nested(1_500_000, closing=""),
    "NUL": b"\x00" * 50,
    "a NUL in a string": b'{"model":"chat\x00","messages":[{}]}',
    "half a surrogate pair": b'{"model":"chat","messages":[{"role":"user","content":"\\ud83d"}]}',
    "bytes that are no UTF-8": b'{"model":"chat","messages":[{"content":"\xc3"}]}',
    "two objects": b'{"model":"chat"}{"model":"chat"}',
    "a comment": b'{"model":"chat",/* x */"messages":[{}]}',
    "NaN": b'{"model":"chat","messages":[{}],"temperature":NaN}',
    "a byte order mark": b'\xef\xbb\xbf{"model":"chat","messages":[{}]}',
    "UTF-16": json.dumps(CHAT).encode("utf-16"),
    "a list": b"[]",
    "a number": b"7",
    "spaces": b"   ",
    "large and cut": b'{"model":"chat","messages":[{"content":"' + b"x" * 1_200_000,
    "large with a bad name": b'{"a":"' + b"x" * 1_200_000 + b'","\\ud800":1,"model":"chat"}',
}


@pytest.mark.parametrize("path", ["/chat/completions", "/messages", "/responses"])
async def test_a_body_that_is_not_json_is_a_400_in_few_steps(
    gateway: Any, upstream: FakeUpstream, caplog: Any, path: str, steps: Any
) -> None:
    """The other calls wait meanwhile."""
    for name, body in NOT_READ.items():
        with steps() as counted:
            reply = await say(gateway, request(body, path))
        assert judge(reply) == [400], name
        assert b"application/json" in reply
        assert counted.n < 100_000, name
    assert not upstream.calls
    await well(gateway, caplog)


SAID = '"messages":[{"role":"user","content":"x"}]'


def tools(levels: int) -> str:
    schema = '{"a":' * levels + "1" + "}" * levels
    function = f'{{"name":"f","parameters":{schema}}}'
    return f'{SAID},"tools":[{{"name":"f","input_schema":{schema},"type":"function","function":{function}}}]'


def called(levels: int) -> str:
    given = '{"a":' * levels + "1" + "}" * levels
    block = f'{{"type":"tool_use","id":"t","name":"f","input":{given}}}'
    return f'"messages":[{{"role":"assistant","content":[{block}]}}]'


LARGE = "x" * 1_200_000
ODD = {
    "content 500 levels deep": f'"messages":[{{"role":"user","content":[{{"text":{"[" * 500}{"]" * 500}}}]}}]',
    "tools 500 levels deep": tools(500),
    "tools 1000 levels deep": tools(1000),
    "a tool's input 500 levels deep": called(500),
    "a tool's input 1000 levels deep": called(1000),
    "a number of 5000 digits": f'{SAID},"seed":{"9" * 5000}',
    "1e999": f'{SAID},"temperature":1e999',
    "the same name twice": f"{SAID},{SAID}",
    "the model twice": f'{SAID},"model":"MODEL"',
    "an escaped name": f'{SAID},"\\u006dodel":"MODEL"',
    "a large body that is wrong inside": f'"messages":[{{"role":"user","content":"{LARGE}",}}],"x":[}}]',
    "a large body that is right": f'"messages":[{{"role":"user","content":"{LARGE}"}}]',
    "a long previous response": f'{SAID},"previous_response_id":"{"r" * 100_000}"',
    "a conversation of NULs": f'{SAID},"conversation":"\\u0000\\n"',
}


@pytest.mark.parametrize("path", ["/chat/completions", "/messages", "/responses"])
async def test_odd_json_is_answered(gateway: Any, caplog: Any, path: str) -> None:
    """Passed on where its bytes pass; where it must be translated and cannot be, a 400."""
    for model in ("chat", "claude", "prefix", "session"):
        for name, odd in ODD.items():
            body = f'{{"model":"{model}","max_tokens":5,{odd.replace("MODEL", model)}}}'.encode()
            statuses = judge(await say(gateway, request(body, path)))
            unsealed = path == "/responses" and name == "a long previous response"  # no id of ours: it does not exist
            assert statuses in ([[404]] if unsealed else [[200], [400]]), name
    await well(gateway, caplog)


TOKENS = st.sampled_from(
    [b"GET", b"POST", b"PUT", b"HEAD", b"OPTIONS", b"TRACE", b"CONNECT", b"PRI", b"M-SEARCH", b"FOO", b"get", b""]
)
PATHS = st.sampled_from(
    [b"/", b"*", b"//", b"/v1", b"/v1/", b"/v1/models", b"/v1/models/%00", b"/v1/models/%ff%fe", b"/v1/../metrics", b"/%2e%2e/",
     b"/v1/chat/completions", b"/v1/chat/completions/", b"/v1//chat/completions", b"http://evil/v1/models", b"evil:80",
     b"/v1/responses/%2e%2e", b"/v1/responses/x/../../models", b"/v1/files?a=%0d%0aX: y", b"/v1/\xc3\xa9", b"/metrics?x",
     b"/v1/responses/" + b"r" * 5000, b"/" + b"a" * 70_000, b"/v1/realtime", b"/health#x", b"?", b"/v1/tokenize"]
)  # fmt: skip
HEADERS = st.lists(
    st.sampled_from(
        [b"host: [", b"host: x\r\nhost: y", b"host:", b"content-length: 0", b"content-length: -1", b"content-length: 1e3",
         b"content-length: 99999999999999999999", b"content-length: 5\r\ncontent-length: 6", b"transfer-encoding: chunked",
         b"transfer-encoding: gzip, chunked", b"transfer-encoding: identity", b"transfer-encoding : chunked",
         b"transfer-encoding:\tchunked", b"connection: upgrade\r\nupgrade: websocket", b"upgrade: h2c\r\nconnection: upgrade",
         b"expect: 100-continue", b"expect: 999", b"authorization: Bearer test-key", b"authorization: Bearer \xff\xfe",
         b"authorization: \x00", b"x-api-key: test-key", b"x-gateway-sample: \xff", b"x-gateway-timeout-s: nan",
         b"x-gateway-timeout-s: 1e309", b"x-gateway-target: u0/model-u0", b"x-request-id: a\tb", b"traceparent: a\r\n b",
         b"user-agent: \xf0\x9f\x99\x82", b"accept: " + b"a" * 9000, b"x-stainless-: 1", b" folded", b"no colon", b": empty",
         b"a\x00b: c", b"content-type: multipart/form-data", b"origin: null", b"connection: close", b"connection: x,,close",
         b"x-gateway-conversation: " + b"c" * 500, b"idempotency-key: \x7f", b"te: trailers", b"range: bytes=0-1"]
    ),
    max_size=6,
)  # fmt: skip
ENDS = st.sampled_from([b"\r\n\r\n", b"\n\n", b"\r\n", b"\n", b"", b"\r\r"])
BODIES = st.sampled_from(
    [b"", json.dumps(CHAT).encode(), b"5\r\nhello\r\n0\r\n\r\n", b"zz\r\nx\r\n", b"-1\r\n", b"ffffffffffffffffff\r\n", b"5;a=b\r\nhel",
     b"0\r\nX: y\r\n\r\n", b"0\r\n\r\nGET /health HTTP/1.1\r\nhost: x\r\n\r\n", b"\x00\x01\x02", b"5\nhello\n0\n\n"]
)  # fmt: skip


@settings(FUZZ, max_examples=examples(500))
@given(
    method=TOKENS,
    path=PATHS,
    version=st.sampled_from([b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"HTTP/9", b"", b"HTTP/1.1 "]),
    headers=HEADERS,
    end=ENDS,
    body=BODIES,
)
async def test_heads_of_any_kind(
    gateway: Any, caplog: Any, method: bytes, path: bytes, version: bytes, headers: list[bytes], end: bytes, body: bytes
) -> None:
    """We close our half at the end, so that a request which is not whole comes to its end too."""
    judge(
        await say(gateway, b" ".join([method, path, version]) + b"\r\n" + b"\r\n".join(headers) + end + body, shut=True)
    )
    await well(gateway, caplog)


@FUZZ
@given(data=st.binary(max_size=200), cuts=st.lists(st.integers(0, 200), max_size=4))
async def test_noise(gateway: Any, caplog: Any, data: bytes, cuts: list[int]) -> None:
    places = sorted({0, *cuts, len(data)})
    judge(await say(gateway, *[data[a:b] for a, b in pairwise(places)], shut=True))
    await well(gateway, caplog)


@FUZZ
@given(
    sizes=st.lists(st.integers(1, 40), max_size=8),
    upper=st.booleans(),
    extension=st.sampled_from([b"", b";a=b", b';q="x"']),
)
async def test_a_body_in_any_chunks_is_the_same_body(
    gateway: Any, upstream: FakeUpstream, caplog: Any, sizes: list[int], upper: bool, extension: bytes
) -> None:
    body = json.dumps(CHAT).encode()
    pieces, at = [], 0
    for size in [*sizes, len(body)]:
        data = body[at : at + size]
        at += size
        digits = b"%X" % len(data) if upper else b"%x" % len(data)
        pieces += [digits + extension + b"\r\n" + data + b"\r\n"] if data else []
    head = b"POST /v1/chat/completions HTTP/1.1\r\nconnection: close\r\ntransfer-encoding: chunked\r\n" + KEYS + b"\r\n"
    assert judge(await say(gateway, head, *pieces, b"0\r\n\r\n")) == [200]
    assert upstream.calls[-1].json == {**CHAT, "model": "model-u0"}
    await well(gateway, caplog)


@FUZZ
@given(
    at=st.integers(1, 300),
    chunked=st.booleans(),
    path=st.sampled_from(["/chat/completions", "/audio/speech", "/files"]),
)
async def test_a_request_cut_anywhere_reaches_nobody(
    gateway: Any, upstream: FakeUpstream, caplog: Any, at: int, chunked: bool, path: str
) -> None:
    body = json.dumps(CHAT).encode()
    whole = request(body, path)
    if chunked:
        framed = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        whole = whole.replace(b"content-length: %d" % len(body), b"transfer-encoding: chunked").replace(body, framed)
    before = len(upstream.calls)
    assert await say(gateway, whole[: min(at, len(whole) - 1)], shut=True) == b""
    assert len(upstream.calls) == before
    await well(gateway, caplog)


JSON = json.dumps(CHAT).encode()
GET = b"GET /v1/models HTTP/1.1\r\n" + KEYS + b"\r\n"
SMUGGLED = {
    "both lengths": b"content-length: %d\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n" % len(GET) + GET,
    "both lengths, the other order": b"transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n" + GET,
    "two lengths": b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello" + GET,
    "a list of lengths": b"content-length: 5, 5\r\n\r\nhello" + GET,
    "a signed length": b"content-length: +5\r\n\r\nhello" + GET,
    "a hexadecimal length": b"content-length: 0x5\r\n\r\nhello" + GET,
    "chunked not last": b"transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n" + GET,
    "an unknown coding": b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n" + GET,
    "a space before the colon": b"transfer-encoding : chunked\r\n\r\n0\r\n\r\n" + GET,
    "a chunk size with rubbish": b"transfer-encoding: chunked\r\n\r\n0x0\r\n\r\n" + GET,
    "a chunk longer than its size": b"transfer-encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n" + GET,
    "a header without a name": b": x\r\n\r\n" + GET,
    "a bare CR in a header": b"x: a\rtransfer-encoding: chunked\r\n\r\n0\r\n\r\n" + GET,
    "NUL in a header": b"x: a\x00b\r\n\r\n" + GET,
}


@pytest.mark.parametrize("framing", SMUGGLED.values(), ids=SMUGGLED)
async def test_an_ambiguous_request_is_refused_and_closed(
    gateway: Any, upstream: FakeUpstream, caplog: Any, framing: bytes
) -> None:
    """Bytes that a proxy before us takes for one caller's body would otherwise be a second caller's request to us."""
    reply = await say(gateway, b"POST /v1/files HTTP/1.1\r\n" + KEYS + framing)
    assert judge(reply) == [400], reply
    assert not upstream.calls
    await well(gateway, caplog)


async def test_a_folded_header_is_one_line_upstream_or_refused(
    gateway: Any, upstream: FakeUpstream, caplog: Any
) -> None:
    body = json.dumps(CHAT).encode()
    statuses = judge(await say(gateway, request(body, more=b"traceparent: a\r\n b: c\r\n\tauthorization: x\r\n")))
    assert statuses in ([200], [400])
    for call in upstream.calls:
        assert [n for n, _ in call.headers].count("authorization") == 0
    await well(gateway, caplog)


async def test_pipelined_requests_are_answered_in_their_order(gateway: Any, caplog: Any) -> None:
    last = GET.replace(b"host", b"connection: close\r\nhost")
    reply = await say(gateway, request(JSON).replace(b"connection: close\r\n", b"") + GET + last)
    assert judge(reply) == [200, 200, 200]
    assert reply.count(b'"object":"list"') == 2
    await well(gateway, caplog)


START = b"GET /v1/models HTTP/1.1\r\nhost: x\r\n"
ENDLESS = {
    "one header": [START, b"x: ", *[b"a" * 65_536] * 20],
    "many headers": [START, *[b"".join(b"x-%d: a\r\n" % i for i in range(9000))] * 20],
    "the path": [b"GET /v1/", *[b"a" * 65_536] * 20],
}


@pytest.mark.parametrize("pieces", ENDLESS.values(), ids=ENDLESS)
async def test_a_head_without_end_is_cut_off(gateway: Any, caplog: Any, pieces: list[bytes]) -> None:
    """Such a head would fill the memory. The answer may be lost, as the client keeps sending; the end of the connection
    is not.
    """
    assert judge(await say(gateway, *pieces)) in ([], [400], [431])
    await well(gateway, caplog)


@pytest.fixture
async def impatient(start: Any, configured: Callable[..., Any], upstream: FakeUpstream, caplog: Any) -> Any:
    """A gateway that waits half a second for a head."""
    caplog.set_level(logging.WARNING)
    return await start(configured(upstream, passthrough="u0"), head_s=0.5)


@pytest.mark.parametrize(
    "beginning", [b"", START, b"\r\n", b"POST /v1/chat/comp"], ids=["silence", "half", "blank", "line"]
)
async def test_a_head_that_does_not_come_in_time_ends_the_connection(
    impatient: Any, caplog: Any, beginning: bytes
) -> None:
    reply = await say(impatient, beginning)
    assert judge(reply) == [408]
    assert b'"error"' in reply
    await well(impatient, caplog)


async def test_the_head_of_a_second_request_has_its_own_time(impatient: Any, caplog: Any) -> None:
    """A second head on a kept connection has a time too; a whole head, however slow its body, is in time."""
    assert judge(await say(impatient, GET, START)) == [200, 408]
    whole = request(JSON)

    async def slowly() -> bytes:
        host, port = impatient.base_url.removeprefix("http://").removesuffix("/v1").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(whole[:-5])
        await impatient.until(lambda: sum(impatient.gateway.calls.values()) == 1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 1.2)
        writer.write(whole[-5:])
        answer = await reader.read()
        writer.close()
        return answer

    assert judge(await slowly()) == [200]
    await well(impatient, caplog)
