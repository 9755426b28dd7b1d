"""The double scores prompts in vLLM's form: `prompt_logprobs` beside `choices`, null first, then the own token."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx2

from gateway.fake import FakeUpstream, PromptScores

SCORED = {
    "messages": [{"role": "user", "content": "two words"}, {"role": "assistant", "content": "Hi there "}],
    "prompt_logprobs": 1, "max_tokens": 1, "continue_final_message": True, "add_generation_prompt": False,
}  # fmt: skip


def decoded(reply: Any) -> list[str]:
    return [next(iter(entry.values()))["decoded_token"] for entry in reply["prompt_logprobs"][1:]]


async def test_the_prompt_ends_with_the_answer(
    upstream: FakeUpstream, http: httpx2.AsyncClient, chat: Callable[..., dict[str, Any]]
) -> None:
    upstream.vllm = True
    upstream.scores = PromptScores(lambda place, text: -3.0 if text == " there" else -0.5)
    reply = (await http.post("/chat/completions", json=chat(**SCORED, return_token_ids=True))).json()
    assert reply["prompt_logprobs"][0] is None
    assert decoded(reply)[-5:] == ["<|im_start|>", "assistant", "\n", "Hi", " there"]
    assert len(reply["prompt_token_ids"]) == len(reply["prompt_logprobs"])
    last = list(reply["prompt_logprobs"][-1].items())
    assert last[0][0] == str(reply["prompt_token_ids"][-1])
    assert [each["rank"] for _, each in last] == [2, 1]
    assert [each["logprob"] for _, each in last] == [-3.0, -0.5]


async def test_other_engines_know_no_such_field(
    upstream: FakeUpstream, http: httpx2.AsyncClient, chat: Callable[..., dict[str, Any]]
) -> None:
    for upstream.vllm, upstream.scores in ((False, PromptScores()), (True, PromptScores(returned=False))):
        reply = await http.post("/chat/completions", json=chat(**SCORED))
        assert reply.status_code == 200
        assert "prompt_logprobs" not in reply.json()


async def test_a_stream_cannot_have_them(
    upstream: FakeUpstream, http: httpx2.AsyncClient, chat: Callable[..., dict[str, Any]]
) -> None:
    upstream.vllm = True
    reply = await http.post("/chat/completions", json=chat(**SCORED, stream=True))
    assert reply.status_code == 400
    assert "prompt_logprobs" in reply.json()["error"]["message"]
