"""Each endpoint's answers are priced, unpriced, or free for a stated reason: one table of all of them, over sockets."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import pytest
from fixtures.vendor_doubles import USAGE

from gateway.core.usage import UsageSums
from gateway.fake import FakeAnswer, FakeUpstream
from gateway.proxy.app import ROUTES
from gateway.proxy.limits.accounting import ACCOUNTING
from gateway.proxy.request.call import Api
from gateway.proxy.request.endpoints import AT_ROOT
from gateway.proxy.request.output_limit import GENERATES

Configured = Callable[..., dict[str, Any]]
PRICES = {"as_of": "2026-12-01", "models": {"model-u0": {"input": 1.0, "output": 10.0}}}
HI = [{"role": "user", "content": "hi"}]
NANO = 1000  # nano-dollars of an input token
OPENAIS = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
AUDIO = {"type": "tokens", "input_tokens": 10, "output_tokens": 5, "total_tokens": 15}
AUDIO |= {"input_token_details": {"text_tokens": 0, "audio_tokens": 10}}
SECONDS = {"type": "duration", "seconds": 7}
COST = (Path(__file__).parents[2] / "docs/teams.md").read_text("utf-8")
PAID = 10 * NANO + 5 * 10 * NANO


@dataclass(frozen=True)
class Case:
    """A request of an endpoint, and an answer of its upstream. usage: the member that reports the usage."""

    path: str
    body: dict[str, Any]
    answer: dict[str, Any] = field(default_factory=dict)
    usage: dict[str, Any] = field(default_factory=lambda: {"usage": OPENAIS})
    kind: str = "openai"
    form: bool = False


CHOICES = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}]}
MESSAGE = {"type": "message", "id": "m", "role": "assistant", "content": [{"type": "text", "text": "hi"}]}
CLAUDE = {"usage": {"input_tokens": 10, "output_tokens": 5}}
RESPONSE = {"object": "response", "id": "r", "status": "completed", "output": []}
CANDIDATES = {"candidates": [{"content": {"parts": [{"text": "hi"}]}, "finishReason": "STOP"}]}
GOOGLE = {"usageMetadata": {"promptTokenCount": 10, "candidatesTokenCount": 5}}
CONVERSED = {"output": {"message": {"role": "assistant", "content": [{"text": "hi"}]}}, "stopReason": "end_turn"}
AWS = {"usage": USAGE | {"inputTokens": 10, "outputTokens": 5}}
CONTENTS = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}
BLOCKS = {"messages": [{"role": "user", "content": [{"text": "hi"}]}]}
ASKED = {"type": "predicate", "instructions": "It is."}
DECIDED = {"type": "predicate", "probability": 0.5}
CASES = [
    Case("/v1/chat/completions", {"messages": HI}, CHOICES),
    Case("/v1/chat/completions/batch", {"messages": [HI]}, CHOICES),
    Case("/v1/completions", {"prompt": "hi"}, {"choices": [{"text": "hi", "index": 0, "finish_reason": "stop"}]}),
    Case("/inference/v1/generate", {"token_ids": [1, 2]}, {"choices": [{"token_ids": [1, 2]}]}),
    Case("/v1/responses", {"input": "hi"}, RESPONSE, CLAUDE),
    Case("/v1/responses/compact", {"input": "hi"}, {"object": "response.compaction", "output": []}, CLAUDE),
    Case("/v1/responses/input_tokens", {"input": "hi"}, {"object": "response.input_tokens", "input_tokens": 10}),
    Case("/v1/messages", {"messages": HI, "max_tokens": 9}, MESSAGE, CLAUDE, "anthropic"),
    Case("/v1/messages/count_tokens", {"messages": HI}, {"input_tokens": 10}, CLAUDE, "anthropic"),
    Case("/v1/embeddings", {"input": "hi"}, {"object": "list", "data": []}, {"usage": {"prompt_tokens": 10}}),
    Case("/v2/embed", {"texts": ["hi"]}, {"embeddings": {}}),
    Case("/v1/moderations", {"input": "hi"}, {"results": [{"flagged": False}]}),
    Case("/v1/rerank", {"query": "a", "documents": ["b"]}, {"results": []}),
    Case("/v2/rerank", {"query": "a", "documents": ["b"]}, {"results": []}),
    Case("/v1/score", {"text_1": "a", "text_2": "b"}, {"data": []}),
    Case("/v1/classify", {"input": "a"}, {"data": []}),
    Case("/v1/pooling", {"input": "a"}, {"data": []}),
    Case("/v1/decisions", {"input": "hi", "questions": [ASKED]}, {"answers": [DECIDED]}, CLAUDE),
    Case("/v1/systemone", {"state": "hi", "questions": {"q": ASKED}}, {"answers": {"q": DECIDED}}, CLAUDE, "vllm"),
    Case("/v1/tokenize", {"prompt": "a"}, {"tokens": [1], "count": 1}),
    Case("/v1/detokenize", {"tokens": [1]}, {"prompt": "a"}),
    Case("/v1/audio/transcriptions", {}, {"text": "hi"}, {"usage": AUDIO}, form=True),
    Case("/v1/audio/translations", {}, {"text": "hi"}, {"usage": AUDIO}, form=True),
    Case("/v1/audio/speech", {"input": "hi", "voice": "alloy"}, {"audio": "UklG"}, {"usage": AUDIO}),
    Case("/v1/images/generations", {"prompt": "a cat"}, {"data": [{"b64_json": "iV"}]}, {"usage": AUDIO}),
    Case("/v1/images/edits", {}, {"data": [{"b64_json": "iV"}]}, {"usage": AUDIO}, form=True),
    Case("/v1beta/models/chat:generateContent", CONTENTS, CANDIDATES, GOOGLE, "gemini_native"),
    Case("/v1beta/models/chat:countTokens", CONTENTS, {"totalTokens": 10}, GOOGLE, "gemini_native"),
    Case("/model/chat/converse", BLOCKS, CONVERSED, AWS, "bedrock_converse"),
    Case("/model/chat/invoke", {"messages": HI, "max_tokens": 9}, MESSAGE, CLAUDE, "bedrock_anthropic"),
    Case("/model/chat/count-tokens", {"input": {}}, {"inputTokens": 10}, AWS, "bedrock_converse"),
]
IDS = [case.path for case in CASES]


def template_of(case: Case) -> bytes:
    path = case.path.encode()
    for given, template in ((b"/models/chat:", b"/models/{model}:"), (b"/model/chat/", b"/model/{model}/")):
        path = path.replace(given, template)
    return path


def api_of(case: Case) -> Api:
    return ROUTES[template_of(case)].api


def test_the_table_knows_every_endpoint() -> None:
    """A new endpoint must say how its calls are paid."""
    assert set(ACCOUNTING) == set(get_args(Api))
    assert {api for api, how in ACCOUNTING.items() if how.basis == "text"} == set(GENERATES)
    assert all(how.reason for how in ACCOUNTING.values())
    assert {api_of(case) for case in CASES} == set(ACCOUNTING) - {"passthrough"}
    streams = {path for path, endpoint in ROUTES.items() if endpoint.streams}
    assert {template_of(case) for case in CASES} == set(ROUTES) - AT_ROOT - streams


def test_the_page_has_the_table() -> None:
    rows = re.findall(r"^\| (`[^|]+`) \| (estimated, input and|estimated, input al|unpriced|free)", COST, re.M)
    words = {"estimated, input and": "text", "estimated, input al": "input"}
    shown = {api: words.get(word, word) for names, word in rows for api in re.findall(r"`(\w+)`", names)}
    assert shown == {api: how.basis for api, how in ACCOUNTING.items()}


async def sums(start: Any, configured: Configured, upstream: FakeUpstream, case: Case, **options: Any) -> UsageSums:
    """The sums of one call that is answered with these options of FakeAnswer."""
    config = configured(upstream, prices=PRICES, sampling={"rate": 0})
    config["upstreams"]["u0"] |= {"kind": case.kind, "api_key": "sk-cloud"}
    gateway = await start(config)
    answer = FakeAnswer(**{"body": json.dumps(case.answer).encode(), **options})
    upstream.replies(lambda received: answer)
    url = gateway.base_url.removesuffix("/v1") + case.path
    sent: dict[str, Any] = {"json": {"model": "chat", **case.body}}
    if case.form:
        sent = {"data": {"model": "chat", **case.body}, "files": {"file": ("a.wav", b"x" * 4000, "audio/wav")}}
    reply = await gateway.client.post(url, **sent)
    assert reply.status_code == 200, reply.text
    return await counted(gateway)


async def counted(gateway: Any) -> UsageSums:
    def counts() -> Any:
        gateway.gateway.metrics.counts.fold()
        return gateway.gateway.recorder.usage.everything()

    await gateway.until(lambda: sum(count.sums.calls for count in counts()) == 1)
    [count] = counts()
    found: UsageSums = count.sums
    return found


@pytest.mark.parametrize("case", CASES, ids=IDS)
async def test_reported_usage_is_paid(start: Any, configured: Configured, upstream: FakeUpstream, case: Case) -> None:
    answer = {**case.answer, **case.usage}
    found = await sums(start, configured, upstream, case, body=json.dumps(answer).encode())
    free = ACCOUNTING[api_of(case)].basis == "free"
    output = 0 if free or case.path == "/v1/embeddings" else 5
    assert (found.unpriced_calls, found.input_tokens, found.output_tokens) == (0, 0 if free else 10, output)
    assert found.nano_usd == (0 if free else 10 * NANO + output * 10 * NANO)


@pytest.mark.parametrize("case", CASES, ids=IDS)
async def test_an_answer_without_usage_is_never_free_without_a_reason(
    start: Any, configured: Configured, upstream: FakeUpstream, case: Case
) -> None:
    found = await sums(start, configured, upstream, case)
    basis = ACCOUNTING[api_of(case)].basis
    assert found.unpriced_calls == (basis == "unpriced")
    assert (found.nano_usd > 0) is (basis in ("text", "input"))


FORM = next(case for case in CASES if case.path == "/v1/audio/transcriptions")
DONE = {"type": "transcript.text.done", "text": 'it says "usage": {}', "usage": AUDIO}
DELTA = {"type": "transcript.text.delta", "delta": "x" * 1000}


def events(*parts: dict[str, Any]) -> dict[str, Any]:
    return {
        "events": [b"event: %b\ndata: %b\n\n" % (p["type"].encode(), json.dumps(p).encode()) for p in parts],
        "stream": True,
        "content_type": "text/event-stream",
    }


WORDS = [{"word": "usage", "start": n, "end": n + 1} for n in range(20_000)]
VERBOSE = {"task": "transcribe", "duration": 7.0, "text": "a", "words": WORDS, "usage": AUDIO}
SPOKEN: list[tuple[str, dict[str, Any], bool]] = [
    ("tokens", {"body": json.dumps({"text": "hi", "usage": AUDIO}).encode()}, True),
    ("a duration", {"body": json.dumps({"text": "hi", "usage": SECONDS}).encode()}, False),
    ("verbose", {"body": json.dumps(VERBOSE).encode()}, True),
    ("usage first", {"body": json.dumps({"usage": AUDIO, "text": "hi", "segments": [{"id": 1}]}).encode()}, True),
    ("a text with the word", {"body": json.dumps({"text": '"usage": {"input_tokens": 1}'}).encode()}, False),
    ("plain text", {"body": b'"usage": {"input_tokens": 1}', "content_type": "text/plain"}, False),
    ("no JSON", {"body": b'{"usage": {"input'}, False),
    ("a stream", events(DELTA, DONE), True),
    ("a long stream", events(*[DELTA] * 700, DONE), True),
    ("a stream that reports a duration", events(DELTA, {**DONE, "usage": SECONDS}), False),
    ("a stream without usage", events(DELTA, {"type": "transcript.text.done", "text": "x"}), False),
]


@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize(("options", "paid"), [case[1:] for case in SPOKEN], ids=[case[0] for case in SPOKEN])
async def test_the_usage_of_a_transcription_is_read(
    start: Any, configured: Configured, upstream: FakeUpstream, options: Any, paid: bool, streamed: bool
) -> None:
    body = {"stream": "true"} if streamed else {}
    case = Case(FORM.path, body, form=True)
    found = await sums(start, configured, upstream, case, **options)
    assert (found.unpriced_calls, found.nano_usd) == ((0, PAID) if paid else (1, 0))


IMAGE = next(case for case in CASES if case.path == "/v1/images/generations")
SPEECH = next(case for case in CASES if case.path == "/v1/audio/speech")


@pytest.mark.parametrize("reports", [True, False])
async def test_streamed_pictures_are_paid(
    start: Any, configured: Configured, upstream: FakeUpstream, reports: bool
) -> None:
    made = {"type": "image_generation.completed", "b64_json": "A" * 1_500_000}
    case = Case(IMAGE.path, {**IMAGE.body, "stream": True})
    found = await sums(start, configured, upstream, case, **events(made | ({"usage": AUDIO} if reports else {})))
    assert (found.unpriced_calls, found.nano_usd) == ((0, PAID) if reports else (1, 0))


async def test_spoken_bytes_are_unpriced(start: Any, configured: Configured, upstream: FakeUpstream) -> None:
    found = await sums(start, configured, upstream, SPEECH, body=b"RIFF" * 100, content_type="audio/wav")
    assert (found.unpriced_calls, found.nano_usd) == (1, 0)


async def test_a_response_in_the_background_is_unpriced(
    start: Any, configured: Configured, upstream: FakeUpstream
) -> None:
    """The answer is not there yet, and nobody reads it here."""
    answer = {**RESPONSE, "status": "queued", "usage": None}
    case = Case("/v1/responses", {"input": "hi", "background": True}, answer)
    found = await sums(start, configured, upstream, case)
    assert (found.unpriced_calls, found.nano_usd) == (1, 0)


@pytest.mark.parametrize(("method", "unpriced"), [("GET", 0), ("POST", 1), ("DELETE", 0)])
async def test_other_paths_are_unpriced_where_they_may_cost(
    start: Any, configured: Configured, upstream: FakeUpstream, method: str, unpriced: int
) -> None:
    gateway = await start(configured(upstream, prices=PRICES, passthrough="u0"))
    upstream.answers(200, b"{}")
    assert (await gateway.client.request(method, "/batches")).status_code == 200
    found = await counted(gateway)
    assert (found.unpriced_calls, found.nano_usd) == (unpriced, 0)
