"""The official clients, unchanged but for their base_url: what they make of our answers, streams and errors."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Callable
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import openai
import pytest
from fixtures.npm import npm_package
from pydantic import BaseModel

from gateway.fake import CUT, FakeUpstream, Fault

if TYPE_CHECKING:
    import anthropic

KEY = "test-key"
MESSAGES: Any = [{"role": "user", "content": "hi"}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CITY = '{"city": "Zürich"}'


@pytest.fixture
async def client(gateway: Any) -> AsyncIterator[openai.AsyncOpenAI]:
    """OpenAI's client, connected to a gateway."""
    async with openai.AsyncOpenAI(base_url=gateway.base_url, api_key=KEY, max_retries=2) as client:
        yield client


async def test_openai_chat(client: openai.AsyncOpenAI, upstream: FakeUpstream) -> None:
    reply = await client.chat.completions.create(
        model="chat",
        messages=MESSAGES,
        temperature=0.5,
        extra_body={"top_k": 20, "chat_template_kwargs": {"think": False}},
    )
    assert reply.choices[0].message.content == "Hello from the fake upstream."
    assert reply.model == "model-u0"
    assert reply.usage is not None
    assert reply._request_id
    asked = upstream.calls[0].json
    assert (asked["top_k"], asked["chat_template_kwargs"], asked["temperature"]) == (20, {"think": False}, 0.5)
    assert upstream.calls[0].header("x-stainless-lang") == "python"


async def test_openai_raw_responses_have_the_gateways_ids_and_headers(client: openai.AsyncOpenAI, gateway: Any) -> None:
    raw = await client.chat.completions.with_raw_response.create(model="chat", messages=MESSAGES)
    [exchange] = await gateway.recorded()
    assert raw.request_id == exchange.id
    assert raw.headers["x-gateway-upstream"] == "u0"
    assert raw.headers["x-gateway-attempts"] == "1"
    assert int(raw.headers["openai-processing-ms"]) >= 0
    assert raw.parse().choices[0].finish_reason == "stop"


async def test_openai_stream(client: openai.AsyncOpenAI) -> None:
    output, usage = "", None
    stream = await client.chat.completions.create(
        model="chat", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    )
    async for chunk in stream:
        output += chunk.choices[0].delta.content or "" if chunk.choices else ""
        usage = chunk.usage or usage
    assert output == "Hello from the fake upstream."
    assert usage is not None


async def test_openai_tools_plain_and_streamed(client: openai.AsyncOpenAI, upstream: FakeUpstream) -> None:
    upstream.tool_call("weather", CITY)
    reply = await client.chat.completions.create(model="chat", messages=MESSAGES, tools=[WEATHER])
    [call] = reply.choices[0].message.tool_calls or []
    assert call.type == "function"
    assert (call.function.name, call.function.arguments) == ("weather", CITY)

    async with client.chat.completions.stream(model="chat", messages=MESSAGES, tools=[WEATHER]) as stream:
        done = [event async for event in stream if event.type == "tool_calls.function.arguments.done"]
        final = await stream.get_final_completion()
    assert [(d.name, d.arguments) for d in done] == [("weather", CITY)]
    assert final.choices[0].finish_reason == "tool_calls"


class Reply(BaseModel):
    answer: str


async def test_openai_structured_output(client: openai.AsyncOpenAI, upstream: FakeUpstream) -> None:
    upstream.says('{"answer": ', '"42"}')
    reply = await client.chat.completions.parse(model="chat", messages=MESSAGES, response_format=Reply)
    assert reply.choices[0].message.parsed == Reply(answer="42")
    assert upstream.calls[0].json["response_format"]["json_schema"]["strict"] is True
    async with client.chat.completions.stream(model="chat", messages=MESSAGES, response_format=Reply) as stream:
        final = await stream.get_final_completion()
    assert final.choices[0].message.parsed == Reply(answer="42")


async def test_openai_refusals_and_odd_members_reach_the_client(
    client: openai.AsyncOpenAI, upstream: FakeUpstream
) -> None:
    message = {"role": "assistant", "content": None, "refusal": "no", "reasoning": "hm", "annotations": []}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None, "stop_reason": 7}
    upstream.answers(200, json.dumps({"id": "x", "created": 1, "model": "m", "choices": [choice]}).encode())
    reply = await client.chat.completions.create(model="chat", messages=MESSAGES)
    assert reply.choices[0].message.refusal == "no"
    assert reply.choices[0].message.model_extra == {"reasoning": "hm"}
    assert reply.choices[0].model_extra == {"stop_reason": 7}


async def test_openai_completions_embeddings_and_moderations(client: openai.AsyncOpenAI) -> None:
    text = await client.completions.create(model="chat", prompt="Once")
    assert text.choices[0].text == "Hello from the fake upstream."
    vectors = await client.embeddings.create(model="chat", input=["one", "two"])
    assert [len(d.embedding) for d in vectors.data] == [64, 64]
    assert vectors.usage.prompt_tokens == 2
    assert not (await client.moderations.create(model="chat", input="x")).results[0].flagged


async def test_openai_sound_and_pictures(client: openai.AsyncOpenAI, upstream: FakeUpstream) -> None:
    sound = bytes(range(256)) * 999
    heard = await client.audio.transcriptions.create(model="chat", file=("a.wav", sound), language="fr")
    assert heard.text == "Hello from the fake upstream."
    assert heard.model_extra is not None
    assert heard.model_extra["file"]["sha256"] == sha256(sound).hexdigest()
    assert b"model-u0" in upstream.calls[0].body
    spoken = await client.audio.speech.create(model="chat", input="hi", voice="alloy")
    assert await spoken.aread() == bytes(range(256)) * 16
    async with client.audio.speech.with_streaming_response.create(model="chat", input="hi", voice="alloy") as parts:
        assert b"".join([p async for p in parts.iter_bytes()]) == bytes(range(256)) * 16
    pictures = await client.images.generate(model="chat", prompt="a cat", n=2)
    assert pictures.data is not None
    assert len(pictures.data) == 2


async def test_openai_models_and_files(start: Any, configured: Callable[..., Any], upstream: FakeUpstream) -> None:
    gateway = await start(configured(upstream, passthrough="u0"))
    async with openai.AsyncOpenAI(base_url=gateway.base_url, api_key=KEY) as client:
        assert [m.id async for m in client.models.list()] == ["chat"]
        assert (await client.models.retrieve("chat")).id == "chat"
        data = bytes(range(256)) * 4096
        stored = await client.files.create(file=("b.jsonl", data), purpose="batch")
        assert stored.id.startswith("file-fake")
        assert data in upstream.calls[-1].body
        await client.batches.create(input_file_id=stored.id, endpoint="/v1/chat/completions", completion_window="24h")
        assert upstream.calls[-1].path == "/v1/batches"


@pytest.fixture
async def shared(
    start: Any, configured: Callable[..., Any], upstream: FakeUpstream, second: FakeUpstream
) -> AsyncIterator[Any]:
    """Two gateways of one stream server, before two equal upstreams; a client of each."""
    config = configured(upstream, second)
    config["models"]["chat"]["targets"] += config["models"]["chat"].pop("fallback")
    one, two = await start(config), await start(config)
    async with (
        openai.AsyncOpenAI(base_url=one.base_url, api_key=KEY) as first,
        openai.AsyncOpenAI(base_url=two.base_url, api_key=KEY) as other,
    ):
        yield first, other


def calls(*upstreams: FakeUpstream) -> list[int]:
    return [len(u.calls) for u in upstreams]


async def test_openai_responses(client: openai.AsyncOpenAI, upstream: FakeUpstream) -> None:
    made = await client.responses.create(model="chat", input="hi", instructions="Be brief.")
    assert made.output_text == "Hello from the fake upstream."
    assert made.usage is not None
    events = []
    async with client.responses.stream(model="chat", input="hi") as stream:
        events = [event.type async for event in stream]
        final = await stream.get_final_response()
    assert events[0] == "response.created"
    assert events[-1] == "response.completed"
    assert final.output_text == made.output_text
    upstream.says('{"answer": "42"}')
    parsed = await client.responses.parse(model="chat", input="hi", text_format=Reply)
    assert parsed.output_parsed == Reply(answer="42")
    upstream.tool_call("weather", CITY)
    tool: Any = {**WEATHER["function"], "type": "function", "strict": False}
    called = await client.responses.create(model="chat", input="hi", tools=[tool])
    assert called.output[0].type == "function_call"
    assert called.output[0].arguments == CITY


@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "streamed"])
async def test_openai_a_response_is_found_where_it_was_made(
    shared: Any, upstream: FakeUpstream, second: FakeUpstream, streamed: bool
) -> None:
    """The response is found by its id, by what continues it, and by its conversation, also through another gateway."""
    first, other = shared
    if streamed:
        async with first.responses.stream(model="chat", input="hi", conversation="conv_1") as stream:
            made = await stream.get_final_response()
    else:
        made = await first.responses.create(model="chat", input="hi", conversation="conv_1")
    home, away = (upstream, second) if upstream.calls else (second, upstream)
    theirs = made.id.rpartition(".")[0]
    stored = json.dumps({"id": theirs, "object": "response", "status": "completed", "output": []}).encode()
    for client in (first, other):
        for _ in range(4):
            await client.responses.create(model="chat", input="and?", previous_response_id=made.id)
            await client.responses.create(model="chat", input="and?", conversation={"id": "conv_1"})
    assert calls(home, away) == [17, 0]
    home.answers(200, stored)
    for client in (first, other):
        assert (await client.responses.retrieve(made.id)).id == made.id
        assert home.calls[-1].path == f"/v1/responses/{theirs}"
        assert (await client.responses.cancel(made.id)).id == made.id
        assert home.calls[-1].path == f"/v1/responses/{theirs}/cancel"
        await client.responses.input_items.list(made.id, limit=5)
        assert home.calls[-1].query == "limit=5"
        await client.responses.delete(made.id)
        assert home.calls[-1].method == "DELETE"
    assert not away.calls


async def test_openai_a_response_without_our_seal_is_asked_of_no_upstream(
    shared: Any, upstream: FakeUpstream, second: FakeUpstream
) -> None:
    first, _ = shared
    with pytest.raises(openai.NotFoundError, match="resp_lost"):
        await first.responses.retrieve("resp_lost")
    assert calls(upstream, second) == [0, 0]


async def test_openai_a_response_of_another_key_is_not_found(
    start: Any, configured: Callable[..., Any], upstream: FakeUpstream
) -> None:
    config = configured(upstream)
    config["keys"].append({"name": "other", "sha256": sha256(b"other").hexdigest()})
    gateway = await start(config)
    async with openai.AsyncOpenAI(base_url=gateway.base_url, api_key=KEY) as mine:
        made = await mine.responses.create(model="chat", input="hi")
        theirs = mine.with_options(api_key="other")
        with pytest.raises(openai.NotFoundError):
            await theirs.responses.retrieve(made.id)
        with pytest.raises(openai.NotFoundError):
            await theirs.responses.create(model="chat", input="hi", previous_response_id=made.id)
    assert len(upstream.calls) == 1


@pytest.mark.parametrize(
    ("fault", "error", "asked"),
    [
        (Fault.status(503), openai.InternalServerError, 2),
        (Fault.status(500), openai.InternalServerError, 2),
        (Fault.rate_limited(), openai.RateLimitError, 2),
        (Fault.rate_limited(retry_after=60), openai.RateLimitError, 1),
        (Fault.status(429, error_code="insufficient_quota"), openai.RateLimitError, 1),
        (Fault.reset(), openai.InternalServerError, 2),
        (Fault.content_policy(), openai.BadRequestError, 1),
        (Fault.context_length(), openai.BadRequestError, 1),
        (Fault.status(403), openai.PermissionDeniedError, 1),
        (Fault.status(404), openai.NotFoundError, 1),
        (Fault.status(409), openai.ConflictError, 3),
        (Fault.status(422), openai.UnprocessableEntityError, 1),
        (Fault.status(401), openai.InternalServerError, 1),
    ],
    ids=lambda v: v.name if isinstance(v, Fault) else "",
)
async def test_openai_clients_raise_their_errors_and_do_not_retry(
    client: openai.AsyncOpenAI, upstream: FakeUpstream, fault: Fault, error: Any, asked: int
) -> None:
    """The client would ask three times: it asks once, because the gateway has spent its own two tries. A conflict is
    the upstream's own affair, and stays the client's to retry."""
    upstream.always(fault)
    modes = [False] if fault.name == "rate_limited:60" else [False, True]  # a minute's rest holds for the next call too
    for times, stream in enumerate(modes, 1):
        state = client.chat.completions.create(model="chat", messages=MESSAGES, stream=stream)
        with pytest.raises(error) as caught:
            await state
        assert len(upstream.calls) == times * asked
        assert caught.value.request_id
        assert caught.value.body


async def test_openai_our_own_refusals_are_not_retried(client: openai.AsyncOpenAI, upstream: FakeUpstream) -> None:
    with pytest.raises(openai.AuthenticationError, match="not known"):
        await client.with_options(api_key="wrong").chat.completions.create(model="chat", messages=MESSAGES)
    with pytest.raises(openai.NotFoundError, match="does not exist here") as missing:
        await client.chat.completions.create(model="nope", messages=MESSAGES)
    assert missing.value.code == "model_not_found"
    assert missing.value.param == "model"
    with pytest.raises(openai.BadRequestError, match="messages must not be empty"):
        await client.chat.completions.create(model="chat", messages=[])
    root = str(client.base_url).removesuffix("/v1/")
    with pytest.raises(openai.NotFoundError, match="must end in /v1"):
        await client.with_options(base_url=root).chat.completions.create(model="chat", messages=MESSAGES)
    assert not upstream.calls


async def until_it_breaks(stream: AsyncIterator[Any]) -> list[Any]:
    return [event async for event in stream]


async def test_openai_a_cut_stream_raises_and_is_never_a_short_answer(
    client: openai.AsyncOpenAI, upstream: FakeUpstream
) -> None:
    upstream.says("half an ", CUT)
    stream = await client.chat.completions.create(model="chat", messages=MESSAGES, stream=True)
    output: list[str | None] = []
    with pytest.raises(openai.APIError, match="broke off"):
        await until_it_breaks(output.append(c.choices[0].delta.content) async for c in stream)
    assert "".join([w or "" for w in output]) == "half an "
    events = await until_it_breaks(await client.responses.create(model="chat", input="x", stream=True))
    assert events[-1].type == "error", "the Responses API says it as an event of its own"
    assert "broke off" in events[-1].message


async def test_openai_the_blocking_client_works_too(gateway: Any) -> None:
    def ask() -> list[str]:
        with openai.OpenAI(base_url=gateway.base_url, api_key=KEY) as client:
            plain = client.chat.completions.create(model="chat", messages=MESSAGES)
            stream = client.chat.completions.create(model="chat", messages=MESSAGES, stream=True)
            return [plain.choices[0].message.content or "", "".join(c.choices[0].delta.content or "" for c in stream)]

    assert await asyncio.to_thread(ask) == ["Hello from the fake upstream."] * 2


@pytest.fixture(params=["openai", "anthropic"])
async def claude(
    request: pytest.FixtureRequest, start: Any, configured: Callable[..., Any], upstream: FakeUpstream
) -> AsyncIterator[anthropic.AsyncAnthropic]:
    """Anthropic's client, before an upstream that speaks OpenAI, and before one that speaks its own language."""
    import anthropic

    config = configured(upstream)
    config["upstreams"]["u0"]["kind"] = request.param
    gateway = await start(config)
    root = gateway.base_url.removesuffix("/v1")
    async with anthropic.AsyncAnthropic(base_url=root, api_key=KEY, max_retries=2) as client:
        yield client


def spoke(upstream: FakeUpstream) -> str:
    return "anthropic" if upstream.calls[0].path == "/v1/messages" else "openai"


async def test_anthropic_messages(claude: anthropic.AsyncAnthropic, upstream: FakeUpstream) -> None:
    message = await claude.messages.create(
        model="chat", max_tokens=50, system="Be brief.", messages=MESSAGES, stop_sequences=["END"]
    )
    assert message.type == "message"
    assert message.content[0].type == "text"
    assert message.content[0].text == "Hello from the fake upstream."
    assert message.stop_reason == "end_turn"
    assert message.usage.output_tokens == 5
    assert message._request_id
    asked = upstream.calls[0]
    assert asked.header("x-api-key") is None, "the client's key is ours, and stays here"
    assert "test-key" not in str(asked.headers)
    if spoke(upstream) == "anthropic":
        assert asked.header("anthropic-version")
        assert asked.json["system"] == "Be brief."
    else:
        assert asked.json["messages"][0] == {"role": "system", "content": "Be brief."}
        assert asked.json["stop"] == ["END"]


async def test_anthropic_stream(claude: anthropic.AsyncAnthropic) -> None:
    async with claude.messages.stream(model="chat", max_tokens=50, messages=MESSAGES) as stream:
        output = "".join([text async for text in stream.text_stream])
        final = await stream.get_final_message()
    assert output == "Hello from the fake upstream."
    assert final.stop_reason == "end_turn"
    assert final.usage.output_tokens == 5
    events = [e.type async for e in await claude.messages.create(
        model="chat", max_tokens=50, messages=MESSAGES, stream=True)]  # fmt: skip
    assert events[0] == "message_start"
    assert events[-1] == "message_stop"


async def test_anthropic_tools_plain_and_streamed(claude: anthropic.AsyncAnthropic, upstream: FakeUpstream) -> None:
    upstream.tool_call("weather", CITY, id="toolu_1")
    tool: Any = {"name": "weather", "input_schema": WEATHER["function"]["parameters"]}
    asked: Any = {"model": "chat", "max_tokens": 50, "messages": MESSAGES, "tools": [tool]}
    message = await claude.messages.create(**asked, tool_choice={"type": "any"})
    [block] = [b for b in message.content if b.type == "tool_use"]
    assert (block.name, block.input, block.id) == ("weather", {"city": "Zürich"}, "toolu_1")
    assert message.stop_reason == "tool_use"
    async with claude.messages.stream(**asked) as stream:
        final = await stream.get_final_message()
    [block] = [b for b in final.content if b.type == "tool_use"]
    assert block.input == {"city": "Zürich"}
    history = [
        *MESSAGES,
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": "toolu_1", "name": "weather", "input": block.input}],
        },
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "rain"}]},
    ]
    upstream.says("It rains.")
    answer = await claude.messages.create(**{**asked, "messages": history})
    assert answer.content[0].type == "text"
    assert answer.content[0].text == "It rains."
    if spoke(upstream) == "openai":
        assert upstream.calls[-1].json["messages"][-1] == {"role": "tool", "tool_call_id": "toolu_1", "content": "rain"}


async def test_anthropic_errors_are_of_their_class_and_not_multiplied(
    claude: anthropic.AsyncAnthropic, upstream: FakeUpstream
) -> None:
    import anthropic

    asked: Any = {"model": "chat", "max_tokens": 50, "messages": MESSAGES}
    with pytest.raises(anthropic.AuthenticationError, match="not known") as unknown:
        await claude.with_options(api_key="wrong").messages.create(**asked)
    with pytest.raises(anthropic.NotFoundError, match="does not exist here"):
        await claude.messages.create(**{**asked, "model": "nope"})
    with pytest.raises(anthropic.BadRequestError):
        await claude.messages.create(**{**asked, "messages": []})
    assert not upstream.calls
    output: Any = unknown.value.body
    assert (output["type"], output["error"]["type"]) == ("error", "authentication_error")
    assert unknown.value.request_id
    upstream.then(Fault.status(400, message="this and that"))
    with pytest.raises(anthropic.BadRequestError, match="this and that"):
        await claude.messages.create(**asked)
    upstream.always(Fault.status(503))
    before = len(upstream.calls)
    with pytest.raises(anthropic.InternalServerError) as caught:
        await claude.messages.create(**asked)
    assert len(upstream.calls) - before == 2
    body: Any = caught.value.body
    assert body["type"] == "error"
    assert body["error"]["message"]


async def test_anthropic_a_cut_stream_raises(claude: anthropic.AsyncAnthropic, upstream: FakeUpstream) -> None:
    import anthropic

    upstream.says("half an ", CUT)
    stream = await claude.messages.create(model="chat", max_tokens=50, messages=MESSAGES, stream=True)
    with pytest.raises(anthropic.APIError, match="broke off"):
        await until_it_breaks(stream)


async def test_anthropic_count_tokens(claude: anthropic.AsyncAnthropic, upstream: FakeUpstream) -> None:
    """Counted where the upstream can; a clear refusal, and no guess, where it cannot."""
    import anthropic

    await claude.messages.create(model="chat", max_tokens=50, messages=MESSAGES)
    if spoke(upstream) == "anthropic":
        counted = await claude.messages.count_tokens(model="chat", messages=MESSAGES)
        assert counted.input_tokens == 1
        assert upstream.calls[1].path == "/v1/messages/count_tokens"
        return
    with pytest.raises(anthropic.APIStatusError, match="cannot count tokens"):
        await claude.messages.count_tokens(model="chat", messages=MESSAGES)
    assert len(upstream.calls) == 1


async def test_anthropic_tool_runner_continues_without_a_thread(
    claude: anthropic.AsyncAnthropic, upstream: FakeUpstream
) -> None:
    """The runner asks for a thread first. Where the upstream has none, the refusal's code makes it send the
    conversation.
    """
    import anthropic

    @anthropic.beta_async_tool
    async def weather(city: str) -> str:
        """The weather of a city."""
        return f"rain in {city}"

    upstream.tool_call("weather", CITY, id="toolu_1")
    runner = claude.beta.messages.tool_runner(
        model="chat", max_tokens=50, messages=MESSAGES, tools=[weather], max_iterations=2
    )
    messages = []
    async for message in runner:
        messages.append(message)
        upstream.says("It rains.")
    assert messages[-1].content[0].text == "It rains."
    if spoke(upstream) == "openai":
        assert "rain in Zürich" in json.dumps(upstream.calls[-1].json["messages"], ensure_ascii=False)
        assert all("thread" not in call.json for call in upstream.calls)
    else:
        assert "thread" in upstream.calls[0].json


async def test_anthropic_members_without_effect_are_no_obstacle(
    claude: anthropic.AsyncAnthropic, upstream: FakeUpstream
) -> None:
    """Claude Code sends this context_management with every call."""
    import anthropic

    edit: Any = {"type": "clear_thinking_20251015", "keep": "all"}
    asked: Any = {"model": "chat", "max_tokens": 50, "messages": MESSAGES}
    message = await claude.beta.messages.create(**asked, context_management={"edits": [edit]})
    assert message.content
    if spoke(upstream) == "anthropic":
        assert upstream.calls[0].json["context_management"] == {"edits": [edit]}
        return
    assert "context_management" not in upstream.calls[0].json
    cleared: Any = {"edits": [edit, {"type": "clear_tool_uses_20250919"}]}
    with pytest.raises(anthropic.BadRequestError, match="context_management"):
        await claude.beta.messages.create(**asked, context_management=cleared)


@pytest.fixture
async def translated(
    start: Any, configured: Callable[..., Any], upstream: FakeUpstream
) -> AsyncIterator[openai.AsyncOpenAI]:
    """OpenAI's client, connected to a gateway that translates to Anthropic's API."""
    config = configured(upstream)
    config["upstreams"]["u0"] |= {"kind": "anthropic", "api_key": "its-own-key"}
    gateway = await start(config)
    async with openai.AsyncOpenAI(base_url=gateway.base_url, api_key=KEY, max_retries=2) as client:
        yield client


async def test_openai_to_anthropic_chat(translated: openai.AsyncOpenAI, upstream: FakeUpstream) -> None:
    system: Any = {"role": "system", "content": "Be brief."}
    reply = await translated.chat.completions.create(model="chat", messages=[system, *MESSAGES], stop="END")
    assert reply.choices[0].message.content == "Hello from the fake upstream."
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage is not None
    assert reply.usage.completion_tokens == 5
    [asked] = upstream.calls
    assert asked.path == "/v1/messages"
    assert asked.header("x-api-key") == "its-own-key"
    assert asked.header("authorization") is None
    assert asked.json["model"] == "model-u0"
    assert asked.json["max_tokens"] > 0
    assert asked.json["stop_sequences"] == ["END"]
    assert "Be brief." in json.dumps(asked.json["system"])


async def test_openai_to_anthropic_stream(translated: openai.AsyncOpenAI) -> None:
    output, usage = "", None
    stream = await translated.chat.completions.create(
        model="chat", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    )
    async for chunk in stream:
        output += chunk.choices[0].delta.content or "" if chunk.choices else ""
        usage = chunk.usage or usage
    assert output == "Hello from the fake upstream."
    assert usage is not None
    assert usage.completion_tokens == 5


async def test_openai_to_anthropic_tools(translated: openai.AsyncOpenAI, upstream: FakeUpstream) -> None:
    upstream.tool_call("weather", CITY, id="toolu_1")
    reply = await translated.chat.completions.create(
        model="chat", messages=MESSAGES, tools=[WEATHER], tool_choice="required"
    )
    [call] = reply.choices[0].message.tool_calls or []
    assert call.type == "function"
    assert (call.function.name, json.loads(call.function.arguments)) == ("weather", {"city": "Zürich"})
    assert reply.choices[0].finish_reason == "tool_calls"
    asked = upstream.calls[0].json
    assert asked["tool_choice"] == {"type": "any"}
    assert asked["tools"][0]["input_schema"] == WEATHER["function"]["parameters"]
    async with translated.chat.completions.stream(model="chat", messages=MESSAGES, tools=[WEATHER]) as stream:
        final = await stream.get_final_completion()
    assert (final.choices[0].message.tool_calls or [])[0].function.arguments == CITY


async def test_openai_to_anthropic_errors(translated: openai.AsyncOpenAI, upstream: FakeUpstream) -> None:
    upstream.then(Fault.status(400, message="this and that"))
    with pytest.raises(openai.BadRequestError, match="this and that") as caught:
        await translated.chat.completions.create(model="chat", messages=MESSAGES)
    assert caught.value.type == "invalid_request_error"
    with pytest.raises(openai.APIStatusError, match="has no embeddings"):
        await translated.embeddings.create(model="chat", input="x")
    upstream.says("half an ", CUT)
    stream = await translated.chat.completions.create(model="chat", messages=MESSAGES, stream=True)
    with pytest.raises(openai.APIError, match="broke off"):
        await until_it_breaks(stream)


MJS = Path(__file__).parent.parent / "clients" / "openai.mjs"


@pytest.fixture(scope="session")
def npm_openai() -> Path:
    """The entry of the newest `openai` of npm."""
    return npm_package("openai") / "index.mjs"


async def test_the_npm_client(
    npm_openai: Path, start: Any, configured: Callable[..., Any], upstream: FakeUpstream
) -> None:
    async with FakeUpstream() as calling, FakeUpstream() as down, FakeUpstream() as cutting:
        calling.tool_call("weather", CITY)
        down.always(Fault.status(503))
        cutting.says("half an ", CUT)
        config = configured(upstream)
        for name, fake in (("tools", calling), ("down", down), ("cut", cutting)):
            config["upstreams"][name] = {"kind": "openai", "base_url": fake.base_url}
            targets = [{"upstream": name, "model": name}]
            config["models"][name] = {"targets": targets, "retries": {"backoff_s": 0.01}}
        gateway = await start(config)

        node = await asyncio.create_subprocess_exec(
            "node", str(MJS), gateway.base_url, str(npm_openai), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        out, err = await node.communicate()

        assert node.returncode == 0, err.decode()
        output = json.loads(out)
        assert output["chat"]["content"] == output["stream"]["content"] == "Hello from the fake upstream."
        assert output["chat"]["model"] == "model-u0"
        assert (output["stream"]["finish"], output["stream"]["usage"]) == ("stop", output["chat"]["usage"])
        assert output["tool"] == {
            k: {**output["tool"][k], "name": "weather", "arguments": CITY} for k in output["tool"]
        }
        assert sorted(output["models"]) == ["chat", "cut", "down", "tools"]
        assert output["upstream"] == "u0"
        exchanges = await gateway.recorded(4)
        assert output["id"] == exchanges[0].id
        assert output["errors"]["unknown"] == {"kind": "NotFoundError", "status": 404, "code": "model_not_found"}
        assert output["errors"]["key"] == {"kind": "AuthenticationError", "status": 401, "code": "invalid_api_key"}
        assert output["errors"]["down"]["kind"] == "InternalServerError"
        assert output["errors"]["down"]["status"] == 503
        assert len(down.calls) == 2, "the client does not multiply the gateway's own retries"
        assert output["errors"]["cut"]["code"] == "stream_cut"
