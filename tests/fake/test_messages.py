"""The Messages API as Anthropic's SDK reads it."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.fake import FakeUpstream, Fault

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
