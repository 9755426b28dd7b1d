"""The Responses API as OpenAI's SDK reads it."""

from __future__ import annotations

import openai

TEXT = "Hello from the fake upstream."


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
