"""The APIs of the fake upstream, as the providers' SDKs and a plain client get them."""

from __future__ import annotations

import base64
import hashlib
from array import array
from typing import Any

import httpx2
import openai
import pytest

from gateway.fake import FakeUpstream, Fault


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/nothing", {}, 404),
        ("/chat/completions", {"messages": []}, 404),
        ("/v1/chat/completions", {}, 400),
        ("/v1/chat/completions", {"messages": [], "n": "many"}, 400),
    ],
)
async def test_unanswerable_requests_get_an_openai_error(
    upstream: FakeUpstream, path: str, body: dict[str, Any], status: int
) -> None:
    async with httpx2.AsyncClient() as http:
        reply = await http.post(upstream.origin + path, json=body)
    assert reply.status_code == status
    assert set(reply.json()["error"]) == {"message", "type", "param", "code"}


TEXT = "Hello from the fake upstream."
MESSAGES = [{"role": "user", "content": "two words"}]


async def test_messages_in_both_forms(upstream: FakeUpstream) -> None:
    import anthropic

    async with anthropic.AsyncAnthropic(base_url=upstream.origin, api_key="k", max_retries=0) as client:
        asked: dict[str, Any] = {"model": "m", "max_tokens": 9, "messages": MESSAGES}
        whole = await client.messages.create(**asked)
        async with client.messages.stream(**asked) as stream:
            streamed = await stream.get_final_message()
        counted = await client.messages.count_tokens(model="m", messages=asked["messages"])
        upstream.tool_call("weather", '{"city": "Paris"}')
        async with client.messages.stream(**asked) as stream:
            tool = await stream.get_final_message()
        upstream.then(Fault.status(529))
        with pytest.raises(anthropic.APIStatusError) as refused:
            await client.messages.create(**asked)
    assert [[block.model_dump()["text"] for block in m.content] for m in (whole, streamed)] == [[TEXT], [TEXT]]
    assert (whole.stop_reason, whole.usage.input_tokens, whole.usage.output_tokens) == ("end_turn", 2, 5)
    assert counted.input_tokens == 2
    assert tool.stop_reason == "tool_use"
    assert tool.content[0].type == "tool_use"
    assert tool.content[0].input == {"city": "Paris"}
    assert refused.value.response.json()["error"]["type"] == "overloaded_error"


async def test_responses_in_both_forms(sdk: openai.AsyncOpenAI) -> None:
    whole = await sdk.responses.create(model="m", input="two words")
    assert whole.output_text == TEXT
    async with sdk.responses.stream(model="m", input="two words") as stream:
        kinds = [event.type async for event in stream]
        streamed = await stream.get_final_response()
    assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")
    assert streamed.output_text == TEXT
    assert streamed.usage is not None
    assert streamed.usage.input_tokens == 2


async def test_a_response_cut_by_max_output_tokens_is_incomplete(sdk: openai.AsyncOpenAI) -> None:
    stream = await sdk.responses.create(model="m", input="x", stream=True, max_output_tokens=1)
    last = [event async for event in stream][-1]
    assert last.type == "response.incomplete"


async def test_embeddings_are_alike_where_words_are(sdk: openai.AsyncOpenAI) -> None:
    reply = await sdk.embeddings.create(model="m", input=["a red fox", "a red dog", "quite other things"])
    one, two, three = (item.embedding for item in reply.data)

    def likeness(a: list[float], b: list[float]) -> float:
        return sum(x * y for x, y in zip(a, b, strict=True))

    assert likeness(one, one) == pytest.approx(1)
    assert likeness(one, two) > likeness(one, three)
    assert reply.usage.prompt_tokens == 9


async def test_embeddings_have_the_requested_encoding_and_dimensions(http: httpx2.AsyncClient) -> None:
    plain = await http.post("/embeddings", json={"model": "m", "input": "a b", "dimensions": 8})
    packed = await http.post(
        "/embeddings", json={"model": "m", "input": "a b", "dimensions": 8, "encoding_format": "base64"}
    )
    numbers = array("f", base64.b64decode(packed.json()["data"][0]["embedding"])).tolist()
    assert numbers == pytest.approx(plain.json()["data"][0]["embedding"])
    assert len(numbers) == 8


@pytest.mark.parametrize(
    ("path", "body", "seen"),
    [
        ("/v1/moderations", {"input": ["a", "b"]}, lambda r: len(r["results"]) == 2),
        (
            "/v1/rerank",
            {"query": "fox", "documents": ["dog", "fox"], "top_n": 1},
            lambda r: r["results"][0]["index"] == 1,
        ),
        ("/score", {"text_1": "fox", "text_2": ["fox", "cat"]}, lambda r: len(r["data"]) == 2),
        ("/tokenize", {"prompt": "hé"}, lambda r: (r["count"], r["tokens"]) == (2, [104, 233])),
        ("/detokenize", {"tokens": [104, 233]}, lambda r: r["prompt"] == "hé"),
        ("/v1/images/generations", {"prompt": "p", "n": 2}, lambda r: len(r["data"]) == 2),
        ("/v1/files", {"any": "thing"}, lambda r: r["bytes"] == len(b'{"any":"thing"}')),
        ("/openai/deployments/d/chat/completions", {"messages": []}, lambda r: r["model"] == "fake-model"),
    ],
)
async def test_other_paths_answer_in_their_own_form(
    upstream: FakeUpstream, path: str, body: dict[str, Any], seen: Any
) -> None:
    async with httpx2.AsyncClient() as http:
        reply = await http.post(upstream.origin + path, json=body)
    assert reply.status_code == 200
    assert seen(reply.json())


async def test_models_health_and_metrics_cost_nothing(http: httpx2.AsyncClient, upstream: FakeUpstream) -> None:
    upstream.then(Fault.status(500))
    upstream.load["num_requests_waiting"] = 3.0
    assert (await http.get(upstream.origin + "/health")).content == b""
    metrics = (await http.get(upstream.origin + "/metrics")).text
    assert 'vllm:num_requests_waiting{engine="0",model_name="fake-model"} 3.0\n' in metrics
    assert 'vllm:num_requests_running{engine="0",model_name="fake-model"} 1.0\n' in metrics
    assert (await http.get("/models")).status_code == 500  # the fault was not spent on the probes
    assert (await http.get("/models")).json()["data"][0]["id"] == "fake-model"
    assert [r.path for r in upstream.calls] == ["/v1/models", "/v1/models"]
    assert len(upstream.received) == 4


async def test_audio_arrives_and_leaves_as_bytes(sdk: openai.AsyncOpenAI) -> None:
    sound = bytes(range(256)) * 999 + b"\r\n--not-the-boundary\r\n"
    heard = await sdk.audio.transcriptions.create(model="m", file=("a.wav", sound))
    assert heard.text == TEXT
    assert heard.model_extra is not None
    assert heard.model_extra["file"] == {
        "filename": "a.wav",
        "size": len(sound),
        "sha256": hashlib.sha256(sound).hexdigest(),
    }
    spoken = await sdk.audio.speech.create(model="m", voice="alloy", input="hi")
    assert len(spoken.content) == 4096
